"""The command `nervkit denoise`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(
    options.restoring, options.fitting, options.reading, options.tracks, options.movie
)
def denoise(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: options.MovieOutput,
    fit: Annotated[
        bool | None,
        typer.Option(
            "--fit/--no-fit",
            help="Fit a network or not (default: for impulses, and for strong RGB noise with a "
            "static camera).",
            rich_help_panel=options.FIT,
        ),
    ] = None,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Remove noise of unknown kind and strength from a video.

    Neighbouring frames are aligned along the motion, and content that exceeds the noise is kept.
    The noise is measured for each plane, frequency and brightness. If there are impulses, or strong
    RGB noise with a static camera, a small network is fitted to the video first. --fit, or any
    option of the fit, requests that too. Ctrl-C keeps a checkpoint of a fit, and the same command
    resumes from it.
    """
    from nervkit.restoration.denoise import denoise as method

    restore("denoise", method, source, output, json, restart=restart, fit=fit, **shared)
