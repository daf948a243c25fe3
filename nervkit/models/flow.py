"""Optical flow between two frames, and warping along it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from skimage.filters import window
from skimage.registration import optical_flow_tvl1, phase_cross_correlation

FLOW_SIDE = 400  # pixels
SLOW_PAN = 4.0  # pixels of the reduced frames; TV-L1 follows slower pans from a zero flow
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Floats = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.floating[Any] | np.integer[Any]]


def optical_flow(first: Image, second: Image, side: int = FLOW_SIDE) -> npt.NDArray[np.float32]:
    """Estimate optical flow by TV-L1 (Zach et al., 2007; scikit-image).

    `first` and `second` are (H, W, 3) or their luma (H, W), 0 to 255. Returns (2, H, W) float32:
    the displacement of each pixel of `first` in `second`, in rows and columns. Frames whose longer
    side exceeds `side` pixels are downsampled first. The search starts from zero flow or, if that
    explains more, from a global pan. A single line of pixels has zero flow.
    """
    height, width = first.shape[:2]
    factor = 2 ** max(0, math.ceil(math.log2(max(height, width) / side)))
    lumas = [frame @ LUMA if frame.ndim == 3 else frame for frame in (first, second)]
    pair = [_downsampled(luma / 255, factor) for luma in lumas]
    if min(pair[0].shape) < 2:
        return np.zeros((2, height, width), np.float32)
    flow = _flow(*pair)
    if factor == 1:
        return flow
    rows, columns = height / flow.shape[1], width / flow.shape[2]
    scale = torch.tensor([rows, columns]).view(1, 2, 1, 1)
    full = F.interpolate(torch.from_numpy(flow)[None] * scale, (height, width), mode="bilinear")
    return full[0].numpy()


def _flow(first: Floats, second: Floats) -> Floats:
    """Estimate (2, H, W) flow between two (H, W) images."""
    from_zero = _tv_l1(first, second)
    pan = _global_shift(first, second)
    if np.abs(pan).max() < SLOW_PAN:
        return from_zero
    start = np.broadcast_to(pan[:, None, None], from_zero.shape)
    from_pan = start + _tv_l1(first, warp(second[..., None], start)[..., 0])
    return min((from_zero, from_pan), key=lambda flow: _warping_error(first, second, flow))


def _tv_l1(first: Floats, second: Floats) -> npt.NDArray[np.float32]:
    # scikit-image has no annotations.
    flow = optical_flow_tvl1(  # type: ignore[no-untyped-call]
        first, second, num_warp=3, num_iter=8, dtype=np.float32
    )
    return np.stack(flow)


def _global_shift(first: Floats, second: Floats) -> npt.NDArray[np.float32]:
    """Estimate the shift (2,) of the image by phase correlation (Kuglin and Hines, 1975); zero for
    a flat image."""
    hann = window("hann", first.shape)  # type: ignore[no-untyped-call]
    pair = [(image - image.mean()) * hann for image in (first, second)]
    if not all(image.any() for image in pair):
        return np.zeros(2, np.float32)
    shift = phase_cross_correlation(*pair)[0]  # type: ignore[no-untyped-call]
    return -np.asarray(shift, np.float32)


def _warping_error(first: Floats, second: Floats, flow: Floats) -> float:
    return float(np.abs(warp(second[..., None], flow)[..., 0] - first).mean())


def _downsampled(image: Floats, factor: int) -> Floats:
    """Average `factor` x `factor` pixels; incomplete blocks at the ends are averaged too."""
    size = [math.ceil(side / factor) for side in image.shape]
    values = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    return F.interpolate(values, size, mode="area")[0, 0].numpy()


def warp(frame: Image, flow: Image) -> npt.NDArray[np.float32]:
    """Warp `frame` (H, W, C) backwards: return float32 with its value at (y, x) + flow(y, x) for
    each pixel, bicubic; beyond the edge, the edge is repeated."""
    height, width = frame.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x = (columns + flow[1]) * (2 / max(width - 1, 1)) - 1
    y = (rows + flow[0]) * (2 / max(height - 1, 1)) - 1
    grid = torch.from_numpy(np.stack([x, y], axis=2)).float()[None]
    values = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1), np.float32))[None]
    warped = F.grid_sample(values, grid, "bicubic", padding_mode="border", align_corners=True)
    return warped[0].permute(1, 2, 0).numpy()
