"""Options that several commands share."""

from typing import Annotated

import typer

Start = Annotated[
    str | None, typer.Option(help="Skip what is earlier: seconds, 1.5m or MM:SS.", metavar="TIME")
]
Frames = Annotated[
    str | None,
    typer.Option(help="Only frames a to b - 1; either end may be left out.", metavar="A:B"),
]
Crop = Annotated[
    str | None, typer.Option(help="Keep a window, centred unless placed.", metavar="WxH[+X+Y]")
]
Resize = Annotated[str | None, typer.Option(help="Resize, after the crop.", metavar="WxH")]
Matrix = Annotated[
    str | None, typer.Option(help="Colour matrix of the input: bt601, bt709, bt2020, ...")
]
Range = Annotated[str | None, typer.Option(help="Colour range of the input: limited or full.")]
Fps = Annotated[str | None, typer.Option(help="Frame rate of images, arrays or raw video.")]
Size = Annotated[str | None, typer.Option(help="Frame size of raw .yuv input.", metavar="WxH")]
PixelFormat = Annotated[
    str | None, typer.Option(help="Pixel format of raw .yuv input, such as yuv420p10le.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse damaged input.")]
Preset = Annotated[str | None, typer.Option(help="draft, fast (default), medium, slow or placebo.")]
Epochs = Annotated[float | None, typer.Option(help="Fit for so many epochs instead.")]
Steps = Annotated[int | None, typer.Option(help="Fit for so many steps instead.")]
Time = Annotated[str | None, typer.Option(help="Fit for so long instead: 90s, 10m, 2h.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Overwrite = Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Model = Annotated[str, typer.Option(help="The representation: gridnerv, hnerv, nerv, ...")]
Params = Annotated[str | None, typer.Option(help="Stored values to aim at, such as 350k or 1.5M.")]
Strides = Annotated[str | None, typer.Option(help="The model's strides, such as 5,4,4,2,2.")]
Recipe = Annotated[str, typer.Option(help="native (nervkit's) or paper (as published).")]
Seed = Annotated[int, typer.Option(min=0, help="Makes a fit repeatable.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
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
    str | None, typer.Option(help="x264, x265, vp9, av1; ffv1 and x264rgb are lossless.")
]
Crf = Annotated[int | None, typer.Option(help="Quality of the codec, lower is better.")]
