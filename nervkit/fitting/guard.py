"""Detects divergence of a fit, restores the last good state, and lowers the learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from nervkit.errors import NervError
from nervkit.keywords import option, setting

WINDOW = 100  # steps between checks; only a check waits for the device
RISE = 4.0  # a window diverged if its mean error is this multiple of the best one's: 6 dB of MSE
FLOOR = 1e-4  # a mean error below this never counts as diverged: 40 dB of MSE
CUT = 0.3  # factor on all learning rates after each divergence
MOST_CUTS = 5

State = TypeVar("State")


class Guarded(Protocol[State]):
    """What a Guard needs of a fit's Stepper."""

    rate: float  # multiplier of all learning rates
    notes: list[str]

    @property
    def model(self) -> nn.Module:
        """The fitted model."""

    @property
    def device(self) -> torch.device:
        """The device that computes the fit."""

    @property
    def codec(self) -> object | None:
        """The quantizer in the fit, if any."""

    def state(self) -> State:
        """Return a snapshot of all that steps change."""

    def put_back(self, state: State) -> None:
        """Restore a snapshot."""


@dataclass(frozen=True)
class GuardState:
    """A Guard's state without its snapshot, which a checkpoint of the same step replaces.

    Attributes:
        best: the mean error that windows are compared with; None before the first window.
        sum, count: of the errors in the current window.
        cuts: how often the fit was restored.
        notes: the stepper's notes so far.
    """

    best: float | None = None
    sum: float = 0.0
    count: int = 0
    cuts: int = 0
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-ready values."""
        return asdict(self) | {"notes": list(self.notes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the state that `to_dict` wrote."""
        return cls(**values)


class Guard(Generic[State]):
    """Checks the errors of a Stepper in windows of `WINDOW` steps.

    The guard keeps the state after the last good window on the device. A window is bad if its mean
    error is not finite, or exceeds `RISE` times the best window's (the last window's in a fit
    through a quantizer). Then the guard restores the good state, lowers `stepper.rate` and adds a
    note to `stepper.notes`.
    """

    def __init__(self, stepper: Guarded[State], step: int, saved: GuardState | None = None) -> None:
        """`saved` is an earlier `state()`. The fit is at `step`, whose state counts as good."""
        self._stepper = stepper
        state = saved or GuardState()
        self._best, self._count, self._cuts = state.best, state.count, state.cuts
        self._sum = torch.tensor(state.sum, dtype=torch.float64, device=stepper.device)
        stepper.notes += state.notes
        stepper.rate = CUT**self._cuts
        self._good = step, stepper.state()

    def state(self) -> GuardState:
        """Return the state for a checkpoint."""
        notes = list(self._stepper.notes)
        return GuardState(self._best, float(self._sum), self._count, self._cuts, notes)

    def add(self, error: Tensor) -> None:
        """Add the error of one step. This does not wait for the device."""
        self._sum += error
        self._count += 1

    def check(self, step: int) -> int:
        """Check the window that ends at `step` and return the step to go on from: `step` itself
        after a good window. Raises NervError after more than MOST_CUTS divergences."""
        mean = float(self._sum) / self._count
        self._sum.zero_()
        self._count = 0
        limit = float("inf") if self._best is None else max(RISE * self._best, FLOOR)
        if mean < limit and self._finite():
            # Through a quantizer the error may rise for long, as noise and the rate's weight grow.
            if self._best is not None and self._stepper.codec is None:
                mean = min(self._best, mean)
            self._best = mean
            self._good = step, self._stepper.state()
            return step
        if self._cuts == MOST_CUTS:
            raise NervError(
                f"the fit diverged; try another {option('seed')} or {option('recipe')}, "
                f"or {setting('precision', 'float32')}"
            )
        self._cuts += 1
        self._stepper.rate = CUT**self._cuts
        start, state = self._good
        self._stepper.put_back(state)
        self._stepper.notes.append(
            f"the fit diverged before step {step}: nervkit went back to step {start} and goes on "
            f"at {self._stepper.rate:.2g} of the recipe's learning rates"
        )
        return start

    def _finite(self) -> bool:
        finite = [p.isfinite().all() for p in self._stepper.model.parameters()]
        return bool(torch.stack(finite).all())
