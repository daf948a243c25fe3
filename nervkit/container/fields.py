"""Validation of what a file declares. Each check returns a value of one type within one range, or
raises FormatError with the field's name. All values pass these checks before nervkit uses them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from fractions import Fraction
from typing import Any

from nervkit.errors import FormatError
from nervkit.media.checks import INT31, INT63, text

SHOWN = 120  # characters of a string that messages print


def parse_json(data: bytes, what: str) -> Any:
    """Parse JSON without NaN and infinities. Raises FormatError."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not valid JSON") from error


def check_skippable(name: str, what: str) -> None:
    """Check that an unknown chunk or field may be skipped. Raises FormatError if its name starts
    with a capital, which marks it as critical. `what` is its kind for the message."""
    if "A" <= name[:1] <= "Z":
        raise FormatError(
            f"{what} {printable(name, 40)} is required and unknown: install a newer nervkit"
        )


def check_object(
    value: Any, what: str, names: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Return the known fields of a JSON object: all of `names` and any of `optional`. Drops unknown
    fields. Raises FormatError if a field is missing, or an unknown one is required."""
    if not isinstance(value, dict) or not set(names) <= set(value):
        raise FormatError(f"{what} lacks a field of this version")
    known = {*names, *optional}
    for name in value.keys() - known:
        check_skippable(name, f"{what}: field")
    return {name: entry for name, entry in value.items() if name in known}


def check_int(value: Any, name: str, low: int, high: int) -> int:
    """Return `value` if it is an integer in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{name} must be a whole number from {low} to {high}{_actual(value)}")
    return value


def fraction(value: Any, name: str) -> Fraction:
    """Return a positive fraction from [numerator, denominator] of 31 bits each."""
    if not isinstance(value, list) or len(value) != 2:
        raise FormatError(f"{name} must be two whole numbers")
    return Fraction(*(check_int(part, name, 1, INT31) for part in value))


def flag(value: Any, name: str) -> bool:
    """Return `value` if it is a bool."""
    if not isinstance(value, bool):
        raise FormatError(f"{name} must be true or false{_actual(value)}")
    return value


def scalar(value: Any, name: str) -> bool | int | float | str:
    """Return `value` if it is a 63-bit integer, a finite float, a bool or a string of at most 256
    characters."""
    if isinstance(value, str):
        return text(value, name, 256)
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return check_int(value, name, -INT63, INT63)


def printable(value: object, most: int = SHOWN) -> str:
    """Return `value` as a string that is safe to print: one line of at most `most` characters, with
    unprintable ones escaped."""
    start = str(value)[: most + 1]
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in start
    )
    return escaped if len(escaped) <= most else escaped[: most - 3] + "..."


def _actual(value: Any) -> str:
    """Return ", not VALUE" for a message if the value is short enough to help."""
    shown = isinstance(value, (bool, float, str)) or (type(value) is int and abs(value) <= INT63)
    return f", not {printable(repr(value), 40)}" if shown else ""


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")
