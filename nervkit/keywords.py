"""Keyword arguments that a public function passes on: checking names, and picking some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any

from nervkit.errors import OptionError


def check_keywords(
    function: Callable[..., Any], given: Iterable[str], passed_on: Iterable[str]
) -> None:
    """Raise OptionError if a name in `given`, the extra keywords of a call of `function`, is not
    one of the names that it passes on. The message suggests the most similar known name."""
    passed_on = tuple(passed_on)
    unknown = next((name for name in given if name not in passed_on), None)
    if unknown is None:
        return
    own = signature(function).parameters.values()
    known = [*(p.name for p in own if p.kind is not Parameter.VAR_KEYWORD), *passed_on]
    nearest = get_close_matches(unknown, known, 1)
    suggestion = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise OptionError(f"{function.__name__}() has no option {unknown!r}{suggestion}")


def select(options: Mapping[str, object], names: Iterable[str]) -> dict[str, Any]:
    """Return the entries of `options` whose keys are among `names`."""
    return {name: options[name] for name in names if name in options}
