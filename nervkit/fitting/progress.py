"""Progress reports of a fit: an outlook at the start, then pace, time left and PSNR. Imports no
torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REPORT_SECONDS = 1.0  # between progress reports
PROBE_SHARE = 0.02  # share of the time spent on measuring PSNR during the fit
WARM_UP_STEPS = 5  # not timed: they allocate, choose kernels and record a CUDA graph
PACE_STEPS, PACE_SECONDS = 2, 0.5  # the shortest measurement of the pace


@dataclass(frozen=True)
class Progress:
    """A progress report of one phase of a fit."""

    phase: str
    step: int
    steps: int  # total; in a fit by the clock, the estimate from the pace so far
    epoch: float
    steps_per_second: float
    psnr: float  # dB in the fit's metric, of a few frames, as last measured
    seconds_left: float


@dataclass(frozen=True)
class Outlook:
    """The expected length of a fit.

    Attributes:
        steps: total; None in a fit by the clock.
        done: how many of them earlier sessions did.
        seconds: for the remaining steps.
        threads: number of CPU threads; None on a GPU and in a fit by the clock.
    """

    steps: int | None
    done: int
    seconds: float
    threads: int | None


class Pace:
    """Times the first steps of a fit. It waits for a GPU only before and after these steps."""

    def __init__(self, on_pace: Callable[[float], None] | None) -> None:
        """`on_pace` is called once with the seconds per step, when enough steps were timed or the
        fit ends."""
        self._on_pace = on_pace
        self._began = time.perf_counter()
        self._count = -WARM_UP_STEPS

    def count(self, wait: Callable[[], object], last: bool) -> None:
        """Count a step; `last` marks the fit's last one. `wait` blocks until the step is done."""
        if self._on_pace is None:
            return
        self._count += 1
        if self._count == 0 and not last:
            wait()
            self._began = time.perf_counter()
        enough = self._count >= PACE_STEPS and time.perf_counter() - self._began >= PACE_SECONDS
        if enough or last:
            wait()
            steps = self._count if self._count > 0 else self._count + WARM_UP_STEPS
            self._on_pace((time.perf_counter() - self._began) / steps)
            self._on_pace = None


class Meter:
    """Times a fit from the meter's creation, and decides when reports and PSNR probes are due. The
    pace leaves out the first steps."""

    def __init__(self, first_step: int) -> None:
        self._start = self._last_report = time.perf_counter()
        self._first_step = first_step
        self._warm: tuple[int, float] | None = None  # the step and the time after warming up
        self._probe_cost = 0.0
        self._next_probe = self._start
        self._psnr = float("nan")

    def elapsed(self) -> float:
        """Return the seconds since the meter's creation."""
        return time.perf_counter() - self._start

    def count(self, step: int) -> bool:
        """Count the step that leads to `step`; return whether a report is due."""
        now = time.perf_counter()
        if self._warm is None and step - self._first_step >= WARM_UP_STEPS:
            self._warm = step, now
        return now - self._last_report >= REPORT_SECONDS

    def report(
        self,
        phase: str,
        step: int,
        steps: int,
        per_epoch: int,
        probe: Callable[[], float],
        left: float | None = None,
    ) -> Progress:
        """Return the report at `step`. It calls `probe` for a new PSNR within PROBE_SHARE of the
        time. `left` is the known number of seconds left; None: estimated from the pace."""
        now = time.perf_counter()
        if now >= self._next_probe or step == steps:
            self._psnr = probe()
            self._probe_cost = time.perf_counter() - now
            now = time.perf_counter()
            self._next_probe = now + self._probe_cost / PROBE_SHARE
        self._last_report = now
        first, start = self._first_step, self._start
        if self._warm is not None and step > self._warm[0]:
            first, start = self._warm
        rate = (step - first) / max(now - start, 1e-9)
        if left is None or step == steps:
            left = (steps - step) / max(rate, 1e-9)
        return Progress(phase, step, steps, step / per_epoch, rate, self._psnr, left)
