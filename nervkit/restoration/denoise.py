"""Noise removal: a representation fitted to the noisy video, and what is signal of its residual."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from nervkit.restoration.impulses import outliers, screened
from nervkit.restoration.kinds import pixels
from nervkit.restoration.motion import joined, motion, moved
from nervkit.restoration.shrinkage import shrunk
from nervkit.restoration.task import Task

# Luma and two differences of colours, orthonormal: white noise stays white, detail gathers in luma.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
OPPONENT /= np.linalg.norm(OPPONENT, axis=1, keepdims=True)
REACH = 2  # frames before and after that say what a frame shows
CLEARLY_LESS = 0.8  # of a variance: estimates of the same noise are not this far apart


def denoise(source: Any, output: str | Path | None = None, **options: Any) -> Any:
    """Remove noise from a video, of a kind and strength that nobody has to know.

    1. A representation is fitted to the noisy frames. It has far fewer values than they have, so
       that it holds what repeats in time and space; noise does not (NeRV, 2110.13903; Ulyanov et
       al., "Deep image prior", 1711.10925). Pixels that look like impulses are kept from it.
    2. What it leaves of a frame, the residual, is noise and detail. Impulses are single pixels far
       from the residual around them; they are replaced.
    3. Of the rest, blocks of the frame and of its neighbours, moved to where it is, keep what
       exceeds the noise (`shrunk`), whose variance is estimated from the residual and from what
       differs between neighbours: of white noise next to nothing, of an undamaged video next to
       all.

    Args:
        source: as `read_clip` takes.
        output: as `decode` writes; None hands frames back instead.
        options: of the fit, of reading and of writing; see `Task`.

    Returns:
        With `output`, a RestoreReport whose details are the noise's estimated deviation (8-bit
        steps) and the share of pixels that were impulses. Without, an array or tensor like the
        source's, or for a path a Clip.

    Raises:
        UsageError, SourceError, OutputError, Interrupted: see nervkit.errors.
    """
    task = Task("denoise", source, output, **options)
    clip = task.read()
    fitted = task.fit(screened(clip.frames, task.searched))
    cleaner = Cleaner(clip.frames, fitted)
    return task.deliver(clip, cleaner.frames(), fitted, details=cleaner.found)


class Predictor(Protocol):
    """What says how frames should look; Fitted is one."""

    def predict(self, position: float) -> np.ndarray:
        """(H, W, 3) float32, 0 to 255."""


class Seen(NamedTuple):
    """What is known of a frame by itself. Values (H, W, 3) are float32 in OPPONENT's directions."""

    noisy: np.ndarray  # without impulses
    predicted: np.ndarray
    variance: np.ndarray  # of the noise, (3,), and of some detail
    cleaned: np.ndarray  # without a look at other frames, in RGB around 0 to 255


class Cleaner:
    """The frames of a noisy clip, cleaned one after the other."""

    def __init__(self, noisy: np.ndarray, fitted: Predictor) -> None:
        """`noisy` is (T, H, W, 3) uint8."""
        self._noisy, self._fitted = noisy, fitted
        self._seen = lru_cache(maxsize=2 * REACH + 1)(self._alone)
        self._flow = lru_cache(maxsize=4 * REACH)(self._motion)
        self._deviations: list[float] = []
        self._impulses: list[float] = []

    def found(self) -> dict[str, Any]:
        """What the noise looked like, mean over the frames so far."""
        return {
            "noise_deviation": float(np.mean(self._deviations)),
            "impulse_share": float(np.mean(self._impulses)),
        }

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 each."""
        for t in range(len(self._noisy)):
            seen = self._seen(t)
            before, after = self._neighbours(t, -1), self._neighbours(t, 1)
            group = np.stack([*before, np.dstack([seen.noisy, seen.predicted]), *after])
            noisy, predicted = group[..., :3], group[..., 3:]
            yield pixels(shrunk(noisy, predicted, self._variance(t), len(before)) @ OPPONENT)
        self._seen.cache_clear()
        self._flow.cache_clear()

    def _variance(self, t: int) -> np.ndarray:
        """That of frame t's noise (3,). Detail that the residual's variance has too, the difference
        to the frames beside it has not."""
        seen = self._seen(t)
        differing = [
            # By whole pixels: what lies between them has less noise.
            seen.noisy - moved(self._seen(beside).noisy, self._flow(t, beside).round())
            for beside in (t - 1, t + 1)
            if 0 <= beside < len(self._noisy)
        ]
        variance = seen.variance
        if differing:
            apart = np.mean([noise_variance(each[None]) / 2 for each in differing], axis=0)
            variance = np.where(apart < CLEARLY_LESS * variance, apart, variance)
        self._deviations.append(float(np.sqrt(variance.mean())))
        return variance

    def _alone(self, t: int) -> Seen:
        predicted = self._fitted.predict(t)
        residual = self._noisy[t] - predicted
        hit, around = outliers(residual, self._noisy, t)
        residual[hit] = around[hit]
        predicted, residual = predicted @ OPPONENT.T, residual @ OPPONENT.T
        variance = noise_variance(residual[None])
        self._impulses.append(float(hit.mean()))
        noisy = predicted + residual
        cleaned = shrunk(noisy[None], predicted[None], variance, 0) @ OPPONENT
        return Seen(noisy, predicted, variance, cleaned)

    def _neighbours(self, t: int, step: int) -> list[np.ndarray]:
        """The frames up to REACH steps from frame t, moved to where it is: (H, W, 6) each, as they
        are seen and as they are predicted, the nearest last of those before and first of those
        after."""
        made: list[np.ndarray] = []
        flow = None
        for there in range(t + step, t + step * (REACH + 1), step):
            if not 0 <= there < len(self._noisy):
                break
            onward = self._flow(there - step, there)
            flow = onward if flow is None else joined(flow, onward)
            seen = self._seen(there)
            made.append(moved(np.dstack([seen.noisy, seen.predicted]), flow))
        return made[::step]

    def _motion(self, first: int, second: int) -> np.ndarray:
        return motion(self._seen(first).cleaned, self._seen(second).cleaned)


def noise_variance(residuals: np.ndarray) -> np.ndarray:
    """The variance (3,) of white noise in (n, H, W, 3) residuals: from their second differences
    across both axes (Immerkaer, 1996), by the median absolute value, which detail hardly reaches
    (Donoho and Johnstone, 1994). 0 where a side is under three pixels."""
    if min(residuals.shape[1:3]) < 3:
        return np.zeros(3, np.float32)
    fine = residuals[:, 1:-1] - (residuals[:, :-2] + residuals[:, 2:]) / 2
    fine = fine[:, :, 1:-1] - (fine[:, :, :-2] + fine[:, :, 2:]) / 2
    deviation = np.median(np.abs(fine), axis=(0, 1, 2)) / 0.6745 / 1.5
    return np.square(deviation)
