"""Decode a .nerv file to a movie, images, y4m or an array, or copy its audio."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from nervkit.choices import CodecName
from nervkit.container.file import Checks, NervFile
from nervkit.container.header import Header
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.decoder import NervVideo, OnProgress, prefetched, with_progress
from nervkit.errors import UsageError
from nervkit.keywords import checked_keywords, option, setting
from nervkit.media.timing import Timing
from nervkit.models.device import Device
from nervkit.output import output_name
from nervkit.video.audio import check_sound_destination, is_audio, write_audio
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video

Window = tuple[Fraction, Fraction]  # start and end in seconds


@dataclass(frozen=True)
class DecodeReport:
    """The result of a decode.

    `psnr` and `ssim` are those that the encoder measured over the whole file. `seconds` is wall
    time from opening the file until the output is in place.
    """

    output: str
    frames: int
    width: int
    height: int
    fps: float
    model: str
    parameters: int
    bytes: int
    bpp: float
    psnr: float | None
    ssim: float | None
    seconds: float
    frames_per_second: float
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


@checked_keywords
def decode(
    source: NervSource,
    output: str | os.PathLike[str],
    *,
    frames: str | int | slice | None = None,
    start: str | float | None = None,
    to: str | float | None = None,
    duration: str | float | None = None,
    resize: str | int | tuple[int, int] | None = None,
    audio: bool = True,
    subtitles: bool = True,
    salvage: bool = False,
    codec: CodecName | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> DecodeReport:
    """Decode a .nerv file to a movie, y4m, images or an array, or copy its audio. The extension of
    the output selects which.

    Args:
        source: a .nerv file, as for `NervVideo`.
        output: .mp4, .mkv, .mov, .webm, .y4m, .npy, a folder, a pattern such as "f/%05d.png", or
            "-" for y4m on standard output; .png, .jpg, .webp or .tiff for one frame (`frames=5`).
            .m4a and .mka take the audio: only the parts that are written are read, and no frame
            is decoded.
        frames: "a:b", a slice or a frame number: decode only these frames, from the segments that
            contain them.
        start: skip frames that begin before this time of the file's timeline: seconds, "1.5m",
            "MM:SS" or "HH:MM:SS". Audio, subtitles and chapters are trimmed to the same interval.
        to: stop before frames that begin at this time.
        duration: length of the interval from `start`, instead of `to`.
        resize: size of the output, as for `read_clip`.
        audio, subtitles: whether to copy these tracks.
        salvage: decode the intact segments of a truncated or damaged file. `notes` list what is
            lost. The frames keep their times.
        codec: x264, x265, vp9, av1 (visually lossless by default), ffv1 or x264rgb (lossless), or
            an ffmpeg name: h264, libx264, hevc, ...
        crf: quality of a lossy codec; lower is better.
        pixel_format: of a movie or y4m, such as "yuv444p".
        overwrite: replace an existing output.
        device: as for `NervVideo`.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, total frames).

    Raises:
        FormatError: the source is not a valid .nerv file.
        SourceError: as for `NervVideo`; so are LimitError and ResourceError.
        OutputError: the output exists, or cannot be written.
        UsageError: an option is invalid or does not apply, or no frame is selected.
    """
    began = time.perf_counter()
    output = output_name(output)
    options = MovieOptions(codec, crf, pixel_format)
    edit = Edit.from_options(
        start, to, duration, frames, resize=resize, audio=audio, subtitles=subtitles
    )
    if frames is not None and (start, to, duration) != (None, None, None):
        raise UsageError(
            f"{option('frames')} selects by number, {option('start')}, {option('to')} and "
            f"{option('duration')} by time; give one kind"
        )
    if is_audio(output):
        if resize is not None or not audio:
            raise UsageError(
                f"{output}: holds audio only; "
                f"{option('resize')} and {setting('audio', False)} do not apply"
            )
        check_sound_destination(output, options, overwrite, source)
        with NervFile(source, limits, salvage=salvage) as file:
            return _copy_audio(file, output, edit, began)
    single = edit.stop == edit.first + 1
    check_destination(output, options, overwrite, source, single)
    with NervVideo(source, device=device, limits=limits, salvage=salvage) as video:
        return _write_frames(video, output, options, edit, on_progress, began)


def _write_frames(
    video: NervVideo[np.ndarray],
    output: str,
    options: MovieOptions,
    edit: Edit,
    on_progress: OnProgress | None,
    began: float,
) -> DecodeReport:
    """Decode the selected frames and write them with their audio and subtitles."""
    first, stop = selected_frames(video.timing, edit)
    video.check(first, stop)
    header, count = video.header, stop - first
    checks = video.file.checks()  # a damaged one is found before the output is written
    frames = map(edit.shape, prefetched(video.frames(first, stop)))
    stream = _stream(
        video.file,
        with_progress(frames, count, on_progress),
        (first, stop),
        size=edit.resized(header.width, header.height),
        sample_aspect_ratio=edit.sample_aspect_ratio(
            header.sample_aspect_ratio, header.width, header.height
        ),
        edit=edit,
    )
    with video.file.naming():
        notes = video.file.notes + write_video(output, stream, options)
    return _report(video.file, header, output, stream, notes, began, frames=count, checks=checks)


def _copy_audio(file: NervFile, output: str, edit: Edit, began: float) -> DecodeReport:
    """Copy the audio of the selected frames."""
    header = file.header
    stream = _stream(
        file,
        (),
        selected_frames(file.timing, edit),
        size=(header.width, header.height),
        sample_aspect_ratio=header.sample_aspect_ratio,
    )
    with file.naming():
        notes = file.notes + write_audio(output, stream)
    return _report(file, header, output, stream, notes, began)


def _stream(
    file: NervFile,
    frames: Iterable[np.ndarray],
    selected: tuple[int, int],
    *,
    size: tuple[int, int],
    sample_aspect_ratio: Fraction,
    edit: Edit | None = None,
) -> Stream:
    """Return the stream of frames [first, stop) with the file's tracks, as far as `edit` keeps
    them."""
    timing, window = _trimmed(file, *selected)
    width, height = size
    return Stream(
        frames=frames,
        width=width,
        height=height,
        timing=timing,
        sample_aspect_ratio=sample_aspect_ratio,
        colour=Colour.from_dict(file.header.colour),
        tracks=tuple(t for t in file.tracks(window) if edit is None or edit.keeps(t.kind)),
        extras=file.extras(),
        window=window,
    )


def _report(
    file: NervFile,
    header: Header,
    output: str,
    stream: Stream,
    notes: list[str],
    began: float,
    *,
    frames: int = 0,
    checks: Checks | None = None,
) -> DecodeReport:
    seconds = time.perf_counter() - began
    return DecodeReport(
        output=output,
        frames=frames,
        width=stream.width,
        height=stream.height,
        fps=float(stream.timing.fps),
        model=header.segments[0].model,
        parameters=header.values,
        bytes=file.size,
        bpp=file.bpp,
        psnr=checks.psnr if checks else None,
        ssim=checks.ssim if checks else None,
        seconds=seconds,
        frames_per_second=frames / seconds,
        notes=notes,
    )


def _trimmed(file: NervFile, first: int, stop: int) -> tuple[Timing, Window | None]:
    """Return the timing of frames [first, stop), shifted to start at 0, and the interval that they
    cover. For the whole video, return its own timing and None."""
    timing = file.timing[first:stop]
    if (first, stop) == (0, file.header.frames) and not file.notes:
        return timing, None
    return Timing(timing.pts - timing.pts[0], timing.time_base, timing.duration), timing.seconds


def selected_frames(timing: Timing, edit: Edit) -> tuple[int, int]:
    """Return the frames [first, stop) that `edit` selects by number or by time. Raises UsageError
    if it selects none."""
    count = len(timing)
    if not edit.start and edit.to is None:
        stop = count if edit.stop is None else min(edit.stop, count)
        if edit.first >= stop:
            chosen = edit.to_dict()["frames"]
            raise UsageError(f"frames {chosen} selects nothing: there are {count} frames")
        return edit.first, stop
    ended = timing.seconds[1]
    if edit.start >= ended:
        raise UsageError(
            f"{option('start')} {float(edit.start):g} is beyond the end: the video ends at "
            f"{float(ended):g} s"
        )
    before = ended if edit.to is None else edit.to
    first, stop = (
        int(np.searchsorted(timing.pts, ceil(min(time, ended) / timing.time_base)))
        for time in (edit.start, before)
    )
    if first >= stop:
        raise UsageError(f"no frame begins from {float(edit.start):g} s to {float(before):g} s")
    return first, stop
