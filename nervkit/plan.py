"""The plan of an encode: number of values, expected bytes and expected time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Outlook
from nervkit.models.base import Representation, count_stored
from nervkit.models.config import ModelConfig, VideoShape

#: Bits per value that entropy coding saves: 1.3 in the median of 36 files of 8 bits, 0.4 to 3.4
#: (benchmarks/results: equal_size, rate_distortion), and about 1 for a file at 4 to 10 bits
#: (quantization).
BITS_SAVED = 1.3


@dataclass(frozen=True)
class FitPlan:
    """The plan of a fit.

    Attributes:
        model: name of the model.
        values: stored values: weights, biases and embeddings.
        bytes: expected size of the file, tracks included; with a target, the target.
        bpp: expected bits per pixel, without tracks, tags, chapters and attachments.
        steps: optimizer steps of the fit, fine-tuning included. None for a fit of a given time.
        done: steps that earlier runs made.
        seconds: time of the remaining steps: as given, or estimated from the first steps.
        threads: number of threads. None on a GPU, and for a fit of a given time, which changes it.
    """

    model: str
    values: int
    bytes: int
    bpp: float
    steps: int | None
    done: int
    seconds: float
    threads: int | None


@dataclass(frozen=True)
class FixedBytes:
    """Bytes of a file besides its tensors.

    Attributes:
        whole: all of them.
        video: the part that bits per pixel count: no tracks, tags, chapters and attachments.
    """

    whole: int
    video: int


def plan_callback(
    options: FitOptions,
    shape: VideoShape,
    fixed_bytes: Callable[[ModelConfig], FixedBytes],
    bits: tuple[int, int],
    on_plan: Callable[[FitPlan], None],
) -> Callable[[Outlook, Representation], None]:
    """Return an `on_outlook` callback that makes the plan of a fit and passes it to `on_plan`.

    Args:
        options: options of the fit.
        shape: shape of the video.
        fixed_bytes: returns the bytes besides the tensors, for a model's configuration.
        bits: bit depths of weights and of embeddings after a fit without `coded_bytes`.
        on_plan: called with the plan.
    """

    def on_outlook(outlook: Outlook, model: Representation) -> None:
        fixed = fixed_bytes(model.config)
        tensors = options.coded_bytes or estimate_quantized_bytes(
            model, bits, options.pruned_share, options.most_bits
        )
        on_plan(
            FitPlan(
                model=options.model,
                values=count_stored(model),
                bytes=fixed.whole + tensors,
                bpp=8 * (fixed.video + tensors) / shape.pixels,
                steps=outlook.steps,
                done=outlook.done,
                seconds=outlook.seconds,
                threads=outlook.threads,
            )
        )

    return on_outlook


def estimate_quantized_bytes(
    model: Representation, bits: tuple[int, int], prune: float = 0.0, most: float = math.inf
) -> int:
    """Estimate the coded bytes of a model that is quantized to the bit depths `bits`, or to at most
    `most` bits per value. A share `prune` of the weights is zero and costs only the entropy of the
    mask."""
    weights, embeddings = (
        sum(tensor.numel() for tensor in tensors.values())
        for tensors in (model.weights(), model.embeddings())
    )
    weight_bits, embedding_bits = (min(max(1.0, depth - BITS_SAVED), most) for depth in bits)
    mask_bits = -sum(p * math.log2(p) for p in (prune, 1 - prune) if p)
    weight_bits = (1 - prune) * weight_bits + mask_bits
    return round((weights * weight_bits + embeddings * embedding_bits) / 8)
