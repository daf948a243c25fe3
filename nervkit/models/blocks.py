"""Layers and tensor operations that several models share."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """PE(t) = (sin(b^0 pi t), cos(b^0 pi t), ..., sin(b^(l-1) pi t), cos(b^(l-1) pi t)).

    NeRV (2110.13903), eq. 1. Computed in float64: b^(l-1) pi t reaches thousands of turns.

    Args of forward:
        t: (B,) normalised time in [0, 1].

    Returns of forward:
        (B, 2 * levels) float32.
    """

    def __init__(self, base: float, levels: int) -> None:
        super().__init__()
        self.base, self.levels = base, levels

    def forward(self, t: Tensor) -> Tensor:
        exponents = torch.arange(self.levels, dtype=torch.float64, device=t.device)
        angles = t.double()[:, None] * (torch.pi * self.base**exponents)
        return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1).float()


class UpBlock(nn.Module):
    """Conv (same padding) to cout * stride^2 channels -> PixelShuffle -> activation (GELU by
    default). NeRV, fig. 3."""

    def __init__(
        self, cin: int, cout: int, stride: int, kernel: int, act: Callable[[], nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout * stride**2, kernel, padding=kernel // 2)
        self.stride = stride
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.pixel_shuffle(self.conv(x), self.stride))


class Sine(nn.Module):
    """The activation sin(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.GELU) -> nn.Sequential:
    """Return linear layers from each width to the next, with an activation after each."""
    layers = nn.Sequential()
    for cin, cout in pairwise(widths):
        layers.extend([nn.Linear(cin, cout), act()])
    return layers


def principal_components(samples: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (D,) of `samples` (N, D), the `count` directions (D, count) of largest
    variance, and the standard deviation (count,) along each. `count` is at most D."""
    mean = samples.mean(dim=0)
    centred = samples - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(samples))
    chosen = slice(len(variances) - count, None)
    deviations = variances[chosen].clamp(min=0).sqrt()
    return mean, directions[:, chosen].flip(1), deviations.flip(0)


def to_float(frames: Tensor) -> Tensor:
    """Convert uint8 frames to float32 in [0, 1]."""
    return frames.float().div_(255)


def to_unit(x: Tensor) -> Tensor:
    """Apply the output activation of the NeRV family, (tanh(x) + 1) / 2, in float32."""
    return (torch.tanh(x.float()) + 1) * 0.5


def cropped(frames: Tensor, height: int, width: int) -> Tensor:
    """Crop frames to their upper left (..., height, width). Free, backwards too, if the size
    fits."""
    if frames.shape[-2:] == (height, width):
        return frames
    return frames[..., :height, :width]


def edge_padded(frames: Tensor, factor: int) -> Tensor:
    """Pad (..., C, H, W) up to multiples of `factor` by repeating its last row and column."""
    height, width = frames.shape[-2:]
    if height % factor == width % factor == 0:
        return frames
    padded_height, padded_width = (math.ceil(n / factor) * factor for n in (height, width))
    rows = torch.arange(padded_height, device=frames.device).clamp(max=height - 1)
    columns = torch.arange(padded_width, device=frames.device).clamp(max=width - 1)
    return frames[..., rows[:, None], columns]


def in_patches(values: Tensor, side: int) -> Tensor:
    """Rearrange (B, 3, H, W) into square patches, (B, rows, columns, 3 * side^2), with colour
    outermost in the last axis. Patches beyond the frame repeat its edge."""
    values = edge_padded(values, side)
    batch, colours, height, width = values.shape
    rows, columns = height // side, width // side
    values = values.reshape(batch, colours, rows, side, columns, side)
    return values.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, -1)


def interpolated(values: Tensor, position: Tensor) -> Tensor:
    """Interpolate `values` (N, ...) linearly along the first axis at `position` (B,) in
    [0, N - 1]; returns (B, ...)."""
    before = position.floor().long()
    after = (before + 1).clamp(max=len(values) - 1)
    share = (position - before).to(values.dtype)
    return torch.lerp(values[before], values[after], share.view(-1, *[1] * (values.ndim - 1)))


def warped(values: Tensor, flow: Tensor) -> Tensor:
    """Warp `values` (B, C, h', w') backwards by `flow` (B, 2, h, w), x and y in cells of h x w.
    Returns (B, C, h, w): bilinear samples; beyond the edge, the edge is repeated."""
    rows, columns = flow.shape[-2:]
    x = torch.arange(columns, device=flow.device) + 0.5 + flow[:, 0]
    y = torch.arange(rows, device=flow.device)[:, None] + 0.5 + flow[:, 1]
    places = torch.stack([2 * x / columns - 1, 2 * y / rows - 1], dim=3)
    return F.grid_sample(values, places, padding_mode="border", align_corners=False)
