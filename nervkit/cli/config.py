"""Defaults of options from a file: `nervkit.toml` in the current folder, or what --config names.

A table for each command holds its options by their long names, such as

    [encode]
    preset = "medium"

    [bench.run]
    device = "cuda"
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

from nervkit.container.fields import printable
from nervkit.errors import SourceError, UsageError

NAME = "nervkit.toml"
META = "nervkit.config"  # the key of the file's name in a context
NEVER = ("config", "help")  # options that a file cannot set
#: options that exclude each other: one on the command line replaces those of the file
RIVALS = (
    ("preset", "epochs", "steps", "time"),
    (
        *("target_size", "target_bpp", "target_bitrate", "target_psnr", "target_loss"),
        *("bits", "embedding_bits", "prune", "compression"),
    ),
    ("to", "duration"),
    ("params", "strides", "start_from", "go_on"),
    ("segments", "segment_frames"),
    ("quiet", "verbose"),
)
TOGETHER = (("bits", "embedding_bits", "prune"), ("params", "strides"))  # these do not


def read_defaults(ctx: typer.Context, path: str | None) -> str | None:
    """Give a command the defaults of its file, before its other options are read. Raises
    SourceError, and UsageError for a table or an option that nervkit does not have."""
    place = Path(NAME if path is None else path)
    if path is None and not place.is_file():
        return None
    tables = _read(place)
    root = ctx.find_root().command
    _check_commands(tables, root, place)
    table: Any = tables
    for name in ctx.command_path.split()[1:]:
        table = table.get(name, {})
    ctx.default_map = _parameters(table, ctx.command, place)
    ctx.meta[META] = str(place)
    return path


def _read(place: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{place}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{place}: is not TOML: {error}") from error


def _check_commands(tables: dict[str, Any], group: Any, place: Path) -> None:
    """Raise UsageError if a table is not that of a command."""
    for name, table in tables.items():
        commands = getattr(group, "commands", {})
        if name not in commands or not isinstance(table, dict):
            what = "command" if isinstance(table, dict) else "table of options"
            raise UsageError(f"{place}: {_unknown(name, commands, what)}")
        if hasattr(commands[name], "commands"):
            _check_commands(table, commands[name], place)


def _parameters(table: dict[str, Any], command: Any, place: Path) -> dict[str, Any]:
    """The values of a table by the names of a command's parameters. Raises UsageError."""
    known = {
        option.removeprefix("--"): parameter.name
        for parameter in command.params
        for option in parameter.opts
        if parameter.param_type_name == "option" and option.startswith("--")
    }
    known = {option: name for option, name in known.items() if name not in NEVER}
    values = {}
    for key, value in table.items():
        option = key.replace("_", "-")
        if option not in known:
            raise UsageError(f"{place}: {_unknown(key, known, f'option of {command.name}')}")
        values[known[option]] = value
    return values


def _unknown(name: str, known: Any, what: str) -> str:
    nearest = get_close_matches(name, list(known), 1)
    meant = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{printable(name, 40)!r} is no {what}{meant}"


def with_rivals_resolved(
    ctx: typer.Context, values: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """The values of a command's options, without those of the file that one on the command line
    excludes; and a line that names the defaults which are used, if there are any."""
    if META not in ctx.meta:
        return values, None
    sources = {name: _source(ctx, name) for name in values}
    resolved = dict(values)
    for parameter in ctx.command.params:
        name = parameter.name
        if name in values and sources[name] == "DEFAULT_MAP" and _excluded(name, sources):
            resolved[name] = parameter.default
            sources[name] = "DEFAULT"
    used = [name for name, source in sources.items() if source == "DEFAULT_MAP"]
    if not used:
        return resolved, None
    shown = ", ".join(f"{name.replace('_', '-')} {resolved[name]}" for name in sorted(used))
    return resolved, f"defaults of {ctx.meta[META]}: {shown}"


def file_of(error: Any) -> str:
    """Such as " in nervkit.toml": where a wrong value of an option comes from a file of defaults;
    empty otherwise. `error` is click's."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None or META not in context.meta:
        return ""
    from_file = _source(context, parameter.name) == "DEFAULT_MAP"
    return f" in {context.meta[META]}" if from_file else ""


def _source(ctx: typer.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "DEFAULT" if source is None else source.name


def _excluded(name: str, sources: dict[str, str]) -> bool:
    """Whether an option on the command line excludes this one."""
    rivals = {rival for group in RIVALS if name in group for rival in group} - {name}
    rivals -= {other for group in TOGETHER if name in group for other in group}
    return any(sources.get(rival) == "COMMANDLINE" for rival in rivals)
