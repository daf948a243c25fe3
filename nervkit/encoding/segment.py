"""The fit of one segment: from a description that another process may be told to the bytes of a
file of its own."""

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
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import Interrupted
from nervkit.fitting.coding import Codec
from nervkit.fitting.compress import compress_network
from nervkit.fitting.job import CheckpointOptions, Watch, fit_clip
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
    """Frames of a source that is read once more."""

    locator: Locator
    first: int
    count: int
    fingerprint: str

    def read(self) -> np.ndarray:
        """(count, H, W, 3) uint8. Raises SourceError where the source has changed."""
        return read_range(self.locator, self.first, self.count, self.fingerprint)


@dataclass(frozen=True)
class SegmentJob:
    """All that the fit of a segment depends on.

    Attributes:
        index: which segment, counted from 0.
        first: its first frame in the video.
        shape: of the segment.
        frames: (T, H, W, 3) uint8, or a .npy file that holds them, or where they are read.
        fingerprint: of the frames.
        options: of the fit, with the bytes or the quality that it aims at.
        bits: of weights and embeddings, where these are quantized after the fit.
        colour: the frames'.
        asked: whether the user asked for the size or the quality that the options aim at.
        start: the network that the fit begins from; None: the model's own start.
        threads: to compute with at the most; None: as many as there are.
    """

    index: int
    first: int
    shape: VideoShape
    frames: np.ndarray | Path | FrameRange
    fingerprint: str
    options: FitOptions
    bits: tuple[int, int]
    colour: Colour
    asked: bool = False
    start: Start | None = None
    threads: int | None = None

    def identity(self) -> dict[str, Any]:
        """What the segment's bytes depend on, JSON-ready."""
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
        """The frames."""
        if isinstance(self.frames, FrameRange):
            return self.frames.read()
        if isinstance(self.frames, Path):
            return np.load(self.frames)
        return self.frames


@dataclass(frozen=True)
class SegmentReport:
    """What the fit of a segment made, as a decoder shows it.

    Attributes:
        index: which segment, counted from 0.
        first: its first frame in the video; it has `frames`.
        parameters: values that travel.
        bytes: of the coded tensors.
        published_bits: of the same by the accounting of the paper whose compression this is.
        psnr, psnr_yuv, ssim: means over frames, as of EncodeReport.
        samples: (frames, SAMPLES), the samples of each frame at its place in the video.
        fit_seconds, earlier_seconds, device_memory, notes: as of EncodeReport.
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
        """JSON-ready."""
        return asdict(self)

    @property
    def quality(self) -> Quality:
        """The mean over frames."""
        return Quality(self.psnr, self.ssim, self.psnr_yuv)

    def summary(self) -> dict[str, Any]:
        """What an EncodeReport says of it."""
        shown = ("first", "frames", "model", "config", "parameters", "steps", "bytes", "psnr")
        return {name: getattr(self, name) for name in (*shown, "fit_seconds")}


def fit_segment(
    job: SegmentJob,
    keep: CheckpointOptions | None = None,
    watch: Watch | None = None,
) -> tuple[bytes, SegmentReport]:
    """Fit a segment, compress it and check what it decodes to.

    The bytes depend on the job only, and on the kind of machine and the number of threads.

    Args:
        keep: where a checkpoint lies while the fit runs; it is left to the caller.
        watch: who follows the fit, and may stop it.

    Returns:
        The bytes of a .nerv file with this one segment, and the report.

    Raises:
        Interrupted: stopped. ModelError: the file shows other frames than the fit. SourceError,
        ResourceError, UsageError: as `fit_clip`, and where the frames cannot be read.
    """
    watch, options = watch or Watch(), job.options
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    frames = job.load()
    network, summary = fit_clip(
        frames, options, colour=job.colour, start=job.start, keep=keep, watch=watch
    )
    device, config = next(network.parameters()).device, network.config.to_dict()
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    data, published_bits = compress_network(
        network, summary.codec, options, frames, job.colour, job.bits, job.asked, watch.stop
    )
    check = SelfCheck(network, frames, options.model, options.coded_bytes is not None)
    check.fitted(summary.psnr)
    header = _header(job, config, count_stored(network))
    decoded, notes = _decoded(job, header, data, frames, check, watch.stop)
    quality = decoded.quality
    reached = quality.psnr if quality.psnr_yuv is None else quality.psnr_yuv
    if isinstance(summary.codec, Codec) and job.asked:
        missed = summary.codec.missed(data.sections[0].data, reached)
        notes += [] if missed is None else [missed]
    if summary.codec is None and options.coded_bytes is not None:
        notes += missed_size(data.size, options.coded_bytes)
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
        notes=[*summary.notes, *notes],
    )
    checks = replace(decoded.checks(quality.psnr, quality.ssim), samples=None)
    return _packed(header, data, checks), report


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
    """How a segment is encoded, as a file's header says it."""
    settings = job.options.settings()
    if job.options.coded_bytes is None:
        settings |= {"bits": job.bits[0], "embedding_bits": job.bits[1]}
    return as_text(settings)


def _decoded(
    job: SegmentJob,
    header: Header,
    data: SegmentData,
    frames: np.ndarray,
    check: SelfCheck,
    stop: Callable[[], bool],
) -> tuple[DecodedFrames, list[str]]:
    """What the segment decodes to, and notes on it."""
    decoded = DecodedFrames(job.first)
    colour = job.colour if job.options.metric == "yuv" else None
    with NervVideo(_packed(header, data, None), limits=UNLIMITED) as video:
        notes = check.decoded(video)
        for reference, frame in zip(frames, computed_ahead(iter(video)), strict=True):
            if stop():
                raise Interrupted("stopped while the file was checked", resumable=True)
            decoded.add(frame, quality_of(reference, frame, colour))
    return decoded, notes


def _packed(header: Header, data: SegmentData, checks: Checks | None) -> bytes:
    """A file of the segment alone, at 25 frames a second."""
    timing = Timing(np.arange(header.frames, dtype=np.int64), Fraction(1, 25), 1)
    return pack_file(header, timing, [data], checks=checks)
