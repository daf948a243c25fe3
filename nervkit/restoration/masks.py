"""Masks of the unknown pixels of a video, from boxes, arrays, images and movies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nervkit.errors import SourceError, UsageError
from nervkit.keywords import either, select
from nervkit.video.arrays import is_array
from nervkit.video.edit import Edit
from nervkit.video.images import EXTENSIONS, ImageSource, is_pattern
from nervkit.video.reader import (
    ReadingOptions,
    exists,
    open_array,
    open_source,
)
from nervkit.video.source import Source
from nervkit.video.streams import DEFAULT_FPS

if TYPE_CHECKING:
    from torch import Tensor

Mask: TypeAlias = "str | os.PathLike[str] | np.ndarray | Tensor"

LOSSY_THRESHOLD = 128  # lossy compression blurs edges; in lossless masks every nonzero value counts
LOSSY = {".jpg", ".jpeg", ".webp"}

TRIMMING = ("start", "to", "duration", "frames")

BOX = re.compile(r"(?:(\d+),(\d+),(\d+),(\d+))?(?:@(\d*):(\d*))?")


def read_mask(
    mask: Mask | None,
    boxes: Sequence[str],
    shape: tuple[int, ...],
    reading: ReadingOptions,
    skipped: int = 0,
) -> np.ndarray:
    """Return the union of a mask and boxes.

    Args:
        mask: an array or tensor (H, W) or (T, H, W), optionally with 1 or 3 channels, that is
            nonzero where unknown; the path of such an array; or the path of an image (for all
            frames), or of images or a movie (one picture for each frame), not black where unknown
            (lossy formats: brighter than half).
        boxes: each "x,y,w,h", "x,y,w,h@a:b" (frames a to b - 1) or "@a:b" (entire frames).
        shape: (T, H, W) of the video.
        reading: the `read_clip` options of the video. Mask files are trimmed, cropped and resized
            with it; a resized pixel is unknown if any part of it was. Arrays and boxes refer to the
            frames after that.
        skipped: how many frames of the video `reading` skips at the start.

    Returns:
        (T, H, W) bool, True where unknown.

    Raises:
        UsageError: the mask has another size, or nothing or everything is unknown; see also
            `check_mask`.
        SourceError: the mask cannot be read.
    """
    unknown = np.zeros(shape, bool)
    for box in boxes:
        unknown[_box(box, shape)] = True
    if mask is not None:
        given = load_mask(mask, shape, reading, skipped)
        if given.shape[-2:] != shape[1:] or given.shape[:-2] not in ((), (1,), shape[:1]):
            raise UsageError(
                f"{_name(mask)}: the mask is {_size(given.shape)}, the video {_size(shape)}"
            )
        unknown |= given
    if not unknown.any():
        raise UsageError("the mask is empty: select at least one pixel")
    if unknown.all(axis=(1, 2)).all():
        raise UsageError("the mask selects every pixel of every frame: leave some out")
    return unknown


def load_mask(
    mask: Mask, shape: tuple[int, ...], reading: ReadingOptions, skipped: int = 0
) -> np.ndarray:
    """Return the (H, W) or (T, H, W) bool array of a mask, of any size; arguments as in
    `read_mask`."""
    if isinstance(mask, (str, os.PathLike)):
        return _from_file(mask, shape, reading, skipped)
    return _from_array(mask)


def check_mask(mask: Mask | None, boxes: Sequence[str]) -> None:
    """Check mask and boxes before any work.

    Raises:
        UsageError: both are missing, the mask is of another type, or a box is malformed.
        SourceError: the file of the mask does not exist.
    """
    if mask is None and not boxes:
        raise UsageError(
            either(
                "no pixel is selected: give --mask or --box x,y,w,h",
                "no pixel is selected: give mask, or boxes such as ['x,y,w,h']",
            )
        )
    for box in boxes:
        _parsed(box)
    if isinstance(mask, (str, os.PathLike)):
        name = os.fspath(mask)
        if not (exists(name) or is_pattern(name)):
            raise SourceError(f"{mask}: no such file or folder")
    elif mask is not None and not is_array(mask):
        kind = type(mask).__name__
        raise UsageError(f"a mask must be a path, an array or a tensor, not {kind}")


def _parsed(text: str) -> re.Match[str]:
    match = BOX.fullmatch(str(text).strip())
    if not text or match is None:
        raise UsageError(f"a box must be x,y,w,h, x,y,w,h@a:b or @a:b, not {text!r}")
    return match


def _box(text: str, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    match = _parsed(text)
    frames, height, width = shape
    x, y, w, h = (int(part) for part in match.groups()[:4]) if match[1] else (0, 0, width, height)
    first, stop = int(match[5] or 0), int(match[6] or frames)
    if not (w and h and x < width and y < height and first < min(stop, frames)):
        raise UsageError(f"box {text} lies outside the {frames} frames of {width}x{height}")
    return slice(first, stop), slice(y, y + h), slice(x, x + w)


def _from_array(mask: np.ndarray | Tensor) -> np.ndarray:
    nonzero = mask != 0
    values = nonzero if isinstance(nonzero, np.ndarray) else nonzero.cpu().numpy()
    if values.ndim == 4 and (values.shape[3] in (1, 3) or values.shape[1] == 1):
        values = values.any(axis=3 if values.shape[3] in (1, 3) else 1)
    if values.ndim not in (2, 3):
        raise UsageError(f"a mask must be (H, W) or (T, H, W), not {tuple(values.shape)}")
    return values


def _from_file(
    mask: str | os.PathLike[str], shape: tuple[int, ...], reading: ReadingOptions, skipped: int
) -> np.ndarray:
    path = Path(mask)
    pictures: Iterable[np.ndarray]
    if path.suffix.lower() == ".npy":
        array = _from_array(open_array(path))
        array = array if array.ndim == 3 else array[None]
        pictures, still = array, len(array) == 1
    else:
        still = path.suffix.lower() in EXTENSIONS and path.is_file()
        source = ImageSource([path], str(path), DEFAULT_FPS) if still else open_source(mask, Edit())
        pictures = _binary(source)
    if Edit.from_options(**select(reading, TRIMMING)).trims and not still:
        pictures = islice(pictures, skipped, skipped + shape[0])
    edit = Edit.from_options(crop=reading.get("crop"), resize=reading.get("resize"))
    shaped = [edit.shape(picture * np.uint8(255)) > 0 for picture in pictures]
    if len({picture.shape for picture in shaped}) != 1:
        problem = "differ in size" if shaped else f"end before frame {skipped}"
        raise SourceError(f"{mask}: the pictures of the mask {problem}")
    return np.stack(shaped)


def _binary(source: Source) -> Iterator[np.ndarray]:
    """Yield a mask (H, W) bool for each picture of a source."""
    threshold = LOSSY_THRESHOLD
    if isinstance(source, ImageSource) and source.paths[0].suffix.lower() not in LOSSY:
        threshold = 1
    for picture in source.pictures():
        yield picture.rgb().max(axis=2) >= threshold


def _size(shape: tuple[int, ...]) -> str:
    size = f"{shape[-1]}x{shape[-2]}"
    return size if len(shape) == 2 else f"{shape[0]} frames of {size}"


def _name(mask: Mask) -> str:
    return str(mask) if isinstance(mask, (str, os.PathLike)) else "mask"
