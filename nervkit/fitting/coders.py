"""Differentiable quantizers and rates of tensors, in torch, for what compression/coded.py stores.

A value v with step size s is q = v / s in steps. Its rate follows from a Laplace distribution over
the integers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

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
    CodedTensor,
    GridData,
    MatrixData,
    matrix_shape,
    pass_of_cells,
)
from nervkit.compression.laplace import LOWEST_SCALE, THRESHOLDS, UNIT_BITS
from nervkit.compression.quantization import LOWEST_EXPONENT
from nervkit.models.base import GRID, MATRIX, MOTION, SENSITIVE, VECTOR, Representation

GOLDEN = 0.618034  # golden ratio: its multiples, modulo 1, are spread evenly
MOST = PEAK // 2  # largest value in steps: a residual (value - mean) may be twice as large
LEAST_LIKELIHOOD = 2.0**-20
LOWEST = LOWEST_SCALE / UNITS_PER_OCTAVE  # octaves
LEAST_SCALE = 2.0**LOWEST
LEAST_VALUES = 8  # in a row or column with a step size and a scale of its own, which cost bits
SIDE_BITS = 3.0  # typical cost of a stored step size or scale


class LaplaceBits(torch.autograd.Function):
    """-log2 of a Laplace distribution's mass within half a step of the distance `q` from its mean.

    With d = |q|, far = exp(-(d + 1/2) / b) and near = exp(-|d - 1/2| / b), the mass is (near - far)
    / 2, or 1 - (near + far) / 2 for d < 1/2. Both have the same derivatives in terms of near and
    exp((1/2 - d) / b), so that this backward pass takes a third of autograd's time.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, scale: Tensor) -> Tensor:
        distance, inverse = q.abs(), 1 / scale
        far = torch.exp((distance + 0.5).neg_() * inverse)
        near = torch.exp((distance - 0.5).abs_().neg_() * inverse)
        half = torch.sub(near, far).mul_(0.5)
        likelihood = torch.where(distance < 0.5, torch.add(near, far).mul_(-0.5).add_(1), half)
        likelihood.clamp_(min=LEAST_LIKELIHOOD)
        ctx.save_for_backward(q, inverse, near, far, likelihood)
        return likelihood.log2().neg_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        q, inverse, near, far, likelihood = ctx.saved_tensors
        distance = q.abs()
        common = gradient * inverse * (0.5 / math.log(2)) / likelihood
        by_q = (near - far) * common * q.sign()
        by_scale = (near * (0.5 - distance) + far * (0.5 + distance)) * common * inverse
        return by_q, by_scale.sum_to_size(inverse.shape)


