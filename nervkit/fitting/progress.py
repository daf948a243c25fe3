"""How a running fit is measured for display: rate, time left, PSNR so far. No torch here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REPORT_SECONDS = 1.0  # between progress reports
PROBE_SHARE = 0.02  # of the time that may go into measuring PSNR on the way


@dataclass(frozen=True)
class Progress:
    """Where a fit is."""

    phase: str
    step: int
    steps: int  # in all; where time is given, as many as there will be at the pace so far
    epoch: float
    steps_per_second: float
    psnr: float  # dB, of a few frames, as last measured
    seconds_left: float


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
