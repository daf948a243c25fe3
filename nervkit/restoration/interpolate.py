"""Frame rate conversion: frames between frames, by optical flow and a representation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from fractions import Fraction
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, Unpack, cast, overload

import numpy as np

from nervkit.container.chunks import SIGNATURE
from nervkit.container.limits import Limits
from nervkit.container.source import name_of
from nervkit.decoder import NUMPY, NervVideo
from nervkit.errors import UsageError
from nervkit.fitting.options import FitOptions
from nervkit.keywords import checked_keywords, option, select, spelled_out
from nervkit.media.timing import Timing
from nervkit.restoration.between import Interpolator
from nervkit.restoration.kinds import FramesT, to_uint8
from nervkit.restoration.stored import StoredInterpolator
from nervkit.restoration.task import (
    DEFAULTS,
    Fitted,
    RestoreOptions,
    RestoreReport,
    Task,
    UntimedRestoreOptions,
)
from nervkit.units import parse_rate
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.opening import can_seek
from nervkit.video.reader import FileSource, VideoSource, changed_options

MOST_FRAMES = 1_000_000  # of an output: a mistyped rate should not fill the disk
UNITS_PER_FRAME = 1_000
TRACKS = ("audio", "subtitles")  # reading options that apply to a .nerv source

#: makes the new timing of a clip, and the positions of the new frames among its frames (N,)
Resampling: TypeAlias = Callable[[Timing], tuple[Timing, np.ndarray]]


@overload
def interpolate(
    source: VideoSource | NervVideo[Any],
    output: str | os.PathLike[str],
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> RestoreReport: ...
@overload
def interpolate(
    source: FramesT,
    output: None = None,
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> FramesT: ...
@overload
def interpolate(
    source: FileSource | Clip | NervVideo[Any],
    output: None = None,
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> Clip: ...
@checked_keywords
@spelled_out(UntimedRestoreOptions, DEFAULTS)
def interpolate(
    source: VideoSource | NervVideo[Any],
    output: str | os.PathLike[str] | None = None,
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> Any:
    """Raise the frame rate of a video.

    For each new frame, both neighbours are warped to its time along their optical flow. Where they
    agree, their mean is the new frame. Elsewhere it is the mean without a fit, or with one the
    prediction of a representation at the fractional position (embeddings and grids are interpolated
    linearly, as in HNeRV, 2304.02633); see `Interpolator`. By default no fit is made, since it
    gains next to nothing. The frames of the source do not change. Nothing follows the last frame,
    so new frames after it repeat it, and the duration stays: with `factor` 2, 12 frames become 24
    (`render` at speed 1/2 shows 23, because it ends with the last frame).

    Args:
        source: anything that `read_clip` takes; or a .nerv file (a path that ends in .nerv, its
            bytes or a binary file) or an open NervVideo, whose stored representation is used
            without a fit (`StoredInterpolator`).
        output: as for `decode`. None returns the frames instead.
        factor: multiply the number of frames by this integer, 2 or more. Give either `factor` or
            `fps`.
        fps: a constant frame rate above the source's, such as 60 or "60000/1001".
        source_fps: frame rate of images, arrays and raw video; 25 by default.
        limits: for a .nerv file, as for `NervVideo`.
        **options: `fit` (False by default), the options of fitting (`encode`), reading
            (`read_clip`) and writing (`decode`), and callbacks; see `UntimedRestoreOptions`.

    Returns:
        With `output`, a RestoreReport. Otherwise an array, tensor or list like the source, or for
        any other source a Clip with the new timing.

    Raises:
        UsageError: an option is invalid.
        SourceError: the source cannot be read.
        FormatError: the source is not a valid .nerv file.
        OutputError: the output exists, or cannot be written.
        Interrupted: the user stopped the work.
    """
    settings: RestoreOptions = {**options, "fps": source_fps}
    task = Task(interpolate, source, output, **settings)
    resample = _resampling(factor, fps)
    with _opened(task, limits) if _is_nerv(source) else nullcontext() as video:
        clip = task.read() if video is None else _decoded(task, video)
        timing, positions = resample(clip.timing)
        new = positions != np.floor(positions)
        details = {"new_frames": int(new.sum()), "between_segments": 0}
        fitted: Fitted | StoredInterpolator | None
        interpolator: Interpolator | StoredInterpolator
        if video is not None:
            fitted = interpolator = StoredInterpolator(video, clip.frames)
            details["between_segments"] = _note_boundaries(task, interpolator, positions)
        else:
            fitted = task.fit(clip.frames) if task.fit_requested else None
            interpolator = Interpolator(clip.frames, fitted)
        return task.deliver(
            clip,
            _frames_at(clip.frames, positions, interpolator),
            fitted,
            timing=timing,
            changed=new[:, None, None],
            places=positions.astype(int),
            details=lambda: details,
        )


def _resampling(factor: int | None, fps: str | float | Fraction | None) -> Resampling:
    """Return how to resample. Raises UsageError unless exactly one option is given and valid."""
    if factor is not None and fps is None:
        if not isinstance(factor, Real) or factor != int(factor) or factor < 2:
            raise UsageError(f"{option('factor')} must be an integer, 2 or more, not {factor!r}")
        return partial(_multiplied, factor=int(factor))
    if fps is not None and factor is None:
        return partial(_at_rate, rate=parse_rate(fps))
    raise UsageError(f"give either {option('factor')} or {option('fps')}")


def _is_nerv(source: VideoSource | NervVideo[Any]) -> bool:
    """Return whether the source is a .nerv file: a path by its suffix, data by its signature."""
    if isinstance(source, NervVideo):
        return True
    if isinstance(source, (str, os.PathLike)):
        return Path(source).suffix.lower() == ".nerv"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source[: len(SIGNATURE)]) == SIGNATURE
    file = cast(BinaryIO, source)
    if not hasattr(file, "read") or not can_seek(file):
        return False
    start = file.tell()
    head = file.read(len(SIGNATURE))
    file.seek(start)
    return head == SIGNATURE


def _opened(task: Task, limits: Limits | None) -> AbstractContextManager[NervVideo[Any]]:
    """Open the .nerv source. Raises UsageError if an option does not apply to one."""
    source, options = task.source, task.fit_options
    is_open = isinstance(source, NervVideo)
    given = {*changed_options(task.reading)} - {*TRACKS}
    if "fps" in given:
        given = given - {"fps"} | {"source_fps"}
    defaults = replace(FitOptions(), device=options.device if not is_open else "auto")
    given |= {
        f.name for f in fields(options) if getattr(options, f.name) != getattr(defaults, f.name)
    }
    given |= {"restart"} if task.restart else set()
    given |= {"fit"} if task.fit_requested and not given else set()
    if given:
        raise UsageError(
            f"{_name_of(source)}: {option(min(given))} does not apply to a .nerv file, "
            "whose stored network is used without a fit; leave it out"
        )
    if is_open:
        return nullcontext(source)
    data = bytes(source) if isinstance(source, (bytearray, memoryview)) else source
    return NervVideo(data, device=options.device, limits=limits)


def _name_of(source: Any) -> str:
    """Return the name of a .nerv source for messages."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "these bytes"
    return name_of(source) if hasattr(source, "read") else str(source)


