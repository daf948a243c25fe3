"""Times of PyAV packets."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import av
    from av.stream import Stream

Packet: TypeAlias = "av.Packet[Stream]"


def packet_time(packet: Packet) -> int:
    """Return a packet's pts or, if unknown, its dts, in its time base; 0 if both are unknown."""
    return next((ticks for ticks in (packet.pts, packet.dts) if ticks is not None), 0)


def decode_time(packet: Packet) -> Fraction:
    """Return a packet's dts or, if unknown, its pts, in seconds; 0 if both are unknown."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return Fraction(ticks or 0) * Fraction(packet.time_base)


def end_time(packets: Sequence[Packet]) -> Fraction:
    """Return the time at which the last packet of a track ends, in seconds."""
    last = packets[-1]
    return decode_time(last) + (last.duration or 0) * Fraction(last.time_base)
