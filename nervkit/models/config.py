"""Model configurations: frozen dataclasses of bounded values, checked on construction.

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
    """Declare a field whose value, or every entry of a tuple, lies in [low, high]."""
    return field(default=default, metadata={"bounds": (low, high)})


def added(specified: Any) -> Any:
    """Mark a field that earlier files lack; its default is the value that they were made with."""
    specified.metadata = {**specified.metadata, "added": True}
    return specified


def chosen(*choices: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field whose value is one of a few words."""
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class VideoShape:
    """The size of a video: `frames` frames of `height` x `width` RGB pixels."""

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
        """The number of pixels of all frames."""
        return self.frames * self.height * self.width


#: annotations of fields, and the types that JSON preserves for them
KINDS = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
LISTS = {f"tuple[{kind}, ...]": kind for kind in ("int", "float")}


@dataclass(frozen=True)
class ModelConfig:
    """Base class of every model's configuration. A field is a `bounded` int, float,
    tuple[int, ...] or tuple[float, ...]; a `chosen` str; or a bool."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            self._check(spec)

    @staticmethod
    def field_fault(spec: dataclasses.Field[Any]) -> str | None:
        """Return why a field cannot be checked, and so cannot be stored; None if it can."""
        kind = _kind(spec)
        if kind not in KINDS and kind not in LISTS:
            return f"a field must be one of {', '.join((*KINDS, *LISTS))}, not {kind}"
        if kind == "str" and not spec.metadata.get("choices"):
            return 'a str needs its choices: chosen("a", "b", default="a")'
        if kind not in ("str", "bool") and "bounds" not in spec.metadata:
            return "a number needs its bounds: bounded(low, high, default)"
        return None

    def _check(self, spec: dataclasses.Field[Any]) -> None:
        kind, value = _kind(spec), getattr(self, spec.name)
        entries: tuple[Any, ...] = (value,)
        if kind in LISTS:
            if not isinstance(value, tuple) or not 1 <= len(value) <= 8:
                raise UsageError(f"{spec.name} must be a list of 1 to 8 numbers, not {value!r}")
            entries, kind = value, LISTS[kind]
        if kind == "bool" and type(value) is not bool:
            raise UsageError(f"{spec.name} must be true or false, not {value!r}")
        choices, bounds = spec.metadata.get("choices"), spec.metadata.get("bounds")
        if choices and value not in choices:
            raise UsageError(f"{spec.name} must be one of {', '.join(choices)}, not {value!r}")
        if not bounds:
            return
        low, high = bounds
        for entry in entries:
            if type(entry) not in KINDS[kind] or not low <= entry <= high:
                raise UsageError(f"{spec.name} must lie in {low:g} to {high:g}, not {entry!r}")

    def _same_length(self, *names: str) -> None:
        if len({len(getattr(self, name)) for name in names}) > 1:
            raise UsageError(f"{', '.join(names)} must be lists of the same length")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Invert `to_dict`. Raises UsageError for unknown, missing or invalid fields; a field that
        is `added` may be missing."""
        specs = dataclasses.fields(cls)
        names = {spec.name for spec in specs}
        needed = {spec.name for spec in specs if "added" not in spec.metadata}
        if not needed <= set(values) <= names:
            raise UsageError(
                f"{cls.__name__} has fields {sorted(names)}, the configuration {sorted(values)}"
            )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _kind(spec: dataclasses.Field[Any]) -> str:
    """Return the field's annotation as text."""
    return spec.type.__name__ if isinstance(spec.type, type) else str(spec.type)
