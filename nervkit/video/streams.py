"""Video files and streams through PyAV: pictures one by one, packets of the other tracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import av
import numpy as np

from nervkit.errors import SourceError
from nervkit.video.colour import RANGES, RGB, UNSPECIFIED, Colour
from nervkit.video.edit import Edit
from nervkit.video.planes import convert_to_rgb
from nervkit.video.source import Picture, Source

SIDE_TRACKS = ("audio", "subtitle")
OWN_PLANES = ("yuv420p", "yuvj420p")  # 8-bit 4:2:0
EBML_HEADER, MATROSKA_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass(frozen=True)
class Orientation:
    """How decoded pictures must be turned to be shown: transposed, then flipped."""

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """What the frame's display matrix asks for; nothing where that is no quarter turn."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        # x' = a x + c y, y' = b x + d y, in 16.16 fixed point (ISO 14496-12, 6.2.2)
        a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].tolist()
        if b == c == 0:
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0) if a == d == 0 else cls()

    @property
    def mirrors(self) -> bool:
        return self.transpose ^ self.flip_columns ^ self.flip_rows

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The (H, W, 3) picture, or the (H, W) plane, as it is to be shown."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        rows, columns = (-1 if flip else 1 for flip in (self.flip_rows, self.flip_columns))
        return picture[::rows, ::columns]


