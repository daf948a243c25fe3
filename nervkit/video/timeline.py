"""Times as sources give them, made a time line: jumps closed, single wild ones mended."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from fractions import Fraction

import av

#: A longer step between two video packets is a new time line, where the format allows one;
#: ffmpeg's -dts_delta_threshold.
LONGEST_STEP = 10
NEIGHBOURS = 16  # pieces of a time line, before and after, that packets may belong to


class TimeLine:
    """Shifts packets so that time goes on where a recording jumps, as `ffmpeg -i` does.

    Only formats that allow discontinuities (MPEG-TS and the like) are followed so: a gap in others
    is meant. The video's packets tell of jumps; those of other streams belong to whichever piece
    puts them nearest to the video that is read at the same time.
    """

    def __init__(self) -> None:
        self.shifts = [Fraction(0)]  # seconds, one a piece
        self._shift = Fraction(0)  # that of the latest video packet
        self._next: Fraction | None = None
        self._heard: dict[int, Fraction] = {}  # how far each other stream has come

    @property
    def jumps(self) -> list[Fraction]:
        """By how many seconds the source jumps, for each new piece."""
        return [before - after for before, after in zip(self.shifts, self.shifts[1:], strict=False)]

    @property
    def place(self) -> tuple[Fraction | None, int]:
        """Where the video has come to, in seconds (None before its first packet), and how many
        pieces there are so far."""
        return self._next, len(self.shifts)

    def place_video(self, packet: av.Packet) -> None:
        """Shift the next video packet."""
        time = _decoded_at(packet)
        if time is None:
            return
        if self._next is not None and abs(time + self._shift - self._next) > LONGEST_STEP:
            self._shift = self._nearest(time, *self.place)
            if abs(time + self._shift - self._next) > LONGEST_STEP:
                self._shift = self._next - time
                self.shifts.append(self._shift)
        self._next = time + self._shift + (packet.duration or 0) * Fraction(packet.time_base)
        _move(packet, self._shift)

    def place_other(self, packet: av.Packet, position: Fraction | None, pieces: int) -> None:
        """Shift a packet of another stream, read when the video was at this `place`; only once
        all of the video was read. A time that is far from the video's, and does not go on
        from the stream's own, is taken away."""
        time = _decoded_at(packet)
        if time is None or position is None:
            return
        shift = self._nearest(time, position, pieces)
        near = [position, self._heard.get(packet.stream_index, position)]
        if min(abs(time + shift - place) for place in near) > LONGEST_STEP:
            packet.pts = packet.dts = None
            return
        self._heard[packet.stream_index] = time + shift
        _move(packet, shift)

    def _nearest(self, time: Fraction, position: Fraction, pieces: int) -> Fraction:
        shifts = self.shifts[max(0, pieces - NEIGHBOURS) : pieces + NEIGHBOURS]
        return min(shifts, key=lambda shift: abs(time + shift - position))


class DecodingOrder:
    """Times for the frames of a stream whose packets only say when they are decoded, as in AVI:
    frames are shown in the order of these times, however they are coded."""

    def __init__(self) -> None:
        self._times: list[int] = []  # of packets whose frame is not out yet, in order
        self._delay: int | None = None  # how many of those there are whenever a frame comes out

    def sent(self, packet: av.Packet) -> None:
        """A packet goes to the decoder."""
        if packet.dts is not None:
            insort(self._times, packet.dts)

    def lost(self, packet: av.Packet) -> None:
        """No frame comes out of a packet that was sent."""
        if packet.dts in self._times:
            self._times.remove(packet.dts)

    def shown_at(self, frame: av.VideoFrame) -> int | None:
        """When the next frame is shown. A packet that only repeats the frame before it (an N-VOP
        of MPEG-4) gives none: its time passes."""
        if frame.dts is not None:  # the time of the packet that brought the frame out
            waiting = bisect_right(self._times, frame.dts)
            if self._delay is None:
                self._delay = max(0, waiting - 1)
            del self._times[: max(0, waiting - 1 - self._delay)]
        return self._times.pop(0) if self._times else None


def _decoded_at(packet: av.Packet) -> Fraction | None:
    ticks = packet.pts if packet.dts is None else packet.dts
    return None if ticks is None else ticks * Fraction(packet.time_base)


def _move(packet: av.Packet, shift: Fraction) -> None:
    ticks = round(shift / Fraction(packet.time_base))
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def mended(
    times: Sequence[int | None], durations: Sequence[int | None], strictly: bool = True
) -> tuple[list[int], int]:
    """Times that increase (or, unless `strictly`, never go back), and how many were changed.

    The most that are in order among themselves stay; those between them that are missing or out
    of order are spaced anew, by the durations where there is room.
    """
    kept = _in_order(times, strictly)
    result = [0 if time is None else time for time in times]
    if not kept:
        kept = [0]
    length = [duration or 0 for duration in durations]
    for index in range(kept[0] - 1, -1, -1):
        result[index] = result[index + 1] - max(1, length[index])
    ends = [*kept[1:], len(times)]
    for left, right in zip(kept, ends, strict=True):
        wanted = sum(max(1, duration) for duration in length[left:right])
        room = wanted if right == len(times) else result[right] - result[left]
        tight = wanted > room
        for index in range(left + 1, right):
            if tight:
                result[index] = result[left] + room * (index - left) // (right - left)
            else:
                result[index] = result[index - 1] + max(1, length[index - 1])
    for index in range(1, len(result)):  # where there was no room at all
        result[index] = max(result[index], result[index - 1] + strictly)
    changed = sum(time != given for time, given in zip(result, times, strict=True))
    return result, changed


def _in_order(times: Sequence[int | None], strictly: bool) -> list[int]:
    """Indices of a longest increasing (or never decreasing) part of `times`, by patience sorting
    (Schensted, 1961)."""
    find = bisect_left if strictly else bisect_right
    tops: list[int] = []  # the lowest end of a part of each length
    places: list[int] = []  # where it is
    before: list[int] = [-1] * len(times)
    for index, time in enumerate(times):
        if time is None:
            continue
        length = find(tops, time)
        if strictly and tops[length : length + 1] == [time]:
            continue  # of equal times, the first one stays
        before[index] = places[length - 1] if length else -1
        tops[length : length + 1] = [time]
        places[length : length + 1] = [index]
    chain = []
    index = places[-1] if places else -1
    while index >= 0:
        chain.append(index)
        index = before[index]
    return chain[::-1]
