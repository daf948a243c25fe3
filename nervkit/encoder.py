"""video -> .nerv"""

from __future__ import annotations

import hashlib
import re
import time as clock
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.pruning import alive
from nervkit.compression.pruning import prune as prune_weights
from nervkit.compression.quantization import check_bits
from nervkit.compression.tensors import compress_tensors
from nervkit.container.file import Checks, NervFile, SegmentData, pack_file
from nervkit.container.header import Header, Segment
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import Interrupted, NervError, ResourceError, UsageError
from nervkit.fitting.budget import Budget
from nervkit.fitting.checkpoint import Checkpoint
from nervkit.fitting.loop import FitSummary, Stepper, fit, measure_step
from nervkit.fitting.progress import Progress
from nervkit.metrics import Quality, mean_quality, psnr, ssim
from nervkit.models.base import Representation, TooFewParametersError, count_stored
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import choose_device
from nervkit.models.recipe import Recipe
from nervkit.models.registry import load_model
from nervkit.output import check_output, replacing
from nervkit.version import __version__
from nervkit.video.clip import Clip
from nervkit.video.edit import parse_seconds
from nervkit.video.reader import read_clip

FINE_TUNE_SHARE = 0.15  # of all steps go to fine-tuning after pruning, as HNeRV's 50 of 350 epochs
FINE_TUNE_RATE = 0.3  # of the recipe's rates
MEASURE_SHARE, MEASURE_SECONDS = 0.03, 5.0  # of a time budget goes into measuring the speed


@dataclass(frozen=True)
class EncodeReport:
    """What an encode made, as a decoder shows it.

    Attributes:
        psnr: dB, mean over frames of 8-bit RGB.
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
    psnr: float
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
        epochs, steps: how long to fit.
        time: how long to fit, in seconds, or "90s", "10m"; the speed is measured first.
        prune: share of weights set to zero, with the last 15% of the steps as fine-tuning.
        bits, embedding_bits: of the quantized weights and embeddings, 2 to 12.
        seed: of initial weights and order of frames.
        device: "auto", "cpu", "cuda", "cuda:N".
        precision: "auto" (bfloat16 where the hardware gains), "float32", "bfloat16".
        overwrite: replace an existing output.
        restart: discard a checkpoint instead of going on from it.
        on_clip: called with the Clip once it is read.
        on_progress: called about once a second while fitting.
        on_note: called with what went wrong in the fit and was mended, as it happens.
        stop: asked before each step; once True, a checkpoint is saved and Interrupted raised.
        reading: options of `read_clip`.

    Raises:
        UsageError, SourceError, OutputError, ResourceError, Interrupted: see nervkit.errors.
    """
    began = clock.perf_counter()
    output = Path(output)
    model_type, budget = settle(
        model,
        recipe=recipe,
        preset=preset,
        epochs=epochs,
        steps=steps,
        time=time,
        prune=prune,
        bits=bits,
        embedding_bits=embedding_bits,
        seed=seed,
    )
    chosen = choose_device(device)
    if output.suffix.lower() != ".nerv":
        raise UsageError(f"{output}: the output's name must end in .nerv")
    check_output(output, overwrite, source)

    clip = source if isinstance(source, Clip) else read_clip(source, **reading)
    if on_clip is not None:
        on_clip(clip)
    shape = VideoShape(*clip.shape[:3])
    config = choose_config(model_type, shape, params, strides)
    torch.manual_seed(seed)
    try:
        network = model_type(config, shape).to(chosen)
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(chosen)
    except torch.cuda.OutOfMemoryError as error:
        raise ResourceError(
            f"the frames do not fit on {chosen}; try --resize or --device cpu"
        ) from error
    settings = {
        "recipe": recipe,
        "budget": str(budget),
        "prune": prune,
        "seed": seed,
        "device": chosen.type,
        "precision": precision,
        "torch": torch.__version__,
    }
    fitted = {"model": model, "config": config.to_dict(), "frames": _fingerprint(clip.frames)}
    checkpoint = Checkpoint(
        output.with_name(output.name + ".checkpoint"), fitted | settings, checkpoint_interval
    )
    if restart:
        checkpoint.delete()
    job = FitJob(network, frames, model_type.recipes[recipe], budget, prune, seed, precision)
    summary = job.run(checkpoint, on_progress, on_note, stop)

    segment = SegmentData(
        compress_tensors(_arrays(network.weights()), bits),
        compress_tensors(_arrays(network.embeddings()), embedding_bits)
        if network.embedding_names
        else b"",
    )
    values = count_stored(network)
    settings |= {"bits": bits, "embedding_bits": embedding_bits}
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    header = Header(
        width=shape.width,
        height=shape.height,
        sample_aspect_ratio=clip.sample_aspect_ratio,
        colour=clip.colour.to_dict(),
        source=clip.source,
        edit=clip.edit,
        encoder={"version": f"nervkit {__version__}", "settings": told},
        segments=(Segment(shape.frames, model, config.to_dict(), values),),
    )
    quality = write_checked(output, header, clip, segment, stop)
    checkpoint.delete()
    with NervFile(output) as file:
        parts = file.bytes_by_part
        coded = len(segment.weights) + len(segment.embeddings)
        return EncodeReport(
            output=str(output),
            frames=shape.frames,
            width=shape.width,
            height=shape.height,
            fps=float(clip.fps),
            model=model,
            config=config.to_dict(),
            parameters=values,
            steps=summary.steps,
            psnr=quality.psnr,
            ssim=quality.ssim,
            bytes=file.size,
            bytes_by_part=parts,
            bpp=file.bpp,
            bits_per_parameter=8 * coded / values,
            seconds=clock.perf_counter() - began,
            fit_seconds=summary.seconds,
            earlier_seconds=summary.earlier_seconds,
            device_memory=_device_memory(chosen),
            settings=told,
            notes=[*clip.notes, *summary.notes],
        )


