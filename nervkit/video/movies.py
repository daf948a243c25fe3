"""Movie output through PyAV: encodes frames with exact timestamps and copies packets of tracks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from nervkit.container.header import MATRICES, RANGES
from nervkit.errors import NervError, OutputError, UsageError
from nervkit.keywords import option, setting
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.clocks import matroska_timing, movie_clock, mp4_timing, plain_ratio
from nervkit.video.colour import RGB
from nervkit.video.labels import Labels
from nervkit.video.muxing import add_to_movie, movie_target
from nervkit.video.packets import Packet, decode_time, end_time
from nervkit.video.planes import convert_from_rgb
from nervkit.video.stream import Stream
from nervkit.video.tracks import track_packets


@dataclass(frozen=True)
class Codec:
    """Encoder settings. `crf` is a visually lossless default; None: the codec is lossless."""

    encoder: str
    pixel_format: str
    suffixes: tuple[str, ...]
    crf: int | None
    options: tuple[tuple[str, str], ...] = ()
    even_sizes: bool = False  # whether 4:2:0 needs an even width and height
    signals_aspect: bool = False  # whether the bitstream signals the sample aspect ratio


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
#: aliases of the keys, besides the names of their encoders
OTHER_NAMES = {"h264": "x264", "hevc": "x265", "h265": "x265"}
DEFAULT_CODEC = {".mp4": "x264", ".mkv": "x264", ".mov": "x264", ".webm": "vp9"}
SVT_LOG, ERRORS = "SVT_LOG", "1"  # environment variable and value: SVT-AV1 logs only errors
TASKS = Path("/proc/self/task")  # of Linux: one entry per thread
FEW_FRAMES = 8
MOST_FPS = Fraction(240)  # limit of SVT-AV1
MOVIE_SUFFIXES = tuple(DEFAULT_CODEC)


@dataclass(frozen=True)
class MovieOptions:
    """User options: a codec by nervkit's or ffmpeg's name (x264, h264 or libx264), its quality
    (CRF, lower is better), a pixel format such as yuv444p. None: the output format's default."""

    codec: str | None = None
    crf: int | None = None
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and _own_name(self.codec) not in CODECS:
            raise UsageError(f"unknown codec {self.codec!r}; choose from: {', '.join(CODECS)}")
        if self.crf is not None and not (isinstance(self.crf, Integral) and 0 <= self.crf <= 63):
            raise UsageError(f"{option('crf')} must be an integer in 0 to 63, not {self.crf!r}")

    def codec_for(self, suffix: str) -> Codec:
        """Return the codec for files with this suffix. Raises UsageError if the file type, CRF or
        pixel format does not fit it."""
        name = _own_name(self.codec) if self.codec else DEFAULT_CODEC[suffix]
        codec = CODECS[name]
        if suffix not in codec.suffixes:
            raise UsageError(f"{suffix} cannot hold {name}; use {', '.join(codec.suffixes)}")
        if codec.crf is None and self.crf is not None:
            raise UsageError(f"{name} is lossless: crf does not apply")
        if self.pixel_format is not None:
            taken = _pixel_formats(codec)
            if self.pixel_format not in taken:
                raise UsageError(
                    f"{name} does not support pixel format {self.pixel_format!r}; choose from: "
                    f"{', '.join(taken)}"
                )
        return codec


def _pixel_formats(codec: Codec) -> list[str]:
    return [format.name for format in av.Codec(codec.encoder, "w").video_formats or ()]


def _own_name(name: str) -> str:
    """Return the key of CODECS for a codec name or alias, or the name itself if there is none."""
    encoders = {codec.encoder: own for own, codec in CODECS.items()}
    return OTHER_NAMES.get(name) or encoders.get(name) or name


