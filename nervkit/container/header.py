"""The header and the timing of a .nerv file: what is declared, checked before it is believed."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from nervkit.container.chunks import inflate
from nervkit.errors import FormatError, LimitError

MAX_HEADER_BYTES = 1 << 16
MAX_TEXT = 1 << 12
MODEL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
TIME_HEAD = struct.Struct("<IIqIB")  # time base numerator, denominator, first pts, duration, mode
CONSTANT, VARIABLE = 0, 1


@dataclass(frozen=True)
class Limits:
    """What a decoder is willing to allocate. Raise them for files you trust."""

    side: int = 1 << 14  # pixels
    frames: int = 1 << 20
    segments: int = 1 << 12
    stored_values: int = 1 << 27  # in one segment
    working_bytes: int = 1 << 34  # activations while one frame is decoded


@dataclass(frozen=True)
class Segment:
    """A run of frames with its own representation."""

    frames: int
    model: str
    config: dict[str, Any]
    values: int  # stored values: weights, biases and embeddings


@dataclass(frozen=True)
class Header:
    """Everything a .nerv file says of itself but its timing.

    Attributes:
        width, height: of the decoded frames, in pixels.
        sample_aspect_ratio: width : height of one pixel.
        colour: the source's codes (ITU-T H.273): matrix, range, primaries, transfer; and
            "rgb_matrix", "rgb_range", with which its planes were made RGB.
        source: what the frames came from, as text: codec, pixel_format, rotation, ...
        edit: the part of the source that is kept: start, frames, crop, resize, matrix, range.
        encoder: "version" and "settings", as text.
        segments: in order of time.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction
    colour: dict[str, Any]
    source: dict[str, Any]
    edit: dict[str, Any]
    encoder: dict[str, Any]
    segments: tuple[Segment, ...] = field(default=())

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    @property
    def values(self) -> int:
        return sum(segment.values for segment in self.segments)

    def pack(self) -> bytes:
        """The payload of the header chunk: zlib-compressed JSON."""
        fields = dict(vars(self))
        ratio = self.sample_aspect_ratio
        fields["sample_aspect_ratio"] = [ratio.numerator, ratio.denominator]
        fields["segments"] = [vars(segment) for segment in self.segments]
        text = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
        if len(text) > MAX_HEADER_BYTES:
            raise FormatError(f"the header takes {len(text)} bytes; {MAX_HEADER_BYTES} are allowed")
        return zlib.compress(text, 9)

    @classmethod
    def unpack(cls, payload: bytes, limits: Limits) -> Header:
        """Parse and check a header. Raises FormatError, or LimitError beyond `limits`."""
        text = inflate(payload, MAX_HEADER_BYTES, "the header")
        try:
            fields = json.loads(text, parse_constant=_reject)
        except (ValueError, RecursionError) as error:
            raise FormatError("the header is not valid JSON") from error
        names = set(cls.__dataclass_fields__)
        if not isinstance(fields, dict) or set(fields) != names:
            raise FormatError("the header's fields are not those of this version")
        ratio = fields["sample_aspect_ratio"]
        if not (isinstance(ratio, list) and len(ratio) == 2):
            raise FormatError("header: sample_aspect_ratio must be two numbers")
        segments = fields["segments"]
        if not isinstance(segments, list) or not segments:
            raise FormatError("header: segments must be a list that is not empty")
        for name in ("colour", "source", "edit", "encoder"):
            _check_flat(fields[name], name)
        _within(len(segments), limits.segments, "segments")
        header = cls(
            width=_whole(fields["width"], limits.side, "width"),
            height=_whole(fields["height"], limits.side, "height"),
            sample_aspect_ratio=Fraction(
                _whole(ratio[0], 1 << 31, "sample_aspect_ratio"),
                _whole(ratio[1], 1 << 31, "sample_aspect_ratio"),
            ),
            colour=fields["colour"],
            source=fields["source"],
            edit=fields["edit"],
            encoder=fields["encoder"],
            segments=tuple(_segment(entry, limits) for entry in segments),
        )
        _within(header.frames, limits.frames, "frames")
        return header


