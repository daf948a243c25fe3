"""How large a file is to be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from nervkit.errors import UsageError

LEAST_TENSOR_BYTES = 1_000  # with less, no representation shows anything
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


@dataclass(frozen=True)
class Target:
    """A file's size in bytes, tracks included, or the bits per pixel of its video alone."""

    size: int | None = None
    bpp: float | None = None

    @classmethod
    def of(cls, size: str | int | None, bpp: float | None) -> Self | None:
        """From options of which at most one is given; None where neither is. Raises UsageError."""
        if size is None and bpp is None:
            return None
        if size is not None and bpp is not None:
            raise UsageError("give one of target-size and target-bpp")
        if bpp is not None and not 0 < bpp <= 24:
            raise UsageError(f"target-bpp must lie in 0 (exclusive) to 24, not {bpp}")
        return cls(None if size is None else parse_size_in_bytes(size), bpp)

    def tensor_bytes(self, pixels: int, fixed: int, video: int) -> int:
        """What is left for the tensors.

        Args:
            pixels: of all frames.
            fixed: bytes of the file besides the tensors.
            video: those of them that bits per pixel count.

        Raises UsageError where that is too little.
        """
        if self.size is not None:
            whole, besides, what = self.size, fixed, "tracks, times and frame checks"
        else:
            whole, besides, what = round(self.bpp * pixels / 8), video, "times and checks"
        if whole - besides < LEAST_TENSOR_BYTES:
            raise UsageError(
                f"a target of {whole:,} bytes is too small: {besides:,} are taken by {what}, and "
                f"the representation needs {LEAST_TENSOR_BYTES:,} or more"
            )
        return whole - besides


def parse_size_in_bytes(text: str | int) -> int:
    """Bytes from 500000, "500k" or "1.5M" (powers of 1,000). Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)[bB]?", str(text).strip())
    size = round(float(match[1]) * UNITS[match[2].lower()]) if match else 0
    if not 1 <= size < 1 << 40:
        raise UsageError(f"target-size must be a number of bytes such as 500k, not {text!r}")
    return size
