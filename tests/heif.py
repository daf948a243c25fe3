"""A tiled HEIC picture, as phones write them; ffmpeg has no writer for it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np


def _box(kind: bytes, *parts: bytes, version: int | None = None, flags: int = 0) -> bytes:
    head = b"" if version is None else struct.pack(">I", version << 24 | flags)
    content = head + b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def write_grid(path: Path, columns: int, rows: int, side: int = 64) -> None:
    """A grid of gray tiles of `side` pixels (ISO 23008-12, 6.6.2.3)."""
    tiles, extradata = _tiles(columns * rows, side)
    grid = len(tiles) + 1  # its item number
    kinds = [b"hvc1"] * len(tiles) + [b"grid"]
    entries = [
        _box(b"infe", struct.pack(">HH", number, 0), kind + b"\0", version=2)
        for number, kind in enumerate(kinds, 1)
    ]
    reference = struct.pack(f">HH{len(tiles)}H", grid, len(tiles), *range(1, grid))
    sizes = [(side, side), (columns * side, rows * side)]
    shapes = [_box(b"ispe", struct.pack(">II", *size), version=0) for size in sizes]
    links = [struct.pack(">HBBB", number, 2, 0x81, 2) for number in range(1, grid)]
    links.append(struct.pack(">HBB", grid, 1, 3))
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *sizes[1])

    def meta(data: int) -> bytes:
        """The meta box, with the tiles' bytes from `data` on."""
        places, start = [], data
        for number, tile in enumerate(tiles, 1):
            places.append(struct.pack(">HHHHII", number, 0, 0, 1, start, len(tile)))
            start += len(tile)
        places.append(struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(layout)))
        return _box(
            b"meta",
            _box(b"hdlr", b"\0" * 4 + b"pict" + b"\0" * 13, version=0),
            _box(b"pitm", struct.pack(">H", grid), version=0),
            _box(b"iloc", struct.pack(">HH", 0x4400, grid), *places, version=1),
            _box(b"iinf", struct.pack(">H", grid), *entries, version=0),
            _box(b"iref", _box(b"dimg", reference), version=0),
            _box(
                b"iprp",
                _box(b"ipco", _box(b"hvcC", extradata), *shapes),
                _box(b"ipma", struct.pack(">I", grid), *links, version=0),
            ),
            _box(b"idat", layout),
            version=0,
        )

    head = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    before = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(before) + _box(b"mdat", *tiles))


def _tiles(count: int, side: int) -> tuple[list[bytes], bytes]:
    """HEVC keyframes as stored in MP4, and their hvcC."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx265", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.options = {"x265-params": "keyint=1:log-level=none"}
        for number in range(count):
            gray = np.full((side, side, 3), 40 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(gray)))
        output.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as stored:
        packets = [bytes(p) for p in stored.demux(video=0) if p.size]
        return packets, bytes(stored.streams.video[0].codec_context.extradata)
