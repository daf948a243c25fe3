"""What every kind of input offers: pictures in order, and what is known about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from nervkit.media.extras import Extras
from nervkit.video.colour import Colour

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Picture:
    """One frame of a source. `rgb()` makes its (H, W, 3) uint8 pixels, when they are needed;
    `pts` and `duration` are in the source's time base, None where it does not say. `planes()`
    gives its own Y (H, W), U and V (half of that, rounded up) as uint8, where it is 8-bit 4:2:0."""

    pts: int | None
    duration: int | None
    rgb: Callable[[], np.ndarray]
    planes: Callable[[], list[np.ndarray]] | None = None


class Source(ABC):
    """An input. `colour`, `description` and `sample_aspect_ratio` are final once the first
    picture was taken, `damage`, `side_packets` and `extras` once the last was.

    `rereadable` says whether the same may be opened and read again, which a pipe may not;
    `seekable`, once the first picture was taken, whether `seek` may find a picture by its `pts`.
    """

    rereadable = True
    seekable = False

    def __init__(self, name: str, time_base: Fraction = Fraction(1, 25)) -> None:
        self.name = name
        self.time_base = time_base
        self.sample_aspect_ratio = Fraction(1)
        self.colour = Colour()
        self.starts: list[Fraction] = []  # when each audio track begins, in seconds
        self.description: dict[str, Any] = {}
        self.notes: list[str] = []
        self.damage: str | None = None

    def note(self, text: str) -> None:
        """Say something once that the user should know."""
        if text not in self.notes:
            self.notes.append(text)

    @abstractmethod
    def count(self) -> int | None:
        """How many pictures to expect; None where only reading can tell."""

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """All pictures in the order in which they are shown."""

    def seek(self, pts: int) -> bool:
        """Before any picture is taken: begin with one that is shown at `pts`, or before. False
        where that cannot be; the source is of no use then."""
        return False

    def skip_rest(self) -> None:
        """Called instead of taking all pictures, once those that are wanted were taken."""
        return

    def side_packets(self) -> list[list[av.Packet]]:
        """The packets of every audio and subtitle stream."""
        return []

    def extras(self) -> Extras:
        """Tags, chapters and attached files, on the source's own time line."""
        return Extras()
