"""nervkit denoise"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(options.fitting, options.reading, options.tracks, options.movie)
def denoise(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: options.MovieOutput,
    fit: options.Fit = None,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Remove noise of unknown kind and strength from a video.

    What frames show together, followed along the motion, is kept as far as it stands out of the
    noise, which is measured for each plane, frequency and brightness. Where impulses are found, a
    small network is fitted to the video first; so it is with --fit, or with any option that says
    how. Ctrl-C keeps a checkpoint of a fit; the same command goes on from it.
    """
    from nervkit.restoration.denoise import denoise as run

    restore("denoise", run, source, output, json, restart=restart, fit=fit, **shared)
