"""Quantizers in the loop of a fit: what all of them have, and those of papers, whose parameters are
data in compression/published.py."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nervkit.compression.published import (
    EntropyMinimisation,
    Quantization,
    QuantizationAware,
    QuantNoise,
)
from nervkit.compression.quantization import (
    LADDER_SIZE,
    LOWEST_EXPONENT,
    MAX_BITS,
    STEPS_PER_OCTAVE,
    Quantized,
    ladder_step,
    peak,
)
from nervkit.models.base import Representation
from nervkit.models.recipe import Loss, Recipe

LEAST_ERROR = 1e-10  # lower bound of an error before its logarithm is taken
LEAST_REACH = 0.01  # lower bound of a tensor's largest value, which sets its first step size
LEAST_VARIANCE = 1e-6  # added to the variance of a tensor's values in steps
LEAST_LIKELIHOOD = 1e-5  # added to the likelihood of a value
LEAST_AXIS = 20  # an axis longer than this has a step size per index (HiNeRV: 5% side information)


class StepKind(NamedTuple):
    """What a quantizer does in a step of a fit, besides changes in tensors. A CUDA graph records a
    step for each kind.

    Attributes:
        rounding: whether values are rounded; otherwise noise stands in for rounding.
        rate: whether the rate is part of the loss.
    """

    rounding: bool = False
    rate: bool = False


class FitQuantizer(nn.Module):
    """Replaces a model's tensors by quantized ones while the model is fitted. It is part of the
    fit and of its checkpoints, and decides what the file stores."""

    def step_kind(self, k: int, progress: float, recipe: Recipe) -> StepKind:
        """Return the kind of step `k`, at `progress` in [0, 1) of the fit. All else that changes
        from step to step must be in tensors, so that a CUDA graph can record a step."""
        return StepKind()

    @abstractmethod
    def forward(
        self, values: Mapping[str, Tensor], rounding: bool = False, rate: bool = False
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return replacements for the model's tensors `values`, by name, and the tensors that
        `objective` needs, in a step of the StepKind (rounding, rate)."""

    def embedded(self, name: str, values: Tensor) -> Tensor:
        """Return the replacement for embeddings (B, ...) that a model computes from frames."""
        return values

    def objective(
        self,
        loss: Tensor,
        error: Tensor,
        criterion: Loss,
        coded: list[Tensor],
        rounding: bool = False,
        rate: bool = False,
    ) -> Tensor:
        """Return what the fit minimizes.

        Args:
            loss: the recipe's loss, computed by `criterion`.
            error: of the displayed frames, without a gradient.
            criterion: the Loss of the fit.
            coded: the tensors that `forward` returned for `objective`.
            rounding, rate: the StepKind.
        """
        return loss

    @abstractmethod
    def rounded(self, model: Representation) -> dict[str, Tensor]:
        """Return the model's tensors as the file stores them, by name."""


class Levels(NamedTuple):
    """A tensor as it is stored: integers `q` times step sizes, which broadcast. `ladder` holds the
    positions of the step sizes on the ladder: (1,), or one for each index of `axis`."""

    q: Tensor
    step: Tensor
    ladder: Tensor
    axis: int | None = None


class StageQuantizer(FitQuantizer):
    """The quantizer of a stage of a published compression. It quantizes the parameters with
    gradients; all other stored tensors are quantized after the fit."""

    bits: int
    ladder: Tensor

    def __init__(self, model: Representation) -> None:
        super().__init__()
        ladder = torch.from_numpy(ladder_step(np.arange(LADDER_SIZE)))
        self.register_buffer("ladder", ladder, persistent=False)
        fitted = {name for name, p in model.named_parameters() if p.requires_grad}
        stored = model.stored()
        self.names = [name for name in stored if name in fitted]

    @abstractmethod
    def levels(self, name: str, value: Tensor) -> Levels:
        """Return a fitted tensor as it is stored."""

    def embedded_levels(self, name: str, value: Tensor) -> Levels | None:
        """Return an embedding from `embedded` as it is stored; None if `embedded` never saw this
        name."""
        return None

    @torch.no_grad()
    def rounded(self, model: Representation) -> dict[str, Tensor]:
        tensors, found = model.stored(), {}
        for name in self.names:
            levels = self.levels(name, tensors[name])
            found[name] = levels.q * levels.step
        return found

    @torch.no_grad()
    def quantized(self, model: Representation) -> dict[str, Quantized]:
        """Return every tensor that the fit has quantized, by name: exactly the values that the last
        step used."""
        found = {}
        for name, value in model.stored().items():
            if name in self.names:
                levels: Levels | None = self.levels(name, value)
            else:
                levels = self.embedded_levels(name, value)
            if levels is not None:
                q, index = (x.int().cpu().contiguous().numpy() for x in (levels.q, levels.ladder))
                found[name] = Quantized(q, index, levels.axis, self.bits)
        return found


