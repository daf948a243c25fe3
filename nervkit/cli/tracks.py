"""nervkit tracks"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from nervkit.cli import options
from nervkit.cli.console import count_noun, counting, emit, say

if TYPE_CHECKING:
    from nervkit.choices import CodecName


def tracks(
    source: Annotated[str, typer.Argument(help="A .nerv file of the model gaussians.")],
    at: Annotated[
        list[str],
        typer.Option(help="A point in pixels and its frame. Repeatable.", metavar="X,Y,FRAME"),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="JSON file; standard output by default."),
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(help="Also write the video with the trajectories drawn: out.mp4, ..."),
    ] = None,
    codec: options.Codec = None,
    crf: options.Crf = None,
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Follow points through the video."""
    from nervkit.tracker import tracks as run

    with counting("tracks") as on_progress:
        found = run(
            source,
            at,
            output=output,
            draw=draw,
            codec=cast("CodecName | None", codec),
            crf=crf,
            overwrite=overwrite,
            limits=options.parse_limits(limit),
            on_progress=on_progress,
        )
    if output is None:
        emit(found.to_dict())
    for written in filter(None, (output, draw)):
        say(f"{written}: {count_noun(len(found.tracks), 'track')}")
