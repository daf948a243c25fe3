"""One fit from a user's options, and its phases: the fit itself, and what its compression asks for
after it."""

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
from nervkit.compression.published import Prune, Quantization
from nervkit.errors import ResourceError
from nervkit.fitting.checkpoint import Checkpoint, Saved
from nervkit.fitting.coding import Codec
from nervkit.fitting.loop import FitSummary, Stepper, fit, joined
from nervkit.fitting.metric import RGB, Metric, metric_of
from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Outlook, Progress
from nervkit.fitting.quantizing import Quantizing, quantizing
from nervkit.fitting.start import FIT, KeptFit, Start
from nervkit.models.base import Representation, seeded
from nervkit.models.config import VideoShape
from nervkit.models.device import choose_device
from nervkit.models.recipe import Recipe
from nervkit.version import __version__
from nervkit.video.colour import Colour
from nervkit.video.planes import yuv_colour
from nervkit.video.ranges import fingerprint_of

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
        The fitted network, on the chosen device, and what the fit did. Torch's random state is left
        alone.

    Raises:
        UsageError: no such size of the model. ResourceError: the frames do not fit on the device.
        Interrupted: stopped. SourceError: the checkpoint is of another fit.
    """
    shape = VideoShape(*frames.shape[:3])
    config = options.configure(shape) if start is None else start.config
    device = choose_device(options.device)
    with seeded(options.seed, device):
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


@dataclass(frozen=True)
class Phase:
    """A part of a fit, with optimizers of its own.

    Attributes:
        name: in checkpoints and progress.
        epochs: as published, in proportion to those of the other phases.
        recipe: what it is fitted by.
        prune: what it begins with.
        quantization: through which it is fitted.
        pruned: whether weights were pruned, by this phase or one before.
    """

    name: str
    epochs: int
    recipe: Recipe
    prune: Prune | None = None
    quantization: Quantization | None = None
    pruned: bool = False


def phases_of(options: FitOptions) -> list[Phase]:
    """The phases of a fit, in order. A stage without epochs of its own holds from the start, and a
    quantization until the next one."""
    recipe = options.model_type.recipes[options.recipe]
    phase = Phase(FIT, recipe.epochs, recipe)
    phases = [phase]
    for stage in options.stages:
        prune = stage if isinstance(stage, Prune) else None
        quantization = phase.quantization if isinstance(stage, Prune) else stage
        pruned = phase.pruned or prune is not None
        if not stage.epochs:
            phase = phases[0] = replace(phase, quantization=quantization)
            continue
        slower = recipe.slower(stage.rate)
        phase = Phase(stage.phase, stage.epochs, slower, prune, quantization, pruned)
        phases.append(phase)
    return phases


@dataclass
class FitJob:
    """The phases of one fit, one after the other."""

    model: Representation
    frames: Tensor
    options: FitOptions
    known: Tensor | None = None
    metric: Metric = field(default_factory=Metric)
    start: Start | None = None

    def run(self, checkpoint: Checkpoint | None, watch: Watch) -> FitSummary:
        """Run what is left of the phases, given what `checkpoint` holds."""
        began = clock.perf_counter()
        phases = phases_of(self.options)
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None and isinstance(self.start, KeptFit) and self.options.quantizes_again:
            saved = self.start.finished()
        if saved is None and self.start is not None:
            self.start.apply(self.model)
        elif saved is None:
            self.model.start_fit(self.frames)
        earlier = saved.progress["before"] + saved.progress["seconds"] if saved else 0.0
        lengths = self._lengths(phases, clock.perf_counter() - began)
        common: dict[str, Any] = {
            "checkpoint": checkpoint,
            "on_pace": self._announced(watch, lengths, saved, earlier),
            "on_progress": watch.on_progress,
            "on_note": watch.on_note,
            "stop": watch.stop,
        }

        summary = FitSummary(0, 0.0)
        masks: dict[str, Tensor] = {}
        for phase, length in zip(phases, lengths, strict=True):
            if saved is not None and phase.name != saved.progress["phase"]:
                continue  # an earlier session has finished it
            codec = self._codec(phase)
            if saved is not None:
                kept = ("length", "before", "steps_before", "notes")
                record = {name: saved.progress[name] for name in kept}
                saved.restore(joined(self.model, codec), [])
                masks = alive(self.model) if phase.pruned else {}
            else:
                record = {
                    "length": length,
                    "before": summary.seconds,
                    "steps_before": summary.steps,
                    "notes": summary.notes,
                }
                if phase.prune is not None:
                    masks = prune_weights(self.model, phase.prune.share, phase.prune.score)
            record = {"phase": phase.name, **record}
            stepper = self._stepper(phase, codec, masks)
            made = fit(stepper, **record["length"], record=record, saved=saved, **common)
            saved = None
            summary = FitSummary(
                record["steps_before"] + made.steps,
                record["before"] + made.seconds,
                earlier,
                (*record["notes"], *made.notes),
                made.psnr,
                made.codec,
            )
        self.model.quantize_embedding = None
        return summary

    def _lengths(self, phases: list[Phase], spent: float) -> list[dict[str, float]]:
        """How long each phase is: `steps` or `seconds` of `fit`, in proportion to its epochs.
        `spent` is what the start has taken of a time."""
        budget, all_epochs = self.options.budget, sum(phase.epochs for phase in phases)
        shares = [phase.epochs / all_epochs for phase in phases]
        if budget.seconds is not None:
            times = [share * budget.seconds for share in shares]
            times[0] = max(LEAST_SECONDS, times[0] - spent)
            return [{"seconds": seconds} for seconds in times]
        frames, _, height, width = self.frames.shape
        total = self.options.steps_for(VideoShape(frames, height, width))
        assert total is not None, "a fit that does not go by the clock has a number of steps"
        later = [max(1, round(share * total)) for share in shares[1:]]
        return [{"steps": steps} for steps in (max(1, total - sum(later)), *later)]

    def _announced(
        self,
        watch: Watch,
        lengths: list[dict[str, float]],
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
        total = int(sum(length["steps"] for length in lengths))
        done = 0 if saved is None else saved.progress["step"] + saved.progress["steps_before"]
        told = False

        def on_pace(pace: float) -> None:
            nonlocal told
            if not told:
                threads = None if self.frames.is_cuda else torch.get_num_threads()
                tell(Outlook(total, done, pace * (total - done), threads), self.model)
            told = True

        return on_pace

    def _codec(self, phase: Phase) -> Quantizing | None:
        """What a phase is fitted through, which begins with what the model is now."""
        options = self.options
        if options.through_quantizer:
            codec = Codec(self.model, 8 * options.coded_bytes, options.coded_psnr)
            if self.start is not None:
                self.start.apply_coding(codec)
            return codec.to(self.frames.device)
        if phase.quantization is None:
            return None
        pixels = self.frames.shape[2] * self.frames.shape[3]
        return quantizing(self.model, phase.quantization, pixels).to(self.frames.device)

    def _stepper(self, phase: Phase, codec: Quantizing | None, keep: dict[str, Tensor]) -> Stepper:
        return Stepper(
            self.model,
            self.frames,
            phase.recipe,
            seed=self.options.seed,
            keep=keep,
            known=self.known,
            precision=self.options.precision,
            codec=codec,
            metric=self.metric,
        )
