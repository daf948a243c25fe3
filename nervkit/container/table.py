"""The table of a file, which locates all chunks and describes all segments. docs/format.md has the
layout."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from nervkit.container import chunks
from nervkit.container.chunks import Chunk, inflate
from nervkit.container.fields import check_int, check_skippable
from nervkit.container.limits import MOST_CHUNKS, MOST_SEGMENTS
from nervkit.errors import FormatError

HEAD = struct.Struct("<IIBB")  # chunks, segments, bytes per chunk length, columns
COLUMN = struct.Struct("<4sB")  # name, bytes per number
NUMBERS = (1, 2, 4, 8)  # allowed bytes per number
KNOWN = FRAMES, MODELS, VALUES = b"FRMS", b"MODL", b"VALS"
MOST_COLUMNS = 16
WHAT = "the table"


@dataclass(frozen=True)
class Table:
    """The parsed table.

    Attributes:
        chunks: all chunks before the table, in order and without gaps.
        frames, models, values: per segment: its number of frames, the index of its MODL chunk, and
            its number of tensor values (None if the table was lost).
    """

    chunks: Sequence[Chunk]
    frames: Sequence[int]
    models: Sequence[int]
    values: Sequence[int | None]

    def pack(self) -> bytes:
        """Return the payload of the TABL chunk."""
        columns: dict[bytes, Sequence[Any]] = {
            FRAMES: self.frames,
            MODELS: self.models,
            VALUES: self.values,
        }
        lengths = _array([chunk.length for chunk in self.chunks])
        arrays = {name: _array(numbers) for name, numbers in columns.items()}
        parts = [HEAD.pack(len(self.chunks), len(self.frames), lengths.itemsize, len(columns))]
        parts += [COLUMN.pack(name, array.itemsize) for name, array in arrays.items()]
        content = [b"".join(chunk.type for chunk in self.chunks), lengths.tobytes()]
        content += [array.tobytes() for array in arrays.values()]
        return b"".join([*parts, zlib.compress(b"".join(content), 9)])

    @classmethod
    def unpack(cls, payload: bytes, place: int) -> Table:
        """Parse the table whose chunk begins at byte `place`. The offset bounds the number of
        entries before anything is decompressed. Raises FormatError."""
        if len(payload) < HEAD.size:
            raise FormatError(f"{WHAT} is too short")
        count, segments, width, columns = HEAD.unpack_from(payload)
        check_int(count, "the number of chunks", 1, min(MOST_CHUNKS, place // chunks.FRAMING))
        check_int(segments, "the number of segments", 1, min(MOST_SEGMENTS, count))
        check_int(columns, "the number of columns", 1, MOST_COLUMNS)
        start = HEAD.size + COLUMN.size * columns
        described = _described(payload[HEAD.size : start], columns)
        widths = [width, *described.values()]
        if not {*widths} <= {*NUMBERS}:
            raise FormatError(f"a number in {WHAT} has an invalid size")
        sizes = [4 * count, width * count, *(size * segments for size in described.values())]
        content = inflate(payload[start:], sum(sizes), WHAT)
        if len(content) != sum(sizes):
            raise FormatError(f"{WHAT} is incomplete")
        types, *numbers = (content[a:b] for a, b in pairwise(accumulate(sizes, initial=0)))
        arrays = zip(numbers, widths, strict=True)
        lengths, *rows = (np.frombuffer(data, f"<u{size}").tolist() for data, size in arrays)
        found = dict(zip(described, rows, strict=True))
        listed = _located(types, lengths, place)
        if sum(chunk.type == chunks.SEGMENT for chunk in listed) != segments:
            raise FormatError(f"{WHAT} declares {segments} segments but lists another number")
        return cls(listed, found[FRAMES], found[MODELS], found[VALUES])


def _described(data: bytes, count: int) -> dict[bytes, int]:
    """Return name and bytes per number of `count` columns. Raises FormatError."""
    if len(data) < COLUMN.size * count:
        raise FormatError(f"{WHAT} is too short")
    described = dict(COLUMN.iter_unpack(data))
    if len(described) < count or not all(n.isalpha() and n.isascii() for n in described):
        raise FormatError(f"{WHAT} has a duplicate column, or one without a valid name")
    if not described.keys() >= {*KNOWN}:
        raise FormatError(f"{WHAT} lacks a column")
    for name in described.keys() - {*KNOWN}:
        check_skippable(name.decode("ascii"), f"{WHAT}: column")
    return described


def _array(numbers: Sequence[int]) -> np.ndarray:
    """Return `numbers` as the smallest unsigned integer type that holds them."""
    width = next(size for size in NUMBERS if max(numbers) < 1 << 8 * size)
    return np.array(numbers, f"<u{width}")


def _located(types: bytes, lengths: list[int], end: int) -> list[Chunk]:
    """Return the chunks of these types and lengths, which must end at `end`. Raises FormatError."""
    if chunks.PREAMBLE.size + sum(lengths) + chunks.FRAMING * len(lengths) != end:
        raise FormatError(f"the chunks that {WHAT} lists do not fill the file")
    listed, position = [], chunks.PREAMBLE.size
    for index, length in enumerate(lengths):
        type = types[4 * index : 4 * index + 4]
        listed.append(Chunk(type, position + chunks.CHUNK_HEAD.size, length))
        position = listed[-1].end
    return listed
