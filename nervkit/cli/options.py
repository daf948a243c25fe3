"""Command line options that several commands share, one by one and in groups."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli.config import read_defaults, resolve_defaults
from nervkit.cli.console import say, voice
from nervkit.version import version_lines

if TYPE_CHECKING:
    from nervkit.container.limits import Limits

#: panels of --help
RATE, FIT, LONG, SOURCE = "Size and quality", "Fit", "Long videos", "Source"

Start = Annotated[
    str | None,
    typer.Option(
        "--start",
        "-ss",
        help="Start at this time: seconds, 1.5m, MM:SS or HH:MM:SS.",
        metavar="TIME",
        rich_help_panel=SOURCE,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", "-to", help="Stop before this time.", metavar="TIME", rich_help_panel=SOURCE
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        "--duration",
        "-t",
        help="Duration from --start, instead of --to.",
        metavar="TIME",
        rich_help_panel=SOURCE,
    ),
]
Frames = Annotated[
    str | None,
    typer.Option(
        help="Frames A to B - 1 (either end is optional), or one frame, such as 5.",
        metavar="A:B",
        rich_help_panel=SOURCE,
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Crop to a window at offset X, Y (default: centred).",
        metavar="WxH[+X+Y]",
        rich_help_panel=SOURCE,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        help="Resize after cropping: 640x360; 640 keeps the aspect ratio with an even height, "
        "640x-1 with any height.",
        metavar="W[xH]",
        rich_help_panel=SOURCE,
    ),
]
Audio = Annotated[
    bool,
    typer.Option(
        "--audio/--no-audio",
        " /-an",
        help="Copy audio tracks (default) or drop them.",
        show_default=False,
        rich_help_panel=SOURCE,
    ),
]
Subtitles = Annotated[
    bool,
    typer.Option(
        "--subtitles/--no-subtitles",
        " /-sn",
        help="Copy subtitle tracks (default) or drop them.",
        show_default=False,
        rich_help_panel=SOURCE,
    ),
]
Matrix = Annotated[
    str | None,
    typer.Option(
        help="Override the input's colour matrix: bt601, bt709, bt2020, ...",
        rich_help_panel=SOURCE,
    ),
]
Range = Annotated[
    str | None,
    typer.Option(
        help="Override the input's colour range: limited or full.", rich_help_panel=SOURCE
    ),
]
Fps = Annotated[
    str | None,
    typer.Option(
        help="Frame rate of images, arrays or raw streams (default 25).", rich_help_panel=SOURCE
    ),
]
VideoStream = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Index of the video stream, from 0 (default: ffmpeg's choice).",
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
    bool,
    typer.Option(
        "--strict", help="Refuse damaged input instead of recovering.", rich_help_panel=SOURCE
    ),
]
AllowNetwork = Annotated[
    bool,
    typer.Option(
        "--allow-network",
        help="Allow URLs (https://...) and playlists as input.",
        rich_help_panel=SOURCE,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Length of the fit: draft, fast (default), medium, slow or placebo.",
        rich_help_panel=FIT,
    ),
]
RestorationPreset = Annotated[
    str | None,
    typer.Option(
        help="Length of the fit: draft (default), fast, medium, slow or placebo.",
        rich_help_panel=FIT,
    ),
]
Epochs = Annotated[
    float | None, typer.Option(help="Length in epochs, instead of --preset.", rich_help_panel=FIT)
]
Steps = Annotated[
    int | None,
    typer.Option(help="Length in optimizer steps, instead of --preset.", rich_help_panel=FIT),
]
Time = Annotated[
    str | None,
    typer.Option(
        help="Length of the fit in wall-clock time, instead of --preset: 90s, 10m, 2h.",
        rich_help_panel=FIT,
    ),
]
Device = Annotated[
    str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=FIT)
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        help="Raise a decoder limit for a trusted file: pixels, values, memory, macs-per-frame "
        "or macs-per-file, such as memory=8G. Repeatable.",
        metavar="NAME=NUMBER",
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print no progress and notes.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Also print versions, progress every second and error tracebacks."
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        callback=read_defaults,
        is_eager=True,
        help="TOML file of default options, one table per command (default: ./nervkit.toml).",
        metavar="FILE",
    ),
]
Overwrite = Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
]
Model = Annotated[
    str,
    typer.Option(
        help="Model to fit, such as hnerv or nerv; `nervkit models` lists all.", rich_help_panel=FIT
    ),
]
Params = Annotated[
    str | None,
    typer.Option(help="Target number of stored values, such as 350k or 1.5M.", rich_help_panel=FIT),
]
Strides = Annotated[
    str | None,
    typer.Option(help="Upsampling factors of the stages, such as 5,4,4,2,2.", rich_help_panel=FIT),
]
Recipe = Annotated[
    str,
    typer.Option(
        help="Training recipe: native (nervkit's), or paper (as published, its length included).",
        rich_help_panel=FIT,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, help="Random seed; a fit is repeatable, except with --time.", rich_help_panel=FIT
    ),
]
Precision = Annotated[
    str,
    typer.Option(help="Precision of the fit: auto, float32 or bfloat16.", rich_help_panel=FIT),
]
Fit = Annotated[
    bool | None,
    typer.Option(
        "--fit/--no-fit",
        help="Fit a network or not (default: only for cases that are known to gain).",
        rich_help_panel=FIT,
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Discard the checkpoint instead of resuming from it.")
]
MovieOutput = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        help="Output: .mp4, .mkv, .mov, .webm, .y4m, .npy, a folder, a pattern (%05d.png), "
        "or - for y4m on stdout.",
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        help="Codec: x264, x265, vp9, av1, ffv1 or x264rgb (both lossless), or ffmpeg's name "
        "for one (default: x264; vp9 for .webm)."
    ),
]
Crf = Annotated[
    int | None, typer.Option(help="Constant rate factor of the codec; lower is better.")
]


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
    """Declare the options of a fit."""


def restoring(preset: RestorationPreset = None) -> None:
    """Declare the options of a fit whose defaults differ for restorations. Precedes `fitting`."""


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
    """Declare the options for reading a video."""


def tracks(audio: Audio = True, subtitles: Subtitles = True) -> None:
    """Declare the options for audio and subtitle tracks."""


def movie(codec: Codec = None, crf: Crf = None, overwrite: Overwrite = False) -> None:
    """Declare the options for writing a movie."""


Group = Callable[..., None]


def with_options(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of groups to the signature of a command, which gets them as keywords. If the
    command declares an option itself, its own declaration counts."""

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        named: dict[str, inspect.Parameter] = {}
        for part in (command, *groups):
            for name, parameter in inspect.signature(part, eval_str=True).parameters.items():
                if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    named.setdefault(name, parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        command.__signature__ = inspect.Signature(list(named.values()))  # type: ignore[attr-defined]
        command.__annotations__ = {name: p.annotation for name, p in named.items()}
        return command

    return extend


class Commands(typer.Typer):
    """Typer commands that all accept --quiet, --verbose and --config."""

    def command(self, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
        register = super().command(*arguments, **named)
        return lambda command: register(_with_common_options(command))


def _with_common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: apply the defaults of a file and set the verbosity before it runs."""

    def common(
        ctx: typer.Context,
        quiet: Quiet = False,
        verbose: Verbose = False,
        config: Config = None,
    ) -> None:
        """Declare the options of all commands."""

    @functools.wraps(command)
    def wrapped(*, ctx: typer.Context, config: str | None, **values: Any) -> None:
        values, defaults = resolve_defaults(ctx, values)
        voice.choose(values.pop("quiet"), values.pop("verbose"))
        for line in version_lines() if voice.verbose else ():
            say(line)
        if defaults is not None:
            say(defaults)
        command(**values)

    wrapped.__signature__ = inspect.signature(command, eval_str=True)  # type: ignore[attr-defined]
    return with_options(common)(wrapped)


def parse_limits(texts: list[str] | None) -> Limits:
    """Parse the values of --limit. Raises UsageError."""
    from nervkit.container.limits import Limits

    return Limits.parse(texts or [])


def given_options(group: Group, values: dict[str, Any]) -> dict[str, Any]:
    """Return those of a command's keywords that belong to a group and that the user gave."""
    given = {k: v for k, v in values.items() if v is not None and v is not False}
    return {name: given[name] for name in inspect.signature(group).parameters if name in given}
