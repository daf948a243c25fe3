"""What stands in for a model's tensors while it is fitted: what every quantizer of a fit has, and
those of papers (compression/published.py has them as data)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

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

LEAST_ERROR = 1e-10  # whose logarithm is taken
LEAST_REACH = 0.01  # of a tensor, from which its first step follows
LEAST_VARIANCE = 1e-6  # of a tensor's values in steps
LEAST_PROBABILITY = 1e-5  # added to that of a value
LEAST_AXIS = 20  # of so many rows each has a step of its own (HiNeRV: 5% of side information)


class Quantizing(nn.Module):
    """Puts other tensors in the place of a model's while it is fitted; a part of the fit, of its
    checkpoints, and of what is written in the end."""

    def flags(self, k: int, progress: float, recipe: Recipe) -> tuple[bool, ...]:
        """What tells step `k` from others, at `progress` in [0, 1) of the fit. All else that
        changes from step to step is in tensors, so that a CUDA graph can record a step for each
        combination of flags."""
        return ()

    @abstractmethod
    def forward(
        self, values: Mapping[str, Tensor], *flags: bool
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What stands in for the model's tensors, `values` by name, and what `objective` needs."""

    def embedded(self, name: str, values: Tensor) -> Tensor:
        """The same for embeddings (B, ...) that a model makes of frames while it is fitted."""
        return values

    def objective(
        self, loss: Tensor, measured: Tensor, aim: Loss, coded: list[Tensor], *flags: bool
    ) -> Tensor:
        """What is minimised where the recipe's loss, which is `aim`'s, is `loss`, and the error of
        the frames that are shown is `measured`. `coded` is what `forward` gave."""
        return loss

    @abstractmethod
    def rounded(self, model: Representation) -> dict[str, Tensor]:
        """The model's tensors as they are stored, by name."""


class Levels(NamedTuple):
    """A tensor as it is stored: integers `q` times steps, which broadcast. `index` says where these
    are on the ladder: (1,), or one for each index of `axis`."""

    q: Tensor
    step: Tensor
    index: Tensor
    axis: int | None = None


class StageQuantizing(Quantizing):
    """Of a stage of a published compression. It quantizes the parameters that are fitted; what else
    is stored is left for after the fit."""

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
        """How a fitted tensor is stored."""

    def embedded_levels(self, name: str, value: Tensor) -> Levels | None:
        """How an embedding is stored that `embedded` gave; None where it gave none of this name."""
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
        """What is stored of every tensor that the fit has quantized, by name: the very values that
        its last step saw."""
        found = {}
        for name, value in model.stored().items():
            if name in self.names:
                levels: Levels | None = self.levels(name, value)
            else:
                levels = self.embedded_levels(name, value)
            if levels is not None:
                q, index = (x.int().cpu().contiguous().numpy() for x in (levels.q, levels.index))
                found[name] = Quantized(q, index, levels.axis, self.bits)
        return found


