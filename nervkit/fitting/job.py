"""One fit from a user's options: its checkpoint, and its phases one after the other."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.pruning import alive
from nervkit.compression.pruning import prune as prune_weights
from nervkit.errors import ResourceError
from nervkit.fitting.budget import Length
from nervkit.fitting.checkpoint import Checkpoint, FinishedPhases, Saved
from nervkit.fitting.coding import Codec
from nervkit.fitting.loop import FitSummary, Stepper, fit, trained_module
from nervkit.fitting.metric import RGB, Metric, metric_of
from nervkit.fitting.options import FitOptions
from nervkit.fitting.phases import Phase, phase_lengths, phases_of
from nervkit.fitting.progress import Outlook, Progress
from nervkit.fitting.quantizers import FitQuantizer, stage_quantizer
from nervkit.fitting.start import KeptFit, Start
from nervkit.keywords import option
from nervkit.models.base import Representation, seeded
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import choose_device
from nervkit.version import __version__
from nervkit.video.colour import Colour
from nervkit.video.planes import yuv_colour
from nervkit.video.ranges import frames_hash

MOST_START = 0.5  # share of a time budget that the start of a fit may take without a note


def never() -> bool:
    """Return False: the fit goes on."""
    return False


@dataclass(frozen=True)
class FitCallbacks:
    """The callbacks of a fit.

    Attributes:
        on_progress: called about once a second.
        on_note: called with each problem that the fit recovers from, at once.
        stop: called before each step; once it returns True, the fit raises Interrupted.
        on_outlook: called once, when the first steps were timed, with the model.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_note: Callable[[str], None] | None = None
    stop: Callable[[], bool] = never
    on_outlook: Callable[[Outlook, Representation], None] | None = None


@dataclass(frozen=True)
class CheckpointOptions:
    """Where a fit saves its state (see `checkpoint_path`), how often (seconds), and whether it
    discards an earlier checkpoint."""

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
    watch: FitCallbacks | None = None,
) -> tuple[Representation, FitSummary]:
    """Fit a representation to frames, or resume from a checkpoint of the same fit.

    Torch's random state stays as it was.

    Args:
        frames: (T, H, W, 3) uint8.
        options: what to fit and how.
        known: (T, H, W, 1 or 3) uint8, the weight of each value in the loss, from 0 (ignored) to
            255; None: all values count.
        colour: of the frames, for the planes of the metric "yuv"; None: the default Colour.
        start: the network that the fit starts from; None: the model's own initialization.
        keep: where to save checkpoints, if anywhere; the caller deletes the last one.
        watch: callbacks that follow the fit and may stop it.

    Returns:
        The fitted network, on the chosen device, and a summary of the fit.

    Raises:
        UsageError: the model has no such size. ResourceError: the frames do not fit on the device.
        Interrupted: stopped. SourceError: the checkpoint belongs to another fit.
    """
    shape = VideoShape(*frames.shape[:3])
    config = options.configure(shape) if start is None else start.config
    device, colour = choose_device(options.device), colour or Colour()
    with seeded(options.seed, device):
        try:
            network = options.model_type(config, shape).to(device)
            target = _channels_first(frames, device)
            weights = None if known is None else _channels_first(known, device)
        except torch.cuda.OutOfMemoryError as error:
            raise ResourceError(
                f"the frames do not fit on {device}; set {option('resize')} to a smaller "
                f"size, or {option('device')} to cpu"
            ) from error
        checkpoint = None
        if keep is not None:
            identity = _identity(frames, options, config, known, colour, start)
            checkpoint = Checkpoint(keep.path, identity, keep.interval)
            if keep.restart:
                checkpoint.delete()
        metric = metric_of(options.metric, colour, network, device)
        job = FitJob(network, target, options, weights, metric, start)
        return network, job.run(checkpoint, watch or FitCallbacks())


def _identity(
    frames: np.ndarray,
    options: FitOptions,
    config: ModelConfig,
    known: np.ndarray | None,
    colour: Colour,
    start: Start | None,
) -> dict[str, Any]:
    """Return all that a fit depends on, JSON-ready, for its checkpoint."""
    identity = {
        "nervkit": __version__,
        "model": options.model,
        "config": config.to_dict(),
        "frames": frames_hash(frames),
    }
    if known is not None:
        identity["known"] = frames_hash(known)
    if start is not None:
        identity["start"] = start.fingerprint
    if options.metric != RGB:
        planes = yuv_colour(colour)
        identity["planes"] = f"{planes.rgb_matrix} {planes.rgb_range}"
    return identity | options.settings()


def _channels_first(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2).to(device)


