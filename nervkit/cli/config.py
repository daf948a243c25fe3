"""Default values of options from a TOML file: ./nervkit.toml, or the file of --config.

Each command has a table of options by their long names:

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
META_KEY = "nervkit.config"  # of the file's path in the metadata of a click context
COMMAND_LINE_ONLY = ("config", "help")  # options that a file cannot set
#: Options that exclude each other. One on the command line discards the others from the file.
EXCLUSIVE = (
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
#: Options within EXCLUSIVE groups that may be combined.
COMBINABLE = (("bits", "embedding_bits", "prune"), ("params", "strides"))


def read_defaults(ctx: typer.Context, path: str | None) -> str | None:
    """Set the defaults of a command from its file. This is the callback of the eager option
    --config. Raises SourceError if the file is unreadable, UsageError for an unknown command or
    option."""
    file = Path(NAME if path is None else path)
    if path is None and not file.is_file():
        return None
    tables = _read(file)
    root = ctx.find_root().command
    _check_commands(tables, root, file)
    table: Any = tables
    for name in ctx.command_path.split()[1:]:
        table = table.get(name, {})
    ctx.default_map = _parameters(table, ctx.command, file)
    ctx.meta[META_KEY] = str(file)
    return path


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: is not valid TOML: {error}") from error


def _check_commands(tables: dict[str, Any], group: Any, file: Path) -> None:
    """Raise UsageError if a table does not belong to a command."""
    for name, table in tables.items():
        commands = getattr(group, "commands", {})
        if name not in commands or not isinstance(table, dict):
            what = "command" if isinstance(table, dict) else "table of options"
            raise UsageError(f"{file}: {_unknown(name, commands, what)}")
        if hasattr(commands[name], "commands"):
            _check_commands(table, commands[name], file)


def _parameters(table: dict[str, Any], command: Any, file: Path) -> dict[str, Any]:
    """Return a table's values by the parameter names of its command. Raises UsageError."""
    known = {
        option.removeprefix("--"): parameter.name
        for parameter in command.params
        for option in parameter.opts
        if parameter.param_type_name == "option" and option.startswith("--")
    }
    known = {option: name for option, name in known.items() if name not in COMMAND_LINE_ONLY}
    values = {}
    for key, value in table.items():
        option = key.replace("_", "-")
        if option not in known:
            raise UsageError(f"{file}: {_unknown(key, known, f'option of {command.name}')}")
        values[known[option]] = value
    return values


def _unknown(name: str, known: Any, what: str) -> str:
    nearest = get_close_matches(name, list(known), 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{printable(name, 40)!r} is no {what}{hint}"


def resolve_defaults(
    ctx: typer.Context, values: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Drop the file's defaults that an option on the command line excludes. Return the values of
    the command's options, and a line that lists the file's remaining defaults, or None."""
    if META_KEY not in ctx.meta:
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
    return resolved, f"defaults of {ctx.meta[META_KEY]}: {shown}"


def config_location(error: Any) -> str:
    """Return the origin of an invalid option value, such as " in nervkit.toml", if click's `error`
    is about a default from a file; else ""."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None or META_KEY not in context.meta:
        return ""
    from_file = _source(context, parameter.name) == "DEFAULT_MAP"
    return f" in {context.meta[META_KEY]}" if from_file else ""


def _source(ctx: typer.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "DEFAULT" if source is None else source.name


def _excluded(name: str, sources: dict[str, str]) -> bool:
    """Return whether an option on the command line excludes this one."""
    excluding = {other for group in EXCLUSIVE if name in group for other in group} - {name}
    excluding -= {other for group in COMBINABLE if name in group for other in group}
    return any(sources.get(other) == "COMMANDLINE" for other in excluding)
