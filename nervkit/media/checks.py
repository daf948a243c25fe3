"""Checks of values that a file can hold. Each raises FormatError with the value's name."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from nervkit.errors import FormatError

INT31 = (1 << 31) - 1  # numerators and denominators of libav's fractions
INT63 = (1 << 63) - 1
MOST_SECONDS = 1 << 31  # from 0, either way: what libav's clocks can hold in any unit


def check_time_base(base: Fraction, what: str) -> None:
    """Raise FormatError where `base` is not positive, or exceeds 31 bits."""
    if not (0 < base.numerator <= INT31 and base.denominator <= INT31):
        raise FormatError(f"{what} of {base} s does not fit into 31 bits")


def text(value: Any, name: str, most: int) -> str:
    """Unicode of at most `most` characters. It may have line breaks; printing escapes them."""
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise FormatError(f"{name} must be a text of at most {most} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can write
        raise FormatError(f"{name} holds something that is no Unicode text") from error
    return value


def line(value: Any, name: str, most: int) -> str:
    """A text of printable characters only."""
    if not text(value, name, most).isprintable():
        raise FormatError(f"{name} holds characters that cannot be printed")
    return value