class TanhQuantizer(StageQuantizer):
    """Rounds tanh(w) towards zero to n levels of each sign, with a straight-through gradient
    (FFNeRV, 2212.12294). The step size is the one on the ladder nearest to 1 / n: 1 / 128 for
    1 / 127."""

    def __init__(self, model: Representation, stage: QuantizationAware) -> None:
        super().__init__(model)
        self.bits, self.most = stage.bits, peak(stage.bits)
        self.index = round((math.log2(1 / self.most) - LOWEST_EXPONENT) * STEPS_PER_OCTAVE)
        self._embedded: set[str] = set()

    def forward(
        self, values: Mapping[str, Tensor], rounding: bool = False, rate: bool = False
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        return {name: self._quantize(values[name]) for name in self.names}, []

    def _quantize(self, value: Tensor) -> Tensor:
        scaled = value.tanh() * self.most
        return straight_through(scaled.trunc(), scaled) * self.ladder[self.index]

    def embedded(self, name: str, values: Tensor) -> Tensor:
        self._embedded.add(name)
        return self._quantize(values.float())

    def levels(self, name: str, value: Tensor) -> Levels:
        return self._levels((value.tanh() * self.most).trunc())

    def embedded_levels(self, name: str, value: Tensor) -> Levels | None:
        if name not in self._embedded:
            return None
        return self._levels((value / self.ladder[self.index]).round())

    def _levels(self, q: Tensor) -> Levels:
        return Levels(q, self.ladder[self.index], torch.tensor([self.index]))


class NoiseQuantizer(StageQuantizer):
    """Rounds each value with a probability; rounded values have no gradient (HiNeRV, 2306.09818).

    It quantizes matrices and grids and leaves vectors as they are. Step sizes cover the largest
    value of the tensor, or of each index of the longer of its first two axes.
    """

    def __init__(self, model: Representation, stage: QuantNoise) -> None:
        super().__init__(model)
        self.bits, self.probability = stage.bits, stage.probability
        tensors = model.stored()
        self.names = [name for name in self.names if tensors[name].ndim > 1]

    def forward(
        self, values: Mapping[str, Tensor], rounding: bool = False, rate: bool = False
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        found = {}
        for name in self.names:
            value = values[name]
            with torch.no_grad():
                levels = self.levels(name, value)
                quantized = levels.q * levels.step
                chosen = torch.rand_like(value) < self.probability
            found[name] = torch.where(chosen, quantized, value)
        return found, []

    def levels(self, name: str, value: Tensor) -> Levels:
        axis = max((0, 1), key=lambda a: value.shape[a])
        chosen = axis if value.shape[axis] > LEAST_AXIS else None
        others = [a for a in range(value.ndim) if a != axis] if chosen is not None else None
        largest = value.abs().amax(others).view(-1) if others else value.abs().amax().view(1)
        most = peak(self.bits)
        index = _ladder_position((largest / most).clamp(min=1e-30).log2()).ceil()
        index = index.clamp(0, LADDER_SIZE - 1).long()
        step = self.ladder[index]
        if chosen is not None:
            step = step.view([-1 if a == chosen else 1 for a in range(value.ndim)])
        return Levels((value / step).round().clamp(-most, most), step, index, chosen)


class EntropyQuantizer(StageQuantizer):
    """Rounds values to a learned step size for each tensor, and adds their bits to the loss while
    they exceed the target (HNeRV-Boost, 2402.18152).

    The bits of a tensor are those of its values in steps plus uniform noise, by a Gaussian of their
    mean and deviation. The loss enters by its logarithm, so that the weight of the bits does not
    depend on the recipe's loss; the weight is the paper's.
    """

    bits = MAX_BITS

    def __init__(self, model: Representation, stage: EntropyMinimisation, pixels: int) -> None:
        """`pixels` is the number of pixels in a frame."""
        super().__init__(model)
        self.stage, self.pixels = stage, pixels
        tensors = model.stored()
        embedded = [name for name in model.embeddings() if name not in self.names]
        self.frames = model.shape.frames
        count = sum(tensors[name].numel() for name in self.names + embedded)
        self.target = stage.target_bits * count
        self._places = {name: place for place, name in enumerate(self.names + embedded)}
        largest = [tensors[name].detach().float().abs().amax() for name in self._places]
        steps = torch.stack(largest).clamp(min=LEAST_REACH) / peak(stage.bits)
        self.log_steps = nn.Parameter(steps.log2())
        #: of the embeddings that the model computed in this step, their values in steps
        self._embedded: dict[str, Tensor] = {}

    def _step(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a tensor's step size, exactly as on the ladder, with the gradient of the learned
        one; and its ladder position."""
        learned = self.log_steps[self._places[name]]
        index = _ladder_position(learned.detach()).round().clamp(0, LADDER_SIZE - 1).long()
        return straight_through(self.ladder[index], learned.exp2()), index

    def _quantize(self, name: str, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return a tensor as it is stored, and its values in steps before rounding."""
        step, _ = self._step(name)
        code = value / step
        return straight_through(_clamped(code.round()), code) * step, code

    def forward(
        self, values: Mapping[str, Tensor], rounding: bool = False, rate: bool = False
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        self._embedded.clear()
        found, codes = {}, []
        for name in self.names:
            found[name], code = self._quantize(name, values[name])
            codes.append(code)
        return found, codes

    def embedded(self, name: str, values: Tensor) -> Tensor:
        quantized, self._embedded[name] = self._quantize(name, values.float())
        return quantized

    def objective(
        self,
        loss: Tensor,
        error: Tensor,
        criterion: Loss,
        coded: list[Tensor],
        rounding: bool = False,
        rate: bool = False,
    ) -> Tensor:
        bits = sum((gaussian_bits(code) for code in coded), torch.zeros((), device=loss.device))
        for code in self._embedded.values():
            bits = bits + gaussian_bits(code) * (self.frames / len(code))
        weight = self.stage.weight / self.pixels * (bits.detach() > self.target)
        return criterion.error(loss).clamp(min=LEAST_ERROR).log() + weight * bits

    def levels(self, name: str, value: Tensor) -> Levels:
        step, index = self._step(name)
        return Levels(_clamped((value / step).round()), step, index.view(1))

    def embedded_levels(self, name: str, value: Tensor) -> Levels | None:
        return self.levels(name, value) if name in self._places else None


def gaussian_bits(code: Tensor) -> Tensor:
    """Return the bits of rounded values in steps, a scalar; uniform noise stands in for rounding.

    A value takes -log2 of the mass within half a step that a Gaussian of all values' mean and
    deviation has.
    """
    mean = code.mean()
    deviation = (code.var(correction=0) + LEAST_VARIANCE).sqrt()
    distance = code + torch.rand_like(code) - 0.5 - mean
    above, below = ((distance + half) / deviation for half in (0.5, -0.5))
    mass = torch.special.ndtr(above) - torch.special.ndtr(below)
    return -(mass + LEAST_LIKELIHOOD).log2().clamp(max=0).sum()


def stage_quantizer(model: Representation, stage: Quantization, pixels: int) -> StageQuantizer:
    """Return the quantizer of a stage for a model; `pixels` is the number of pixels in a frame."""
    match stage:
        case QuantizationAware():
            return TanhQuantizer(model, stage)
        case QuantNoise():
            return NoiseQuantizer(model, stage)
        case EntropyMinimisation():
            return EntropyQuantizer(model, stage, pixels)


def straight_through(value: Tensor, origin: Tensor) -> Tensor:
    """Return `value`, exactly, with the gradient of `origin` (Bengio et al., 1308.3432)."""
    return value.detach() + (origin - origin.detach())


def _ladder_position(octaves: Tensor) -> Tensor:
    """Return the fractional ladder positions of the step sizes 2^octaves."""
    return (octaves - LOWEST_EXPONENT) * STEPS_PER_OCTAVE


def _clamped(q: Tensor) -> Tensor:
    """Return integers, clamped to the range that can be stored."""
    return q.clamp(-peak(MAX_BITS), peak(MAX_BITS))
