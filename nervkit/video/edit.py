"""Trimming, cropping and resizing of a source."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any, Self

import numpy as np
from PIL import Image

from nervkit.errors import FormatError, UsageError
from nervkit.keywords import option
from nervkit.units import LONGEST_SIDE, parse_frames, parse_resize, parse_seconds


@dataclass(frozen=True)
class Crop:
    """A crop window of `width` x `height` pixels, centred if `x` and `y` are None."""

    width: int
    height: int
    x: int | None = None
    y: int | None = None

    @classmethod
    def parse(cls, window: str | tuple[int, ...]) -> Self:
        """Parse "WxH" or (w, h), which are centred, "WxH+X+Y" or (w, h, x, y). Raises
        UsageError."""
        text = str(window).strip()
        if isinstance(window, tuple):
            text = "x".join(map(str, window[:2])) + "".join(f"+{place}" for place in window[2:])
        match = re.fullmatch(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?", text)
        width, height, x, y = (
            (None if part is None else int(part) for part in match.groups()) if match else [0] * 4
        )
        if not width or not height:
            raise UsageError(f"crop must be WxH (centred) or WxH+X+Y, not {window!r}")
        return cls(width, height, x, y)

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Return the window of an (H, W, 3) frame. Raises UsageError if it does not fit."""
        height, width = frame.shape[:2]
        x, y = self.origin(frame)
        if min(x, y) < 0 or x + self.width > width or y + self.height > height:
            raise UsageError(f"crop {self} does not fit into the {width}x{height} source")
        return frame[y : y + self.height, x : x + self.width]

    def origin(self, frame: np.ndarray) -> tuple[int, int]:
        """Return the window's first column and row in an (H, W, ...) frame."""
        height, width = frame.shape[:2]
        x = (width - self.width) // 2 if self.x is None else self.x
        y = (height - self.height) // 2 if self.y is None else self.y
        return x, y

    def __str__(self) -> str:
        place = "" if self.x is None else f"+{self.x}+{self.y}"
        return f"{self.width}x{self.height}{place}"


#: the options of `Edit.from_options` that affect frames, not the choice of tracks
EDIT_OPTIONS = ("start", "to", "duration", "frames", "crop", "resize", "matrix", "range")


