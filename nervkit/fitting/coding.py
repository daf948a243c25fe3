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
from collections.abc import Mapping, Sequence
from typing import Any

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
from nervkit.models.base import GRID, MATRIX, MOTION, SENSITIVE, VECTOR, Representation
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
FIRST_STEPS = {MATRIX: 0.15, SENSITIVE: 0.04, GRID: 0.05, MOTION: 0.3, VECTOR: 0.01}


class LaplaceBits(torch.autograd.Function):
    """-log2 of the mass that a Laplace distribution has within half a step of `q` from its mean.

    With d = |q|, far = exp(-(d + 1/2) / b) and near = exp(-|d - 1/2| / b), the mass is (near - far)
    / 2, or 1 - (near + far) / 2 for d < 1/2; both have the same derivatives in terms of near and
    exp((1/2 - d) / b), so that a backward pass takes a third of autograd's.
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
    """Bits of integers (or noisy values) at distance `q` from their means, elementwise: -log2 of
    the mass that a Laplace distribution of `scale`, which broadcasts, has within half a step."""
    return LaplaceBits.apply(q, scale.clamp(min=LEAST_SCALE))


def rounded(x: Tensor) -> Tensor:
    """round(x), with the gradient of x (Bengio et al., 1308.3432: "straight-through")."""
    return x + (x.round() - x).detach()


class TensorCoder(nn.Module):
    """The quantizer and the rate of one tensor, or of several of one shape and kind."""

    @abstractmethod
    def stacked(self, values: Sequence[Tensor]) -> Tensor:
        """The tensors as one, in which steps broadcast."""

    @abstractmethod
    def split(self, values: Tensor) -> Sequence[Tensor]:
        """The inverse of `stacked`."""

    @abstractmethod
    def step(self) -> Tensor:
        """The steps, to broadcast against `stacked` values; each of the form 2^(n / 4)."""

    @abstractmethod
    def bits(self, q: Tensor, wider: Sequence[float] | None = None) -> Tensor:
        """The bits that quantized values take, (tensors,); `q` as from `stacked`. Scales of each
        tensor are `wider` quarters of an octave larger than was learned."""

    @abstractmethod
    def side_values(self) -> int:
        """How many numbers of side information are stored."""

    @abstractmethod
    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[Data]:
        """What is stored of the tensors, with steps that are `coarser` quarters of an octave
        larger, on average over rows or channels."""

    @torch.no_grad()
    def best_width(self, q: Tensor) -> list[int]:
        """The `wider` of the fewest bits for integers `q`, of each tensor: learned scales lag
        behind in short fits, and steps may have been changed since."""
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
    """A step and a scale for each row and each column of a matrix; one of each for a vector."""

    def __init__(self, values: Sequence[Tensor], first_step: float) -> None:
        super().__init__()
        self.shape, count, many = values[0].shape, len(values), values[0].ndim > 1
        rows, columns = matrix_shape(self.shape) if many else (1, 1)
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
        log_scale = self.log_scale
        if wider is not None:
            log_scale = log_scale + log_scale.new_tensor(wider).view(-1, 1, 1) / UNITS_PER_OCTAVE
        scale = torch.exp2(log_scale + self.row_scales + self.column_scales)
        return laplace_bits(q, scale).sum((1, 2))

    def side_values(self) -> int:
        return 2 * (self.row_steps.numel() + self.column_steps.numel())

    @torch.no_grad()
    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[Data]:
        stacked = self.stacked(values)
        count, rows, columns = stacked.shape
        row, column = self._units()
        more = _dithered(rows, coarser, row).view(1, rows, 1)
        over = stacked / torch.exp2((row + more + column) / UNITS_PER_OCTAVE)
        more = more + _excess(over).view(count, 1, 1)
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


class GridCoder(TensorCoder):
    """A step for each channel of a grid; means and scales from neighbours that are decoded before
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
        """The sums of all taps of q and of |q|, each like `q` (knots, channels, rows, columns), by
        `weights` (2, PASSES, TAPS): those that `compression.coded.taps_of` gives, for all knots and
        passes at once."""
        knots, channels, *size = q.shape
        both = F.pad(torch.stack([q, q.abs()]), (0, 0, 0, 0, 0, 0, 2, 0))
        times = torch.stack([both[:, 2:], both[:, 1:-1], both[:, :-2]], 3)  # (2, K, C, 3, h, w)
        times = times.transpose(0, 2).reshape(channels * knots, 6, *size)
        kernels = torch.einsum("xpt,ptdij->xpdij", weights, self.kernels).flatten(0, 1)
        sums = F.conv2d(times, kernels, padding=1, groups=2)
        sums = (sums.view(channels, knots, 2, PASSES, *size) * self.turns).sum(3)
        return tuple(sums.transpose(0, 1).unbind(2))

    def side_values(self) -> int:
        return self.log_step.numel() + 2 * PASSES * TAPS + self.log_floors.numel()

    @torch.no_grad()
    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[Data]:
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


#: of each kind of tensor
CODERS: dict[str, type[TensorCoder]] = {
    **dict.fromkeys((MATRIX, SENSITIVE, VECTOR), MatrixCoder),
    **dict.fromkeys((GRID, MOTION), GridCoder),
}


