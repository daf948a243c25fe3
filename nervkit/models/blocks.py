"""Blocks that several papers share."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """PE(t) = (sin(b^0 pi t), cos(b^0 pi t), ..., sin(b^(l-1) pi t), cos(b^(l-1) pi t)).

    NeRV (2110.13903), eq. 1. Evaluated in float64: b^(l-1) pi t reaches thousands of turns.

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
    """Conv (same padding) to cout * stride^2 channels -> PixelShuffle -> activation, by default
    GELU. NeRV, fig. 3."""

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
    """sin(x): an activation."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers from each width to the next, with an activation after each."""
    layers = nn.Sequential()
    for cin, cout in pairwise(widths):
        layers.extend([nn.Linear(cin, cout), act()])
    return layers


def principal_components(samples: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (D,) of `samples` (N, D), the `count` directions (D, count) of most variance, and
    the standard deviation (count,) along each. `count` is at most D."""
    mean = samples.mean(dim=0)
    centred = samples - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(samples))
    chosen = slice(len(variances) - count, None)
    deviations = variances[chosen].clamp(min=0).sqrt()
    return mean, directions[:, chosen].flip(1), deviations.flip(0)


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to float32 in [0, 1]."""
    return frames.float().div_(255)


def to_unit(x: Tensor) -> Tensor:
    """The family's output activation, (tanh(x) + 1) / 2, in float32."""
    return (torch.tanh(x.float()) + 1) * 0.5


def cropped(frames: Tensor, height: int, width: int) -> Tensor:
    """The upper left (..., height, width) of frames. Free, backwards too, where that is all."""
    if frames.shape[-2:] == (height, width):
        return frames
    return frames[..., :height, :width]


def edge_padded(frames: Tensor, factor: int) -> Tensor:
    """(..., C, H, W) with its last row and column repeated up to multiples of `factor`."""
    height, width = frames.shape[-2:]
    if height % factor == width % factor == 0:
        return frames
    rows = torch.arange(padded(height, factor), device=frames.device).clamp(max=height - 1)
    columns = torch.arange(padded(width, factor), device=frames.device).clamp(max=width - 1)
    return frames[..., rows[:, None], columns]


def in_patches(values: Tensor, side: int) -> Tensor:
    """(B, rows, columns, 3 * side^2) of (B, 3, H, W): a square patch in each, with colour outermost
    in its last axis. A last patch that goes beyond the frame repeats the frame's edge."""
    values = edge_padded(values, side)
    batch, colours, height, width = values.shape
    rows, columns = height // side, width // side
    values = values.reshape(batch, colours, rows, side, columns, side)
    return values.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, -1)


def between(values: Tensor, position: Tensor) -> Tensor:
    """(B, ...) from (N, ...): linear interpolation along the first axis at `position` (B,), from
    0 to N - 1."""
    before = position.floor().long()
    after = (before + 1).clamp(max=len(values) - 1)
    share = (position - before).to(values.dtype)
    return torch.lerp(values[before], values[after], share.view(-1, *[1] * (values.ndim - 1)))


def displaced(values: Tensor, shift: Tensor) -> Tensor:
    """(B, C, h, w): `values` (B, C, h', w') at the positions of their (h, w) cells moved by `shift`
    (B, 2, h, w), x and y in those cells; bilinear, the edge is repeated beyond it."""
    rows, columns = shift.shape[-2:]
    x = torch.arange(columns, device=shift.device) + 0.5 + shift[:, 0]
    y = torch.arange(rows, device=shift.device)[:, None] + 0.5 + shift[:, 1]
    places = torch.stack([2 * x / columns - 1, 2 * y / rows - 1], dim=3)
    return F.grid_sample(values, places, padding_mode="border", align_corners=False)


def padded(size: int, factor: int) -> int:
    """The smallest multiple of `factor` that is at least `size`."""
    return math.ceil(size / factor) * factor


def choose_strides(
    ladder: tuple[tuple[int, ...], ...], height: int, width: int, rows: float
) -> tuple[int, ...]:
    """The strides from `ladder` that suit a frame size.

    Weighs the pixels computed in vain (padding up to whole grid cells) against how far the
    grid's shorter side is from `rows`, in octaves; one octave costs as much as 10% of padding.
    """

    def cost(strides: tuple[int, ...]) -> float:
        factor = math.prod(strides)
        area = padded(height, factor) * padded(width, factor) / (height * width)
        return area + 0.1 * abs(math.log2(math.ceil(min(height, width) / factor) / rows))

    return min(ladder, key=cost)
