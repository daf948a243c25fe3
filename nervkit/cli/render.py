"""nervkit render"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from nervkit.cli import options
from nervkit.cli.console import count_noun, counting, print_report, say
from nervkit.errors import UsageError
from nervkit.progress import duration

if TYPE_CHECKING:
    from nervkit.choices import CodecName


def render(
    source: Annotated[str, typer.Argument(help="A .nerv file.")],
    output: options.MovieOutput,
    size: Annotated[
        str | None, typer.Option(help="Output size (model gaussians).", metavar="WxH")
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            help="Playback speed: 0.25 or 1/4 is slow motion, with new frames between frames."
        ),
    ] = "1",
    stabilise: Annotated[
        bool, typer.Option("--stabilise", help="Remove camera motion (gaussians).")
    ] = False,
    remove: Annotated[
        str | None,
        typer.Option(
            help="Remove the object in this mask image: white (not black) = the object, black = "
            "kept (gaussians)."
        ),
    ] = None,
    recolour: Annotated[
        str | None,
        typer.Option(
            help="Recolour the object in this mask image: white (not black) = the object, black = "
            "kept; needs --colour (gaussians)."
        ),
    ] = None,
    colour: Annotated[
        str | None, typer.Option(help="Colour for --recolour.", metavar="RRGGBB")
    ] = None,
    at: Annotated[int, typer.Option(min=0, help="The frame that the mask belongs to.")] = 0,
    codec: options.Codec = None,
    crf: options.Crf = None,
    pixel_format: Annotated[
        str | None, typer.Option(help="Pixel format of the output, such as yuv444p.")
    ] = None,
    device: options.Device = "auto",
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Render a .nerv file at another speed or size, stabilised, or with an object edited.

    Every model supports --speed. The other options need a file of the model gaussians.
    """
    if json and output in ("-", "/dev/stdout"):
        raise UsageError(f"--json and -o {output} both need stdout; choose one")
    from nervkit.renderer import render as run

    with counting("render") as on_progress:
        report = run(
            source,
            output,
            size=size,
            speed=speed,
            stabilise=stabilise,
            remove=remove,
            recolour=recolour,
            colour=colour,
            at=at,
            codec=cast("CodecName | None", codec),
            crf=crf,
            pixel_format=pixel_format,
            overwrite=overwrite,
            device=device,
            limits=options.parse_limits(limit),
            on_progress=on_progress,
        )
    print_report(report, json)
    edited = f", {count_noun(report.edited, 'Gaussian')} edited" if remove or recolour else ""
    say(
        f"{report.output}: {count_noun(report.frames, 'frame')} of {report.width}x{report.height} "
        f"in {duration(report.seconds)}{edited}"
    )
