"""nervkit inpaint"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(options.fitting, options.reading, options.tracks, options.movie)
def inpaint(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: options.MovieOutput,
    mask: Annotated[
        str | None,
        typer.Option(help="Unknown where not black: an image, images for each frame, or a movie."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="Unknown: x,y,w,h in every frame, x,y,w,h@a:b in some, @a:b whole frames. "
            "Repeatable."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Write the network's whole prediction, not patches.")
    ] = False,
    fit: options.Fit = None,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Fill the parts of a video that are masked out.

    Known pixels are not touched. What other frames show is taken from there; a fit, made unless
    --no-fit is given, says the rest. Ctrl-C keeps a checkpoint of it; the same command goes on from
    it.
    """
    from nervkit.restoration.inpaint import inpaint as run

    method = {"mask": mask, "boxes": box or (), "whole": whole, "restart": restart, "fit": fit}
    restore("inpaint", run, source, output, json, **method, **shared)
