"""nervkit encode"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import counted, duration, emit, fitting, roughly, say, sized
from nervkit.cli.interruption import going_on, interruption
from nervkit.errors import Interrupted

if TYPE_CHECKING:
    from nervkit.encoder import EncodeReport
    from nervkit.encoding.run import SegmentsProgress
    from nervkit.plan import FitPlan
    from nervkit.video.clip import Clip


@options.with_options(options.fitting, options.reading, options.tracks)
def encode(
    source: Annotated[
        str,
        typer.Argument(
            help="A video, a folder of images, a pattern (%05d.png), .y4m, .yuv, .npy, or -."
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="The .nerv file.")],
    metric: Annotated[
        str,
        typer.Option(
            help="What to optimise: rgb, or yuv (6:1:1 PSNR of 4:2:0 planes).",
            rich_help_panel=options.FIT,
        ),
    ] = "rgb",
    target_size: Annotated[
        str | None, typer.Option(help="Bytes of the whole file to aim at, such as 500k.")
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="The same by bits per pixel, without tracks.")
    ] = None,
    target_bitrate: Annotated[
        str | None,
        typer.Option(help="The same by bits per second of the whole file, such as 200k."),
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(help="The quality to aim at instead, in dB of the metric.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Without a target: bits of a weight, 2 to 12; 8 by default.")
    ] = None,
    embedding_bits: Annotated[
        int | None, typer.Option(help="The same of an embedding value.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Begin with the network of this .nerv file of the same frames.",
            rich_help_panel=options.FIT,
        ),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            help="auto (they begin at cuts), off (one), or frames of each; by default auto for "
            "long videos.",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    segment_frames: Annotated[
        int | None,
        typer.Option(
            help="The most that a segment has; 250, or what memory allows.",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    cuts: Annotated[
        str | None,
        typer.Option(
            help="A file of the frames or times at which segments begin, one a line.",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            help="Segments that are fitted at once: a number, or auto.",
            rich_help_panel=options.LONG,
        ),
    ] = "1",
    ray: Annotated[
        str | None,
        typer.Option(
            help="Fit segments on a Ray cluster: auto, local, or ray://host:port.",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    prune: Annotated[float, typer.Option(help="Share of weights to set to zero, 0 to 1.")] = 0.0,
    compression: Annotated[
        str | None,
        typer.Option(
            help="Compress as published, any model: nerv, hnerv, ffnerv, hnerv-boost, hinerv, or "
            "paper (as the model's own paper).",
            metavar="NAME",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Overfit a network to a video and write it as a .nerv file.

    Ctrl-C keeps a checkpoint; the same command goes on from it.
    """
    from nervkit.encoder import encode as run

    def on_clip(clip: Clip) -> None:
        count, height, width, _ = clip.shape
        summary = f"{counted(count, 'frame')} of {width}x{height}, {float(clip.fps):.3f} fps"
        say(f"{source}: {summary}, {clip.colour}")
        for note in clip.notes:
            say(f"note: {note}")
        interruption.ask()

    with fitting() as (on_progress, show_segments):
        begun = whole = False

        def on_segments(progress: SegmentsProgress) -> None:
            nonlocal begun, whole
            interruption.ask()
            if not begun:
                say(f"{source}: is fitted in segments, which are kept in {output}.segments")
            if progress.whole and not whole:
                frames = counted(progress.frames, "frame")
                say(f"{source}: {frames} in {counted(progress.known, 'segment')}")
            begun, whole = True, progress.whole
            show_segments(progress)

        try:
            report = run(
                source,
                output,
                metric=metric,
                target_size=target_size,
                target_bpp=target_bpp,
                target_bitrate=target_bitrate,
                target_psnr=target_psnr,
                bits=bits,
                embedding_bits=embedding_bits,
                start_from=start_from,
                segments=segments,
                segment_frames=segment_frames,
                cuts=cuts,
                workers=workers,
                ray=ray,
                prune=prune,
                compression=compression,
                overwrite=overwrite,
                restart=restart,
                on_clip=on_clip,
                on_plan=lambda plan: say(plan_line(plan)),
                on_progress=on_progress,
                on_segments=on_segments,
                on_note=lambda note: say(f"note: {note}"),
                stop=lambda: interruption.came,
                **shared,
            )
        except Interrupted as error:
            raise going_on(error) from error
    if json:
        emit(report.to_dict())
    _tell(report)


def plan_line(plan: FitPlan) -> str:
    """Such as "gridnerv, 142,093 values, for about 120 kB (0.126 bpp), 2,000 steps, about 2 min on
    2 threads"."""
    parts = [
        f"{plan.model}, {plan.values:,} values",
        f"for about {sized(plan.bytes)} ({plan.bpp:.3g} bpp)",
    ]
    if plan.steps is None:
        return ", ".join([*parts, f"{duration(plan.seconds)} by the clock"])
    left = f"the last {plan.steps - plan.done:,} of " if plan.done else ""
    threads = "" if plan.threads is None else f" on {counted(plan.threads, 'thread')}"
    parts += [f"{left}{counted(plan.steps, 'step')}", f"about {roughly(plan.seconds)}{threads}"]
    return ", ".join(parts)


def _tell(report: EncodeReport) -> None:
    similarity = "" if report.ssim is None else f", SSIM {report.ssim:.4f}"
    parts = ", ".join(f"{name} {size:,}" for name, size in report.bytes_by_part.items() if size)
    say(f"{report.output}: PSNR {report.psnr:.2f} dB{similarity} (mean of frames, 8-bit RGB)")
    if report.psnr_yuv is not None:
        say(f"PSNR {report.psnr_yuv:.2f} dB of 8-bit 4:2:0 planes (6:1:1 mean of Y, U, V)")
    say(f"{report.bytes:,} bytes ({parts}); {report.bpp:.4f} bpp of the video")
    if report.published_bpp is not None:
        counted_by = f"{report.published_bpp:.4f} bpp ({report.published_counts})"
        say(f"by the paper's accounting: {counted_by}; the file: {report.bpp:.4f} bpp")
    if len(report.segments) > 1:
        say(f"{counted(len(report.segments), 'segment')} (nervkit info shows them)")
    say(
        f"{report.model}: {report.parameters:,} parameters, {report.bits_per_parameter:.2f} bits "
        f"each; {report.steps} steps in {duration(report.fit_seconds)}, "
        f"{duration(report.seconds)} in all"
    )
