"""Frames to any output, chosen by its name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio.v3 as iio
import numpy as np

from nervkit.container.extras import Extras
from nervkit.container.timing import Timing
from nervkit.container.track import Track
from nervkit.errors import OutputError, UsageError
from nervkit.output import check_output, replacing, temporary
from nervkit.video.colour import Colour
from nervkit.video.movies import MOVIE_SUFFIXES, MovieOptions, write_movie, write_y4m

IMAGE_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".webp")


@dataclass(frozen=True)
class Stream:
    """What is written: frames in order, and all that belongs to them."""

    frames: Iterable[np.ndarray]  # (H, W, 3) uint8 each
    width: int
    height: int
    timing: Timing
    sample_aspect_ratio: Fraction = Fraction(1)
    colour: Colour = field(default_factory=Colour)
    tracks: tuple[Track, ...] = ()
    extras: Extras = field(default_factory=Extras)
    window: tuple[Fraction, Fraction] | None = None  # of tracks and chapters, in seconds


def check_destination(
    output: str, options: MovieOptions, overwrite: bool, source: object = None
) -> None:
    """Raise, before any work, where `output` cannot be written, is of no known kind, or does not
    go with `options`."""
    path = Path(output)
    if path.suffix.lower() in MOVIE_SUFFIXES:
        options.codec_for(path.suffix.lower())
    elif options.codec is not None or options.crf is not None:
        raise UsageError(f"--codec and --crf are for {', '.join(MOVIE_SUFFIXES)}, not {output}")
    if output == "-":
        return
    if "%" in path.name:
        check_output(path.with_name(_frame_name(path.name, 0)), overwrite)
    elif not _is_folder(output) and path.suffix.lower() not in (*MOVIE_SUFFIXES, ".y4m", ".npy"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise UsageError(f"{output}: one file for many frames; use a pattern: frames/%05d.png")
        raise UsageError(
            f"{output}: unknown kind of output; use {', '.join(MOVIE_SUFFIXES)}, .y4m, .npy, "
            "a folder, a pattern such as frames/%05d.png, or - for y4m on standard output"
        )
    else:
        check_output(path, overwrite, source)


def write_video(output: str, stream: Stream, options: MovieOptions) -> list[str]:
    """Write `stream` to `output`; see `check_destination` for its kinds.

    Returns:
        Notes: one line for everything that the output could not hold.

    Raises:
        OutputError: the output cannot be written.
        UsageError: the options do not fit the kind of output.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if output == "-":
        return write_y4m(sys.stdout.buffer, stream, options) + _lost(stream, "y4m")
    if "%" in path.name:
        with (
            TemporaryDirectory(dir=path.parent, prefix=".partial") as partial,
            temporary(Path(partial)),
        ):
            _write_images(Path(partial), path.name, stream)
            for image in Path(partial).iterdir():
                image.replace(path.parent / image.name)
        return _lost(stream, "images")
    if _is_folder(output):
        with replacing(path) as partial:
            partial.mkdir()
            _write_images(partial, "%05d.png", stream)
            if path.is_dir():
                _clear_frames(path)
        return _lost(stream, "images")
    with replacing(path) as partial:
        if suffix == ".npy":
            _write_array(partial, stream)
            return _lost(stream, ".npy")
        if suffix == ".y4m":
            with partial.open("wb") as file:
                return write_y4m(file, stream, options) + _lost(stream, "y4m")
        return write_movie(partial, stream, options)


def _is_folder(output: str) -> bool:
    return output.endswith("/") or Path(output).is_dir() or not Path(output).suffix


def _write_images(folder: Path, pattern: str, stream: Stream) -> list[str]:
    for index, frame in enumerate(stream.frames):
        path = folder / _frame_name(pattern, index)
        try:
            iio.imwrite(path, frame)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return []


def _frame_name(pattern: str, index: int) -> str:
    suffix = Path(pattern).suffix.lower()
    if not re.fullmatch(r"[^%]*%(0?\d*)d[^%]*", pattern) or suffix not in IMAGE_SUFFIXES:
        raise UsageError(
            f"{pattern}: a pattern needs one number and a known suffix, such as %05d.png "
            f"({', '.join(IMAGE_SUFFIXES)})"
        )
    return pattern % index


def _clear_frames(folder: Path) -> None:
    """Remove an earlier decode's frames, so that none of them survives a shorter one."""
    for path in folder.iterdir():
        if re.fullmatch(r"\d{5,}\.png", path.name):
            path.unlink()


def _write_array(path: Path, stream: Stream) -> None:
    shape = (len(stream.timing), stream.height, stream.width, 3)
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        for frame in stream.frames:
            file.write(np.ascontiguousarray(frame).data)


def _lost(stream: Stream, kind: str) -> list[str]:
    notes = []
    if stream.tracks:
        kinds = " and ".join(sorted({track.kind for track in stream.tracks}))
        notes.append(f"{kind} cannot hold the {kinds}: left out")
    if not stream.timing.constant:
        notes.append(f"{kind} cannot hold variable timing: written at the mean rate")
    return notes
