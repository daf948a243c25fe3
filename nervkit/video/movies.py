"""Movies and y4m through PyAV: pixels encoded, timing and tags kept, packets copied."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np

from nervkit.errors import OutputError, UsageError
from nervkit.video.colour import MATRICES, RANGES, RGB
from nervkit.video.planes import DEFAULT_MATRIX, convert_from_rgb, yuv_colour
from nervkit.video.tracks import add_track, track_packets

if TYPE_CHECKING:
    from nervkit.video.writer import Stream


@dataclass(frozen=True)
class Codec:
    """How one codec is driven. `crf` is its visually lossless default; None: lossless as it is."""

    encoder: str
    pixel_format: str
    suffixes: tuple[str, ...]
    crf: int | None
    options: tuple[tuple[str, str], ...] = ()
    even_sizes: bool = False  # whether 4:2:0 needs an even width and height
    says_aspect: bool = False  # whether its own headers give the pixels' shape


CODECS = {
    "x264": Codec(
        "libx264", "yuv420p", (".mp4", ".mkv", ".mov"), 14, (("preset", "medium"),), True, True
    ),
    "x265": Codec(
        "libx265",
        "yuv420p",
        (".mp4", ".mkv", ".mov"),
        16,
        (("preset", "medium"), ("x265-params", "log-level=error")),
        True,
        True,
    ),
    "vp9": Codec(
        "libvpx-vp9",
        "yuv420p",
        (".webm", ".mkv", ".mp4"),
        16,
        (("b", "0"), ("cpu-used", "3"), ("row-mt", "1")),
    ),
    "av1": Codec("libsvtav1", "yuv420p", (".mp4", ".mkv", ".webm"), 18, (("preset", "7"),), True),
    "ffv1": Codec("ffv1", "bgr0", (".mkv",), None, (("level", "3"),)),
    "x264rgb": Codec(
        "libx264rgb", "rgb24", (".mkv", ".mp4", ".mov"), None, (("qp", "0"),), False, True
    ),
}
DEFAULT_CODEC = {".mp4": "x264", ".mkv": "x264", ".mov": "x264", ".webm": "vp9"}
# SVT-AV1 writes to stderr on its own: errors only.
os.environ.setdefault("SVT_LOG", "1")
MOVIE_SUFFIXES = tuple(DEFAULT_CODEC)
Y4M_FORMATS = ("yuv420p", "yuv422p", "yuv444p")


@dataclass(frozen=True)
class MovieOptions:
    """What the user may choose: a codec's name, its quality (CRF, lower is better), a pixel
    format such as yuv444p. None: the default for the kind of output."""

    codec: str | None = None
    crf: int | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            raise UsageError(f"unknown codec {self.codec!r}; choose from: {', '.join(CODECS)}")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise UsageError(f"crf must lie in 0 to 63, not {self.crf}")

    def codec_for(self, suffix: str) -> Codec:
        """The codec for a file of this kind. Raises UsageError where the two do not fit."""
        name = self.codec or DEFAULT_CODEC[suffix]
        codec = CODECS[name]
        if suffix not in codec.suffixes:
            raise UsageError(f"{suffix} cannot hold {name}; use {', '.join(codec.suffixes)}")
        if codec.crf is None and self.crf is not None:
            raise UsageError(f"{name} is lossless: --crf does not apply")
        return codec


def write_movie(path: Path, stream: Stream, options: MovieOptions) -> list[str]:
    """Encode frames to a movie file and copy the tracks; returns notes on what was lost."""
    codec = options.codec_for(path.suffix.lower())
    notes: list[str] = []
    pixel_format = options.pixel_format or codec.pixel_format
    odd = stream.width % 2 or stream.height % 2
    if codec.even_sizes and pixel_format == "yuv420p" and odd:
        pixel_format = "yuv444p"
        notes.append("odd size: written as 4:4:4, which not every player shows")
    settings = dict(codec.options)
    if codec.crf is not None:
        settings["crf"] = str(codec.crf if options.crf is None else options.crf)
    if not stream.timing.constant:
        settings["bf"] = "0"  # MP4 keeps durations in decoding order: B-frames would mix them up
    try:
        with av.open(str(path), "w", options=_muxer_options(path, stream)) as container:
            video = container.add_stream(codec.encoder, rate=stream.timing.fps, options=settings)
            _describe(video, stream, pixel_format)
            packets = []
            for track in stream.tracks:
                found = track_packets(track, stream.window)
                if not found:
                    continue
                if add_track(container, found):
                    packets += found
                else:
                    notes.append(
                        f"{path.suffix} cannot hold {track.codec} {track.kind}: left out "
                        "(.mkv holds everything)"
                    )
            packets.sort(key=_seconds)
            _mux(container, video, stream, pixel_format, packets)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror) from error
        raise OutputError(f"{path.suffix} output with {codec.encoder} failed: {error}") from error
    if path.suffix.lower() in (".mkv", ".webm"):
        notes += _lost_in_matroska(stream, codec)
    return notes


def write_y4m(file: BinaryIO, stream: Stream, options: MovieOptions) -> list[str]:
    """Write frames as YUV4MPEG2, at the mean rate; 4:2:0 unless the pixel format says else."""
    pixel_format = options.pixel_format or "yuv420p"
    if pixel_format not in Y4M_FORMATS:
        raise UsageError(f"y4m holds {', '.join(Y4M_FORMATS)}, not {pixel_format}")
    colour = yuv_colour(stream.colour)
    layout = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444"}[pixel_format]
    fps, ratio = stream.timing.fps, stream.sample_aspect_ratio
    fps = fps.limit_denominator(1 << 20)
    full = " XCOLORRANGE=FULL" if colour.rgb_range == "full" else " XCOLORRANGE=LIMITED"
    head = f"YUV4MPEG2 W{stream.width} H{stream.height} F{fps.numerator}:{fps.denominator} Ip"
    file.write(f"{head} A{ratio.numerator}:{ratio.denominator} C{layout}{full}\n".encode())
    for frame in stream.frames:
        file.write(b"FRAME\n")
        for plane in convert_from_rgb(frame, pixel_format, colour).planes:
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            file.write(rows[: plane.height, : plane.width].tobytes())
    file.flush()
    if colour.rgb_matrix == DEFAULT_MATRIX:
        return []
    matrix = colour.rgb_matrix
    return [f"y4m cannot name its colour matrix: {matrix} here, most take {DEFAULT_MATRIX}"]


def _describe(video: av.VideoStream, stream: Stream, pixel_format: str) -> None:
    """Geometry, time base and colour tags of the output's video stream."""
    context, colour = video.codec_context, stream.colour
    video.width, video.height = stream.width, stream.height
    video.pix_fmt = pixel_format
    video.time_base = context.time_base = stream.timing.time_base
    context.sample_aspect_ratio = stream.sample_aspect_ratio
    if pixel_format.startswith("yuv"):
        # RGB has no matrix to give back: what was used is said.
        from_rgb = colour.matrix == RGB
        context.colorspace = MATRICES[colour.rgb_matrix] if from_rgb else colour.matrix
        # Nor does untagged gray say that it is full range.
        untagged_full = colour.range == 0 and colour.rgb_range == "full"
        used = from_rgb or untagged_full
        context.color_range = RANGES[colour.rgb_range] if used else colour.range
    context.color_primaries = colour.primaries
    context.color_trc = colour.transfer


