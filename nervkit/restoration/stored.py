"""Frames between the frames of a .nerv file, whose segments have one network each."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from nervkit.decoder import NervVideo
from nervkit.restoration.between import Interpolator
from nervkit.restoration.task import Fitted


class StoredInterpolator:
    """Makes frames at fractional positions of a file, by the network of the segment that contains
    both neighbours (see `Interpolator`). Between two segments there is no network: the frame is the
    mean of its warped neighbours, or at a cut the nearer one.

    Attributes:
        model: name of the first segment's model.
        parameters: number of values of all networks.
        steps, seconds, notes: empty, because no fit is made.
    """

    steps, seconds = 0, 0.0
    notes: tuple[str, ...] = ()

    def __init__(self, video: NervVideo[Any], frames: np.ndarray) -> None:
        """`frames` are all frames of the video, (N, H, W, 3) uint8. The video must stay open."""
        self.model, self.parameters = video.header.segments[0].model, video.header.values
        self._segments, self._frames = video.segments, frames
        self._within = lru_cache(maxsize=1)(self._in_segment)
        self._across = lru_cache(maxsize=1)(self._across_boundary)

    def at(self, position: float) -> np.ndarray:
        """Return the frame at a position that is not an integer: (H, W, 3) float32."""
        index = int(position)
        segment = self._segments.index_at(index)
        first, stop = self._segments.span(segment)
        if index + 1 < stop:
            return self._within(segment).at(position - first)
        interpolator, is_cut = self._across(index)
        if is_cut:
            nearer = index + (position - index > 0.5)
            return self._frames[nearer].astype(np.float32)
        return interpolator.at(position - index)

    def count_across(self, positions: np.ndarray) -> int:
        """Return how many of these positions lie between two segments."""
        lasts = [segment.start + segment.frames - 1 for segment in self._segments]
        return int(np.isin(positions[positions != np.floor(positions)].astype(int), lasts).sum())

    def _in_segment(self, index: int) -> Interpolator:
        segment = self._segments[index]
        frames = self._frames[segment.start : segment.start + segment.frames]
        return Interpolator(frames, Fitted(segment.model, segment.model_name))

    def _across_boundary(self, index: int) -> tuple[Interpolator, bool]:
        interpolator = Interpolator(self._frames[index : index + 2], None)
        return interpolator, interpolator.is_cut(0)
