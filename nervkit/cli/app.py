"""The `nervkit` command: its subcommands, and the messages and exit codes of its failures."""

from __future__ import annotations

import os
import re
import sys
import traceback
from shlex import quote
from typing import Annotated, cast

import typer

from nervkit.cli import options
from nervkit.cli.bench import bench
from nervkit.cli.collection import collection
from nervkit.cli.config import config_location
from nervkit.cli.console import complain, voice
from nervkit.cli.decode import decode
from nervkit.cli.denoise import denoise
from nervkit.cli.encode import encode
from nervkit.cli.info import info
from nervkit.cli.inpaint import inpaint
from nervkit.cli.interpolate import interpolate
from nervkit.cli.interruption import EXIT_CODE, interruption
from nervkit.cli.models import models
from nervkit.cli.render import render
from nervkit.cli.requantize import requantize
from nervkit.cli.tracks import tracks
from nervkit.cli.verify import verify
from nervkit.errors import NervError
from nervkit.keywords import command_names
from nervkit.version import version_lines


class _ShownError(Exception):
    """The interface of click's errors, for type checkers."""

    exit_code: int

    def format_message(self) -> str:
        """Return the message for the user."""
        raise NotImplementedError


# New versions of typer contain a copy of click, and old ones depend on click. This is click's base
# class of errors for the user in both.
ClickException = cast(type[_ShownError], typer.BadParameter.__mro__[2])

FILE_NAME = re.compile(r"\.[A-Za-z]\w{2,4}$")

app = options.Commands(
    help="Neural video representations: fit a small network to a video, store it as a .nerv "
    "file, decode it back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(encode)
app.command()(decode)
app.command()(info)
app.command()(verify)
app.command()(requantize)
app.command()(denoise)
app.command()(inpaint)
app.command()(interpolate)
app.command()(render)
app.command()(tracks)
app.command()(models)
app.add_typer(collection, name="collection")
app.add_typer(bench, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        for line in version_lines():
            typer.echo(line)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the versions of nervkit and of its dependencies, and exit.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    voice.choose(quiet, verbose)


def _hint(error: _ShownError, arguments: list[str]) -> str | None:
    """Return a hint on ffmpeg's -i or on an output without -o. None if neither is the problem."""
    if getattr(error, "option_name", None) == "-i":
        return "; nervkit takes the source without -i"
    parameter = getattr(error, "param", None)
    if (
        getattr(parameter, "name", None) != "output"
        or "Missing option" not in error.format_message()
    ):
        return None
    # All arguments that look like files: the source, and perhaps the output.
    files = [text for text in arguments if FILE_NAME.search(text)]
    if len(files) < 2 or files[-1] != arguments[-1]:
        return None
    if arguments[0] == "encode" and not files[-1].endswith(".nerv"):
        return None  # several sources
    return f"; did you mean -o {quote(files[-1])}?"


def main() -> None:
    """Run the command. Every expected failure prints one line on stderr and sets the exit code:
    0 success, 1 failure, 2 wrong usage, 130 interrupted."""
    voice.quiet = voice.verbose = False
    with interruption, command_names():
        try:
            code = app(prog_name="nervkit", standalone_mode=False)
            sys.stdout.flush()
        except ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "nervkit"
            message = " ".join(error.format_message().split()) + config_location(error)
            if hint := _hint(error, sys.argv[1:]):
                message = message.removesuffix(".") + hint
            if message:
                complain(f"{command}: {message} (see {command} --help)")
            code = error.exit_code
        except NervError as error:
            if voice.verbose:
                traceback.print_exception(error)
            message = f"nervkit: {' '.join(str(error).split())}"
            if interruption.received:
                interruption.end(message)
            complain(message)
            code = error.exit_code
        except MemoryError:
            complain(
                "nervkit: memory ran out; close other programs, or use a smaller or shorter video"
            )
            code = 1
        except (KeyboardInterrupt, typer.Abort):
            interruption.end("nervkit: interrupted")
        except OSError as error:
            # Python must not flush to a broken standard output when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):  # the reader of the pipe has ended
                place = error.filename or "standard output"
                complain(f"nervkit: {place}: cannot be used: {error.strerror or error}")
            code = 1
        if code == EXIT_CODE:  # some versions of typer catch KeyboardInterrupt and return this
            interruption.end("nervkit: interrupted")
    sys.exit(code or 0)