def settle(
    model: str,
    *,
    recipe: str = "native",
    preset: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    prune: float = 0.0,
    bits: int = 8,
    embedding_bits: int = 8,
    seed: int = 0,
) -> tuple[type[Representation], Budget]:
    """The model and the budget that options of `encode` name. Raises UsageError."""
    seconds = None if time is None else float(parse_seconds(time, "time"))
    budget = Budget.choose(preset, epochs, steps, seconds)
    check_bits(bits)
    check_bits(embedding_bits, "embedding-bits")
    if not 0 <= prune < 1:
        raise UsageError(f"prune must lie in 0 to 1 (exclusive), not {prune}")
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"seed must lie in 0 to 2^63 - 1, not {seed}")
    model_type = load_model(model)
    if recipe not in model_type.recipes:
        known = ", ".join(model_type.recipes)
        raise UsageError(f"unknown recipe {recipe!r} for {model}; choose from: {known}")
    return model_type, budget


def write_checked(
    output: Path, header: Header, clip: Clip, segment: SegmentData, stop: Callable[[], bool]
) -> Quality:
    """Write the file, decode it, add what the decode showed, and only then put it in place."""
    with replacing(output) as partial:
        partial.write_bytes(pack_file(header, clip.timing, [segment], clip.tracks))
        frame_quality, crcs = [], []
        with NervVideo(partial) as video:
            for reference, frame in zip(clip.frames, computed_ahead(iter(video)), strict=True):
                if stop():
                    raise Interrupted("stopped while the file was checked")
                frame_quality.append(Quality(psnr(reference, frame), ssim(reference, frame)))
                crcs.append(zlib.crc32(frame))
        quality = mean_quality(frame_quality)
        checks = Checks(quality.psnr, quality.ssim, np.array(crcs, np.uint32))
        partial.write_bytes(pack_file(header, clip.timing, [segment], clip.tracks, checks))
        with NervVideo(partial) as video:
            if video.file.segment(0) != segment:
                raise NervError(f"{output}: the disk did not give back what was written")
    return quality


