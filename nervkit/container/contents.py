"""What opening a file finds, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nervkit.container.chunks import Chunk
from nervkit.container.header import Header


@dataclass(frozen=True)
class Contents:
    """Where all parts of a file are, and what it declares.

    Attributes:
        header: with its segments.
        chunks: all of the file, in order.
        segments: the chunks of each segment.
        models: for each segment, which of the file's configurations it has; empty in format 1.
        damage: why there is no more, where the file was salvaged.
    """

    header: Header
    chunks: list[Chunk]
    segments: list[list[Chunk]]
    models: Sequence[int] = ()
    damage: str | None = None
