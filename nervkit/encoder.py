"""video -> .nerv"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nervkit.assembly import bytes_besides_tensors, check_storable, header_of, write_checked
from nervkit.compression.quantization import check_bits
from nervkit.container.file import NervFile
from nervkit.container.header import Segment
from nervkit.container.limits import UNLIMITED
from nervkit.errors import UsageError
from nervkit.fitting.checkpoint import checkpoint_path
from nervkit.fitting.compress import compress_network
from nervkit.fitting.job import CheckpointOptions, Watch, fit_clip
from nervkit.fitting.options import FitOptions
from nervkit.fitting.posttraining import missed_size
from nervkit.fitting.progress import Progress
from nervkit.fitting.start import Start
from nervkit.lock import locked
from nervkit.models.base import count_stored
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import PAPER
from nervkit.output import check_nerv_output, linked
from nervkit.plan import FitPlan, FixedBytes, planner
from nervkit.selfcheck import SelfCheck
from nervkit.start import read_start
from nervkit.target import Target, default_bytes
from nervkit.video.clip import Clip
from nervkit.video.reader import clip_of

DEFAULT_BITS = 8  # of values that are quantized after a fit in float
LEAST_BITS = 2.0  # of a value in a fit through the quantizer to no target


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
    bits: int | None = None,
    embedding_bits: int | None = None,
    start_from: str | Path | None = None,
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
        params: stored values to aim at, such as 1.5e6 or "1.5M". Without a target they are fitted
            in float and quantized to `bits` afterwards, and so is a fit with `bits`,
            `embedding_bits`, `prune` or the paper's recipe. Any other fit sees its quantizer, and
            aims without a target at bytes that follow from the size of the video (`default_bytes`).
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
        bits, embedding_bits: of weights and embeddings that are quantized after a fit in float, 2
            to 12; 8 by default. Not with a target.
        start_from: a .nerv file of the same frames, from whose network the fit begins, in its
            size. So a file that was made serves other rates, or is improved, in few steps.
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
    if target is not None and (bits, embedding_bits) != (None, None):
        raise UsageError("--bits and --embedding-bits are for a file without a target: choose one")
    if start_from is not None and (params, strides) != (None, None):
        raise UsageError("--start-from has the network's size: leave out --params and --strides")
    values_or_bits = any(option is not None for option in (params, bits, embedding_bits))
    fitted_in_float = values_or_bits or prune > 0 or recipe == PAPER
    chosen = [DEFAULT_BITS if count is None else count for count in (bits, embedding_bits)]
    widths = chosen[0], chosen[1]
    for width, name in zip(widths, ("bits", "embedding-bits"), strict=True):
        check_bits(width, name)
    check_nerv_output(output, overwrite, source)
    keep = CheckpointOptions(checkpoint_path(output), checkpoint_interval, restart)

    watch = Watch(on_progress, on_note, stop)
    with locked(linked(output)):
        clip = clip_of(source, **reading)
        check_storable(clip)
        if on_clip is not None:
            on_clip(clip)
        shape = VideoShape(*clip.shape[:3])
        start = None if start_from is None else read_start(start_from, model, shape)
        if target is not None:
            options = _aimed(options, target, clip)
        elif not fitted_in_float:
            options = _aimed_by_default(options, shape)
        if on_plan is not None:
            fixed = partial(_fixed_bytes, clip, options)
            told = planner(options, shape, fixed, widths, on_plan)
            watch = replace(watch, on_outlook=told)
        return _encoded(
            clip, output, options, widths, target is not None, start, keep, watch, began
        )


def _aimed(options: FitOptions, target: Target, clip: Clip) -> FitOptions:
    """The options of a fit for a target: with the bytes that it leaves for the tensors of this
    clip's file, or the PSNR and the bytes to expect for it. Raises UsageError."""
    shape = VideoShape(*clip.shape[:3])
    if target.psnr is not None:
        expected = target.expected_bytes(clip.frames, options.metric, options.steps_for(shape))
        return replace(options, coded_bytes=expected, coded_psnr=target.psnr)
    fixed = _fixed_bytes(clip, options, options.model_type.configure(shape))
    start, end = clip.timing.seconds
    left = target.tensor_bytes(shape.pixels, end - start, fixed.whole, fixed.video)
    return replace(options, coded_bytes=left)


def _aimed_by_default(options: FitOptions, shape: VideoShape) -> FitOptions:
    """The options of a fit without a target: with the bytes that suit the video's size, and more
    where the model cannot be so small."""
    options = replace(options, coded_bytes=default_bytes(shape))
    network = options.model_type.skeleton(options.configure(shape), shape)
    least = round(LEAST_BITS * count_stored(network) / 8)
    return replace(options, coded_bytes=max(options.coded_bytes or 0, least))


def _fixed_bytes(clip: Clip, options: FitOptions, config: ModelConfig) -> FixedBytes:
    """The bytes of a clip's file besides the tensors."""
    segment = Segment(len(clip.frames), options.model, config.to_dict(), 1)
    header = header_of(clip, str(options.settings()), segment)
    return bytes_besides_tensors(header, clip.timing, clip.tracks, clip.extras, psnr=0.0)


def _encoded(
    clip: Clip,
    output: Path,
    options: FitOptions,
    bits: tuple[int, int],
    aimed: bool,
    start: Start | None,
    keep: CheckpointOptions,
    watch: Watch,
    began: float,
) -> EncodeReport:
    """Fit, compress and check. `bits` are those of weights and of embeddings; `aimed` says that the
    user asked for a size or a quality; `began` is when the encode did."""
    network, summary = fit_clip(
        clip.frames, options, colour=clip.colour, start=start, keep=keep, watch=watch
    )
    memory = _device_memory(next(network.parameters()).device)
    segment = compress_network(network, summary.codec, options, clip, bits, watch.stop)
    check = SelfCheck(network, clip.frames, options.model, options.coded_bytes is not None)
    check.fitted(summary.psnr)
    shape, config = network.shape, network.config.to_dict()

    values = count_stored(network)
    settings = options.settings()
    if options.coded_bytes is None:
        settings |= {"bits": bits[0], "embedding_bits": bits[1]}
    settings_text = ", ".join(f"{name} {value}" for name, value in settings.items())
    header = header_of(clip, settings_text, Segment(shape.frames, options.model, config, values))
    quality, file_notes = write_checked(
        output, header, clip, segment, check, watch.stop, options.metric
    )
    reached = quality.psnr if quality.psnr_yuv is None else quality.psnr_yuv
    coded = segment.sections[0].data
    if summary.codec is not None and aimed and (missed := summary.codec.missed(coded, reached)):
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


def _device_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
