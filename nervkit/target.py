"""The target of an encode: a size, a rate or a PSNR, and the bytes it leaves for the tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from nervkit.errors import UsageError
from nervkit.keywords import option
from nervkit.models.sizing import default_parameters
from nervkit.units import parse_bitrate, parse_bpp, parse_psnr, parse_size_in_bytes
from nervkit.video.probe import h264_bytes

if TYPE_CHECKING:
    import numpy as np

    from nervkit.models.config import VideoShape

MIN_TENSOR_BYTES = 1_000  # with less, no representation shows a usable picture
LONG_FIT = 10_000  # steps; a fit of fewer needs more bytes for the same PSNR,
SHORT_FIT_POWER = 0.3  # by this power of LONG_FIT / steps
H264_RATIO = 1.1  # typical ratio of tensor bytes to H.264 bytes at the same PSNR
YUV_ABOVE_RGB = 3.0  # dB, typical difference of 6:1:1 PSNR and RGB PSNR
DEFAULT_BITS = 3.0  # per value of a network of the default size


@dataclass(frozen=True)
class Target:
    """The target of an encode. One attribute is set.

    Attributes:
        size: bytes of the file, tracks included.
        bpp: bits per pixel of the video alone.
        bitrate: bits per second of the file, tracks included.
        psnr: dB of the metric, of the video.
    """

    size: int | None = None
    bpp: float | None = None
    bitrate: int | None = None
    psnr: float | None = None

    @classmethod
    def from_options(
        cls,
        size: str | int | None,
        bpp: str | float | None,
        bitrate: str | int | None = None,
        psnr: str | float | None = None,
    ) -> Self | None:
        """Make a target from options, of which at most one may be given. Return None if none is.
        Raises UsageError."""
        given = [value for value in (size, bpp, bitrate, psnr) if value is not None]
        if not given:
            return None
        if len(given) > 1:
            raise UsageError(
                f"give one of {option('target_size')}, {option('target_bpp')}, "
                f"{option('target_bitrate')} and {option('target_psnr')}"
            )
        bits = None if bpp is None else parse_bpp(bpp)
        if bits is not None and not 0 < bits <= 24:
            raise UsageError(f"{option('target_bpp')} must lie in 0 (exclusive) to 24, not {bpp}")
        return cls(
            None if size is None else parse_size_in_bytes(size),
            bits,
            None if bitrate is None else parse_bitrate(bitrate),
            None if psnr is None else parse_psnr(psnr),
        )

    def __str__(self) -> str:
        if self.psnr is not None:
            return f"{self.psnr:g} dB"
        if self.bpp is not None:
            return f"{self.bpp:g} bits per pixel"
        return f"{self.size} bytes" if self.size else f"{self.bitrate} bits per second"

    def _as_option(self, size: int, pixels: int, seconds: Fraction) -> str:
        """Return a number of bytes as a value of the option that set this target."""
        if self.bpp is not None:
            rounded_up = 8 * size / pixels * (1 + 5e-3)  # three digits: off by less than 5e-3
            return f"{option('target_bpp')} {rounded_up:.3g}"
        if self.bitrate is not None:
            return f"{option('target_bitrate')} {math.ceil(8 * size / seconds)}"
        return f"{option('target_size')} {size}"

    def expected_bytes(self, frames: np.ndarray, metric: str, steps: int | None) -> int:
        """Estimate the tensor bytes that `frames` (T, H, W, 3) uint8 need for the target's PSNR
        after a fit of `steps`. A shorter fit needs more; None means a long one."""
        assert self.psnr is not None
        offset = YUV_ABOVE_RGB if metric == "yuv" else 0.0
        scale = max(1.0, LONG_FIT / (steps or LONG_FIT)) ** SHORT_FIT_POWER
        of_h264 = h264_bytes(frames, self.psnr - offset)
        return max(MIN_TENSOR_BYTES, round(H264_RATIO * scale * of_h264))

    def tensor_bytes(self, pixels: int, seconds: Fraction, fixed: int, video: int) -> int:
        """Return the bytes that a target of size or rate leaves for the tensors.

        Args:
            pixels: number of pixels of all frames.
            seconds: duration of the video.
            fixed: bytes of the file besides the tensors.
            video: the part of `fixed` that bits per pixel count.

        Raises UsageError if the target leaves fewer than MIN_TENSOR_BYTES.
        """
        if self.bpp is not None:
            total, overhead, parts = round(self.bpp * pixels / 8), video, "times and checks"
        else:
            assert self.size is not None or self.bitrate is not None
            total = self.size or round((self.bitrate or 0) * seconds / 8)
            overhead, parts = fixed, "tracks, times and frame checks"
        if total - overhead < MIN_TENSOR_BYTES:
            smallest = self._as_option(overhead + MIN_TENSOR_BYTES, pixels, seconds)
            raise UsageError(
                f"the target is too small: of its {max(0, total):,} bytes, {parts} take "
                f"{overhead:,}, and the representation needs at least {MIN_TENSOR_BYTES:,}; "
                f"the least is {smallest}"
            )
        return total - overhead


def default_bytes(shape: VideoShape) -> int:
    """Return the default tensor bytes of a video: 0.06 bits per pixel for 132 frames of 320x160,
    0.02 for 132 frames of 720p."""
    return max(MIN_TENSOR_BYTES, round(DEFAULT_BITS * default_parameters(shape) / 8))
