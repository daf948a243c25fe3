"""The outer layer of a .nerv file: signature, chunks with checksums, end mark.

docs/format.md is the specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nervkit.errors import (
    ChecksumError,
    FormatError,
    LimitError,
    TruncatedError,
    VersionError,
)

SIGNATURE = b"\x89NERV\r\n\x1a"
MAJOR, MINOR = 1, 2
PREAMBLE = struct.Struct("<8sHHI")  # signature, major, minor, CRC-32 of what precedes
CHUNK_HEAD = struct.Struct("<4sQ")  # type, payload length
CRC = struct.Struct("<I")  # of type, length and payload
FRAMING = CHUNK_HEAD.size + CRC.size

HEADER, TIMING, WEIGHTS, EMBEDDINGS, END = b"HEAD", b"TIME", b"WGTS", b"EMBD", b"NEND"
TENSORS = b"TNSR"  # all of a segment's, coded by scales and contexts
# Lower case first: a decoder may do without.
CHECKS, SAMPLES, DESCRIPTION, ATTACHMENT, TRACK = b"cHCK", b"cSMP", b"mETA", b"aTCH", b"tRAK"
ORDER = (
    *((HEADER,), (TIMING,), (WEIGHTS, EMBEDDINGS, TENSORS), (CHECKS,), (SAMPLES,)),
    *((DESCRIPTION,), (ATTACHMENT,), (TRACK,), (END,)),
)
RANK = {type: rank for rank, types in enumerate(ORDER) for type in types}
ONCE = (HEADER, TIMING, CHECKS, SAMPLES, DESCRIPTION, END)
MOST_CHUNKS = 1 << 14


@dataclass(frozen=True)
class Chunk:
    """Where a chunk lies: `offset` and `length` of its payload in the file."""

    type: bytes
    offset: int
    length: int

    @property
    def size(self) -> int:
        """Bytes on disk, framing included."""
        return self.length + FRAMING


def preamble() -> bytes:
    """The first bytes of every file."""
    start = PREAMBLE.pack(SIGNATURE, MAJOR, MINOR, 0)[: -CRC.size]
    return start + CRC.pack(zlib.crc32(start))


def pack_chunk(type: bytes, payload: bytes) -> bytes:
    """A whole chunk."""
    body = CHUNK_HEAD.pack(type, len(payload)) + payload
    return body + CRC.pack(zlib.crc32(body))


def scan_chunks(file: BinaryIO, size: int) -> tuple[tuple[int, int], list[Chunk]]:
    """The version, and all chunks of a file of `size` bytes up to the end mark. Reads no payload.

    Raises FormatError (or its TruncatedError, ChecksumError, VersionError) on anything amiss.
    """
    version = _check_preamble(file.read(PREAMBLE.size))
    chunks: list[Chunk] = []
    position = PREAMBLE.size
    while not chunks or chunks[-1].type != END:
        file.seek(position)
        head = file.read(CHUNK_HEAD.size)
        if len(head) < CHUNK_HEAD.size:
            raise TruncatedError("the file ends before its end mark: it is cut short")
        type, length = CHUNK_HEAD.unpack(head)
        if length > size - position - FRAMING:
            raise TruncatedError(f"the file ends inside a chunk: it is cut short at byte {size}")
        if not (type.isalpha() and type.isascii()):
            raise FormatError(f"byte {position} should begin a chunk, but does not")
        if len(chunks) == MOST_CHUNKS:
            raise LimitError(f"the file has more than {MOST_CHUNKS} chunks")
        chunks.append(Chunk(type, position + CHUNK_HEAD.size, length))
        position += length + FRAMING
    if position != size:
        raise FormatError(f"{size - position} bytes follow the end mark")
    _check_order(chunks)
    return version, chunks


def read_payload(file: BinaryIO, chunk: Chunk) -> bytes:
    """A chunk's payload, its checksum verified."""
    file.seek(chunk.offset - CHUNK_HEAD.size)
    body = file.read(CHUNK_HEAD.size + chunk.length)
    stored = file.read(CRC.size)
    if len(body) < CHUNK_HEAD.size + chunk.length or len(stored) < CRC.size:
        raise TruncatedError("the file ends inside a chunk: it is cut short")
    if CRC.unpack(stored)[0] != zlib.crc32(body):
        raise _damaged(chunk)
    return body[CHUNK_HEAD.size :]


def check_all(file: BinaryIO, chunks: list[Chunk]) -> None:
    """Verify every checksum, in pieces of bounded size."""
    for chunk in chunks:
        file.seek(chunk.offset - CHUNK_HEAD.size)
        crc = 0
        for piece in _pieces(file, CHUNK_HEAD.size + chunk.length):
            crc = zlib.crc32(piece, crc)
        if file.read(CRC.size) != CRC.pack(crc):
            raise _damaged(chunk)


def inflate(data: bytes, limit: int, what: str) -> bytes:
    """zlib-decompress to at most `limit` bytes; FormatError on damage or on more."""
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, limit + 1)  # a limit of 0 would be none to zlib
    except zlib.error as error:
        raise FormatError(f"{what} cannot be decompressed") from error
    if len(result) > limit or not stream.eof or stream.unused_data:
        raise FormatError(f"{what} is longer than allowed, or incomplete")
    return result


def _check_order(chunks: list[Chunk]) -> None:
    """The known chunks stand in ORDER, some of them once; the others may be skipped."""
    if [chunk.type for chunk in chunks[:2]] != [HEADER, TIMING]:
        raise FormatError("the file does not begin with its header and timing")
    rank, seen = 0, set()
    for chunk in chunks:
        name = chunk.type.decode("ascii")
        if chunk.type not in RANK:
            if name[0].isupper():
                raise FormatError(
                    f"chunk {name} is not known here, and needed: install a newer nervkit"
                )
            continue
        if RANK[chunk.type] < rank or (chunk.type in ONCE and chunk.type in seen):
            raise FormatError(f"chunk {name} is repeated or out of place")
        rank = RANK[chunk.type]
        seen.add(chunk.type)
    if chunks[-1].length:
        raise FormatError("the end mark holds bytes; it must be empty")


def _damaged(chunk: Chunk) -> ChecksumError:
    name = chunk.type.decode("ascii")
    return ChecksumError(f"chunk {name} at byte {chunk.offset} is damaged: its checksum is wrong")


def _pieces(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0:
        piece = file.read(min(count, 1 << 20))
        if not piece:
            return
        count -= len(piece)
        yield piece


def _check_preamble(data: bytes) -> tuple[int, int]:
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)] or len(data) < len(SIGNATURE):
        raise FormatError("not a .nerv file")
    if len(data) < PREAMBLE.size:
        raise TruncatedError("the file ends inside its first bytes: it is cut short")
    _, major, minor, crc = PREAMBLE.unpack(data)
    if crc != zlib.crc32(data[: -CRC.size]):
        raise ChecksumError("the first bytes of the file are damaged: their checksum is wrong")
    if major != MAJOR:
        raise VersionError(
            f"the file has format version {major}.{minor}; this nervkit reads {MAJOR}.x: "
            "install a newer nervkit"
        )
    return major, minor
