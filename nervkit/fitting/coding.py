"""Fitting for rate and distortion: quantization noise, the rate in the loss, and the integers that
are written in the end.

Uniform noise of a growing amplitude on values in steps stands in for their rounding (Balle et al.,
1611.01704, section 3; NVRC, 2409.07414, for weights and grids); in the last steps values are
rounded, and gradients pass as if they were not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nervkit.compression.coded import Data, compress_coded
from nervkit.fitting.coders import GOLDEN, SIDE_BITS, GridCoder, codings_of, rounded
from nervkit.fitting.quantizing import LEAST_ERROR, Quantizing
from nervkit.models.base import Representation
from nervkit.models.recipe import Loss, Recipe

FIRST_WEIGHT = 0.45  # weight * bits; 0.8 is the optimum of a curve of 2.4 dB for each doubling
MOST_WEIGHT = 4.0  # the same where the target cannot be had: more would undo the fit
CONTROL = 25.0  # the exponent by which the weight follows the bits, over a whole fit,
UNDERESTIMATED = 1.04  # real bits over those of the loss, which knows no rounding of contexts
RATE_EVERY = 2  # steps: the rate's gradient changes slowly
CONTROL_FROM = 0.3  # from this share of the fit on: values of little noise take few bits
TOLERANCE, MOST_CHANGE, SEARCHES = 0.01, 16.0, 10  # of a size that is aimed at
LOOSE_TOLERANCE = 0.1  # of one that nobody asked for
NEARBY, AROUND = 12, 0.6  # more searches, up to so many quarters of an octave from where they end
PSNR_CONTROL, PSNR_CONTROL_FROM = 12.0, 0.6  # the same for a PSNR,
STILL_GAINED = 4.4  # dB of which a fit gains from there on, times the share that is left
PSNR_TOLERANCE = 0.03  # dB
CLOSER = "a longer fit or more --params come"


class Codec(Quantizing):
    """The coders of all tensors of a model that travel.

    The loss is ln D + weight * bits. On a curve of s dB for each doubling of the bytes it is least
    where weight * bits = s ln 10 / (10 ln 2), which is 0.8 for s = 2.4.
    """

    weight: Tensor
    controlled: Tensor
    progress: Tensor
    noise: Tensor

    def __init__(
        self, model: Representation, target_bits: float, target_psnr: float | None = None
    ) -> None:
        """`target_bits`: what the coded tensors are to take; where there is a `target_psnr` in dB
        instead, what it is expected to take."""
        super().__init__()
        self.target_bits, self.target_psnr = target_bits, target_psnr
        self.register_buffer("weight", torch.tensor(FIRST_WEIGHT / target_bits))
        self.register_buffer("controlled", torch.tensor(0.0))  # the fit's progress then
        # What changes from step to step is in tensors, so that a CUDA graph can record a step.
        self.register_buffer("progress", torch.tensor(0.0), persistent=False)
        self.register_buffer("noise", torch.tensor(0.0), persistent=False)
        codings, stored = codings_of(model), model.stored()
        groups: dict[tuple[Any, ...], list[str]] = {}
        for name, value in stored.items():
            alone = name if issubclass(codings[name].coder, GridCoder) else None
            groups.setdefault((codings[name], value.shape, alone), []).append(name)
        #: tensors of one shape and kind are computed as one
        self.groups = list(groups.values())
        self.coders = nn.ModuleList(
            coding.coder([stored[name] for name in names], coding.first_step)
            for (coding, _, _), names in groups.items()
        )

    def start_from(self, coded: Mapping[str, Data]) -> None:
        """Begin with the steps, scales and contexts of tensors that were coded before, by name;
        those of groups that are not all among them stay."""
        for names, coder in zip(self.groups, self.coders, strict=True):
            if all(name in coded for name in names):
                coder.start_from([coded[name] for name in names])

    def advance(self, progress: float, recipe: Recipe) -> bool:
        """Set what depends on the fit's progress, in [0, 1): the noise, in steps. Gives whether
        values are rounded instead."""
        grown = min(1.0, progress / recipe.whole_noise_from)
        self.noise.fill_(recipe.least_noise + (1 - recipe.least_noise) * grown)
        self.progress.fill_(progress)
        return progress >= recipe.rounding_from

    def flags(self, k: int, progress: float, recipe: Recipe) -> tuple[bool, ...]:
        """Whether values are rounded, and whether the rate is in the loss."""
        return self.advance(progress, recipe), k % RATE_EVERY == 0

    def forward(
        self, values: Mapping[str, Tensor], rounding: bool, rate: bool = False
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

    def objective(
        self,
        loss: Tensor,
        measured: Tensor,
        aim: Loss,
        coded: list[Tensor],
        rounding: bool,
        rate: bool,
    ) -> Tensor:
        """The loss by its logarithm, whatever the recipe's, and the rate weighed against it."""
        error = aim.error(loss).clamp(min=LEAST_ERROR)
        if not rate:
            return error.log()
        bits = self.bits(coded)
        total = error.log() + RATE_EVERY * self.weight * bits
        self.control(bits, measured if aim.by_value else None)
        return total

    def control(self, bits: Tensor, error: Tensor | None) -> None:
        """Change the weight of the rate by how far `bits` are from the target, or the mean squared
        `error` of a step from what the target allows (None: not known), and by how far the fit is
        since this was done last."""
        begins, exponent = CONTROL_FROM, CONTROL
        if self.target_psnr is None:
            ratio = UNDERESTIMATED * bits.detach() / self.target_bits
        elif error is None:
            return
        else:
            begins, exponent = PSNR_CONTROL_FROM, PSNR_CONTROL
            still_gained = STILL_GAINED * (1 - self.progress)
            ratio = 10 ** ((still_gained - self.target_psnr) / 10) / error
        passed = (self.progress - self.controlled.clamp(min=begins)).clamp(min=0)
        self.weight.mul_(ratio.clamp(0.5, 2) ** (exponent * passed))
        self.weight.clamp_(max=MOST_WEIGHT / self.target_bits)
        self.controlled.copy_(self.progress)

    def data(self, model: Representation, coarser: float = 0.0) -> list[Data]:
        """What is stored of each tensor, in the order of the file; `coarser` as of TensorCoder."""
        tensors, found = model.stored(), {}
        for index, (names, coder) in enumerate(zip(self.groups, self.coders, strict=True)):
            # Tensors of few rows take their jumps one after the other.
            phase = (index * GOLDEN % 1 - 0.5) * min(1.0, abs(coarser))
            data = coder.data([tensors[name] for name in names], coarser + phase)
            found.update(zip(names, data, strict=True))
        return [found[name] for name in tensors]

    def compress(
        self,
        model: Representation,
        psnr_of: Callable[[dict[str, Tensor]], float] | None = None,
        exactly: bool = True,
    ) -> bytes:
        """The coded tensors, in about the target's bytes: where they miss it by more than
        TOLERANCE, or LOOSE_TOLERANCE where it is not to be met `exactly`, all steps are made larger
        or smaller, by MOST_CHANGE quarters of an octave at most. With a target of PSNR the same is
        done for what `psnr_of` gives for a model with the decoded tensors."""
        names = list(model.stored())

        def tried(coarser: float) -> tuple[float, bytes]:
            """How far steps are too fine, in terms of the tolerance, and the bytes."""
            data = self.data(model, coarser)
            payload = compress_coded(data)
            if self.target_psnr is None or psnr_of is None:
                target = self.target_bits / 8
                return (len(payload) - target) / (tolerance * target), payload
            arrays = zip(names, data, strict=True)
            shown = psnr_of({name: torch.from_numpy(d.dequantize()) for name, d in arrays})
            return (shown - self.target_psnr) / PSNR_TOLERANCE, payload

        def looked_at(coarser: float) -> bool:
            """Try it; whether steps were too fine."""
            nonlocal best, least
            excess, payload = tried(coarser)
            if abs(excess) < least:
                least, best = abs(excess), payload
            return excess > 0

        tolerance = TOLERANCE if exactly else LOOSE_TOLERANCE
        best, least, middle = b"", math.inf, 0.0
        low, high = (0.0, MOST_CHANGE) if looked_at(0.0) else (-MOST_CHANGE, 0.0)
        for _ in range(SEARCHES):
            if least <= 1:
                return best
            middle = (low + high) / 2
            low, high = (middle, high) if looked_at(middle) else (low, middle)
        # A row that goes to the next quarter of an octave may make a jump; others make others.
        for k in range(NEARBY if exactly else 0):
            if least <= 1:
                break
            looked_at(middle + AROUND * (2 * (k + 1) / (NEARBY + 1) - 1))
        return best

    def missed(self, payload: bytes, psnr: float) -> str | None:
        """What there is to say where coded tensors miss the target, by more than 2% of its bytes or
        0.1 dB of its PSNR; `psnr` is what they show."""
        if self.target_psnr is not None:
            if abs(psnr - self.target_psnr) <= 0.1:
                return None
            closer = "fewer --params come" if psnr > self.target_psnr else CLOSER
            return (
                f"the video has {psnr:.2f} dB, and {self.target_psnr:g} were aimed at: "
                f"{closer} closer"
            )
        target = round(self.target_bits / 8)
        if abs(len(payload) - target) <= 0.02 * target:
            return None
        closer = "a longer fit or fewer --params come" if len(payload) > target else CLOSER
        return (
            f"the tensors take {len(payload):,} bytes, and {target:,} were aimed at: "
            f"{closer} closer"
        )
