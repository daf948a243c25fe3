"""nervkit collection"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import count_noun, counting, emit, fitting, print_report, say, voice
from nervkit.errors import NervError, UsageError
from nervkit.progress import duration

if TYPE_CHECKING:
    from nervkit.collection.adding import AddReport
    from nervkit.video.clip import Clip

collection = options.Commands(
    help="Many videos in one growing network and one file (PFNR).", no_args_is_help=True
)
NETWORK = "Network (first video only)"  # a panel of --help


@collection.callback()
def _group(quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    voice.choose(quiet, verbose)


File = Annotated[str, typer.Argument(metavar="COLLECTION", help="A .nervc file.")]


def fitting_options(
    keep: Annotated[
        float,
        typer.Option(
            help="Share of the network's weights that the video uses.", rich_help_panel=options.FIT
        ),
    ] = 0.5,
    bits: Annotated[
        int,
        typer.Option(help="Bit depth of an added weight, 2 to 12.", rich_help_panel=options.FIT),
    ] = 6,
    recipe: options.Recipe = "native",
    preset: options.Preset = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    time: options.Time = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """Options of the fit."""


def network_options(
    params: Annotated[
        str | None,
        typer.Option(
            help="Number of shared weights, such as 350k or 1.5M; by default, chosen for the first "
            "video.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    strides: Annotated[
        str | None,
        typer.Option(
            help="Strides of the network's stages, such as 5,2,2,2,2.", rich_help_panel=NETWORK
        ),
    ] = None,
    videos: Annotated[
        int | None,
        typer.Option(
            help="Planned number of videos; 16 by default, and more may follow.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    fourier: Annotated[
        str | None,
        typer.Option(
            help="The Fourier operator: sum (beside a convolution, the default), alone or none.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
) -> None:
    """Options of a new collection's network."""


@collection.command()
@options.with_options(fitting_options, network_options, options.reading)
def add(
    file: Annotated[
        str,
        typer.Argument(metavar="COLLECTION", help="The .nervc file; created if it does not exist."),
    ],
    source: Annotated[str, typer.Argument(help="A video: any input of nervkit encode.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the video; by default, of its file.")
    ] = None,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Add a video to a collection. Earlier videos stay the same, bit by bit."""
    from nervkit.collection.adding import add as run

    def on_clip(clip: Clip) -> None:
        count, height, width, _ = clip.shape
        say(
            f"{source}: {count_noun(count, 'frame')} of {width}x{height}, {float(clip.fps):.3f} fps"
        )

    with fitting() as (on_progress, _):
        report = run(file, source, name=name, on_clip=on_clip, on_progress=on_progress, **shared)
    print_report(report, json)
    _tell(report)


def _tell(report: AddReport) -> None:
    similarity = "" if report.ssim is None else f", SSIM {report.ssim:.4f}"
    parts = ", ".join(f"{name} {size:,}" for name, size in report.bytes_by_part.items())
    say(f"{report.name}: PSNR {report.psnr:.2f} dB{similarity} (mean of frames, 8-bit RGB)")
    say(f"{report.added_bytes:,} bytes added ({parts}); {report.bpp:.4f} bpp of this video")
    say(
        f"{report.kept:,} of {report.weights:,} weights used: {report.reused:,} of earlier videos, "
        f"{report.added:,} new; {report.free:,} are free"
    )
    say(
        f"{report.output}: {count_noun(report.videos, 'video')}, {report.bytes:,} bytes; "
        f"{report.steps} steps in {duration(report.fit_seconds)}, {duration(report.seconds)} in all"
    )


@collection.command("list")
def show(file: File, json: options.Json = False) -> None:
    """Print the videos of a collection. Decodes no frame."""
    from nervkit.collection.summary import contents

    values = contents(file)
    if json:
        emit(values)
        return
    for line in _lines(values):
        typer.echo(line)


def _lines(values: dict[str, Any]) -> Iterator[str]:
    """Yield two lines on the collection, then a header line and a line for each video."""
    from nervkit.container.fields import printable

    videos = values["videos"]
    yield (
        f"{values['input']}: {count_noun(len(videos), 'video')} of "
        f"{values['width']}x{values['height']}, {values['bytes']:,} bytes"
    )
    yield f"{values['model']}: {values['weights']:,} weights, {values['free']:,} are free"
    names = ("frames", 7), ("fps", 7), ("kept", 11), ("new", 11), ("bytes", 11), ("PSNR", 7)
    yield "  ".join([*(f"{name:>{width}}" for name, width in names), "name"])
    for video in videos:
        quality = "-" if video["psnr"] is None else f"{video['psnr']:.2f}"
        yield (
            f"{video['frames']:>7}  {video['fps']:>7.3f}  {video['kept']:>11,}  "
            f"{video['added']:>11,}  {video['bytes']:>11,}  {quality:>7}  "
            f"{printable(video['name'])}"
        )


@collection.command()
@options.with_options(options.movie)
def extract(
    file: File,
    name: Annotated[str, typer.Argument(help="Name of the video (see nervkit collection list).")],
    output: options.MovieOutput,
    pixel_format: Annotated[
        str | None, typer.Option(help="Pixel format of the output, such as yuv444p.")
    ] = None,
    device: options.Device = "auto",
    limit: options.Limit = None,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Decode a video of a collection to a movie, images, y4m or an array."""
    if json and output in ("-", "/dev/stdout"):
        raise UsageError(f"--json and -o {output} both need stdout; choose one")
    from nervkit.collection.reading import extract as run

    with counting("decode") as on_progress:
        report = run(
            file,
            name,
            output,
            pixel_format=pixel_format,
            device=device,
            limits=options.parse_limits(limit),
            on_progress=on_progress,
            **shared,
        )
    print_report(report, json)
    say(
        f"{report.output}: {count_noun(report.frames, 'frame')} of {report.width}x{report.height} "
        f"in {duration(report.seconds)} ({report.frames_per_second:.1f} frames/s)"
    )


@collection.command()
def verify(file: File, limit: options.Limit = None, json: options.Json = False) -> None:
    """Verify every checksum and every frame of a collection. Fails if one is wrong."""
    from nervkit.collection.reading import verify as run

    with counting("verify") as on_progress:
        report = run(file, limits=options.parse_limits(limit), on_progress=on_progress)
    if json:
        emit(report.to_dict())
    for video in report.videos:
        identical = "no checks" if video.identical is None else f"{video.identical} identical"
        wrong = f", {video.wrong} wrong" * bool(video.wrong)
        say(f"{video.name}: {count_noun(video.frames, 'frame')}, {identical}{wrong}")
    say(f"{report.input}: all checksums are correct")
    if report.wrong:
        raise NervError(
            f"{file}: {count_noun(report.wrong, 'frame')} differ from those decoded when added; "
            "use an undamaged copy"
        )
