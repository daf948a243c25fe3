""".nerv -> a smaller .nerv, without the video: its tensors are quantized by sensitivity."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nervkit.assembly import DecodedFrames, bytes_besides_tensors, over_limits
from nervkit.container.file import Checks, SegmentData, pack_file
from nervkit.container.limits import UNLIMITED, Limits
from nervkit.container.segment import CONTEXTS
from nervkit.container.settings import is_requantized, requantized
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import FormatError, NervError, NothingToDoError, ResourceError, UsageError
from nervkit.fitting.posttraining import Quantizer, compress_to_error, compress_to_size
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.lock import locked
from nervkit.metrics import Quality, quality_of
from nervkit.models.device import Device, choose_device, memory_errors
from nervkit.networks import check_budget, drawn, rebuild
from nervkit.output import check_nerv_output, linked, replacing
from nervkit.target import Target
from nervkit.units import parse_bpp, parse_loss
from nervkit.verifier import checked_against, is_wrong
from nervkit.version import __version__
from nervkit.video.memory import available_memory, human_bytes

VALUE_BYTES = 48  # held for each stored value of all segments: tensors, derivatives, integers
MOST_ABOVE = 1.02  # of the bytes that are aimed at

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RequantizeReport:
    """What a requantization made.

    Attributes:
        output: path of the file.
        frames: number of frames.
        width: in pixels.
        height: in pixels.
        fps: mean frame rate.
        model: name of the first segment's model.
        parameters: stored values: weights, biases and embeddings.
        psnr: None: the quality against the source was not measured, and the file does not state it.
        ssim: None, likewise.
        kept_psnr: dB, of the output's frames against the input's, mean over frames of 8-bit RGB.
        kept_ssim: the same as SSIM. None for frames smaller than 11 pixels.
        estimated_psnr: dB against the source, estimated from the PSNR that the input states, if the
            new error is independent of the old one. None where the input states no PSNR.
        input_bytes: size of the input.
        bytes: size of the output.
        bytes_by_part: the same by part; adds up to `bytes`.
        bpp: bits per pixel, without tracks, tags, chapters and attachments.
        bits_per_parameter: bits per value of the coded weights and embeddings.
        seconds: wall time.
        settings: options as text, which the file stores.
        notes: one line for everything that was assumed, changed or lost.
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
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


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
    on_progress: OnProgress | None = None,
) -> RequantizeReport:
    """Make a smaller .nerv file from one, without the video.

    The tensors are quantized again, each with steps that follow from how much the frames depend on
    it (docs/codec.md). Times, tracks, tags, chapters, attachments and colours stay. Frame checks
    are those of the new frames. The output states no quality against the source, since that cannot
    be measured here. Before that, the input's frames are compared with its own checks, as `verify`
    does. The output is decoded before it is renamed into place.

    Args:
        source: path of a .nerv file, with tensors coded by any method.
        output: path of another .nerv file.
        target_size: bytes of the whole file, tracks included, such as 60_000 or "60k". Give exactly
            one of the four targets.
        target_bpp: bits per pixel of the video, without tracks, tags and attachments.
        target_bitrate: bits per second of the whole file, such as 200_000 or "200k".
        target_loss: dB of PSNR against the source that may be lost, estimated from the PSNR that
            the input states and the error that is added.
        device: where sensitivities are computed. Files are decoded on the CPU.
        limits: as for `NervVideo`.
        overwrite: replace an existing output.
        on_progress: called with (stage, done, in all); the stage is "verify", "sensitivity",
            "search" or "check".

    Raises:
        UsageError: not exactly one target, a target that the input cannot reach, or a source or
            output that is not a path.
        NothingToDoError: the input meets the target already.
        FormatError: the source is not a valid .nerv file, or does not show its encoder's frames.
        LimitError: as for `NervVideo`; so is ResourceError.
        OutputError: the output exists, or cannot be written.
    """
    began = time.perf_counter()
    _check_file_name(source, "input")
    _check_file_name(output, "output")
    output, measured_on = Path(output), choose_device(device)
    bpp = None if target_bpp is None else parse_bpp(target_bpp)
    target = Target.of(target_size, bpp, target_bitrate)
    if (target is None) == (target_loss is None):
        raise UsageError("give one of target-size, target-bpp, target-bitrate and target-loss")
    loss = None if target_loss is None else parse_loss(target_loss)
    check_nerv_output(output, overwrite, source)
    with (
        locked(linked(output)),
        NervVideo(source, limits=limits) as video,
        video.file.naming(),
    ):
        video.file.check_all()
        check_budget(video.file, video.header.segments)
        wanted = _in_words(target, loss)
        file = _Requantized(video, wanted, on_progress or (lambda *_: None))
        aim = {"error": file.error_of(loss)} if target is None else {"size": file.room(target)}
        file.check_frames()
        with memory_errors(str(source)):
            quantizers = file.quantizers(measured_on)
            payloads = file.compressed(quantizers, **aim)
        quality = file.write(output, payloads)
        coded = sum(map(len, payloads))
        return file.report(output, quality, coded, time.perf_counter() - began)


