"""Which part of a source is kept, and at what size."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
from PIL import Image

from nervkit.errors import FormatError, UsageError


@dataclass(frozen=True)
class Crop:
    """A window of `width` x `height` pixels; without `x` and `y`, in the centre."""

    width: int
    height: int
    x: int | None = None
    y: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "WxH" (centred) or "WxH+X+Y"."""
        match = re.fullmatch(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?", text.strip())
        width, height, x, y = (
            (None if part is None else int(part) for part in match.groups()) if match else [0] * 4
        )
        if not width or not height:
            raise UsageError(f"crop must be WxH (centred) or WxH+X+Y, not {text!r}")
        return cls(width, height, x, y)

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """The window of an (H, W, 3) frame. Raises UsageError where it does not fit."""
        height, width = frame.shape[:2]
        x, y = self.origin(frame)
        if min(x, y) < 0 or x + self.width > width or y + self.height > height:
            raise UsageError(f"crop {self} does not fit into the {width}x{height} source")
        return frame[y : y + self.height, x : x + self.width]

    def origin(self, frame: np.ndarray) -> tuple[int, int]:
        """The window's first column and row in an (H, W, ...) frame."""
        height, width = frame.shape[:2]
        x = (width - self.width) // 2 if self.x is None else self.x
        y = (height - self.height) // 2 if self.y is None else self.y
        return x, y

    def __str__(self) -> str:
        place = "" if self.x is None else f"+{self.x}+{self.y}"
        return f"{self.width}x{self.height}{place}"


#: the options of `Edit.from_options`, by name
EDIT_OPTIONS = ("start", "frames", "crop", "resize", "matrix", "range")


@dataclass(frozen=True)
class Edit:
    """What to keep of a source: of video stream number `stream` (None: the default one), from
    `start` seconds on, frames [first, stop) of those, the crop of each, resized. In this order;
    rotation comes before all."""

    start: Fraction = Fraction(0)
    first: int = 0
    stop: int | None = None
    crop: Crop | None = None
    resize: tuple[int, int] | None = None  # width, height
    matrix: str | None = None
    range: str | None = None
    stream: int | None = None

    @classmethod
    def from_options(
        cls,
        start: str | float | None = None,
        frames: str | slice | None = None,
        crop: str | None = None,
        resize: str | tuple[int, int] | None = None,
        matrix: str | None = None,
        range: str | None = None,
        stream: str | int | None = None,
    ) -> Self:
        """From the options of the command line, or their Python equivalents."""
        first, stop = parse_frames(frames)
        return cls(
            start=parse_seconds(start, "start") if start is not None else Fraction(0),
            first=first,
            stop=stop,
            crop=Crop.parse(crop) if crop is not None else None,
            resize=parse_size(resize, "resize") if resize is not None else None,
            matrix=matrix,
            range=range,
            stream=parse_stream(stream) if stream is not None else None,
        )

    @property
    def trims(self) -> bool:
        return self.start > 0 or self.first > 0 or self.stop is not None

    def shape(self, frame: np.ndarray) -> np.ndarray:
        """Crop and resize one (H, W, 3) uint8 frame, or one (H, W) plane.

        A reduction by whole factors averages areas exactly; every other size is resampled with
        an antialiased Lanczos filter.
        """
        if self.crop is not None:
            frame = self.crop.apply(frame)
        if self.resize is None or self.resize == frame.shape[1::-1]:
            return frame
        width, height = self.resize
        (down, odd_rows), (across, odd_columns) = (
            divmod(have, want) for have, want in zip(frame.shape, (height, width), strict=False)
        )
        if not odd_rows and not odd_columns:
            areas = frame.reshape(height, down, width, across, *frame.shape[2:])
            sums, pixels = areas.sum(axis=(1, 3), dtype=np.uint32), down * across
            return ((sums + pixels // 2) // pixels).astype(np.uint8)
        image = Image.fromarray(np.ascontiguousarray(frame))
        return np.asarray(image.resize(self.resize, Image.Resampling.LANCZOS))

    def shape_planes(self, planes: list[np.ndarray]) -> list[np.ndarray] | None:
        """Crop and resize the Y, U and V of a 4:2:0 frame, each by itself; None where the crop
        begins between two chroma samples."""
        luma, *chroma = planes
        halved = self
        if self.crop is not None:
            x, y = self.crop.origin(luma)
            if x % 2 or y % 2:
                return None
            width, height = self.crop.width, self.crop.height
            halved = replace(self, crop=Crop(_half(width), _half(height), x // 2, y // 2))
        if self.resize is not None:
            width, height = self.resize
            halved = replace(halved, resize=(_half(width), _half(height)))
        return [self.shape(luma), *(halved.shape(plane) for plane in chroma)]

    def sample_aspect_ratio(self, before: Fraction, width: int, height: int) -> Fraction:
        """The pixels' shape after the edit of a width x height source: it looks as before."""
        if self.crop is not None:
            width, height = self.crop.width, self.crop.height
        if self.resize is None:
            return before
        after = before * Fraction(width, self.resize[0]) / Fraction(height, self.resize[1])
        return after.limit_denominator(1 << 15)

    def to_dict(self) -> dict[str, Any]:
        """Only what differs from keeping everything, as JSON-ready values."""
        values: dict[str, Any] = {}
        if self.start:
            values["start"] = str(self.start)
        if self.first or self.stop is not None:
            values["frames"] = f"{self.first}:{'' if self.stop is None else self.stop}"
        if self.crop is not None:
            values["crop"] = str(self.crop)
        if self.resize is not None:
            values["resize"] = f"{self.resize[0]}x{self.resize[1]}"
        for name in ("matrix", "range"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        if self.stream is not None:
            values["stream"] = str(self.stream)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises FormatError."""
        try:
            return cls.from_options(**values)
        except (TypeError, UsageError, AttributeError) as error:
            raise FormatError(f"header: the edit is not understood ({error})") from error


def _half(side: int) -> int:
    return (side + 1) // 2


def parse_frames(frames: str | slice | None) -> tuple[int, int | None]:
    """(first, stop) from "a:b", with either end left out, or from a slice of step 1."""
    if frames is None:
        return 0, None
    if isinstance(frames, slice):
        first, stop = frames.start or 0, frames.stop
        valid = frames.step in (None, 1) and first >= 0
    else:
        match = re.fullmatch(r"(\d*):(\d*)", str(frames).strip())
        valid = match is not None
        first, stop = (int(part) if part else None for part in match.groups()) if match else (0, 0)
        first = first or 0
    if not valid or (stop is not None and stop <= first):
        raise UsageError(f"frames must be a range a:b with 0 <= a < b, not {frames!r}")
    return first, stop


def parse_stream(stream: str | int) -> int:
    """Which video stream, counted from 0."""
    if not re.fullmatch(r"\d{1,3}", str(stream)):
        raise UsageError(f"stream must be a whole number from 0 to 999, not {stream!r}")
    return int(stream)


def parse_size(size: str | tuple[int, int], name: str) -> tuple[int, int]:
    """(width, height) from "WxH"."""
    parts = size if isinstance(size, (tuple, list)) else str(size).lower().split("x")
    if len(parts) == 2 and all(str(p).isdecimal() and 0 < int(p) <= 1 << 14 for p in parts):
        return int(parts[0]), int(parts[1])
    raise UsageError(f"{name} must be WxH in pixels, up to 16384 each, not {size!r}")


def parse_seconds(text: str | float, name: str) -> Fraction:
    """Seconds from a number, "90s", "1.5m", "2h", "MM:SS" or "HH:MM:SS.s"."""
    units = {"": 1, "s": 1, "m": 60, "h": 3600}
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\d+/\d+)([smh]?)", str(text).strip())
    if match and not re.search(r"/0+$", match.group(1)):
        return Fraction(match.group(1)) * units[match.group(2)]
    if re.fullmatch(r"(\d+:){1,2}\d+(\.\d+)?", str(text).strip()):
        seconds = Fraction(0)
        for part in str(text).strip().split(":"):
            seconds = seconds * 60 + Fraction(part)
        return seconds
    raise UsageError(f"{name} must be a time such as 90, 1.5m or 01:30, not {text!r}")
