"""What an encode made, put together from its segments."""

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
    """What an encode made, as a decoder shows it.

    Attributes:
        metric: what the fit was optimised for, "rgb" or "yuv".
        psnr: dB, mean over frames of 8-bit RGB.
        psnr_yuv: dB, mean over frames of (6 Y + U + V) / 8 of the 8-bit 4:2:0 planes that the RGB
            frames convert to; None where that is not the metric.
        ssim: mean over frames; None for frames under 11 pixels.
        bytes: of the file; `bytes_by_part` adds up to it.
        bpp: bits per pixel of all but the tracks.
        parameters: values that travel: weights, biases and embeddings.
        bits_per_parameter: of the coded weights and embeddings.
        compression: its name, or how it goes; None where none was asked for.
        published_bpp: bits per pixel by the accounting of the compression's paper, which counts
            `published_counts` and no more; `bpp` has all that a decoder needs.
        fit_seconds: of all sessions, where the fit was resumed; `seconds` is this run's, and
            `earlier_seconds` what was fitted in earlier ones.
        model, config: of the first segment.
        segments: for each segment its `first` frame, `frames`, `model`, `config`, `parameters`,
            `steps`, `bytes` of the coded tensors, `psnr` and `fit_seconds`.
        device_memory: the most bytes that torch held on the device; None on the CPU.
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


def quality_of_all(reports: Sequence[SegmentReport]) -> Quality:
    """The mean over the frames of all segments."""
    return mean_quality([report.quality for report in reports for _ in range(report.frames)])


def report_of(
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
    """The report of a finished file.

    Args:
        details: what the video has besides frames of `size` (width, height).
        options: of every fit.
        reports: of its segments, in order; `quality` is that of all.
        notes: on the file as a whole.
        began: when the encode did, by the performance counter.
    """
    of_segments = [note for report in reports for note in report.notes]
    memory = [r.device_memory for r in reports if r.device_memory is not None]
    parameters = sum(report.parameters for report in reports)
    frames = sum(report.frames for report in reports)
    published = [r.published_bits for r in reports if r.published_bits is not None]
    compression = options.compressing
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
            notes=[*details.notes, *dict.fromkeys(of_segments), *notes],
        )
