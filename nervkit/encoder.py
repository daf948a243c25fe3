"""video -> .nerv"""

from __future__ import annotations

import time as clock
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.quantization import check_bits
from nervkit.compression.tensors import compress_tensors
from nervkit.container.file import (
    SAMPLES,
    Checks,
    NervFile,
    pack_file,
    sample_places,
)
from nervkit.container.header import Header, Segment
from nervkit.container.limits import UNLIMITED
from nervkit.container.segment import ADAPTIVE, CONTEXTS, SegmentData
from nervkit.container.timing import Timing
from nervkit.container.track import Track
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import (
    FormatError,
    Interrupted,
    LimitError,
    NervError,
    SourceError,
    UsageError,
)
from nervkit.fitting.checkpoint import checkpoint_path
from nervkit.fitting.coding import Codec
from nervkit.fitting.job import CheckpointOptions, FitOptions, Watch, fit_clip
from nervkit.fitting.metric import RGB, YUV
from nervkit.fitting.posttraining import Quantizer, compress_to_size, missed_size
from nervkit.fitting.progress import Progress
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.fitting.shown import ShownQuality
from nervkit.lock import locked
from nervkit.metrics import Quality, mean_quality, psnr, psnr_planes, psnr_yuv, ssim
from nervkit.models.base import Representation, count_stored
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import PAPER
from nervkit.output import check_nerv_output, linked, replacing
from nervkit.plan import FitPlan, FixedBytes, planner
from nervkit.selfcheck import SelfCheck
from nervkit.target import Target
from nervkit.version import __version__
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.planes import Planes
from nervkit.video.reader import clip_of


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
        fit_seconds: of all sessions, where the fit was resumed; `seconds` is this run's, and
            `earlier_seconds` what was fitted in earlier ones.
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
    seconds: float
    fit_seconds: float
    earlier_seconds: float
    device_memory: int | None
    settings: str
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