class TanhRounding(StageQuantizing):
    """tanh(w), rounded towards zero to n levels of each sign, with gradients as if it were not
    rounded (FFNeRV, 2212.12294). Levels are as far apart as the step of the ladder that is nearest
    to 1 / n: 1 / 128 for 1 / 127."""

    def __init__(self, model: Representation, stage: QuantizationAware, pixels: int) -> None:
        super().__init__(model)
        self.bits, self.most = stage.bits, peak(stage.bits)
        self.index = round(_index_of(math.log2(1 / self.most)))
        self._made: set[str] = set()

    def forward(
        self, values: Mapping[str, Tensor], *flags: bool
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        return {name: self._rounded(values[name]) for name in self.names}, []

    def _rounded(self, value: Tensor) -> Tensor:
        scaled = value.tanh() * self.most
        return passing(scaled.trunc(), scaled) * self.ladder[self.index]

    def embedded(self, name: str, values: Tensor) -> Tensor:
        self._made.add(name)
        return self._rounded(values.float())

    def levels(self, name: str, value: Tensor) -> Levels:
        return self._levels((value.tanh() * self.most).trunc())

    def embedded_levels(self, name: str, value: Tensor) -> Levels | None:
        if name not in self._made:
            return None
        return self._levels((value / self.ladder[self.index]).round())

    def _levels(self, q: Tensor) -> Levels:
        return Levels(q, self.ladder[self.index], torch.tensor([self.index]))


class NoisyRounding(StageQuantizing):
    """Each value rounded with a probability, and without a gradient then (HiNeRV, 2306.09818):
    matrices and grids, with steps that cover the largest value, of the tensor or of each index of
    the longer of its first two axes. Vectors stay."""

    def __init__(self, model: Representation, stage: QuantNoise, pixels: int) -> None:
        super().__init__(model)
        self.bits, self.probability = stage.bits, stage.probability
        tensors = model.stored()
        self.names = [name for name in self.names if tensors[name].ndim > 1]

    def forward(
        self, values: Mapping[str, Tensor], *flags: bool
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        found = {}
        for name in self.names:
            value = values[name]
            with torch.no_grad():
                levels = self.levels(name, value)
                rounded = levels.q * levels.step
                chosen = torch.rand_like(value) < self.probability
            found[name] = torch.where(chosen, rounded, value)
        return found, []

    def levels(self, name: str, value: Tensor) -> Levels:
        axis = max((0, 1), key=lambda a: value.shape[a])
        chosen = axis if value.shape[axis] > LEAST_AXIS else None
        others = [a for a in range(value.ndim) if a != axis] if chosen is not None else None
        largest = value.abs().amax(others).view(-1) if others else value.abs().amax().view(1)
        most = peak(self.bits)
        index = _index_of((largest / most).clamp(min=1e-30).log2()).ceil().clamp(0, LADDER_SIZE - 1)
        step = self.ladder[index.long()]
        if chosen is not None:
            step = step.view([-1 if a == chosen else 1 for a in range(value.ndim)])
        return Levels((value / step).round().clamp(-most, most), step, index.long(), chosen)


class EntropyMinimising(StageQuantizing):
    """Values rounded to a learned step for each tensor, and their bits in the loss as long as they
    are too many (HNeRV-Boost, 2402.18152).

    The bits of a tensor are those of its values in steps, with uniform noise, by a Gaussian of
    their mean and deviation. The loss enters by its logarithm, so that the weight of the bits does
    not depend on the recipe's loss; the paper's is used as it is.
    """

    bits = MAX_BITS

    def __init__(self, model: Representation, stage: EntropyMinimisation, pixels: int) -> None:
        """`pixels` are those of a frame."""
        super().__init__(model)
        self.stage, self.pixels = stage, pixels
        tensors = model.stored()
        made = [name for name in model.embeddings() if name not in self.names]
        self.frames = model.shape.frames
        self.target = stage.target_bits * sum(tensors[name].numel() for name in self.names + made)
        self._places = {name: place for place, name in enumerate(self.names + made)}
        largest = [tensors[name].detach().float().abs().amax() for name in self._places]
        steps = torch.stack(largest).clamp(min=LEAST_REACH) / peak(stage.bits)
        self.log_steps = nn.Parameter(steps.log2())
        #: of the embeddings that this step made, their values in steps
        self._made: dict[str, Tensor] = {}

    def _step(self, name: str) -> tuple[Tensor, Tensor]:
        """A tensor's step, exactly as on the ladder, with the gradient of the learned one; and its
        index."""
        learned = self.log_steps[self._places[name]]
        index = _index_of(learned.detach()).round().clamp(0, LADDER_SIZE - 1).long()
        return passing(self.ladder[index], learned.exp2()), index

    def _seen(self, name: str, value: Tensor) -> tuple[Tensor, Tensor]:
        """A tensor as it is stored, and its values in steps, not rounded."""
        step, _ = self._step(name)
        code = value / step
        return passing(_within(code.round()), code) * step, code

    def forward(
        self, values: Mapping[str, Tensor], *flags: bool
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        self._made.clear()
        found, codes = {}, []
        for name in self.names:
            found[name], code = self._seen(name, values[name])
            codes.append(code)
        return found, codes

    def embedded(self, name: str, values: Tensor) -> Tensor:
        seen, self._made[name] = self._seen(name, values.float())
        return seen

    def objective(
        self, loss: Tensor, measured: Tensor, aim: Loss, coded: list[Tensor], *flags: bool
    ) -> Tensor:
        bits = sum(gaussian_bits(code) for code in coded)
        for code in self._made.values():
            bits = bits + gaussian_bits(code) * (self.frames / len(code))
        weight = self.stage.weight / self.pixels * (bits.detach() > self.target)
        return aim.error(loss).clamp(min=LEAST_ERROR).log() + weight * bits

    def levels(self, name: str, value: Tensor) -> Levels:
        step, index = self._step(name)
        return Levels(_within((value / step).round()), step, index.view(1))

    def embedded_levels(self, name: str, value: Tensor) -> Levels | None:
        return self.levels(name, value) if name in self._places else None


def gaussian_bits(code: Tensor) -> Tensor:
    """The bits that values in steps take once they are rounded, with uniform noise in their place:
    -log2 of the mass that a Gaussian of their mean and deviation has within half a step."""
    mean = code.mean()
    deviation = (code.var(correction=0) + LEAST_VARIANCE).sqrt()
    distance = code + torch.rand_like(code) - 0.5 - mean
    above, below = ((distance + half) / deviation for half in (0.5, -0.5))
    mass = torch.special.ndtr(above) - torch.special.ndtr(below)
    return -(mass + LEAST_PROBABILITY).log2().clamp(max=0).sum()


QUANTIZERS: dict[type[Any], type[StageQuantizing]] = {
    QuantizationAware: TanhRounding,
    QuantNoise: NoisyRounding,
    EntropyMinimisation: EntropyMinimising,
}


def quantizing(model: Representation, stage: Quantization, pixels: int) -> StageQuantizing:
    """What a stage puts in the place of a model's tensors; `pixels` are those of a frame."""
    return QUANTIZERS[type(stage)](model, stage, pixels)


def passing(value: Tensor, origin: Tensor) -> Tensor:
    """`value`, exactly, with the gradient of `origin` (Bengio et al., 1308.3432)."""
    return value.detach() + (origin - origin.detach())


def _index_of(octaves: Any) -> Any:
    """Where on the ladder steps of 2^octaves are, a float or a tensor; not a whole number."""
    return (octaves - LOWEST_EXPONENT) * STEPS_PER_OCTAVE


def _within(q: Tensor) -> Tensor:
    """Integers, cut to those that can be stored."""
    return q.clamp(-peak(MAX_BITS), peak(MAX_BITS))
