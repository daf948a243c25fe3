"""nervkit requantize"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nervkit.cli import options
from nervkit.cli.console import print_report, say, stages
from nervkit.progress import duration

if TYPE_CHECKING:
    from nervkit.requantizer import RequantizeReport


def requantize(
    source: Annotated[str, typer.Argument(help="A .nerv file.")],
    output: Annotated[str, typer.Option("-o", "--output", help="The smaller .nerv file.")],
    target_size: Annotated[
        str | None, typer.Option(help="Bytes of the whole file, such as 60k.")
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="Bits per pixel, without tracks.")
    ] = None,
    target_bitrate: Annotated[
        str | None, typer.Option(help="Bits per second of the whole file, such as 200k.")
    ] = None,
    target_loss: Annotated[
        float | None, typer.Option(help="Largest loss of PSNR in dB, estimated.")
    ] = None,
    device: options.Device = "auto",
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Make a smaller .nerv file from one, without the video. Give one target."""
    from nervkit.requantizer import requantize as run

    with stages(verify="frame", sensitivity="frame", search="step", check="frame") as on_progress:
        report = run(
            source,
            output,
            target_size=target_size,
            target_bpp=target_bpp,
            target_bitrate=target_bitrate,
            target_loss=target_loss,
            device=device,
            limits=options.parse_limits(limit),
            overwrite=overwrite,
            on_progress=on_progress,
        )
    print_report(report, json)
    _tell(source, report)


def _tell(source: str, report: RequantizeReport) -> None:
    similarity = "" if report.kept_ssim is None else f", SSIM {report.kept_ssim:.4f}"
    parts = ", ".join(f"{name} {size:,}" for name, size in report.bytes_by_part.items() if size)
    say(
        f"{report.output}: PSNR {report.kept_psnr:.2f} dB{similarity} against the frames of "
        f"{source} (mean of frames, 8-bit RGB)"
    )
    if report.estimated_psnr is not None:
        say(f"estimated PSNR {report.estimated_psnr:.2f} dB against the encoded source")
    share = report.bytes / report.input_bytes
    say(f"{report.bytes:,} bytes ({parts}), {share:.1%} of {source}; {report.bpp:.4f} bpp")
    say(
        f"{report.model}: {report.parameters:,} parameters, {report.bits_per_parameter:.2f} bits "
        f"each; {duration(report.seconds)}"
    )
