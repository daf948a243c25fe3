"""What is unknown of a video: masks from boxes, arrays, images and movies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nervkit.errors import UsageError
from nervkit.restoration.kinds import is_array, is_tensor
from nervkit.video.edit import Edit
from nervkit.video.images import EXTENSIONS, ImageSource
from nervkit.video.reader import DEFAULT_FPS, read_clip

MOVIE_THRESHOLD = 128  # lossy masks have gray edges; images are taken at their word: all but 0

BOX = re.compile(r"(?:(\d+),(\d+),(\d+),(\d+))?(?:@(\d*):(\d*))?")


def read_mask(
    mask: Any, boxes: Sequence[str], shape: tuple[int, ...], reading: dict[str, Any]
) -> np.ndarray:
    """All that is unknown.

    Args:
        mask: (H, W) or (T, H, W) array or tensor, not 0 where unknown; or a path to an image (for
            all frames), to images or to a movie (one picture for each frame), not black where
            unknown; or None.
        boxes: each "x,y,w,h", "x,y,w,h@a:b" (frames a to b - 1) or "@a:b" (whole frames).
        shape: (T, H, W) of the video.
        reading: the options of `read_clip` that the video was read with: files of masks are cut
            and resized with it, arrays and boxes count in the frames as they are then.

    Returns:
        (T, H, W) bool, True where unknown.

    Raises:
        UsageError: neither mask nor box, of another size, nothing or all unknown.
    """
    if mask is None and not boxes:
        raise UsageError("say what is unknown: --mask, or --box x,y,w,h")
    unknown = np.zeros(shape, bool)
    for box in boxes:
        unknown[_box(box, shape)] = True
    if mask is not None:
        given = _from_array(mask) if is_array(mask) else _from_file(mask, shape, reading)
        if given.shape[-2:] != shape[1:] or given.shape[:-2] not in ((), (1,), shape[:1]):
            raise UsageError(
                f"{_name(mask)}: the mask is {_told(given.shape)}, the video {_told(shape)}"
            )
        unknown |= given
    if not unknown.any():
        raise UsageError("the mask is empty: nothing is unknown")
    if unknown.all(axis=(1, 2)).all():
        raise UsageError("the mask covers every frame whole: nothing is known")
    return unknown


def _box(text: str, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    match = BOX.fullmatch(str(text).strip())
    if not text or match is None:
        raise UsageError(f"a box is x,y,w,h, x,y,w,h@a:b or @a:b, not {text!r}")
    frames, height, width = shape
    x, y, w, h = (int(part) for part in match.groups()[:4]) if match[1] else (0, 0, width, height)
    first, stop = int(match[5] or 0), int(match[6] or frames)
    if not (w and h and x < width and y < height and first < min(stop, frames)):
        raise UsageError(f"box {text}: nothing of it lies in {frames} frames of {width}x{height}")
    return slice(first, stop), slice(y, y + h), slice(x, x + w)


def _from_array(mask: Any) -> np.ndarray:
    values = mask.detach().cpu().numpy() if is_tensor(mask) else mask
    if values.ndim == 4 and 1 in (values.shape[1], values.shape[3]):
        values = values[:, 0] if values.shape[1] == 1 else values[..., 0]
    if values.ndim not in (2, 3):
        raise UsageError(f"a mask must be (H, W) or (T, H, W), not {tuple(values.shape)}")
    return values != 0


def _from_file(mask: str | Path, shape: tuple[int, ...], reading: dict[str, Any]) -> np.ndarray:
    path = Path(mask)
    if path.suffix.lower() in EXTENSIONS and "%" not in path.name and path.is_file():
        places = {k: reading[k] for k in ("crop", "resize") if k in reading}
        source = ImageSource([path], str(path), DEFAULT_FPS)
        (picture,) = source.pictures()
        return Edit.from_options(**places).shape(picture.rgb()).any(axis=2)
    alike = ("start", "frames", "crop", "resize", "fps")
    clip = read_clip(mask, **{k: reading[k] for k in alike if k in reading})
    brightest = clip.frames.max(axis=3)
    lossless = clip.source.get("codec") in ("images", "array")
    return brightest >= (1 if lossless else MOVIE_THRESHOLD)


def _told(shape: tuple[int, ...]) -> str:
    size = f"{shape[-1]}x{shape[-2]}"
    return size if len(shape) == 2 else f"{shape[0]} frames of {size}"


def _name(mask: Any) -> str:
    return "mask" if is_array(mask) else str(mask)
