"""An order-free rasteriser: a frame is the sum of its Gaussians (GaussianImage, 2403.08551, eq. 6).

A Gaussian is lowered by its value at 3 standard deviations and ends there, so that a window of
fixed size holds all of it, and a frame is a continuous function of all parameters. Windows suit a
CPU: no sorting and no lists per pixel, only a scatter-add.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EXTENT = 3.0  # standard deviations
FLOOR = math.exp(-(EXTENT**2) / 2)


def conics(sigmas: Tensor, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inverse covariance ((a, b), (b, c)) of Gaussians with standard deviations `sigmas`
    (..., 2) along axes rotated by `angle` (...), x towards y."""
    cosine, sine = angle.cos(), angle.sin()
    along, across = sigmas.pow(-2).unbind(-1)
    a = along * cosine**2 + across * sine**2
    c = along * sine**2 + across * cosine**2
    return a, (along - across) * cosine * sine, c


def splat(
    centres: Tensor,
    conic: tuple[Tensor, Tensor, Tensor],
    colours: Tensor,
    reach: float,
    grid: tuple[int, int],
    shape: tuple[int, int],
) -> Tensor:
    """Render frames as sums of Gaussians, sampled on a grid of any size.

    Args:
        centres: (B, N, 2) x and y in pixels of the frame.
        conic: inverse covariances in pixels, (B, N) each; see `conics`.
        colours: (N, C) or (B, N, C), of any sign.
        reach: the largest radius in pixels: EXTENT times the largest standard deviation.
        grid: rows and columns to sample, at their centres.
        shape: height and width of the frame, which the grid covers.

    Returns:
        (B, C, rows, columns).
    """
    batch, count = centres.shape[:2]
    channels, dtype = colours.shape[-1], centres.dtype
    sides = [pixels / cells for pixels, cells in zip(shape, grid, strict=True)]  # of a cell
    radii = [max(1, math.ceil(reach / side - 0.5)) for side in sides]
    # The margin around the grid holds the window of a Gaussian that is just outside.
    rows, columns = (cells + 4 * r + 2 for cells, r in zip(grid, radii, strict=True))
    distances, cells = [], []  # window centres: pixels from the Gaussian, and cells of the grid
    for axis, side, most, radius in zip((1, 0), sides, grid, radii, strict=True):
        place = centres[..., axis] / side
        cell = place.detach().floor().clamp(-radius - 1, most + radius)
        distances.append((cell + 0.5 - place) * side)
        cells.append(cell.long() + 2 * radius + 1)
    y, x = (torch.arange(-radius, radius + 1, device=centres.device) for radius in radii)
    y, x = y.repeat_interleave(len(x)), x.repeat(len(y))
    window = y * columns + x
    weights = _weights(conic, distances, (sides[0] * y.to(dtype), sides[1] * x.to(dtype)))
    frame = rows * columns * torch.arange(batch, device=window.device)
    index = (frame[:, None] + cells[0] * columns + cells[1])[..., None] + window
    shades = colours.expand(batch, count, channels).flatten(0, 1).T
    # torch does not annotate `apply`.
    sums = _ScatterAdd.apply(  # type: ignore[no-untyped-call]
        weights, shades, index.flatten(), batch * rows * columns
    )
    frames = sums.view(channels, batch, rows, columns).transpose(0, 1)
    top, left = (2 * radius + 1 for radius in radii)
    return frames[..., top : top + grid[0], left : left + grid[1]]


def _weights(
    conic: tuple[Tensor, Tensor, Tensor], distances: list[Tensor], offsets: tuple[Tensor, Tensor]
) -> Tensor:
    """Return (B * N, window): Gaussians at `offsets` (window,) each, y and x, from the window
    centres, which are `distances` (B, N) each from the Gaussians. The exponent is a polynomial of
    the offsets, so that all windows, and their gradients, are one matrix product."""
    a, b, c = conic
    dy, dx = distances
    y, x = offsets
    along, across = a * dx + b * dy, b * dx + c * dy
    factors = torch.stack([a, 2 * b, c, 2 * along, 2 * across, along * dx + across * dy], -1)
    terms = torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)])
    gaussians = torch.exp(-0.5 * (factors.flatten(0, 1) @ terms))
    return F.relu(gaussians - FLOOR) / (1 - FLOOR)


class _ScatterAdd(torch.autograd.Function):
    """Sum weights (M, window) times colours (C, M) at index (M * window,), into (C, size). One
    colour at a time takes half of the time of autograd."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, colours: Tensor, index: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(weights, colours, index)
        sums = weights.new_zeros(len(colours), size)
        for total, colour in zip(sums, colours, strict=True):
            total.index_add_(0, index, (weights * colour[:, None]).flatten())
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weights, colours, index = ctx.saved_tensors
        by_weight, by_colour = torch.zeros_like(weights), []
        for sums, colour in zip(gradient, colours, strict=True):
            found = sums.index_select(0, index).view_as(weights)
            by_weight.addcmul_(found, colour[:, None])
            by_colour.append(found.mul_(weights).sum(1))
        return by_weight, torch.stack(by_colour), None, None
