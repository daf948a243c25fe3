"""What lies between the frames of a .nerv file, whose segments have a network each."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nervkit.decoder import NervVideo
from nervkit.restoration.between import Between
from nervkit.restoration.task import Fitted


class StoredFits:
    """Frames at fractional positions of a file, as `Between` makes them with the network of the
    segment that has both neighbours. Between two segments there is no network: the frame is made
    from its neighbours, or where these are of different scenes it repeats the nearer one.

    Attributes:
        model: name of the first segment's.
        parameters: of all networks.
        steps, seconds, notes: of a fit; none is made.
    """

    steps, seconds = 0, 0.0
    notes: tuple[str, ...] = ()

    def __init__(self, video: NervVideo, frames: np.ndarray) -> None:
        """`frames` (N, H, W, 3) uint8 are all of the video, which stays open meanwhile."""
        self.model, self.parameters = video.header.segments[0].model, video.header.values
        self._segments, self._frames = video.segments, frames
        self._within = lru_cache(maxsize=1)(self._of_segment)
        self._across = lru_cache(maxsize=1)(self._of_border)

    def at(self, position: float) -> np.ndarray:
        """The (H, W, 3) float32 frame at a position that is not whole."""
        index = int(position)
        segment = self._segments.index_at(index)
        first, after = self._segments.span(segment)
        if index + 1 < after:
            return self._within(segment).at(position - first)
        between, is_cut = self._across(index)
        if is_cut:
            nearer = index + (position - index > 0.5)
            return self._frames[nearer].astype(np.float32)
        return between.at(position - index)

    def count_across(self, places: np.ndarray) -> int:
        """How many of these positions lie between two segments."""
        lasts = [segment.start + segment.frames - 1 for segment in self._segments]
        return int(np.isin(places[places != np.floor(places)].astype(int), lasts).sum())

    def _of_segment(self, index: int) -> Between:
        segment = self._segments[index]
        frames = self._frames[segment.start : segment.start + segment.frames]
        fitted = Fitted(segment.model, np.arange(segment.frames), segment.model_name)
        return Between(frames, fitted)

    def _of_border(self, index: int) -> tuple[Between, bool]:
        between = Between(self._frames[index : index + 2], None)
        return between, between.is_cut(0)
