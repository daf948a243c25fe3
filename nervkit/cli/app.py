"""The `nervkit` command, and how its failures are shown."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, cast

import typer

from nervkit.cli import options
from nervkit.cli.bench import bench
from nervkit.cli.collection import collection
from nervkit.cli.config import file_of
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
from nervkit.version import version_lines


class _ShownError(Exception):
    """The type of click's errors, for type checkers."""

    exit_code: int

    def format_message(self) -> str:
        """The message for the user."""
        raise NotImplementedError


# New versions of typer contain a copy of click, and old ones depend on click. Either way this is
# click's base class of all errors that are shown to the user.
ClickException = cast(type[_ShownError], typer.BadParameter.__mro__[2])

app = options.Commands(
    help="Neural video representations: fit a small network to a video, store it as one .nerv "
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
            help="Show it, and those of what nervkit is made with.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    voice.choose(quiet, verbose)


def main() -> None:
    """Entry point: every expected failure is one line on stderr and an exit code.

    0 success, 1 failure, 2 wrong usage, 130 interrupted.
    """
    voice.quiet = voice.verbose = False
    with interruption:
        try:
            code = app(prog_name="nervkit", standalone_mode=False)
            sys.stdout.flush()
        except ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "nervkit"
            message = " ".join(error.format_message().split()) + file_of(error)
            if message:
                complain(f"{command}: {message} (see {command} --help)")
            code = error.exit_code
        except NervError as error:
            if voice.verbose:
                traceback.print_exception(error)
            message = f"nervkit: {' '.join(str(error).split())}"
            if interruption.came:
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
            # Nothing more is sent to standard output, which is meant where no file is named.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):  # whose reader has gone
                place = error.filename or "standard output"
                complain(f"nervkit: {place}: cannot be used: {error.strerror or error}")
            code = 1
        if code == EXIT_CODE:  # some versions of typer make it of a KeyboardInterrupt
            interruption.end("nervkit: interrupted")
    sys.exit(code or 0)
