"""nervkit interpolate"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(options.fitting, options.reading, options.tracks, options.movie)
def interpolate(
    source: Annotated[str, typer.Argument(help=f"{SOURCE_HELP} Or a .nerv file.")],
    output: options.MovieOutput,
    factor: Annotated[int | None, typer.Option(help="So many times the frames, 2 or more.")] = None,
    fps: Annotated[str | None, typer.Option(help="Or a constant rate, such as 60.")] = None,
    source_fps: Annotated[
        str | None, typer.Option(help="Frame rate of images, arrays or raw video.")
    ] = None,
    fit: options.Fit = None,
    limit: options.Limit = None,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Show a video at a higher frame rate.

    Both neighbours are moved along the motion. Where they do not agree, --fit asks a network that
    is fitted to the video; it adds little. A .nerv file is not fitted again: its own network is
    used. Ctrl-C keeps a checkpoint of a fit; the same command goes on from it.
    """
    from nervkit.restoration.interpolate import interpolate as run

    method = {
        "factor": factor,
        "fps": fps,
        "source_fps": source_fps,
        "restart": restart,
        "fit": fit,
        "limits": options.limits_of(limit),
    }
    restore("interpolate", run, source, output, json, **method, **shared)
