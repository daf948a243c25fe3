"""Keyword arguments of the public functions: checking and selecting them, and their names in
messages, which are those of the command line or of Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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


class _Interface:
    """The interface through which the user sets options: the nervkit command, or Python."""

    is_command = False


@contextmanager
def command_names(active: bool = True) -> Iterator[None]:
    """Make messages of this process name options as the nervkit command does; with `active` False,
    as Python does."""
    before, _Interface.is_command = _Interface.is_command, active
    try:
        yield
    finally:
        _Interface.is_command = before


def is_command() -> bool:
    """Return whether messages name options as the nervkit command does, for a worker process."""
    return _Interface.is_command


def option(name: str) -> str:
    """Return an option's name for a message: "--target-size" if the nervkit command runs, else the
    Python keyword "target_size"."""
    return f"--{name.replace('_', '-')}" if _Interface.is_command else name.replace("-", "_")


def setting(name: str, value: object) -> str:
    """Return an option with its value for a message: "--preset draft", "--restart" or "--no-fit"
    if the nervkit command runs, else "preset='draft'", "restart=True" or "fit=False"."""
    if not _Interface.is_command:
        return f"{option(name)}={value!r}"
    if isinstance(value, bool):
        return option(name if value else f"no_{name}")
    return f"{option(name)} {value}"


def either(command: str, python: str) -> str:
    """Return the text for the nervkit command or for Python, where the two differ otherwise."""
    return command if _Interface.is_command else python


def select(options: Mapping[str, object], names: Iterable[str]) -> dict[str, Any]:
    """Return the entries of `options` whose keys are among `names`."""
    return {name: options[name] for name in names if name in options}
