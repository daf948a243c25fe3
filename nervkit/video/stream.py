"""The input of all writers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.colour import Colour


@dataclass(frozen=True)
class Stream:
    """A video to write: frames in presentation order, timing, colour, tracks and metadata."""

    frames: Iterable[np.ndarray]  # (H, W, 3) uint8 each
    width: int
    height: int
    timing: Timing
    sample_aspect_ratio: Fraction = Fraction(1)
    colour: Colour = field(default_factory=Colour)
    tracks: tuple[Track, ...] = ()
    extras: Extras = field(default_factory=Extras)
    window: tuple[Fraction, Fraction] | None = None  # part of tracks and chapters to write, seconds