@dataclass
class FitJob:
    """Runs the phases of one fit, one after the other."""

    model: Representation
    frames: Tensor
    options: FitOptions
    known: Tensor | None = None
    metric: Metric = field(default_factory=Metric)
    start: Start | None = None

    def run(self, checkpoint: Checkpoint | None, watch: FitCallbacks) -> FitSummary:
        """Run all phases, or those that an earlier session saved in `checkpoint` has left."""
        began = clock.perf_counter()
        phases = phases_of(self.options)
        saved = checkpoint.load() if checkpoint is not None else None
        resumed = saved is not None
        if saved is None and isinstance(self.start, KeptFit) and self.options.quantizes_again:
            saved = self.start.finished()
        if saved is None and self.start is not None:
            self.start.apply(self.model)
        elif saved is None:
            self.model.start_fit(self.frames)
        frames, _, height, width = self.frames.shape
        spent = clock.perf_counter() - began
        lengths = phase_lengths(phases, self.options, VideoShape(frames, height, width), spent)
        on_pace = self._outlook_callback(watch, lengths, saved)

        finished, earlier_seconds, current = FinishedPhases(), 0.0, 0
        if saved is not None:
            finished = saved.position.finished
            earlier_seconds = finished.seconds + saved.position.seconds
            current = [phase.name for phase in phases].index(saved.position.phase)
            lengths[current] = saved.position.length or lengths[current]
        if not resumed:
            notes = self._notes(spent)
            if (on_note := watch.on_note) is not None:
                for note in notes:
                    on_note(note)
            finished = replace(finished, notes=(*finished.notes, *notes))
        summary = FitSummary(0, 0.0)
        masks: dict[str, Tensor] = {}
        for phase, length in zip(phases[current:], lengths[current:], strict=True):
            codec = self._codec(phase)
            if saved is not None:
                saved.restore(trained_module(self.model, codec), [])
                masks = alive(self.model) if phase.pruned else {}
            elif phase.prune is not None:
                masks = prune_weights(self.model, phase.prune.share, phase.prune.score)
            summary = fit(
                self._stepper(phase, codec, masks),
                length,
                phase=phase.name,
                finished=finished,
                checkpoint=checkpoint,
                saved=saved,
                on_pace=on_pace,
                on_progress=watch.on_progress,
                on_note=watch.on_note,
                stop=watch.stop,
            )
            saved = None
            finished = FinishedPhases(
                finished.steps + summary.steps,
                finished.seconds + summary.seconds,
                (*finished.notes, *summary.notes),
            )
        self.model.quantize_embedding = None
        return FitSummary(
            finished.steps,
            finished.seconds,
            earlier_seconds,
            finished.notes,
            summary.psnr,
            summary.codec,
        )

    def _notes(self, spent: float) -> list[str]:
        """Return notes on the start of the fit, which took `spent` seconds."""
        notes, seconds = [], self.options.budget.seconds
        if seconds is not None and spent >= MOST_START * seconds:
            notes.append(
                f"the start of the fit took {spent:.0f} s of its {seconds:g} s; a longer time is "
                "better"
            )
        if isinstance(self.start, KeptFit) and self.start.coded and not self.options.coded_bytes:
            notes.append(
                "the kept fit was made for its own quantizer: other bits make a larger file than a "
                "target of the same quality"
            )
        return notes

    def _stepper(
        self, phase: Phase, codec: FitQuantizer | None, masks: dict[str, Tensor]
    ) -> Stepper:
        return Stepper(
            self.model,
            self.frames,
            phase.recipe,
            seed=self.options.seed,
            masks=masks,
            known=self.known,
            precision=self.options.precision,
            codec=codec,
            metric=self.metric,
        )

    def _codec(self, phase: Phase) -> FitQuantizer | None:
        """Return the quantizer of a phase, which starts from the model's present tensors."""
        options = self.options
        if options.through_quantizer:
            assert options.coded_bytes is not None, "a fit through a quantizer has a size"
            codec = Codec(self.model, 8 * options.coded_bytes, options.coded_psnr)
            if self.start is not None:
                self.start.apply_coding(codec)
            return codec.to(self.frames.device)
        if phase.quantization is None:
            return None
        pixels = self.frames.shape[2] * self.frames.shape[3]
        return stage_quantizer(self.model, phase.quantization, pixels).to(self.frames.device)

    def _outlook_callback(
        self, watch: FitCallbacks, lengths: Sequence[Length], saved: Saved | None
    ) -> Callable[[float], None] | None:
        """Report the outlook now in a fit by the clock. In any other fit return a function that
        takes the seconds per step and reports the outlook on its first call."""
        on_outlook, seconds = watch.on_outlook, self.options.budget.seconds
        if on_outlook is None:
            return None
        position = None if saved is None else saved.position
        if seconds is not None:
            spent = 0.0 if position is None else position.finished.seconds + position.seconds
            on_outlook(Outlook(None, 0, max(0.0, seconds - spent), None), self.model)
            return None
        total = int(sum(length.count for length in lengths))
        done = 0 if position is None else position.step + position.finished.steps
        reported = False

        def on_pace(pace: float) -> None:
            nonlocal reported
            if not reported:
                threads = None if self.frames.is_cuda else torch.get_num_threads()
                on_outlook(Outlook(total, done, pace * (total - done), threads), self.model)
            reported = True

        return on_pace