def _decoded(task: Task, video: NervVideo[Any]) -> Clip:
    """Return all frames of a .nerv file as a clip."""
    tracks = Edit(**select(task.reading, TRACKS))
    frames = video[:] if video.output == NUMPY else video[:].permute(0, 2, 3, 1).cpu().numpy()
    clip = Clip(
        frames=frames,
        timing=video.timing,
        sample_aspect_ratio=video.header.sample_aspect_ratio,
        colour=Colour.from_dict(video.header.colour),
        tracks=[track for track in video.tracks if tracks.keeps(track.kind)],
        extras=video.file.extras(),
    )
    task.announce(clip)
    return clip


def _note_boundaries(task: Task, interpolator: StoredInterpolator, positions: np.ndarray) -> int:
    """Return how many new frames lie between two segments, and note how they are made."""
    if count := interpolator.count_across(positions):
        task.note(
            f"{count} of the new frames lie between two segments, which share no network: they "
            "are interpolated along the optical flow, and at a cut they repeat the nearer frame"
        )
    return count


def _multiplied(timing: Timing, factor: int) -> tuple[Timing, np.ndarray]:
    """Resample to `factor` frames for each."""
    _check_count(factor * len(timing))
    ends = np.append(timing.pts[1:], timing.pts[-1] + timing.duration)
    parts = np.arange(factor)
    pts = timing.pts[:, None] * factor + parts * (ends - timing.pts)[:, None]
    positions = (np.arange(len(timing))[:, None] + parts / factor).ravel()
    denser = Timing(pts.ravel(), timing.time_base / factor, timing.duration)
    return denser, positions.clip(max=len(timing) - 1)


def _at_rate(timing: Timing, rate: Fraction) -> tuple[Timing, np.ndarray]:
    """Resample to a constant frame rate."""
    if rate <= timing.fps:
        raise UsageError(
            f"{option('fps')} must be above the source's {float(timing.fps):.6g}, not "
            f"{float(rate):.6g}"
        )
    start, end = timing.seconds
    count = max(1, round((end - start) * rate))
    _check_count(count)
    # This time base places the first frame accurately, and fits the 31-bit units of containers.
    base = 1 / rate / UNITS_PER_FRAME
    first, step = round(start / base), UNITS_PER_FRAME
    pts = first + step * np.arange(count, dtype=np.int64)
    elapsed = timing.pts - timing.pts[0]
    times = np.arange(count) * float(1 / rate / timing.time_base)
    positions = np.interp(times, elapsed, np.arange(len(elapsed)))
    exact = np.abs(positions - positions.round()) < 1e-6
    return Timing(pts, base, step), np.where(exact, positions.round(), positions)


def _check_count(count: int) -> None:
    if count > MOST_FRAMES:
        raise UsageError(
            f"the output would have {count:,} frames; at most {MOST_FRAMES:,} are allowed"
        )


def _frames_at(
    frames: np.ndarray, positions: np.ndarray, interpolator: Interpolator | StoredInterpolator
) -> Iterator[np.ndarray]:
    """Yield the frames at `positions`. Frames of the source are not changed."""
    for place in positions:
        yield frames[int(place)] if place == int(place) else to_uint8(interpolator.at(place))
