"""Image input: single files, folders, numbered patterns, animations, and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from natsort import natsort_keygen, ns
from PIL import Image, ImageOps, UnidentifiedImageError

from nervkit.errors import SourceError, UsageError
from nervkit.video.arrays import ONE_FRAME
from nervkit.video.endings import cut_of
from nervkit.video.source import Picture, Source

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
NUMBER = re.compile(r"%0?\d*d")
#: sort key of paths that puts frame2 before frame10
natural = natsort_keygen(key=lambda path: path.name, alg=ns.IGNORECASE)
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


class ImageSource(Source):
    """Image files, one per frame, at a constant frame rate."""

    def __init__(self, paths: list[Path], name: str, fps: Fraction) -> None:
        super().__init__(name, 1 / fps)
        self.paths = paths
        self.description = {"codec": "images"}

    def count(self) -> int:
        return len(self.paths)

    def pictures(self) -> Iterator[Picture]:
        for index, path in enumerate(self.paths):
            yield Picture(index, 1, partial(self._read, path))

    def _read(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                deep = any(";16" in str(tile) for tile in image.tile)  # Pillow's mark of 16 bits
                upright = ImageOps.exif_transpose(image)
                return _rgb(self, path, upright, deep)
        except UNREADABLE as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{path}: not a readable image ({error})") from error


class AnimationSource(Source):
    """An animated WebP with its timestamps."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(name, Fraction(1, 1000))
        self.path = path
        with Image.open(path) as image:
            self.frames = frames_in(image)
        self.description = {"codec": "webp"}

    def count(self) -> int:
        return self.frames

    def pictures(self) -> Iterator[Picture]:
        time = 0
        with Image.open(self.path) as image:
            for index in range(self.frames):
                try:
                    image.seek(index)
                    image.load()
                except UNREADABLE as error:
                    self.damage = (
                        f"damaged or truncated: {index} of {self.frames} frames are intact, "
                        f"{self.frames - index} lost ({error})"
                    )
                    return
                duration = int(image.info.get("duration", 0))
                rgb = partial(_rgb, self, self.path, image.copy())
                yield Picture(time, duration or None, rgb)
                time += duration


def _rgb(source: Source, path: Path, image: Image.Image, deep: bool = False) -> np.ndarray:
    """Convert an image to (H, W, 3) uint8; losses become notes of `source`."""
    if deep:
        source.note("the source has 16 bits per sample; nervkit keeps 8")
    if "A" in image.getbands() or "transparency" in image.info:
        source.note("nervkit drops the source's alpha channel")
    if image.mode[0] not in "IF":
        return np.asarray(image.convert("RGB"))
    if not deep:
        raise SourceError(f"{path}: unsupported bit depth; use 8 or 16 bits per sample")
    gray = ((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def image_source(path: Path, name: str, fps: Fraction) -> Source | None:
    """Return the source for an image file; None for a file that ffmpeg should read: a GIF, an
    animated PNG, or a file that is no image in spite of its name."""
    try:
        with Image.open(path) as image:
            kind, frames = image.format, frames_in(image)
    except UnidentifiedImageError:
        return None
    except UNREADABLE as error:
        cut = cut_of(path)
        if cut is not None:
            raise SourceError(f"{path}: truncated: {cut.missing} bytes are missing") from error
        raise SourceError(f"{path}: not a readable image ({error})") from error
    if kind == "WEBP" and frames > 1:
        return AnimationSource(path, name)  # libavcodec cannot decode it
    if kind == "GIF" or (kind == "PNG" and frames > 1):
        return None
    source = ImageSource([path], name, fps)
    if frames > 1 and kind != "MPO":  # the other pictures of an MPO are previews
        source.note(f"the file has {frames} pictures; nervkit reads the first one")
    return source


def frames_in(image: Image.Image) -> int:
    """Return the number of pictures in an open image file."""
    return int(getattr(image, "n_frames", 1))


class ArraySource(Source):
    """Frames in memory: (T, H, W, 3), (T, H, W, 1) or (T, H, W), uint8 or float in [0, 1]."""

    def __init__(self, frames: np.ndarray, name: str, fps: Fraction) -> None:
        super().__init__(name, 1 / fps)
        if frames.ndim == 3 and frames.shape[2] in (1, 3):
            raise UsageError(f"{name}: the shape {frames.shape} {ONE_FRAME}")
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
            yield Picture(index, 1, partial(self._to_rgb, frame))

    def _to_rgb(self, frame: np.ndarray) -> np.ndarray:
        if frame.dtype != np.uint8:
            if not (frame.min() >= 0 and frame.max() <= 1):  # also refuses NaN
                raise UsageError(f"{self.name}: float frames must be in [0, 1]")
            frame = np.rint(frame * 255).astype(np.uint8)
        return np.broadcast_to(frame, (*frame.shape[:2], 3))


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order, without hidden files (macOS leaves ._* files
    on foreign disks). Raises SourceError if there are none."""
    paths = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".") and p.is_file()
    ]
    if not paths:
        raise SourceError(f"{folder}: no images in this folder ({', '.join(sorted(EXTENSIONS))})")
    return sorted(paths, key=natural)


def is_pattern(name: str) -> bool:
    """Whether a file name has a number placeholder such as %05d."""
    return NUMBER.search(Path(name).name) is not None


def images_like(pattern: str) -> list[Path]:
    """Return the files that match a pattern such as frames/%05d.png, sorted by number. Raises
    SourceError."""
    path = Path(pattern)
    if not path.parent.is_dir():
        raise SourceError(f"{path.parent}: no such folder")
    number = NUMBER.sub(r"(\\d+)", re.escape(path.name), count=1)
    paths = [p for p in path.parent.iterdir() if re.fullmatch(number, p.name)]
    if not paths:
        raise SourceError(f"{pattern}: no file matches this pattern")
    return sorted(paths, key=natural)
