"""Compression as published, as data: what a fit does for its compression, in stages, and what is
counted. fitting/ does it; any compression suits any model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from nervkit.compression.accounting import BOOST, FFNERV, HINERV, HNERV, NERV, Accounting
from nervkit.compression.quantization import check_bits
from nervkit.errors import UsageError

Score = Literal["magnitude", "normalized"]


@dataclass(frozen=True)
class Prune:
    """Set the least of all weights to zero, and fit the rest on (NeRV, 2110.13903).

    Attributes:
        share: of the weights, in 0 to 1; biases and embeddings stay.
        score: by which weights are least: "magnitude", |w|, or "normalized", |w| over the root of
            its tensor's count (HiNeRV, 2306.09818).
        epochs: of the fit that follows.
        rate: its learning rates, over the recipe's.
    """

    share: float
    score: Score = "magnitude"
    epochs: int = 50
    rate: float = 0.3
    phase: ClassVar[str] = "fine-tune"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UsageError(f"prune must lie in 0 to 1 (exclusive), not {self.share}")
        if self.score not in ("magnitude", "normalized"):
            raise UsageError(f"score must be magnitude or normalized, not {self.score!r}")
        _check_fit(self.epochs, self.rate)


@dataclass(frozen=True)
class QuantizationAware:
    """Fit tanh(w) rounded towards zero to n = 2^(bits - 1) - 1 levels of each sign, with gradients
    as if it were not rounded (FFNeRV, 2212.12294): weights, biases and embeddings.

    Attributes:
        bits: 2 to 12.
        epochs: of a phase of its own; 0: from the start of the fit.
        rate: as of Prune.
    """

    bits: int = 8
    epochs: int = 0
    rate: float = 1.0
    phase: ClassVar[str] = "quantization-aware"

    def __post_init__(self) -> None:
        check_bits(self.bits)
        _check_fit(self.epochs, self.rate, least=0)


@dataclass(frozen=True)
class QuantNoise:
    """Fit on with most values rounded, others at each step (Fan et al., 2004.07320; HiNeRV,
    2306.09818): matrices, convolutions and fitted embeddings.

    Attributes:
        bits: 2 to 12.
        probability: that a value is rounded; its gradient is zero then.
        epochs, rate: as of Prune.
    """

    bits: int = 6
    probability: float = 0.9
    epochs: int = 30
    rate: float = 0.1
    phase: ClassVar[str] = "quantization noise"

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if not 0 <= self.probability <= 1:
            raise UsageError(f"probability must lie in 0 to 1, not {self.probability}")
        _check_fit(self.epochs, self.rate)


@dataclass(frozen=True)
class EntropyMinimisation:
    """Fit on with the bits in the loss, as long as they are too many: a learned step and a Gaussian
    for each tensor (HNeRV-Boost, 2402.18152: "consistent entropy minimization").

    Attributes:
        bits: from which the steps start, 2 to 12.
        target_bits: of a value; above it the bits are in the loss.
        weight: of the bits for each pixel of a frame.
        epochs, rate: as of Prune.
    """

    bits: int = 8
    target_bits: float = 4.0
    weight: float = 0.05
    epochs: int = 100
    rate: float = 1 / 6
    phase: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        check_bits(self.bits)
        for name in ("target_bits", "weight"):
            if not _positive(getattr(self, name)):
                raise UsageError(f"{name} must be a positive number, not {getattr(self, name)!r}")
        _check_fit(self.epochs, self.rate)


Quantization = QuantizationAware | QuantNoise | EntropyMinimisation
Stage = Prune | Quantization


@dataclass(frozen=True)
class Compression:
    """How a fit is made small.

    Attributes:
        stages: in order; those with epochs follow the fit, each as a phase of its own.
        bits, embedding_bits: of weights and embeddings that no stage quantizes; they are quantized
            after the fit.
        accounting: how the paper counts the bits; None: not at all.
    """

    stages: tuple[Stage, ...] = ()
    bits: int = 8
    embedding_bits: int = 8
    accounting: Accounting | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_bits(self.bits)
        check_bits(self.embedding_bits, "embedding_bits")
        names = [stage.phase for stage in self.stages]
        if len(set(names)) < len(names):
            raise UsageError("a compression may have one stage of each kind")
        if not all(stage.epochs for stage in self.stages[1:]):
            raise UsageError("only the first stage may hold from the start of the fit")


def _check_fit(epochs: Any, rate: Any, least: int = 1) -> None:
    """Raise UsageError where no phase of a fit can have these."""
    if type(epochs) is not int or epochs < least:
        raise UsageError(f"a stage's epochs must be a whole number from {least}, not {epochs!r}")
    if not _positive(rate):
        raise UsageError(f"a stage's rate must be a positive number, not {rate!r}")


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf


#: as published, by name
COMPRESSIONS = {
    "nerv": Compression((Prune(0.4, rate=1.0),), accounting=NERV),
    "hnerv": Compression((Prune(0.1),), embedding_bits=6, accounting=HNERV),
    "ffnerv": Compression((QuantizationAware(),), accounting=FFNERV),
    "hnerv-boost": Compression((EntropyMinimisation(),), accounting=BOOST),
    "hinerv": Compression(
        (Prune(0.15, "normalized", epochs=60, rate=1.0), QuantNoise()),
        bits=6,
        embedding_bits=6,
        accounting=HINERV,
    ),
}
PAPER = "paper"  # the compression that the model was published with


def published_name(name: str, model: str, published: str | None) -> str:
    """A name of `COMPRESSIONS`; `PAPER` is the `published` one of the model. Raises UsageError."""
    known = ", ".join(COMPRESSIONS)
    if name == PAPER and published is None:
        raise UsageError(f"{model} was published with no compression; choose from: {known}")
    wanted = published if name == PAPER and published is not None else name
    if wanted not in COMPRESSIONS:
        raise UsageError(f"unknown compression {wanted!r}; choose from: {known}, {PAPER}")
    return wanted