def laplace_bits(q: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of integers (or noisy values) at distance `q` from their means, elementwise:
    -log2 of the mass within half a step of a Laplace distribution of `scale`, which broadcasts."""
    return LaplaceBits.apply(q, scale.clamp(min=LEAST_SCALE))  # type: ignore[no-untyped-call]


def rounded(x: Tensor) -> Tensor:
    """Return round(x) with a straight-through gradient (Bengio et al., 1308.3432)."""
    return x + (x.round() - x).detach()


class TensorCoder(nn.Module):
    """The quantizer and the rate of one tensor, or of several of one shape and kind.

    A model's class attribute `codings` can name a coder of its own. Such a coder is free in how it
    quantizes and estimates the rate; it must store a MatrixData or a GridData, which every decoder
    can read. Its parameters are fitted with the model's.

    Args:
        values: the tensors at the start of a fit.
        first_step: the initial step size.
    """

    @abstractmethod
    def stacked(self, values: Sequence[Tensor]) -> Tensor:
        """Return the tensors as one, against which step sizes broadcast."""

    @abstractmethod
    def split(self, values: Tensor) -> Sequence[Tensor]:
        """Return the tensors that `stacked` joined."""

    @abstractmethod
    def step(self) -> Tensor:
        """Return the step sizes, which broadcast against `stacked` values, each 2^(n / 4)."""

    @abstractmethod
    def bits(self, q: Tensor, wider: Sequence[float] | None = None) -> Tensor:
        """Return the bits of each tensor, (tensors,).

        Args:
            q: quantized values in the shape of `stacked`.
            wider: for each tensor, quarters of an octave by which to enlarge the learned scales.
        """

    @abstractmethod
    def side_values(self) -> int:
        """Return how many numbers of side information are stored."""

    @abstractmethod
    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[CodedTensor]:
        """Return the tensors as they are stored, with step sizes that are `coarser` quarters of an
        octave larger, on average over rows or channels."""

    @abstractmethod
    def start_from(self, data: Sequence[CodedTensor]) -> None:
        """Take step sizes, scales and contexts from stored tensors."""

    @torch.no_grad()
    def best_width(self, q: Tensor) -> list[int]:
        """Return the `wider` with the fewest bits for integers `q`, for each tensor. Learned scales
        lag behind in short fits, and step sizes may have changed since."""
        fewest = self.bits(q)
        best = [0] * len(fewest)
        for direction in (-1, 1):
            going = [direction] * len(best)
            while any(going):
                tried = [width + step for width, step in zip(best, going, strict=True)]
                bits = self.bits(q, tried)
                going = [direction * found for found in (bits < fewest).tolist()]
                best = [width + step for width, step in zip(best, going, strict=True)]
                fewest = torch.minimum(fewest, bits)
        return best


class MatrixCoder(TensorCoder):
    """A step size and a scale for each row and column of a matrix with LEAST_VALUES or more."""

    def __init__(self, values: Sequence[Tensor], first_step: float) -> None:
        super().__init__()
        self.shape, count, many = values[0].shape, len(values), values[0].ndim > 1
        height, width = matrix_shape(self.shape)
        rows, columns = (
            height if width >= LEAST_VALUES else 1,
            width if height >= LEAST_VALUES else 1,
        )
        deviations = [
            v.detach().float().std(correction=0) if many else torch.ones(()) for v in values
        ]
        first = (first_step * torch.stack(deviations).clamp(min=0.03)).log2().view(-1, 1, 1)
        scale = -math.log2(first_step) if many else 3.0
        self.log_step = nn.Parameter(first)
        self.row_steps = nn.Parameter(torch.zeros(count, rows, 1))
        self.column_steps = nn.Parameter(torch.zeros(count, 1, columns))
        self.log_scale = nn.Parameter(torch.full((count, 1, 1), scale))
        self.row_scales = nn.Parameter(torch.zeros(count, rows, 1))
        self.column_scales = nn.Parameter(torch.zeros(count, 1, columns))

    def stacked(self, values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value.reshape(matrix_shape(self.shape)) for value in values])

    def split(self, values: Tensor) -> Sequence[Tensor]:
        return values.reshape(-1, *self.shape).unbind()

    def _units(self) -> tuple[Tensor, Tensor]:
        row = rounded(UNITS_PER_OCTAVE * (self.log_step + self.row_steps))
        return row, rounded(UNITS_PER_OCTAVE * self.column_steps)

    def step(self) -> Tensor:
        row, column = self._units()
        return torch.exp2((row + column) / UNITS_PER_OCTAVE)

    def bits(self, q: Tensor, wider: Sequence[float] | None = None) -> Tensor:
        log_scale: Tensor = self.log_scale
        if wider is not None:
            log_scale = log_scale + log_scale.new_tensor(wider).view(-1, 1, 1) / UNITS_PER_OCTAVE
        scale = torch.exp2(log_scale + self.row_scales + self.column_scales)
        return laplace_bits(q, scale).sum((1, 2))

    def side_values(self) -> int:
        return 2 * (self.row_steps.numel() + self.column_steps.numel())

    @torch.no_grad()
    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[CodedTensor]:
        stacked = self.stacked(values)
        count, rows, columns = stacked.shape
        row, column = self._units()
        more = _dithered(rows, coarser, row).view(1, rows, 1)
        q = stacked / torch.exp2((row + more + column) / UNITS_PER_OCTAVE)
        more = more + _excess(q).view(count, 1, 1)
        row = row + more
        q = (stacked / torch.exp2((row + column) / UNITS_PER_OCTAVE)).round()
        wider = row.new_tensor(self.best_width(q)).view(count, 1, 1) - LOWEST_SCALE
        scales = UNITS_PER_OCTAVE * (self.log_scale + self.row_scales) + wider
        sides = {
            "row_steps": (row - UNITS_PER_OCTAVE * LOWEST_EXPONENT).expand(count, rows, 1),
            "column_steps": column.expand(count, 1, columns),
            "row_scales": scales.expand(count, rows, 1),
            "column_scales": (UNITS_PER_OCTAVE * self.column_scales).expand(count, 1, columns),
        }
        arrays = {name: _integers(side).reshape(count, -1) for name, side in sides.items()}
        integers = _integers(q).reshape(count, *self.shape)
        return [
            MatrixData(integers[i], **{name: array[i] for name, array in arrays.items()})
            for i in range(count)
        ]

    @torch.no_grad()
    def start_from(self, data: Sequence[CodedTensor]) -> None:
        def octaves(name: str, like: Tensor, lowest: float = 0.0) -> Tensor:
            stored = torch.from_numpy(np.stack([getattr(d, name) for d in data])).to(like)
            stored = stored / UNITS_PER_OCTAVE + lowest
            if stored.shape[1] != like[0].numel():  # a vector has one for all rows
                stored = stored.mean(1, keepdim=True)
            return stored.view_as(like)

        row_steps = octaves("row_steps", self.row_steps, LOWEST_EXPONENT)
        row_scales = octaves("row_scales", self.row_scales, LOWEST)
        self.log_step.copy_(row_steps.mean(1, keepdim=True))
        self.log_scale.copy_(row_scales.mean(1, keepdim=True))
        self.row_steps.copy_(row_steps - self.log_step)
        self.row_scales.copy_(row_scales - self.log_scale)
        self.column_steps.copy_(octaves("column_steps", self.column_steps))
        self.column_scales.copy_(octaves("column_scales", self.column_scales))


class GridCoder(TensorCoder):
    """A step size for each channel of a grid; means and scales predicted from decoded neighbours
    (C3, 2312.02753, section 3.2, with a linear map for its network)."""

    turns: Tensor
    kernels: Tensor

    def __init__(self, values: Sequence[Tensor], first_step: float) -> None:
        super().__init__()
        (value,) = values
        channels = value.shape[1]
        self.log_step = nn.Parameter(torch.full((channels, 1, 1), math.log2(first_step)))
        self.means = nn.Parameter(torch.zeros(PASSES, TAPS))
        self.gains = nn.Parameter(torch.full((PASSES, TAPS), 0.05))
        self.log_floors = nn.Parameter(torch.ones(PASSES, channels))
        turns = torch.from_numpy(pass_of_cells(*value.shape[2:]))
        self.register_buffer("turns", F.one_hot(turns, PASSES).permute(2, 0, 1), persistent=False)
        self.register_buffer("kernels", tap_kernels(), persistent=False)

    def stacked(self, values: Sequence[Tensor]) -> Tensor:
        return values[0]

    def split(self, values: Tensor) -> Sequence[Tensor]:
        return (values,)

    def step(self) -> Tensor:
        return torch.exp2(rounded(UNITS_PER_OCTAVE * self.log_step) / UNITS_PER_OCTAVE)

    def bits(self, q: Tensor, wider: Sequence[float] | None = None) -> Tensor:
        log_floors = self.log_floors + (0 if wider is None else wider[0] / UNITS_PER_OCTAVE)
        weights = torch.stack([self.means, self.gains.clamp(min=0)])
        mean, scale = self.predicted(q, weights)
        floors = torch.exp2(log_floors)[:, :, None, None] * self.turns[:, None]
        return laplace_bits(q - mean, scale + floors.sum(0)).sum().view(1)

    def predicted(self, q: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sums of the taps of q and of |q|, each of the shape of `q` (knots,
        channels, rows, columns). `weights` are (2, PASSES, TAPS). The taps are those of
        `compression.coded.taps_of`, for all knots and passes at once."""
        knots, channels, *size = q.shape
        both = F.pad(torch.stack([q, q.abs()]), (0, 0, 0, 0, 0, 0, 2, 0))
        times = torch.stack([both[:, 2:], both[:, 1:-1], both[:, :-2]], 3)  # (2, K, C, 3, h, w)
        times = times.transpose(0, 2).reshape(channels * knots, 6, *size)
        kernels = torch.einsum("xpt,ptdij->xpdij", weights, self.kernels).flatten(0, 1)
        sums = F.conv2d(times, kernels, padding=1, groups=2)
        sums = (sums.view(channels, knots, 2, PASSES, *size) * self.turns).sum(3)
        means, scales = sums.transpose(0, 1).unbind(2)
        return means, scales

    def side_values(self) -> int:
        return self.log_step.numel() + 2 * PASSES * TAPS + self.log_floors.numel()

    @torch.no_grad()
    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[CodedTensor]:
        (value,) = values
        one = 1 << UNIT_BITS
        units = (UNITS_PER_OCTAVE * self.log_step).round()
        units = units + _dithered(len(units), coarser, units).view_as(units)
        by_channel = (value / torch.exp2(units / UNITS_PER_OCTAVE)).transpose(0, 1).flatten(1)
        units = units + _excess(by_channel).max()
        q = (value / torch.exp2(units / UNITS_PER_OCTAVE)).round()
        steps = units.flatten() - UNITS_PER_OCTAVE * LOWEST_EXPONENT
        floors = UNITS_PER_OCTAVE * self.log_floors + self.best_width(q)[0] - LOWEST_SCALE
        return [
            GridData(
                _integers(q),
                _integers(steps.clamp(0, MOST_UNITS - 1)),
                _integers((self.means * one).clamp(-MOST_WEIGHT, MOST_WEIGHT)),
                _integers((self.gains.clamp(min=0) * one).clamp(max=MOST_WEIGHT)),
                _integers(floors.clamp(0, len(THRESHOLDS) - 1)),
            )
        ]

    @torch.no_grad()
    def start_from(self, data: Sequence[CodedTensor]) -> None:
        (grid,) = data
        steps, means, gains, floors = (
            torch.from_numpy(getattr(grid, name)).to(self.log_step)
            for name in ("steps", "means", "gains", "floors")
        )
        self.log_step.copy_((steps / UNITS_PER_OCTAVE + LOWEST_EXPONENT)[:, None, None])
        self.means.copy_(means / (1 << UNIT_BITS))
        self.gains.copy_(gains / (1 << UNIT_BITS))
        self.log_floors.copy_(floors / UNITS_PER_OCTAVE + LOWEST)


class Coding(NamedTuple):
    """How a kind of tensor is coded: `first_step` is the step size at the start of a fit, for a
    matrix in units of its standard deviation."""

    coder: type[TensorCoder]
    first_step: float


#: for each kind of tensor of nervkit
CODINGS: dict[str, Coding] = {
    MATRIX: Coding(MatrixCoder, 0.15),
    SENSITIVE: Coding(MatrixCoder, 0.04),
    VECTOR: Coding(MatrixCoder, 0.01),
    GRID: Coding(GridCoder, 0.05),
    MOTION: Coding(GridCoder, 0.3),
}


def codings_of(model: Representation) -> dict[str, Coding]:
    """Return how each stored tensor of a model is coded, by name."""
    known = CODINGS | {kind: Coding(*own) for kind, own in model.codings.items()}
    return {name: known[kind] for name, kind in model.kinds().items()}


def _excess(values: Tensor) -> Tensor:
    """Return by how many quarters of an octave, (N,), values (N, ...) exceed the largest integer
    that can be stored."""
    largest = values.flatten(1).abs().amax(1)
    return (UNITS_PER_OCTAVE * (largest / MOST).log2()).ceil().clamp(min=0)


def _dithered(count: int, amount: float, like: Tensor) -> Tensor:
    """Return (count,) integers of the type and device of `like`, whose mean is about `amount`."""
    order = torch.arange(count, device=like.device) * GOLDEN % 1
    return (amount + order).floor().to(like.dtype)


def tap_kernels() -> Tensor:
    """Return the taps of `compression.coded.taps_of` as kernels, (PASSES, TAPS, 3, 3, 3), over the
    same knot, the previous one and the one before that, 3x3 cells of each."""
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    adjacent = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    kernels = torch.zeros(PASSES, TAPS, 3, 3, 3)
    kernels[:, 0, 1], kernels[:, 1, 1], kernels[:, 2, 2] = centre, adjacent, centre
    kernels[1, 3, 0], kernels[2, 3, 0] = 1 - centre - adjacent, adjacent
    return kernels


def _integers(x: Tensor) -> np.ndarray:
    return x.round().int().cpu().contiguous().numpy()
