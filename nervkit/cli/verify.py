"""nervkit verify"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from nervkit.cli import options
from nervkit.cli.console import count_noun, counting, print_report, say
from nervkit.errors import NervError, UsageError

if TYPE_CHECKING:
    from nervkit.verifier import VerifyReport

WORST = 5  # frames


def verify(
    source: Annotated[str, typer.Argument(help="A .nerv file, or - for standard input.")],
    against: Annotated[
        str | None, typer.Option(help="The encoded source, to measure the quality.")
    ] = None,
    per_frame: Annotated[
        bool, typer.Option("--per-frame", help=f"Show all frames, not the {WORST} worst.")
    ] = False,
    fps: options.Fps = None,
    size: options.Size = None,
    pixel_format: options.PixelFormat = None,
    device: options.Device = "cpu",
    limit: options.Limit = None,
    json: options.Json = False,
) -> None:
    """Verify all checksums of a .nerv file, decode every frame, and compare it."""
    if per_frame and against is None:
        raise UsageError("--per-frame shows the quality against the source; give --against too")
    from nervkit.verifier import checks_origin
    from nervkit.verifier import verify as run

    with counting("verify") as on_progress:
        report = run(
            source,
            against,
            device=device,
            limits=options.parse_limits(limit),
            on_progress=on_progress,
            fps=fps,
            size=size,
            pixel_format=pixel_format,
        )
    print_report(report, json)
    origin = checks_origin(report.requantized)
    _tell(report, origin, per_frame)
    if report.wrong:
        raise NervError(
            f"{source}: {report.wrong} of {report.frames} frames differ from {origin}; use an "
            "undamaged copy, or encode again"
        )


def _tell(report: VerifyReport, origin: str, per_frame: bool) -> None:
    """Print a summary after the frames that `per_frame` asks for, or before the worst ones."""
    if per_frame:
        _show_frames(report, range(report.frames))
    say(f"{report.input}: all checksums are correct, {count_noun(report.frames, 'frame')} decoded")
    if report.identical == report.frames:
        say(f"every frame is identical to {origin}")
    elif report.identical is not None:
        wrong = report.wrong or 0
        rounded = report.frames - report.identical - wrong
        parts = [f"{report.identical} of {report.frames} frames are identical"]
        parts += [f"{rounded} differ by rounding"] * bool(rounded)
        parts += [f"{wrong} are wrong"] * bool(wrong)
        if report.largest_difference is not None:
            parts.append(f"the largest difference is {report.largest_difference}")
        say(", ".join(parts))
    if report.psnr is not None:
        similarity = "" if report.ssim is None else f", SSIM {report.ssim:.4f}"
        say(f"PSNR {report.psnr:.2f} dB{similarity} (mean of frames, 8-bit RGB)")
        say(f"PSNR {report.psnr_yuv:.2f} dB of 8-bit 4:2:0 planes (6:1:1 mean of Y, U, V)")
        if not per_frame and report.frames > 1:
            worst = sorted(range(report.frames), key=report.frame_psnr.__getitem__)[:WORST]
            say("the worst frames (--per-frame shows all):")
            _show_frames(report, worst)


def _show_frames(report: VerifyReport, indices: Iterable[int]) -> None:
    """Print a line for each frame at `indices`, if its quality was measured."""
    for index in indices if report.frame_psnr else ():
        similarity = report.frame_ssim[index]
        ssim = "" if similarity is None else f"  SSIM {similarity:.4f}"
        planes = f"  PSNR of planes {report.frame_psnr_yuv[index]:6.2f} dB"
        say(f"frame {index:5d}  PSNR {report.frame_psnr[index]:6.2f} dB{ssim}{planes}")
