"""nervkit denoise"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.restoring import SOURCE_HELP, restore


@options.with_options(options.fitting, options.reading, options.movie)
def denoise(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: options.MovieOutput,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Remove noise from a video, without being told its kind or strength.

    A small network is fitted to the noisy video: noise does not repeat in time or space, and has no
    room there. What the network misses is brought back from the frames around, as far as it stands
    out of the noise. Ctrl-C keeps a checkpoint; the same command goes on from it.
    """
    from nervkit.restoration.denoise import denoise as run

    restore("denoise", run, source, output, json, restart=restart, **shared)
