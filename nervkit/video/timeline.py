"""Repair of source timestamps: removes discontinuities and replaces outliers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from fractions import Fraction

import av

from nervkit.video.packets import Packet

#: A longer step between video packets, in seconds, is a discontinuity if the format allows them;
#: ffmpeg's -dts_delta_threshold.
LONGEST_STEP = 10
NEIGHBOURS = 16  # pieces before and after the current one to which a packet may belong


class TimeLine:
    """Shifts packets to remove timestamp discontinuities, as `ffmpeg -i` does.

    Use it only for formats that allow discontinuities (MPEG-TS and the like); a gap in another
    format is intended. Video packets define the continuous pieces; a packet of another stream
    belongs to the piece that puts it nearest to the video read at the same time.
    """

    def __init__(self) -> None:
        self.shifts = [Fraction(0)]  # seconds, one per piece
        self._shift = Fraction(0)  # shift of the latest video packet
        self._next: Fraction | None = None  # expected time of the next video packet
        self._latest: dict[int, Fraction] = {}  # latest time of every other stream

    @property
    def jumps(self) -> list[Fraction]:
        """Size of each discontinuity in seconds."""
        return [before - after for before, after in zip(self.shifts, self.shifts[1:], strict=False)]

    @property
    def place(self) -> tuple[Fraction | None, int]:
        """The video's current time in seconds (None before its first packet), and the number of
        pieces so far."""
        return self._next, len(self.shifts)

    def place_video(self, packet: Packet) -> None:
        """Shift the next video packet."""
        time = _decode_time(packet)
        if time is None:
            return
        if self._next is not None and abs(time + self._shift - self._next) > LONGEST_STEP:
            self._shift = self._nearest(time, self._next, len(self.shifts))
            if abs(time + self._shift - self._next) > LONGEST_STEP:
                self._shift = self._next - time
                self.shifts.append(self._shift)
        self._next = time + self._shift + (packet.duration or 0) * Fraction(packet.time_base)
        _move(packet, self._shift)

    def place_other(self, packet: Packet, position: Fraction | None, pieces: int) -> None:
        """Shift a packet of another stream, read when the video was at this `place`; call it after
        reading all video. Removes a timestamp that is far from both the video's time and the
        stream's latest time."""
        time = _decode_time(packet)
        if time is None or position is None:
            return
        shift = self._nearest(time, position, pieces)
        near = [position, self._latest.get(packet.stream_index, position)]
        if min(abs(time + shift - place) for place in near) > LONGEST_STEP:
            packet.pts = packet.dts = None
            return
        self._latest[packet.stream_index] = time + shift
        _move(packet, shift)

    def _nearest(self, time: Fraction, position: Fraction, pieces: int) -> Fraction:
        shifts = self.shifts[max(0, pieces - NEIGHBOURS) : pieces + NEIGHBOURS]
        return min(shifts, key=lambda shift: abs(time + shift - position))


class DecodingOrder:
    """Presentation timestamps for a stream whose packets have only dts, as in AVI: the sorted dts
    are the presentation times, whatever the coding order."""

    def __init__(self) -> None:
        self._times: list[int] = []  # sorted dts of the packets whose frame is not out yet
        self._delay: int | None = None  # constant length of that list when a frame comes out

    def sent(self, packet: Packet) -> None:
        """Register a packet that goes to the decoder."""
        if packet.dts is not None:
            insort(self._times, packet.dts)

    def lost(self, packet: Packet) -> None:
        """Unregister a packet that yields no frame."""
        if packet.dts is not None and packet.dts in self._times:
            self._times.remove(packet.dts)

    def shown_at(self, frame: av.VideoFrame) -> int | None:
        """Return the presentation time of the next decoded frame. Drops the time of a packet that
        only repeats the previous frame (an N-VOP of MPEG-4) and yields none."""
        if frame.dts is not None:  # dts of the packet that completed the frame
            waiting = bisect_right(self._times, frame.dts)
            if self._delay is None:
                self._delay = max(0, waiting - 1)
            del self._times[: max(0, waiting - 1 - self._delay)]
        return self._times.pop(0) if self._times else None


def _decode_time(packet: Packet) -> Fraction | None:
    ticks = packet.pts if packet.dts is None else packet.dts
    return None if ticks is None else ticks * Fraction(packet.time_base)


def _move(packet: Packet, shift: Fraction) -> None:
    ticks = round(shift / Fraction(packet.time_base))
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def repair_times(
    times: Sequence[int | None], durations: Sequence[int | None], strictly: bool = True
) -> tuple[list[int], int]:
    """Return increasing timestamps (non-decreasing unless `strictly`), and how many changed.

    A longest increasing subsequence stays. The others are replaced: spaced by their durations if
    there is room, else evenly.
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
    for index in range(1, len(result)):  # if there was no room at all
        result[index] = max(result[index], result[index - 1] + strictly)
    changed = sum(time != given for time, given in zip(result, times, strict=True))
    return result, changed


def _in_order(times: Sequence[int | None], strictly: bool) -> list[int]:
    """Return the indices of a longest increasing (or non-decreasing) subsequence of `times`, by
    patience sorting (Schensted, 1961)."""
    find = bisect_left if strictly else bisect_right
    tops: list[int] = []  # smallest last value of a subsequence of each length
    places: list[int] = []  # index of that value
    before: list[int] = [-1] * len(times)
    for index, time in enumerate(times):
        if time is None:
            continue
        length = find(tops, time)
        if strictly and tops[length : length + 1] == [time]:
            continue  # keep the first of equal times
        before[index] = places[length - 1] if length else -1
        tops[length : length + 1] = [time]
        places[length : length + 1] = [index]
    chain = []
    index = places[-1] if places else -1
    while index >= 0:
        chain.append(index)
        index = before[index]
    return chain[::-1]
