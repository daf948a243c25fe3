"""nervkit encode"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import emit, fitting
from nervkit.cli.encode_display import EncodeDisplay, ShowFit, ShowSegments, show_report
from nervkit.cli.interruption import going_on
from nervkit.cli.many import Video, encode_all, show_outcomes, videos_of
from nervkit.errors import Interrupted, UsageError
from nervkit.output import system_errors

if TYPE_CHECKING:
    from nervkit.encoder import Encoder
    from nervkit.encoding.report import EncodeReport


@options.with_options(options.fitting, options.reading, options.tracks)
def encode(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A video, a folder of images, a pattern (%05d.png), .y4m, .yuv, .npy, or -. "
            "Several videos, or a folder of them, become one file each.",
            metavar="SOURCE...",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", help="The .nerv file; for several videos, the folder of the files."
        ),
    ],
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
            help="Begin with the network of this .nerv file, or kept fit, of the same frames.",
            rich_help_panel=options.FIT,
        ),
    ] = None,
    keep_fit: Annotated[
        bool,
        typer.Option(
            "--keep-fit",
            help="Keep the fit beside the output (OUTPUT.fit), for --continue and --start-from.",
            rich_help_panel=options.FIT,
        ),
    ] = False,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="Go on from the kept fit of the output, and replace both: longer, for another "
            "size, or (with --bits alone) quantized again without further steps.",
            rich_help_panel=options.FIT,
        ),
    ] = False,
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

    Ctrl-C keeps a checkpoint; the same command goes on from it. Of several videos, finished ones
    are skipped then.
    """
    from nervkit.encoder import Encoder

    if go_on and start_from is not None:
        raise UsageError("--continue starts from the output's own fit: leave out --start-from")
    videos = videos_of(sources, output)
    encoder = Encoder.from_options(
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
        keep_fit=keep_fit,
        **shared,
    )
    run = _Run(encoder, overwrite, restart, go_on)
    if videos is None:
        video = Video(sources[0], Path(output))
        with fitting() as (show_fit, show_segments):
            try:
                report = run.encode(video, show_fit, show_segments)
            except Interrupted as error:
                raise going_on(error) from error
        if json:
            emit(report.to_dict())
        show_report(report)
        return
    with system_errors(Path(output)):
        Path(output).mkdir(parents=True, exist_ok=True)
    position = ""
    with fitting(lambda: position) as (show_fit, show_segments):

        def encode_one(video: Video) -> EncodeReport:
            nonlocal position
            position = video.position
            report = run.encode(video, show_fit, show_segments)
            show_report(report)
            return report

        outcomes = encode_all(videos, not (overwrite or go_on), encode_one)
    if json:
        emit({"videos": [outcome.to_dict() for outcome in outcomes]})
    show_outcomes(outcomes)


@dataclass(frozen=True)
class _Run:
    """What all videos of one command have in common."""

    encoder: Encoder
    overwrite: bool
    restart: bool
    go_on: bool

    def encode(self, video: Video, show_fit: ShowFit, show_segments: ShowSegments) -> EncodeReport:
        """Encode one video. Raises NervError."""
        encoder = self.encoder.going_on(video.output) if self.go_on else self.encoder
        display = EncodeDisplay(video.source, str(video.output), show_fit, show_segments)
        return encoder.encode(
            video.source,
            video.output,
            overwrite=self.overwrite or self.go_on,
            restart=self.restart,
            callbacks=display.callbacks(),
        )
