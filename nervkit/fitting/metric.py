"""The metric that a fit optimizes and reports: of RGB frames, or of their 4:2:0 planes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nervkit.errors import UsageError
from nervkit.fitting.losses import LOSSES, log_mse, loss_named
from nervkit.metrics import PLANE_WEIGHTS
from nervkit.models.base import Representation
from nervkit.models.recipe import Loss, Recipe
from nervkit.video.colour import Colour
from nervkit.video.planes import yuv_transform

RGB, YUV = "rgb", "yuv"
METRICS = (RGB, YUV)
#: added to a plane's mean squared error, 50 dB: chroma is often beyond the 40 dB of log_mse
PLANE_FLOOR = 1e-5
#: factor on chroma's deviation from its 2x2 mean in the loss. Planes do not contain it, but with 0
#: the colours of single pixels drift: RGB loses 8 dB, and planes 0.3 (benchmarks/metric.py)
DETAIL = 0.3


class Metric:
    """The metric "rgb": the PSNR of RGB frames, and the recipe's own loss."""

    name = RGB

    def by_value(self, loss: Loss) -> bool:
        """Return whether `loss` takes values in the arrangement of `Representation.fit_values`;
        otherwise it takes frames."""
        return loss.by_value

    def loss(self, loss: Loss, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar, between values in [0, 1], arranged according to `by_value`."""
        return loss.function(output, target)

    def psnr(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR in dB, (B,), of (B, 3, H, W) frames in [0, 1]; 100 dB at most."""
        return _psnr(output, target)


class PlanesMetric(Metric):
    """The metric "yuv": the 6:1:1 PSNR of 4:2:0 planes, (6 PSNR_Y + PSNR_U + PSNR_V) / 8 (Ohm et
    al., 2012). The loss is its negative, up to a factor (NVRC, 2409.07414):

        6/8 ln(MSE_Y + floor) + 1/8 ln(MSE_U + floor) + 1/8 ln(MSE_V + floor)

    A chroma sample is the mean of 2x2 pixels, fewer at an odd edge. In the loss, MSE_U and MSE_V
    include DETAIL^2 times the mean squared error of the pixels' deviations from these means.
    """

    name = YUV

    def __init__(self, colour: Colour, patch: int | None, device: torch.device) -> None:
        """`colour` defines the conversion to YUV; `patch` is the model's `value_patch`."""
        matrix, offsets = yuv_transform(colour)
        self._matrix = torch.from_numpy(matrix.astype(np.float32)).to(device)
        self._offsets = torch.from_numpy(offsets.astype(np.float32)).to(device)
        self._patch_map: Tensor | None = None
        if patch is not None and patch % 2 == 0:  # else 2x2 pixels span several patches
            self._patch_map = self._map_of_patches(patch)

    def by_value(self, loss: Loss) -> bool:
        return self._patch_map is not None

    def loss(self, loss: Loss, output: Tensor, target: Tensor) -> Tensor:
        planes = self._compared if self._patch_map is None else self._compared_of_patches
        pairs = zip(planes(output), planes(target), strict=True)
        return _weighted([log_mse(x, y, PLANE_FLOOR) for x, y in pairs])

    def psnr(self, output: Tensor, target: Tensor) -> Tensor:
        pairs = zip(self._planes(output), self._planes(target), strict=True)
        return _weighted([_psnr(x, y) for x, y in pairs])

    def _planes(self, frames: Tensor) -> list[Tensor]:
        """Return the planes of (B, 3, H, W) frames, 8-bit samples / 255: (B, H, W) luma and two
        chroma planes of (B, H / 2, W / 2), rounded up."""
        halved = F.avg_pool2d(frames, 2, ceil_mode=True)
        return self._transformed(frames, halved)

    def _compared(self, frames: Tensor) -> list[Tensor]:
        """Return the (B, H, W) planes that the loss compares, of (B, 3, H, W) frames. Chroma planes
        have the full size: the means of 2x2 pixels plus DETAIL times the deviations."""
        height, width = frames.shape[2:]
        halved = F.avg_pool2d(frames, 2, ceil_mode=True)
        means = F.interpolate(halved, scale_factor=2, mode="nearest")[..., :height, :width]
        return self._transformed(frames, torch.lerp(means, frames, DETAIL))

    def _compared_of_patches(self, values: Tensor) -> list[Tensor]:
        """Return the same planes of (..., 3 side^2) patches, three times (..., side^2), by a linear
        map of each patch. The map leaves out the offsets, which cancel in differences."""
        assert self._patch_map is not None
        return list(F.linear(values, self._patch_map).chunk(3, dim=-1))

    def _map_of_patches(self, side: int) -> Tensor:
        """Return the linear map of a patch, (3 side^2, 3 side^2), from unit patches."""
        count = 3 * side**2
        units = torch.eye(count, device=self._matrix.device).reshape(count, 3, side, side)
        samples = zip(self._compared(units), self._offsets, strict=True)
        return torch.cat([(plane - offset).flatten(1) for plane, offset in samples], 1).T

    def _transformed(self, luma: Tensor, chroma: Tensor) -> list[Tensor]:
        """Return the Y plane of one (B, 3, H, W) batch, and the U and V planes of another."""
        rows = zip((luma, chroma, chroma), self._matrix, self._offsets, strict=True)
        return [torch.einsum("bchw,c->bhw", x, row) + offset for x, row, offset in rows]


def loss_of(metric: str, recipe: Recipe, what: str = "the recipe") -> Loss:
    """Return the loss with which a recipe optimizes a metric.

    For planes it is log_mse, also for recipes with mse, which luma would dominate. Raises
    UsageError if the recipe has no such loss; `what` names the recipe in the message.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}; choose from: {', '.join(METRICS)}")
    loss = loss_named(recipe.loss)
    if metric == RGB:
        return loss
    if not loss.by_value:
        known = " or ".join(name for name, known in LOSSES.items() if known.by_value)
        raise UsageError(
            f"the metric {metric} needs the loss {known}; {what} has {loss.name}, which is of RGB "
            "frames"
        )
    return LOSSES["log_mse"]


def metric_of(name: str, colour: Colour, model: Representation, device: torch.device) -> Metric:
    """Return the metric called `name`, for fits of `model` to a clip of a colour."""
    return Metric() if name == RGB else PlanesMetric(colour, model.value_patch, device)


def _weighted(values: list[Tensor]) -> Tensor:
    y, u, v = (weight * value for weight, value in zip(PLANE_WEIGHTS, values, strict=True))
    return y + u + v


def _psnr(output: Tensor, target: Tensor) -> Tensor:
    error = (output - target).square().flatten(1).mean(dim=1)
    return -10 * error.clamp(min=1e-10).log10()
