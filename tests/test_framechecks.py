"""Decoded frames against the frame checks that a file stores of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nervkit.container.file import Checks, sample_indices
from nervkit.framechecks import DecodedFrames, Match, count_matches, match
from nervkit.metrics import quality_of

FRAMES = np.random.default_rng(5).integers(1, 255, (3, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def checks() -> Checks:
    decoded = DecodedFrames()
    for frame in FRAMES:
        decoded.add(frame, quality_of(frame, frame))
    assert decoded.quality.psnr == 100
    return decoded.checks(decoded.quality.psnr, decoded.quality.ssim)


def changed(index: int, by: int) -> np.ndarray:
    """Frame `index` with the first sample of its check changed by some levels."""
    frame = FRAMES[index].copy()
    frame.ravel()[sample_indices(index, frame.size)[0]] += np.uint8(by)
    return frame


def test_frames_match_their_checks(checks: Checks) -> None:
    assert count_matches(FRAMES, checks) == Counter({Match.IDENTICAL: 3})
    assert match(changed(1, 1), 1, checks) is Match.ROUNDED
    assert match(changed(1, 2), 1, checks) is Match.WRONG
    frames = [changed(0, 1), FRAMES[1], changed(2, 2)]
    assert count_matches(frames, checks) == Counter(
        {Match.ROUNDED: 1, Match.IDENTICAL: 1, Match.WRONG: 1}
    )


def test_without_samples_rounding_is_no_excuse(checks: Checks) -> None:
    alone = replace(checks, samples=None)
    assert match(FRAMES[0], 0, alone) is Match.IDENTICAL
    assert match(changed(0, 1), 0, alone) is Match.WRONG


def test_checks_of_a_segment_count_from_its_first_frame(checks: Checks) -> None:
    decoded = DecodedFrames(first=1)
    decoded.add(FRAMES[1], quality_of(FRAMES[1], FRAMES[1]))
    assert np.array_equal(decoded.samples, checks.samples[1:2])
