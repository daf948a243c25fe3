"""Fit one video of a collection: learn which shared weights it uses, and the values of the free
ones (PFNR, arXiv 2306.11305, section 3.1 and algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nervkit.compression.masked import QuantizedValues, SharedWeights
from nervkit.compression.quantization import MAX_BITS, ladder_step, peak, quantize
from nervkit.compression.tensors import VECTOR_EXTRA_BITS
from nervkit.fitting.budget import LEAST_SECONDS, Budget, Length, Seconds, Steps
from nervkit.fitting.loop import Stepper, fit
from nervkit.fitting.progress import Progress
from nervkit.models.base import SEEDED, seeded
from nervkit.models.config import VideoShape
from nervkit.models.pfnr import HEAD, PFNR, PFNRConfig
from nervkit.models.recipe import Recipe

ROUNDING_SHARE = 0.15  # last share of a fit, with fixed masks and rounded free weights
ROUNDING_RATE = 0.3  # its learning rate over the recipe's


class MaskedWeight(nn.Module):
    """A shared tensor as a video uses it: its weights of the largest |score|, 0 elsewhere.

    Weights that earlier videos use are `frozen`: they may be selected and have no gradient.
    Straight-through estimators pass gradients through the selection to |score| (section 3.1, eq. 3)
    and through rounding to the weight.

    Args:
        used: bool, the weights that earlier videos use.
        frozen: float32, their values.
        keep: number of selected weights.
        reuse: whether frozen weights may be selected.
    """

    used: Tensor
    frozen: Tensor

    def __init__(self, used: Tensor, frozen: Tensor, keep: int, reuse: bool) -> None:
        super().__init__()
        fan_in = max(1, math.prod(used.shape[1:]))
        scores = torch.empty_like(frozen).uniform_(-1, 1) / math.sqrt(fan_in)
        self.scores = nn.Parameter(scores)
        self.register_buffer("used", used)
        self.register_buffer("frozen", frozen)
        self.keep, self.reuse = keep, reuse
        self.settled: Tensor | None = None  # the final mask
        self.step, self.peak = 1.0, 0  # quantizer of free weights once the mask is final

    def mask(self) -> Tensor:
        """Return the mask of selected weights, bool."""
        if self.settled is not None:
            return self.settled
        sizes = self.scores.detach().abs()
        if not self.reuse:
            sizes = sizes.masked_fill(self.used, -1.0)
        least = sizes.flatten().kthvalue(sizes.numel() - self.keep + 1).values
        return sizes >= least.clamp(min=0)

    def forward(self, weight: Tensor) -> Tensor:
        mask = self.mask().to(weight.dtype)
        if self.settled is None:
            size = self.scores.abs()
            mask = mask + size - size.detach()
        else:
            rounded = self.rounded(weight) * self.step
            weight = weight + (rounded - weight).detach()
        return mask * torch.where(self.used, self.frozen, weight)

    def rounded(self, weight: Tensor) -> Tensor:
        """Return the quantized integers of all weights; only those of free weights are used."""
        return (weight / self.step).round().clamp(-self.peak, self.peak)

    @torch.no_grad()
    def settle(self, weight: Tensor, bits: int) -> int:
        """Fix the mask, and round free weights to `bits` bits from now on. Return the ladder
        position of their step size, which minimises the error."""
        self.settled = self.mask()
        self.scores.requires_grad_(False)
        free = weight[self.settled & ~self.used].float().cpu().numpy()
        if not free.size:
            return 0
        index = quantize(free, bits).steps
        self.step, self.peak = float(ladder_step(index)[0]), peak(bits)
        return int(index[0])


class MaskedNetwork(PFNR):
    """PFNR's network with every shared tensor parametrized by `MaskedWeight`."""

    def __init__(
        self,
        config: PFNRConfig,
        shape: VideoShape,
        weights: SharedWeights,
        keep: float,
        reuse: bool,
    ) -> None:
        super().__init__(config, shape)
        self._places: dict[str, tuple[nn.Module, str]] = {}
        for name in self.shared():
            path, _, attribute = name.rpartition(".")
            self._places[name] = self.get_submodule(path), attribute
        for name, (module, attribute) in self._places.items():
            used = torch.from_numpy(weights.used[name])
            free = int((~used).sum())
            count = max(1, round(keep * used.numel()))
            count = count if reuse else max(1, min(count, free))
            frozen = torch.from_numpy(weights.values[name])
            masked = MaskedWeight(used.clone(), frozen.clone(), count, reuse)
            parametrize.register_parametrization(module, attribute, masked)

    def masked(self) -> dict[str, tuple[MaskedWeight, Tensor]]:
        """Return the mask of each shared tensor and the free weights that it masks, by name."""
        found = {}
        for name, (module, attribute) in self._places.items():
            parametrized = cast("nn.ModuleDict", module.parametrizations)[attribute]
            (masked,) = cast("parametrize.ParametrizationList", parametrized)
            found[name] = cast("MaskedWeight", masked), cast("Tensor", parametrized.original)
        return found

    def matrices(self) -> list[str]:
        names = [n for n, p in self.named_parameters() if n.endswith(".original") and p.ndim > 1]
        return [name for name in names if ".fourier." not in name][1:]