@dataclass(frozen=True)
class Timing:
    """When frames are shown: frame i from pts[i] * time_base on, the last for `duration` units."""

    pts: np.ndarray  # (T,) int64, increasing
    time_base: Fraction  # seconds
    duration: int  # of the last frame, in time_base units

    def __post_init__(self) -> None:
        if len(self.pts) > 1 and int(np.diff(self.pts).min()) <= 0:
            raise ValueError("timestamps must increase")

    def __len__(self) -> int:
        return len(self.pts)

    def __getitem__(self, span: slice) -> Timing:
        """The timing of a run of frames. The last frame keeps its own duration."""
        start, stop, _ = span.indices(len(self))
        ends = np.append(self.pts[1:], self.pts[-1] + self.duration)
        return Timing(
            self.pts[start:stop], self.time_base, int(ends[stop - 1] - self.pts[stop - 1])
        )

    @property
    def seconds(self) -> tuple[Fraction, Fraction]:
        """When the first frame begins and the last one ends."""
        end = int(self.pts[-1]) + self.duration
        return int(self.pts[0]) * self.time_base, end * self.time_base

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        start, end = self.seconds
        return Fraction(len(self)) / (end - start)

    @property
    def constant(self) -> bool:
        """Whether all frames last equally long."""
        return bool((np.diff(self.pts) == self.duration).all())

    def pack(self) -> bytes:
        """The payload of the timing chunk."""
        mode = CONSTANT if self.constant else VARIABLE
        numerator, denominator = self.time_base.numerator, self.time_base.denominator
        head = TIME_HEAD.pack(numerator, denominator, int(self.pts[0]), self.duration, mode)
        steps = np.diff(self.pts).astype("<u4").tobytes() if mode == VARIABLE else b""
        return head + (zlib.compress(steps, 9) if steps else b"")

    @classmethod
    def unpack(cls, payload: bytes, frames: int) -> Timing:
        """The timing of `frames` frames. Raises FormatError."""
        if len(payload) < TIME_HEAD.size:
            raise FormatError("the timing is too short")
        numerator, denominator, first, duration, mode = TIME_HEAD.unpack_from(payload)
        rest = payload[TIME_HEAD.size :]
        if not (numerator and denominator and duration and abs(first) < 1 << 62):
            raise FormatError("the timing has a zero or impossible field")
        if mode == CONSTANT and not rest:
            steps = np.full(frames - 1, duration, np.int64)
        elif mode == VARIABLE:
            steps_bytes = inflate(rest, 4 * frames, "the timing")
            if len(steps_bytes) != 4 * (frames - 1):
                raise FormatError(f"the timing does not cover {frames} frames")
            steps = np.frombuffer(steps_bytes, "<u4").astype(np.int64)
        else:
            raise FormatError("the timing has an unknown mode")
        if len(steps) and steps.min() <= 0:
            raise FormatError("the timing runs backwards")
        pts = first + np.concatenate(([0], np.cumsum(steps)))
        return cls(pts.astype(np.int64), Fraction(numerator, denominator), duration)


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _whole(value: Any, most: int, name: str) -> int:
    if type(value) is not int or value < 1:
        raise FormatError(f"header: {name} must be a positive whole number, not {value!r:.40}")
    _within(value, most, name)
    return value


def _within(value: int, most: int, name: str) -> None:
    if value > most:
        raise LimitError(f"the file declares {name} = {value!s:.20}, the limit is {most}")


def _check_flat(value: Any, name: str) -> None:
    """A dict of numbers, short strings, null, and short lists of those."""
    if not isinstance(value, dict):
        raise FormatError(f"header: {name} must be an object")
    for entry in value.values():
        for item in entry if isinstance(entry, list) and len(entry) <= 8 else [entry]:
            plain = item is None or isinstance(item, (bool, int, float, str))
            if not plain or (isinstance(item, float) and not math.isfinite(item)):
                raise FormatError(f"header: {name} holds something that is not plain")
            if isinstance(item, str) and len(item) > MAX_TEXT:
                raise FormatError(f"header: {name} holds a text of {len(item)} characters")


def _segment(entry: Any, limits: Limits) -> Segment:
    if not isinstance(entry, dict) or set(entry) != set(Segment.__dataclass_fields__):
        raise FormatError("header: a segment's fields are not those of this version")
    if not isinstance(entry["model"], str) or not MODEL_NAME.fullmatch(entry["model"]):
        raise FormatError("header: a segment's model is not a name")
    _check_flat(entry["config"], "config")
    return Segment(
        frames=_whole(entry["frames"], limits.frames, "frames"),
        model=entry["model"],
        config=entry["config"],
        values=_whole(entry["values"], limits.stored_values, "stored values"),
    )
