"""Keyword arguments of the public functions: checking and selecting them, and their names in
messages, which are those of the command line or of Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

from nervkit.errors import OptionError

SIMILAR = 0.65  # difflib's ratio of a mistyped name and the name
P = ParamSpec("P")
Result = TypeVar("Result")


def checked_keywords(function: Callable[P, Result]) -> Callable[P, Result]:
    """Decorator: a call with an unknown keyword raises OptionError, whose message suggests the most
    similar option."""
    known = tuple(signature(function).parameters)
    name = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: P.args, **given: P.kwargs) -> Result:
        unknown = next((keyword for keyword in given if keyword not in known), None)
        if unknown is not None:
            nearest = get_close_matches(unknown.lower(), known, 1, SIMILAR)
            suggestion = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise OptionError(f"{name}() has no option {unknown!r}{suggestion}")
        return function(*args, **given)

    return checked


def spelled_out(
    options: type, defaults: Mapping[str, object]
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Decorator: `help`, notebooks and `inspect.signature` show `**options: Unpack[options]` as one
    keyword for each key of this TypedDict. A key without an entry in `defaults` has None."""

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        shown = signature(function)
        own = [p for p in shown.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        passed_on = []
        for name, kind in options.__annotations__.items():
            parameter = Parameter(name, Parameter.KEYWORD_ONLY, default=defaults.get(name))
            passed_on.append(parameter.replace(annotation=getattr(kind, "__forward_arg__", kind)))
        # Callable has no such attribute for a type checker.
        function.__signature__ = shown.replace(parameters=own + passed_on)  # type: ignore[attr-defined]
        return function

    return decorate


def keyword_defaults(*functions: Callable[..., object]) -> dict[str, object]:
    """Return the default of each parameter of some functions or dataclasses that has one."""
    parameters = (p for function in functions for p in signature(function).parameters.values())
    return {p.name: p.default for p in parameters if p.default is not Parameter.empty}


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
