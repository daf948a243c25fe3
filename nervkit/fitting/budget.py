"""How long to fit: presets, epochs, steps or seconds. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from nervkit.errors import UsageError


@dataclass(frozen=True)
class Preset:
    """An amount of work: as many steps as take about `pixels`, at most `most_steps` and at least
    `epochs` passes. A step takes its batch's pixels and STEP_PIXELS."""

    pixels: float
    most_steps: int
    epochs: int


# Aims, for the default model on two CPU cores with bfloat16: draft a minute or two, medium ten.
PRESETS = {
    "draft": Preset(1e9, most_steps=2_000, epochs=1),
    "fast": Preset(3e9, most_steps=6_000, epochs=2),
    "medium": Preset(6e9, most_steps=12_000, epochs=5),
    "slow": Preset(30e9, most_steps=40_000, epochs=20),
    "placebo": Preset(120e9, most_steps=120_000, epochs=80),
}
STEP_PIXELS = 120_000  # as long as so many take what does not depend on the frame's size
DEFAULT_PRESET = "fast"
BUDGET_OPTIONS = ("preset", "epochs", "steps", "time")  # of which a user gives one at most


@dataclass(frozen=True)
class Budget:
    """Exactly one of a number of steps, of epochs, or of seconds; or a preset's name."""

    preset: str | None = None
    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        amounts = (self.preset, self.epochs, self.steps, self.seconds)
        given = {n: a for n, a in zip(BUDGET_OPTIONS, amounts, strict=True) if a is not None}
        if len(given) != 1:
            raise UsageError(
                "give one of preset, epochs, steps and time, not " + " and ".join(given)
            )
        ((name, amount),) = given.items()
        if self.preset is not None and self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset!r}; choose from: {', '.join(PRESETS)}")
        if name == "steps" and not (isinstance(amount, int) and amount > 0):
            raise UsageError(f"steps must be a positive whole number, not {amount!r}")
        if name in ("epochs", "time") and not (isinstance(amount, Real) and 0 < amount < math.inf):
            raise UsageError(f"{name} must be a positive number, not {amount!r}")

    @classmethod
    def choose(
        cls,
        preset: str | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        seconds: float | None = None,
    ) -> Budget:
        """A budget from options of which at most one is given; none means the default preset."""
        if preset is None and epochs is None and steps is None and seconds is None:
            preset = DEFAULT_PRESET
        return cls(preset, epochs, steps, seconds)

    def total_steps(self, steps_per_epoch: int, pixels: int) -> int:
        """Steps to run, of `pixels` each, where the budget is not one of seconds."""
        assert self.seconds is None, "a time budget has no number of steps"
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(1, round(self.epochs * steps_per_epoch))
        preset = PRESETS[self.preset or DEFAULT_PRESET]
        steps = min(int(preset.pixels / (pixels + STEP_PIXELS)), preset.most_steps)
        return max(preset.epochs * steps_per_epoch, steps)

    def __str__(self) -> str:
        if self.preset is not None:
            return f"preset {self.preset}"
        if self.seconds is not None:
            return f"{self.seconds:g} s"
        return f"{self.steps} steps" if self.steps is not None else f"{self.epochs:g} epochs"


@dataclass(frozen=True)
class Steps:
    """A run of so many steps."""

    count: int

    def progress(self, step: int, seconds: float) -> float:
        """How far the run is after `step` steps and so many seconds: from 0, and 1 at its end."""
        return step / self.count

    def expected(self, step: int, seconds: float) -> int:
        """How many steps it will have had."""
        return self.count


@dataclass(frozen=True)
class Seconds:
    """A run of so many seconds, however many steps that are. It ends where the next step would
    take it further from its time than it is; it has one step at least."""

    count: float

    def progress(self, step: int, seconds: float) -> float:
        """See Steps.progress."""
        if step and seconds * (1 + 0.5 / step) >= self.count:
            return 1.0
        return min(seconds / self.count, 1.0 - 1e-9)

    def expected(self, step: int, seconds: float) -> int:
        """As many as there will be at the pace so far."""
        if self.progress(step, seconds) == 1 or not step:
            return step
        return step + math.ceil((self.count - seconds) * step / seconds)
