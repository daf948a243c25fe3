"""What an encode is going to make: how many values, in about how many bytes and how much time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Outlook
from nervkit.models.base import Representation, count_stored
from nervkit.models.config import ModelConfig, VideoShape

#: that entropy coding takes off a value's bits: 1.3 in the median of 36 files of 8 bits, from 0.4
#: to 3.4 (benchmarks/results: equal_size, rate_distortion), about 1 of one file of 4 to 10 bits
#: (quantization)
BITS_SAVED = 1.3


@dataclass(frozen=True)
class FitPlan:
    """What an encode is going to fit.

    Attributes:
        model: name of the model.
        values: stored values: weights, biases and embeddings.
        bytes: expected size of the whole file, tracks included; with a target, the target.
        bpp: expected bits per pixel, without tracks, tags, chapters and attachments.
        steps: optimizer steps of the whole fit, with fine-tuning. None for a fit of a given time.
        done: steps that earlier runs made.
        seconds: time of the remaining fit: as given, or estimated from the first steps.
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
    """Bytes of a file besides its tensors: `whole`, and `video` of them that bpp counts."""

    whole: int
    video: int


def planner(
    options: FitOptions,
    shape: VideoShape,
    fixed_bytes: Callable[[ModelConfig], FixedBytes],
    bits: tuple[int, int],
    on_plan: Callable[[FitPlan], None],
) -> Callable[[Outlook, Representation], None]:
    """What makes a plan of a fit's outlook and its model. `bits` are those of weights and of
    embeddings, which a fit without `coded_bytes` is quantized to."""

    def tell(outlook: Outlook, model: Representation) -> None:
        fixed = fixed_bytes(model.config)
        tensors = options.coded_bytes or quantized_bytes(
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

    return tell


def quantized_bytes(
    model: Representation, bits: tuple[int, int], prune: float = 0.0, most: float = math.inf
) -> int:
    """About how many bytes a model takes that is quantized after its fit, or by it to at the `most`
    so many bits a value. Of weights, a share of `prune` is zero, and costs what it takes to say
    which."""
    weights, embeddings = (
        sum(tensor.numel() for tensor in tensors.values())
        for tensors in (model.weights(), model.embeddings())
    )
    of_weight, of_embedding = (min(max(1.0, count - BITS_SAVED), most) for count in bits)
    which = -sum(p * math.log2(p) for p in (prune, 1 - prune) if p)
    return round((weights * ((1 - prune) * of_weight + which) + embeddings * of_embedding) / 8)
