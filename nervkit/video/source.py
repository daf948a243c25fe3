"""The interface of all inputs: pictures in presentation order, and their description."""

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
    from nervkit.video.packets import Packet


@dataclass(frozen=True)
class Picture:
    """One frame of a source. `pts` and `duration` are in the source's time base, None if unknown.
    `rgb()` converts to (H, W, 3) uint8 on demand. `planes()` returns the original Y (H, W), U and V
    (half that size, rounded up) as uint8 and is None unless the source is 8-bit 4:2:0."""

    pts: int | None
    duration: int | None
    rgb: Callable[[], np.ndarray]
    planes: Callable[[], list[np.ndarray]] | None = None


class Source(ABC):
    """An input. `colour`, `description` and `sample_aspect_ratio` are final after the first
    picture, `damage`, `side_packets` and `extras` after the last.

    `rereadable` tells whether the input can be opened again, which a pipe cannot; `seekable`, after
    the first picture, whether `seek` may find a picture by its `pts`.
    """

    def __init__(self, name: str, time_base: Fraction = Fraction(1, 25)) -> None:
        self.name = name
        self.time_base = time_base
        self.sample_aspect_ratio = Fraction(1)
        self.colour = Colour()
        self.starts: list[Fraction] = []  # start time of each audio track, in seconds
        self.description: dict[str, Any] = {}
        self.notes: list[str] = []
        self.damage: str | None = None

    @property
    def rereadable(self) -> bool:
        return True

    @property
    def seekable(self) -> bool:
        return False

    def note(self, text: str) -> None:
        """Add a note for the user, unless it was added before."""
        if text not in self.notes:
            self.notes.append(text)

    @abstractmethod
    def count(self) -> int | None:
        """Return the expected number of pictures, None if only reading can tell."""

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """Yield all pictures in presentation order."""

    def seek(self, pts: int) -> bool:
        """Start `pictures` at or before `pts`; call before reading any picture. Return False if
        seeking failed, after which the source is unusable."""
        return False

    def skip_rest(self) -> None:
        """Called after the last wanted picture, instead of reading all pictures."""
        return

    def side_packets(self) -> list[list[Packet]]:
        """Return the packets of every audio and subtitle stream."""
        return []

    def extras(self) -> Extras:
        """Return tags, chapters and attachments, on the source's own timeline."""
        return Extras()