def encode(
    source: Any,
    output: str | Path,
    *,
    model: str = "gridnerv",
    params: str | float | None = None,
    strides: str | tuple[int, ...] | None = None,
    recipe: str = "native",
    preset: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    metric: str = "rgb",
    target_size: str | int | None = None,
    target_bpp: float | None = None,
    target_bitrate: str | int | None = None,
    target_psnr: float | None = None,
    prune: float = 0.0,
    bits: int = 8,
    embedding_bits: int = 8,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    restart: bool = False,
    checkpoint_interval: float = 60.0,
    on_clip: Callable[[Clip], None] | None = None,
    on_plan: Callable[[FitPlan], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    **reading: Any,
) -> EncodeReport:
    """Overfit a representation to a video, and write it as a .nerv file.

    The file is decoded before it is renamed into place; the report says what that decode showed.
    A checkpoint lies beside the output while the fit runs; the same call goes on from it.

    Args:
        source: whatever `read_clip` takes, or a Clip.
        output: the .nerv file.
        model: a name from `model_names()`.
        params: stored values to aim at, such as 1.5e6 or "1.5M"; by default, by the video's size.
        strides: of the model's stages, such as (5, 4, 4, 2, 2); by default, by the frame's size.
        recipe: "native" (nervkit's), or "paper" (as published).
        preset: "draft", "fast" (default), "medium", "slow" or "placebo"; or one of:
        epochs, steps: how long to fit; by default with the paper's recipe, as long as the paper.
        time: how long to fit, in seconds, or "90s", "10m". The schedule follows the clock, so a
            machine that is busy for a while makes fewer steps and no other schedule; the same call
            does not give the same bits again.
        metric: what the fit is optimised for: "rgb", or "yuv" for the 6:1:1 PSNR of 4:2:0 planes
            (see `nervkit.fitting.metric`), made with the source's matrix and range.
        target_size: bytes that the whole file is to take, tracks included, such as 500_000 or
            "500k". The representation is fitted for rate and distortion then: through its
            quantizer, with its bits in the loss (NVRC, 2409.07414, section 3.3). With the paper's
            recipe it is fitted as published, and quantized by sensitivity (docs/codec.md).
        target_bpp: the same by bits per pixel of the video, without tracks, tags and attachments.
        target_bitrate: the same by bits per second of the whole file, tracks included, such as
            200_000 or "200k".
        target_psnr: the same by the quality that the video is to have: dB of the metric, mean over
            frames, 10 to 60. The representation's size follows from what H.264 takes for it.
        prune: share of weights set to zero, with the last 15% of the fit as fine-tuning.
        bits, embedding_bits: of the quantized weights and embeddings, 2 to 12.
        seed: of initial weights and order of frames.
        device: "auto", "cpu", "cuda", "cuda:N".
        precision: "auto" (bfloat16 where the hardware gains), "float32", "bfloat16".
        overwrite: replace an existing output.
        restart: discard a checkpoint instead of going on from it.
        on_clip: called with the Clip once it is read.
        on_plan: called with the FitPlan: at the start of a fit that goes by the clock, of another
            one once its first steps were timed.
        on_progress: called about once a second while fitting.
        on_note: called with what went wrong in the fit and was mended or left out, as it happens.
        stop: asked before each step; once True, a checkpoint is saved and Interrupted raised.
        reading: options of `read_clip`.

    Raises:
        UsageError, SourceError, OutputError, ResourceError, Interrupted: see nervkit.errors.
        ModelError: the file would show much less than the fit.
    """
    began = clock.perf_counter()
    output = Path(output)
    options = FitOptions(
        model=model,
        params=params,
        strides=strides,
        recipe=recipe,
        preset=preset,
        epochs=epochs,
        steps=steps,
        time=time,
        metric=metric,
        prune=prune,
        seed=seed,
        device=device,
        precision=precision,
    )
    target = Target.of(target_size, target_bpp, target_bitrate, target_psnr)
    if target_psnr is not None and recipe == PAPER:
        raise UsageError("target-psnr needs a fit through the quantizer: leave out --recipe paper")
    check_bits(bits)
    check_bits(embedding_bits, "embedding-bits")
    check_nerv_output(output, overwrite, source)
    keep = CheckpointOptions(checkpoint_path(output), checkpoint_interval, restart)

    watch = Watch(on_progress, on_note, stop)
    with locked(linked(output)):
        clip = clip_of(source, **reading)
        _check_storable(clip)
        if on_clip is not None:
            on_clip(clip)
        shape = VideoShape(*clip.shape[:3])
        if target is not None and target.psnr is not None:
            expected = target.expected_bytes(clip.frames, metric)
            options = replace(options, coded_bytes=expected, coded_psnr=target.psnr)
        elif target is not None:
            fixed = _fixed_bytes(clip, options, options.model_type.configure(shape))
            start, end = clip.timing.seconds
            left = target.tensor_bytes(shape.pixels, end - start, fixed.whole, fixed.video)
            options = replace(options, coded_bytes=left)
        if on_plan is not None:
            fixed_bytes = partial(_fixed_bytes, clip, options)
            told = planner(options, shape, fixed_bytes, (bits, embedding_bits), on_plan)
            watch = replace(watch, on_outlook=told)
        return _encoded(clip, output, options, (bits, embedding_bits), keep, watch, began)


def _encoded(
    clip: Clip,
    output: Path,
    options: FitOptions,
    bits: tuple[int, int],
    keep: CheckpointOptions,
    watch: Watch,
    began: float,
) -> EncodeReport:
    """Fit, compress and check. `bits` are those of weights and of embeddings; `began` is when the
    encode did."""
    network, summary = fit_clip(clip.frames, options, colour=clip.colour, keep=keep, watch=watch)
    memory = _device_memory(next(network.parameters()).device)
    segment = _compressed(network, summary.codec, bits, options, clip, watch.stop)
    check = SelfCheck(network, clip.frames, options.model, options.coded_psnr is not None)
    check.fitted(summary.psnr)
    shape, config = network.shape, network.config.to_dict()

    values = count_stored(network)
    settings = options.settings() | {"bits": bits[0], "embedding_bits": bits[1]}
    settings_text = ", ".join(f"{name} {value}" for name, value in settings.items())
    header = _header(clip, settings_text, Segment(shape.frames, options.model, config, values))
    quality, file_notes = write_checked(
        output, header, clip, segment, check, watch.stop, options.metric
    )
    reached = quality.psnr if quality.psnr_yuv is None else quality.psnr_yuv
    coded = segment.sections[0].data
    if summary.codec is not None and (missed := summary.codec.missed(coded, reached)):
        file_notes.append(missed)
    if summary.codec is None and options.coded_bytes is not None:
        file_notes += missed_size(segment.size, options.coded_bytes)
    for note in file_notes if watch.on_note is not None else ():
        watch.on_note(note)
    keep.path.unlink(missing_ok=True)
    with NervFile(output, UNLIMITED) as file:
        parts = file.bytes_by_part
        coded = segment.size
        return EncodeReport(
            output=str(output),
            frames=shape.frames,
            width=shape.width,
            height=shape.height,
            fps=float(clip.fps),
            model=options.model,
            config=config,
            parameters=values,
            steps=summary.steps,
            metric=options.metric,
            psnr=quality.psnr,
            psnr_yuv=quality.psnr_yuv,
            ssim=quality.ssim,
            bytes=file.size,
            bytes_by_part=parts,
            bpp=file.bpp,
            bits_per_parameter=8 * coded / values,
            seconds=clock.perf_counter() - began,
            fit_seconds=summary.seconds,
            earlier_seconds=summary.earlier_seconds,
            device_memory=memory,
            settings=settings_text,
            notes=[*clip.notes, *summary.notes, *file_notes],
        )


def _compressed(
    network: Representation,
    codec: Codec | None,
    bits: tuple[int, int],
    options: FitOptions,
    clip: Clip,
    stop: Callable[[], bool],
) -> SegmentData:
    """The coded tensors: in the bytes or with the PSNR that they were fitted for, and the network
    becomes what the fit saw in the end; or quantized after the fit, by sensitivity to a number of
    bytes, or to `bits` bits of weights and of embeddings. The network is moved to the CPU."""

    def measured(done: int, total: int) -> None:
        if stop():
            raise Interrupted("stopped while the fit was quantized", resumable=True)

    count = len(network.stored())
    if codec is None and options.coded_bytes is not None:
        derivatives = mean_squared_derivatives(network, on_progress=measured)
        quantizer = Quantizer(network.cpu(), derivatives)
        payload = compress_to_size([quantizer], options.coded_bytes)[0]
        return SegmentData.of((CONTEXTS, count, payload))
    if codec is not None and options.coded_psnr is not None:
        shown = ShownQuality(network, clip.frames, options.metric, clip.colour, stop)
        payload = codec.compress(network, shown)
    elif codec is not None:
        payload = codec.compress(network)
    if codec is not None:
        network.load_stored(codec.rounded(network))
        network.cpu()
        return SegmentData.of((CONTEXTS, count, payload))
    network.cpu()
    groups = [
        (ADAPTIVE, len(tensors), compress_tensors(_arrays(tensors), width))
        for tensors, width in zip((network.weights(), network.embeddings()), bits, strict=True)
        if tensors
    ]
    return SegmentData.of(*groups)


def write_checked(
    output: Path,
    header: Header,
    clip: Clip,
    segment: SegmentData,
    check: SelfCheck,
    stop: Callable[[], bool],
    metric: str = RGB,
) -> tuple[Quality, list[str]]:
    """Write the file, decode it, add what the decode showed, and only then put it in place. Gives
    the decode's quality, of planes too where that is the `metric`, and notes on it and on what
    others need to decode it."""
    with replacing(output) as partial:

        def write(checks: Checks | None) -> None:
            parts = (header, clip.timing, [segment], clip.tracks, checks, clip.extras)
            partial.write_bytes(pack_file(*parts))

        write(None)
        frame_quality, crcs, samples = [], [], []
        with NervVideo(partial, limits=UNLIMITED) as video:
            notes = check.decoded(video)
            for reference, frame in zip(clip.frames, computed_ahead(iter(video)), strict=True):
                if stop():
                    raise Interrupted("stopped while the file was checked", resumable=True)
                planes = _psnr_yuv(reference, frame, clip.colour) if metric == YUV else None
                shown = Quality(psnr(reference, frame), ssim(reference, frame), planes)
                frame_quality.append(shown)
                samples.append(frame.ravel()[sample_places(len(crcs), frame.size)])
                crcs.append(zlib.crc32(frame))
        quality = mean_quality(frame_quality)
        checks = Checks(quality.psnr, quality.ssim, np.array(crcs, np.uint32), np.stack(samples))
        write(checks)
        with NervVideo(partial, limits=UNLIMITED) as video:
            video.file.check_all()
            kept = (video.file.segment(0), video.timing, video.tracks, video.file.extras())
            if kept != (segment, clip.timing, list(clip.tracks), clip.extras):
                raise NervError(f"{output}: the disk did not give back what was written")
        return quality, notes + over_limits(partial)


def _psnr_yuv(reference: np.ndarray, frame: np.ndarray, colour: Colour) -> float:
    """6:1:1 PSNR in dB of the planes that two (H, W, 3) uint8 frames convert to."""
    planes = (Planes.from_rgb(picture, colour) for picture in (reference, frame))
    return psnr_yuv(*psnr_planes(*planes, *frame.shape[:2]))


def over_limits(path: Path) -> list[str]:
    """A note where a file declares more than decoders do by default."""
    try:
        NervVideo(path).close()
    except LimitError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"who decodes this file must raise a limit: {reason}"]
    return []


