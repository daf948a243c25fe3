"""The command `nervkit inpaint`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(
    options.restoring, options.fitting, options.reading, options.tracks, options.movie
)
def inpaint(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: options.MovieOutput,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Mask, one image for all frames, images or a movie: white (not black) = to be "
            "filled, black = kept."
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Unknown box: x,y,w,h in every frame, x,y,w,h@a:b in frames a to b - 1, or @a:b "
            "(entire frames). Repeatable."
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Write the network's prediction of all pixels, known ones too."
        ),
    ] = False,
    fit: Annotated[
        bool | None,
        typer.Option(
            "--fit/--no-fit",
            help="Fit a network or not (default: yes).",
            rich_help_panel=options.FIT,
        ),
    ] = None,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Fill the masked parts of a video.

    Known pixels do not change. Content that other frames show is copied from there. A network that
    is fitted to the video, unless --no-fit is set, predicts the rest. Ctrl-C keeps a checkpoint of
    the fit, and the same command resumes from it.
    """
    from nervkit.restoration.inpaint import inpaint as method

    own = {"mask": mask, "boxes": box or (), "whole": whole, "restart": restart, "fit": fit}
    restore("inpaint", method, source, output, json, **own, **shared)