@dataclass(frozen=True)
class Edit:
    """The part of a source to keep. The steps apply in this order, after rotation: choose video
    stream number `stream` (None: the default one), keep [start, to) seconds, of these the frames
    [first, stop), crop, resize. `audio` and `subtitles` tell whether to keep such tracks."""

    start: Fraction = Fraction(0)
    to: Fraction | None = None
    first: int = 0
    stop: int | None = None
    crop: Crop | None = None
    resize: tuple[int, int] | None = None  # width, height; one may be FOLLOWS or FOLLOWS_EVEN
    matrix: str | None = None
    range: str | None = None
    stream: int | None = None
    audio: bool = True
    subtitles: bool = True

    @classmethod
    def from_options(
        cls,
        start: str | float | None = None,
        to: str | float | None = None,
        duration: str | float | None = None,
        frames: str | int | slice | None = None,
        crop: str | tuple[int, ...] | None = None,
        resize: str | int | tuple[int, int] | None = None,
        matrix: str | None = None,
        range: str | None = None,
        stream: str | int | None = None,
        audio: bool = True,
        subtitles: bool = True,
    ) -> Self:
        """Parse command-line options or their Python equivalents. Raises UsageError."""
        begin, end = parse_span(start, to, duration)
        first, stop = parse_frames(frames)
        return cls(
            start=begin,
            to=end,
            first=first,
            stop=stop,
            crop=Crop.parse(crop) if crop is not None else None,
            resize=parse_resize(resize) if resize is not None else None,
            matrix=matrix,
            range=range,
            stream=parse_stream(stream) if stream is not None else None,
            audio=audio,
            subtitles=subtitles,
        )

    @property
    def trims(self) -> bool:
        """Whether any frames may be left out."""
        some = self.first > 0 or self.stop is not None
        return self.start > 0 or self.to is not None or some

    def keeps(self, kind: str) -> bool:
        """Whether tracks of kind "audio" or "subtitle" are kept."""
        return self.audio if kind == "audio" else self.subtitles

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after resizing a cropped frame of this size. Raises UsageError
        if a computed side would be too long."""
        if self.resize is None:
            return width, height
        wide, high = self.resize
        if wide < 0:
            wide = _following(wide, Fraction(width * high, height))
        elif high < 0:
            high = _following(high, Fraction(height * wide, width))
        if max(wide, high) > LONGEST_SIDE:
            raise UsageError(
                f"resize: {width}x{height} would become {wide}x{high}, but a side may have at most "
                f"{LONGEST_SIDE} pixels; give both sides (WxH)"
            )
        return wide, high

    def settled(self, width: int, height: int) -> Self:
        """Return the edit for a source of width x height, with both sides of `resize` computed."""
        if self.crop is not None:
            width, height = self.crop.width, self.crop.height
        return self if self.resize is None else replace(self, resize=self.resized(width, height))

    def counted(self, kept: int) -> Self:
        """Return the edit with its end given by the number of kept frames instead of a time."""
        return self if self.to is None else replace(self, to=None, stop=self.first + kept)

    def shape(self, frame: np.ndarray) -> np.ndarray:
        """Crop and resize one (H, W, 3) uint8 frame, or one (H, W) plane.

        A reduction by integer factors is an exact area average; any other size is resampled with
        an antialiased Lanczos filter.
        """
        if self.crop is not None:
            frame = self.crop.apply(frame)
        size = width, height = self.resized(*frame.shape[1::-1])
        if size == frame.shape[1::-1]:
            return frame
        (down, odd_rows), (across, odd_columns) = (
            divmod(have, want) for have, want in zip(frame.shape, (height, width), strict=False)
        )
        if not odd_rows and not odd_columns:
            # Sums of rows, then of columns: ten times faster than one sum over both axes.
            rows = frame.reshape(height, down, -1).sum(axis=1, dtype=np.uint32)
            columns = rows.reshape(height, width, across, -1)
            sums = columns[:, :, 0].copy()
            for column in range(1, across):
                sums += columns[:, :, column]
            pixels = down * across
            means = ((sums + pixels // 2) // pixels).astype(np.uint8)
            return means.reshape(height, width, *frame.shape[2:])
        image = Image.fromarray(np.ascontiguousarray(frame))
        return np.asarray(image.resize(size, Image.Resampling.LANCZOS))

    def shape_planes(self, planes: list[np.ndarray]) -> list[np.ndarray] | None:
        """Crop and resize the Y, U and V planes of a 4:2:0 frame separately. Return None if the
        crop does not begin at a chroma sample."""
        luma, *chroma = planes
        halved = self
        if self.crop is not None:
            x, y = self.crop.origin(luma)
            if x % 2 or y % 2:
                return None
            width, height = self.crop.width, self.crop.height
            halved = replace(self, crop=Crop(_half(width), _half(height), x // 2, y // 2))
        if self.resize is not None:
            width, height = self.settled(*luma.shape[::-1]).resize or (0, 0)
            halved = replace(halved, resize=(_half(width), _half(height)))
        return [self.shape(luma), *(halved.shape(plane) for plane in chroma)]

    def sample_aspect_ratio(self, before: Fraction, width: int, height: int) -> Fraction:
        """Return the sample aspect ratio after the edit of a width x height source, which keeps the
        display aspect ratio."""
        if self.crop is not None:
            width, height = self.crop.width, self.crop.height
        if self.resize is None:
            return before
        wide, high = self.resized(width, height)
        after = before * Fraction(width, wide) / Fraction(height, high)
        return after.limit_denominator(1 << 15)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as JSON-ready values."""
        values: dict[str, Any] = {}
        if self.start:
            values["start"] = str(self.start)
        if self.to is not None:
            values["to"] = str(self.to)
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
        """Build from `to_dict`'s result. Raises FormatError."""
        try:
            return cls.from_options(**values)
        except (TypeError, UsageError, AttributeError) as error:
            raise FormatError(f"header: the edit is invalid ({error})") from error


def _half(side: int) -> int:
    return (side + 1) // 2


def _following(side: int, exact: Fraction) -> int:
    """Return the multiple of `-side` nearest to `exact`, at least one."""
    step = -side
    return max(step, step * floor(exact / step + Fraction(1, 2)))


def parse_stream(stream: str | int) -> int:
    """Parse the index of a video stream, counted from 0. Raises UsageError."""
    if not re.fullmatch(r"\d{1,3}", str(stream)):
        raise UsageError(f"{option('stream')} must be an integer from 0 to 999, not {stream!r}")
    return int(stream)


def parse_span(
    start: str | float | None, to: str | float | None, duration: str | float | None
) -> tuple[Fraction, Fraction | None]:
    """Return start and end (None: the end of the source) in seconds, from `start` and one of `to`
    and `duration`. Raises UsageError."""
    begin = Fraction(0) if start is None else parse_seconds(start, option("start"))
    if to is not None and duration is not None:
        raise UsageError(
            f"{option('to')} and {option('duration')} both set the end; give only one of them"
        )
    if duration is not None:
        length = parse_seconds(duration, option("duration"))
        if not length:
            raise UsageError(f"{option('duration')} must be more than 0, not {duration!r}")
        return begin, begin + length
    if to is None:
        return begin, None
    end = parse_seconds(to, option("to"))
    if end <= begin:
        raise UsageError(
            f"{option('to')} {to} must be later than {option('start')}, {float(begin):g} s"
        )
    return begin, end
