"""Fit one segment: from a job that can be sent to another process to the bytes of a .nerv file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nervkit.container.file import Checks, pack_file
from nervkit.container.header import Header, Segment
from nervkit.container.limits import UNLIMITED
from nervkit.container.segment import SegmentData
from nervkit.container.settings import as_text
from nervkit.decoder import NervVideo, prefetched
from nervkit.errors import Interrupted
from nervkit.fitting.coding import Codec
from nervkit.fitting.compress import compress_network
from nervkit.fitting.job import CheckpointOptions, FitCallbacks, fit_clip
from nervkit.fitting.loop import FitSummary
from nervkit.fitting.options import FitOptions
from nervkit.fitting.posttraining import missed_size
from nervkit.fitting.start import Start
from nervkit.framechecks import DecodedFrames
from nervkit.media.timing import Timing
from nervkit.metrics import Quality, quality_of
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.selfcheck import SelfCheck
from nervkit.version import __version__
from nervkit.video.colour import Colour
from nervkit.video.ranges import Locator, read_range


@dataclass(frozen=True)
class FrameRange:
    """A range of frames that a worker reads from the source again."""

    locator: Locator
    first: int
    count: int
    fingerprint: str

    def read(self) -> np.ndarray:
        """Return the frames, (count, H, W, 3) uint8. Raises SourceError if the source changed."""
        return read_range(self.locator, self.first, self.count, self.fingerprint)


@dataclass(frozen=True)
class SegmentJob:
    """Everything that the fit of a segment depends on.

    Attributes:
        index: index of the segment, counted from 0.
        first: index of its first frame in the video.
        shape: shape of the segment.
        frames: (T, H, W, 3) uint8, a .npy file of them, or their range in the source.
        fingerprint: hash of the frames.
        options: options of the fit, with its target bytes or PSNR.
        bits: bit depths of weights and of embeddings that are quantized after the fit.
        colour: colour description of the frames.
        user_target: whether the user set the target of the options, not nervkit.
        start: the network that the fit starts from. None: the model initializes its own.
        threads: maximum number of threads. None: no maximum.
    """

    index: int
    first: int
    shape: VideoShape
    frames: np.ndarray | Path | FrameRange
    fingerprint: str
    options: FitOptions
    bits: tuple[int, int]
    colour: Colour
    user_target: bool = False
    start: Start | None = None
    threads: int | None = None

    def identity(self) -> dict[str, Any]:
        """Return what the segment's bytes depend on, JSON-ready."""
        return {
            "nervkit": __version__,
            "frames": self.fingerprint,
            "first": self.first,
            "model": self.options.model,
            "params": None if self.options.params is None else str(self.options.params),
            "strides": None if self.options.strides is None else str(self.options.strides),
            "bits": list(self.bits),
            "start": self.start and self.start.fingerprint,
            **self.options.settings(),
        }

    def load(self) -> np.ndarray:
        """Return the frames, (T, H, W, 3) uint8."""
        if isinstance(self.frames, FrameRange):
            return self.frames.read()
        if isinstance(self.frames, Path):
            return np.load(self.frames)
        return self.frames


@dataclass(frozen=True)
class SegmentReport:
    """The result of a segment's fit. Quality is that of the decoded segment.

    Attributes:
        index: index of the segment, counted from 0.
        first: index of its first frame in the video.
        frames: number of frames.
        model, config: name and configuration of the model.
        parameters: number of stored values.
        steps: optimizer steps.
        bytes: bytes of the coded tensors.
        published_bits: bits of the tensors by the accounting of the published compression's paper.
        samples: (frames, SAMPLES), sampled values of each frame, at places that follow from its
            index in the video.
        psnr, psnr_yuv, ssim, fit_seconds, earlier_seconds, device_memory, notes: see EncodeReport.
    """

    index: int
    first: int
    frames: int
    model: str
    config: dict[str, Any]
    parameters: int
    steps: int
    bytes: int
    published_bits: float | None
    psnr: float
    psnr_yuv: float | None
    ssim: float | None
    samples: list[list[int]]
    fit_seconds: float
    earlier_seconds: float
    device_memory: int | None
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes, JSON-ready."""
        return asdict(self)

    @property
    def quality(self) -> Quality:
        """Mean quality over frames."""
        return Quality(self.psnr, self.ssim, self.psnr_yuv)

    def summary(self) -> dict[str, Any]:
        """Return the segment's entry in an EncodeReport."""
        keys = ("first", "frames", "model", "config", "parameters", "steps", "bytes", "psnr")
        return {key: getattr(self, key) for key in (*keys, "fit_seconds")}


