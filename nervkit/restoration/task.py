"""The steps that all restorations share: options, reading, fitting, output and report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol, TypeAlias, Unpack, cast

import numpy as np
import torch

from nervkit.choices import CodecName, PrecisionName, PresetName, RecipeName
from nervkit.errors import Interrupted, UsageError
from nervkit.fitting.budget import BUDGET_OPTIONS
from nervkit.fitting.checkpoint import checkpoint_path
from nervkit.fitting.job import CheckpointOptions, FitCallbacks, fit_clip, never
from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Progress
from nervkit.keywords import keyword_defaults, option, select, setting
from nervkit.lock import locked
from nervkit.media.timing import Timing
from nervkit.models.base import Representation, count_stored
from nervkit.models.device import Device
from nervkit.models.recipe import PAPER
from nervkit.output import output_name
from nervkit.restoration.kinds import like_source
from nervkit.units import parse_interval
from nervkit.video.arrays import as_array, is_frames
from nervkit.video.clip import Clip
from nervkit.video.movies import MovieOptions
from nervkit.video.reader import READING, ReadingOptions, UntimedOptions, read_clip
from nervkit.video.source import Picture
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, place_of, write_video

# These FitOptions concern the .nerv file that `encode` writes.
FILE_OPTIONS = ("prune", "compression", "coded_bytes", "coded_psnr", "metric")
FIT_OPTIONS = tuple(f.name for f in fields(FitOptions) if f.name not in FILE_OPTIONS)
# Setting any of these options requests a fit.
REQUESTING_OPTIONS = (
    "model",
    "params",
    "strides",
    "recipe",
    "preset",
    "epochs",
    "steps",
    "time",
)
PRESET = "draft"  # the default length of a fit; measured: a longer fit gains nothing
SEARCH = "search"  # the phase of `on_progress` before a fit

CountCallback: TypeAlias = Callable[[int, int], None]  # (done, total)
ProgressCallback: TypeAlias = Callable[[Progress], None]


class UntimedRestoreOptions(UntimedOptions, total=False):
    """The options of every restoration, besides those of reading (`read_clip`).

    Attributes:
        fit: whether to fit a representation. None (default): if an option of the fit is set, or if
            a fit is known to help.
        model, params, strides, recipe: the representation and its size, as for `encode`.
        preset, epochs, steps, time: length of the fit, as for `encode`; by default preset "draft".
        seed, device, precision: as for `encode`.
        codec, crf: of an output movie, as for `decode`.
        overwrite: replace an existing output.
        restart: discard a checkpoint instead of resuming from it.
        checkpoint_interval: seconds between checkpoints of the fit.
        on_clip: called with the source as a Clip.
        on_progress: called with a `Progress` for each part of the search (phase "search"; denoise
            searches for impulses, inpaint for hidden content), about once a second during the fit
            (phase "fit"), and for each output frame (phase "denoise", "inpaint" or "interpolate").
            `step` and `steps` count parts, optimizer steps or frames. Outside a fit, `epoch` is 0
            and `psnr` is NaN. Without a fit or a search, only the last phase occurs.
        on_search: called with (done, total) parts of the search.
        on_frame: called with (done, total) output frames.
        on_note: called with each note as it arises.
        stop: polled during the work; once it returns True, the call raises Interrupted.
    """

    fit: bool | None
    model: str
    params: str | float | None
    strides: str | tuple[int, ...] | None
    recipe: RecipeName
    preset: PresetName | None
    epochs: float | None
    steps: int | None
    time: str | float | None
    seed: int
    device: Device
    precision: PrecisionName
    codec: CodecName | None
    crf: int | None
    overwrite: bool
    restart: bool
    checkpoint_interval: float
    on_clip: Callable[[Clip], None] | None
    on_search: CountCallback | None
    on_progress: ProgressCallback | None
    on_frame: CountCallback | None
    on_note: Callable[[str], None] | None
    stop: Callable[[], bool] | None


class RestoreOptions(UntimedRestoreOptions, total=False):
    """The options of a restoration that keeps the frame rate of its source.

    Attributes:
        fps: frame rate of images, arrays and raw video, as for `read_clip`.
    """

    fps: str | float | Fraction | None


DEFAULTS = {
    **dict.fromkeys(RestoreOptions.__annotations__),
    **keyword_defaults(FitOptions, MovieOptions, read_clip),
    "overwrite": False,
    "restart": False,
    "checkpoint_interval": 60.0,
}


@dataclass(frozen=True)
class RestoreReport:
    """The result of a restoration that wrote a file.

    Attributes:
        output: path of the file.
        task: "denoise", "inpaint" or "interpolate".
        frames: number of output frames.
        width: in pixels.
        height: in pixels.
        fps: mean frame rate of the output.
        model: name of the fitted model. None without a fit.
        parameters: number of its stored values; 0 without a fit.
        steps: optimizer steps of the fit; 0 without one, as for a .nerv source.
        seconds: wall time of this call.
        fit_seconds: duration of the fit, summed over all sessions of a resumed one.
        details: measurements of the method, by name (docs/json.md).
        notes: one line for every assumption, change and loss.
    """

    output: str
    task: str
    frames: int
    width: int
    height: int
    fps: float
    model: str | None
    parameters: int
    steps: int
    seconds: float
    fit_seconds: float
    details: dict[str, Any]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


class FitRecord(Protocol):
    """The facts about a fit that a report contains."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def parameters(self) -> int:
        """Number of stored values."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def seconds(self) -> float:
        """Duration of the fit."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the fit."""


