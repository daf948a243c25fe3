"""How many bytes the tensors of each segment are to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: of x264's bytes for a segment's frames at one constant rate factor: with 0 all frames get the
#: same, with 1 all the same quality; x264 itself divides a bitrate by 0.6 (its qcomp)
BY_CONTENT = 0.6
LEAST_BYTES = 1_000  # of a segment


@dataclass(frozen=True)
class Content:
    """What a segment is like: its frames, and the bytes of one of them (`video.probe`)."""

    frames: int
    frame_bytes: float

    @property
    def weight(self) -> float:
        return self.frames * self.frame_bytes**BY_CONTENT


def allocated(total: int, contents: Sequence[Content]) -> list[int]:
    """`total` bytes divided over segments by their contents; LEAST_BYTES each at least, which may
    make more of it."""
    weights = sum(content.weight for content in contents)
    shares = [total * content.weight / weights for content in contents]
    lifted = sum(LEAST_BYTES - share for share in shares if share < LEAST_BYTES)
    above = sum(share - LEAST_BYTES for share in shares if share > LEAST_BYTES)
    taken = min(1.0, lifted / above) if above else 0.0
    return [
        round(share - taken * (share - LEAST_BYTES)) if share > LEAST_BYTES else LEAST_BYTES
        for share in shares
    ]
