"""Collects the selected pictures of a source into a Clip."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np

from nervkit.errors import ResourceError
from nervkit.keywords import option, setting
from nervkit.video.clip import Clip
from nervkit.video.memory import available_memory, human_bytes
from nervkit.video.selection import Selection
from nervkit.video.source import Picture
from nervkit.video.streams import DEFAULT_FPS

MEMORY_SHARE = 0.8  # of the free memory may hold frames; the fit needs the rest


class Collector:
    """Collects the selected pictures of a source into one array.

    Args:
        selection: the selection, before any picture was read.
        on_picture: called with every kept picture, before crop and resize.
    """

    def __init__(
        self, selection: Selection, on_picture: Callable[[Picture], None] | None = None
    ) -> None:
        self.selection, self.on_picture = selection, on_picture
        self.frames: np.ndarray = np.empty((0, 0, 0, 3), np.uint8)

    def collect(self, strict: bool) -> Clip:
        """Return the Clip. Raises SourceError if it is empty or, with `strict`, damaged;
        ResourceError if it does not fit into memory."""
        frames = self.gather()
        return Clip(frames=frames, **vars(self.selection.details(strict)))

    def gather(self) -> np.ndarray:
        """Return all frames, possibly none, as (T, H, W, 3) uint8. Raises ResourceError."""
        for index, picture in enumerate(self.selection.pictures()):
            frame = self.selection.frame(picture)
            if index == 0:
                self._reserve(self._expected(picture), frame.shape)
            elif index == len(self.frames):
                self._reserve(2 * index, frame.shape)
            self.frames[index] = frame
            if self.on_picture is not None:
                self.on_picture(picture)
        return self.frames[: self.selection.kept]

    def _expected(self, first: Picture) -> int:
        """Return the number of frames to allocate, given the first picture."""
        selection, edit = self.selection, self.selection.edit
        total = selection.source.count()
        ahead = 1 if total is None else max(1, total - selection.passed + 1)
        if edit.to is not None:
            each = (first.duration or 0) * selection.source.time_base or 1 / DEFAULT_FPS
            ahead = min(ahead, ceil((edit.to - edit.start) / each))
        return ahead if edit.stop is None else min(ahead, edit.stop - edit.first)

    def _reserve(self, count: int, shape: tuple[int, ...]) -> None:
        need, have = count * int(np.prod(shape)), available_memory()
        if need > MEMORY_SHARE * have:
            fits = int(MEMORY_SHARE * have / np.prod(shape))
            raise ResourceError(
                f"{self.selection.source.name}: {count} frames of {shape[1]}x{shape[0]} need "
                f"{human_bytes(need)} of memory, but only {human_bytes(have)} are free; "
                f"use fewer frames ({setting('frames', f'0:{fits}')}) or smaller ones "
                f"({option('resize')}, {option('crop')})"
            )
        grown = np.empty((count, *shape), np.uint8)
        grown[: len(self.frames)] = self.frames.reshape(-1, *shape)
        self.frames = grown
