"""One fit from a user's options: the model and its size, how long, and the phases of the fit."""

from __future__ import annotations

import hashlib
import re
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.pruning import alive
from nervkit.compression.pruning import prune as prune_weights
from nervkit.errors import ResourceError, UsageError
from nervkit.fitting.budget import Budget
from nervkit.fitting.checkpoint import Checkpoint, Saved
from nervkit.fitting.loop import FitSummary, Stepper, fit
from nervkit.fitting.metric import RGB, Metric, loss_of, metric_of
from nervkit.fitting.progress import Outlook, Progress
from nervkit.models.base import Representation, TooFewParametersError
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import choose_device, choose_precision
from nervkit.models.recipe import PAPER, Recipe
from nervkit.models.registry import load_model
from nervkit.version import __version__
from nervkit.video.colour import Colour
from nervkit.video.edit import parse_seconds
from nervkit.video.planes import yuv_colour

FINE_TUNE_SHARE = 0.15  # of all work is fine-tuning after pruning, as HNeRV's 50 of 350 epochs
FINE_TUNE_RATE = 0.3  # of the recipe's rates
BITS_AFTER_FIT = 4.0  # of a value that is quantized to a target after a fit in float
LEAST_SECONDS = 1e-3  # of a phase: the time may be over before it begins


@dataclass(frozen=True)
class FitOptions:
    """What a user may choose of a fit; see `nervkit.encode`. Checks itself: raises UsageError."""

    model: str = "gridnerv"
    params: str | float | None = None
    strides: str | tuple[int, ...] | None = None
    recipe: str = "native"
    preset: str | None = None
    epochs: float | None = None
    steps: int | None = None
    time: str | float | None = None
    metric: str = RGB
    prune: float = 0.0
    coded_bytes: int | None = None
    coded_psnr: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.prune < 1:
            raise UsageError(f"prune must lie in 0 to 1 (exclusive), not {self.prune}")
        if self.coded_bytes is not None and self.prune:
            raise UsageError("--prune is for a fit without a target: choose one")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed must lie in 0 to 2^63 - 1, not {self.seed}")
        if self.recipe not in self.model_type.recipes:
            known = ", ".join(self.model_type.recipes)
            raise UsageError(
                f"unknown recipe {self.recipe!r} for {self.model}; choose from: {known}"
            )
        recipe = self.model_type.recipes[self.recipe]
        loss_of(self.metric, recipe, f"the recipe {self.recipe} of {self.model}")
        _ = self.budget, self.asked
        choose_precision(self.precision, choose_device(self.device))

    @property
    def model_type(self) -> type[Representation]:
        """The class that `model` names."""
        return load_model(self.model)

    @property
    def budget(self) -> Budget:
        """How long to fit: as the user says, else as long as the paper with its recipe, else the
        default preset."""
        seconds = None if self.time is None else float(parse_seconds(self.time, "time"))
        given = (self.preset, self.epochs, self.steps, seconds)
        if self.recipe == PAPER and all(amount is None for amount in given):
            return Budget(epochs=self.model_type.recipes[PAPER].epochs)
        return Budget.choose(*given)

    @property
    def through_quantizer(self) -> bool:
        """Whether the fit sees its quantizer. What was published is fitted in float, and quantized
        to its bytes afterwards."""
        return self.coded_bytes is not None and self.recipe != PAPER

    @property
    def asked(self) -> tuple[int | None, dict[str, Any]]:
        """The number of values and the options of a configuration that the user asked for."""
        options = {} if self.strides is None else {"strides": parse_strides(self.strides)}
        return None if self.params is None else parse_count(self.params), options

    def configure(self, shape: VideoShape) -> ModelConfig:
        """The model's configuration for what the user asked, or did not ask."""
        parameters, options = self.asked
        model, size = self.model_type, self.coded_bytes
        configure = partial(model.configure, shape)
        expected: int | None = default_parameters(shape)
        if size is not None and self.through_quantizer:
            configure, expected = partial(model.configure_coded, shape, size), None
        elif size is not None:
            expected = round(8 * size / BITS_AFTER_FIT)
        if parameters is not None:
            return configure(parameters, **options)
        try:
            return configure(expected, **options)
        except TooFewParametersError as error:
            return configure(error.least, **options)

    def settings(self) -> dict[str, Any]:
        """What, besides model and frames, the fit depends on."""
        return {
            "recipe": self.recipe,
            "budget": str(self.budget),
            "metric": self.metric,
            "prune": self.prune,
            "coded_bytes": self.coded_bytes,
            "coded_psnr": self.coded_psnr,
            "seed": self.seed,
            "device": choose_device(self.device).type,
            "precision": self.precision,
            "torch": torch.__version__,
        }


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
        keep: where to keep checkpoints, if anywhere; the last one is left to the caller.
        watch: callbacks that follow the fit and may stop it.

    Returns:
        The fitted network, on the chosen device, and what the fit did.

    Raises:
        UsageError: no such size of the model. ResourceError: the frames do not fit on the device.
        Interrupted: stopped. SourceError: the checkpoint is of another fit.
    """
    shape = VideoShape(*frames.shape[:3])
    config, device = options.configure(shape), choose_device(options.device)
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
            "frames": fingerprint(frames),
        }
        if known is not None:
            what["known"] = fingerprint(known)
        if options.metric != RGB:
            planes = yuv_colour(colour)
            what["planes"] = f"{planes.rgb_matrix} {planes.rgb_range}"
        checkpoint = Checkpoint(keep.path, what | options.settings(), keep.interval)
        if keep.restart:
            checkpoint.delete()
    metric = metric_of(options.metric, colour, network, device)
    job = FitJob(network, target, options, counting, metric)
    return network, job.run(checkpoint, watch or Watch())


def _channels_first(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2).to(device)


def fingerprint(values: np.ndarray) -> str:
    """Identifies an array: 16 digits of its bytes' SHA-256."""
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()[:16]


@dataclass
class FitJob:
    """The phases of one fit: the fit itself and, where weights are pruned, the fine-tuning."""

    model: Representation
    frames: Tensor
    options: FitOptions
    known: Tensor | None = None
    metric: Metric = field(default_factory=Metric)

    def run(self, checkpoint: Checkpoint | None, watch: Watch) -> FitSummary:
        """Run what is left of the phases, given what `checkpoint` holds."""
        began = clock.perf_counter()
        recipe = self.options.model_type.recipes[self.options.recipe]
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None:
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
        return Stepper(
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


def default_parameters(shape: VideoShape) -> int:
    """Stored values to aim at where the user does not say: 0.75M for the papers' 132 frames of
    720p, and less than in proportion for less video, which needs more bits a pixel; never more
    than a quarter of the samples."""
    reference = 132 * 720 * 1280
    count = max(20_000, round(750_000 * (shape.pixels / reference) ** 0.6))
    return max(1, min(count, 3 * shape.pixels // 4))


def parse_count(text: str | float) -> int:
    """A number of parameters from 1500000, "1.5M" or "350k"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kKmM]?)", str(text).strip())
    count = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0
    if not 1 <= count <= 1e9:
        raise UsageError(f"params must be a number such as 350k or 1.5M, not {text!r}")
    return round(count)


def parse_strides(strides: str | tuple[int, ...]) -> tuple[int, ...]:
    """Strides from "5,4,4,2,2" or a sequence."""
    parts = strides if isinstance(strides, (tuple, list)) else str(strides).split(",")
    if not all(str(part).strip().isdecimal() for part in parts):
        raise UsageError(f"strides must be whole numbers such as 5,4,4,2,2, not {strides!r}")
    return tuple(int(part) for part in parts)
