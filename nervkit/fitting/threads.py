"""The number of threads of a fit on a CPU."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PIXELS_PER_THREAD = 12_000  # of a step; with fewer, a second thread costs more than it gains
WARM_UP_STEPS = 2  # not timed: they allocate and choose kernels
TRIAL_SECONDS = 0.3  # of steps for each number on trial
WINDOW_SECONDS = 2.0  # of steps whose mean is compared with the pace of the last search
CHANGE = 4 / 3  # factor between both paces that starts a new search: the load has changed
REST_SECONDS = 8.0  # minimum between two searches
LOOK_SECONDS, LOOK_STEPS = 60.0, 100  # after both, a search starts at any pace
GAIN = 0.95  # a better number takes less than this share of the time

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # the quota of a container


def most_threads() -> int:
    """Return the number that the user or torch has set, limited to the container's CPU quota."""
    most = torch.get_num_threads()
    if CPU_QUOTA.is_file():
        quota, period = CPU_QUOTA.read_text().split()
        if quota != "max":
            most = min(most, max(1, math.ceil(int(quota) / int(period))))
    return most


def threads_for(pixels: int, most: int) -> int:
    """Return the number of threads, 1 to `most`, for steps of `pixels`. The last bits of a fit
    depend on it, so it depends on nothing that changes from one fit to the next."""
    return min(most, max(1, pixels // PIXELS_PER_THREAD))


@contextmanager
def fit_threads(device: torch.device, pixels: int, *, timed: bool) -> Iterator[ThreadSearch | None]:
    """Set the number of threads for a fit with steps of `pixels`, and restore it at the end.

    With `timed`, yield a search for the fastest number, which runs along with the steps. On a GPU
    nothing changes.
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
    """A search for the number of threads with which a fit's own steps are fastest.

    It tries half and twice the present number, and goes on in the direction that gains. A new
    search starts at intervals (`LOOK_SECONDS`), and when the pace changes.
    """

    def __init__(self, start: int, most: int) -> None:
        self.count, self._most = start, most
        self._pace = math.inf  # seconds per step at the end of the last search
        self._left_out = WARM_UP_STEPS
        self._steps, self._seconds, self._since = 0, 0.0, 0.0
        self._trials: Generator[int, float, None] | None = self._search()
        next(self._trials)

    def took(self, seconds: float) -> None:
        """Add the seconds of a step. This may change the number of threads of the next one."""
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
            rest = REST_SECONDS if changed else max(LOOK_SECONDS, LOOK_STEPS * pace)
            if self._since >= rest:
                self._trials = self._search()
                next(self._trials)

    def _search(self) -> Generator[int, float, None]:
        """Yield numbers of threads to try; the caller sends the seconds per step with each."""
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
