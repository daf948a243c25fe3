"""Detection of truncated files, and how many bytes they lack.

In many formats, demuxers treat truncation as a normal end of file and report nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

EBML_HEADER, MATROSKA_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
PNG = b"\x89PNG\r\n\x1a\n"
#: top-level boxes of MP4 and MOV (ISO 14496-12 and 23009-1, QuickTime)
BOXES = (
    *(b"ftyp", b"styp", b"pdin", b"moov", b"moof", b"mfra", b"mdat", b"imda", b"free", b"skip"),
    *(b"wide", b"pnot", b"meta", b"meco", b"sidx", b"ssix", b"prft", b"emsg", b"udta", b"uuid"),
)
SMALLEST_BOX = 8
HEAD = 1 << 13  # bytes that identify the format
TAIL = 1 << 17  # bytes that contain at least one complete Ogg page


class File(Protocol):
    """A seekable binary file."""

    def read(self, count: int = -1, /) -> bytes:
        """Return the next `count` bytes; -1: all that remain."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move as `io.IOBase.seek` does."""

    def tell(self) -> int:
        """Return the current position."""


@dataclass(frozen=True)
class Cut:
    """A truncation: at least `missing` bytes are missing, and `whole` frames are complete (None:
    the demuxer reports incomplete frames itself)."""

    missing: int
    whole: int | None = None


def cut_of(path: Path) -> Cut | None:
    """Return the truncation of a file; see `cut_in`."""
    with path.open("rb") as file:
        return cut_in(file)


def cut_in(file: File) -> Cut | None:
    """Return the truncation of a Matroska, MP4, RIFF (AVI, WebP), FLV, ASF, Ogg, MPEG-TS, GIF or
    PNG file; None for a complete file, another format, or an unspecified length (live streams)."""
    head = file.read(HEAD)
    end = file.seek(0, 2)
    file.seek(0)
    try:
        if head[:4] == EBML_HEADER:
            return _bytes(_matroska_end(file) - end)
        if head[4:8] in BOXES:
            return _bytes(_boxes_end(file, end) - end)
        if head[:4] == b"RIFF":
            return _bytes(_riff_end(file, end) - end)
        if head[:4] == b"FLV\x01":
            return _bytes(_flv_end(file, end) - end)
        if head[:16] == ASF:
            return _bytes(_asf_end(head) - end)
        if head[:4] == b"OggS":
            return _bytes(_ogg_end(file, end) - end)
        for size, first in ((188, 0), (192, 4), (204, 0)):  # plain, M2TS, with parity
            if head[first::size][:5] == b"G" * 5:
                return _bytes(-end % size)
        if head[:3] == b"GIF":
            return _gif(file)
        if head[:8] == PNG:
            return _png(file, end)
    except (EOFError, struct.error):
        return Cut(1)
    return None


def _bytes(missing: int) -> Cut | None:
    return Cut(missing) if missing > 0 else None


def _matroska_end(file: File) -> int:
    """Return the end of the first segment (RFC 8794, 6), 0 if its size is unknown or invalid."""
    for identifier in (EBML_HEADER, MATROSKA_SEGMENT):
        if file.read(4) != identifier:
            return 0
        first = _read(file, 1)[0]
        length = 8 - first.bit_length()  # further bytes of the size
        if length > 7:
            return 0
        size = int.from_bytes(bytes([first ^ (0x80 >> length)]) + _read(file, length))
        if identifier == EBML_HEADER:
            file.seek(size, 1)
    unknown = size == (1 << 7 * (length + 1)) - 1
    return 0 if unknown else file.tell() + size


def _boxes_end(file: File, end: int) -> int:
    """Return the end of the last top-level box (ISO 14496-12, 4.2)."""
    kind, place = b"", 0
    while place < end:
        file.seek(place)
        head = file.read(8)
        if head[4:] not in BOXES:
            break  # padding or appended data
        size, kind = struct.unpack(">I4s", head)
        if size == 1:
            (size,) = struct.unpack(">Q", _read(file, 8))
        if size < SMALLEST_BOX:  # 0: the box extends to the end of the file
            return end
        place += size
    # An mdat box must follow the moof box of a fragment.
    return max(place, end) + SMALLEST_BOX if kind == b"moof" else place


def _riff_end(file: File, end: int) -> int:
    """Return the end of the last RIFF chunk (a long AVI has several), 0 for an unfinished file."""
    place = 0
    while place < end:
        file.seek(place)
        kind, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if kind != b"RIFF" or size in (0, 0xFFFFFFFF):
            break
        place += 8 + size + size % 2
    return place - size % 2 if place > end else place


def _flv_end(file: File, end: int) -> int:
    """Return the end of the last tag (FLV 10.1, annex E), whose trailing size some writers omit."""
    file.seek(5)
    place = int.from_bytes(_read(file, 4)) + 4
    while place < end:
        file.seek(place + 1)
        place += 11 + int.from_bytes(_read(file, 3)) + 4
    return place - 4


def _asf_end(head: bytes) -> int:
    """Return the declared size of an ASF file (ASF, 3.2), 0 for a broadcast."""
    place = head.find(ASF_FILE_PROPERTIES)
    if place < 0:
        return 0
    (size,) = struct.unpack_from("<Q", head, place + 40)
    (flags,) = struct.unpack_from("<I", head, place + 88)
    return 0 if flags & 1 else size


def _ogg_end(file: File, end: int) -> int:
    """Return the end of the last page (RFC 3533, 6)."""
    file.seek(max(0, end - TAIL))
    tail = file.read()
    place = tail.rfind(b"OggS")
    if place < 0:
        return 0
    segments = tail[place + 26 : place + 27]
    if not segments or len(tail) < place + 27 + segments[0]:
        return end + 1
    return end - len(tail) + place + 27 + segments[0] + sum(tail[place + 27 :][: segments[0]])


def _gif(file: File) -> Cut | None:
    """Walk the blocks (GIF89a, 17 to 27), which must end with a trailer."""
    frames = 0
    try:
        _skip_palette(file, _read(file, 13)[10])
        while True:
            kind = _read(file, 1)
            if kind == b";":
                return None
            if kind == b"!":
                _read(file, 1)  # the extension's label
            elif kind == b",":
                _skip_palette(file, _read(file, 9)[8])
                _read(file, 1)  # LZW minimum code size
            else:
                return None  # not a valid GIF; the decoder reports it
            while size := _read(file, 1)[0]:
                _read(file, size)
            frames += kind == b","
    except EOFError:
        return Cut(1, frames)


def _skip_palette(file: File, flags: int) -> None:
    if flags & 0x80:
        _read(file, 3 << (flags & 7) + 1)


def _png(file: File, end: int) -> Cut | None:
    """Walk the chunks (PNG, 5.3; APNG), which must include IEND."""
    frames = 0
    announced = began = False  # whether fcTL, and then pixels, of an animation frame were found
    for kind, stop in _png_chunks(file, end):
        if stop > end:
            return Cut(stop - end, frames)
        if kind in (b"fcTL", b"IEND"):
            frames += began
            announced, began = True, False
        if kind == b"IEND":
            return None
        began |= announced and kind in (b"IDAT", b"fdAT")
    return Cut(12, frames)


def _png_chunks(file: File, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield type and end offset of every chunk."""
    place = len(PNG)
    while place < end:
        file.seek(place)
        size, kind = struct.unpack(">I4s", _read(file, 8))
        place += 12 + size
        yield kind, place


def _read(file: File, count: int) -> bytes:
    """Read exactly `count` bytes. Raises EOFError."""
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
