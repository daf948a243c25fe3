"""Notices a fit that diverges, takes it back, and goes on at a lower rate."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nervkit.errors import NervError

WINDOW = 100  # steps between looks; only then does a fit wait for the device
RISE = 4.0  # a window's mean error over the best one's that counts as diverged: 6 dB of MSE
FLOOR = 1e-4  # a mean error below it (40 dB of MSE) is never called diverged
CUT = 0.3  # of every rate, each time
MOST_CUTS = 5


class Guarded(Protocol):
    """What a Guard needs of a fit's Stepper: its model, and its state to put back."""

    model: nn.Module
    device: torch.device
    rate: float  # all rates of learning are multiplied by it
    notes: list[str]

    @property
    def codec(self) -> object | None:
        """The coders of a fit through a quantizer, None of any other."""

    def state(self) -> Any:
        """A snapshot."""

    def put_back(self, state: Any) -> None:
        """Go back to a snapshot."""


class Guard:
    """Watches the errors of a Stepper in windows of `WINDOW` steps.

    What a good window ended with is kept on the device. After a bad one (a mean error that is not
    finite, or `RISE` times the best window's, of a fit through a quantizer the last one's) it is
    put back, `stepper.rate` is cut, and
    `stepper.notes` say so.
    """

    def __init__(self, stepper: Guarded, step: int, saved: dict[str, Any] | None = None) -> None:
        """`saved` is an earlier `state()`; the fit stands at `step`, which is taken to be good."""
        self._stepper = stepper
        state = saved or {"best": None, "sum": 0.0, "count": 0, "cuts": 0, "notes": []}
        self._best, self._count, self._cuts = state["best"], state["count"], state["cuts"]
        self._sum = torch.tensor(state["sum"], dtype=torch.float64, device=stepper.device)
        stepper.notes += state["notes"]
        stepper.rate = CUT**self._cuts
        self._good = step, stepper.state()

    def state(self) -> dict[str, Any]:
        """JSON-ready; all but the snapshot, which a checkpoint of the same step replaces."""
        return {
            "best": self._best,
            "sum": float(self._sum),
            "count": self._count,
            "cuts": self._cuts,
            "notes": self._stepper.notes,
        }

    def add(self, error: Tensor) -> None:
        """Count the error of one step. Does not wait for the device."""
        self._sum += error
        self._count += 1

    def look(self, step: int) -> int:
        """Judge the window that ends at `step`; the step to go on from, which is `step` if it
        was good. Raises NervError where taking back does not help any more."""
        mean = float(self._sum) / self._count
        self._sum.zero_()
        self._count = 0
        limit = float("inf") if self._best is None else max(RISE * self._best, FLOOR)
        if mean < limit and self._finite():
            # Through a quantizer the error may rise for long, as noise and the rate's weight do.
            falls = self._best is not None and self._stepper.codec is None
            self._best = min(self._best, mean) if falls else mean
            self._good = step, self._stepper.state()
            return step
        if self._cuts == MOST_CUTS:
            raise NervError(
                "the fit diverged; try another --seed, --recipe, or --precision float32"
            )
        self._cuts += 1
        self._stepper.rate = CUT**self._cuts
        start, state = self._good
        self._stepper.put_back(state)
        self._stepper.notes.append(
            f"the fit diverged before step {step}: taken back to step {start}, "
            f"rates are {self._stepper.rate:.2g} of the recipe's from there on"
        )
        return start

    def _finite(self) -> bool:
        finite = [p.isfinite().all() for p in self._stepper.model.parameters()]
        return bool(torch.stack(finite).all())
