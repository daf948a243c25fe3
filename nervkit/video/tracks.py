"""Audio and subtitle tracks through PyAV: packets that are copied, never transcoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition

from nervkit.container.track import CARRIERS, FLAGS, UNKNOWN, Track
from nervkit.errors import FormatError

MAX_TITLE = 1024  # characters


def store_track(packets: Sequence[av.Packet], origin: Fraction) -> Track | None:
    """The track of one source stream's packets, with time `origin` (seconds) moved to 0.

    None where no carrier holds this codec. The packets are used up.
    """
    stream = packets[0].stream
    time_base = Fraction(stream.time_base or packets[0].time_base)
    shift = round(origin / time_base)
    rows = [
        (_shifted(p.pts, shift), _shifted(p.dts, shift), p.duration or UNKNOWN) for p in packets
    ]
    times = np.array(rows, np.int64).reshape(-1, 3)
    contents = [bytes(p) for p in packets]
    for carrier in CARRIERS:
        data = _carry(packets, carrier)
        if data is not None and _count_packets(data) == len(contents):
            return Track(
                kind=stream.type,
                codec=stream.codec_context.codec.canonical_name,
                language=stream.language or "",
                time_base=time_base,
                times=times,
                carrier=carrier,
                data=data,
                title=stream.metadata.get("title", "")[:MAX_TITLE],
                flags=tuple(f for f in FLAGS if Disposition[f] in stream.disposition),
            )
    return None


def within(pts: int, duration: int, start: int, end: int) -> tuple[int, int] | None:
    """What lies in [start, end) of something that is there from `pts` for `duration`: its pts and
    duration then; None where nothing does. All in one unit. Without a duration, only `pts` counts.
    """
    first, last = max(pts, start), min(pts + duration, end)
    if duration == 0:
        return (pts, 0) if start <= pts < end else None
    return (first, last - first) if first < last else None


def track_packets(track: Track, window: tuple[Fraction, Fraction] | None = None) -> list[av.Packet]:
    """The packets with their exact times; with `window` (seconds), those that start in it,
    its beginning moved to 0. Raises FormatError where the carrier is damaged."""
    start, end = window or (None, None)
    shift = round(start / track.time_base) if start is not None else 0
    result = []
    try:
        # Stays open: the packets' stream is the template of the one they are copied to.
        carrier = av.open(io.BytesIO(track.data))
        found = [p for p in carrier.demux(carrier.streams[0]) if p.size]
    except (av.error.FFmpegError, IndexError) as error:
        raise FormatError(f"the {track.kind} track cannot be read") from error
    if len(found) != len(track.times):
        raise FormatError(f"the {track.kind} track has lost packets")
    for packet, (pts, dts, duration) in zip(found, track.times.tolist(), strict=True):
        seconds = (pts if pts != UNKNOWN else dts) * track.time_base
        if start is not None and end is not None and not start <= seconds < end:
            continue
        packet.time_base = track.time_base
        packet.pts = None if pts == UNKNOWN else pts - shift
        packet.dts = None if dts == UNKNOWN else dts - shift
        packet.duration = 0 if duration == UNKNOWN else duration
        result.append(packet)
    return result


def add_track(container: OutputContainer, packets: Sequence[av.Packet]) -> bool:
    """Add a stream for `packets` to an output, and point them at it. False where the output's
    format cannot hold the codec."""
    template = packets[0].stream
    try:
        stream = container.add_stream_from_template(template)
    except (ValueError, av.error.FFmpegError):
        return False
    if template.language:
        stream.metadata["language"] = template.language
    for packet in packets:
        packet.stream = stream
    return True


def _carry(packets: Sequence[av.Packet], carrier: str) -> bytes | None:
    buffer = io.BytesIO()
    before = [(p.stream, p.time_base, p.pts, p.dts, p.duration) for p in packets]
    try:
        with av.open(buffer, "w", format=carrier) as output:
            if not add_track(output, packets):
                return None
            for packet in packets:
                output.mux(packet)
    except av.error.FFmpegError:
        return None
    finally:
        for packet, (stream, time_base, pts, dts, duration) in zip(packets, before, strict=True):
            packet.stream, packet.time_base = stream, time_base
            packet.pts, packet.dts, packet.duration = pts, dts, duration
    return buffer.getvalue()


def _count_packets(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as carrier:
        return sum(1 for p in carrier.demux(carrier.streams[0]) if p.size)


def _shifted(time: int | None, shift: int) -> int:
    return UNKNOWN if time is None else time - shift
