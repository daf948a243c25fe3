"""Options that several commands share, one by one and in groups."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli.config import read_defaults, with_rivals_resolved
from nervkit.cli.console import say, voice
from nervkit.version import version_lines

if TYPE_CHECKING:
    from nervkit.container.limits import Limits

FIT, LONG, SOURCE = "Fit", "Long videos", "Source"  # panels of --help

Start = Annotated[
    str | None,
    typer.Option(
        "--start",
        "-ss",
        help="Skip what is earlier: seconds, 1.5m, MM:SS or HH:MM:SS.",
        metavar="TIME",
        rich_help_panel=SOURCE,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", "-to", help="Only what is before this time.", metavar="TIME", rich_help_panel=SOURCE
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        "--duration",
        "-t",
        help="Instead of --to: so long after --start.",
        metavar="TIME",
        rich_help_panel=SOURCE,
    ),
]
Frames = Annotated[
    str | None,
    typer.Option(
        help="Only frames a to b - 1; either end may be left out; or one frame: 5.",
        metavar="A:B",
        rich_help_panel=SOURCE,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Keep a window, centred unless placed.", metavar="WxH[+X+Y]", rich_help_panel=SOURCE
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        help="Resize, after the crop: 640x360, 640 (the height follows, even), 640x-1 (it follows "
        "exactly).",
        metavar="W[xH]",
        rich_help_panel=SOURCE,
    ),
]
Audio = Annotated[
    bool,
    typer.Option(
        "--audio/--no-audio",
        " /-an",
        help="Whether the sound goes along; it does.",
        show_default=False,
        rich_help_panel=SOURCE,
    ),
]
Subtitles = Annotated[
    bool,
    typer.Option(
        "--subtitles/--no-subtitles",
        " /-sn",
        help="Whether subtitles go along; they do.",
        show_default=False,
        rich_help_panel=SOURCE,
    ),
]
Matrix = Annotated[
    str | None,
    typer.Option(
        help="Colour matrix of the input: bt601, bt709, bt2020, ...", rich_help_panel=SOURCE
    ),
]
Range = Annotated[
    str | None,
    typer.Option(help="Colour range of the input: limited or full.", rich_help_panel=SOURCE),
]
Fps = Annotated[
    str | None,
    typer.Option(help="Frame rate of images, arrays or raw streams.", rich_help_panel=SOURCE),
]
VideoStream = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Which video stream, counted from 0; the default one otherwise.",
        metavar="N",
        rich_help_panel=SOURCE,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(help="Frame size of raw .yuv input.", metavar="WxH", rich_help_panel=SOURCE),
]
PixelFormat = Annotated[
    str | None,
    typer.Option(
        help="Pixel format of raw .yuv input, such as yuv420p10le.", rich_help_panel=SOURCE
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse damaged input.", rich_help_panel=SOURCE)
]
AllowNetwork = Annotated[
    bool,
    typer.Option(
        "--allow-network",
        help="Also open addresses (https://...), and playlists with what they name.",
        rich_help_panel=SOURCE,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="How long to fit: draft, fast (default), medium, slow or placebo.",
        rich_help_panel=FIT,
    ),
]
Epochs = Annotated[
    float | None, typer.Option(help="Fit for so many epochs instead.", rich_help_panel=FIT)
]
Steps = Annotated[
    int | None, typer.Option(help="Fit for so many steps instead.", rich_help_panel=FIT)
]
Time = Annotated[
    str | None,
    typer.Option(help="Fit for so long instead, by the clock: 90s, 10m, 2h.", rich_help_panel=FIT),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=FIT)]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        help="Decode what declares more than its size makes likely: pixels, values, memory, "
        "macs-per-frame or macs-per-file, such as memory=8G. Repeatable.",
        metavar="NAME=NUMBER",
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but what went wrong.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Also versions, progress every second, and where an error arose."
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        callback=read_defaults,
        is_eager=True,
        help="A TOML file of defaults, with a table for each command; ./nervkit.toml otherwise.",
        metavar="FILE",
    ),
]
Overwrite = Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Model = Annotated[
    str,
    typer.Option(
        help="The representation: gridnerv, hnerv, nerv, ... (nervkit models).", rich_help_panel=FIT
    ),
]
Params = Annotated[
    str | None,
    typer.Option(help="Stored values to aim at, such as 350k or 1.5M.", rich_help_panel=FIT),
]
Strides = Annotated[
    str | None, typer.Option(help="The model's strides, such as 5,4,4,2,2.", rich_help_panel=FIT)
]
Recipe = Annotated[
    str,
    typer.Option(
        help="native (nervkit's), or paper (as published, and as long unless you say how long).",
        rich_help_panel=FIT,
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, help="Makes a fit repeatable, but with --time.", rich_help_panel=FIT)
]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16.", rich_help_panel=FIT)]
Fit = Annotated[
    bool | None,
    typer.Option(
        "--fit/--no-fit",
        help="Whether a network is fitted; by default, where that is known to help.",
        rich_help_panel=FIT,
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Discard a checkpoint instead of going on from it.")
]
MovieOutput = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        help=".mp4, .mkv, .mov, .webm, .y4m, .npy, a folder, a pattern (%05d.png), "
        "or - for y4m on stdout.",
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        help="x264, x265, vp9, av1, or as ffmpeg says (h264, libx264, hevc, ...); ffv1 and x264rgb "
        "are lossless."
    ),
]
Crf = Annotated[int | None, typer.Option(help="Quality of the codec, lower is better.")]


def fitting(
    model: Model = "gridnerv",
    params: Params = None,
    strides: Strides = None,
    recipe: Recipe = "native",
    preset: Preset = None,
    epochs: Epochs = None,
    steps: Steps = None,
    time: Time = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Options of a fit."""


