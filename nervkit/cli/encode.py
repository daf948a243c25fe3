"""nervkit encode"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import emit, fitting
from nervkit.cli.encode_display import EncodeDisplay, ShowFit, ShowSegments, show_report
from nervkit.cli.interruption import with_resume_hint
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
            help="A video, a folder of images, a pattern (%05d.png), .y4m, .yuv, .npy, or - for "
            "stdin. Several videos, or a folder of them, become one file each.",
            metavar="SOURCE",
        ),
    ],
    output: Annotated[
        str,
        typer.Option("-o", "--output", help="Path of the .nerv file; a folder for several videos."),
    ],
    metric: Annotated[
        str,
        typer.Option(
            help="Metric to optimise: rgb, or yuv (6:1:1 PSNR of 4:2:0 planes).",
            rich_help_panel=options.FIT,
        ),
    ] = "rgb",
    target_size: Annotated[
        str | None,
        typer.Option(
            help="Target size of the file in bytes, such as 500k. Give at most one target.",
            metavar="BYTES",
            rich_help_panel=options.RATE,
        ),
    ] = None,
    target_bpp: Annotated[
        float | None,
        typer.Option(
            help="Target bits per pixel of the video, without tracks, such as 0.05.",
            metavar="BPP",
            rich_help_panel=options.RATE,
        ),
    ] = None,
    target_bitrate: Annotated[
        str | None,
        typer.Option(
            help="Target bits per second of the file, such as 200k.",
            metavar="RATE",
            rich_help_panel=options.RATE,
        ),
    ] = None,
    target_psnr: Annotated[
        float | None,
        typer.Option(
            help="Target PSNR in the metric of the fit, 10 to 60 dB.",
            metavar="DB",
            rich_help_panel=options.RATE,
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            help="Quantize weights to 2 to 12 bits after the fit (default 8); excludes a target.",
            rich_help_panel=options.RATE,
        ),
    ] = None,
    embedding_bits: Annotated[
        int | None,
        typer.Option(help="The same for embeddings.", rich_help_panel=options.RATE),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Start from the network of a .nerv file or a kept fit of the same frames.",
            rich_help_panel=options.FIT,
        ),
    ] = None,
    keep_fit: Annotated[
        bool,
        typer.Option(
            "--keep-fit",
            help="Keep the fit as OUTPUT.fit, for --continue and --start-from.",
            rich_help_panel=options.FIT,
        ),
    ] = False,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="Continue the kept fit of the output and replace both files: fit longer, or for "
            "another target, or (with --bits alone) only quantize again.",
            rich_help_panel=options.FIT,
        ),
    ] = False,
    segments: Annotated[
        str | None,
        typer.Option(
            help="Split into segments: auto (at cuts), off, or the frames of each (default: auto "
            "for long videos).",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    segment_frames: Annotated[
        int | None,
        typer.Option(
            help="Most frames of a segment (default 250, 500 for slow presets).",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    cuts: Annotated[
        str | None,
        typer.Option(
            help="File of frame numbers or times at which segments begin, one per line.",
            rich_help_panel=options.LONG,
        ),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            help="Number of segments to fit in parallel, or auto.",
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
    prune: Annotated[
        float,
        typer.Option(
            help="Share of the weights to prune to zero, 0 to 1.", rich_help_panel=options.RATE
        ),
    ] = 0.0,
    compression: Annotated[
        str | None,
        typer.Option(
            help="Published compression method, for any model: nerv, hnerv, ffnerv, hnerv-boost, "
            "hinerv, or paper (that of the model's own paper).",
            metavar="NAME",
            rich_help_panel=options.RATE,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    restart: options.Restart = False,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Overfit a network to a video and write it as a .nerv file.

    Ctrl-C writes a checkpoint. The same command resumes from it, and skips finished videos if there
    are several.
    """
    from nervkit.encoder import Encoder

    if go_on and start_from is not None:
        raise UsageError("--continue uses the kept fit of the output: leave out --start-from")
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
        run.encode_one(Video(sources[0], Path(output)), json)
    else:
        run.encode_many(videos, Path(output), json)


@dataclass(frozen=True)
class _Run:
    """The options that all videos of one command share."""

    encoder: Encoder
    overwrite: bool
    restart: bool
    go_on: bool

    def encode_one(self, video: Video, json: bool) -> None:
        """Encode the only video of the command. Raises NervError."""
        with fitting() as (show_fit, show_segments):
            try:
                report = self._encode(video, show_fit, show_segments)
            except Interrupted as error:
                raise with_resume_hint(error) from error
        if json:
            emit(report.to_dict())
        show_report(report)

    def encode_many(self, videos: Sequence[Video], folder: Path, json: bool) -> None:
        """Encode several videos into a folder. Raises NervError if one failed."""
        with system_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        position = ""
        with fitting(lambda: position) as (show_fit, show_segments):

            def encode_next(video: Video) -> EncodeReport:
                nonlocal position
                position = video.position
                report = self._encode(video, show_fit, show_segments)
                show_report(report)
                return report

            outcomes = encode_all(
                videos, self.encoder, not (self.overwrite or self.go_on), encode_next
            )
        if json:
            emit({"videos": [outcome.to_dict() for outcome in outcomes]})
        show_outcomes(outcomes)

    def _encode(self, video: Video, show_fit: ShowFit, show_segments: ShowSegments) -> EncodeReport:
        encoder = self.encoder.from_kept_fit(video.output) if self.go_on else self.encoder
        display = EncodeDisplay(video.source, str(video.output), show_fit, show_segments)
        return encoder.encode(
            video.source,
            video.output,
            overwrite=self.overwrite or self.go_on,
            restart=self.restart,
            callbacks=display.callbacks(),
        )
