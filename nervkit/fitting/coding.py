"""Fitting for rate and distortion: quantization noise, a differentiable rate, and the integers that
are written in the end. The counterpart of compression/coded.py, in torch.

A value v of a tensor with step s is q = v / s. While fitting, q + u with uniform noise u of a
growing amplitude stands in for round(q) (Balle et al., 1611.01704, section 3; NVRC, 2409.07414, for
weights and grids); in the last steps q is rounded, and gradients pass as if it were not. The rate
is that of a Laplace distribution over the integers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.compression.coded import (
    MOST_UNITS,
    MOST_WEIGHT,
    PASSES,
    PEAK,
    TAPS,
    UNITS_PER_OCTAVE,
    Data,
    GridData,
    MatrixData,
    compress_coded,
    matrix_shape,
    pass_of_cells,
)
from nervkit.compression.laplace import LOWEST_SCALE, THRESHOLDS, UNIT_BITS
from nervkit.compression.quantization import LOWEST_EXPONENT
from nervkit.models.base import GRID, MATRIX, SENSITIVE, VECTOR, Representation
from nervkit.models.recipe import Recipe

FIRST_WEIGHT = 0.45  # weight * bits; 0.8 is the optimum of a curve of 2.4 dB for each doubling
CONTROL = 25.0  # the exponent by which the weight follows the bits, over a whole fit,
UNDERESTIMATED = 1.04  # real bits over those of the loss, which knows no rounding of contexts
CONTROL_FROM = 0.3  # from this share of the fit on: values of little noise take few bits
TOLERANCE, MOST_CHANGE, SEARCHES = 0.01, 16.0, 10  # of a size that is aimed at
GOLDEN = 0.618034  # its multiples, modulo 1, are spread evenly
MOST = PEAK // 2  # of a value in steps: its mean is taken off, and a residual may be twice as large
LEAST_LIKELIHOOD = 2.0**-20
LEAST_SCALE = 2.0 ** (LOWEST_SCALE / UNITS_PER_OCTAVE)
SIDE_BITS = 3.0  # of a stored step or scale, about
#: steps at the start, of a matrix in its standard deviations
FIRST_STEPS = {MATRIX: 0.15, SENSITIVE: 0.04, GRID: 0.05, VECTOR: 0.01}


def laplace_bits(q: Tensor, scale: Tensor) -> Tensor:
    """Bits of integers (or noisy values) at distance `q` from their means, elementwise: -log2 of
    the mass that a Laplace distribution of `scale` has within half a step."""
    scale = scale.clamp(min=LEAST_SCALE)
    distance = q.abs()
    far = torch.exp(-(distance + 0.5) / scale)
    near = torch.exp(-(distance - 0.5).abs() / scale)
    inside = 1 - 0.5 * (near + far)
    outside = 0.5 * (near - far)
    return -torch.where(distance < 0.5, inside, outside).clamp(min=LEAST_LIKELIHOOD).log2()


def rounded(x: Tensor) -> Tensor:
    """round(x), with the gradient of x (Bengio et al., 1308.3432: "straight-through")."""
    return x + (x.round() - x).detach()


class TensorCoder(nn.Module):
    """The quantizer and the rate of one tensor."""

    @abstractmethod
    def step(self) -> Tensor:
        """The steps, to broadcast against `shaped` values; each of the form 2^(n / 4)."""

    @abstractmethod
    def bits(self, q: Tensor, wider: float = 0.0) -> Tensor:
        """The bits that quantized values take, a scalar; `q` as from `shaped`. Scales are `wider`
        quarters of an octave larger than was learned."""

    @abstractmethod
    def side_values(self) -> int:
        """How many numbers of side information are stored."""

    @abstractmethod
    def data(self, value: Tensor, coarser: float = 0.0) -> Data:
        """What is stored of the tensor, with steps that are `coarser` quarters of an octave larger,
        on average over rows or channels."""

    def shaped(self, value: Tensor) -> Tensor:
        """A view of the tensor in which steps broadcast."""
        return value

    @torch.no_grad()
    def _best_width(self, q: Tensor) -> int:
        """The `wider` of the fewest bits for integers `q`: learned scales lag behind in short fits,
        and steps may have been changed since."""
        best, bits = 0, float(self.bits(q))
        for direction in (-1, 1):
            while (found := float(self.bits(q, best + direction))) < bits:
                best, bits = best + direction, found
        return best


class MatrixCoder(TensorCoder):
    """A step and a scale for each row and each column of a matrix; one of each for a vector."""

    def __init__(self, value: Tensor, first_step: float) -> None:
        super().__init__()
        rows, columns = matrix_shape(value.shape)
        deviation = value.detach().float().std(correction=0).item() if value.ndim > 1 else 1.0
        first = math.log2(first_step * max(deviation, 0.03))
        many = value.ndim > 1
        self.log_step = nn.Parameter(torch.tensor(first))
        self.row_steps = nn.Parameter(torch.zeros(rows if many else 1, 1))
        self.column_steps = nn.Parameter(torch.zeros(1, columns if many else 1))
        self.log_scale = nn.Parameter(torch.tensor(-math.log2(first_step) if many else 3.0))
        self.row_scales = nn.Parameter(torch.zeros(rows if many else 1, 1))
        self.column_scales = nn.Parameter(torch.zeros(1, columns if many else 1))

    def shaped(self, value: Tensor) -> Tensor:
        return value.reshape(matrix_shape(value.shape))

    def _units(self) -> tuple[Tensor, Tensor]:
        row = rounded(UNITS_PER_OCTAVE * (self.log_step + self.row_steps))
        return row, rounded(UNITS_PER_OCTAVE * self.column_steps)

    def step(self) -> Tensor:
        row, column = self._units()
        return torch.exp2((row + column) / UNITS_PER_OCTAVE)

    def bits(self, q: Tensor, wider: float = 0.0) -> Tensor:
        log_scale = self.log_scale + wider / UNITS_PER_OCTAVE
        scale = torch.exp2(log_scale + self.row_scales + self.column_scales)
        return laplace_bits(q, scale).sum()

    def side_values(self) -> int:
        return 2 * (self.row_steps.numel() + self.column_steps.numel())

    @torch.no_grad()
    def data(self, value: Tensor, coarser: float = 0.0) -> MatrixData:
        rows, columns = self.shaped(value).shape
        row, column = self._units()
        more = _dithered(row.expand(rows, 1), coarser)
        row = row + more
        values = self.shaped(value) / torch.exp2((row + column) / UNITS_PER_OCTAVE)
        if (excess := _excess(values)) > 0:
            return self.data(value, coarser + excess)
        wider = self._best_width(values.round()) - LOWEST_SCALE
        scales = UNITS_PER_OCTAVE * (self.log_scale + self.row_scales) + wider
        sides = {
            "row_steps": (row - UNITS_PER_OCTAVE * LOWEST_EXPONENT).expand(rows, 1),
            "column_steps": column.expand(1, columns),
            "row_scales": scales.expand(rows, 1),
            "column_scales": (UNITS_PER_OCTAVE * self.column_scales).expand(1, columns),
        }
        return MatrixData(
            _integers(values).reshape(value.shape),
            **{name: _integers(side).ravel() for name, side in sides.items()},
        )


class GridCoder(TensorCoder):
    """A step for each channel of a grid; means and scales from neighbours that are decoded before
    (C3, 2312.02753, section 3.2, with a linear map for its network)."""

    turns: Tensor

    def __init__(self, value: Tensor, first_step: float) -> None:
        super().__init__()
        channels = value.shape[1]
        self.log_step = nn.Parameter(torch.full((channels, 1, 1), math.log2(first_step)))
        self.means = nn.Parameter(torch.zeros(PASSES, TAPS))
        self.gains = nn.Parameter(torch.full((PASSES, TAPS), 0.05))
        self.log_floors = nn.Parameter(torch.ones(PASSES, channels))
        turns = torch.from_numpy(pass_of_cells(*value.shape[2:]))
        self.register_buffer("turns", turns, persistent=False)

    def step(self) -> Tensor:
        return torch.exp2(rounded(UNITS_PER_OCTAVE * self.log_step) / UNITS_PER_OCTAVE)

    def bits(self, q: Tensor, wider: float = 0.0) -> Tensor:
        means = self.means[self.turns].permute(2, 0, 1)
        gains = self.gains[self.turns].clamp(min=0).permute(2, 0, 1)
        floors = torch.exp2(self.log_floors + wider / UNITS_PER_OCTAVE)
        mean, scale = q.new_zeros(()), floors[self.turns].permute(2, 0, 1)
        for tap, values in enumerate(self._taps(q)):
            mean = mean + means[tap] * values
        for tap, values in enumerate(self._taps(q.abs())):
            scale = scale + gains[tap] * values
        return laplace_bits(q - mean, scale).sum()

    def _taps(self, q: Tensor) -> list[Tensor]:
        """What `compression.coded.taps_of` gives, for all knots and passes at once."""
        before = F.pad(q, (0, 0, 0, 0, 0, 0, 1, 0))[:-1]
        earlier = F.pad(before, (0, 0, 0, 0, 0, 0, 1, 0))[:-1]
        beside = torch.where(self.turns == 2, _adjacent(q), 0.0)
        beside = torch.where(self.turns == 1, _diagonal(q), beside)
        return [before, _adjacent(before), earlier, beside]

    def side_values(self) -> int:
        return self.log_step.numel() + 2 * PASSES * TAPS + self.log_floors.numel()

    @torch.no_grad()
    def data(self, value: Tensor, coarser: float = 0.0) -> GridData:
        one = 1 << UNIT_BITS
        units = (UNITS_PER_OCTAVE * self.log_step).round()
        more = _dithered(units, coarser)
        steps = (units + more).flatten() - UNITS_PER_OCTAVE * LOWEST_EXPONENT
        values = value / torch.exp2((units + more) / UNITS_PER_OCTAVE)
        if (excess := _excess(values)) > 0:
            return self.data(value, coarser + excess)
        wider = self._best_width(values.round()) - LOWEST_SCALE
        floors = UNITS_PER_OCTAVE * self.log_floors + wider
        return GridData(
            _integers(values),
            _integers(steps.clamp(0, MOST_UNITS - 1)),
            _integers((self.means * one).clamp(-MOST_WEIGHT, MOST_WEIGHT)),
            _integers((self.gains.clamp(min=0) * one).clamp(max=MOST_WEIGHT)),
            _integers(floors.clamp(0, len(THRESHOLDS) - 1)),
        )


def _excess(values: Tensor) -> int:
    """By how many quarters of an octave values exceed what can be stored."""
    largest = float(values.abs().max())
    return max(0, math.ceil(UNITS_PER_OCTAVE * math.log2(max(largest, 1) / MOST)))


def _dithered(like: Tensor, amount: float) -> Tensor:
    """Whole numbers, of the shape of `like`, whose mean is about `amount`."""
    order = torch.arange(len(like), device=like.device) * GOLDEN % 1
    return (amount + order).floor().reshape(-1, *[1] * (like.ndim - 1)).to(like.dtype)


def _adjacent(x: Tensor) -> Tensor:
    x = F.pad(x, (1, 1, 1, 1))
    return x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]


def _diagonal(x: Tensor) -> Tensor:
    x = F.pad(x, (1, 1, 1, 1))
    return x[..., :-2, :-2] + x[..., :-2, 2:] + x[..., 2:, :-2] + x[..., 2:, 2:]


def _integers(x: Tensor) -> np.ndarray:
    return x.round().int().cpu().contiguous().numpy()


def noise_at(progress: float, recipe: Recipe) -> float | None:
    """The amplitude of noise, in steps, at `progress` in [0, 1) of a fit; None: rounding."""
    if progress >= recipe.rounding_from:
        return None
    grown = min(1.0, progress / recipe.whole_noise_from)
    return recipe.least_noise + (1 - recipe.least_noise) * grown


class Codec(nn.Module):
    """The coders of all tensors of a model that travel.

    The loss is ln D + weight * bits. On a curve of s dB for each doubling of the bytes it is least
    where weight * bits = s ln 10 / (10 ln 2), which is 0.8 for s = 2.4.
    """

    weight: Tensor
    controlled: Tensor

    def __init__(self, model: Representation, target_bits: float) -> None:
        """`target_bits`: what the coded tensors are to take."""
        super().__init__()
        self.target_bits = target_bits
        self.register_buffer("weight", torch.tensor(FIRST_WEIGHT / target_bits))
        self.register_buffer("controlled", torch.tensor(0.0))  # the fit's progress then
        self.names = list(model.stored())
        kinds = model.kinds()
        self.coders = nn.ModuleList(
            (GridCoder if kinds[name] == GRID else MatrixCoder)(value, FIRST_STEPS[kinds[name]])
            for name, value in model.stored().items()
        )

    def forward(
        self, values: Mapping[str, Tensor], noise: float | None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Each tensor as it is quantized, and its values in steps.

        Args:
            values: the model's tensors, by name.
            noise: the amplitude of uniform noise, 0 to 1 step; None: rounded.
        """
        quantized, integers = {}, []
        for name, coder in zip(self.names, self.coders, strict=True):
            value, step = coder.shaped(values[name]), coder.step()
            q = value / step
            q = rounded(q) if noise is None else q + noise * (torch.rand_like(q) - 0.5)
            quantized[name] = (q * step).reshape(values[name].shape)
            integers.append(q)
        return quantized, integers

    @torch.no_grad()
    def rounded(self, model: Representation) -> dict[str, Tensor]:
        """The model's tensors as they are quantized, by name."""
        return self(model.stored(), None)[0]

    def bits(self, integers: list[Tensor]) -> Tensor:
        """The bits of all values, with an estimate for the side information."""
        total = sum(coder.bits(q) for coder, q in zip(self.coders, integers, strict=True))
        return total + SIDE_BITS * sum(coder.side_values() for coder in self.coders)

    def control(self, bits: Tensor, progress: float) -> None:
        """Change the weight of the rate by how far `bits` are from the target, and by how far the
        fit is since this was done last."""
        if progress >= CONTROL_FROM:
            ratio = (UNDERESTIMATED * bits.detach() / self.target_bits).clamp(0.5, 2)
            self.weight.mul_(ratio ** (CONTROL * (progress - self.controlled)))
        self.controlled.fill_(progress)

    def data(self, model: Representation, coarser: float = 0.0) -> list[Data]:
        """What is stored of each tensor, in the order of the file; `coarser` as of TensorCoder."""
        tensors, coders = model.stored(), zip(self.names, self.coders, strict=True)
        return [coder.data(tensors[name], coarser) for name, coder in coders]

    def compress(self, model: Representation) -> bytes:
        """The coded tensors, in about the target's bytes: where they miss it by more than
        TOLERANCE, all steps are made larger or smaller, by MOST_CHANGE quarters of an octave at
        most."""
        target = self.target_bits / 8
        best = compress_coded(self.data(model))
        low, high = (0.0, MOST_CHANGE) if len(best) > target else (-MOST_CHANGE, 0.0)
        for _ in range(SEARCHES):
            if abs(len(best) - target) <= TOLERANCE * target:
                break
            middle = (low + high) / 2
            payload = compress_coded(self.data(model, middle))
            low, high = (middle, high) if len(payload) > target else (low, middle)
            best = min(best, payload, key=lambda data: abs(len(data) - target))
        return best

    def missed(self, payload: bytes) -> str | None:
        """What there is to say where coded tensors miss the target by more than 2%."""
        target = round(self.target_bits / 8)
        if abs(len(payload) - target) <= 0.02 * target:
            return None
        return (
            f"the tensors take {len(payload):,} bytes, and {target:,} were aimed at: a longer fit "
            "or other --params come closer"
        )