def write_movie(output: Path, partial: Path, stream: Stream, options: MovieOptions) -> list[str]:
    """Encode frames to the movie file `partial`, which the caller renames to `output`, and copy the
    tracks. Return notes on changes and losses. Raises OutputError."""
    suffix = output.suffix.lower()
    codec, in_mp4 = options.codec_for(suffix), suffix in (".mp4", ".mov")
    timing = (mp4_timing if in_mp4 else matroska_timing)(stream.timing, str(output))
    pixel_format, settings, notes = _coding(codec, stream, options, in_mp4)
    tracks = [(track, track_packets(track, stream.window)) for track in stream.tracks]
    end = max([timing.seconds[1], *(end_time(packets) for _, packets in tracks if packets)])
    labels = Labels.of(stream, suffix, end)
    if in_mp4:
        labels, left_out = labels.as_mp4_counts(timing)
        notes += left_out
    kept: list[Track] = []
    packets: list[Packet] = []
    try:
        target, format = movie_target(partial, suffix, [found for _, found in tracks if found])
        muxing = _mp4_options(timing, stream, labels) if in_mp4 else {}
        with _errors_only(), av.open(target, "w", format=format, options=muxing) as container:
            rate = plain_ratio(stream.timing.fps)
            video = container.add_stream(codec.encoder, rate=rate, options=settings)
            assert isinstance(video, av.VideoStream)
            coded_rate = min(max(rate, Fraction(1)), MOST_FPS).limit_denominator(1001)
            _describe(video, stream, timing.time_base, coded_rate, pixel_format)
            for track, found in tracks:
                added, changes = add_to_movie(container, track, found, output)
                notes += changes
                if added:
                    kept.append(track)
                    packets += added
            packets.sort(key=decode_time)
            if packets and not in_mp4:
                # The muxer shifts all packets if one is before 0, such as the priming of AAC.
                labels = labels.later(max(Fraction(0), -decode_time(packets[0])))
            notes += labels.add(container)
            with _same_scheduling():
                container.start_encoding()
            pictures = (convert_from_rgb(f, pixel_format, stream.colour) for f in stream.frames)
            _mux(container, video, pictures, timing, packets)
        lost = labels.lost(partial, kept)
    except NervError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, error.strerror) from error
        reason = getattr(error, "strerror", None) or error
        size = f"{stream.width}x{stream.height} in {pixel_format}"
        raise OutputError(
            f"{output}: {codec.encoder} cannot write {size}: {reason}; try another codec or size"
        ) from error
    if in_mp4 and timing.seconds[1] != stream.timing.seconds[1]:
        notes.append("MP4 rounds the duration of the last frame")
    if not in_mp4:
        notes += _lost_in_matroska(stream, timing, codec)
    return notes + lost


@contextmanager
def _errors_only() -> Iterator[None]:
    """Let SVT-AV1 log only errors to stderr, unless the user has set SVT_LOG."""
    if SVT_LOG in os.environ:
        yield
        return
    os.environ[SVT_LOG] = ERRORS
    try:
        yield
    finally:
        del os.environ[SVT_LOG]


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """Keep the scheduling of this thread, and give it to threads that start inside. As root,
    SVT-AV1 gives both the highest real-time priority, beside which nothing else runs."""
    if not TASKS.is_dir():
        yield
        return
    policy, parameter, before = os.sched_getscheduler(0), os.sched_getparam(0), {*TASKS.iterdir()}
    try:
        yield
    finally:
        for thread in (0, *(int(task.name) for task in {*TASKS.iterdir()} - before)):
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(thread, policy, parameter)


def _coding(
    codec: Codec, stream: Stream, options: MovieOptions, in_mp4: bool
) -> tuple[str, dict[str, str], list[str]]:
    """Return the pixel format, the encoder's settings, and notes on them."""
    notes = []
    pixel_format = options.pixel_format or codec.pixel_format
    odd = stream.width % 2 or stream.height % 2
    if codec.even_sizes and pixel_format == "yuv420p" and odd:
        if "yuv444p" not in _pixel_formats(codec):
            raise UsageError(
                f"{codec.encoder} needs an even width and height, not {stream.width}x"
                f"{stream.height}: set {option('resize')}, or {setting('codec', 'x264')}"
            )
        pixel_format = "yuv444p"
        notes.append("the size is odd; nervkit writes 4:4:4, which some players do not support")
    settings = dict(codec.options)
    if codec.crf is not None:
        settings["crf"] = str(codec.crf if options.crf is None else options.crf)
    # MP4 stores durations in decoding order, which B-frames would permute. For very short videos
    # with B-frames, x265 outputs no dts.
    too_few = codec.encoder == "libx265" and len(stream.timing) < FEW_FRAMES
    if too_few or (in_mp4 and not stream.timing.constant):
        settings["bf"] = "0"
    return pixel_format, settings, notes


