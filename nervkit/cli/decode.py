"""nervkit decode"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from nervkit.cli import options
from nervkit.cli.console import count_noun, counting, print_report, say
from nervkit.errors import UsageError
from nervkit.progress import duration as in_words

if TYPE_CHECKING:
    from nervkit.choices import CodecName


def decode(
    source: Annotated[str, typer.Argument(help="A .nerv file, or - for standard input.")],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help=".mp4, .mkv, .mov, .webm, .y4m, .npy, a folder, a pattern (%05d.png), - for y4m "
            "on stdout; .png or .jpg for one frame; .m4a or .mka for audio only.",
        ),
    ],
    frames: options.Frames = None,
    start: options.Start = None,
    to: options.To = None,
    duration: options.Duration = None,
    resize: Annotated[
        str | None,
        typer.Option(
            help="Resize decoded frames: 640x360, 640 (the height follows, even) or 640x-1.",
            metavar="W[xH]",
            rich_help_panel=options.SOURCE,
        ),
    ] = None,
    audio: options.Audio = True,
    subtitles: options.Subtitles = True,
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="Decode the intact parts of a truncated or damaged file."),
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
    """Decode a .nerv file to a movie, images, y4m or an array, or copy its audio."""
    if json and output in ("-", "/dev/stdout"):
        raise UsageError(f"--json and -o {output} both need stdout; choose one")
    from nervkit.exporter import decode as run

    with counting("decode") as on_progress:
        report = run(
            source,
            output,
            frames=frames,
            start=start,
            to=to,
            duration=duration,
            resize=resize,
            audio=audio,
            subtitles=subtitles,
            salvage=salvage,
            codec=cast("CodecName | None", codec),
            crf=crf,
            pixel_format=pixel_format,
            overwrite=overwrite,
            device=device,
            limits=options.parse_limits(limit),
            on_progress=on_progress,
        )
    print_report(report, json)
    if report.frames == 0:
        say(f"{report.output}: audio copied in {in_words(report.seconds)}")
        return
    say(
        f"{report.output}: {count_noun(report.frames, 'frame')} of {report.width}x{report.height} "
        f"in {in_words(report.seconds)} ({report.frames_per_second:.1f} frames/s)"
    )
