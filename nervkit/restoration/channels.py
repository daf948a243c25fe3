"""The colour spaces for denoising: planes in which noise is white and independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from nervkit.restoration.kinds import to_uint8
from nervkit.video.colour import Colour
from nervkit.video.planes import Planes

# Luma and two colour differences, orthonormal: white noise stays white, and detail gathers in luma.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
OPPONENT /= np.linalg.norm(OPPONENT, axis=1, keepdims=True)
LUMA_GAIN = np.float32(np.sqrt(3))  # OPPONENT's luma of gray 1
SAMPLED_FRAMES = 8  # for the detection of subsampled chroma
UNIFORM = 0.9  # of the coloured 2x2 blocks have one colour difference: chroma is subsampled
COLOURED = 0.02  # of all 2x2 blocks, at least: fewer give no evidence

Channels: TypeAlias = list[np.ndarray]  # three float32 planes; the last two may be half as large


class ColourSpace(Protocol):
    """Splits frames into planes and joins them. `gains` are the variances of an RGB sample (mean of
    the three) for a variance of 1 in each plane."""

    gains: tuple[float, float, float]

    def observed(self, t: int, frame: np.ndarray) -> Channels:
        """Return the planes of frame t. `frame` (H, W, 3) is that frame without impulses."""

    def split(self, frame: np.ndarray) -> Channels:
        """Return the planes of any (H, W, 3) frame in [0, 255]."""

    def join(self, denoised: Channels, observed: Channels, frame: np.ndarray) -> np.ndarray:
        """Return `frame` with the denoised planes instead of the observed ones, (H, W, 3), around
        [0, 255]."""

    def brightness(self, luma: np.ndarray) -> np.ndarray:
        """Return the brightness of a first plane, in [0, 255]."""


def colour_space_of(
    frames: np.ndarray, own: Sequence[Planes] | None, colour: Colour
) -> ColourSpace:
    """Return the space for (T, H, W, 3) uint8 frames: 4:2:0 if the source has such planes (`own`)
    or the frames look as if they came from some, else opponent colours."""
    if own is not None or has_subsampled_chroma(frames):
        return Yuv420Space(frames, own, colour)
    return OpponentSpace()


def has_subsampled_chroma(frames: np.ndarray) -> bool:
    """Return whether each 2x2 block of (T, H, W, 3) uint8 frames has one colour difference, which
    is the case if RGB was made from 4:2:0 by repetition."""
    sampled = np.unique(np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).astype(int))
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    some = frames[sampled, :height, :width].astype(np.int16)
    differences = some[..., [0, 2]] - some[..., [1]]
    blocks = differences.reshape(len(some), height // 2, 2, width // 2, 2, 2)
    spread = blocks.max(axis=(2, 4)) - blocks.min(axis=(2, 4))
    clipped = ((some == 0) | (some == 255)).any(axis=3).reshape(blocks.shape[:-1]).any(axis=(2, 4))
    coloured = (np.abs(blocks).max(axis=(2, 4)) > 2).any(axis=-1) & ~clipped
    uniform = (spread <= 1).all(axis=-1) & coloured
    enough = coloured.sum() > COLOURED * coloured.size
    return bool(enough and uniform.sum() > UNIFORM * coloured.sum())


class OpponentSpace:
    """RGB as luma and two colour differences."""

    gains = (1 / 3, 1 / 3, 1 / 3)

    def observed(self, t: int, frame: np.ndarray) -> Channels:
        return self.split(frame)

    def split(self, frame: np.ndarray) -> Channels:
        return list(np.moveaxis(frame @ OPPONENT.T, 2, 0))

    def join(self, denoised: Channels, observed: Channels, frame: np.ndarray) -> np.ndarray:
        return np.stack(denoised, axis=2) @ OPPONENT

    def brightness(self, luma: np.ndarray) -> np.ndarray:
        return luma / LUMA_GAIN


class Yuv420Space:
    """4:2:0 planes: the source's own, or those that the RGB frames were made from."""

    gains = (1.36, 1.41, 1.07)  # of BT.601, limited range; the others are similar

    def __init__(self, frames: np.ndarray, own: Sequence[Planes] | None, colour: Colour) -> None:
        self._frames, self._own, self._colour = frames, own, colour

    def observed(self, t: int, frame: np.ndarray) -> Channels:
        planes = self.split(frame)
        if self._own is None:
            return planes
        # The source's planes hold values outside the RGB gamut. Only the change comes from RGB.
        before = self.split(self._frames[t])
        return [a + b - c for a, b, c in zip(_floats(self._own[t]), planes, before, strict=True)]

    def split(self, frame: np.ndarray) -> Channels:
        return _floats(Planes.from_rgb(to_uint8(frame), self._colour))

    def join(self, denoised: Channels, observed: Channels, frame: np.ndarray) -> np.ndarray:
        # Adding the change keeps pixels exactly as they were where denoising changes nothing.
        return frame + self._rgb(denoised, frame) - self._rgb(observed, frame)

    def brightness(self, luma: np.ndarray) -> np.ndarray:
        return luma

    def _rgb(self, channels: Channels, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        rgb = Planes(*(to_uint8(plane) for plane in channels)).rgb(self._colour, width, height)
        return rgb.astype(np.float32)


def _floats(planes: Planes) -> Channels:
    return [plane.astype(np.float32) for plane in (planes.y, planes.u, planes.v)]


def resized(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize an (H, W) plane to its own or half its size by area averaging."""
    if plane.shape == shape:
        return plane
    values = torch.from_numpy(np.ascontiguousarray(plane))[None, None]
    return F.interpolate(values, shape, mode="area")[0, 0].numpy()
