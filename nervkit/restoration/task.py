"""What every restoration does around its method: options, reading, fitting, delivering."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from nervkit.errors import Interrupted, UsageError
from nervkit.fitting.budget import BUDGET_OPTIONS
from nervkit.fitting.checkpoint import checkpoint_path
from nervkit.fitting.job import CheckpointOptions, Watch, fit_clip
from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Progress
from nervkit.keywords import check_keywords
from nervkit.lock import locked
from nervkit.media.timing import Timing
from nervkit.models.base import Representation, count_stored
from nervkit.models.device import Device
from nervkit.models.recipe import PAPER
from nervkit.restoration.kinds import alike
from nervkit.video.arrays import as_array, is_frames
from nervkit.video.clip import Clip
from nervkit.video.movies import MovieOptions
from nervkit.video.reader import READING, UntimedOptions, read_clip
from nervkit.video.source import Picture
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, place_of, write_video

if TYPE_CHECKING:
    from nervkit.restoration.stored import StoredFits

#: options of a fit that is made for a file
OF_FILES = ("prune", "compression", "coded_bytes", "coded_psnr", "metric")
FITTING = tuple(f.name for f in fields(FitOptions) if f.name not in OF_FILES)
# Whoever says how large a fit is to be, or how long, asks for one.
ASKING = ("model", "params", "strides", "recipe", "preset", "epochs", "steps", "time")


class UntimedRestoreOptions(UntimedOptions, total=False):
    """The options that all restorations have."""

    fit: bool | None
    model: str
    params: str | float | None
    strides: str | tuple[int, ...] | None
    recipe: str
    preset: str | None
    epochs: float | None
    steps: int | None
    time: str | float | None
    seed: int
    device: Device
    precision: str
    codec: str | None
    crf: int | None
    overwrite: bool
    restart: bool
    checkpoint_interval: float
    on_clip: Callable[[Clip], None] | None
    on_search: Callable[[int, int], None] | None
    on_progress: Callable[[Progress], None] | None
    on_frame: Callable[[int, int], None] | None
    on_note: Callable[[str], None] | None
    stop: Callable[[], bool] | None


class RestoreOptions(UntimedRestoreOptions, total=False):
    """The options of a restoration that keeps the source's rate; see `Task`."""

    fps: str | float | Fraction | None


#: of a fit of which nobody says how long it is to be: a longer one was measured to add nothing
PRESET = "draft"
Count = Callable[[int, int], None]  # (done, in all)


@dataclass(frozen=True)
class RestoreReport:
    """What a restoration wrote.

    Attributes:
        output: path of the file.
        task: "denoise", "inpaint" or "interpolate".
        frames: number of frames of the output.
        width: in pixels.
        height: in pixels.
        fps: mean frame rate of the output.
        model: name of the fitted model. None without a fit.
        parameters: its stored values; 0 without a fit.
        steps: optimizer steps of the fit; 0 where a .nerv file was given.
        seconds: wall time of this run.
        fit_seconds: time of the fit in all runs, where it was resumed.
        details: what the method found or did, by name (docs/json.md).
        notes: one line for everything that was assumed, changed or lost.
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
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


@dataclass
class Fitted:
    """A representation fitted to some frames of a clip. `places` are these frames' places in the
    clip, increasing, such as times; between and around them the representation is asked for what
    is not there."""

    network: Representation
    places: np.ndarray
    model: str
    steps: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Stored values of the network."""
        return count_stored(self.network)

    def position(self, place: float) -> float:
        """A place of the clip in frames of the representation."""
        return float(np.interp(place, self.places, np.arange(len(self.places))))

    @torch.inference_mode()
    def predict(self, position: float) -> np.ndarray:
        """The (H, W, 3) float32 frame at a position of the representation, in [0, 255]."""
        device = next(self.network.parameters()).device
        frame = self.network(torch.tensor([float(position)], device=device))[0]
        return frame.float().mul(255).permute(1, 2, 0).cpu().numpy()


def _budgeted(options: FitOptions) -> FitOptions:
    """With the preset for restorations, where nothing says how long to fit."""
    given = any(getattr(options, name) is not None for name in BUDGET_OPTIONS)
    return options if given or options.recipe == PAPER else replace(options, preset=PRESET)


def _wanted(options: FitOptions, fit: bool | None) -> bool | None:
    """Whether a fit is asked for (None: the method decides), by `fit` or by an option of it."""
    default = FitOptions()
    asked = [name for name in ASKING if getattr(options, name) != getattr(default, name)]
    if fit is False and asked:
        raise UsageError(f"--{asked[0]} is about a fit, and --no-fit makes none; choose one")
    return True if asked else fit


