"""Make a smaller .nerv file from one, without the video: quantize its tensors by sensitivity."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nervkit.assembly import bytes_besides_tensors, over_limits
from nervkit.container.file import Checks, pack_file
from nervkit.container.limits import UNLIMITED, Limits
from nervkit.container.segment import CONTEXTS, SegmentData
from nervkit.container.settings import is_requantized, requantized
from nervkit.decoder import NervVideo, prefetched, with_progress
from nervkit.errors import FormatError, NervError, NothingToDoError, ResourceError, UsageError
from nervkit.fitting.posttraining import Quantizer, compress_to_error, compress_to_size
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.framechecks import DecodedFrames, Match, count_matches
from nervkit.keywords import checked_keywords, option
from nervkit.lock import locked
from nervkit.metrics import Quality, quality_of
from nervkit.models.device import Device, choose_device, memory_errors
from nervkit.networks import check_budget, rebuild, segment_blueprint
from nervkit.output import check_nerv_output, link_target, output_name, replacing
from nervkit.target import Target
from nervkit.units import parse_bpp, parse_loss
from nervkit.verifier import checks_origin
from nervkit.version import __version__
from nervkit.video.memory import available_memory, human_bytes

VALUE_BYTES = 48  # in memory for each stored value: tensors, derivatives, integers
SIZE_TOLERANCE = 1.02  # accepted size over target size

Stage = Literal["verify", "sensitivity", "search", "check"]
OnStageProgress = Callable[[Stage, int, int], None]


@dataclass(frozen=True)
class RequantizeReport:
    """The result of a requantization.

    Attributes:
        output: path of the file.
        frames: number of frames.
        width: in pixels.
        height: in pixels.
        fps: mean frame rate.
        model: name of the first segment's model.
        parameters: stored values: weights, biases and embeddings.
        psnr: None: the quality against the source is neither measured nor declared by the file.
        ssim: None, likewise.
        kept_psnr: dB, of the output's frames against the input's, mean over frames of 8-bit RGB.
        kept_ssim: SSIM likewise. None for frames smaller than 11 pixels.
        estimated_psnr: dB against the source, estimated from the PSNR that the input declares, if
            the new error is independent of the old one. None if the input declares no PSNR.
        input_bytes: size of the input.
        bytes: size of the output.
        bytes_by_part: the same by part; adds up to `bytes`.
        bpp: bits per pixel, without tracks, tags, chapters and attachments.
        bits_per_parameter: bits per value of the coded weights and embeddings.
        seconds: wall time.
        settings: the options as the file stores them, as text.
        notes: one line for each assumption, change and loss.
    """

    output: str
    frames: int
    width: int
    height: int
    fps: float
    model: str
    parameters: int
    psnr: float | None
    ssim: float | None
    kept_psnr: float
    kept_ssim: float | None
    estimated_psnr: float | None
    input_bytes: int
    bytes: int
    bytes_by_part: dict[str, int]
    bpp: float
    bits_per_parameter: float
    seconds: float
    settings: str
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


@checked_keywords
def requantize(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    target_size: str | int | None = None,
    target_bpp: str | float | None = None,
    target_bitrate: str | int | None = None,
    target_loss: str | float | None = None,
    device: Device = "cpu",
    limits: Limits | None = None,
    overwrite: bool = False,
    on_progress: OnStageProgress | None = None,
) -> RequantizeReport:
    """Make a smaller .nerv file from one, without the video.

    First, the input's frames are compared with its own checks, as in `verify`. Then each tensor is
    quantized again, with step sizes that follow from the sensitivity of the frames to it
    (docs/codec.md). The timing, tracks, tags, chapters, attachments and colour description stay.
    The frame checks are those of the new frames. The output declares no quality against the source,
    which cannot be measured here. The output is decoded before it is renamed into place.

    Args:
        source: path of a .nerv file, with tensors coded by any method.
        output: path of another .nerv file.
        target_size: bytes of the whole file, tracks included, such as 60_000 or "60k". Give exactly
            one of the four targets.
        target_bpp: bits per pixel of the video, without tracks, tags and attachments.
        target_bitrate: bits per second of the whole file, such as 200_000 or "200k".
        target_loss: largest loss of PSNR against the source in dB, estimated from the PSNR that the
            input declares and the added error.
        device: where sensitivities are computed. Files are decoded on the CPU.
        limits: as for `NervVideo`.
        overwrite: replace an existing output.
        on_progress: called with (stage, done, total); the stage is "verify", "sensitivity",
            "search" or "check".

    Raises:
        UsageError: not exactly one target, a target that the input cannot reach, or a source or
            output that is not a path.
        NothingToDoError: the input already meets the target.
        FormatError: the source is not a valid .nerv file, or does not decode to its encoder's
            frames.
        LimitError: as for `NervVideo`; so is ResourceError.
        OutputError: the output exists, or cannot be written.
    """
    began = time.perf_counter()
    _check_file_name(source, "input")
    _check_file_name(output, "output")
    output, measured_on = Path(output_name(output)), choose_device(device)
    bpp = None if target_bpp is None else parse_bpp(target_bpp)
    target = Target.from_options(target_size, bpp, target_bitrate)
    if (target is None) == (target_loss is None):
        raise UsageError(
            f"give one of {option('target_size')}, {option('target_bpp')}, "
            f"{option('target_bitrate')} and {option('target_loss')}"
        )
    loss = None if target_loss is None else parse_loss(target_loss)
    check_nerv_output(output, overwrite, source)
    with (
        locked(link_target(output)),
        NervVideo(source, limits=limits) as video,
        video.file.naming(),
    ):
        video.file.check_all()
        check_budget(video.file, video.header.segments)
        job = _Requantization(video, _in_words(target, loss), on_progress or (lambda *_: None))
        size = None if target is None else job.tensor_bytes(target)
        error = None if loss is None else job.added_error(loss)
        job.check_frames()
        with memory_errors(str(source)):
            payloads = job.compress(job.quantizers(measured_on), size, error)
        quality = job.write(output, payloads)
        coded = sum(map(len, payloads))
        return job.report(output, quality, coded, time.perf_counter() - began)


class _Requantization:
    """An input file and the steps that make the output from it."""

    def __init__(
        self, video: NervVideo[np.ndarray], target: str, on_progress: OnStageProgress
    ) -> None:
        """`target` is in words, which the output stores in its settings."""
        self._video, self._file, self._on_progress = video, video.file, on_progress
        self._count = len(video.header.segments)
        segments = [self._file.segment(index) for index in range(self._count)]
        self._coded = sum(segment.size for segment in segments)
        self._tensor_counts = [len(segment.order) for segment in segments]
        self._tracks, self._extras = video.tracks, self._file.extras()
        self._checks = self._file.checks()
        self._psnr = None if self._checks is None else self._checks.psnr
        self._notes: list[str] = []
        earlier = video.header.encoder["settings"]
        self._again = is_requantized(earlier)
        settings = requantized(earlier, target)
        encoder = {"version": f"nervkit {__version__}", "settings": settings}
        self._header = replace(video.header, encoder=encoder)

    def tensor_bytes(self, target: Target) -> int:
        """Return the bytes that a target leaves for tensors. Raises UsageError if these are too
        few, NothingToDoError if the file's tensors are smaller already."""
        parts = (self._header, self._video.timing, self._tracks, self._extras)
        fixed = bytes_besides_tensors(*parts, psnr=None)
        start, end = self._video.timing.seconds
        size = target.tensor_bytes(self._header.pixels, end - start, fixed.whole, fixed.video)
        if size >= self._coded:
            raise NothingToDoError(
                f"{self._file.name}: is smaller than the target already: its tensors take "
                f"{self._coded:,} bytes, the target leaves {size:,}; nothing to do"
            )
        return size

    def added_error(self, loss: float) -> float:
        """Return the mean squared error of frames that lowers the PSNR by `loss` dB, if it is
        independent of the present error. Raises UsageError if the file declares no PSNR."""
        if self._psnr is None:
            raise UsageError(
                f"{self._file.name}: declares no PSNR to which {option('target_loss')} could "
                "refer; "
                f"give {option('target_size')}, {option('target_bpp')} or "
                f"{option('target_bitrate')}"
            )
        return _error(self._psnr) * (10 ** (loss / 10) - 1)

    def check_frames(self) -> None:
        """Compare all frames with the file's checks. Raises FormatError if some are wrong."""
        if self._checks is None:
            self._notes.append("the input has no frame checks: damage to it is not detected")
            return
        total, frames = len(self._video), prefetched(iter(self._video))
        verified = with_progress(frames, total, partial(self._on_progress, "verify"))
        if wrong := count_matches(verified, self._checks)[Match.WRONG]:
            problem = f"{wrong} of {total} frames differ from {checks_origin(self._again)}"
            if self._checks.samples is None:
                problem += " (the file has no samples, which distinguish rounding from damage)"
            raise FormatError(
                f"{self._file.name}: {problem}; use an undamaged copy, or encode again"
            )

    def quantizers(self, device: torch.device) -> list[Quantizer]:
        """Return the quantizers of all segments, with sensitivities measured on `device`. Raises
        ResourceError."""
        plans = [segment_blueprint(self._header, segment) for segment in self._header.segments]
        frame = max(plan.gradient_memory for plan in plans)
        needed, free = VALUE_BYTES * self._header.values + frame, available_memory()
        if needed > free:
            raise ResourceError(
                f"{self._file.name}: quantizing takes {human_bytes(needed)} of memory, "
                f"{human_bytes(free)} are free"
            )
        made = []
        for index, segment in enumerate(self._header.segments):
            model = rebuild(self._header, index, self._file.segment(index))
            model = model.to(device)

            def measured(done: int, total: int, index: int = index) -> None:
                self._on_progress("sensitivity", index * total + done, self._count * total)

            derivatives = mean_squared_derivatives(model, on_progress=measured)
            made.append(Quantizer(model, derivatives, segment.frames / self._header.frames))
        return made

    def compress(
        self, quantizers: Sequence[Quantizer], size: int | None, error: float | None
    ) -> list[bytes]:
        """Return the coded tensors of each segment, in `size` bytes or with an added mean squared
        `error` of frames. Raises UsageError if `size` is too small, NothingToDoError if the file
        does not become smaller."""
        searched = partial(self._on_progress, "search")
        if size is not None:
            payloads = compress_to_size(quantizers, size, on_progress=searched)
            if (least := sum(map(len, payloads))) > SIZE_TOLERANCE * size:
                raise UsageError(
                    f"{self._file.name}: the target leaves {size:,} bytes for the tensors, which "
                    f"take at least {least:,}; raise the target"
                )
        else:
            assert error is not None, "one of size and error is given"
            payloads = compress_to_error(quantizers, error, on_progress=searched)
            if (found := sum(map(len, payloads))) >= self._coded:
                raise NothingToDoError(
                    f"{self._file.name}: its tensors take {self._coded:,} bytes, and {found:,} at "
                    "that loss; nothing to do"
                )
        return payloads

    def write(self, output: Path, payloads: Sequence[bytes]) -> Quality:
        """Write the file, decode it, add its frame checks, then rename it into place. Return the
        quality of its frames against the input's."""
        segments = [
            SegmentData.of((CONTEXTS, count, payload))
            for count, payload in zip(self._tensor_counts, payloads, strict=True)
        ]
        decoded = DecodedFrames()
        with replacing(output) as path:
            path.write_bytes(self._pack(segments, None))
            with NervVideo(path, limits=UNLIMITED) as made:
                checked = partial(self._on_progress, "check")
                frames = with_progress(prefetched(iter(made)), len(made), checked)
                for before, frame in zip(iter(self._video), frames, strict=True):
                    decoded.add(frame, quality_of(before, frame))
            data = self._pack(segments, decoded.checks(None, None))
            path.write_bytes(data)
            if path.read_bytes() != data:
                raise NervError(f"{output}: reads back differently than written; check the disk")
        return decoded.quality

    def report(
        self, output: Path, quality: Quality, coded: int, seconds: float
    ) -> RequantizeReport:
        """Return the report, given the quality against the input and the bytes of the tensors."""
        header, notes = self._header, [*self._notes, *over_limits(output)]
        if lost := self._file.bytes_by_part.get("other"):
            notes.append(f"dropped {lost:,} bytes of chunks that this version does not know")
        if self._psnr is None:
            reason = " (it was requantized before)" * self._again
            notes.append(f"the input declares no PSNR{reason}: the new file's is not estimated")
        with NervVideo(output, limits=UNLIMITED) as made:
            estimated = None
            if self._psnr is not None:
                estimated = -10 * math.log10(_error(self._psnr) + _error(quality.psnr))
            return RequantizeReport(
                output=str(output),
                frames=header.frames,
                width=header.width,
                height=header.height,
                fps=float(made.fps),
                model=header.segments[0].model,
                parameters=header.values,
                psnr=None,
                ssim=None,
                kept_psnr=quality.psnr,
                kept_ssim=quality.ssim,
                estimated_psnr=estimated,
                input_bytes=self._file.size,
                bytes=made.file.size,
                bytes_by_part=made.file.bytes_by_part,
                bpp=made.file.bpp,
                bits_per_parameter=8 * coded / header.values,
                seconds=seconds,
                settings=header.encoder["settings"],
                notes=notes,
            )

    def _pack(self, segments: Sequence[SegmentData], checks: Checks | None) -> bytes:
        timing = self._video.timing
        return pack_file(self._header, timing, segments, self._tracks, checks, self._extras)


def _check_file_name(value: object, what: str) -> None:
    """Raise UsageError if `value` is not a path."""
    if not isinstance(value, (str, os.PathLike)):
        kind = type(value).__name__
        raise UsageError(f"requantize needs paths of .nerv files: the {what} is of type {kind}")
    if str(value) == "-":
        raise UsageError(f"requantize needs paths of .nerv files: the {what} cannot be a pipe")


def _in_words(target: Target | None, loss: float | None) -> str:
    """Return the target such as "to 60000 bytes", without a comma, for the settings."""
    if target is None:
        return f"for a loss of {loss:g} dB"
    if target.bpp is not None:
        return f"to {target.bpp:g} bits per pixel"
    return f"to {target.size} bytes" if target.size else f"to {target.bitrate} bits per second"


def _error(decibels: float) -> float:
    """Return the mean squared error of samples in [0, 1] that a PSNR stands for."""
    return 10 ** (-decibels / 10)
