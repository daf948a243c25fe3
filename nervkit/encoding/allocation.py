"""Bit allocation: how many bytes the tensors of each segment get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Power of a segment's x264 bytes (at one constant rate factor) that weighs its share. 0 gives all
#: frames the same bytes, 1 the same quality. x264 divides a bitrate with 0.6, its `qcomp`.
COMPLEXITY_POWER = 0.6
MIN_SEGMENT_BYTES = 1_000


@dataclass(frozen=True)
class Complexity:
    """The complexity of a segment: its frames and the bytes per frame of a probe
    (`video.probe`)."""

    frames: int
    frame_bytes: float

    @property
    def weight(self) -> float:
        return self.frames * self.frame_bytes**COMPLEXITY_POWER


def allocate(total: int, segments: Sequence[Complexity]) -> list[int]:
    """Divide `total` bytes over segments by their complexity. Each segment gets at least
    MIN_SEGMENT_BYTES, so the sum may exceed `total`."""
    weights = sum(segment.weight for segment in segments)
    shares = [total * segment.weight / weights for segment in segments]
    shortage = sum(MIN_SEGMENT_BYTES - share for share in shares if share < MIN_SEGMENT_BYTES)
    surplus = sum(share - MIN_SEGMENT_BYTES for share in shares if share > MIN_SEGMENT_BYTES)
    taken = min(1.0, shortage / surplus) if surplus else 0.0
    return [
        round(share - taken * (share - MIN_SEGMENT_BYTES))
        if share > MIN_SEGMENT_BYTES
        else MIN_SEGMENT_BYTES
        for share in shares
    ]
