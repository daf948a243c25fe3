"""More frames between frames: a fitted representation asked for fractional positions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np

from nervkit.container.limits import Limits
from nervkit.decoder import NUMPY, NervVideo
from nervkit.errors import UsageError
from nervkit.fitting.options import FitOptions
from nervkit.media.timing import Timing
from nervkit.restoration.between import Between
from nervkit.restoration.kinds import Given, pixels
from nervkit.restoration.stored import StoredFits
from nervkit.restoration.task import Fitted, RestoreReport, Task, UntimedRestoreOptions
from nervkit.units import parse_rate
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.reader import FileSource, VideoSource, changed_options

MOST_FRAMES = 1_000_000  # of an output: a mistyped rate should not fill the disk
UNITS_PER_FRAME = 1_000
TRACKS = ("audio", "subtitles")  # options of reading that a .nerv file takes


@overload
def interpolate(
    source: VideoSource | NervVideo,
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
    source: Given,
    output: None = None,
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> Given: ...
@overload
def interpolate(
    source: FileSource | Clip | NervVideo,
    output: None = None,
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> Clip: ...
def interpolate(
    source: VideoSource | NervVideo,
    output: str | os.PathLike[str] | None = None,
    *,
    factor: int | None = None,
    fps: str | float | Fraction | None = None,
    source_fps: str | float | Fraction | None = None,
    limits: Limits | None = None,
    **options: Unpack[UntimedRestoreOptions],
) -> Any:
    """Show a video at a higher frame rate.

    For each new frame, both neighbours are warped to its time along their optical flow. Where they
    agree, their mean is the new frame. Elsewhere it is the mean without a fit, or with one the
    prediction of a representation at the fractional position (embeddings and grids are interpolated
    linearly, as in HNeRV, 2304.02633); see `Between`. By default no fit is made, since it gains
    next to nothing. The source's frames are not changed. The last frame is repeated where new
    frames come after it.

    Args:
        source: whatever `read_clip` takes; or a .nerv file or an open NervVideo, whose stored
            representation is used without a fit (`StoredFits`).
        output: as for `decode`. None returns the frames instead.
        factor: multiply the number of frames by this, 2 or more. Give either `factor` or `fps`.
        fps: a constant frame rate above the source's, such as 60 or "60000/1001".
        source_fps: frame rate of images, arrays and raw video; 25 by default.
        limits: for a .nerv file, as for `NervVideo`.
        **options: `fit` (bool: whether to make one), and the options of fitting (`encode`), reading
            (`read_clip`) and writing (`decode`); see `Task`.

    Returns:
        With `output`, a RestoreReport. Without, an array or tensor like the source's, or a Clip
        with the new timing where the source is a path.

    Raises:
        UsageError: an option is not understood or does not fit.
        SourceError: the source cannot be read.
        FormatError: the source is not a valid .nerv file.
        OutputError: the output exists, or cannot be written.
        Interrupted: the user stopped the work.
    """
    if source_fps is not None:
        options["fps"] = source_fps
    task = Task(interpolate, source, output, **options)
    if (factor is None) == (fps is None):
        raise UsageError("give one of factor and fps")
    if factor is not None and (factor != int(factor) or factor < 2):
        raise UsageError(f"factor must be a whole number from 2 on, not {factor}")
    if fps is not None:
        fps = parse_rate(fps)
    stored = isinstance(source, NervVideo) or (
        isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".nerv"
    )
    with _opened(task, limits) if stored else nullcontext() as video:
        clip = task.read() if video is None else _decoded(task, video)
        timing, places = _multiplied(clip.timing, int(factor)) if factor else _at_rate(clip, fps)
        new = places != np.floor(places)
        details = {"new_frames": int(new.sum()), "between_segments": 0}
        fitted: Fitted | StoredFits | None = None
        if video is not None:
            fitted = between = StoredFits(video, clip.frames)
            details["between_segments"] = _note_borders(task, between, places)
        else:
            fitted = task.fit(clip.frames) if task.fit_wanted else None
            between = Between(clip.frames, fitted)
        return task.deliver(
            clip,
            _shown(clip.frames, places, between),
            fitted,
            timing=timing,
            changed=new[:, None, None],
            places=places.astype(int),
            details=lambda: details,
        )


def _opened(task: Task, limits: Limits | None) -> AbstractContextManager[NervVideo]:
    """The .nerv file that is the source. Raises UsageError where an option is of a fit."""
    source, fit = task.source, task.options
    opened = isinstance(source, NervVideo)
    given = {*changed_options(task.reading)} - {*TRACKS}
    defaults = replace(FitOptions(), device=fit.device if not opened else "auto")
    given |= {f.name for f in fields(fit) if getattr(fit, f.name) != getattr(defaults, f.name)}
    given |= {"restart"} if task.restart else set()
    given |= {"fit"} if task.fit_wanted and not given else set()
    if given:
        raise UsageError(
            f"{source}: a .nerv file is taken as it is and not fitted again: "
            f"--{sorted(given)[0].replace('_', '-')} does not apply"
        )
    return nullcontext(source) if opened else NervVideo(source, device=fit.device, limits=limits)


def _decoded(task: Task, video: NervVideo) -> Clip:
    """The clip of a .nerv file."""
    kept = Edit(**{k: v for k, v in task.reading.items() if k in TRACKS})
    frames = video[:] if video.output == NUMPY else video[:].permute(0, 2, 3, 1).cpu().numpy()
    clip = Clip(
        frames=frames,
        timing=video.timing,
        sample_aspect_ratio=video.header.sample_aspect_ratio,
        colour=Colour.from_dict(video.header.colour),
        tracks=[track for track in video.tracks if kept.keeps(track.kind)],
        extras=video.file.extras(),
    )
    task.on_clip(clip)
    return clip


def _note_borders(task: Task, fits: StoredFits, places: np.ndarray) -> int:
    """Say what new frames between two segments are made of. Returns how many there are."""
    if count := fits.count_across(places):
        task.note(
            f"{count} of the new frames lie between two segments, which share no network: they are "
            "made from their neighbours along the motion, and at a cut they repeat the nearer one"
        )
    return count


def _multiplied(timing: Timing, factor: int) -> tuple[Timing, np.ndarray]:
    """`factor` frames for each: their timing and their places among the frames (N,)."""
    _check_count(factor * len(timing))
    ends = np.append(timing.pts[1:], timing.pts[-1] + timing.duration)
    parts = np.arange(factor)
    pts = timing.pts[:, None] * factor + parts * (ends - timing.pts)[:, None]
    places = (np.arange(len(timing))[:, None] + parts / factor).ravel()
    denser = Timing(pts.ravel(), timing.time_base / factor, timing.duration)
    return denser, places.clip(max=len(timing) - 1)


def _at_rate(clip: Clip, rate: Fraction) -> tuple[Timing, np.ndarray]:
    """A constant rate: the timing of its frames and their places among the clip's (N,)."""
    timing = clip.timing
    if rate <= timing.fps:
        raise UsageError(
            f"fps must be above the source's {float(timing.fps):.6g}, not {float(rate):.6g}"
        )
    start, end = timing.seconds
    count = max(1, round((end - start) * rate))
    _check_count(count)
    # The first frame is on a raster fine enough, and not finer: containers hold units of 31 bits.
    base = 1 / rate / UNITS_PER_FRAME
    first, step = round(start / base), UNITS_PER_FRAME
    pts = first + step * np.arange(count, dtype=np.int64)
    shown = timing.pts - timing.pts[0]
    times = np.arange(count) * float(1 / rate / timing.time_base)
    places = np.interp(times, shown, np.arange(len(shown)))
    exact = np.abs(places - places.round()) < 1e-6
    return Timing(pts, base, step), np.where(exact, places.round(), places)


def _check_count(count: int) -> None:
    if count > MOST_FRAMES:
        raise UsageError(f"this makes {count:,} frames; at most {MOST_FRAMES:,} are made")


def _shown(
    frames: np.ndarray, places: np.ndarray, between: Between | StoredFits
) -> Iterator[np.ndarray]:
    """The frames at `places`; those that exist are as they are."""
    for place in places:
        yield frames[int(place)] if place == int(place) else pixels(between.at(place))
