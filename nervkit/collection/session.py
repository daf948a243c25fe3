"""The fit of one video of a collection: which shared weights it uses, and what the free ones of
them become (PFNR, 2306.11305, section 3.1 and algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nervkit.compression.masked import Integers, SharedWeights
from nervkit.compression.quantization import MAX_BITS, ladder_step, peak, quantize
from nervkit.compression.tensors import VECTOR_EXTRA_BITS
from nervkit.fitting.budget import LEAST_SECONDS, Budget, Length, Seconds, Steps
from nervkit.fitting.loop import Stepper, fit
from nervkit.fitting.progress import Progress
from nervkit.models.base import SEEDED, seeded
from nervkit.models.config import VideoShape
from nervkit.models.pfnr import HEAD, PFNR, PFNRConfig
from nervkit.models.recipe import Recipe

ROUNDING_SHARE = 0.15  # of a fit: masks are fixed, free weights are rounded, and rates are
ROUNDING_RATE = 0.3  # so much of the recipe's


class Chosen(nn.Module):
    """A shared tensor as a video uses it: its weights of the largest |score|, 0 elsewhere.

    What an earlier video uses is `frozen`: it may be chosen, and has no gradient. Gradients pass
    the choice straight to |score| (section 3.1, eq. 3), and rounding straight to the weight.

    Args:
        used: bool, which weights earlier videos use.
        frozen: float32, their values.
        keep: how many are chosen.
        reuse: whether frozen weights may be.
    """

    def __init__(self, used: Tensor, frozen: Tensor, keep: int, reuse: bool) -> None:
        super().__init__()
        fan_in = max(1, math.prod(used.shape[1:]))
        scores = torch.empty_like(frozen).uniform_(-1, 1) / math.sqrt(fan_in)
        self.scores = nn.Parameter(scores)
        self.register_buffer("used", used)
        self.register_buffer("frozen", frozen)
        self.keep, self.reuse = keep, reuse
        self.settled: Tensor | None = None  # the mask, once it no longer changes,
        self.step, self.peak = 1.0, 0  # with how free weights are rounded from then on

    def mask(self) -> Tensor:
        """Which weights are chosen, bool."""
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
        """The integers of all weights, as far as they are free."""
        return (weight / self.step).round().clamp(-self.peak, self.peak)

    @torch.no_grad()
    def settle(self, weight: Tensor, bits: int) -> int:
        """From now on keep the mask, and round free weights to `bits` bits with the step of least
        error, whose ladder position is returned."""
        self.settled = self.mask()
        self.scores.requires_grad_(False)
        free = weight[self.settled & ~self.used].float().cpu().numpy()
        if not free.size:
            return 0
        index = quantize(free, bits).steps
        self.step, self.peak = float(ladder_step(index)[0]), peak(bits)
        return int(index[0])


class ChosenNetwork(PFNR):
    """PFNR's network with every shared tensor seen through `Chosen`."""

    def __init__(
        self,
        config: PFNRConfig,
        shape: VideoShape,
        weights: SharedWeights,
        keep: float,
        reuse: bool,
    ) -> None:
        super().__init__(config, shape)
        self.places = {
            name: (self.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
            for name in self.shared()
        }
        for name, (module, attribute) in self.places.items():
            used = torch.from_numpy(weights.used[name])
            free = int((~used).sum())
            count = max(1, round(keep * used.numel()))
            count = count if reuse else max(1, min(count, free))
            frozen = torch.from_numpy(weights.values[name])
            chosen = Chosen(used.clone(), frozen.clone(), count, reuse)
            parametrize.register_parametrization(module, attribute, chosen)

    def chosen(self) -> dict[str, tuple[Chosen, Tensor]]:
        """What chooses of each shared tensor, and the free weights beneath, by name."""
        lists = {n: module.parametrizations[a] for n, (module, a) in self.places.items()}
        return {name: (of[0], of.original) for name, of in lists.items()}

    def matrices(self) -> list[str]:
        names = [n for n, p in self.named_parameters() if n.endswith(".original") and p.ndim > 1]
        return [name for name in names if ".fourier." not in name][1:]


@dataclass(frozen=True)
class FittedVideo:
    """What a fit makes of a video.

    Attributes:
        masks: which shared weights it uses, bool, by name.
        added: the integers of those that no earlier video uses, in the order of the arrays.
        head: the integers of its own tensors, by name.
        steps: of the fit.
        notes: what went wrong and was mended.
    """

    masks: dict[str, np.ndarray]
    added: dict[str, Integers]
    head: dict[str, Integers]
    steps: int
    notes: tuple[str, ...]

    def taken(self, weights: SharedWeights) -> dict[str, np.ndarray]:
        """Count the video in, and give its float32 tensors, those of the head flat."""
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

    Its masks and its free weights are learned together; in the last steps (the share and the rates
    of a fine-tuning) masks stay, and weights are rounded.

    Args:
        frames: (T, 3, H, W) uint8, on the device to compute on.
        config: of the collection's network, for this video.
        weights: what earlier videos use.
        keep: share of each tensor's weights that the video uses, 0 to 1.
        bits: of a weight that it adds; biases get VECTOR_EXTRA_BITS more.
        reuse: whether it may use weights of earlier videos.
        stop: asked before each step; once True, Interrupted is raised.
    """
    shape = VideoShape(len(frames), *frames.shape[2:])
    with SEEDED, seeded(seed):
        network = ChosenNetwork(config, shape, weights, keep, reuse)
    network.to(frames.device)
    common: dict[str, Any] = {"on_progress": on_progress, "stop": stop}
    stepper = Stepper(network, frames, recipe, seed=seed)
    first, second = lengths(budget, stepper)
    fitted = fit(stepper, first, **common)
    steps = {
        name: chosen.settle(weight, wide(bits, weight))
        for name, (chosen, weight) in network.chosen().items()
    }
    stepper = Stepper(network, frames, recipe.slower(ROUNDING_RATE), seed=seed)
    tuned = fit(stepper, second, phase="round", **common)
    masks, added = {}, {}
    for name, (chosen, weight) in network.chosen().items():
        integers = chosen.rounded(weight.detach()).int().cpu().numpy()
        used = chosen.used.cpu().numpy()
        # A free weight that is rounded to 0 shows nothing: it stays free.
        masks[name] = chosen.mask().cpu().numpy() & (used | (integers != 0))
        added[name] = Integers(integers[masks[name] & ~used], steps[name])
    head = {name: whole(tensor) for name, tensor in network.state_dict().items() if HEAD in name}
    return FittedVideo(masks, added, head, fitted.steps + tuned.steps, fitted.notes + tuned.notes)


def wide(bits: int, weight: Tensor) -> int:
    """Bits of a tensor's values: biases are few and sensitive."""
    return min(bits + VECTOR_EXTRA_BITS, MAX_BITS) if weight.ndim == 1 else bits


def whole(tensor: Tensor) -> Integers:
    """All values of a tensor of the head, at the finest."""
    quantized = quantize(tensor.detach().cpu().numpy().ravel(), MAX_BITS)
    return Integers(quantized.values, int(quantized.steps[0]))


def lengths(budget: Budget, stepper: Stepper) -> tuple[Length, Length]:
    """Return the length of the fit and of the rounding."""
    if budget.seconds is not None:
        seconds = ROUNDING_SHARE * budget.seconds
        return Seconds(max(LEAST_SECONDS, budget.seconds - seconds)), Seconds(seconds)
    total = budget.total_steps(stepper.steps_per_epoch, stepper.pixels_per_step)
    second = max(1, round(ROUNDING_SHARE * total))
    return Steps(max(1, total - second)), Steps(second)
