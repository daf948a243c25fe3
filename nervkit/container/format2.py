"""Format 2 files: read from the end through the table, and written as a stream."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, BinaryIO

import numpy as np

from nervkit.container import chunks
from nervkit.container.chunks import Chunk, inflate
from nervkit.container.contents import Contents, LostSegment, intact_segments
from nervkit.container.fields import check_skippable, parse_json
from nervkit.container.header import (
    MAX_HEADER_BYTES,
    Header,
    Segment,
    pack_json,
    parse_model,
)
from nervkit.container.limits import MOST_CHUNKS, MOST_MODELS, MOST_NETWORKS
from nervkit.container.segment import HEAD as SEGMENT_HEAD
from nervkit.container.segment import SegmentData
from nervkit.container.source import Readable
from nervkit.container.table import Table
from nervkit.errors import ChecksumError, FormatError, LimitError
from nervkit.keywords import setting

PLACE = struct.Struct("<Q")  # the end mark's payload: file offset of the table's chunk
END_BYTES = chunks.FRAMING + PLACE.size
#: minimum and maximum count of every chunk type that a table may list; None: no maximum
COUNTS = {
    chunks.HEADER: (1, 1),
    chunks.TIMING: (1, 1),
    chunks.MODEL: (1, MOST_MODELS),
    chunks.SEGMENT: (1, None),
    chunks.CHECKS: (0, 1),
    chunks.SAMPLES: (0, 1),
    chunks.DESCRIPTION: (0, 1),
    chunks.ATTACHMENT: (0, None),
    chunks.TRACK: (0, None),
    chunks.TRACK_INDEX: (0, 1),
}


class Writer:
    """Writes a file chunk by chunk. It keeps only the location of each chunk, so that a file may be
    larger than the memory.

    Args:
        file: the output; writing starts at its current position.
        header: the header. Its segments are ignored: `segment` takes them one by one.
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file, self._end = file, chunks.PREAMBLE.size
        self._chunks: list[Chunk] = []
        self._models: dict[str, int] = {}
        self._segments: list[tuple[int, int, int | None]] = []
        file.write(chunks.preamble())
        self.part(chunks.HEADER, header.pack())

    def part(self, type: bytes, payload: bytes) -> None:
        """Write a chunk of any type except SEGM."""
        self._chunks.append(Chunk(type, self._end + chunks.CHUNK_HEAD.size, len(payload)))
        self._file.write(chunks.pack_chunk(type, payload))
        self._end = self._chunks[-1].end

    def segment(self, segment: Segment, data: SegmentData) -> None:
        """Write the next segment, preceded by its model if that is new. Raises FormatError if a
        decoder would refuse the model."""
        entry = {"model": segment.model, "config": segment.config}
        key = json.dumps(entry, sort_keys=True)
        if key not in self._models:
            parse_model(entry)
            self._models[key] = len(self._models)
            self.part(chunks.MODEL, pack_json(entry))
        model = self._models[key]
        self.part(chunks.SEGMENT, data.pack(segment.frames, model))
        self._segments.append((segment.frames, model, segment.values))

    def finish(self) -> None:
        """Write the table and the end mark, which must be the last bytes. Raises FormatError if
        there is no segment."""
        if not self._segments:
            raise FormatError("a file needs at least one segment")
        place = self._end
        self.part(chunks.TABLE, Table(self._chunks, *zip(*self._segments, strict=True)).pack())
        self.part(chunks.END, PLACE.pack(place))


