"""Checks that a value fits into a file. Each raises FormatError and names the value."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from nervkit.errors import FormatError

INT31 = (1 << 31) - 1  # limit of the numerator and denominator of libav's AVRational
INT63 = (1 << 63) - 1
MOST_SECONDS = 1 << 31  # largest |timestamp|: libav can represent it in any time base


def check_time_base(base: Fraction, what: str) -> None:
    """Raise FormatError if `base` is not positive, or its parts exceed 31 bits."""
    if not (0 < base.numerator <= INT31 and base.denominator <= INT31):
        raise FormatError(f"{what} of {base} s does not fit into 31 bits")


def text(value: Any, name: str, most: int) -> str:
    """Return `value` if it is a string of at most `most` characters without U+0000. Line breaks are
    allowed; code that prints it escapes them."""
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise FormatError(f"{name} must be a text of at most {most} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can write
        raise FormatError(f"{name} is not valid Unicode text") from error
    return value


def line(value: Any, name: str, most: int) -> str:
    """Return `value` if it is a `text` of printable characters only."""
    checked = text(value, name, most)
    if not checked.isprintable():
        raise FormatError(f"{name} contains unprintable characters")
    return checked
