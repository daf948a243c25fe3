"""How many threads a fit computes with on a CPU."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PIXELS_PER_THREAD = 12_000  # of a step; with less, a second thread costs more than it brings
WARM_UP_STEPS = 2  # they allocate, and choose kernels: not timed
TRIAL_SECONDS = 0.3  # of steps for each number that is tried
WINDOW_SECONDS = 2.0  # of steps whose mean is held against the pace when threads were chosen
CHANGE = 4 / 3  # of that pace, up or down: the machine is another one now
LOOK_SECONDS, LOOK_STEPS = 60.0, 100  # after so long, and so many steps, it is looked at anyway
GAIN = 0.95  # another number must take less than this of the time

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container


def most_threads() -> int:
    """What the user or torch has set, and no more than the processors that a container may use."""
    most = torch.get_num_threads()
    if CPU_QUOTA.is_file():
        quota, period = CPU_QUOTA.read_text().split()
        if quota != "max":
            most = min(most, max(1, math.ceil(int(quota) / int(period))))
    return most


def threads_for(pixels: int, most: int) -> int:
    """How many threads suit steps of `pixels`, from 1 to `most`. What a fit computes depends on
    their number, so this depends on nothing that changes from one fit to the next."""
    return min(most, max(1, pixels // PIXELS_PER_THREAD))


@contextmanager
def computing(device: torch.device, pixels: int, *, timed: bool) -> Iterator[ThreadSearch | None]:
    """Set the number of threads for a fit whose steps have `pixels`, and put it back at the end.

    With `timed`, gives what searches for the fastest number as steps are made. On a GPU, nothing
    is changed.
    """
    if device.type == "cuda":
        yield None
        return
    before, most = torch.get_num_threads(), most_threads()
    start = threads_for(pixels, most)
    torch.set_num_threads(start)
    try:
        yield ThreadSearch(start, most) if timed and most > 1 else None
    finally:
        torch.set_num_threads(before)


class ThreadSearch:
    """Finds the number of threads with which a fit's own steps are fastest, here and now.

    Tries half of them and twice as many, and goes on in the direction that gains. It tries again
    now and then (`LOOK_SECONDS`), and when steps take another time than they took.
    """

    def __init__(self, start: int, most: int) -> None:
        self.count, self._most = start, most
        self._pace = math.inf  # seconds a step when threads were last chosen
        self._left_out = WARM_UP_STEPS
        self._steps, self._seconds, self._since = 0, 0.0, 0.0
        self._trials: Generator[int, float, None] | None = self._search()
        next(self._trials)

    def took(self, seconds: float) -> None:
        """Count a step of so many seconds. The next one may have another number of threads."""
        if self._left_out:
            self._left_out -= 1
            return
        self._steps, self._seconds = self._steps + 1, self._seconds + seconds
        if self._trials is not None:
            if self._seconds >= TRIAL_SECONDS:
                self._tried(self._mean())
        elif self._seconds >= WINDOW_SECONDS:
            self._since += self._seconds
            pace = self._mean()
            changed = not 1 / CHANGE < pace / self._pace < CHANGE
            if changed or self._since >= max(LOOK_SECONDS, LOOK_STEPS * pace):
                self._trials = self._search()
                next(self._trials)

    def _search(self) -> Generator[int, float, None]:
        """Yields a number of threads to try, and is sent the seconds of a step with it."""
        best = yield self.count
        for factor in (0.5, 2):
            gained = False
            while (other := max(1, min(self._most, int(factor * self.count)))) != self.count:
                seconds = yield other
                if seconds >= GAIN * best:
                    break
                self.count, best, gained = other, seconds, True
            if gained:
                break
        self._pace, self._since = best, 0.0

    def _tried(self, seconds: float) -> None:
        assert self._trials is not None
        try:
            count = self._trials.send(seconds)
        except StopIteration:
            self._trials, count = None, self.count
        torch.set_num_threads(count)
        self._left_out = 1

    def _mean(self) -> float:
        mean = self._seconds / self._steps
        self._steps, self._seconds = 0, 0.0
        return mean