@dataclass
class FitJob:
    """The phases of one fit: the fit itself and, where weights are pruned, the fine-tuning."""

    model: Representation
    frames: Tensor
    recipe: Recipe
    budget: Budget
    prune: float
    seed: int
    precision: str

    def run(
        self,
        checkpoint: Checkpoint,
        on_progress: Callable[[Progress], None] | None,
        on_note: Callable[[str], None] | None,
        stop: Callable[[], bool],
    ) -> FitSummary:
        """Run what is left of the phases, given what `checkpoint` holds."""
        began = clock.perf_counter()
        saved = checkpoint.load()
        if saved is None:
            self.model.start_fit(self.frames)
        earlier = saved.progress["before"] + saved.progress["seconds"] if saved else 0.0
        stepper = self._stepper(self.recipe)
        total = saved.progress["total"] if saved else self._total_steps(stepper, began)
        tuning = max(1, round(FINE_TUNE_SHARE * total)) if self.prune else 0
        common: dict[str, Any] = {
            "checkpoint": checkpoint,
            "on_progress": on_progress,
            "on_note": on_note,
            "stop": stop,
        }

        if saved is None or saved.progress["phase"] == "fit":
            record = {"phase": "fit", "total": total, "before": 0.0}
            summary = fit(stepper, max(1, total - tuning), record=record, saved=saved, **common)
            if not tuning:
                return replace(summary, earlier_seconds=earlier)
            record = {
                "phase": "fine-tune",
                "total": total,
                "before": summary.seconds,
                "notes": summary.notes,
            }
            keep, saved = prune_weights(self.model, self.prune), None
        else:
            record = {k: saved.progress[k] for k in ("phase", "total", "before", "notes")}
            saved.restore(self.model, [])
            keep = alive(self.model)
        rate = FINE_TUNE_RATE
        gentle = replace(
            self.recipe,
            lr=self.recipe.lr * rate,
            matrix_lr=self.recipe.matrix_lr and self.recipe.matrix_lr * rate,
            embedding_lr=self.recipe.embedding_lr and self.recipe.embedding_lr * rate,
        )
        tuned = fit(self._stepper(gentle, keep), tuning, record=record, saved=saved, **common)
        notes = (*record["notes"], *tuned.notes)
        return FitSummary(total, record["before"] + tuned.seconds, earlier, notes)

    def _stepper(self, recipe: Recipe, keep: dict[str, Tensor] | None = None) -> Stepper:
        return Stepper(
            self.model, self.frames, recipe, seed=self.seed, keep=keep, precision=self.precision
        )

    def _total_steps(self, stepper: Stepper, began: float) -> int:
        sizes = stepper.steps_per_epoch, stepper.pixels_per_step
        if self.budget.seconds is None:
            return self.budget.total_steps(*sizes)
        measuring = min(MEASURE_SECONDS, MEASURE_SHARE * self.budget.seconds)
        step_seconds = measure_step(stepper, measuring)
        left = max(1e-3, self.budget.seconds - (clock.perf_counter() - began))
        return replace(self.budget, seconds=left).total_steps(*sizes, step_seconds)


def choose_config(
    model_type: type[Representation],
    shape: VideoShape,
    params: str | float | None,
    strides: str | tuple[int, ...] | None,
) -> ModelConfig:
    """The model's configuration for what the user asked, or did not ask. See `encode`."""
    options = {} if strides is None else {"strides": parse_strides(strides)}
    if params is not None:
        return model_type.configure(shape, parse_count(params), **options)
    try:
        return model_type.configure(shape, default_parameters(shape), **options)
    except TooFewParametersError as error:
        return model_type.configure(shape, error.least, **options)


def default_parameters(shape: VideoShape) -> int:
    """Stored values to aim at where the user does not say: 0.75M for the papers' 132 frames of
    720p, and less than in proportion for less video, which needs more bits a pixel; never more
    than a quarter of the samples."""
    reference = 132 * 720 * 1280
    count = max(20_000, round(750_000 * (shape.pixels / reference) ** 0.6))
    return max(1, min(count, 3 * shape.pixels // 4))


def parse_count(text: str | float) -> int:
    """A number of parameters from 1500000, "1.5M" or "350k"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kKmM]?)", str(text).strip())
    count = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0
    if not 1 <= count <= 1e9:
        raise UsageError(f"params must be a number such as 350k or 1.5M, not {text!r}")
    return round(count)


def parse_strides(strides: str | tuple[int, ...]) -> tuple[int, ...]:
    """Strides from "5,4,4,2,2" or a sequence."""
    parts = strides if isinstance(strides, (tuple, list)) else str(strides).split(",")
    if not all(str(part).strip().isdecimal() for part in parts):
        raise UsageError(f"strides must be whole numbers such as 5,4,4,2,2, not {strides!r}")
    return tuple(int(part) for part in parts)


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {k: v.detach().float().cpu().contiguous().numpy() for k, v in tensors.items()}


def _device_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _fingerprint(frames: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()[:16]
