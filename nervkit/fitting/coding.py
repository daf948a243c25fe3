"""Rate-distortion fitting: quantization noise, the rate in the loss, and the final integers.

Uniform noise of a growing amplitude on values in steps stands in for rounding (Balle et al.,
1611.01704, section 3; NVRC, 2409.07414, for weights and grids). The last steps of the fit round
the values, with a straight-through gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nervkit.compression.coded import CodedTensor, compress_coded
from nervkit.fitting.coders import GOLDEN, SIDE_BITS, GridCoder, TensorCoder, codings_of, rounded
from nervkit.fitting.quantizers import LEAST_ERROR, FitQuantizer, StepKind
from nervkit.keywords import option
from nervkit.models.base import Representation
from nervkit.models.recipe import Loss, Recipe

FIRST_WEIGHT = 0.45  # weight * bits; 0.8 is the optimum of a curve of 2.4 dB per doubling of bits
MOST_WEIGHT = 4.0  # upper bound of weight * bits: a larger weight would undo the fit
CONTROL = 25.0  # exponent with which the weight follows the bits over a complete fit
CONTROL_FROM = 0.3  # share of the fit before control: values with little noise take few bits
UNDERESTIMATED = 1.04  # real bits over those of the loss, which ignores the rounding of contexts
RATE_EVERY = 2  # steps: the rate's gradient changes slowly
PSNR_CONTROL, PSNR_CONTROL_FROM = 12.0, 0.6  # CONTROL and CONTROL_FROM for a target of PSNR
STILL_GAINED = 4.4  # dB that a fit gains after PSNR_CONTROL_FROM, times the share that is left
TOLERANCE = 0.01  # relative, of a size that the user asked for
LOOSE_TOLERANCE = 0.1  # relative, of a default size
PSNR_TOLERANCE = 0.03  # dB
MOST_CHANGE, SEARCHES = 16.0, 10  # of all step sizes, in quarters of an octave; by bisection
NEARBY, AROUND = 12, 0.6  # further trials, within AROUND quarters of an octave of the last one


class Codec(FitQuantizer):
    """The coders of all stored tensors of a model.

    The loss is ln D + weight * bits. On a rate-distortion curve of s dB per doubling of the bytes,
    its minimum has weight * bits = s ln 10 / (10 ln 2), which is 0.8 for s = 2.4.
    """

    weight: Tensor
    controlled: Tensor
    progress: Tensor
    noise: Tensor

    def __init__(
        self, model: Representation, target_bits: float, target_psnr: float | None = None
    ) -> None:
        """
        Args:
            model: as it is at the start of the fit.
            target_bits: of the coded tensors; with a `target_psnr`, the expected number.
            target_psnr: in dB.
        """
        super().__init__()
        self.target_bits, self.target_psnr = target_bits, target_psnr
        self.register_buffer("weight", torch.tensor(FIRST_WEIGHT / target_bits))
        self.register_buffer("controlled", torch.tensor(0.0))  # progress at the last `control`
        # All that changes from step to step is in tensors, so that a CUDA graph can record a step.
        self.register_buffer("progress", torch.tensor(0.0), persistent=False)
        self.register_buffer("noise", torch.tensor(0.0), persistent=False)
        codings, stored = codings_of(model), model.stored()
        groups: dict[tuple[Any, ...], list[str]] = {}
        for name, value in stored.items():
            alone = name if issubclass(codings[name].coder, GridCoder) else None
            groups.setdefault((codings[name], value.shape, alone), []).append(name)
        #: names of tensors of one shape and kind, which one coder codes together
        self.groups = list(groups.values())
        self.coders = nn.ModuleList(
            coding.coder([stored[name] for name in names], coding.first_step)
            for (coding, _, _), names in groups.items()
        )

    def _grouped(self) -> Iterator[tuple[list[str], TensorCoder]]:
        """Yield the names of each group and its coder."""
        for names, coder in zip(self.groups, self.coders, strict=True):
            yield names, cast(TensorCoder, coder)

    def start_from(self, coded: Mapping[str, CodedTensor]) -> None:
        """Start with the step sizes, scales and contexts of coded tensors, by name. Groups that
        `coded` lacks a tensor of keep theirs."""
        for names, coder in self._grouped():
            if all(name in coded for name in names):
                coder.start_from([coded[name] for name in names])

    def advance(self, progress: float, recipe: Recipe) -> bool:
        """Set the amplitude of the noise, in steps, for the fit's progress in [0, 1), and return
        whether values are rounded instead."""
        grown = min(1.0, progress / recipe.whole_noise_from)
        self.noise.fill_(recipe.least_noise + (1 - recipe.least_noise) * grown)
        self.progress.fill_(progress)
        return progress >= recipe.rounding_from

    def step_kind(self, k: int, progress: float, recipe: Recipe) -> StepKind:
        return StepKind(rounding=self.advance(progress, recipe), rate=k % RATE_EVERY == 0)

    def forward(
        self, values: Mapping[str, Tensor], rounding: bool = False, rate: bool = False
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return the quantized tensors, by name, and the values of each group in steps: rounded, or
        with noise. `values` are the model's tensors, by name."""
        grouped = list(self._grouped())
        stacks = [coder.stacked([values[name] for name in names]) for names, coder in grouped]
        counts = [stack.numel() for stack in stacks]
        if not rounding:
            noise = torch.rand(sum(counts), device=self.noise.device).sub_(0.5).mul_(self.noise)
            noises = iter(torch.split(noise, counts))
        quantized: dict[str, Tensor] = {}
        integers = []
        for (names, coder), value in zip(grouped, stacks, strict=True):
            step = coder.step()
            q = value / step
            q = rounded(q) if rounding else q + next(noises).view(q.shape)
            quantized.update(zip(names, coder.split(q * step), strict=True))
            integers.append(q)
        return quantized, integers

    @torch.no_grad()
    def rounded(self, model: Representation) -> dict[str, Tensor]:
        """Return the model's tensors after quantization, by name."""
        return self(model.stored(), rounding=True)[0]

    def bits(self, integers: list[Tensor]) -> Tensor:
        """Return the bits of all values plus an estimate of the side information's."""
        coders = [coder for _, coder in self._grouped()]
        first, *others = (coder.bits(q).sum() for coder, q in zip(coders, integers, strict=True))
        side_values = sum(coder.side_values() for coder in coders)
        return sum(others, first) + SIDE_BITS * side_values

    def objective(
        self,
        loss: Tensor,
        error: Tensor,
        criterion: Loss,
        coded: list[Tensor],
        rounding: bool = False,
        rate: bool = False,
    ) -> Tensor:
        """Return the logarithm of any recipe's loss plus the weighted rate."""
        distortion = criterion.error(loss).clamp(min=LEAST_ERROR)
        if not rate:
            return distortion.log()
        bits = self.bits(coded)
        total = distortion.log() + RATE_EVERY * self.weight * bits
        self.control(bits, error if criterion.by_value else None)
        return total

    def control(self, bits: Tensor, error: Tensor | None) -> None:
        """Adapt the weight of the rate to the distance from the target, and to the progress since
        the last call.

        Args:
            bits: of all values in this step.
            error: mean squared error of this step, for a target of PSNR; None: unknown.
        """
        begins, exponent = CONTROL_FROM, CONTROL
        if self.target_psnr is None:
            ratio = UNDERESTIMATED * bits.detach() / self.target_bits
        elif error is None:
            return
        else:
            begins, exponent = PSNR_CONTROL_FROM, PSNR_CONTROL
            still_gained = STILL_GAINED * (1 - self.progress)
            ratio = 10 ** ((still_gained - self.target_psnr) / 10) / error
        elapsed = (self.progress - self.controlled.clamp(min=begins)).clamp(min=0)
        self.weight.mul_(ratio.clamp(0.5, 2) ** (exponent * elapsed))
        self.weight.clamp_(max=MOST_WEIGHT / self.target_bits)
        self.controlled.copy_(self.progress)

    def data(self, model: Representation, coarser: float = 0.0) -> list[CodedTensor]:
        """Return each tensor as it is stored, in the order of the file, with all step sizes
        `coarser` quarters of an octave larger."""
        tensors = model.stored()
        found: dict[str, CodedTensor] = {}
        for index, (names, coder) in enumerate(self._grouped()):
            # Offsets spread the jumps of tensors with few rows over different values of `coarser`.
            offset = (index * GOLDEN % 1 - 0.5) * min(1.0, abs(coarser))
            data = coder.data([tensors[name] for name in names], coarser + offset)
            found.update(zip(names, data, strict=True))
        return [found[name] for name in tensors]

    def compress(
        self,
        model: Representation,
        psnr_of: Callable[[dict[str, Tensor]], float] | None = None,
        exactly: bool = True,
    ) -> bytes:
        """Return the coded tensors, in about the target's bytes or at about its PSNR.

        If they miss the target by more than TOLERANCE (LOOSE_TOLERANCE unless `exactly`, or
        PSNR_TOLERANCE), a search makes all step sizes larger or smaller, by MOST_CHANGE quarters of
        an octave at most.

        Args:
            model: fitted through this codec.
            psnr_of: returns the PSNR of the model with given decoded tensors; for a target of PSNR.
            exactly: whether the target must be met as closely as possible.
        """
        tolerance = TOLERANCE if exactly else LOOSE_TOLERANCE
        search = _Search(self, model, psnr_of, tolerance)
        middle = 0.0
        low, high = (0.0, MOST_CHANGE) if search.too_fine(0.0) else (-MOST_CHANGE, 0.0)
        for _ in range(SEARCHES):
            if search.met:
                return search.payload()
            middle = (low + high) / 2
            low, high = (middle, high) if search.too_fine(middle) else (low, middle)
        # The bytes jump where a row's step size jumps; other values make other rows jump.
        for k in range(NEARBY if exactly else 0):
            if search.met:
                break
            search.too_fine(middle + AROUND * (2 * (k + 1) / (NEARBY + 1) - 1))
        return search.payload()

    def missed(self, payload: bytes, psnr: float) -> str | None:
        """Return a note if coded tensors miss the target, by more than 2% of its bytes or 0.1 dB of
        its PSNR. `psnr` is that of the decoded frames."""
        if self.target_psnr is not None:
            if abs(psnr - self.target_psnr) <= 0.1:
                return None
            params = option("params")
            closer = (
                f"fewer {params}" if psnr > self.target_psnr else f"a longer fit or more {params}"
            )
            return (
                f"the video has {psnr:.2f} dB instead of the target {self.target_psnr:g}: "
                f"{closer} come closer"
            )
        target = round(self.target_bits / 8)
        if abs(len(payload) - target) <= 0.02 * target:
            return None
        closer = (
            f"a longer fit or {'fewer' if len(payload) > target else 'more'} {option('params')}"
        )
        return (
            f"the tensors take {len(payload):,} bytes instead of the target {target:,}: "
            f"{closer} come closer"
        )