def _describe(
    video: av.VideoStream, stream: Stream, tick: Fraction, rate: Fraction, pixel_format: str
) -> None:
    """Set geometry, time base, nominal frame rate and colour tags of the output's video stream."""
    context, colour = video.codec_context, stream.colour
    video.width, video.height = stream.width, stream.height
    video.pix_fmt = pixel_format
    video.time_base, context.time_base, context.framerate = tick, 1 / rate, rate
    context.flags |= Flags.global_header  # all these formats need it; the tee muxer does not say so
    context.sample_aspect_ratio = plain_ratio(stream.sample_aspect_ratio)
    if pixel_format.startswith("yuv"):
        # An RGB source has no matrix tag, so the matrix of the conversion is tagged.
        from_rgb = colour.matrix == RGB
        context.colorspace = MATRICES[colour.rgb_matrix] if from_rgb else colour.matrix
        # The same holds for the range of untagged full-range sources, such as gray.
        untagged_full = colour.range == 0 and colour.rgb_range == "full"
        used = from_rgb or untagged_full
        context.color_range = RANGES[colour.rgb_range] if used else colour.range
    context.color_primaries = colour.primaries
    context.color_trc = colour.transfer


def _lost_in_matroska(stream: Stream, timing: Timing, codec: Codec) -> list[str]:
    notes = []
    scale = stream.timing.time_base / timing.time_base
    exact = zip(stream.timing.pts.tolist(), timing.pts.tolist(), strict=True)
    if any(pts * scale != rounded for pts, rounded in exact):
        notes.append("Matroska rounds frame timestamps to milliseconds")
    # PyAV cannot set the container's field.
    ratio = stream.sample_aspect_ratio
    if ratio != 1 and not codec.signals_aspect:
        shape = f"{ratio.numerator}:{ratio.denominator}"
        notes.append(f"{codec.encoder} in Matroska loses the sample aspect ratio {shape}")
    return notes


def _mux(
    container: av.container.OutputContainer,
    video: av.VideoStream,
    pictures: Iterable[av.VideoFrame],
    timing: Timing,
    packets: list[Packet],
) -> None:
    """Encode all frames and interleave the other packets, which are sorted by time.

    The encoder sees frame numbers and only the muxer gets timestamps, because encoders restrict
    time bases and frame rates.
    """
    times = timing.pts.tolist()
    durations = np.diff([*times, times[-1] + timing.duration]).tolist()
    waiting: Iterator[Packet] = iter(packets)
    upcoming = next(waiting, None)

    def mux(encoded: list[Packet]) -> None:
        nonlocal upcoming
        for packet in encoded:
            shown, decoded = packet.pts, packet.dts
            assert shown is not None and decoded is not None
            packet.pts, packet.duration = times[shown], durations[shown]
            # With B-frames, decoding starts before the first presentation time.
            packet.dts = times[decoded] if decoded >= 0 else times[0] + decoded * durations[0]
            packet.time_base = timing.time_base
            while upcoming is not None and decode_time(upcoming) <= decode_time(packet):
                container.mux(upcoming)
                upcoming = next(waiting, None)
            container.mux(packet)

    for index, (_, picture) in enumerate(zip(times, pictures, strict=True)):
        picture.pts, picture.time_base = index, video.codec_context.time_base
        mux(video.encode(picture))
    mux(video.encode(None))
    while upcoming is not None:
        container.mux(upcoming)
        upcoming = next(waiting, None)


def _mp4_options(timing: Timing, stream: Stream, labels: Labels) -> dict[str, str]:
    """Return muxer options. Without them, the muxer picks coarser timescales and rounds the frame
    timestamps and the start of each track."""
    clock = timing.time_base.denominator
    others = [track.time_base.denominator for track in stream.tracks]
    return {
        "video_track_timescale": str(clock),
        "movie_timescale": str(movie_clock(others, clock)),
        "movflags": "+faststart" + ("+use_metadata_tags" if labels.need_free_tags else ""),
    }
