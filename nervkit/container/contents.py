"""What opening a file yields, for every format version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nervkit.container.chunks import Chunk
from nervkit.container.header import Header


def intact_segments(segments: int, frames: int, found: int) -> str:
    """Return the start of a sentence on the intact segments of a truncated file, at least one of
    the `found` ones. `frames` is their number of frames."""
    if segments < found:
        return f"{segments} of the first {found} segments {'is' if segments == 1 else 'are'}"
    last = "segment 0" if segments == 1 else f"segments 0 to {segments - 1}"
    verb = "is" if segments == 1 else "are"
    return f"{last} ({'frame 0' if frames == 1 else f'frames 0 to {frames - 1}'}) {verb}"


@dataclass(frozen=True)
class LostSegment:
    """A segment of a salvaged file that cannot be decoded.

    Attributes:
        index: index in the complete file.
        first, stop: its first frame, and the one after its last.
        model: whether its model is damaged, but not its own tensors.
    """

    index: int
    first: int
    stop: int
    model: bool


@dataclass(frozen=True)
class Contents:
    """The header of a file and the location of all chunks.

    Attributes:
        header: the header, segments included.
        chunks: all chunks in file order.
        segments: the chunks of each segment.
        models: for each segment, the index of its MODL chunk; empty in format 1.
        damage: why the rest is missing, if a truncated file was salvaged.
        ended: whether all chunks before the table were found nevertheless.
        damaged: the chunks of a salvaged file with a wrong checksum.
        lost: the segments among `damaged`, or with a damaged model. The header leaves them out.
        kept: (T,) indices in the complete video of the frames in the header; None: without `lost`.
    """

    header: Header
    chunks: list[Chunk]
    segments: list[list[Chunk]]
    models: Sequence[int] = ()
    damage: str | None = None
    ended: bool = True
    damaged: frozenset[Chunk] = frozenset()
    lost: Sequence[LostSegment] = ()
    kept: np.ndarray | None = None
