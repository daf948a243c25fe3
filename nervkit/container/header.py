"""The header of a .nerv file, validated when it is parsed."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from nervkit.container.chunks import inflate
from nervkit.container.fields import check_int, check_object, flag, fraction, parse_json, scalar
from nervkit.container.limits import MOST_FRAMES, MOST_PIXELS_A_SIDE, MOST_VALUES
from nervkit.errors import FormatError
from nervkit.media.checks import line, text

WHAT = "the header"
FIELDS = ("width", "height", "sample_aspect_ratio", "colour", "source", "edit", "encoder")
MAX_HEADER_BYTES = 1 << 20
MAX_TEXT = 1 << 12
MAX_FIELDS = 64  # of an object with arbitrary field names
MODEL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

#: YCbCr matrices: nervkit's names, and matrix coefficients of ITU-T H.273 (table 4)
MATRICES = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}
#: sample ranges: nervkit's names, and ffmpeg's codes
RANGES = {"limited": 1, "full": 2}
COLOUR_CODES = ("matrix", "range", "primaries", "transfer")
EDITS = {
    "start": re.compile(r"\d{1,12}(/[1-9]\d{0,9})?"),
    "frames": re.compile(r"\d{1,7}:(\d{1,7})?"),
    "crop": re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}(\+\d{1,5}\+\d{1,5})?"),
    "resize": re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}"),
    "matrix": re.compile("|".join(MATRICES)),
    "range": re.compile("|".join(RANGES)),
    "stream": re.compile(r"\d{1,3}"),
}


@dataclass(frozen=True)
class Segment:
    """A run of frames with its own representation. Raises FormatError if a count is too large."""

    frames: int
    model: str
    config: dict[str, Any]
    values: int | None  # stored weights, biases and embeddings; None: unknown (salvaged file)

    def __post_init__(self) -> None:
        check_int(self.frames, "a segment's number of frames", 1, MOST_FRAMES)
        if self.values is not None:
            check_int(self.values, "a segment's number of values", 1, MOST_VALUES)


@dataclass(frozen=True)
class Header:
    """The metadata of a .nerv file, except its timing.

    Attributes:
        width, height: size of the decoded frames, in pixels.
        sample_aspect_ratio: width : height of one pixel.
        colour: the source's codes (ITU-T H.273): matrix, range, primaries, transfer; and
            "rgb_matrix", "rgb_range", with which its planes were converted to RGB.
        source: properties of the source: codec, pixel_format, rotation, ...
        edit: the part of the source that is kept: any of EDITS, as strings.
        encoder: "version" and "settings", as strings.
        exact: whether the segments' records allow bit-exact decoding in integers.
        segments: sorted by time; stored in the file's table, not in the header chunk.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction
    colour: dict[str, Any]
    source: dict[str, Any]
    edit: dict[str, Any]
    encoder: dict[str, Any]
    exact: bool = False
    segments: tuple[Segment, ...] = field(default=())

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    @property
    def pixels(self) -> int:
        """Pixels in all frames."""
        return self.frames * self.width * self.height

    @property
    def values(self) -> int:
        """Stored values in all segments, as far as they are known."""
        return sum(segment.values or 0 for segment in self.segments)

    def pack(self) -> bytes:
        """Return the payload of the header chunk: zlib-compressed JSON without the segments. Raises
        FormatError if a decoder would refuse it."""
        payload = pack_json(self.to_dict())
        checked = self.unpack(payload)
        if self.segments:
            checked.of_segments(self.segments)
        return payload

    def to_dict(self) -> dict[str, Any]:
        """Return all fields except the segments as JSON-ready values; `parse` is the inverse."""
        fields = {name: getattr(self, name) for name in FIELDS}
        ratio = self.sample_aspect_ratio
        fields["sample_aspect_ratio"] = [ratio.numerator, ratio.denominator]
        return fields | {"exact": True} if self.exact else fields

    @classmethod
    def unpack(cls, payload: bytes) -> Header:
        """Parse the payload of a header chunk; the result has no segments. Raises FormatError."""
        return cls.parse(parse_json(inflate(payload, MAX_HEADER_BYTES, WHAT), WHAT))

    @classmethod
    def parse(cls, value: Any) -> Header:
        """Build a header from parsed JSON. Raises FormatError."""
        fields = check_object(value, WHAT, FIELDS, ("exact",))
        return cls(
            width=check_int(fields["width"], "width", 1, MOST_PIXELS_A_SIDE),
            height=check_int(fields["height"], "height", 1, MOST_PIXELS_A_SIDE),
            sample_aspect_ratio=fraction(fields["sample_aspect_ratio"], "sample_aspect_ratio"),
            colour=_colour(fields["colour"]),
            source=_free(fields["source"], "source"),
            edit=_edit(fields["edit"]),
            encoder=_encoder(fields["encoder"]),
            exact=flag(fields.get("exact", False), "exact"),
        )

    def of_segments(self, segments: Iterable[Segment]) -> Header:
        """Return the header with these segments. Raises FormatError for no or too many frames."""
        header = replace(self, segments=tuple(segments))
        check_int(header.frames, "the number of frames", 1, MOST_FRAMES)
        return header


def pack_json(value: Any) -> bytes:
    """Return `value` as zlib-compressed JSON."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9)


def parse_model(value: Any, what: str = "a model") -> tuple[str, dict[str, Any]]:
    """Return a model's name and configuration, whose values are scalars or lists of up to 8 of
    them. The model itself checks them further. Raises FormatError."""
    fields = check_object(value, what, ("model", "config"))
    name, config = fields["model"], fields["config"]
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        raise FormatError(f"{what} has no valid model name")
    if not isinstance(config, dict) or len(config) > MAX_FIELDS:
        raise FormatError(f"config must be an object of at most {MAX_FIELDS} fields")
    for field_name, entry in config.items():
        line(field_name, "a field of config", 64)
        for item in entry if isinstance(entry, list) and len(entry) <= 8 else [entry]:
            scalar(item, f"config {field_name}")
    return name, config


def _colour(value: Any) -> dict[str, Any]:
    value = check_object(value, "colour", (*COLOUR_CODES, "rgb_matrix", "rgb_range"))
    for name in COLOUR_CODES:
        check_int(value[name], f"colour {name}", 0, 255)
    for name, known in (("rgb_matrix", MATRICES), ("rgb_range", RANGES)):
        if not isinstance(value[name], str) or value[name] not in known:
            raise FormatError(f"colour {name} must be one of {', '.join(known)}")
    return value


def _edit(value: Any) -> dict[str, Any]:
    value = check_object(value, "edit", (), EDITS)
    for name, entry in value.items():
        if not isinstance(entry, str) or not EDITS[name].fullmatch(entry):
            raise FormatError(f"the stored edit has an invalid {name}")
    return value


def _encoder(value: Any) -> dict[str, str]:
    value = check_object(value, "encoder", ("version", "settings"))
    return {name: text(entry, f"encoder {name}", MAX_TEXT) for name, entry in value.items()}


def _free(value: Any, what: str) -> dict[str, Any]:
    """Return `value` if it is an object of at most MAX_FIELDS scalar fields."""
    if not isinstance(value, dict) or len(value) > MAX_FIELDS:
        raise FormatError(f"{what} must be an object of at most {MAX_FIELDS} fields")
    for name, entry in value.items():
        scalar(entry, f"{what} {line(name, f'a field of {what}', 64)}")
    return value
