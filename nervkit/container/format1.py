"""Reading of format 1 files (docs/format.md, section 12). nervkit does not write them any more."""

from __future__ import annotations

import struct
from typing import Any

from nervkit.container import chunks
from nervkit.container.chunks import Chunk, inflate
from nervkit.container.contents import Contents
from nervkit.container.fields import check_object, check_skippable, parse_json
from nervkit.container.header import MAX_HEADER_BYTES, WHAT, Header, Segment, parse_model
from nervkit.container.segment import ADAPTIVE, CONTEXTS, SegmentData
from nervkit.container.source import Readable
from nervkit.errors import FormatError

WEIGHTS, EMBEDDINGS, TENSORS = b"WGTS", b"EMBD", b"TNSR"
METHODS = {WEIGHTS: ADAPTIVE, EMBEDDINGS: ADAPTIVE, TENSORS: CONTEXTS}
ORDER = (
    *((chunks.HEADER,), (chunks.TIMING,), (WEIGHTS, EMBEDDINGS, TENSORS), (chunks.CHECKS,)),
    *((chunks.SAMPLES,), (chunks.DESCRIPTION,), (chunks.ATTACHMENT,), (chunks.TRACK,)),
    (chunks.END,),
)
RANK = {type: rank for rank, types in enumerate(ORDER) for type in types}
MANY = (WEIGHTS, EMBEDDINGS, TENSORS, chunks.ATTACHMENT, chunks.TRACK)
MOST_CHUNKS, MOST_SEGMENTS = 1 << 14, 1 << 12
COUNT = struct.Struct("<H")  # a tensor chunk begins with its number of tensors


def read_contents(file: Readable, size: int, salvage: bool = False) -> Contents:
    """Return the contents of a file of `size` bytes. Reads the chunk headers and the file header.
    Raises FormatError; ignores `salvage`, because a truncated format 1 file cannot be salvaged."""
    found = list(chunks.scan(file, size, MOST_CHUNKS))
    _check_order(found)
    header = _header(chunks.read_payload(file, found[0]))
    segments = _matched(found)
    if len(segments) != len(header.segments):
        raise FormatError(
            f"the header declares {len(header.segments)} segments, the file holds {len(segments)}"
        )
    return Contents(header, found, segments)


def read_segment(file: Readable, contents: Contents, index: int) -> SegmentData:
    """Return the coded tensors of a segment. Raises FormatError."""
    coded = []
    for chunk in contents.segments[index]:
        payload = chunks.read_payload(file, chunk)
        if len(payload) < COUNT.size:
            raise FormatError(f"chunk {chunk.type.decode()} is too short")
        coded.append((METHODS[chunk.type], *COUNT.unpack_from(payload), payload))
    return SegmentData.of(*coded)


def _check_order(found: list[Chunk]) -> None:
    """Check that known chunks are in ORDER, that only MANY repeat, and that unknown ones may be
    skipped."""
    if [chunk.type for chunk in found[:2]] != [chunks.HEADER, chunks.TIMING]:
        raise FormatError("the file does not begin with its header and timing")
    rank, seen = 0, set()
    for chunk in found:
        name = chunk.type.decode("ascii")
        if chunk.type not in RANK:
            check_skippable(name, "chunk")
            continue
        if RANK[chunk.type] < rank or (chunk.type not in MANY and chunk.type in seen):
            raise FormatError(f"chunk {name} is repeated or out of place")
        rank = RANK[chunk.type]
        seen.add(chunk.type)
    if found[-1].length:
        raise FormatError("the end mark must be empty")


def _matched(found: list[Chunk]) -> list[list[Chunk]]:
    """Group the chunks by segment: each has WGTS, optionally followed by EMBD; or TNSR."""
    segments: list[list[Chunk]] = []
    before = b""
    for chunk in found:
        if chunk.type in (WEIGHTS, TENSORS):
            segments.append([chunk])
        elif chunk.type == EMBEDDINGS:
            if before != WEIGHTS:
                raise FormatError("chunk EMBD does not follow its segment's WGTS")
            segments[-1].append(chunk)
        before = chunk.type
    return segments


def _header(payload: bytes) -> Header:
    """Parse the header, which lists the segments in format 1. Raises FormatError."""
    fields = parse_json(inflate(payload, MAX_HEADER_BYTES, WHAT), WHAT)
    entries = check_object(fields, WHAT, ("segments",))["segments"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_SEGMENTS:
        raise FormatError(f"segments must be a list of 1 to {MOST_SEGMENTS}")
    header = Header.parse({name: entry for name, entry in fields.items() if name != "segments"})
    return header.of_segments(map(_segment, entries))


def _segment(entry: Any) -> Segment:
    fields = check_object(entry, "a segment", ("frames", "model", "config", "values"))
    model, config = parse_model({k: fields[k] for k in ("model", "config")}, "a segment")
    return Segment(fields["frames"], model, config, fields["values"])
