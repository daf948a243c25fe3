"""The outer layer of a .nerv file, and of a collection's: signature, chunks with checksums.

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
PREAMBLE = struct.Struct("<8sHHI")  # signature, major, minor, CRC-32 of what precedes
CHUNK_HEAD = struct.Struct("<4sQ")  # type, payload length
CRC = struct.Struct("<I")  # of type, length and payload
FRAMING = CHUNK_HEAD.size + CRC.size

HEADER, TIMING, TABLE, END = b"HEAD", b"TIME", b"TABL", b"NEND"
MODEL, SEGMENT = b"MODL", b"SEGM"
# Lower case first: a decoder may do without.
CHECKS, SAMPLES, DESCRIPTION, ATTACHMENT, TRACK = b"cHCK", b"cSMP", b"mETA", b"aTCH", b"tRAK"
TRACK_INDEX = b"tIDX"
PIECE = 1 << 20  # bytes that are held at once where a checksum is verified
CUT_SHORT = "the file ends inside a chunk: it is cut short"


@dataclass(frozen=True)
class Kind:
    """A kind of file: the version that is written, the major versions that are `read`, and the
    commands for it."""

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
    """Where a chunk lies: `offset` and `length` of its payload in the file."""

    type: bytes
    offset: int
    length: int

    @property
    def size(self) -> int:
        """Bytes on disk, framing included."""
        return self.length + FRAMING

    @property
    def end(self) -> int:
        """Where the next chunk begins."""
        return self.offset + self.length + CRC.size


def preamble(kind: Kind = NERV) -> bytes:
    """The first bytes of every file."""
    start = PREAMBLE.pack(kind.signature, kind.major, kind.minor, 0)[: -CRC.size]
    return start + CRC.pack(zlib.crc32(start))


def pack_chunk(type: bytes, payload: bytes) -> bytes:
    """A whole chunk."""
    body = CHUNK_HEAD.pack(type, len(payload)) + payload
    return body + CRC.pack(zlib.crc32(body))


def scan(file: Readable, size: int, most: int) -> Iterator[Chunk]:
    """All chunks of a file of `size` bytes in order, up to the end mark, by their heads. Reads no
    payload. Raises FormatError where one cannot be, TruncatedError where the file ends, LimitError
    where there are more than `most`."""
    position, type, count = PREAMBLE.size, b"", 0
    while type != END:
        if count == most:
            raise LimitError(f"the file has more than {most} chunks")
        file.seek(position)
        head = file.read(CHUNK_HEAD.size)
        if len(head) < CHUNK_HEAD.size:
            raise TruncatedError("the file ends before its end mark: it is cut short")
        type, length = CHUNK_HEAD.unpack(head)
        if length > size - position - FRAMING:
            raise TruncatedError(f"{CUT_SHORT} at byte {size}")
        if not (type.isalpha() and type.isascii()):
            raise FormatError(f"byte {position} should begin a chunk, but does not")
        chunk = Chunk(type, position + CHUNK_HEAD.size, length)
        yield chunk
        position, count = chunk.end, count + 1
    if position != size:
        raise FormatError(f"{size - position} bytes follow the end mark")


def read_payload(file: Readable, chunk: Chunk) -> bytes:
    """A chunk's payload, its checksum verified."""
    file.seek(chunk.offset - CHUNK_HEAD.size)
    whole = file.read(chunk.size)  # at once: of a remote file each read is a request
    return payload_of(chunk, whole)


def payload_of(chunk: Chunk, whole: bytes) -> bytes:
    """The same from all bytes of the chunk."""
    if len(whole) < chunk.size:
        raise TruncatedError(CUT_SHORT)
    body = memoryview(whole)[: -CRC.size]
    head = whole[: CHUNK_HEAD.size]
    _check(chunk, head, zlib.crc32(body), whole[-CRC.size :])
    return bytes(body[CHUNK_HEAD.size :])


def check(file: Readable, chunk: Chunk) -> None:
    """Verify a chunk's checksum, in pieces of bounded size. Raises ChecksumError, or FormatError
    where another chunk lies there."""
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
    """zlib-decompress to at most `limit` bytes; FormatError on damage or on more."""
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, limit + 1)  # a limit of 0 would be none to zlib
    except zlib.error as error:
        raise FormatError(f"{what} cannot be decompressed") from error
    if len(result) > limit or not stream.eof or stream.unused_data:
        raise FormatError(f"{what} is longer than allowed, or incomplete")
    return result


def read_version(file: Readable, kind: Kind = NERV) -> tuple[int, int]:
    """Major and minor version from the first bytes of a file. Raises FormatError where they are
    not those of a file of that kind, VersionError where this nervkit does not read it."""
    file.seek(0)
    data = file.read(PREAMBLE.size)
    for other in (NERV, COLLECTION):
        if other is not kind and data.startswith(other.signature):
            raise FormatError(f"is a {other.name} file, no {kind.name}: it is for {other.commands}")
    size = len(kind.signature)
    if data[:size] != kind.signature[: len(data)] or len(data) < size:
        raise FormatError(f"not a {kind.name} file")
    if len(data) < PREAMBLE.size:
        raise TruncatedError("the file ends inside its first bytes: it is cut short")
    _, major, minor, crc = PREAMBLE.unpack(data)
    if crc != zlib.crc32(data[: -CRC.size]):
        raise ChecksumError("the first bytes of the file are damaged: their checksum is wrong")
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
        raise FormatError(f"another chunk than {name} is at byte {chunk.offset}")


def _pieces(file: Readable, count: int) -> Iterator[bytes]:
    while count > 0:
        piece = file.read(min(count, PIECE))
        if not piece:
            return
        count -= len(piece)
        yield piece
