"""A clip: source frames with everything that travels along."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from nervkit.container.extras import Extras
from nervkit.container.timing import Timing
from nervkit.container.track import Track
from nervkit.video.colour import Colour


@dataclass
class Clip:
    """Frames in memory with their timing, colour and tracks.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB, upright.
        timing: when each frame is shown.
        sample_aspect_ratio: width : height of one pixel.
        colour: the source's description, and what its planes were taken to be.
        tracks: audio and subtitles, as packets.
        extras: tags, chapters and attached files.
        source: what was read, as text: codec, pixel_format, rotation, ...
        edit: the part that was kept, as `Edit.to_dict`.
        skipped: how many of the source's frames come before the first that was kept.
        notes: one line for everything that was assumed, changed or lost.
    """

    frames: np.ndarray
    timing: Timing
    sample_aspect_ratio: Fraction = Fraction(1)
    colour: Colour = field(default_factory=Colour)
    tracks: list[Track] = field(default_factory=list)
    extras: Extras = field(default_factory=Extras)
    source: dict[str, Any] = field(default_factory=dict)
    edit: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def pts(self) -> np.ndarray:
        """(T,) int64 timestamps, in units of `time_base`."""
        return self.timing.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of `pts`."""
        return self.timing.time_base

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        return self.timing.fps

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, 3)."""
        return self.frames.shape

    @property
    def audio(self) -> list[Track]:
        """The audio tracks."""
        return [track for track in self.tracks if track.kind == "audio"]

    @property
    def subtitles(self) -> list[Track]:
        """The subtitle tracks."""
        return [track for track in self.tracks if track.kind == "subtitle"]
