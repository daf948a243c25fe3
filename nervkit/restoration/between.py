"""What lies between the frames that a representation was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from nervkit.models.flow import optical_flow
from nervkit.restoration.motion import agreed, carried, disagreement
from nervkit.restoration.task import Fitted

CUT = 20.0  # 8-bit steps; frames of one scene differ by less than half of it


class Between:
    """Frames at fractional positions: both neighbours moved along the optical flow, where they
    agree; elsewhere the representation's own, with what it misses of them moved along. Without a
    representation, the mean of both."""

    def __init__(
        self,
        frames: np.ndarray,
        fitted: Fitted | None,
        missed: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        """`frames` (N, H, W, 3) uint8 are what was fitted; `missed(index)` is what the fit misses
        of one, (H, W, 3) float32: its difference, if nothing else is said. It is asked for both
        neighbours of every position."""
        self._frames, self._fitted = frames, fitted
        self._missed = missed or lru_cache(maxsize=2)(self._difference)
        self._flow = lru_cache(maxsize=1)(self._motion)

    def at(self, position: float) -> np.ndarray:
        """The (H, W, 3) float32 frame at a position that is not whole."""
        index = int(position)
        way = self._flow(index), position - index
        if self._fitted is None:
            return carried(self._frames[index], self._frames[index + 1], *way)
        correction = carried(self._missed(index), self._missed(index + 1), *way)
        predicted = self._fitted.predict(position) + correction
        return agreed(self._frames[index], self._frames[index + 1], *way, predicted)

    def is_cut(self, index: int) -> bool:
        """Whether frames `index` and `index + 1` seem to be of different scenes: no motion explains
        what they differ by."""
        frames = self._frames[index], self._frames[index + 1]
        return disagreement(*frames, self._flow(index)) > CUT

    def _difference(self, index: int) -> np.ndarray:
        return self._frames[index] - self._fitted.predict(index)

    def _motion(self, index: int) -> np.ndarray:
        return optical_flow(self._frames[index], self._frames[index + 1])
