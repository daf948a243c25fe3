"""What is unknown of a video: masks from boxes, arrays, images and movies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nervkit.errors import SourceError, UsageError
from nervkit.video.arrays import is_array, is_tensor
from nervkit.video.edit import Edit
from nervkit.video.images import EXTENSIONS, ImageSource, is_pattern
from nervkit.video.reader import (
    DEFAULT_FPS,
    ReadingOptions,
    exists,
    open_array,
    open_source,
)
from nervkit.video.source import Source

LOSSY_THRESHOLD = 128  # lossy masks have gray edges; others are taken at their word: all but 0
LOSSY = {".jpg", ".jpeg", ".webp"}

TRIMMING = ("start", "to", "duration", "frames")

BOX = re.compile(r"(?:(\d+),(\d+),(\d+),(\d+))?(?:@(\d*):(\d*))?")


def read_mask(
    mask: Any,
    boxes: Sequence[str],
    shape: tuple[int, ...],
    reading: ReadingOptions,
    skipped: int = 0,
) -> np.ndarray:
    """All that is unknown.

    Args:
        mask: (H, W) or (T, H, W) array or tensor, also of 1 or 3 channels, not 0 where unknown; or
            a path to such an array,
            to an image (for all frames), to images or to a movie (one picture for each frame), not
            black where unknown (lossy ones: brighter than half); or None.
        boxes: each "x,y,w,h", "x,y,w,h@a:b" (frames a to b - 1) or "@a:b" (whole frames).
        shape: (T, H, W) of the video.
        reading: the options of `read_clip` that the video was read with. Files of masks are
            trimmed, cropped and resized with it, and pixels of which any part was unknown are.
            Arrays and boxes count in the frames as they are then.
        skipped: how many of the video's frames `reading` left out before the first.

    Returns:
        (T, H, W) bool, True where unknown.

    Raises:
        UsageError: a mask of another size, nothing or all unknown; see `check_mask` for more.
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
        raise UsageError("the mask is empty: nothing is unknown")
    if unknown.all(axis=(1, 2)).all():
        raise UsageError("the mask covers every frame whole: nothing is known")
    return unknown


def load_mask(
    mask: Any, shape: tuple[int, ...], reading: ReadingOptions, skipped: int = 0
) -> np.ndarray:
    """Return the (H, W) or (T, H, W) bool array of a mask, of any size; arguments as in
    `read_mask`."""
    return _from_array(mask) if is_array(mask) else _from_file(mask, shape, reading, skipped)


def check_mask(mask: Any, boxes: Sequence[str]) -> None:
    """Raise, before any work, where neither says what is unknown, a box is not written as one, or
    a mask's file is not there."""
    if mask is None and not boxes:
        raise UsageError("say what is unknown: --mask, or --box x,y,w,h")
    for box in boxes:
        _parsed(box)
    if isinstance(mask, (str, os.PathLike)) and not (
        exists(os.fspath(mask)) or is_pattern(os.fspath(mask))
    ):
        raise SourceError(f"{mask}: no such file or folder")


def _parsed(text: str) -> re.Match[str]:
    match = BOX.fullmatch(str(text).strip())
    if not text or match is None:
        raise UsageError(f"a box is x,y,w,h, x,y,w,h@a:b or @a:b, not {text!r}")
    return match


def _box(text: str, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    match = _parsed(text)
    frames, height, width = shape
    x, y, w, h = (int(part) for part in match.groups()[:4]) if match[1] else (0, 0, width, height)
    first, stop = int(match[5] or 0), int(match[6] or frames)
    if not (w and h and x < width and y < height and first < min(stop, frames)):
        raise UsageError(f"box {text}: nothing of it lies in {frames} frames of {width}x{height}")
    return slice(first, stop), slice(y, y + h), slice(x, x + w)


def _from_array(mask: Any) -> np.ndarray:
    values = mask != 0
    if is_tensor(values):
        values = values.cpu().numpy()
    if values.ndim == 4 and (values.shape[3] in (1, 3) or values.shape[1] == 1):
        values = values.any(axis=3 if values.shape[3] in (1, 3) else 1)
    if values.ndim not in (2, 3):
        raise UsageError(f"a mask must be (H, W) or (T, H, W), not {tuple(values.shape)}")
    return values


def _from_file(
    mask: str | Path, shape: tuple[int, ...], reading: ReadingOptions, skipped: int
) -> np.ndarray:
    path = Path(mask)
    if path.suffix.lower() == ".npy":
        array = _from_array(open_array(path))
        pictures = array if array.ndim == 3 else array[None]
        still = len(pictures) == 1
    else:
        still = path.suffix.lower() in EXTENSIONS and path.is_file()
        source = ImageSource([path], str(path), DEFAULT_FPS) if still else open_source(mask, Edit())
        pictures = _binary(source)
    trims = Edit.from_options(**{k: v for k, v in reading.items() if k in TRIMMING}).trims
    if trims and not still:
        pictures = islice(pictures, skipped, skipped + shape[0])
    edit = Edit.from_options(crop=reading.get("crop"), resize=reading.get("resize"))
    shaped = [edit.shape(picture * np.uint8(255)) > 0 for picture in pictures]
    if len({picture.shape for picture in shaped}) != 1:
        problem = "are not all of one size" if shaped else f"end before frame {skipped}"
        raise SourceError(f"{mask}: the mask's pictures {problem}")
    return np.stack(shaped)


def _binary(source: Source) -> Iterator[np.ndarray]:
    """(H, W) bool of each of a source's pictures."""
    threshold = LOSSY_THRESHOLD
    if isinstance(source, ImageSource) and source.paths[0].suffix.lower() not in LOSSY:
        threshold = 1
    for picture in source.pictures():
        yield picture.rgb().max(axis=2) >= threshold


def _size(shape: tuple[int, ...]) -> str:
    size = f"{shape[-1]}x{shape[-2]}"
    return size if len(shape) == 2 else f"{shape[0]} frames of {size}"


def _name(mask: Any) -> str:
    return "mask" if is_array(mask) else str(mask)
