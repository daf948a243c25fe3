"""The SEGM chunk: description and coded tensors of a segment. docs/format.md has the layout."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nervkit.container.fields import check_int, check_skippable
from nervkit.errors import FormatError

HEAD = struct.Struct("<IHBBH")  # frames, model, records, sections, runs
RECORD = struct.Struct("<4sI")  # name, bytes
SECTION = struct.Struct("<BI")  # method, bytes
RUN = struct.Struct("<BH")  # section, tensors
MOST_TENSORS = (1 << 16) - 1
#: coding methods: adaptive tables; scales and contexts
ADAPTIVE, CONTEXTS = 1, 2


@dataclass(frozen=True)
class Section:
    """Tensors coded together by one method; nervkit.compression.methods decodes them."""

    method: int
    data: bytes


@dataclass(frozen=True)
class SegmentData:
    """The coded tensors of a segment.

    Attributes:
        sections: each codes some of the tensors, in the model's order.
        order: for every tensor in the model's order, the index of its section.
        records: additional data by name (four letters). No names are defined yet; nervkit keeps
            records that a decoder may skip.
    """

    sections: tuple[Section, ...]
    order: tuple[int, ...]
    records: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, *coded: tuple[int, int, bytes]) -> SegmentData:
        """Build from (method, number of tensors, bytes) of consecutive sections."""
        sections = tuple(Section(method, data) for method, _, data in coded)
        order = (index for index, (_, count, _) in enumerate(coded) for _ in range(count))
        return cls(sections, tuple(order))

    @property
    def size(self) -> int:
        """Size of the coded tensors in bytes."""
        return sum(len(section.data) for section in self.sections)

    def pack(self, frames: int, model: int) -> bytes:
        """Return the payload of the SEGM chunk; `model` is the index of its MODL chunk."""
        runs = [(index, len(list(run))) for index, run in groupby(self.order)]
        parts = [HEAD.pack(frames, model, len(self.records), len(self.sections), len(runs))]
        parts += [RECORD.pack(name, len(content)) + content for name, content in self.records]
        parts += [SECTION.pack(s.method, len(s.data)) for s in self.sections]
        parts += [RUN.pack(*run) for run in runs]
        return b"".join([*parts, *(section.data for section in self.sections)])

    @classmethod
    def unpack(cls, payload: bytes) -> tuple[int, int, SegmentData]:
        """Parse a SEGM chunk: number of frames, model index, tensors. Raises FormatError."""
        reader = _Reader(payload)
        frames, model, records, sections, runs = reader.numbers(HEAD)
        kept = []
        for _ in range(records):
            name, size = reader.numbers(RECORD)
            if not (name.isalpha() and name.isascii()):
                raise FormatError("a segment's record has no valid name")
            check_skippable(name.decode("ascii"), "a segment's record")
            kept.append((name, reader.take(size)))
        heads = [reader.numbers(SECTION) for _ in range(sections)]
        order = tuple(_tensors([reader.numbers(RUN) for _ in range(runs)], sections))
        coded = tuple(Section(method, reader.take(size)) for method, size in heads)
        if reader.left:
            raise FormatError(f"{reader.left} bytes follow the tensors of a segment")
        return frames, model, cls(coded, order, tuple(kept))


def _tensors(runs: list[tuple[int, int]], sections: int) -> Iterator[int]:
    """Yield the section index of every tensor. Raises FormatError."""
    count = sum(tensors for _, tensors in runs)
    check_int(count, "the number of tensors of a segment", 1, MOST_TENSORS)
    for section, tensors in runs:
        if section >= sections:
            raise FormatError(f"a tensor refers to section {section} of {sections}")
        yield from (section,) * tensors


class _Reader:
    """Reads a payload from front to back. Raises FormatError at its end."""

    def __init__(self, payload: bytes) -> None:
        self._payload, self._position = payload, 0

    @property
    def left(self) -> int:
        return len(self._payload) - self._position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise FormatError("a segment is shorter than it declares")
        self._position += count
        return self._payload[self._position - count : self._position]

    def numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))