@dataclass
class Fitted:
    """A representation that is fitted to some frames of a clip. Positions count these frames."""

    network: Representation
    model: str
    steps: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of stored values of the network."""
        return count_stored(self.network)

    @torch.inference_mode()
    def predict(self, position: float) -> np.ndarray:
        """Return the frame at a (fractional) position: (H, W, 3) float32 in [0, 255]."""
        device = next(self.network.parameters()).device
        frame = self.network(torch.tensor([float(position)], device=device))[0]
        return frame.float().mul(255).permute(1, 2, 0).cpu().numpy()


class CountedPhase:
    """Reports a phase that counts its parts, as (done, total) and as Progress."""

    def __init__(
        self, name: str, on_count: CountCallback | None, on_progress: ProgressCallback | None
    ) -> None:
        self._name, self._on_count, self._on_progress = name, on_count, on_progress
        self._began = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` parts are done."""
        if self._on_count is not None:
            self._on_count(done, total)
        if self._on_progress is not None:
            rate = done / max(time.perf_counter() - self._began, 1e-9)
            left = (total - done) / rate
            self._on_progress(Progress(self._name, done, total, 0.0, rate, float("nan"), left))


class Task:
    """One restoration of one source by the public function `method`. `options` are its keywords."""

    def __init__(
        self,
        method: Callable[..., Any],
        source: Any,
        output: str | os.PathLike[str] | None,
        **options: Unpack[RestoreOptions],
    ) -> None:
        """Raises UsageError for an invalid option, OutputError if the output cannot be written."""
        self._began = time.perf_counter()
        chosen: dict[str, Any] = {**DEFAULTS, **options}
        self.name, self.source = method.__name__, source
        self.output = None if output is None else output_name(output)
        self.fit_options = FitOptions(**select(options, FIT_OPTIONS))
        self.fit_requested = _fit_requested(self.fit_options, chosen["fit"])
        self.reading = cast(ReadingOptions, select(options, READING))
        self.restart = chosen["restart"]
        self._interval = parse_interval(chosen["checkpoint_interval"])
        self._movie = MovieOptions(chosen["codec"], chosen["crf"])
        self._notes: list[str] = []
        self._kept: Path | None = None  # the checkpoint of this task's fit
        self._on_clip, self._on_note = chosen["on_clip"], chosen["on_note"]
        self._on_search, self._on_frame = chosen["on_search"], chosen["on_frame"]
        self._on_progress = chosen["on_progress"]
        self._stop = chosen["stop"] or never
        if self.output is not None:
            check_destination(self.output, self._movie, chosen["overwrite"], source)
            with self._locked():  # fail before reading if another process writes the output
                pass

    def read(self, on_picture: Callable[[Picture], None] | None = None) -> Clip:
        """Return the source as a Clip. `on_picture` is as for `read_clip`."""
        clip = read_clip(self.source, **self.reading, on_picture=on_picture)
        self.announce(clip)
        return clip

    def announce(self, clip: Clip) -> None:
        """Call `on_clip`."""
        if self._on_clip is not None:
            self._on_clip(clip)

    def note(self, text: str) -> None:
        """Add a note for the user."""
        self._notes.append(text)
        if self._on_note is not None:
            self._on_note(text)

    def search(self) -> CountCallback:
        """Begin the search. Returns the callback for its (done, total) parts, which raises
        Interrupted once the user stops the work."""
        report = CountedPhase(SEARCH, self._on_search, self._on_progress)

        def part_done(done: int, total: int) -> None:
            if self._stop():
                raise Interrupted("stopped before the fit began")
            report(done, total)

        return part_done

    def fit(self, frames: np.ndarray, known: np.ndarray | None = None) -> Fitted:
        """Fit a representation to (N, H, W, 3) uint8 frames. `known` is as for `fit_clip`."""
        self._kept, keep = self.checkpoint, None
        if self._kept is not None:
            keep = CheckpointOptions(self._kept, self._interval, self.restart)
        options = _with_length(self.fit_options)
        watch = FitCallbacks(self._on_progress, self._on_note, self._stop)
        with self._locked():
            network, summary = fit_clip(frames, options, known=known, keep=keep, watch=watch)
        return Fitted(network, options.model, summary.steps, summary.seconds, summary.notes)

    @property
    def checkpoint(self) -> Path | None:
        """The path of the fit's checkpoint, beside the output. None without a regular output."""
        if self.output is None or place_of(self.output) is None:
            return None
        path = Path(self.output)
        path = path if path.name else path.resolve()  # "." has no name
        return checkpoint_path(path.with_name(path.name.replace("%", "")))

    def _locked(self) -> AbstractContextManager[None]:
        """Hold the lock on the output."""
        return nullcontext() if self.output is None else locked(place_of(self.output))

    def deliver(
        self,
        clip: Clip,
        frames: Iterable[np.ndarray],
        fitted: FitRecord | None,
        *,
        timing: Timing | None = None,
        changed: np.ndarray | bool = True,
        places: np.ndarray | EllipsisType = ...,
        details: Callable[[], dict[str, Any]] = dict,
    ) -> Any:
        """Write the output and return a report. Without an output, return the frames in the form of
        the source: an array, a tensor, a list, or a Clip for any other source.

        Args:
            clip: the source.
            frames: (H, W, 3) uint8 each, one for each timestamp of `timing` (default: the clip's).
            fitted: the fit that the frames come from, if any.
            changed, places: which values may differ from the source; see `like_source`.
            details: returns the report's details. It is called after the last frame.
        """
        timing = timing or clip.timing
        counted = self._counted(frames, len(timing))
        notes = [*clip.notes, *self._notes, *(fitted.notes if fitted else ())]
        if self.output is None:
            result = _gathered(counted, (len(timing), *clip.shape[1:]))
            if is_frames(self.source):
                # Trimming, cropping and resizing leave no source values to keep.
                same_shape = as_array(self.source).shape[:3] == clip.shape[:3]
                return like_source(self.source, result, changed if same_shape else True, places)
            return replace(clip, frames=result, timing=timing, notes=notes)
        notes += self._write(self.output, clip, counted, timing)
        return RestoreReport(
            output=self.output,
            task=self.name,
            frames=len(timing),
            width=clip.shape[2],
            height=clip.shape[1],
            fps=float(timing.fps),
            model=fitted.model if fitted else None,
            parameters=fitted.parameters if fitted else 0,
            steps=fitted.steps if fitted else 0,
            seconds=time.perf_counter() - self._began,
            fit_seconds=fitted.seconds if fitted else 0.0,
            details=details(),
            notes=notes,
        )

    def _write(
        self, output: str, clip: Clip, frames: Iterable[np.ndarray], timing: Timing
    ) -> list[str]:
        """Write the output and delete the checkpoint. Returns notes on what the format drops."""
        stream = Stream(
            frames=frames,
            width=clip.shape[2],
            height=clip.shape[1],
            timing=timing,
            sample_aspect_ratio=clip.sample_aspect_ratio,
            colour=clip.colour,
            tracks=tuple(clip.tracks),
            extras=clip.extras,
        )
        dropped = write_video(output, stream, self._movie)
        if self._kept is not None:
            self._kept.unlink(missing_ok=True)
        return dropped

    def _counted(self, frames: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
        """Yield the frames and report each. Raises Interrupted once the user stops the work."""
        report = CountedPhase(self.name, self._on_frame, self._on_progress)
        for done, frame in enumerate(frames, start=1):
            if self._stop():
                raise Interrupted("stopped while writing frames", resumable=self._kept is not None)
            yield frame
            report(done, count)


def _with_length(options: FitOptions) -> FitOptions:
    """Return the options with the default preset of restorations if they set no length."""
    given = any(getattr(options, name) is not None for name in BUDGET_OPTIONS)
    return options if given or options.recipe == PAPER else replace(options, preset=PRESET)


def _fit_requested(options: FitOptions, fit: bool | None) -> bool | None:
    """Return whether `fit` or an option requests a fit. None leaves the choice to the method."""
    if fit not in (None, True, False):
        raise UsageError(f"{option('fit')} must be True, False or None, not {fit!r}")
    default = FitOptions()
    given = [n for n in REQUESTING_OPTIONS if getattr(options, n) != getattr(default, n)]
    if fit is False and given:
        raise UsageError(f"{option(given[0])} needs a fit: leave it or {setting('fit', False)} out")
    return True if given else fit


def _gathered(frames: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return the frames as one uint8 array of this shape."""
    result = np.empty(shape, np.uint8)
    for target, frame in zip(result, frames, strict=True):
        target[:] = frame
    return result