def read_contents(file: Readable, size: int, salvage: bool = False) -> Contents:
    """Return the contents of a file of `size` bytes. Reads only the end mark, table, header and
    models. With `salvage`, reads all chunks: it rebuilds a missing table, or leaves out damaged
    segments. Raises FormatError."""
    damage, damaged, ended = None, frozenset[Chunk](), True
    try:
        table, ending = _read_table(file, size)
        if salvage:
            damaged = frozenset(chunk for chunk in table.chunks[1:] if _is_damaged(file, chunk))
    except FormatError as error:
        if not salvage and not isinstance(error, _NoEndMark):
            raise
        found = _scan(file, size, FormatError(str(error)))
        table, damage, damaged, ended = found.table, found.damage, found.damaged, found.ended
        ending = []
        if not salvage or not table.frames:
            raise _not_whole(found) from error
    models = _check_parts(table, salvage=damage is not None)
    header = Header.unpack(chunks.read_payload(file, table.chunks[0]))
    intact = [index for index, chunk in enumerate(models) if chunk not in damaged]
    named = dict(zip(intact, _models(file, [models[index] for index in intact]), strict=True))
    networks = set(zip(table.models, table.frames, table.values, strict=True))
    if len(networks) > MOST_NETWORKS:
        raise LimitError(f"the file has more than {MOST_NETWORKS} different networks")
    segments = [chunk for chunk in table.chunks if chunk.type == chunks.SEGMENT]
    kept = _intact(table, damaged)
    if not kept:
        raise ChecksumError("no segment is intact")
    header = header.of_segments(
        Segment(table.frames[i], *named[table.models[i]], table.values[i]) for i in kept
    )
    lost, frames = [], None
    if len(kept) < len(segments):
        spans = list(pairwise(accumulate(table.frames, initial=0)))
        lost = [
            LostSegment(i, spans[i][0], spans[i][1], segments[i] not in damaged)
            for i in sorted({*range(len(segments))} - {*kept})
        ]
        frames = np.r_[*(slice(*spans[i]) for i in kept)]
    return Contents(
        header=header,
        chunks=[*table.chunks, *ending],
        segments=[[segments[i]] for i in kept],
        models=[table.models[i] for i in kept],
        damage=None if damage is None else str(damage),
        ended=ended,
        damaged=damaged,
        lost=lost,
        kept=frames,
    )


def _intact(table: Table, damaged: frozenset[Chunk]) -> list[int]:
    """Return the indices of the segments that are not damaged, and whose models are not either."""
    if not damaged:
        return list(range(len(table.frames)))
    models = [chunk for chunk in table.chunks if chunk.type == chunks.MODEL]
    usable = {index for index, chunk in enumerate(models) if chunk not in damaged}
    segments = [chunk for chunk in table.chunks if chunk.type == chunks.SEGMENT]
    rows = enumerate(zip(segments, table.models, strict=True))
    return [i for i, (chunk, model) in rows if chunk not in damaged and model in usable]


def _is_damaged(file: Readable, chunk: Chunk) -> bool:
    try:
        chunks.check(file, chunk)
    except FormatError:
        return True
    return False


def read_segment(file: Readable, contents: Contents, index: int) -> SegmentData:
    """Return the coded tensors of a segment. Raises FormatError."""
    [chunk] = contents.segments[index]
    frames, model, data = SegmentData.unpack(chunks.read_payload(file, chunk))
    if (frames, model) != (contents.header.segments[index].frames, contents.models[index]):
        raise FormatError(f"segment {index} contradicts the table: frame count or model differ")
    return data


def _read_table(file: Readable, size: int) -> tuple[Table, list[Chunk]]:
    """Return the table, and the chunks of the table and the end mark. Raises FormatError."""
    end = Chunk(chunks.END, size - END_BYTES + chunks.CHUNK_HEAD.size, PLACE.size)
    file.seek(max(0, size - END_BYTES))
    mark = file.read(END_BYTES)
    if not mark.startswith(chunks.CHUNK_HEAD.pack(chunks.END, PLACE.size)):
        raise _NoEndMark("the end mark is missing, or its length is not 8")
    place = PLACE.unpack(chunks.payload_of(end, mark))[0]
    length = size - END_BYTES - place - chunks.FRAMING
    if place < chunks.PREAMBLE.size or length < 0:
        raise FormatError("the end mark has an invalid table offset")
    listed = Chunk(chunks.TABLE, place + chunks.CHUNK_HEAD.size, length)
    return Table.unpack(chunks.read_payload(file, listed), place), [listed, end]


class _NoEndMark(FormatError):
    """The file does not end with an end mark."""


@dataclass(frozen=True)
class _Found:
    """The chunks of a file without a valid table.

    Attributes:
        table: the chunks, as far as they follow each other. Segments have no `values`.
        damage: why there is no table, or the error at which the scan stopped.
        damaged: the chunks among them with a wrong checksum.
        ended: whether the scan reached the place of the table.
    """

    table: Table
    damage: FormatError
    damaged: frozenset[Chunk]
    ended: bool


