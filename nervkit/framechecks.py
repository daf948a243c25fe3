"""CRC-32, samples and quality of decoded frames; comparison of frames with a file's checks."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from enum import Enum

import numpy as np

from nervkit.container.file import Checks, sample_indices
from nervkit.metrics import Quality, mean_quality


class Match(Enum):
    """How a decoded frame compares with the one that its check was made of."""

    IDENTICAL = "identical"
    ROUNDED = "rounded"  # differs by one level at most, as far as the samples show
    WRONG = "wrong"  # differs by more, or the file has no samples


def match(frame: np.ndarray, index: int, checks: Checks) -> Match:
    """Compare frame `index` of the reference decode, (H, W, 3) uint8, with its check."""
    if zlib.crc32(frame.data) == checks.crcs[index]:
        return Match.IDENTICAL
    if checks.samples is None:
        return Match.WRONG
    difference = _samples(frame, index).astype(np.int16) - checks.samples[index]
    return Match.WRONG if (np.abs(difference) > 1).any() else Match.ROUNDED


def count_matches(frames: Iterable[np.ndarray], checks: Checks) -> Counter[Match]:
    """Compare all frames of a video with their checks."""
    return Counter(match(frame, index, checks) for index, frame in enumerate(frames))


def _samples(frame: np.ndarray, index: int) -> np.ndarray:
    """Return the (SAMPLES,) values of frame `index` that its check keeps."""
    return frame.ravel()[sample_indices(index, frame.size)]


class DecodedFrames:
    """CRCs, samples and quality of the decoded frames of a file or a segment, from which its frame
    checks are made. The first one is frame `first` of its video."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._crcs: list[int] = []
        self._samples: list[np.ndarray] = []
        self._qualities: list[Quality] = []

    def add(self, frame: np.ndarray, quality: Quality) -> None:
        """Add the next frame, (H, W, 3) uint8, and its quality against a reference."""
        self._samples.append(_samples(frame, self._first + len(self._crcs)))
        self._crcs.append(zlib.crc32(frame.data))
        self._qualities.append(quality)

    @property
    def quality(self) -> Quality:
        """The mean over frames."""
        return mean_quality(self._qualities)

    @property
    def samples(self) -> np.ndarray:
        """(frames, SAMPLES) uint8."""
        return np.stack(self._samples)

    def checks(self, psnr: float | None, ssim: float | None) -> Checks:
        """Return the frame checks that the file stores, with the quality that it declares."""
        return Checks(psnr, ssim, np.array(self._crcs, np.uint32), self.samples)
