"""Noise removal: a representation fitted to the noisy video, and what is signal of its residual."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

from nervkit.restoration.kinds import pixels
from nervkit.restoration.task import Task

IMPULSE = 6.0  # times the local mean deviation: beyond, a residual is an impulse
QUIETEST = 2.0  # 8-bit steps: no residual under IMPULSE times this is one
# Luma and two differences of colours, orthonormal: white noise stays white, detail gathers in luma.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
OPPONENT /= np.linalg.norm(OPPONENT, axis=1, keepdims=True)
WINDOW = (3, 7, 7)  # frames, rows, columns: where a residual's variance is taken
REACH = 1  # frames before and after that a window takes in


def denoise(source: Any, output: str | Path | None = None, **options: Any) -> Any:
    """Remove noise from a video, of a kind and strength that nobody has to know.

    1. A representation is fitted to the noisy frames. It has far fewer values than they have, so
       that it holds what repeats in time and space; noise does not (NeRV, 2110.13903; Ulyanov et
       al., "Deep image prior", 1711.10925).
    2. What it leaves of a frame, the residual, is noise and detail. Impulses are single pixels far
       from the residual around them; they are replaced.
    3. Of the rest, Wiener's local filter (Lee, 1980) keeps what exceeds the noise, whose variance
       is estimated from the residual itself: of white noise next to nothing, of an undamaged
       video next to all.

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
    fitted = task.fit(clip.frames)
    cleaner = Cleaner(clip.frames, fitted)
    return task.deliver(clip, cleaner.frames(), fitted, details=cleaner.found)


class Predictor(Protocol):
    """What says how frames should look; Fitted is one."""

    def predict(self, position: float) -> np.ndarray:
        """(H, W, 3) float32, 0 to 255."""


class Cleaner:
    """The frames of a noisy clip, cleaned one after the other."""

    def __init__(self, noisy: np.ndarray, fitted: Predictor) -> None:
        """`noisy` is (T, H, W, 3) uint8."""
        self._noisy, self._fitted = noisy, fitted
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
        count = len(self._noisy)
        near: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=2 * REACH + 1)
        for t in range(min(REACH, count)):
            near.append(self._residual(t))
        for t in range(count):
            if t + REACH < count:
                near.append(self._residual(t + REACH))
            elif len(near) > REACH + 1:
                near.popleft()
            place = min(t, REACH)
            predicted = near[place][0]
            kept = self._signal(np.stack([residual for _, residual in near]))[place]
            yield pixels(predicted + kept)

    def _residual(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The prediction of frame t and what it leaves, without impulses: (H, W, 3) float32."""
        predicted = self._fitted.predict(t)
        residual = self._noisy[t] - predicted
        around = median_filter(residual, (3, 3, 1))
        apart = np.abs(residual - around).max(axis=2)
        usual = np.maximum(uniform_filter(apart, WINDOW[1:]), QUIETEST)
        impulses = apart > IMPULSE * usual
        self._impulses.append(float(impulses.mean()))
        return predicted, np.where(impulses[..., None], around, residual)

    def _signal(self, residuals: np.ndarray) -> np.ndarray:
        """What is not noise of (n, H, W, 3) residuals."""
        values = residuals @ OPPONENT.T
        variance = noise_variance(values)
        self._deviations.append(float(np.sqrt(variance.mean())))
        window = (min(WINDOW[0], len(values)), *WINDOW[1:], 1)
        mean = uniform_filter(values, window)
        spread = uniform_filter(values**2, window) - mean**2
        gain = np.maximum(spread - variance, 0) / np.maximum(spread, 1e-6)
        return (mean + gain * (values - mean)) @ OPPONENT


def noise_variance(residuals: np.ndarray) -> np.ndarray:
    """The variance (3,) of white noise in (n, H, W, 3) residuals: from the median absolute value of
    their second differences across both axes, which detail hardly reaches (Immerkaer, 1996). 0
    where a side is under three pixels."""
    if min(residuals.shape[1:3]) < 3:
        return np.zeros(3, np.float32)
    fine = residuals[:, 1:-1] - (residuals[:, :-2] + residuals[:, 2:]) / 2
    fine = fine[:, :, 1:-1] - (fine[:, :, :-2] + fine[:, :, 2:]) / 2
    deviation = np.median(np.abs(fine), axis=(0, 1, 2)) / 0.6745 / 1.5
    return np.square(deviation)