def _scan(file: Readable, size: int, damage: FormatError) -> _Found:
    """Find the chunks of a file whose table is not valid because of `damage`."""
    found: list[Chunk] = []
    damaged: set[Chunk] = set()
    segments: list[tuple[int, int]] = []
    models, ended = 0, False
    try:
        for chunk in chunks.scan(file, size, MOST_CHUNKS + 2):
            ended |= chunk.type in (chunks.TABLE, chunks.END)
            if ended:
                continue
            if chunk.type == chunks.HEADER:
                chunks.check(file, chunk)
            elif _is_damaged(file, chunk):
                damaged.add(chunk)
            if chunk.type == chunks.SEGMENT:
                frames, model = _frames_and_model(file, chunk)
                if chunk in damaged and not (frames and model < models):
                    chunks.check(file, chunk)  # these two numbers are not to be trusted
                segments.append((frames, model))
            models += chunk.type == chunks.MODEL
            found.append(chunk)
    except FormatError as error:
        damage = error
    rows = [frames for frames, _ in segments], [model for _, model in segments]
    table = Table(found, *rows, [None] * len(segments))
    return _Found(table, damage, frozenset(damaged), ended)


def _not_whole(found: _Found) -> FormatError:
    """Return the error of a file with `found` chunks, with a note on the intact segments."""
    damage, frames = found.damage, found.table.frames
    intact = [frames[index] for index in _intact(found.table, found.damaged)]
    if not intact:
        return type(damage)(f"{damage}; no segment is intact")
    return type(damage)(
        f"{damage}; {intact_segments(len(intact), sum(intact), len(frames))} intact; "
        f"use {setting('salvage', True)} to decode {'it' if len(intact) == 1 else 'them'}"
    )


def _frames_and_model(file: Readable, chunk: Chunk) -> tuple[int, int]:
    """Return a segment's number of frames and model index. Raises FormatError."""
    file.seek(chunk.offset)
    head = file.read(min(chunk.length, SEGMENT_HEAD.size))
    if len(head) < SEGMENT_HEAD.size:
        raise FormatError("a segment is shorter than it declares")
    frames, model, *_ = SEGMENT_HEAD.unpack(head)
    return frames, model


def _check_parts(table: Table, salvage: bool) -> list[Chunk]:
    """Check the order and counts of a file's chunks; with `salvage`, any but the first may be
    missing. Return the MODL chunks. Raises FormatError."""
    if table.chunks[0].type != chunks.HEADER:
        raise FormatError("the file does not begin with its header")
    models, segments = [], iter(table.models)
    for chunk in table.chunks:
        if chunk.type not in COUNTS:
            _may_skip(chunk.type)
        elif chunk.type == chunks.MODEL:
            models.append(chunk)
        elif chunk.type == chunks.SEGMENT and next(segments) >= len(models):
            raise FormatError("a segment comes before its model")
    found = Counter(chunk.type for chunk in table.chunks)
    for type, (least, most) in COUNTS.items():
        least = 0 if salvage else least
        if found[type] < least or (most is not None and found[type] > most):
            raise FormatError(
                f"the file has {found[type]} chunks {type.decode()}, which is invalid"
            )
    if found[chunks.SAMPLES] > found[chunks.CHECKS]:
        raise FormatError("the file has a cSMP chunk but no cHCK")
    return models


def _may_skip(type: bytes) -> None:
    if not (type.isalpha() and type.isascii()):
        raise FormatError("a chunk's type is not four ASCII letters")
    if type in (chunks.TABLE, chunks.END):
        raise FormatError(f"chunk {type.decode()} is out of place")
    check_skippable(type.decode(), "chunk")


def _models(file: Readable, listed: Sequence[Chunk]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and configuration in each MODL chunk. All of them together may have as many
    bytes as a header."""
    left, what = MAX_HEADER_BYTES, "a model"
    for chunk in listed:
        content = inflate(chunks.read_payload(file, chunk), left, what)
        left -= len(content)
        yield parse_model(parse_json(content, what), what)
