"""Rotation, mirroring and cropping that a file requests for its decoded frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type

NEWEST_SIDE_DATA = 64  # exceeds all side data types that libavutil defines so far


@dataclass(frozen=True)
class Orientation:
    """The display transform of decoded frames: a transposition, then flips."""

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """Return the orientation in the frame's display matrix, to which libavcodec also converts
        EXIF orientation. A matrix that is no quarter turn is ignored."""
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV fails if any entry has a type that it does not list
            data = _listed_side_data(frame).side_data.get("DISPLAYMATRIX")
        if not isinstance(data, SideData):
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
        """Return an (H, W, 3) picture or (H, W) plane in display orientation."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        rows, columns = (-1 if flip else 1 for flip in (self.flip_rows, self.flip_columns))
        return picture[::rows, ::columns]


@dataclass(frozen=True)
class Cropping:
    """The cropping that a container requests, in pixels of the decoded frame: Matroska's PixelCrop,
    MP4's clean aperture."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    @classmethod
    def of(cls, description: str) -> Self:
        """Parse libavformat's text description of a stream; PyAV does not expose the values."""
        match = re.search(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", description, re.MULTILINE)
        return cls(*map(int, match.groups())) if match else cls()

    def fits(self, width: int, height: int) -> bool:
        return self.left + self.right < width and self.top + self.bottom < height

    @property
    def even(self) -> bool:
        """Whether the cropped area begins at a chroma sample of 4:2:0."""
        return self.left % 2 == self.top % 2 == 0

    def apply(self, picture: np.ndarray, scale: int = 1) -> np.ndarray:
        """Return the cropped (H, W, ...) picture, or a plane of 1 / `scale` of the size."""
        height, width = picture.shape[:2]
        bottom, right = height - self.bottom // scale, width - self.right // scale
        return picture[self.top // scale : bottom, self.left // scale : right]


def _listed_side_data(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the frame without side data of types that PyAV does not list."""
    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    known = {kind.value for kind in Type}
    for number in sorted(set(range(NEWEST_SIDE_DATA)) - known):
        strip = graph.add("sidedata", f"mode=delete:type={number}")
        last.link_to(strip)
        last = strip
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()
