"""What a fit is optimised for and shown in: RGB frames, or their 4:2:0 planes."""

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
#: a mean squared error of a plane that is as good as any: 50 dB. Chroma is often beyond the 40 dB
#: of log_mse
PLANE_FLOOR = 1e-5
#: what is left of chroma's distance from its mean over 2x2 pixels. Planes do not show it, but with
#: 0 the colours of single pixels drift: RGB loses 8 dB, and planes 0.3 (benchmarks/metric.py)
DETAIL = 0.3


class Metric:
    """RGB frames: their PSNR, and the recipe's own loss."""

    name = RGB

    def by_value(self, loss: Loss) -> bool:
        """Whether a loss takes values as `Representation.fit_values` arranges them; otherwise it
        takes frames."""
        return loss.by_value

    def loss(self, loss: Loss, output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, between values in [0, 1] in the arrangement that `by_value` says."""
        return loss.function(output, target)

    def psnr(self, output: Tensor, target: Tensor) -> Tensor:
        """(B,) dB between (B, 3, H, W) frames in [0, 1]; 100 at the most."""
        return _psnr(output, target)


class PlanesMetric(Metric):
    """4:2:0 planes: their 6:1:1 PSNR, (6 PSNR_Y + PSNR_U + PSNR_V) / 8 (Ohm et al., 2012), and as
    the loss its negative, up to a factor (NVRC, 2409.07414):

        6/8 ln(MSE_Y + floor) + 1/8 ln(MSE_U + floor) + 1/8 ln(MSE_V + floor)

    A chroma sample is the mean of 2x2 pixels; at an odd edge, of those that there are. In the loss,
    MSE_U and MSE_V also have DETAIL^2 times the mean squared error of what 2x2 pixels differ by
    from their mean.
    """

    name = YUV

    def __init__(self, colour: Colour, patch: int | None, device: torch.device) -> None:
        """`colour` says how RGB becomes YUV; `patch` is the model's `value_patch`."""
        matrix, offsets = yuv_transform(colour)
        self._matrix = torch.from_numpy(matrix.astype(np.float32)).to(device)
        self._offsets = torch.from_numpy(offsets.astype(np.float32)).to(device)
        self._patch_map: Tensor | None = None
        if patch is not None and patch % 2 == 0:  # else 2x2 pixels lie in several patches
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
        """(B, H, W) luma and two (B, H / 2, W / 2) chroma planes, rounded up, of (B, 3, H, W)
        frames: 8-bit samples / 255."""
        halved = F.avg_pool2d(frames, 2, ceil_mode=True)
        return self._transformed(frames, halved)

    def _compared(self, frames: Tensor) -> list[Tensor]:
        """(B, H, W) planes that the loss compares, of (B, 3, H, W) frames. Those of chroma are of
        full size, with the means of 2x2 pixels, and DETAIL of the distance from these."""
        height, width = frames.shape[2:]
        halved = F.avg_pool2d(frames, 2, ceil_mode=True)
        means = F.interpolate(halved, scale_factor=2, mode="nearest")[..., :height, :width]
        return self._transformed(frames, torch.lerp(means, frames, DETAIL))

    def _compared_of_patches(self, values: Tensor) -> list[Tensor]:
        """The same samples of (..., 3 side^2) patches, three times (..., side^2): a linear map of
        each patch. It leaves out the offsets, which a difference has not."""
        assert self._patch_map is not None
        return list(F.linear(values, self._patch_map).chunk(3, dim=-1))

    def _map_of_patches(self, side: int) -> Tensor:
        """That map, (3 side^2, 3 side^2): what each unit patch becomes."""
        count = 3 * side**2
        units = torch.eye(count, device=self._matrix.device).reshape(count, 3, side, side)
        samples = zip(self._compared(units), self._offsets, strict=True)
        return torch.cat([(plane - offset).flatten(1) for plane, offset in samples], 1).T

    def _transformed(self, luma: Tensor, chroma: Tensor) -> list[Tensor]:
        """The Y plane of one (B, 3, H, W) picture, and the U and V planes of another."""
        rows = zip((luma, chroma, chroma), self._matrix, self._offsets, strict=True)
        return [torch.einsum("bchw,c->bhw", x, row) + offset for x, row, offset in rows]


def loss_of(metric: str, recipe: Recipe, what: str = "the recipe") -> Loss:
    """The loss by which a recipe fits for a metric: of planes log_mse, in place of mse too, of
    which luma has nearly all. Raises UsageError where there is none; `what` is how to call the
    recipe."""
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
    """The metric called `name`, for fits of `model` to a clip of a colour."""
    return Metric() if name == RGB else PlanesMetric(colour, model.value_patch, device)


def _weighted(values: list[Tensor]) -> Tensor:
    y, u, v = (weight * value for weight, value in zip(PLANE_WEIGHTS, values, strict=True))
    return y + u + v


def _psnr(output: Tensor, target: Tensor) -> Tensor:
    error = (output - target).square().flatten(1).mean(dim=1)
    return -10 * error.clamp(min=1e-10).log10()
