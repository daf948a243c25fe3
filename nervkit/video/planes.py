"""Conversion between RGB and YUV through swscale, and 4:2:0 planes as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from nervkit.container.header import MATRICES, RANGES
from nervkit.video.colour import LUMA_WEIGHTS, RGB, Colour
from nervkit.video.edit import Edit
from nervkit.video.source import Picture

#: the matrix for frames of RGB sources, which have none: ffmpeg's default
DEFAULT_MATRIX = "bt601"

SEVERAL_THREADS = 1 << 21  # pixels of a frame from which swscale's threads save time
LINE = 32  # swscale writes the pixels of a row in groups of at most this many


def yuv_colour(colour: Colour) -> Colour:
    """Return the colour description for conversion to YUV; an RGB source gets DEFAULT_MATRIX."""
    if colour.matrix != RGB:
        return colour
    return replace(colour, rgb_matrix=DEFAULT_MATRIX)


def yuv_transform(colour: Colour) -> tuple[np.ndarray, np.ndarray]:
    """Return the (3, 3) matrix and (3,) offsets, float64, that map R, G, B to Y, U, V, all as 8-bit
    samples / 255 (H.273, 8.3), with the matrix and range of `yuv_colour`."""
    used = yuv_colour(colour)
    red, blue = LUMA_WEIGHTS[used.rgb_matrix]
    luma = np.array([red, 1 - red - blue, blue])
    u = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue))
    v = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red))
    black, whole, chroma = (16, 219, 224) if used.rgb_range == "limited" else (0, 255, 255)
    scales = np.array([whole, chroma, chroma]) / 255
    return scales[:, None] * np.stack([luma, u, v]), np.array([black, 128, 128]) / 255


def convert_to_rgb(frame: av.VideoFrame, colour: Colour) -> np.ndarray:
    """Convert a frame to (H, W, 3) uint8; a YUV frame with `colour`'s rgb_matrix and rgb_range."""
    arguments: dict[str, Any] = {
        "interpolation": Interpolation.BICUBIC,  # ffmpeg's default
        "threads": scaler_threads(frame),
    }
    if colour.matrix != RGB:
        arguments["src_colorspace"] = Colorspace(MATRICES[colour.rgb_matrix])
        arguments["src_color_range"] = ColorRange(RANGES[colour.rgb_range])
    return frame.reformat(format="rgb24", **arguments).to_ndarray()


def convert_from_rgb(frame: np.ndarray, pixel_format: str, colour: Colour) -> av.VideoFrame:
    """Convert an (H, W, 3) uint8 frame to a pixel format; to YUV with `colour`'s rgb_matrix and
    rgb_range."""
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    if not pixel_format.startswith("yuv"):
        return rgb.reformat(format=pixel_format, threads=scaler_threads(rgb))
    return rgb.reformat(
        format=pixel_format,
        interpolation=Interpolation.BICUBIC,  # ffmpeg's default
        dst_colorspace=Colorspace(MATRICES[colour.rgb_matrix]),
        dst_color_range=ColorRange(RANGES[colour.rgb_range]),
        threads=scaler_threads(rgb),
    )


def scaler_threads(frame: av.VideoFrame) -> int:
    """Return the number of threads for a conversion (0: one per CPU).

    Each conversion starts its own threads, which takes longer than to convert a small frame. At
    other widths than multiples of LINE, several threads corrupt the frame: the last group of a row
    overwrites the beginning of the next row, which another thread may have written already.
    """
    large = frame.width * frame.height >= SEVERAL_THREADS
    return 0 if large and frame.width % LINE == 0 else 1


class OwnPlanes:
    """A callback for `read_clip(on_picture=...)` that passes on the source's own 4:2:0 planes,
    cropped and resized like the clip. It stops at the first picture without such planes."""

    def __init__(self, edit: Edit, keep: Callable[[Planes], None]) -> None:
        self.complete = True
        self._edit, self._keep = edit, keep

    def __call__(self, picture: Picture) -> None:
        planes = None
        if self.complete and picture.planes is not None:
            planes = self._edit.shape_planes(picture.planes())
        self.complete = planes is not None
        if planes is not None:
            self._keep(Planes.from_luma(*planes))


@dataclass(frozen=True)
class Planes:
    """One 8-bit 4:2:0 frame: `y` (H, W), `u` and `v` (H / 2, W / 2), uint8. H and W are even; an
    odd picture is padded by repeating its last row or column."""

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray

    @classmethod
    def from_luma(cls, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> Self:
        """Build from a luma plane of any size and chroma planes of half that size, rounded up."""
        return cls(_even(y), u, v)

    @classmethod
    def from_rgb(cls, frame: np.ndarray, colour: Colour) -> Self:
        """Convert an (H, W, 3) uint8 frame of any size."""
        even = _even(frame)
        made = convert_from_rgb(even, "yuv420p", yuv_colour(colour)).to_ndarray()
        return cls.from_samples(made.ravel(), even.shape[1], even.shape[0])

    @classmethod
    def from_samples(cls, samples: np.ndarray, width: int, height: int) -> Self:
        """Build from raw yuv420p samples, plane by plane; width and height must be even."""
        luma, chroma = width * height, width * height // 4
        y, u, v = np.split(samples, [luma, luma + chroma])
        half = (height // 2, width // 2)
        return cls(y.reshape(height, width), u.reshape(half), v.reshape(half))

    def samples(self) -> np.ndarray:
        """Return raw yuv420p samples, plane by plane."""
        return np.concatenate([self.y.ravel(), self.u.ravel(), self.v.ravel()])

    def rgb(self, colour: Colour, width: int, height: int) -> np.ndarray:
        """Convert to a (height, width, 3) uint8 frame."""
        stacked = self.samples().reshape(-1, self.y.shape[1])
        frame = av.VideoFrame.from_ndarray(stacked, format="yuv420p")
        used = yuv_colour(colour)
        return convert_to_rgb(frame, replace(used, matrix=MATRICES[used.rgb_matrix]))[
            :height, :width
        ]


def _even(picture: np.ndarray) -> np.ndarray:
    odd = [(0, side % 2) for side in picture.shape[:2]]
    return np.pad(picture, odd + [(0, 0)] * (picture.ndim - 2), mode="edge")
