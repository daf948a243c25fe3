"""Model configurations: frozen dataclasses of bounded numbers, checked on construction.

No torch here, so that a header can be read and checked without it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from nervkit.errors import UsageError

MAX_FRAMES = 1 << 20
MAX_SIDE = 1 << 15


def bounded(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field whose value (or every entry, for a tuple) lies in [low, high]."""
    return field(default=default, metadata={"bounds": (low, high)})


@dataclass(frozen=True)
class VideoShape:
    """What a representation reproduces: `frames` frames of `height` x `width` RGB pixels."""

    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        limits = {"frames": MAX_FRAMES, "height": MAX_SIDE, "width": MAX_SIDE}
        for name, most in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError(f"{name} must be a whole number from 1 to {most}, not {value!r}")

    @property
    def pixels(self) -> int:
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class ModelConfig:
    """Base of every model's configuration. Fields are int, float or tuple[int, ...]."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            self._check(spec)

    def _check(self, spec: dataclasses.Field[Any]) -> None:
        value = getattr(self, spec.name)
        low, high = spec.metadata["bounds"]
        entries = (value,)
        kind: type = float if spec.type in (float, "float") else int
        if spec.type in (tuple[int, ...], "tuple[int, ...]"):
            if not isinstance(value, tuple) or not 1 <= len(value) <= 8:
                raise UsageError(f"{spec.name} must be a list of 1 to 8 numbers, not {value!r}")
            entries = value
        for entry in entries:
            number = type(entry) is int or (kind is float and type(entry) is float)
            if not number or not low <= entry <= high:
                raise UsageError(f"{spec.name} must lie in {low:g} to {high:g}, not {entry!r}")

    def _same_length(self, *names: str) -> None:
        if len({len(getattr(self, name)) for name in names}) > 1:
            raise UsageError(f"{', '.join(names)} must be lists of the same length")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises UsageError on unknown, missing or bad fields."""
        names = {spec.name for spec in dataclasses.fields(cls)}
        if set(values) != names:
            raise UsageError(
                f"{cls.__name__} has fields {sorted(names)}, the configuration {sorted(values)}"
            )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
