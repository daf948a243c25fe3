"""Frames between the frames of a clip, by optical flow and a fitted representation."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from nervkit.models.flow import optical_flow
from nervkit.restoration.motion import blended, disagreement, warped_between
from nervkit.restoration.task import Fitted

CUT = 20.0  # 8-bit steps; neighbouring frames of one scene differ by less than half of it


class Interpolator:
    """Makes frames at fractional positions. Both neighbours are warped along the optical flow.
    Where they agree, their mean is the frame. Elsewhere it is the prediction of the representation
    plus its residuals at both neighbours, warped too; without a representation, the mean."""

    def __init__(
        self,
        frames: np.ndarray,
        fitted: Fitted | None,
        residual: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        """`frames` are (N, H, W, 3) uint8, those of the fit. `residual(index)` returns what the
        prediction of a frame lacks, (H, W, 3) float32; by default frame minus prediction. Each
        call of `at` uses it for both neighbours."""
        self._frames, self._fitted = frames, fitted
        self._residual = residual or lru_cache(maxsize=2)(self._difference)
        self._flow = lru_cache(maxsize=1)(self._optical_flow)

    def at(self, position: float) -> np.ndarray:
        """Return the frame at a position that is not an integer: (H, W, 3) float32."""
        index = int(position)
        flow, share = self._flow(index), position - index
        pair = self._frames[index], self._frames[index + 1]
        if self._fitted is None:
            return warped_between(*pair, flow, share)
        correction = warped_between(self._residual(index), self._residual(index + 1), flow, share)
        return blended(*pair, flow, share, self._fitted.predict(position) + correction)

    def is_cut(self, index: int) -> bool:
        """Return whether a cut seems to lie between frames `index` and `index + 1`, because motion
        does not explain their difference."""
        frames = self._frames[index], self._frames[index + 1]
        return disagreement(*frames, self._flow(index)) > CUT

    def _difference(self, index: int) -> np.ndarray:
        assert self._fitted is not None  # residuals exist only with a fit
        return self._frames[index] - self._fitted.predict(index)

    def _optical_flow(self, index: int) -> np.ndarray:
        return optical_flow(self._frames[index], self._frames[index + 1])
