"""nervkit verify"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nervkit.cli import options
from nervkit.cli.console import counted, counting, emit, say
from nervkit.errors import NervError

if TYPE_CHECKING:
    from nervkit.verifier import VerifyReport


def verify(
    source: Annotated[str, typer.Argument(help="A .nerv file.")],
    against: Annotated[
        str | None, typer.Option(help="What was encoded: measures the quality, frame by frame.")
    ] = None,
    fps: options.Fps = None,
    size: options.Size = None,
    pixel_format: options.PixelFormat = None,
    device: options.Device = "cpu",
    limit: options.Limit = None,
    json: options.Json = False,
) -> None:
    """Check every checksum of a .nerv file, decode every frame, and compare."""
    from nervkit.verifier import checked_against
    from nervkit.verifier import verify as run

    with counting("verify") as on_progress:
        report = run(
            source,
            against,
            device=device,
            limits=options.limits_of(limit),
            on_progress=on_progress,
            fps=fps,
            size=size,
            pixel_format=pixel_format,
        )
    for note in report.notes:
        say(f"note: {note}")
    if json:
        emit(report.to_dict())
    seen = checked_against(report.requantized)
    _tell(report, seen)
    if report.wrong:
        raise NervError(f"{source}: {report.wrong} of {report.frames} frames are not {seen}")


def _tell(report: VerifyReport, seen: str) -> None:
    for index, quality in enumerate(report.frame_psnr):
        similarity = report.frame_ssim[index]
        ssim = "" if similarity is None else f"  SSIM {similarity:.4f}"
        planes = f"  PSNR of planes {report.frame_psnr_yuv[index]:6.2f} dB"
        say(f"frame {index:5d}  PSNR {quality:6.2f} dB{ssim}{planes}")
    say(
        f"{report.input}: the file's checksums are right, {counted(report.frames, 'frame')} decoded"
    )
    if report.identical == report.frames:
        say(f"every frame is identical to {seen}")
    elif report.identical is not None:
        wrong = report.wrong or 0
        rounded = report.frames - report.identical - wrong
        parts = [f"{report.identical} of {report.frames} frames are identical"]
        parts += [f"{rounded} are rounded otherwise"] * bool(rounded)
        parts += [f"{wrong} are wrong"] * bool(wrong)
        if report.largest_difference is not None:
            parts.append(f"the largest difference is {report.largest_difference}")
        say(", ".join(parts))
    if report.psnr is not None:
        similarity = "" if report.ssim is None else f", SSIM {report.ssim:.4f}"
        say(f"PSNR {report.psnr:.2f} dB{similarity} (mean of frames, 8-bit RGB)")
        say(f"PSNR {report.psnr_yuv:.2f} dB of 8-bit 4:2:0 planes (6:1:1 mean of Y, U, V)")
