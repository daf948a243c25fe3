"""Chunk framing of .nerv and .nervc files: the signature, and chunks with checksums.

docs/format.md is the specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from nervkit.container.source import Readable
from nervkit.errors import ChecksumError, FormatError, LimitError, TruncatedError, VersionError

SIGNATURE = b"\x89NERV\r\n\x1a"
PREAMBLE = struct.Struct("<8sHHI")  # signature, major, minor, CRC-32 of these three
CHUNK_HEAD = struct.Struct("<4sQ")  # type, payload length
CRC = struct.Struct("<I")  # of type, length and payload
FRAMING = CHUNK_HEAD.size + CRC.size

HEADER, TIMING, TABLE, END = b"HEAD", b"TIME", b"TABL", b"NEND"
MODEL, SEGMENT = b"MODL", b"SEGM"
# A lower-case first letter marks an ancillary chunk, which a decoder may skip.
CHECKS, SAMPLES, DESCRIPTION, ATTACHMENT, TRACK = b"cHCK", b"cSMP", b"mETA", b"aTCH", b"tRAK"
TRACK_INDEX = b"tIDX"
PIECE = 1 << 20  # bytes in memory at a time while a checksum is verified
CUT_SHORT = "the file ends inside a chunk: it is truncated"


@dataclass(frozen=True)
class Kind:
    """A file type: the format version that nervkit writes, the major versions that it can `read`,
    and the commands that take such files."""

    name: str
    signature: bytes
    major: int
    minor: int
    read: tuple[int, ...]
    commands: str


NERV = Kind(".nerv", SIGNATURE, 2, 0, (1, 2), "nervkit info, decode and verify")
COLLECTION = Kind(".nervc", b"\x89NERC\r\n\x1a", 1, 0, (1,), "nervkit collection")


@dataclass(frozen=True)
class Chunk:
    """A chunk's type, and the file `offset` and `length` of its payload."""

    type: bytes
    offset: int
    length: int

    @property
    def size(self) -> int:
        """Bytes on disk, framing included."""
        return self.length + FRAMING

    @property
    def end(self) -> int:
        """File offset of the next chunk."""
        return self.offset + self.length + CRC.size


def preamble(kind: Kind = NERV) -> bytes:
    """Return the first 16 bytes of every file of this kind."""
    start = PREAMBLE.pack(kind.signature, kind.major, kind.minor, 0)[: -CRC.size]
    return start + CRC.pack(zlib.crc32(start))


def pack_chunk(type: bytes, payload: bytes) -> bytes:
    """Return a chunk's bytes, framing included."""
    body = CHUNK_HEAD.pack(type, len(payload)) + payload
    return body + CRC.pack(zlib.crc32(body))


def scan(file: Readable, size: int, most: int) -> Iterator[Chunk]:
    """Yield all chunks of a file of `size` bytes in order, up to the end mark. Reads chunk headers
    and no payload. Raises FormatError for an invalid header, TruncatedError if the file ends early,
    LimitError for more than `most` chunks."""
    position, type, count = PREAMBLE.size, b"", 0
    while type != END:
        if count == most:
            raise LimitError(f"the file has more than {most} chunks")
        file.seek(position)
        head = file.read(CHUNK_HEAD.size)
        if len(head) < CHUNK_HEAD.size:
            raise TruncatedError("the file ends before its end mark: it is truncated")
        type, length = CHUNK_HEAD.unpack(head)
        if length > size - position - FRAMING:
            raise TruncatedError(f"{CUT_SHORT} at byte {size}")
        if not (type.isalpha() and type.isascii()):
            raise FormatError(f"there is no valid chunk at byte {position}")
        chunk = Chunk(type, position + CHUNK_HEAD.size, length)
        yield chunk
        position, count = chunk.end, count + 1
    if position != size:
        raise FormatError(f"{size - position} bytes follow the end mark")


def read_payload(file: Readable, chunk: Chunk) -> bytes:
    """Return a chunk's payload after verifying its checksum."""
    file.seek(chunk.offset - CHUNK_HEAD.size)
    whole = file.read(chunk.size)  # one read, because each read of a remote file is a request
    return payload_of(chunk, whole)


def payload_of(chunk: Chunk, whole: bytes) -> bytes:
    """Return the payload from all bytes of the chunk, after verifying the checksum."""
    if len(whole) < chunk.size:
        raise TruncatedError(CUT_SHORT)
    body = memoryview(whole)[: -CRC.size]
    head = whole[: CHUNK_HEAD.size]
    _check(chunk, head, zlib.crc32(body), whole[-CRC.size :])
    return bytes(body[CHUNK_HEAD.size :])


def check(file: Readable, chunk: Chunk) -> None:
    """Verify a chunk's checksum with bounded memory. Raises ChecksumError, or FormatError if
    another chunk is at its offset."""
    if chunk.size <= PIECE:
        read_payload(file, chunk)
        return
    file.seek(chunk.offset - CHUNK_HEAD.size)
    head = file.read(CHUNK_HEAD.size)
    crc = zlib.crc32(head)
    for piece in _pieces(file, chunk.length):
        crc = zlib.crc32(piece, crc)
    _check(chunk, head, crc, file.read(CRC.size))


def inflate(data: bytes, limit: int, what: str) -> bytes:
    """Decompress zlib data to at most `limit` bytes. Raises FormatError for damaged or longer
    data."""
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, limit + 1)  # zlib takes 0 as "no limit"
    except zlib.error as error:
        raise FormatError(f"{what} cannot be decompressed") from error
    if len(result) > limit or not stream.eof or stream.unused_data:
        raise FormatError(f"{what} is longer than allowed, or incomplete")
    return result


def read_version(file: Readable, kind: Kind = NERV) -> tuple[int, int]:
    """Return the major and minor format version of a file. Raises FormatError if the file is of
    another kind, VersionError if this nervkit cannot read the version."""
    file.seek(0)
    data = file.read(PREAMBLE.size)
    for other in (NERV, COLLECTION):
        if other is not kind and data.startswith(other.signature):
            raise FormatError(
                f"this is a {other.name} file, not a {kind.name}: use {other.commands}"
            )
    size = len(kind.signature)
    if data[:size] != kind.signature[: len(data)] or len(data) < size:
        raise FormatError(f"not a {kind.name} file")
    if len(data) < PREAMBLE.size:
        raise TruncatedError("the file ends inside its preamble: it is truncated")
    _, major, minor, crc = PREAMBLE.unpack(data)
    if crc != zlib.crc32(data[: -CRC.size]):
        raise ChecksumError("the preamble is damaged: its checksum is wrong")
    if major not in kind.read:
        known = " and ".join(f"{major}.x" for major in kind.read)
        raise VersionError(
            f"the file has format version {major}.{minor}; this nervkit reads {known}: "
            "install a newer nervkit"
        )
    return major, minor


def _check(chunk: Chunk, head: bytes, crc: int, stored: bytes) -> None:
    name = chunk.type.decode("ascii")
    if stored != CRC.pack(crc):
        raise ChecksumError(
            f"chunk {name} at byte {chunk.offset} is damaged: its checksum is wrong"
        )
    if head != CHUNK_HEAD.pack(chunk.type, chunk.length):
        raise FormatError(f"the chunk at byte {chunk.offset} is not {name}")


def _pieces(file: Readable, count: int) -> Iterator[bytes]:
    while count > 0:
        piece = file.read(min(count, PIECE))
        if not piece:
            return
        count -= len(piece)
        yield piece
