"""What opening a file yields, for every format version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nervkit.container.chunks import Chunk
from nervkit.container.header import Header


def intact_segments(segments: int, frames: int) -> str:
    """Return the start of a sentence on the intact segments of a truncated file, at least one."""
    last = "segment 0" if segments == 1 else f"segments 0 to {segments - 1}"
    verb = "is" if segments == 1 else "are"
    return f"{last} ({'frame 0' if frames == 1 else f'frames 0 to {frames - 1}'}) {verb}"


@dataclass(frozen=True)
class Contents:
    """The header of a file and the location of all chunks.

    Attributes:
        header: the header, segments included.
        chunks: all chunks in file order.
        segments: the chunks of each segment.
        models: for each segment, the index of its MODL chunk; empty in format 1.
        damage: why the rest is missing, if a truncated file was salvaged.
        damaged: the chunks with a wrong checksum, in a file that was salvaged otherwise.
        lost: the segments among `damaged`, or with a damaged model: index, first frame, and the
            one after the last. The header leaves them out.
        kept: (T,) indices in the complete video of the frames in the header; None: without `lost`.
    """

    header: Header
    chunks: list[Chunk]
    segments: list[list[Chunk]]
    models: Sequence[int] = ()
    damage: str | None = None
    damaged: frozenset[Chunk] = frozenset()
    lost: Sequence[tuple[int, int, int]] = ()
    kept: np.ndarray | None = None