class StreamSource(Source):
    """The first video stream of anything that PyAV opens.

    Args:
        target: a path, or a binary file that is read from its start.
        name: what to call it in messages.
        format, options: of the demuxer, where they cannot be told from the data (raw video).
    """

    def __init__(
        self,
        target: str | BinaryIO,
        name: str,
        edit: Edit,
        format: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name)
        self._target, self._edit = target, edit
        self._open_arguments = {"format": format, "options": options or {}}
        self._container = self._open()
        if not self._container.streams.video:
            raise SourceError(f"{name}: no video stream in this file")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.time_base = Fraction(self._stream.time_base or Fraction(1, 1000))
        self.sample_aspect_ratio = Fraction(self._stream.sample_aspect_ratio or 1)
        self._packets: dict[int, list[av.Packet]] = {}
        self._video_packets = self._demux()
        self._whole = self._damaged = 0
        self._orientation = Orientation()
        if len(self._container.streams.video) > 1:
            self.note("more than one video stream: the first one is used")

    def _open(self) -> av.container.InputContainer:
        try:
            return av.open(self._target, **self._open_arguments)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(
                f"{self.name}: cannot be opened as video ({reason}); is it damaged, or no video?"
            ) from error

    def count(self) -> int | None:
        """Packets of the video stream, counted without decoding; None for a pipe."""
        if not isinstance(self._target, str):
            return None
        if self._stream.frames:
            return self._stream.frames
        with self._open() as container:
            stream = container.streams.video[0]
            try:
                return sum(1 for packet in container.demux(stream) if packet.size)
            except av.error.FFmpegError:
                return None  # a cut file: reading it will tell

    def pictures(self) -> Iterator[Picture]:
        for frame in self._frames():
            if self._whole == 1:
                self._describe(frame)
            own = frame.format.name in OWN_PLANES
            yield Picture(
                pts=frame.pts,
                duration=frame.duration or None,
                rgb=partial(self._rgb, frame),
                planes=partial(self._planes, frame) if own else None,
            )

    def skip_rest(self) -> None:
        """Read on for the packets of the other tracks, without decoding pictures."""
        self._report_damage()
        for _ in self._video_packets:
            pass

    def _demux(self) -> Iterator[av.Packet]:
        """The video packets, the last one empty; those of the other tracks are put aside."""
        wanted = [self._stream, *(s for s in self._container.streams if s.type in SIDE_TRACKS)]
        packets = self._container.demux(wanted)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError):
                self._damaged += 1
                return
            if packet is None:
                return
            if packet.stream.index == self._stream.index:
                yield packet
            elif packet.size:
                self._packets.setdefault(packet.stream.index, []).append(packet)

    def _frames(self) -> Iterator[av.VideoFrame]:
        for packet in self._video_packets:
            yield from self._decode(packet)
        missing = _missing_bytes(self._target) if isinstance(self._target, str) else 0
        self._report_damage(self._stream.frames, missing)

    def _decode(self, packet: av.Packet) -> Iterator[av.VideoFrame]:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self._damaged += 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self._damaged += 1
                continue
            self._whole += 1
            yield frame

    def _report_damage(self, expected: int = 0, missing: int = 0) -> None:
        if self._damaged or self._whole < expected:
            total = max(expected, self._whole + self._damaged)
            lost = total - self._whole
            self.damage = (
                f"damaged or cut short: {self._whole} of {total} frames are whole, {lost} lost"
            )
        elif missing:
            self.damage = f"cut short: {self._whole} frames are whole, {missing} bytes are missing"

    def _describe(self, frame: av.VideoFrame) -> None:
        """Record what the first frame says of all."""
        pixel_format = frame.format
        self._orientation = turn = Orientation.of(frame)
        bits = max(component.bits for component in pixel_format.components)
        is_rgb = pixel_format.is_rgb or pixel_format.name.startswith("pal")
        self.colour = Colour.resolve(
            RGB if is_rgb else _known(frame.colorspace),
            int(frame.color_range) if int(frame.color_range) in RANGES.values() else 0,
            _known(frame.color_primaries),
            _known(frame.color_trc),
            full_by_default=pixel_format.name.startswith(("yuvj", "gray")),
            asked_matrix=self._edit.matrix,
            asked_range=self._edit.range,
        )
        self.description = {
            "codec": self._stream.codec_context.codec.canonical_name,
            "pixel_format": pixel_format.name,
            "width": frame.width,
            "height": frame.height,
        }
        if turn.transpose:
            self.sample_aspect_ratio = 1 / self.sample_aspect_ratio
        if turn.mirrors:
            self.description["mirrored"] = True
            self.note("mirrored as the file asks")
        elif turn != Orientation():
            rotation = int(frame.rotation) % 360
            self.description["rotation"] = rotation
            self.note(f"rotated by {rotation} degrees to stand upright")
        elif frame.rotation:
            self.note(f"the file asks to be turned by {frame.rotation:g} degrees: not done")
        if not is_rgb and self.colour.matrix == UNSPECIFIED and self._edit.matrix is None:
            self.note(
                f"colours are not tagged: taken as {self.colour.rgb_matrix} "
                f"{self.colour.rgb_range}, ffmpeg's default (--matrix, --range to change)"
            )
        if bits > 8:
            self.note(f"bit depth: the source has {bits} bits a sample, 8 are kept")
        alpha = any(component.is_alpha for component in pixel_format.components)
        if alpha or self._stream.metadata.get("alpha_mode") == "1":
            self.note("alpha: the source's transparency is not kept")
        if frame.interlaced_frame:
            self.note("interlaced: both fields stay woven into each frame")

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        return self._orientation.apply(convert_to_rgb(frame, self.colour))

    def _planes(self, frame: av.VideoFrame) -> list[np.ndarray]:
        planes = []
        for plane in frame.planes:
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            planes.append(self._orientation.apply(rows[: plane.height, : plane.width]))
        return planes

    def side_packets(self) -> list[list[av.Packet]]:
        """The packets of every audio and subtitle stream, read along with the pictures."""
        return [packets for _, packets in sorted(self._packets.items())]


def _missing_bytes(path: str) -> int:
    """How much shorter a Matroska file is than it says. Its demuxer takes a cut for the end."""
    with Path(path).open("rb") as file:
        try:
            for identifier in (EBML_HEADER, MATROSKA_SEGMENT):
                if file.read(4) != identifier:
                    return 0
                first = file.read(1)[0]
                length = 8 - first.bit_length()  # the size's bytes that follow
                rest = file.read(length)
                size = int.from_bytes(bytes([first ^ (0x80 >> length)]) + rest)
                end = file.tell() + size
                if identifier == EBML_HEADER:
                    file.seek(end)
        except (IndexError, ValueError):  # no size, or none that is valid
            return 0
        unknown = size == (1 << 7 * (length + 1)) - 1
        return 0 if unknown else max(0, end - file.seek(0, 2))


def _known(code: Any) -> int:
    """An H.273 code as an int, with 2 for everything that says nothing."""
    return int(code) if 0 <= int(code) <= 255 and int(code) != 3 else UNSPECIFIED
