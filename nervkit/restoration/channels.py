"""The planes that noise is taken out of: those in which it is white and each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from nervkit.restoration.kinds import pixels
from nervkit.video.colour import Colour
from nervkit.video.planes import Planes

# Luma and two differences of colours, orthonormal: white noise stays white, detail gathers in luma.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
OPPONENT /= np.linalg.norm(OPPONENT, axis=1, keepdims=True)
BRIGHT = np.float32(np.sqrt(3))  # OPPONENT's luma of a gray of 1
LOOKED_AT = 8  # frames, for how colours are stored
SAME = 0.9  # of the coloured 2x2 pixels have one colour difference: chroma is stored by halves
COLOURED = 0.02  # of all 2x2 pixels are, or it does not show

Channels = list[np.ndarray]  # three planes, float32; the last two may be half as large


class Space(Protocol):
    """How frames are split into planes, and joined again. `gains` are the variances of a sample of
    RGB, the mean of the three, for a variance of 1 in each plane."""

    gains: tuple[float, float, float]

    def seen(self, t: int, frame: np.ndarray) -> Channels:
        """Of frame t, of which `frame` (H, W, 3) is what it shows without impulses."""

    def split(self, frame: np.ndarray) -> Channels:
        """Of any (H, W, 3) frame, 0 to 255."""

    def join(self, cleaned: Channels, seen: Channels, frame: np.ndarray) -> np.ndarray:
        """(H, W, 3), about 0 to 255: `frame` with what is cleaned in place of what is seen."""

    def light(self, luma: np.ndarray) -> np.ndarray:
        """The brightness, 0 to 255, that a first plane stands for."""


def space_of(frames: np.ndarray, own: Sequence[Planes] | None, colour: Colour) -> Space:
    """For (T, H, W, 3) uint8 frames: the planes that they come from, or look as if they came from;
    else their colours."""
    if own is not None or stored_by_halves(frames):
        return Halved(frames, own, colour)
    return Opponent()


def stored_by_halves(frames: np.ndarray) -> bool:
    """Whether each 2x2 pixels of (T, H, W, 3) uint8 frames have one colour difference, as where
    4:2:0 became RGB by repetition."""
    places = np.unique(np.linspace(0, len(frames) - 1, LOOKED_AT).astype(int))
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    some = frames[places, :height, :width].astype(np.int16)
    differences = some[..., [0, 2]] - some[..., [1]]
    groups = differences.reshape(len(some), height // 2, 2, width // 2, 2, 2)
    spread = groups.max(axis=(2, 4)) - groups.min(axis=(2, 4))
    clipped = ((some == 0) | (some == 255)).any(axis=3).reshape(groups.shape[:-1]).any(axis=(2, 4))
    coloured = (np.abs(groups).max(axis=(2, 4)) > 2).any(axis=-1) & ~clipped
    same = (spread <= 1).all(axis=-1) & coloured
    many = coloured.sum() > COLOURED * coloured.size
    return bool(many and same.sum() > SAME * coloured.sum())


class Opponent:
    """RGB as luma and two differences of colours."""

    gains = (1 / 3, 1 / 3, 1 / 3)

    def seen(self, t: int, frame: np.ndarray) -> Channels:
        return self.split(frame)

    def split(self, frame: np.ndarray) -> Channels:
        return list(np.moveaxis(frame @ OPPONENT.T, 2, 0))

    def join(self, cleaned: Channels, seen: Channels, frame: np.ndarray) -> np.ndarray:
        return np.stack(cleaned, axis=2) @ OPPONENT

    def light(self, luma: np.ndarray) -> np.ndarray:
        return luma / BRIGHT


class Halved:
    """The planes of 4:2:0: the source's own, or what makes the frames."""

    gains = (1.36, 1.41, 1.07)  # of BT.601, limited; the others are near

    def __init__(self, frames: np.ndarray, own: Sequence[Planes] | None, colour: Colour) -> None:
        self._frames, self._own, self._colour = frames, own, colour

    def seen(self, t: int, frame: np.ndarray) -> Channels:
        shown = self.split(frame)
        if self._own is None:
            return shown
        # RGB has lost what it could not show.
        before = self.split(self._frames[t])
        return [a + b - c for a, b, c in zip(_floats(self._own[t]), shown, before, strict=True)]

    def split(self, frame: np.ndarray) -> Channels:
        return _floats(Planes.from_rgb(pixels(frame), self._colour))

    def join(self, cleaned: Channels, seen: Channels, frame: np.ndarray) -> np.ndarray:
        # The change, rather than what it leads to: what is not cleaned stays exactly as it was.
        return frame + self._shown(cleaned, frame) - self._shown(seen, frame)

    def light(self, luma: np.ndarray) -> np.ndarray:
        return luma

    def _shown(self, channels: Channels, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        made = Planes(*(pixels(plane) for plane in channels)).rgb(self._colour, width, height)
        return made.astype(np.float32)


def _floats(planes: Planes) -> Channels:
    return [plane.astype(np.float32) for plane in (planes.y, planes.u, planes.v)]


def resized(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) averaged to another shape, or half of it."""
    if plane.shape == shape:
        return plane
    values = torch.from_numpy(np.ascontiguousarray(plane))[None, None]
    return F.interpolate(values, shape, mode="area")[0, 0].numpy()
