"""The report of an encode, from the reports of its segments."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nervkit.container.file import NervFile
from nervkit.container.limits import UNLIMITED
from nervkit.encoding.segment import SegmentReport
from nervkit.fitting.options import FitOptions
from nervkit.metrics import Quality, mean_quality
from nervkit.video.clip import Details


@dataclass(frozen=True)
class EncodeReport:
    """The result of an encode. Quality is measured on the decoded file.

    Attributes:
        output: path of the file.
        frames: number of frames.
        width: in pixels.
        height: in pixels.
        fps: mean frame rate.
        model: name of the first segment's model.
        config: the first segment's configuration.
        parameters: stored values: weights, biases and embeddings.
        steps: optimizer steps of all segments.
        metric: the metric that the fit optimised: "rgb" or "yuv".
        psnr: dB, mean over frames of 8-bit RGB.
        psnr_yuv: dB, mean over frames of (6 Y + U + V) / 8 of the 8-bit 4:2:0 planes that the RGB
            frames convert to. None if the metric is "rgb".
        ssim: mean over frames. None for frames smaller than 11 pixels.
        bytes: size of the file.
        bytes_by_part: bytes of each part of the file; they add up to `bytes`.
        bpp: bits per pixel, without tracks, tags, chapters and attachments.
        bits_per_parameter: bits per value of the coded weights and embeddings.
        compression: name or description of the published compression; None without one.
        published_bpp: bits per pixel by the accounting of that compression's paper, which counts
            only `published_counts`. `bpp` counts everything that a decoder needs.
        published_counts: the items that `published_bpp` counts.
        seconds: wall time of this run.
        fit_seconds: time of the fits, of earlier runs too if the fit was resumed.
        earlier_seconds: the part of `fit_seconds` that earlier runs took.
        device_memory: peak bytes of torch on the GPU. None on a CPU.
        settings: options of the encode as text, which the file stores.
        segments: for each segment its `first` frame, `frames`, `model`, `config`, `parameters`,
            `steps`, `bytes` of the coded tensors, `psnr` and `fit_seconds`.
        notes: one line for each assumption, change and loss.
    """

    output: str
    frames: int
    width: int
    height: int
    fps: float
    model: str
    config: dict[str, Any]
    parameters: int
    steps: int
    metric: str
    psnr: float
    psnr_yuv: float | None
    ssim: float | None
    bytes: int
    bytes_by_part: dict[str, int]
    bpp: float
    bits_per_parameter: float
    compression: str | None
    published_bpp: float | None
    published_counts: str | None
    seconds: float
    fit_seconds: float
    earlier_seconds: float
    device_memory: int | None
    settings: str
    segments: list[dict[str, Any]]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


def mean_over_segments(reports: Sequence[SegmentReport]) -> Quality:
    """Return the mean quality over the frames of all segments."""
    return mean_quality([report.quality for report in reports for _ in range(report.frames)])


def make_report(
    output: Path,
    details: Details,
    size: tuple[int, int],
    reports: Sequence[SegmentReport],
    quality: Quality,
    options: FitOptions,
    settings: str,
    notes: Sequence[str],
    began: float,
) -> EncodeReport:
    """Make the report of a finished file.

    Args:
        output: path of the file.
        details: timing, tracks and metadata of the video.
        size: (width, height) of its frames.
        reports: the reports of its segments, in order.
        quality: mean quality of the file.
        options: the options of every fit.
        settings: the options of the encode as text.
        notes: notes on the file, besides those of its segments.
        began: start of the encode by `time.perf_counter`.
    """
    segment_notes = [note for report in reports for note in report.notes]
    memory = [r.device_memory for r in reports if r.device_memory is not None]
    parameters = sum(report.parameters for report in reports)
    frames = sum(report.frames for report in reports)
    published = [r.published_bits for r in reports if r.published_bits is not None]
    compression = options.compression_data
    accounting = None if compression is None else compression.accounting
    with NervFile(output, UNLIMITED) as file:
        return EncodeReport(
            output=str(output),
            frames=frames,
            width=size[0],
            height=size[1],
            fps=float(details.fps),
            model=reports[0].model,
            config=reports[0].config,
            parameters=parameters,
            steps=sum(report.steps for report in reports),
            metric=options.metric,
            psnr=quality.psnr,
            psnr_yuv=quality.psnr_yuv,
            ssim=quality.ssim,
            bytes=file.size,
            bytes_by_part=file.bytes_by_part,
            bpp=file.bpp,
            bits_per_parameter=8 * sum(report.bytes for report in reports) / parameters,
            compression=options.compression_name,
            published_bpp=sum(published) / (frames * size[0] * size[1]) if published else None,
            published_counts=None if accounting is None else accounting.counts,
            seconds=clock.perf_counter() - began,
            fit_seconds=sum(report.fit_seconds for report in reports),
            earlier_seconds=sum(report.earlier_seconds for report in reports),
            device_memory=max(memory, default=None),
            settings=settings,
            segments=[report.summary() for report in reports],
            notes=[*details.notes, *dict.fromkeys(segment_notes), *notes],
        )
