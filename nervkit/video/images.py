"""Folders of images, numbered patterns and arrays as input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nervkit.errors import SourceError, UsageError
from nervkit.video.source import Picture, Source

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


class ImageSource(Source):
    """Image files, one a frame, at a constant rate."""

    def __init__(self, paths: list[Path], name: str, fps: Fraction) -> None:
        super().__init__(name, 1 / fps)
        self.paths = paths
        self.description = {"codec": "images"}

    def count(self) -> int:
        return len(self.paths)

    def pictures(self) -> Iterator[Picture]:
        for index, path in enumerate(self.paths):
            yield Picture(index, 1, lambda path=path: self._read(path))

    def _read(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                deep = any(";16" in str(tile) for tile in image.tile)  # Pillow's name of 16 bits
                upright = ImageOps.exif_transpose(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise SourceError(f"{path}: not a readable image ({error})") from error
        if deep:
            self.note("bit depth: the source has 16 bits a sample, 8 are kept")
        if "A" in upright.getbands() or "transparency" in upright.info:
            self.note("alpha: the source's transparency is not kept")
        if upright.mode[0] not in "IF":
            return np.asarray(upright.convert("RGB"))
        if not deep:
            raise SourceError(f"{path}: only samples of 8 and 16 bits are read")
        gray = ((np.asarray(upright).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)


class ArraySource(Source):
    """Frames that are in memory already: (T, H, W, 3), (T, H, W, 1) or (T, H, W).

    uint8 is taken as it is; floats must lie in [0, 1].
    """

    def __init__(self, frames: np.ndarray, name: str, fps: Fraction) -> None:
        super().__init__(name, 1 / fps)
        if frames.ndim == 3:
            frames = frames[..., None]
        if frames.ndim != 4 or frames.shape[3] not in (1, 3):
            raise UsageError(
                f"{name}: frames must have shape (T, H, W, 3) or (T, H, W), not {frames.shape}"
            )
        if frames.dtype != np.uint8 and not np.issubdtype(frames.dtype, np.floating):
            raise UsageError(
                f"{name}: frames must be uint8, or float in [0, 1], not {frames.dtype}"
            )
        self.frames = frames
        self.description = {"codec": "array"}

    def count(self) -> int:
        return len(self.frames)

    def pictures(self) -> Iterator[Picture]:
        for index, frame in enumerate(self.frames):
            yield Picture(index, 1, lambda frame=frame: self._to_rgb(frame))

    def _to_rgb(self, frame: np.ndarray) -> np.ndarray:
        if frame.dtype != np.uint8:
            if not (frame.min() >= 0 and frame.max() <= 1):  # also refuses NaN
                raise UsageError(f"{self.name}: float frames must lie in [0, 1]")
            frame = np.rint(frame * 255).astype(np.uint8)
        return np.broadcast_to(frame, (*frame.shape[:2], 3))


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order. Raises SourceError where there are none."""
    paths = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file()]
    if not paths:
        raise SourceError(f"{folder}: no images in this folder ({', '.join(sorted(EXTENSIONS))})")
    return sorted(paths, key=natural)


def images_like(pattern: str) -> list[Path]:
    """The files that a pattern such as frames/%05d.png names, in order of their number."""
    path = Path(pattern)
    if not path.parent.is_dir():
        raise SourceError(f"{path.parent}: no such folder")
    shape = re.escape(path.name)
    number = re.sub(r"%0?\d*d", r"(\\d+)", shape, count=1)
    paths = [p for p in path.parent.iterdir() if re.fullmatch(number, p.name)]
    if not paths:
        raise SourceError(f"{pattern}: no file has such a name")
    return sorted(paths, key=natural)


def natural(path: Path) -> list[tuple[bool, int | str]]:
    """Sorts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(False, int(part)) if part.isdecimal() else (True, part) for part in parts]
