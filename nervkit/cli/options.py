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
