"""nervkit decode"""

from __future__ import annotations

from typing import Annotated

import typer

from nervkit.cli import options
from nervkit.cli.console import counted, counting, duration, emit, say
from nervkit.errors import UsageError


def decode(
    source: Annotated[str, typer.Argument(help="A .nerv file.")],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help=".mp4, .mkv, .mov, .webm, .y4m, .npy, a folder, a pattern (%05d.png), - for y4m "
            "on stdout; .m4a or .mka for the sound alone.",
        ),
    ],
    frames: options.Frames = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Only from this time on: seconds, 1.5m, MM:SS or HH:MM:SS.",
            metavar="TIME",
            rich_help_panel=options.SOURCE,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Only what is before this time.", metavar="TIME", rich_help_panel=options.SOURCE
        ),
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Decode the whole segments of a file cut short.")
    ] = False,
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
    """Decode a .nerv file to a movie, images, y4m or an array, or copy its sound alone."""
    if json and output in ("-", "/dev/stdout"):
        raise UsageError(f"--json and -o {output} both need stdout; choose one")
    from nervkit.decoder import decode as run

    with counting("decode") as on_progress:
        report = run(
            source,
            output,
            frames=frames,
            start=start,
            to=to,
            salvage=salvage,
            codec=codec,
            crf=crf,
            pixel_format=pixel_format,
            overwrite=overwrite,
            device=device,
            limits=options.limits_of(limit),
            on_progress=on_progress,
        )
    for note in report.notes:
        say(f"note: {note}")
    if json:
        emit(report.to_dict())
    if report.frames == 0:
        say(f"{report.output}: the sound, in {duration(report.seconds)}")
        return
    say(
        f"{report.output}: {counted(report.frames, 'frame')} of {report.width}x{report.height} in "
        f"{duration(report.seconds)} ({report.frames_per_second:.1f} frames/s)"
    )
