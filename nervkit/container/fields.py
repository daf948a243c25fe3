"""Checks of what a file declares. Each returns a value of one type within one range, or raises
FormatError with the field's name. Nothing of a file reaches the rest of nervkit unchecked."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from fractions import Fraction
from typing import Any

from nervkit.errors import FormatError
from nervkit.media.checks import INT31, INT63, text

SHOWN = 120  # characters of a text that are printed


def parse_json(data: bytes, what: str) -> Any:
    """JSON without NaN and infinities."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not valid JSON") from error


def may_skip(name: str, what: str) -> None:
    """What this nervkit does not know and a file holds, a chunk or a field: it may be skipped, but
    where its first letter is a capital. Raises FormatError then; `what` names its kind."""
    if "A" <= name[:1] <= "Z":
        raise FormatError(
            f"{what} {printable(name, 40)} is not known here, and needed: install a newer nervkit"
        )


def an_object(
    value: Any, what: str, names: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """The known fields of an object, which has all of `names`, and any of `optional`. Others are
    left out, but where they must not be."""
    if not isinstance(value, dict) or not set(names) <= set(value):
        raise FormatError(f"the fields of {what} are not those of this version")
    known = {*names, *optional}
    for name in value.keys() - known:
        may_skip(name, f"{what}: field")
    return {name: entry for name, entry in value.items() if name in known}


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{name} must be a whole number from {low} to {high}{_actual(value)}")
    return value


def fraction(value: Any, name: str) -> Fraction:
    """A positive fraction from [numerator, denominator], of 31 bits each."""
    if not isinstance(value, list) or len(value) != 2:
        raise FormatError(f"{name} must be two whole numbers")
    return Fraction(*(whole(part, name, 1, INT31) for part in value))


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise FormatError(f"{name} must be true or false{_actual(value)}")
    return value


def scalar(value: Any, name: str) -> bool | int | float | str:
    """A number of 63 bits or finite, a flag or a short text."""
    if isinstance(value, str):
        return text(value, name, 256)
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return whole(value, name, -INT63, INT63)


def printable(value: object, most: int = SHOWN) -> str:
    """A text as it may be shown: short, in one line, control characters escaped."""
    start = str(value)[: most + 1]
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in start
    )
    return escaped if len(escaped) <= most else escaped[: most - 3] + "..."


def _actual(value: Any) -> str:
    """The wrong value, where it is short enough to help."""
    shown = isinstance(value, (bool, float, str)) or (type(value) is int and abs(value) <= INT63)
    return f", not {printable(repr(value), 40)}" if shown else ""


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
