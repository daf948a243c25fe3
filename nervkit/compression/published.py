"""Compressions as published, as data: the stages in a fit, and the accounting of bits. fitting/
implements the stages; any compression works with any model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from nervkit.compression.accounting import BOOST, FFNERV, HINERV, HNERV, NERV, Accounting
from nervkit.compression.quantization import check_bits
from nervkit.errors import UsageError
from nervkit.keywords import option

Score = Literal["magnitude", "normalized"]


@dataclass(frozen=True)
class Prune:
    """Magnitude pruning and fine-tuning (NeRV, 2110.13903).

    Attributes:
        share: of the weights that become zero, in 0 to 1; biases and embeddings stay.
        score: which weights are pruned first: of lowest "magnitude", |w|, or "normalized", |w| over
            the root of its tensor's count (HiNeRV, 2306.09818).
        epochs: of fine-tuning.
        rate: factor on the recipe's learning rates for fine-tuning.
    """

    share: float
    score: Score = "magnitude"
    epochs: int = 50
    rate: float = 0.3
    phase: ClassVar[str] = "fine-tune"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UsageError(f"{option('prune')} must lie in 0 to 1 (exclusive), not {self.share}")
        if self.score not in ("magnitude", "normalized"):
            raise UsageError(f"score must be magnitude or normalized, not {self.score!r}")
        _check_fit(self.epochs, self.rate)


@dataclass(frozen=True)
class QuantizationAware:
    """Quantization-aware fitting: tanh(w) is rounded towards zero to n = 2^(bits - 1) - 1 levels of
    each sign, with a straight-through gradient (FFNeRV, 2212.12294). This applies to weights,
    biases and embeddings.

    Attributes:
        bits: 2 to 12.
        epochs: of a phase of its own; 0: from the start of the fit.
        rate: as in Prune.
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
    """Fine-tuning with quantization noise: each step rounds a random choice of most values (Fan et
    al., 2004.07320; HiNeRV, 2306.09818). This applies to matrices, convolutions and fitted
    embeddings.

    Attributes:
        bits: 2 to 12.
        probability: that a step rounds a value, which then has no gradient.
        epochs, rate: as in Prune.
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
    """Fine-tuning with the bits in the loss while they exceed the target: a learned step size and a
    Gaussian for each tensor (HNeRV-Boost, 2402.18152: "consistent entropy minimization").

    Attributes:
        bits: of the initial step sizes, 2 to 12.
        target_bits: per value; the loss contains the bits while they exceed it.
        weight: in the loss, of the bits per pixel of a frame.
        epochs, rate: as in Prune.
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
    """A compression: stages of the fit, and quantization after it.

    Attributes:
        stages: in order; each stage with epochs is a phase of its own after the fit.
        bits, embedding_bits: of weights and embeddings that no stage quantizes, and that are
            quantized after the fit.
        accounting: the paper's accounting of bits, if any.
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
            raise UsageError("only the first stage may apply from the start of the fit (epochs=0)")


def _check_fit(epochs: Any, rate: Any, least: int = 1) -> None:
    """Raise UsageError unless a phase of a fit can have these."""
    if type(epochs) is not int or epochs < least:
        raise UsageError(f"a stage's epochs must be a whole number from {least}, not {epochs!r}")
    if not _positive(rate):
        raise UsageError(f"a stage's rate must be a positive number, not {rate!r}")


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf


#: published compressions, by name
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
PAPER = "paper"  # stands for the compression in the model's own paper


def published_name(name: str, model: str, published: str | None) -> str:
    """Return a name of `COMPRESSIONS`; `PAPER` stands for the model's `published` one. Raises
    UsageError."""
    known = ", ".join(COMPRESSIONS)
    if name == PAPER and published is None:
        raise UsageError(f"the paper of {model} has no compression; choose from: {known}")
    wanted = published if name == PAPER and published is not None else name
    if wanted not in COMPRESSIONS:
        raise UsageError(f"unknown compression {wanted!r}; choose from: {known}, {PAPER}")
    return wanted
