"""How decoded pictures lie: turned or mirrored, and cropped, until they are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import av
import numpy as np
from av.sidedata.sidedata import Type

NEWEST_SIDE_DATA = 64  # beyond every type that libavutil numbers so far


@dataclass(frozen=True)
class Orientation:
    """How decoded pictures must be turned to be shown: transposed, then flipped."""

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """What the frame's display matrix asks for, or its EXIF orientation, which libavcodec
        makes such a matrix; nothing where that is no quarter turn."""
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV gives up where one entry is of a type that it does not list
            data = _listed_side_data(frame).side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        # x' = a x + c y, y' = b x + d y, in 16.16 fixed point (ISO 14496-12, 6.2.2)
        a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].tolist()
        if b == c == 0:
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0) if a == d == 0 else cls()

    @property
    def mirrors(self) -> bool:
        return self.transpose ^ self.flip_columns ^ self.flip_rows

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The (H, W, 3) picture, or the (H, W) plane, as it is to be shown."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        rows, columns = (-1 if flip else 1 for flip in (self.flip_rows, self.flip_columns))
        return picture[::rows, ::columns]


@dataclass(frozen=True)
class Cropping:
    """The margins that a container asks to leave out, in pixels as decoded: Matroska's PixelCrop,
    the clean aperture of MP4."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    @classmethod
    def of(cls, description: str) -> Self:
        """From libavformat's description of a stream; PyAV does not give it otherwise."""
        match = re.search(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", description, re.MULTILINE)
        return cls(*map(int, match.groups())) if match else cls()

    def fits(self, width: int, height: int) -> bool:
        return self.left + self.right < width and self.top + self.bottom < height

    @property
    def even(self) -> bool:
        """Whether it begins with a chroma sample of 4:2:0."""
        return self.left % 2 == self.top % 2 == 0

    def apply(self, picture: np.ndarray, scale: int = 1) -> np.ndarray:
        """What is left of an (H, W, ...) picture, or of a plane with 1 / `scale` of the size."""
        height, width = picture.shape[:2]
        bottom, right = height - self.bottom // scale, width - self.right // scale
        return picture[self.top // scale : bottom, self.left // scale : right]


def _listed_side_data(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without the side data of which PyAV has no name."""
    graph = av.filter.Graph()
    size = {"width": frame.width, "height": frame.height, "format": frame.format}
    last = graph.add_buffer(**size, time_base=frame.time_base)
    known = {kind.value for kind in Type}
    for number in sorted(set(range(NEWEST_SIDE_DATA)) - known):
        strip = graph.add("sidedata", f"mode=delete:type={number}")
        last.link_to(strip)
        last = strip
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return graph.pull()
