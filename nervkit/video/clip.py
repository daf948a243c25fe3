"""A clip: source frames with timing, colour description, tracks and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.colour import Colour
from nervkit.video.preview import preview_places, strip_html


@dataclass
class Details:
    """The fields of a Clip except its frames.

    Attributes:
        timing: frame timestamps.
        sample_aspect_ratio: width : height of one pixel.
        colour: the source's colour description, and the conversion used to make RGB.
        tracks: audio and subtitles, as packets.
        extras: tags, chapters and attachments.
        source: properties of the source: codec, pixel_format, rotation, ...; and `start` if the
            source does not begin at 0: the seconds subtracted from all its timestamps.
        edit: the part of the source that was kept, as `Edit.to_dict`.
        skipped: number of source frames before the first kept one.
        notes: one line for every assumption, change and loss.
    """

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
    def audio(self) -> list[Track]:
        """The audio tracks."""
        return [track for track in self.tracks if track.kind == "audio"]

    @property
    def subtitles(self) -> list[Track]:
        """The subtitle tracks."""
        return [track for track in self.tracks if track.kind == "subtitle"]


@dataclass
class Frames:
    """Frames in memory: (T, H, W, 3) uint8 RGB, upright."""

    frames: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, 3)."""
        return self.frames.shape


@dataclass(repr=False)
class Clip(Details, Frames):  # in this order, `frames` is the first field
    """Source frames in memory: (T, H, W, 3) uint8 RGB in `frames`, with timing, colour description,
    tracks and extras (the attributes of `Details`).
    """

    def __repr__(self) -> str:
        count, height, width, _ = self.shape
        tracks = "".join(f", {track.kind}" for track in self.tracks)
        return f"Clip({count} frames of {width}x{height}, {float(self.fps):.3g} fps{tracks})"

    def _repr_html_(self) -> str:
        return strip_html(repr(self), self.frames[preview_places(len(self.frames))])