def _lost_in_matroska(stream: Stream, codec: Codec) -> list[str]:
    notes = []
    milliseconds = stream.timing.time_base * 1000
    if (stream.timing.pts * milliseconds.numerator % milliseconds.denominator).any():
        notes.append("Matroska keeps times to the millisecond: frame times are rounded to that")
    # PyAV cannot set the container's own field.
    ratio = stream.sample_aspect_ratio
    if ratio != 1 and not codec.says_aspect:
        shape = f"{ratio.numerator}:{ratio.denominator}"
        notes.append(f"{codec.encoder} in Matroska loses the shape of the pixels ({shape})")
    return notes


def _mux(
    container: av.container.OutputContainer,
    video: av.VideoStream,
    stream: Stream,
    pixel_format: str,
    packets: list[av.Packet],
) -> None:
    """Encode all frames; the other packets (in order of time) go in between."""
    pts = stream.timing.pts.tolist()
    ends = [*pts[1:], pts[-1] + stream.timing.duration]
    durations = {start: end - start for start, end in zip(pts, ends, strict=True)}
    waiting: Iterator[av.Packet] = iter(packets)
    upcoming = next(waiting, None)

    def mux(encoded: list[av.Packet]) -> None:
        nonlocal upcoming
        for packet in encoded:
            packet.duration = durations.get(packet.pts, packet.duration)
            while upcoming is not None and _seconds(upcoming) <= _seconds(packet):
                container.mux(upcoming)
                upcoming = next(waiting, None)
            container.mux(packet)

    for time, frame in zip(pts, stream.frames, strict=True):
        picture = convert_from_rgb(frame, pixel_format, stream.colour)
        picture.pts, picture.time_base = time, stream.timing.time_base
        mux(video.encode(picture))
    mux(video.encode(None))
    while upcoming is not None:
        container.mux(upcoming)
        upcoming = next(waiting, None)


def _muxer_options(path: Path, stream: Stream) -> dict[str, str]:
    if path.suffix.lower() in (".mp4", ".mov"):
        # Otherwise the muxer picks coarser clocks, and times are rounded: those of the frames,
        # and where each track begins.
        clock = stream.timing.time_base.denominator
        common = math.lcm(clock, *(track.time_base.denominator for track in stream.tracks))
        return {
            "video_track_timescale": str(clock),
            "movie_timescale": str(common if common < 1 << 31 else clock),
            "movflags": "+faststart",
        }
    return {}


def _seconds(packet: av.Packet) -> Fraction:
    time = packet.dts if packet.dts is not None else packet.pts
    return Fraction(time or 0) * Fraction(packet.time_base)
