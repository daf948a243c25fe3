"""Writing of videos to any output; the name chooses the format."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nervkit.choices import CodecName
from nervkit.errors import UsageError
from nervkit.keywords import checked_keywords, option, setting
from nervkit.lock import locked
from nervkit.output import (
    check_output,
    is_pipe,
    link_target,
    output_name,
    replacing,
    system_errors,
)
from nervkit.video.movies import MOVIE_SUFFIXES, MovieOptions, write_movie
from nervkit.video.numbered import IMAGE_SUFFIXES, Numbered, save_image
from nervkit.video.reader import VideoSource, read_clip
from nervkit.video.stream import Stream
from nervkit.video.y4m import write_y4m, y4m_format

FILE_SUFFIXES = (*MOVIE_SUFFIXES, ".y4m", ".npy")


@checked_keywords
def write(
    source: VideoSource,
    output: str | os.PathLike[str],
    *,
    fps: str | float | Fraction | None = None,
    codec: CodecName | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write a Clip with its timestamps, audio and subtitles, as far as the output can hold them.

    Args:
        source: a Clip, or any source of `read_clip`, such as an array of frames.
        output: a movie (.mp4, .mkv, .mov, .webm), .y4m, .npy, a folder of images, a pattern such as
            "frames/%05d.png", or "-" for y4m on standard output, as for `decode`.
        fps: frame rate of a source that has none (default 25).
        codec, crf, pixel_format: options of movies; y4m takes pixel_format.
        overwrite: replace an existing output.
        on_progress: called with (frames done, total frames).

    Returns:
        Notes: one line for everything that the output cannot hold.

    Raises:
        UsageError, SourceError, OutputError: see nervkit.errors.
    """
    name, options = output_name(output), MovieOptions(codec, crf, pixel_format)
    check_destination(name, options, overwrite, source)
    clip = read_clip(source, fps=fps)
    count, height, width, _ = clip.shape

    def frames() -> Iterator[np.ndarray]:
        for done, frame in enumerate(clip.frames, start=1):
            yield frame
            if on_progress is not None:
                on_progress(done, count)

    stream = Stream(
        frames=frames(),
        width=width,
        height=height,
        timing=clip.timing,
        sample_aspect_ratio=clip.sample_aspect_ratio,
        colour=clip.colour,
        tracks=tuple(clip.tracks),
        extras=clip.extras,
    )
    return write_video(name, stream, options)


def check_destination(
    output: str,
    options: MovieOptions,
    overwrite: bool,
    source: object = None,
    single: bool = False,
) -> None:
    """Raise, before any work, if `output` cannot be written, has an unknown format, would replace
    the source, or does not fit `options`. `single`: only one frame is written, which may go to an
    image file."""
    if not output:
        raise UsageError("the output name is empty")
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix in MOVIE_SUFFIXES:
        options.codec_for(suffix)
    elif options.codec is not None or options.crf is not None:
        raise UsageError(
            f"{option('codec')} and {option('crf')} are for {', '.join(MOVIE_SUFFIXES)}, not "
            f"{output}"
        )
    elif options.pixel_format is not None:
        piped = output == "-" or is_pipe(path)
        if suffix != ".y4m" and not (piped and suffix != ".npy"):
            raise UsageError(f"{option('pixel_format')} is for movies and y4m, not {output}")
        y4m_format(options)
    if output == "-":
        return
    with system_errors(path):
        if is_pipe(path):
            if suffix in MOVIE_SUFFIXES:
                raise UsageError(f"{output}: a movie must be a file, not a pipe; pipe y4m instead")
        elif (images := _images(output)) is not None:
            images.check(overwrite, source)
        elif suffix in FILE_SUFFIXES or (single and suffix in IMAGE_SUFFIXES):
            check_output(path, overwrite, source)
        elif suffix in IMAGE_SUFFIXES:
            raise UsageError(
                f"{output}: an image file holds one frame; use a pattern (frames/%05d.png), or "
                ""
                f"decode one frame ({setting('frames', 5)})"
            )
        else:
            raise UsageError(
                f"{output}: unknown output format; use {', '.join(FILE_SUFFIXES)}, "
                "a folder, a pattern such as frames/%05d.png, or - for y4m on standard output"
            )


def write_video(output: str, stream: Stream, options: MovieOptions) -> list[str]:
    """Write `stream` to `output`; `check_destination` lists the formats.

    Returns:
        Notes: one line for everything that the output cannot hold.

    Raises:
        OutputError: the output cannot be written.
        UsageError: the options do not fit the output format.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if output == "-":
        return write_y4m(sys.stdout.buffer, stream, options) + _lost(stream, "y4m")
    if is_pipe(path):
        with system_errors(path), path.open("ab") as file:  # respects >> of a shell
            return _write_plain(file, suffix, stream, options)
    with locked(place_of(output)):
        if (images := _images(output)) is not None:
            return images.write(stream.frames, len(stream.timing)) + _lost(stream, "images")
        with replacing(path) as partial:
            if suffix in MOVIE_SUFFIXES:
                return write_movie(path, partial, stream, options)
            if suffix in IMAGE_SUFFIXES:
                (frame,) = stream.frames
                save_image(frame, partial)
                return _lost(stream, "an image")
            with partial.open("wb") as file:
                return _write_plain(file, suffix, stream, options)


def place_of(output: str) -> Path | None:
    """Return the path beside which helper files of `output` go, such as a lock; None for a pipe."""
    path = Path(output)
    if output == "-" or is_pipe(path):
        return None
    images = _images(output)
    return link_target(path) if images is None else images.place


def _images(output: str) -> Numbered | None:
    """Return the numbered images that `output` names, or None if it names a single file."""
    if Path(output).suffix.lower() in FILE_SUFFIXES and not output.endswith("/"):
        return None
    return Numbered.named(output)


def _write_plain(file: BinaryIO, suffix: str, stream: Stream, options: MovieOptions) -> list[str]:
    """Write a format that can be piped: .npy, else y4m."""
    if suffix == ".npy":
        _write_array(file, stream)
        return _lost(stream, ".npy")
    return write_y4m(file, stream, options) + _lost(stream, "y4m")


def _write_array(file: BinaryIO, stream: Stream) -> None:
    """Write frames as .npy one by one: `np.save` would need all of them in memory."""
    head = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
        "fortran_order": False,
        "shape": (len(stream.timing), stream.height, stream.width, 3),
    }
    np.lib.format.write_array_header_1_0(file, head)
    for frame in stream.frames:
        file.write(np.ascontiguousarray(frame).data)


def _lost(stream: Stream, kind: str) -> list[str]:
    """Return notes on what images, arrays and y4m cannot hold."""
    lost = sorted({track.kind for track in stream.tracks})
    extras = stream.extras
    lost += [name for name in ("tags", "chapters", "attachments") if getattr(extras, name)]
    notes = []
    if lost:
        notes.append(f"{kind} cannot hold the {' and '.join(lost)}: left out")
    if not stream.timing.constant:
        notes.append(f"{kind} cannot hold variable timing: written at the mean frame rate")
    return notes