def fit_segment(
    job: SegmentJob,
    keep: CheckpointOptions | None = None,
    watch: FitCallbacks | None = None,
) -> tuple[bytes, SegmentReport]:
    """Fit a segment, compress it, decode it and compare the result with the fit.

    The bytes depend only on the job, the kind of machine and the number of threads.

    Args:
        job: the segment and its options.
        keep: the place of the fit's checkpoint; the caller deletes it.
        watch: callbacks that follow the fit and may stop it.

    Returns:
        The bytes of a .nerv file with this one segment, and the report.

    Raises:
        Interrupted: `watch.stop` returned True.
        ModelError: the decoded segment differs too much from the fit.
        SourceError, ResourceError, UsageError: see `fit_clip`; or the frames cannot be read.
    """
    watch, options = watch or FitCallbacks(), job.options
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    frames = job.load()
    network, summary = fit_clip(
        frames, options, colour=job.colour, start=job.start, keep=keep, watch=watch
    )
    device, config = next(network.parameters()).device, network.config.to_dict()
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    data, published_bits = compress_network(
        network, summary.codec, options, frames, job.colour, job.bits, job.user_target, watch.stop
    )
    check = SelfCheck(network, frames, options.model, options.coded_bytes is not None)
    check.fitted(summary.psnr)
    header = _header(job, config, count_stored(network))
    decoded, notes = _decode(job, header, data, frames, check, watch.stop)
    quality = decoded.quality
    report = SegmentReport(
        index=job.index,
        first=job.first,
        frames=job.shape.frames,
        model=options.model,
        config=config,
        parameters=header.values,
        steps=summary.steps,
        bytes=data.size,
        published_bits=published_bits,
        psnr=quality.psnr,
        psnr_yuv=quality.psnr_yuv,
        ssim=quality.ssim,
        samples=decoded.samples.tolist(),
        fit_seconds=summary.seconds,
        earlier_seconds=summary.earlier_seconds,
        device_memory=memory,
        notes=[*summary.notes, *notes, *_missed_target(job, summary, data, quality)],
    )
    checks = replace(decoded.checks(quality.psnr, quality.ssim), samples=None)
    return _pack(header, data, checks), report


def _missed_target(
    job: SegmentJob, summary: FitSummary, data: SegmentData, quality: Quality
) -> list[str]:
    """Return notes if the coded segment misses its target."""
    notes: list[str] = []
    if isinstance(summary.codec, Codec) and job.user_target:
        reached = quality.psnr if quality.psnr_yuv is None else quality.psnr_yuv
        missed = summary.codec.missed(data.sections[0].data, reached)
        notes += [] if missed is None else [missed]
    if summary.codec is None and job.options.coded_bytes is not None:
        notes += missed_size(data.size, job.options.coded_bytes)
    return notes


def _header(job: SegmentJob, config: dict[str, Any], values: int) -> Header:
    return Header(
        width=job.shape.width,
        height=job.shape.height,
        sample_aspect_ratio=Fraction(1),
        colour=job.colour.to_dict(),
        source={},
        edit={},
        encoder={"version": f"nervkit {__version__}", "settings": settings_text(job)},
        segments=(Segment(job.shape.frames, job.options.model, config, values),),
    )


def settings_text(job: SegmentJob) -> str:
    """Return the settings of a segment's encode as the text in a file's header."""
    settings = job.options.settings()
    if job.options.coded_bytes is None:
        settings |= {"bits": job.bits[0], "embedding_bits": job.bits[1]}
    return as_text(settings)


def _decode(
    job: SegmentJob,
    header: Header,
    data: SegmentData,
    frames: np.ndarray,
    check: SelfCheck,
    stop: Callable[[], bool],
) -> tuple[DecodedFrames, list[str]]:
    """Decode the segment and measure its quality. Return the result and the notes of `check`."""
    decoded = DecodedFrames(job.first)
    colour = job.colour if job.options.metric == "yuv" else None
    with NervVideo(_pack(header, data, None), limits=UNLIMITED) as video:
        notes = check.decoded(video)
        for reference, frame in zip(frames, prefetched(iter(video)), strict=True):
            if stop():
                raise Interrupted("stopped while the file was checked", resumable=True)
            decoded.add(frame, quality_of(reference, frame, colour))
    return decoded, notes


def _pack(header: Header, data: SegmentData, checks: Checks | None) -> bytes:
    """Return a .nerv file of the segment alone, at 25 frames a second."""
    timing = Timing(np.arange(header.frames, dtype=np.int64), Fraction(1, 25), 1)
    return pack_file(header, timing, [data], checks=checks)
