"""Video files and streams through PyAV: pictures one by one, and packets of the other tracks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import av
import numpy as np
from av.format import Flags
from av.stream import Disposition

from nervkit.container.header import RANGES
from nervkit.errors import SourceError, UsageError
from nervkit.keywords import option
from nervkit.media.extras import Extras
from nervkit.video.colour import RGB, UNSPECIFIED, Colour
from nervkit.video.edit import Edit
from nervkit.video.endings import Cut
from nervkit.video.extras import is_cover, read_attachments, read_chapters, read_tags
from nervkit.video.opening import UNPIPED, Target, described
from nervkit.video.orientation import Cropping, Orientation
from nervkit.video.packets import Packet
from nervkit.video.planes import convert_to_rgb
from nervkit.video.seeking import seek_key_frame
from nervkit.video.source import Picture, Source
from nervkit.video.timeline import DecodingOrder, TimeLine

SIDE_TRACKS = ("audio", "subtitle")
OWN_PLANES = ("yuv420p", "yuvj420p")  # 8-bit 4:2:0
DEFAULT_FPS = Fraction(25)
GENERATE_PTS = 0x1  # libavformat's AVFMT_FLAG_GENPTS, which PyAV sets by default
INDEXED = ("mov", "avi")  # formats with an index of all packets
UNFRAMED = ("yuv4mpegpipe",)  # formats whose last byte belongs to the last picture
DECODING_ORDER = ("avi", "matroska")  # formats that may have dts without pts


def fps_unused() -> str:
    """Return the note that a source has its own timestamps."""
    return f"the file has timestamps, so nervkit ignores {option('fps')}"


class StreamSource(Source):
    """One video stream of any input that PyAV opens, with its audio and subtitle tracks.

    Args:
        target: the input.
        edit: `stream` selects the video stream; `matrix` and `range` override its tags; `audio` and
            `subtitles` tell whether to read such tracks.
        rate: frame rate of raw streams, which have no timestamps.

    Raises SourceError if the input has no video stream, UsageError if it lacks the selected one.
    """

    def __init__(self, target: Target, edit: Edit, rate: Fraction | None = None) -> None:
        super().__init__(target.name)
        self._target, self._edit = target, edit
        self._container = target.open()
        self._format = self._container.format.name.split(",")[0]
        self._descriptions = described(self._container)
        self._stream = self._choose(edit.stream)
        self._stream.thread_type = "AUTO"
        self.time_base = Fraction(self._stream.time_base or Fraction(1, 1000))
        self.sample_aspect_ratio = Fraction(self._stream.sample_aspect_ratio or 1)
        self._jumps = self._has_flag(Flags.ts_discont)
        self._untimed = target.format is None and (
            self._has_flag(Flags.no_timestamps) or self._format.endswith("_pipe")
        )
        self._set_rate(rate)
        if self._format in DECODING_ORDER:
            self._container.flags &= ~GENERATE_PTS
        # None: the first packet decides.
        self._by_order = True if self._format == "avi" else None
        self._order = DecodingOrder()
        self._time_line = TimeLine()
        # Packets of the other tracks, and the video's position when they were read.
        self._others: list[tuple[Packet, tuple[Fraction | None, int]]] = []
        self._covers: dict[int, bytes] = {}
        self._wanted = [self._stream, *self._side_streams()]
        self._packets = self._demux()
        self._end = self._last_size = 0  # end offset and size of the latest video packet, in bytes
        self._read = self._whole = self._damaged = 0  # packets; intact and damaged frames
        self._partial: set[int] = set()  # pts of packets that the demuxer marked as corrupt
        self._cut: Cut | None = target.cut
        self._orientation = Orientation()
        self._cropping = Cropping()

    def _has_flag(self, flag: Flags) -> bool:
        """Whether the input format has a flag of libavformat."""
        value: int = flag.value  # type: ignore[assignment]  # PyAV's stubs give another type
        return bool(self._container.format.flags & value)

    def _choose(self, number: int | None) -> av.VideoStream:
        """Return the requested stream, or ffmpeg's choice: prefer default streams, then the largest
        picture."""
        streams = self._container.streams.video
        tiles = sum(Disposition.dependent in s.disposition for s in streams)
        if tiles > 1 and self._format == "mov":
            raise SourceError(
                f"{self.name}: a tiled picture (HEIC, {tiles} tiles) is not supported; "
                "convert it to PNG or JPEG first"
            )
        if number is not None and number >= len(streams):
            raise UsageError(
                f"stream {number}: {self.name} has no such stream (video streams: {len(streams)})"
            )
        shown = [s for s in streams if s.codec_context is not None]
        candidates = [s for s in shown if not is_cover(s)]
        if number is not None:
            candidates = [s for s in shown if s is streams[number]]
        if not candidates:
            codecs = ", ".join(self._codec(s) for s in streams)
            raise SourceError(
                f"{self.name}: no video stream in this file"
                + (f" that can be decoded ({codecs})" if codecs else "")
            )
        best = max(
            candidates, key=lambda s: (Disposition.default in s.disposition, s.width * s.height)
        )
        others = [s for s in streams if s is not best and not is_cover(s)]
        if others and number is None:
            self.note(
                f"the source has {len(others) + 1} video streams; nervkit reads number "
                f"{streams.index(best)} ({self._codec(best)}, {best.width}x{best.height}) "
                f"(set {option('stream')} to change it)"
            )
        return best

    def _side_streams(self) -> list[av.stream.Stream]:
        """Return the streams to read besides the video; add notes on the others."""
        wanted = []
        for stream in self._container.streams:
            decodable = stream.codec_context is not None
            if stream.type in SIDE_TRACKS and not self._edit.keeps(stream.type):
                continue
            if stream.type in SIDE_TRACKS and decodable:
                wanted.append(stream)
            elif stream.type in SIDE_TRACKS:
                self.note(
                    f"nervkit drops the {stream.type} track ({self._codec(stream)}): there is no "
                    "decoder for it"
                )
            elif stream.type == "video" and is_cover(stream) and stream is not self._stream:
                wanted.append(stream)
            elif stream.type not in ("video", "attachment") and not self._kept_otherwise(stream):
                self.note(f"nervkit drops the {stream.type} track ({self._codec(stream)})")
        # Dropped audio counts too, so that timestamps are the same with and without audio.
        for audio in self._container.streams.audio:
            start, time_base = audio.start_time, audio.time_base
            if audio.codec_context is not None and start is not None and time_base is not None:
                self.starts.append(start * time_base)
        return wanted

    def _kept_otherwise(self, stream: av.stream.Stream) -> bool:
        """Whether a data stream only repeats the chapters or the timecode, which are tags."""
        codec = self._codec(stream)
        chapters = "(text" in codec and stream.frames == len(self._container.chapters())
        return chapters or "(tmcd" in codec

    def _codec(self, stream: av.stream.Stream) -> str:
        """Return a stream's codec and tag, such as "ttml (stpp)"."""
        match = re.match(r"[^\n]*?: \w+: ([^,\n]+)", self._descriptions.get(stream.index, ""))
        codec = re.sub(r" / 0x[0-9A-F]+| \(default\)", "", match[1]) if match else stream.type
        return codec.strip()

    def _set_rate(self, rate: Fraction | None) -> None:
        if not self._untimed:
            if rate is not None and self._target.format is None:
                self.note(fps_unused())
            return
        if rate is None:
            # The stream's own headers may have a frame rate.
            rate = Fraction(self._stream.codec_context.framerate or DEFAULT_FPS)
            self.note(
                f"a raw stream has no timestamps; nervkit assumes {rate} fps "
                f"(set {option('fps')} to change it)"
            )
        self.time_base = 1 / rate

    def count(self) -> int | None:
        """Return the number of video packets, without decoding; None for a pipe."""
        return self._packet_count

    @cached_property
    def _packet_count(self) -> int | None:
        size = self._target.size
        if size is None:
            return None
        if self._format in INDEXED and self._stream.frames:
            # Count the index entries within the file; the header may declare more.
            entries = self._stream.index_entries
            there = sum(1 for e in entries if e.size and e.pos + e.size <= size)
            if there:
                return there
        with self._target.open() as container:
            stream = container.streams[self._stream.index]
            try:
                return sum(1 for packet in container.demux(stream) if packet.size)
            except av.error.FFmpegError:
                return None  # a damaged file: only reading can tell

    def pictures(self) -> Iterator[Picture]:
        for number, frame in enumerate(self._frames()):
            if number == 0:
                self._describe(frame)
            pts, duration = frame.pts, frame.duration or None
            if self._untimed:
                pts, duration = number, 1
            elif self._by_order:
                pts = self._order.shown_at(frame)
            if self._format == "avi":
                duration = None  # one unit, which is wrong before a dropped frame
            own = frame.format.name in OWN_PLANES and self._cropping.even
            yield Picture(
                pts=pts,
                duration=duration,
                rgb=partial(self._rgb, frame),
                planes=partial(self._planes, frame) if own else None,
            )

    @property
    def rereadable(self) -> bool:
        return self._target.rereadable

    @property
    def seekable(self) -> bool:
        """Whether pictures have the timestamps of the file's packets, without discontinuities."""
        return self.rereadable and not self._untimed and not self._time_line.jumps

    def seek(self, pts: int) -> bool:
        packets = seek_key_frame(self._container, self._stream, self._demux_anew, pts)
        if packets is None:
            return False
        self._packets = packets
        return True

    def _demux_anew(self) -> Iterator[Packet]:
        """Return the packets after a seek, which is no discontinuity of the timeline."""
        self._time_line = TimeLine()
        return self._demux()

    def skip_rest(self) -> None:
        """Read the remaining packets of the other tracks, without decoding pictures."""
        self._report_damage()
        for _ in self._packets:
            pass

    def _demux(self) -> Iterator[Packet]:
        """Yield the video packets and collect those of the other tracks."""
        packets = self._container.demux(self._wanted)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError):
                self._damaged += 1
                return
            if packet is None:
                return
            if not packet.size:  # a dropped frame in AVI, or PyAV's flush packet
                continue
            if packet.stream.index == self._stream.index:
                self._read += 1
                self._end, self._last_size = (packet.pos or 0) + packet.size, packet.size
                if self._by_order is None:
                    self._by_order = packet.pts is None and packet.dts is not None
                if self._jumps:
                    self._time_line.place_video(packet)
                yield packet
            elif packet.stream.type == "video":
                self._covers.setdefault(packet.stream.index, bytes(packet))
            else:
                self._others.append((packet, self._time_line.place))

    def _frames(self) -> Iterator[av.VideoFrame]:
        for packet in self._packets:
            yield from self._decode(packet)
        yield from self._decode(None)
        indexed = self._index() if self._format == "mov" else 0
        if self._format == "mov" and self._target.pipe is not None and not self._read:
            raise SourceError(f"{self.name}: {UNPIPED}")
        cut = self._cut
        if self._format in UNFRAMED and self._target.size is not None:
            over = self._target.size - self._end
            cut = Cut(max(1, self._last_size - over)) if over else None
        self._report_damage(indexed, cut)

    def _index(self) -> int:
        """Return the number of frames in the file's index if not all could be read, else 0."""
        entries = [e for e in self._stream.index_entries if e.size]
        shown = sum(1 for e in entries if not e.is_discard)
        return shown if len(entries) > self._read else 0

    def _decode(self, packet: Packet | None) -> Iterator[av.VideoFrame]:
        """Yield the intact frames that a packet completes; None flushes the decoder."""
        if packet is not None and self._by_order:
            self._order.sent(packet)
        # MPEG-TS also marks packets before a continuity error, so there only the decoder counts.
        if packet is not None and packet.is_corrupt and packet.pts is not None and not self._jumps:
            self._partial.add(packet.pts)
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:  # already flushed
            return
        except av.error.FFmpegError:
            self._damaged += 1
            if packet is not None and self._by_order:
                self._order.lost(packet)
            return
        whole = None if self._cut is None else self._cut.whole
        for frame in frames:
            if frame.is_corrupt or frame.pts in self._partial or self._whole == whole:
                self._damaged += 1
                if self._by_order:
                    self._order.shown_at(frame)
                continue
            self._whole += 1
            yield frame

    def _report_damage(self, indexed: int = 0, cut: Cut | None = None) -> None:
        if self._damaged or self._whole < indexed:
            total = max(indexed, self._whole + self._damaged)
            lost = total - self._whole
            self.damage = (
                f"damaged or truncated: {self._whole} of {total} frames are intact, {lost} lost"
            )
        elif cut is not None:
            self.damage = (
                f"truncated: {self._whole} frames are intact, {cut.missing} bytes are missing"
            )

    def _describe(self, frame: av.VideoFrame) -> None:
        """Set colour, description and sample aspect ratio from the first frame."""
        pixel_format = frame.format
        self._orientation = Orientation.of(frame)
        self._crop(frame)
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
            "width": frame.width - self._cropping.left - self._cropping.right,
            "height": frame.height - self._cropping.top - self._cropping.bottom,
        }
        self._turn(frame)
        if not is_rgb and self.colour.matrix == UNSPECIFIED and self._edit.matrix is None:
            self.note(
                f"the source has no colour tags; nervkit assumes {self.colour.rgb_matrix} "
                f"{self.colour.rgb_range}, ffmpeg's default "
                f"(set {option('matrix')} and {option('range')} to change it)"
            )
        self._note_losses(frame)

    def _turn(self, frame: av.VideoFrame) -> None:
        """Note and describe how the file asks to turn its pictures."""
        turn = self._orientation
        if turn.transpose:
            self.sample_aspect_ratio = 1 / self.sample_aspect_ratio
        if turn.mirrors:
            self.description["mirrored"] = True
            self.note("nervkit mirrors the video, as its metadata requests")
        elif turn != Orientation():
            rotation = int(frame.rotation) % 360
            self.description["rotation"] = rotation
            self.note(f"nervkit rotates the video by {rotation} degrees, as its metadata requests")
        elif frame.rotation:
            self.note(f"nervkit ignores the requested rotation by {frame.rotation:g} degrees")

    def _note_losses(self, frame: av.VideoFrame) -> None:
        components = frame.format.components
        bits = max(component.bits for component in components)
        if bits > 8:
            self.note(f"the source has {bits} bits per sample; nervkit keeps 8")
        alpha = any(component.is_alpha for component in components)
        if alpha or self._stream.metadata.get("alpha_mode") == "1":
            self.note("nervkit drops the source's alpha channel")
        if frame.interlaced_frame:
            self.note("the source is interlaced; nervkit keeps both fields in each frame")

    def _crop(self, frame: av.VideoFrame) -> None:
        asked = Cropping.of(self._descriptions.get(self._stream.index, ""))
        if asked == Cropping():
            return
        margins = f"{asked.left}/{asked.right}/{asked.top}/{asked.bottom} (left/right/top/bottom)"
        if asked.fits(frame.width, frame.height):
            self._cropping = asked
            self.note(f"nervkit crops the video by {margins} pixels, as its metadata requests")
        else:
            self.note(f"nervkit ignores the requested cropping by {margins} pixels: too large")

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        return self._orientation.apply(self._cropping.apply(convert_to_rgb(frame, self.colour)))

    def _planes(self, frame: av.VideoFrame) -> list[np.ndarray]:
        planes = []
        for number, plane in enumerate(frame.planes):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            shown = self._cropping.apply(rows[: plane.height, : plane.width], 2 if number else 1)
            planes.append(self._orientation.apply(shown))
        return planes

    def side_packets(self) -> list[list[Packet]]:
        """Return the packets of every audio and subtitle stream, read along with the pictures."""
        by_stream: dict[int, list[Packet]] = {}
        for packet, place in self._others:
            if self._jumps:
                self._time_line.place_other(packet, *place)
            by_stream.setdefault(packet.stream.index, []).append(packet)
        self._others = []
        jumps = self._time_line.jumps
        if jumps:
            far = ", ".join(f"{float(jump):+.3f}" for jump in jumps[:4])
            more = ", ..." if len(jumps) > 4 else ""
            self.note(f"nervkit removes discontinuities of the timestamps ({far}{more} s)")
        return [packets for _, packets in sorted(by_stream.items())]

    def extras(self) -> Extras:
        return Extras(
            tags=read_tags(self._container, self._stream, self.note),
            chapters=read_chapters(self._container, self.note),
            attachments=read_attachments(self._container, self._covers, self.note),
        )


def _known(code: Any) -> int:
    """Return an H.273 code as an int; 2 (unspecified) for reserved and invalid codes."""
    return int(code) if 0 <= int(code) <= 255 and int(code) != 3 else UNSPECIFIED
