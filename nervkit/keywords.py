"""Keyword arguments that a function passes on by name: which there are, and which there are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any

from nervkit.errors import OptionError


def check_keywords(
    function: Callable[..., Any], given: Iterable[str], passed_on: Iterable[str]
) -> None:
    """Raise OptionError where `given`, what `function` got besides its own keywords, has one that
    is not among those that it passes on. The message names the nearest that there is."""
    passed_on = tuple(passed_on)
    unknown = next((name for name in given if name not in passed_on), None)
    if unknown is None:
        return
    own = signature(function).parameters.values()
    known = [*(p.name for p in own if p.kind is not Parameter.VAR_KEYWORD), *passed_on]
    nearest = get_close_matches(unknown, known, 1)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise OptionError(f"{function.__name__}() has no option {unknown!r}{meant}")
