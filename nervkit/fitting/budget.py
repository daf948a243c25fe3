"""The length of a fit: a preset, epochs, steps or seconds. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from nervkit.errors import UsageError
from nervkit.keywords import option
from nervkit.units import is_whole


@dataclass(frozen=True)
class Preset:
    """An amount of work: steps that process about `pixels`, at most `most_steps` of them, and at
    least `epochs` passes over the clip. A step counts its batch's pixels plus STEP_PIXELS."""

    pixels: float
    most_steps: int
    epochs: int


# Targets for the default model on two CPU cores with bfloat16: draft 1 to 2 minutes, medium 10.
PRESETS = {
    "draft": Preset(1e9, most_steps=2_000, epochs=1),
    "fast": Preset(3e9, most_steps=6_000, epochs=2),
    "medium": Preset(6e9, most_steps=12_000, epochs=5),
    "slow": Preset(30e9, most_steps=40_000, epochs=20),
    "placebo": Preset(120e9, most_steps=120_000, epochs=80),
}
STEP_PIXELS = 120_000  # the fixed cost of a step, in pixels of equal compute time
DEFAULT_PRESET = "fast"
LEAST_SECONDS = 1e-3  # of a phase: the time may be over before the phase begins
BUDGET_OPTIONS = ("preset", "epochs", "steps", "time")  # mutually exclusive


@dataclass(frozen=True)
class Budget:
    """The length of a fit: exactly one of a preset, epochs, steps and seconds is set."""

    preset: str | None = None
    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        amounts = (self.preset, self.epochs, self.steps, self.seconds)
        given = {n: a for n, a in zip(BUDGET_OPTIONS, amounts, strict=True) if a is not None}
        if len(given) != 1:
            raise UsageError(
                f"give one of {', '.join(map(option, BUDGET_OPTIONS[:-1]))} and "
                f"{option(BUDGET_OPTIONS[-1])}, not {' and '.join(map(option, given))}"
            )
        ((name, amount),) = given.items()
        if self.preset is not None and self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset!r}; choose from: {', '.join(PRESETS)}")
        if name == "steps":
            if not is_whole(amount) or int(amount) <= 0:
                raise UsageError(
                    f"{option('steps')} must be a positive whole number, not {amount!r}"
                )
            object.__setattr__(self, "steps", int(amount))  # of NumPy's types too
        if name in ("epochs", "time") and not (isinstance(amount, Real) and 0 < amount < math.inf):
            raise UsageError(f"{option(name)} must be a positive number, not {amount!r}")

    @classmethod
    def choose(
        cls,
        preset: str | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        seconds: float | None = None,
    ) -> Budget:
        """Return the budget for at most one given option; without any, the default preset."""
        if preset is None and epochs is None and steps is None and seconds is None:
            preset = DEFAULT_PRESET
        return cls(preset, epochs, steps, seconds)

    def total_steps(self, steps_per_epoch: int, pixels: int) -> int:
        """Return the number of steps, each of `pixels`. The budget must not be one of seconds."""
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
    """A run of `count` steps."""

    count: int

    def progress(self, step: int, seconds: float) -> float:
        """Return the completed share after `step` steps and `seconds`: 0 at first, 1 at the end."""
        return step / self.count

    def expected(self, step: int, seconds: float) -> int:
        """Return the total number of steps."""
        return self.count


@dataclass(frozen=True)
class Seconds:
    """A run of `count` seconds and at least one step. It ends when one more step would end further
    from `count` than the run is now."""

    count: float

    def progress(self, step: int, seconds: float) -> float:
        """Return the completed share; see Steps.progress."""
        if step and seconds * (1 + 0.5 / step) >= self.count:
            return 1.0
        return min(seconds / self.count, 1.0 - 1e-9)

    def expected(self, step: int, seconds: float) -> int:
        """Estimate the total number of steps from the pace so far."""
        if self.progress(step, seconds) == 1 or not step:
            return step
        return step + math.ceil((self.count - seconds) * step / seconds)


Length = Steps | Seconds