@dataclass(frozen=True)
class FittedVideo:
    """The result of fitting a video.

    Attributes:
        masks: masks of the shared weights that it uses, bool, by name.
        added: quantized weights that no earlier video uses, in array order, by name.
        head: quantized tensors of its own head, by name.
        steps: number of steps of the fit.
        notes: problems that the fit recovered from.
    """

    masks: dict[str, np.ndarray]
    added: dict[str, QuantizedValues]
    head: dict[str, QuantizedValues]
    steps: int
    notes: tuple[str, ...]

    def taken(self, weights: SharedWeights) -> dict[str, np.ndarray]:
        """Add the video to `weights`. Return its float32 tensors, those of the head flat."""
        head = {name: integers.dequantize() for name, integers in self.head.items()}
        return weights.take(self.masks, self.added) | head


def fit_video(
    frames: Tensor,
    config: PFNRConfig,
    weights: SharedWeights,
    budget: Budget,
    recipe: Recipe,
    *,
    keep: float,
    bits: int,
    seed: int = 0,
    reuse: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FittedVideo:
    """Fit the next video of a collection.

    Its masks and its free weights are learned together. In the last steps (ROUNDING_SHARE of all,
    with learning rates times ROUNDING_RATE) masks are fixed and weights are rounded.

    Args:
        frames: (T, 3, H, W) uint8, on the device to compute on.
        config: of the collection's network, for this video.
        weights: the shared weights of earlier videos.
        keep: share of each tensor's weights that the video uses, 0 to 1.
        bits: bit depth of an added weight; biases get VECTOR_EXTRA_BITS more.
        reuse: whether the video may use weights of earlier videos.
        stop: called before each step; Interrupted is raised if it returns True.
    """
    shape = VideoShape(len(frames), *frames.shape[2:])
    with SEEDED, seeded(seed):
        network = MaskedNetwork(config, shape, weights, keep, reuse)
    network.to(frames.device)
    common: dict[str, Any] = {"on_progress": on_progress, "stop": stop}
    stepper = Stepper(network, frames, recipe, seed=seed)
    first, second = phase_lengths(budget, stepper)
    fitted = fit(stepper, first, **common)
    steps = {
        name: masked.settle(weight, bit_depth(bits, weight))
        for name, (masked, weight) in network.masked().items()
    }
    stepper = Stepper(network, frames, recipe.slower(ROUNDING_RATE), seed=seed)
    tuned = fit(stepper, second, phase="round", **common)
    masks, added = {}, {}
    for name, (masked, weight) in network.masked().items():
        integers = masked.rounded(weight.detach()).int().cpu().numpy()
        used = masked.used.cpu().numpy()
        # A free weight that is rounded to 0 has no effect: it stays free.
        masks[name] = masked.mask().cpu().numpy() & (used | (integers != 0))
        added[name] = QuantizedValues(integers[masks[name] & ~used], steps[name])
    head = {n: finest(tensor) for n, tensor in network.state_dict().items() if HEAD in n}
    return FittedVideo(masks, added, head, fitted.steps + tuned.steps, fitted.notes + tuned.notes)


def bit_depth(bits: int, weight: Tensor) -> int:
    """Return the bit depth of a tensor: biases are few and sensitive, and get more."""
    return min(bits + VECTOR_EXTRA_BITS, MAX_BITS) if weight.ndim == 1 else bits


def finest(tensor: Tensor) -> QuantizedValues:
    """Quantize a tensor of the head at the largest bit depth."""
    quantized = quantize(tensor.detach().cpu().numpy().ravel(), MAX_BITS)
    return QuantizedValues(quantized.values, int(quantized.steps[0]))


def phase_lengths(budget: Budget, stepper: Stepper) -> tuple[Length, Length]:
    """Return the lengths of the fit and of the rounding."""
    if budget.seconds is not None:
        seconds = ROUNDING_SHARE * budget.seconds
        return Seconds(max(LEAST_SECONDS, budget.seconds - seconds)), Seconds(seconds)
    total = budget.total_steps(stepper.steps_per_epoch, stepper.pixels_per_step)
    second = max(1, round(ROUNDING_SHARE * total))
    return Steps(max(1, total - second)), Steps(second)