class Task:
    """One restoration of one source by `method`, whose keywords `options` are:

    those of a fit (`FitOptions` but OF_FILES) and `fit`, whether one is made (None: where it is
    asked for by a model, a size or a budget, or is known to help), those of `read_clip`, `codec`
    and `crf` of a movie, `overwrite`, `restart`, `checkpoint_interval`, and callbacks: `on_clip`
    (the Clip), `on_search` (of denoise and inpaint: parts of the search for impulses, or for what
    holes hide, done and in all), `on_progress` (of the fit), `on_frame` (frames done, frames in
    all), `on_note`, `stop`.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        source: Any,
        output: str | os.PathLike[str] | None,
        **options: Unpack[RestoreOptions],
    ) -> None:
        self.began = time.perf_counter()
        check_keywords(method, options, RestoreOptions.__annotations__)
        self.name, self.source = method.__name__, source
        self.output = None if output is None else os.fspath(output)
        take = options.pop
        self.options = FitOptions(**{k: take(k) for k in FITTING if k in options})
        self.fit_wanted = _wanted(self.options, take("fit", None))
        self.reading = {k: take(k) for k in READING if k in options}
        self.movie = MovieOptions(take("codec", None), take("crf", None))
        overwrite = take("overwrite", False)
        self.restart, self.interval = take("restart", False), take("checkpoint_interval", 60.0)
        self._notes: list[str] = []
        self._kept: Path | None = None  # the checkpoint that this task has written
        self.on_clip: Callable[[Clip], None] = take("on_clip", None) or (lambda clip: None)
        self.on_search: Count = take("on_search", None) or (lambda *_: None)
        self.on_frame: Count = take("on_frame", None) or (lambda *_: None)
        self.watch = Watch(
            take("on_progress", None), take("on_note", None), take("stop", None) or (lambda: False)
        )
        if self.output is not None:
            check_destination(self.output, self.movie, overwrite, source)
            with self._locked():  # another run's, before the source is read
                pass

    def read(self, on_picture: Callable[[Picture], None] | None = None) -> Clip:
        """The source as a Clip; `on_picture` as `read_clip` takes it."""
        clip = read_clip(self.source, **self.reading, on_picture=on_picture)
        self.on_clip(clip)
        return clip

    def note(self, text: str) -> None:
        """Say something that the user should know."""
        self._notes.append(text)
        if self.watch.on_note is not None:
            self.watch.on_note(text)

    def searched(self, done: int, total: int) -> None:
        """Part of a search is done; raises Interrupted where it is to stop."""
        if self.watch.stop():
            raise Interrupted("stopped before the fit began")
        self.on_search(done, total)

    def fit(
        self, frames: np.ndarray, places: np.ndarray | None = None, known: np.ndarray | None = None
    ) -> Fitted:
        """Fit to (N, H, W, 3) uint8 frames that stand at `places` of the clip (0, 1, ... if nothing
        else is said); `known` as in `fit_clip`."""
        self._kept, keep = self.checkpoint, None
        if self._kept is not None:
            keep = CheckpointOptions(self._kept, self.interval, self.restart)
        with self._locked():
            network, summary = fit_clip(
                frames, _budgeted(self.options), known=known, keep=keep, watch=self.watch
            )
        places = np.arange(len(frames)) if places is None else places
        model, notes = self.options.model, summary.notes
        return Fitted(network, places, model, summary.steps, summary.seconds, notes)

    @property
    def checkpoint(self) -> Path | None:
        """Where the fit's state is kept: beside an output that has a name of its own."""
        if self.output is None or place_of(self.output) is None:
            return None
        path = Path(self.output)
        path = path if path.name else path.resolve()  # "." has no name
        return checkpoint_path(path.with_name(path.name.replace("%", "")))

    def _locked(self) -> AbstractContextManager[None]:
        """Holds the lock on the output."""
        return nullcontext() if self.output is None else locked(place_of(self.output))

    def deliver(
        self,
        clip: Clip,
        frames: Iterable[np.ndarray],
        fitted: Fitted | StoredFits | None,
        *,
        timing: Timing | None = None,
        changed: np.ndarray | bool = True,
        places: Any = ...,
        details: Callable[[], dict[str, Any]] = dict,
    ) -> Any:
        """What the user gets: the output written and a report of it, or without an output the
        frames, as the kind that the source is of (a Clip for a file or a Clip).

        Args:
            clip: the source.
            frames: (H, W, 3) uint8 each, one for each time in `timing` (default: the clip's).
            fitted: what was fitted for them; None: nothing.
            changed, places: what may differ from the source; see `alike`.
            details: of the report; asked for once all frames are made.
        """
        timing = timing or clip.timing
        count, (height, width) = len(timing), clip.shape[1:3]
        made = self._counted(frames, count)
        notes = [*clip.notes, *self._notes, *(fitted.notes if fitted else ())]
        if self.output is None:
            result = np.empty((count, height, width, 3), np.uint8)
            for kept, frame in zip(result, made, strict=True):
                kept[:] = frame
            if is_frames(self.source):
                # What was trimmed, cropped or resized has no values of its own any more.
                own = as_array(self.source).shape[:3] == clip.shape[:3]
                return alike(self.source, result, changed if own else True, places)
            return replace(clip, frames=result, timing=timing, notes=notes)
        stream = Stream(
            frames=made,
            width=width,
            height=height,
            timing=timing,
            sample_aspect_ratio=clip.sample_aspect_ratio,
            colour=clip.colour,
            tracks=tuple(clip.tracks),
            extras=clip.extras,
        )
        lost = write_video(self.output, stream, self.movie)
        if self._kept is not None:
            self._kept.unlink(missing_ok=True)
        return RestoreReport(
            output=self.output,
            task=self.name,
            frames=count,
            width=width,
            height=height,
            fps=float(timing.fps),
            model=fitted.model if fitted else None,
            parameters=fitted.parameters if fitted else 0,
            steps=fitted.steps if fitted else 0,
            seconds=time.perf_counter() - self.began,
            fit_seconds=fitted.seconds if fitted else 0.0,
            details=details(),
            notes=[*notes, *lost],
        )

    def _counted(self, frames: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
        for done, frame in enumerate(frames, start=1):
            if self.watch.stop():
                raise Interrupted(
                    "stopped while frames were written", resumable=self._kept is not None
                )
            yield frame
            self.on_frame(done, count)