def _excess(values: Tensor) -> Tensor:
    """(N,): by how many quarters of an octave values (N, ...) exceed what can be stored."""
    largest = values.flatten(1).abs().amax(1)
    return (UNITS_PER_OCTAVE * (largest / MOST).log2()).ceil().clamp(min=0)


def _dithered(count: int, amount: float, like: Tensor) -> Tensor:
    """(count,) whole numbers, of the type and on the device of `like`, whose mean is about
    `amount`."""
    order = torch.arange(count, device=like.device) * GOLDEN % 1
    return (amount + order).floor().to(like.dtype)


def tap_kernels() -> Tensor:
    """(PASSES, TAPS, 3, 3, 3): what each tap of `compression.coded.taps_of` takes from the same
    knot, the one before and the one before that, 3x3 cells of each."""
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    adjacent = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    kernels = torch.zeros(PASSES, TAPS, 3, 3, 3)
    kernels[:, 0, 1], kernels[:, 1, 1], kernels[:, 2, 2] = centre, adjacent, centre
    kernels[1, 3, 0], kernels[2, 3, 0] = 1 - centre - adjacent, adjacent
    return kernels


def _integers(x: Tensor) -> np.ndarray:
    return x.round().int().cpu().contiguous().numpy()


class Codec(nn.Module):
    """The coders of all tensors of a model that travel.

    The loss is ln D + weight * bits. On a curve of s dB for each doubling of the bytes it is least
    where weight * bits = s ln 10 / (10 ln 2), which is 0.8 for s = 2.4.
    """

    weight: Tensor
    controlled: Tensor
    progress: Tensor
    noise: Tensor

    def __init__(self, model: Representation, target_bits: float) -> None:
        """`target_bits`: what the coded tensors are to take."""
        super().__init__()
        self.target_bits = target_bits
        self.register_buffer("weight", torch.tensor(FIRST_WEIGHT / target_bits))
        self.register_buffer("controlled", torch.tensor(0.0))  # the fit's progress then
        # What changes from step to step is in tensors, so that a CUDA graph can record a step.
        self.register_buffer("progress", torch.tensor(0.0), persistent=False)
        self.register_buffer("noise", torch.tensor(0.0), persistent=False)
        kinds = model.kinds()
        groups: dict[tuple[Any, ...], list[str]] = {}
        for name, value in model.stored().items():
            alone = name if CODERS[kinds[name]] is GridCoder else None
            groups.setdefault((kinds[name], value.shape, alone), []).append(name)
        #: tensors of one shape and kind are computed as one
        self.groups = list(groups.values())
        self.coders = nn.ModuleList(
            CODERS[kind]([model.stored()[name] for name in names], FIRST_STEPS[kind])
            for (kind, _, _), names in groups.items()
        )

    def advance(self, progress: float, recipe: Recipe) -> bool:
        """Set what depends on the fit's progress, in [0, 1): the noise, in steps. Gives whether
        values are rounded instead."""
        grown = min(1.0, progress / recipe.whole_noise_from)
        self.noise.fill_(recipe.least_noise + (1 - recipe.least_noise) * grown)
        self.progress.fill_(progress)
        return progress >= recipe.rounding_from

    def forward(
        self, values: Mapping[str, Tensor], rounding: bool
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Each tensor as it is quantized, and the values of each group in steps: rounded, or with
        noise.

        Args:
            values: the model's tensors, by name.
        """
        stacks = [
            coder.stacked([values[name] for name in names])
            for names, coder in zip(self.groups, self.coders, strict=True)
        ]
        counts = [stack.numel() for stack in stacks]
        if not rounding:
            noise = torch.rand(sum(counts), device=self.noise.device).sub_(0.5).mul_(self.noise)
            noises = iter(noise.split(counts))
        quantized, integers = {}, []
        for names, coder, value in zip(self.groups, self.coders, stacks, strict=True):
            step = coder.step()
            q = value / step
            q = rounded(q) if rounding else q + next(noises).view(q.shape)
            quantized.update(zip(names, coder.split(q * step), strict=True))
            integers.append(q)
        return quantized, integers

    @torch.no_grad()
    def rounded(self, model: Representation) -> dict[str, Tensor]:
        """The model's tensors as they are quantized, by name."""
        return self(model.stored(), rounding=True)[0]

    def bits(self, integers: list[Tensor]) -> Tensor:
        """The bits of all values, with an estimate for the side information."""
        total = sum(coder.bits(q).sum() for coder, q in zip(self.coders, integers, strict=True))
        return total + SIDE_BITS * sum(coder.side_values() for coder in self.coders)

    def control(self, bits: Tensor) -> None:
        """Change the weight of the rate by how far `bits` are from the target, and by how far the
        fit is since this was done last."""
        ratio = (UNDERESTIMATED * bits.detach() / self.target_bits).clamp(0.5, 2)
        passed = self.progress - self.controlled.clamp(min=CONTROL_FROM)
        self.weight.mul_(ratio ** (CONTROL * passed.clamp(min=0)))
        self.controlled.copy_(self.progress)

    def data(self, model: Representation, coarser: float = 0.0) -> list[Data]:
        """What is stored of each tensor, in the order of the file; `coarser` as of TensorCoder."""
        tensors, found = model.stored(), {}
        for names, coder in zip(self.groups, self.coders, strict=True):
            found.update(zip(names, coder.data([tensors[n] for n in names], coarser), strict=True))
        return [found[name] for name in tensors]

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