def reading(
    start: Start = None,
    to: To = None,
    duration: Duration = None,
    frames: Frames = None,
    crop: Crop = None,
    resize: Resize = None,
    matrix: Matrix = None,
    range: Range = None,
    stream: VideoStream = None,
    fps: Fps = None,
    size: Size = None,
    pixel_format: PixelFormat = None,
    strict: Strict = False,
    allow_network: AllowNetwork = False,
) -> None:
    """Options of reading a video."""


def tracks(audio: Audio = True, subtitles: Subtitles = True) -> None:
    """Options of what goes along with the frames."""


def movie(codec: Codec = None, crf: Crf = None, overwrite: Overwrite = False) -> None:
    """Options of writing a movie."""


Group = Callable[..., None]


def with_options(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups too, for typer to see; it gets them as keywords. What it
    has by the same name stays its own."""

    def wider(command: Callable[..., None]) -> Callable[..., None]:
        named: dict[str, inspect.Parameter] = {}
        for part in (command, *groups):
            for name, parameter in inspect.signature(part, eval_str=True).parameters.items():
                if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    named.setdefault(name, parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        command.__signature__ = inspect.Signature(list(named.values()))  # type: ignore[attr-defined]
        command.__annotations__ = {name: p.annotation for name, p in named.items()}
        return command

    return wider


class Commands(typer.Typer):
    """Commands that all take --quiet, --verbose and --config."""

    def command(self, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
        register = super().command(*arguments, **named)
        return lambda command: register(_with_voice(command))


def _with_voice(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which first takes defaults from a file and sets how much is printed."""

    def shared(
        ctx: typer.Context,
        quiet: Quiet = False,
        verbose: Verbose = False,
        config: Config = None,
    ) -> None:
        """Options of all commands."""

    @functools.wraps(command)
    def voiced(*, ctx: typer.Context, config: str | None, **values: Any) -> None:
        values, defaults = with_rivals_resolved(ctx, values)
        voice.choose(values.pop("quiet"), values.pop("verbose"))
        for line in version_lines() if voice.verbose else ():
            say(line)
        if defaults is not None:
            say(defaults)
        command(**values)

    voiced.__signature__ = inspect.signature(command, eval_str=True)  # type: ignore[attr-defined]
    return with_options(shared)(voiced)


def limits_of(texts: list[str] | None) -> Limits:
    """What --limit says; late, as most commands do without it."""
    from nervkit.container.limits import Limits

    return Limits.parse(texts or [])


def chosen(group: Group, values: dict[str, Any]) -> dict[str, Any]:
    """Of a command's keywords, those of one group that were given."""
    given = {k: v for k, v in values.items() if v is not None and v is not False}
    return {name: given[name] for name in inspect.signature(group).parameters if name in given}