@dataclass
class _Search:
    """A search of the step sizes that meet a codec's target.

    Attributes:
        best: the tensors nearest to the target so far, and their bytes if these are known.
        least: their distance from the target, in tolerances.
    """

    codec: Codec
    model: Representation
    psnr_of: Callable[[dict[str, Tensor]], float] | None
    tolerance: float
    best: tuple[list[CodedTensor], bytes | None] = ([], None)
    least: float = math.inf

    @property
    def met(self) -> bool:
        """Whether the best coded tensors meet the target within the tolerance."""
        return self.least <= 1

    def payload(self) -> bytes:
        """Return the best tensors, coded."""
        data, payload = self.best
        return compress_coded(data) if payload is None else payload

    def too_fine(self, coarser: float) -> bool:
        """Quantize the tensors with all step sizes `coarser` quarters of an octave larger. Return
        whether these are still too fine for the target."""
        data = self.codec.data(self.model, coarser)
        payload = None
        if self.codec.target_psnr is None or self.psnr_of is None:
            payload = compress_coded(data)
            target = self.codec.target_bits / 8
            excess = (len(payload) - target) / (self.tolerance * target)
        else:
            names = self.model.stored()
            decoded = {
                name: torch.from_numpy(tensor.dequantize())
                for name, tensor in zip(names, data, strict=True)
            }
            excess = (self.psnr_of(decoded) - self.codec.target_psnr) / PSNR_TOLERANCE
        if abs(excess) < self.least:
            self.least, self.best = abs(excess), (data, payload)
        return excess > 0
