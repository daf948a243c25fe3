"""One fit from a user's options, and its phases: the fit itself, pruning, fine-tuning."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.pruning import alive
from nervkit.compression.pruning import prune as prune_weights
from nervkit.errors import ResourceError
from nervkit.fitting.checkpoint import Checkpoint, Saved
from nervkit.fitting.loop import FitSummary, Stepper, fit
from nervkit.fitting.metric import RGB, Metric, metric_of
from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Outlook, Progress
from nervkit.fitting.start import Start
from nervkit.models.base import Representation
from nervkit.models.config import VideoShape
from nervkit.models.device import choose_device
from nervkit.models.recipe import Recipe
from nervkit.version import __version__
from nervkit.video.colour import Colour
from nervkit.video.planes import yuv_colour
from nervkit.video.ranges import fingerprint_of

FINE_TUNE_SHARE = 0.15  # of all work is fine-tuning after pruning, as HNeRV's 50 of 350 epochs
FINE_TUNE_RATE = 0.3  # of the recipe's rates
LEAST_SECONDS = 1e-3  # of a phase: the time may be over before it begins


@dataclass(frozen=True)
class Watch:
    """Who follows a fit: `on_outlook` once, when its first steps were timed, `on_progress` about
    once a second, `on_note` with what went wrong and was mended, as it happens, and `stop`, asked
    before each step; once True, the fit is Interrupted."""

    on_progress: Callable[[Progress], None] | None = None
    on_note: Callable[[str], None] | None = None
    stop: Callable[[], bool] = lambda: False
    on_outlook: Callable[[Outlook, Representation], None] | None = None


@dataclass(frozen=True)
class CheckpointOptions:
    """Where a fit keeps its state (see `checkpoint_path`), how often (seconds), and whether an
    earlier one is discarded."""

    path: Path
    interval: float = 60.0
    restart: bool = False


def fit_clip(
    frames: np.ndarray,
    options: FitOptions,
    *,
    known: np.ndarray | None = None,
    colour: Colour | None = None,
    start: Start | None = None,
    keep: CheckpointOptions | None = None,
    watch: Watch | None = None,
) -> tuple[Representation, FitSummary]:
    """Fit a representation to frames, or go on with a checkpoint of the same fit.

    Args:
        frames: (T, H, W, 3) uint8.
        options: what to fit and how.
        known: (T, H, W, 1 or 3) uint8, how much each value counts, from 0 (not at all) to 255;
            None: all count.
        colour: the frames', by which the metric "yuv" makes planes of them; None: of RGB.
        start: the network that the fit begins from; None: the model's own start.
        keep: where to keep checkpoints, if anywhere; the last one is left to the caller.
        watch: callbacks that follow the fit and may stop it.

    Returns:
        The fitted network, on the chosen device, and what the fit did.

    Raises:
        UsageError: no such size of the model. ResourceError: the frames do not fit on the device.
        Interrupted: stopped. SourceError: the checkpoint is of another fit.
    """
    shape = VideoShape(*frames.shape[:3])
    config = options.configure(shape) if start is None else start.config
    device = choose_device(options.device)
    torch.manual_seed(options.seed)
    try:
        network = options.model_type(config, shape).to(device)
        target, counting = _channels_first(frames, device), None
        if known is not None:
            counting = _channels_first(known, device)
    except torch.cuda.OutOfMemoryError as error:
        raise ResourceError(
            f"the frames do not fit on {device}; try --resize or --device cpu"
        ) from error
    colour = colour or Colour()
    checkpoint = None
    if keep is not None:
        what = {
            "nervkit": __version__,
            "model": options.model,
            "config": config.to_dict(),
            "frames": fingerprint_of(frames),
        }
        if known is not None:
            what["known"] = fingerprint_of(known)
        if start is not None:
            what["start"] = start.fingerprint
        if options.metric != RGB:
            planes = yuv_colour(colour)
            what["planes"] = f"{planes.rgb_matrix} {planes.rgb_range}"
        checkpoint = Checkpoint(keep.path, what | options.settings(), keep.interval)
        if keep.restart:
            checkpoint.delete()
    metric = metric_of(options.metric, colour, network, device)
    job = FitJob(network, target, options, counting, metric, start)
    return network, job.run(checkpoint, watch or Watch())


def _channels_first(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2).to(device)


@dataclass
class FitJob:
    """The phases of one fit: the fit itself and, where weights are pruned, the fine-tuning."""

    model: Representation
    frames: Tensor
    options: FitOptions
    known: Tensor | None = None
    metric: Metric = field(default_factory=Metric)
    start: Start | None = None

    def run(self, checkpoint: Checkpoint | None, watch: Watch) -> FitSummary:
        """Run what is left of the phases, given what `checkpoint` holds."""
        began = clock.perf_counter()
        recipe = self.options.model_type.recipes[self.options.recipe]
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None and self.start is not None:
            self.start.apply(self.model)
        elif saved is None:
            self.model.start_fit(self.frames)
        earlier = saved.progress["before"] + saved.progress["seconds"] if saved else 0.0
        stepper = self._stepper(recipe)
        first, second = self._lengths(stepper, clock.perf_counter() - began)
        common: dict[str, Any] = {
            "checkpoint": checkpoint,
            "on_pace": self._announced(watch, (first, second), saved, earlier),
            "on_progress": watch.on_progress,
            "on_note": watch.on_note,
            "stop": watch.stop,
        }

        if saved is None or saved.progress["phase"] == "fit":
            record = {"phase": "fit", "length": first, "before": 0.0}
            if saved is not None:
                record["length"] = saved.progress["length"]
            summary = fit(stepper, **record["length"], record=record, saved=saved, **common)
            if second is None:
                return replace(summary, earlier_seconds=earlier)
            record = {
                "phase": "fine-tune",
                "length": second,
                "before": summary.seconds,
                "steps_before": summary.steps,
                "notes": summary.notes,
            }
            keep, saved = prune_weights(self.model, self.options.prune), None
        else:
            kept = ("phase", "length", "before", "steps_before", "notes")
            record = {k: saved.progress[k] for k in kept}
            saved.restore(self.model, [])
            keep = alive(self.model)
        rate = FINE_TUNE_RATE
        gentle = replace(
            recipe,
            lr=recipe.lr * rate,
            matrix_lr=recipe.matrix_lr and recipe.matrix_lr * rate,
            embedding_lr=recipe.embedding_lr and recipe.embedding_lr * rate,
        )
        stepper = self._stepper(gentle, keep)
        tuned = fit(stepper, **record["length"], record=record, saved=saved, **common)
        return FitSummary(
            record["steps_before"] + tuned.steps,
            record["before"] + tuned.seconds,
            earlier,
            (*record["notes"], *tuned.notes),
            tuned.psnr,
        )

    def _lengths(
        self, stepper: Stepper, spent: float
    ) -> tuple[dict[str, float], dict[str, float] | None]:
        """How long the fit and, where weights are pruned, the fine-tuning are: `steps` or `seconds`
        of `fit`. `spent` is what the start has taken of a time."""
        budget, share = self.options.budget, FINE_TUNE_SHARE if self.options.prune else 0.0
        if budget.seconds is not None:
            fitting = max(LEAST_SECONDS, (1 - share) * budget.seconds - spent)
            second = {"seconds": share * budget.seconds} if share else None
            return {"seconds": fitting}, second
        total = budget.total_steps(stepper.steps_per_epoch, stepper.pixels_per_step)
        tuning = max(1, round(share * total)) if share else 0
        return {"steps": max(1, total - tuning)}, {"steps": tuning} if tuning else None

    def _announced(
        self,
        watch: Watch,
        lengths: tuple[dict[str, float] | None, ...],
        saved: Saved | None,
        earlier: float,
    ) -> Callable[[float], None] | None:
        """Tell what is ahead, where that is a time; else give what is to be told the seconds of a
        step, and tells then, once. `earlier` are the seconds of the session that was `saved`."""
        tell, seconds = watch.on_outlook, self.options.budget.seconds
        if tell is None:
            return None
        if seconds is not None:
            tell(Outlook(None, 0, max(0.0, seconds - earlier), None), self.model)
            return None
        total = int(sum(length["steps"] for length in lengths if length is not None))
        at = {} if saved is None else saved.progress
        done = at.get("step", 0) + at.get("steps_before", 0)
        told = False

        def on_pace(pace: float) -> None:
            nonlocal told
            if not told:
                threads = None if self.frames.is_cuda else torch.get_num_threads()
                tell(Outlook(total, done, pace * (total - done), threads), self.model)
            told = True

        return on_pace

    def _stepper(self, recipe: Recipe, keep: dict[str, Tensor] | None = None) -> Stepper:
        stepper = Stepper(
            self.model,
            self.frames,
            recipe,
            seed=self.options.seed,
            keep=keep,
            known=self.known,
            precision=self.options.precision,
            target_bits=8 * self.options.coded_bytes if self.options.through_quantizer else None,
            target_psnr=self.options.coded_psnr,
            metric=self.metric,
        )
        if stepper.codec is not None and self.start is not None:
            stepper.codec.start_from(self.start.coded)
        return stepper