def _check_storable(clip: Clip) -> None:
    """Refuse before the fit what the file could not hold. Raises SourceError."""
    try:
        timing = Timing.unpack(clip.timing.pack(), len(clip.timing))
        tracks = [Track.unpack(track.pack()) for track in clip.tracks]
        if (timing, tracks) != (clip.timing, list(clip.tracks)):
            raise FormatError("times do not come back as they are")
        _header(clip, "", Segment(len(clip.frames), "any", {}, 1)).pack()
    except FormatError as error:
        raise SourceError(f"the source cannot be stored: {error}") from error


def _header(clip: Clip, settings: str, segment: Segment) -> Header:
    """The header of a file of one segment."""
    _, height, width, _ = clip.shape
    return Header(
        width=width,
        height=height,
        sample_aspect_ratio=clip.sample_aspect_ratio,
        colour=clip.colour.to_dict(),
        source=clip.source,
        edit=clip.edit,
        encoder={"version": f"nervkit {__version__}", "settings": settings},
        segments=(segment,),
    )


def _fixed_bytes(clip: Clip, options: FitOptions, config: ModelConfig) -> FixedBytes:
    """The bytes of a file besides its tensors, by a file that has all but them."""
    shape = VideoShape(*clip.shape[:3])
    segment = Segment(shape.frames, options.model, config.to_dict(), 1)
    header = _header(clip, str(options.settings()), segment)
    zeros = np.zeros((shape.frames, SAMPLES), np.uint8)
    checks = Checks(0.0, None, np.zeros(shape.frames, np.uint32), zeros)
    empty = [SegmentData.of((CONTEXTS, 1, b""))]
    data = pack_file(header, clip.timing, empty, clip.tracks, checks, clip.extras)
    video = pack_file(header, clip.timing, empty, (), checks)
    return FixedBytes(len(data), len(video))


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {k: v.detach().float().cpu().contiguous().numpy() for k, v in tensors.items()}


def _device_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