class _Requantized:
    """A file, and the one that is made from it."""

    def __init__(self, video: NervVideo, wanted: str, on_progress: OnProgress) -> None:
        """`wanted` is the target in words, which the file records."""
        self._video, self._file, self._on_progress = video, video.file, on_progress
        self._count = len(video.header.segments)
        segments = [self._file.segment(index) for index in range(self._count)]
        self._coded = sum(segment.size for segment in segments)
        self._counts = [len(segment.order) for segment in segments]  # of tensors
        self._tracks, self._extras = video.tracks, self._file.extras()
        self._checks = self._file.checks()
        self._psnr = None if self._checks is None else self._checks.psnr
        self._notes: list[str] = []
        earlier = video.header.encoder["settings"]
        self._again = is_requantized(earlier)
        settings = requantized(earlier, wanted)
        encoder = {"version": f"nervkit {__version__}", "settings": settings}
        self._header = replace(video.header, encoder=encoder)

    def room(self, target: Target) -> int:
        """The bytes that a target leaves for tensors. Raises UsageError where these are too few,
        NothingToDoError where the file is smaller."""
        parts = (self._header, self._video.timing, self._tracks, self._extras)
        fixed = bytes_besides_tensors(*parts, psnr=None)
        start, end = self._video.timing.seconds
        size = target.tensor_bytes(self._header.pixels, end - start, fixed.whole, fixed.video)
        if size >= self._coded:
            raise NothingToDoError(
                f"{self._file.name}: is smaller than the target already: its tensors take "
                f"{self._coded:,} bytes, and the target leaves {size:,}; nothing to do"
            )
        return size

    def error_of(self, loss: float) -> float:
        """The mean squared error in frames that costs `loss` dB, if it is independent of what the
        file lacks already. Raises UsageError where the file does not say that."""
        if self._psnr is None:
            raise UsageError(
                f"{self._file.name}: does not state its PSNR, so that a loss has no meaning; give "
                "--target-size, --target-bpp or --target-bitrate"
            )
        return _error(self._psnr) * (10 ** (loss / 10) - 1)

    def check_frames(self) -> None:
        """Compare all frames with the file's checks. Raises FormatError where some are wrong."""
        if self._checks is None:
            self._notes.append("the input holds no frame checks: damage to it would not show")
            return
        wrong = 0
        for index, frame in enumerate(computed_ahead(iter(self._video))):
            wrong += is_wrong(frame, index, self._checks)
            self._on_progress("verify", index + 1, len(self._video))
        if wrong:
            what = f"{wrong} of {len(self._video)} frames are not {checked_against(self._again)}"
            if self._checks.samples is None:
                what += ", and no samples tell rounding from damage"
            raise FormatError(f"{self._file.name}: {what}; take an undamaged copy, or encode again")

    def quantizers(self, device: torch.device) -> list[Quantizer]:
        """Those of all segments, which they measure on `device`. Raises ResourceError."""
        plans = [drawn(self._header, segment) for segment in self._header.segments]
        frame = max(plan.gradient_memory for plan in plans)
        needed, free = VALUE_BYTES * self._header.values + frame, available_memory()
        if needed > free:
            raise ResourceError(
                f"{self._file.name}: to quantize it takes {human_bytes(needed)} of memory, "
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

    def compressed(
        self, quantizers: Sequence[Quantizer], size: int | None = None, error: float | None = None
    ) -> list[bytes]:
        """The tensors of all segments, in `size` bytes, or for an `error` in frames. Raises
        UsageError where that cannot be, NothingToDoError where it makes nothing smaller."""

        def searched(done: int, total: int) -> None:
            self._on_progress("search", done, total)

        if size is not None:
            payloads = compress_to_size(quantizers, size, on_progress=searched)
            if (least := sum(map(len, payloads))) > MOST_ABOVE * size:
                raise UsageError(
                    f"{self._file.name}: the target leaves {size:,} bytes for the tensors, which "
                    f"take {least:,} at least"
                )
        else:
            payloads = compress_to_error(quantizers, error, on_progress=searched)
            if (found := sum(map(len, payloads))) >= self._coded:
                raise NothingToDoError(
                    f"{self._file.name}: its tensors take {self._coded:,} bytes already, and "
                    f"{found:,} at that loss; nothing to do"
                )
        return payloads

    def write(self, output: Path, payloads: Sequence[bytes]) -> Quality:
        """Write the file, decode it, add the checks of its frames, and only then put it in place.
        Gives the quality of its frames against the input's."""
        pairs = zip(self._counts, payloads, strict=True)
        segments = [SegmentData.of((CONTEXTS, count, payload)) for count, payload in pairs]
        decoded = DecodedFrames()
        with replacing(output) as partial:
            partial.write_bytes(self._pack(segments, None))
            with NervVideo(partial, limits=UNLIMITED) as made:
                pairs = zip(iter(self._video), computed_ahead(iter(made)), strict=True)
                for index, (before, frame) in enumerate(pairs):
                    decoded.add(frame, quality_of(before, frame))
                    self._on_progress("check", index + 1, len(made))
            data = self._pack(segments, decoded.checks(None, None))
            partial.write_bytes(data)
            if partial.read_bytes() != data:
                raise NervError(f"{output}: the disk did not give back what was written")
        return decoded.quality

    def report(
        self, output: Path, quality: Quality, coded: int, seconds: float
    ) -> RequantizeReport:
        """What was made, given its quality against the input and the bytes of its tensors."""
        header, notes = self._header, [*self._notes, *over_limits(output)]
        if lost := self._file.bytes_by_part.get("other"):
            notes.append(f"{lost:,} bytes of parts that this version does not know are left out")
        if self._psnr is None:
            reason = ", as it was requantized before" * self._again
            notes.append(f"the input states no PSNR{reason}: the new file's is not estimated")
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


def _check_file_name(value: Any, what: str) -> None:
    """Raise UsageError where `value` does not name a file."""
    if not isinstance(value, (str, os.PathLike)):
        kind = type(value).__name__
        raise UsageError(f"requantize needs the names of .nerv files: its {what} is of type {kind}")
    if str(value) == "-":
        raise UsageError(f"requantize needs the names of .nerv files: its {what} cannot be a pipe")


def _in_words(target: Target | None, loss: float | None) -> str:
    """Such as "to 60000 bytes": what is asked for, without a comma."""
    if target is None:
        return f"for a loss of {loss:g} dB"
    if target.bpp is not None:
        return f"to {target.bpp:g} bits per pixel"
    return f"to {target.size} bytes" if target.size else f"to {target.bitrate} bits per second"


def _error(decibels: float) -> float:
    """The mean squared error of a PSNR, of samples in [0, 1]."""
    return 10 ** (-decibels / 10)
