"""Optical flow: where things go from one frame to another."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from skimage.filters import window
from skimage.registration import optical_flow_tvl1, phase_cross_correlation

FLOW_SIDE = 400  # pixels
FAST = 4.0  # pixels of what was reduced: up to there, TV-L1 needs no start
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def optical_flow(first: np.ndarray, second: np.ndarray, side: int = FLOW_SIDE) -> np.ndarray:
    """The optical flow by TV-L1 (Zach et al., 2007; scikit-image): (2, H, W) float32, the rows and
    columns that each pixel of `first` has moved by in `second`; both (H, W, 3) or their luma
    (H, W), 0 to 255. Frames with more than `side` pixels on their longer side are reduced for it.
    It starts at rest or, if that explains more, with a fast pan. A line of pixels does not move."""
    height, width = first.shape[:2]
    factor = 2 ** max(0, math.ceil(math.log2(max(height, width) / side)))
    lumas = [frame @ LUMA if frame.ndim == 3 else frame for frame in (first, second)]
    pair = [_reduced(luma / 255, factor) for luma in lumas]
    if min(pair[0].shape) < 2:
        return np.zeros((2, height, width), np.float32)
    flow = _flow(*pair)
    if factor == 1:
        return flow
    rows, columns = height / flow.shape[1], width / flow.shape[2]
    scale = torch.tensor([rows, columns]).view(1, 2, 1, 1)
    full = F.interpolate(torch.from_numpy(flow)[None] * scale, (height, width), mode="bilinear")
    return full[0].numpy()


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(2, H, W) between two (H, W) images."""
    still = _tv_l1(first, second)
    pan = _pan(first, second)
    if np.abs(pan).max() < FAST:
        return still
    start = np.broadcast_to(pan[:, None, None], still.shape)
    panned = start + _tv_l1(first, moved(second[..., None], start)[..., 0])
    return min((still, panned), key=lambda flow: _unexplained(first, second, flow))


def _tv_l1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack(optical_flow_tvl1(first, second, num_warp=3, num_iter=8, dtype=np.float32))


def _pan(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The shift (2,) of the whole image, by phase correlation (Kuglin and Hines, 1975);
    none of a flat one."""
    edgeless = window("hann", first.shape)
    pair = [(image - image.mean()) * edgeless for image in (first, second)]
    if not all(image.any() for image in pair):
        return np.zeros(2, np.float32)
    return -np.asarray(phase_cross_correlation(*pair)[0], np.float32)


def _unexplained(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    return float(np.abs(moved(second[..., None], flow)[..., 0] - first).mean())


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages of `factor` x `factor` pixels; what is left over at the ends is averaged too."""
    size = [math.ceil(side / factor) for side in image.shape]
    values = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    return F.interpolate(values, size, mode="area")[0, 0].numpy()


def moved(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """(H, W, C) float32 with the value of `frame` at (y, x) + flow(y, x) at each pixel, bicubic;
    the edge is repeated."""
    height, width = frame.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x = (columns + flow[1]) * (2 / max(width - 1, 1)) - 1
    y = (rows + flow[0]) * (2 / max(height - 1, 1)) - 1
    grid = torch.from_numpy(np.stack([x, y], axis=2)).float()[None]
    values = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1), np.float32))[None]
    made = F.grid_sample(values, grid, "bicubic", padding_mode="border", align_corners=True)
    return made[0].permute(1, 2, 0).numpy()
