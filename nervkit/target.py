"""How large a file is to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from nervkit.errors import UsageError
from nervkit.fitting.options import default_parameters
from nervkit.units import parse_bitrate, parse_psnr, parse_size_in_bytes
from nervkit.video.probe import h264_bytes

if TYPE_CHECKING:
    import numpy as np

    from nervkit.models.config import VideoShape

LEAST_TENSOR_BYTES = 1_000  # with less, no representation shows anything
LONG_FIT, SHORTER_TAKES = 10_000, 0.3  # steps; bytes rise by this power of LONG_FIT / steps
OF_H264 = 1.1  # bytes of tensors over those of an H.264 stream of the same PSNR, about
PLANES_ABOVE_RGB = 3.0  # dB of 6:1:1 PSNR above that of RGB, about
DEFAULT_BITS = 3.0  # for each value of a network of the default size


@dataclass(frozen=True)
class Target:
    """A file's size in bytes or its bits per second, tracks included; or the bits per pixel or the
    PSNR in dB of its video alone."""

    size: int | None = None
    bpp: float | None = None
    bitrate: int | None = None
    psnr: float | None = None

    @classmethod
    def of(
        cls,
        size: str | int | None,
        bpp: float | None,
        bitrate: str | int | None = None,
        psnr: float | None = None,
    ) -> Self | None:
        """From options of which at most one is given; None where none is. Raises UsageError."""
        given = [value for value in (size, bpp, bitrate, psnr) if value is not None]
        if not given:
            return None
        if len(given) > 1:
            raise UsageError("give one of target-size, target-bpp, target-bitrate and target-psnr")
        psnr = None if psnr is None else parse_psnr(psnr)
        if bpp is not None and not 0 < bpp <= 24:
            raise UsageError(f"target-bpp must lie in 0 (exclusive) to 24, not {bpp}")
        return cls(
            None if size is None else parse_size_in_bytes(size),
            bpp,
            None if bitrate is None else parse_bitrate(bitrate),
            psnr,
        )

    def __str__(self) -> str:
        if self.psnr is not None:
            return f"{self.psnr:g} dB"
        if self.bpp is not None:
            return f"{self.bpp:g} bits per pixel"
        return f"{self.size} bytes" if self.size else f"{self.bitrate} bits per second"

    def _in_its_unit(self, size: int, pixels: int, seconds: Fraction) -> str:
        """A number of bytes as the option that this target was given by would have it."""
        if self.bpp is not None:
            return f"--target-bpp {8 * size / pixels:.3g}"
        if self.bitrate is not None:
            return f"--target-bitrate {math.ceil(8 * size / seconds)}"
        return f"--target-size {size}"

    def expected_bytes(self, frames: np.ndarray, metric: str, steps: int | None) -> int:
        """What tensors take, about, for the target's PSNR of `frames` (T, H, W, 3) uint8 after a
        fit of `steps`, which takes more the shorter it is; None: long."""
        assert self.psnr is not None
        below = PLANES_ABOVE_RGB if metric == "yuv" else 0.0
        short = max(1.0, LONG_FIT / (steps or LONG_FIT)) ** SHORTER_TAKES
        bytes_of_h264 = h264_bytes(frames, self.psnr - below)
        return max(LEAST_TENSOR_BYTES, round(OF_H264 * short * bytes_of_h264))

    def tensor_bytes(self, pixels: int, seconds: Fraction, fixed: int, video: int) -> int:
        """What is left for the tensors.

        Args:
            pixels: of all frames.
            seconds: that these are shown.
            fixed: bytes of the file besides the tensors.
            video: those of them that bits per pixel count.

        Raises UsageError where that is too little. Not for a target of PSNR.
        """
        if self.bpp is not None:
            whole, besides, what = round(self.bpp * pixels / 8), video, "times and checks"
        else:
            assert self.size is not None or self.bitrate is not None
            whole = self.size or round((self.bitrate or 0) * seconds / 8)
            besides, what = fixed, "tracks, times and frame checks"
        if whole - besides < LEAST_TENSOR_BYTES:
            least = besides + LEAST_TENSOR_BYTES
            raise UsageError(
                f"the target is too small: it leaves {max(0, whole):,} bytes, {besides:,} are "
                f"taken by {what}, and the representation needs {LEAST_TENSOR_BYTES:,} or more; "
                f"the least is {self._in_its_unit(least, pixels, seconds)}"
            )
        return whole - besides


def default_bytes(shape: VideoShape) -> int:
    """What tensors take, about, where the user asks for nothing: 0.06 bits per pixel for 132 frames
    of 320x160, 0.02 for 132 frames of 720p."""
    return max(LEAST_TENSOR_BYTES, round(DEFAULT_BITS * default_parameters(shape) / 8))
