"""How a fit is measured for display: what is ahead of it; rate, time left and PSNR so far. No torch
here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REPORT_SECONDS = 1.0  # between progress reports
PROBE_SHARE = 0.02  # of the time that may go into measuring PSNR on the way
WARM_UP_STEPS = 5  # they allocate, choose kernels and are recorded as a graph: not timed
PACE_STEPS, PACE_SECONDS = 2, 0.5  # that are timed at least


@dataclass(frozen=True)
class Progress:
    """Where a fit is."""

    phase: str
    step: int
    steps: int  # in all; where time is given, as many as there will be at the pace so far
    epoch: float
    steps_per_second: float
    psnr: float  # dB by the metric of the fit, of a few frames, as last measured
    seconds_left: float


@dataclass(frozen=True)
class Outlook:
    """What is ahead of a fit: `steps` in all, or None where it goes by the clock, `done` of them
    in earlier sessions; `seconds` for the rest, and the `threads` that it computes with, or None
    on a GPU and by the clock."""

    steps: int | None
    done: int
    seconds: float
    threads: int | None


class Pace:
    """Times the first steps of a fit, and waits for a GPU at the start and the end of them only."""

    def __init__(self, on_pace: Callable[[float], None] | None) -> None:
        """`on_pace` is called with the seconds of a step once enough were timed, or there are no
        more."""
        self._on_pace = on_pace
        self._began = time.perf_counter()
        self._count = -WARM_UP_STEPS

    def count(self, wait: Callable[[], object], last: bool) -> None:
        """Count a step, the `last` one of a fit or not; `wait` returns once it is made."""
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
    """Times a fit from its creation on and decides when a report and a PSNR probe are due."""

    def __init__(self, first_step: int) -> None:
        self._start = self._last_report = time.perf_counter()
        self._first_step = first_step
        self._probe_cost = 0.0
        self._next_probe = self._start
        self._psnr = float("nan")

    def elapsed(self) -> float:
        """Seconds since the meter was made."""
        return time.perf_counter() - self._start

    def due(self) -> bool:
        return time.perf_counter() - self._last_report >= REPORT_SECONDS

    def report(
        self,
        phase: str,
        step: int,
        steps: int,
        per_epoch: int,
        probe: Callable[[], float],
        left: float | None = None,
    ) -> Progress:
        """The state at `step`. Calls `probe` for a new PSNR only as often as is cheap. `left` are
        the seconds left where they are known."""
        now = time.perf_counter()
        if now >= self._next_probe or step == steps:
            self._psnr = probe()
            self._probe_cost = time.perf_counter() - now
            now = time.perf_counter()
            self._next_probe = now + self._probe_cost / PROBE_SHARE
        self._last_report = now
        rate = (step - self._first_step) / max(now - self._start, 1e-9)
        if left is None or step == steps:
            left = (steps - step) / max(rate, 1e-9)
        return Progress(phase, step, steps, step / per_epoch, rate, self._psnr, left)
