"""The command `nervkit interpolate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(
    options.restoring, options.fitting, options.reading, options.tracks, options.movie
)
def interpolate(
    source: Annotated[str, typer.Argument(help=f"{SOURCE_HELP} Or a .nerv file.")],
    output: options.MovieOutput,
    factor: Annotated[
        int | None, typer.Option(help="Multiply the number of frames, by 2 or more.")
    ] = None,
    fps: Annotated[str | None, typer.Option(help="Or a constant frame rate, such as 60.")] = None,
    source_fps: Annotated[
        str | None, typer.Option(help="Frame rate of images, arrays or raw video; 25 by default.")
    ] = None,
    fit: Annotated[
        bool | None,
        typer.Option(
            "--fit/--no-fit",
            help="Fit a network or not (default: no).",
            rich_help_panel=options.FIT,
        ),
    ] = None,
    limit: options.Limit = None,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Raise the frame rate of a video.

    Both neighbours of a new frame are warped along the motion. Where they disagree, --fit uses the
    prediction of a network that is fitted to the video, which adds little. For a .nerv file, its
    stored network predicts, without a fit. New frames after the last frame repeat it, so --factor 2
    makes 24 frames of 12. Ctrl-C keeps a checkpoint of a fit, and the same command resumes from it.
    """
    from nervkit.restoration.interpolate import interpolate as method

    own = {
        "factor": factor,
        "fps": fps,
        "source_fps": source_fps,
        "restart": restart,
        "fit": fit,
        "limits": options.parse_limits(limit),
    }
    restore("interpolate", method, source, output, json, **own, **shared)
