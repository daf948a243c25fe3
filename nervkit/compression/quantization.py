"""Uniform quantization of tensors: w ~ step * q, with one step size per tensor or per channel.

Step sizes come from a ladder of 16 per octave, so that a step size costs one small integer and is
the same float32 on every machine. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from nervkit.errors import UsageError
from nervkit.keywords import option

MIN_BITS, MAX_BITS = 2, 12
STEPS_PER_OCTAVE = 16
LADDER_SIZE = 512
LOWEST_EXPONENT = -24
#: round(2^(i/16) * 2^23), i = 0..15: the significands of an octave of step sizes
SIGNIFICANDS = (
    8388608, 8760003, 9147842, 9552851, 9975792, 10417458, 10878679, 11360319,
    11863283, 12388516, 12937002, 13509772, 14107901, 14732511, 15384775, 16065917,
)  # fmt: skip
CLIP_SEARCH = 12  # ladder positions to try, from the one that covers the range downwards


def ladder_step(index: np.ndarray) -> np.ndarray:
    """Return the exact float32 step sizes at ladder positions `index` (0..511)."""
    significand = np.array(SIGNIFICANDS, np.float32)[index % STEPS_PER_OCTAVE]
    return np.ldexp(significand, index // STEPS_PER_OCTAVE + (LOWEST_EXPONENT - 23))


def peak(bits: int) -> int:
    """Return the largest magnitude of a `bits`-bit integer, symmetric around 0."""
    return (1 << (bits - 1)) - 1


def check_bits(bits: int, name: str = "bits") -> int:
    """Return `bits` as an int. Raises UsageError unless it is in MIN_BITS to MAX_BITS."""
    if not isinstance(bits, Integral) or not MIN_BITS <= bits <= MAX_BITS:
        raise UsageError(
            f"{option(name)} must be a whole number from {MIN_BITS} to {MAX_BITS}, not {bits!r}"
        )
    return int(bits)


@dataclass(frozen=True)
class Quantized:
    """A quantized tensor. `steps` are ladder positions of step sizes: (1,) for the tensor, or one
    for each index of `axis`."""

    values: np.ndarray  # int32, the tensor's shape
    steps: np.ndarray  # int32
    axis: int | None
    bits: int

    def dequantize(self) -> np.ndarray:
        """Return the float32 tensor, with one rounding per value, the same on every machine."""
        step = ladder_step(self.steps)
        if self.axis is not None:
            shape = [1] * self.values.ndim
            shape[self.axis] = -1
            step = step.reshape(shape)
        return (self.values.astype(np.float32) * step).astype(np.float32)


def quantize(tensor: np.ndarray, bits: int) -> Quantized:
    """Quantize a tensor to `bits` bits, along the axis with the best trade-off of error and bits.

    A bit per value is worth 6.02 dB of squared error. So the cost of a choice is
    coded bits + (count / 2) * log2(squared error); HNeRV (2304.02633) compares choices by eye.
    """
    check_bits(bits)
    axes: list[int | None] = [None, *(a for a in range(min(2, tensor.ndim)) if tensor.ndim > 1)]
    return min((_along(tensor, bits, axis) for axis in axes), key=lambda q: _cost(tensor, q))


def _along(tensor: np.ndarray, bits: int, axis: int | None) -> Quantized:
    rows = tensor.reshape(1, -1)
    if axis is not None:
        rows = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    steps = _best_steps(rows, bits)
    limit = peak(bits)
    values = np.clip(np.rint(rows / ladder_step(steps)[:, None]), -limit, limit).astype(np.int32)
    if axis is not None:
        moved = np.moveaxis(tensor, axis, 0).shape
        values = np.moveaxis(values.reshape(moved), 0, axis)
    return Quantized(np.ascontiguousarray(values.reshape(tensor.shape)), steps, axis, bits)


def _best_steps(rows: np.ndarray, bits: int) -> np.ndarray:
    """Return for each row the ladder position of least squared error, clipping included."""
    limit = peak(bits)
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-30).astype(np.float64)
    octaves = np.log2(largest / limit) - LOWEST_EXPONENT
    covering = np.clip(np.ceil(octaves * STEPS_PER_OCTAVE), 0, LADDER_SIZE - 1).astype(np.int32)
    best, least = covering, np.full(len(rows), np.inf)
    for lower in range(CLIP_SEARCH):
        index = np.maximum(covering - lower, 0)
        step = ladder_step(index)[:, None]
        error = rows - np.clip(np.rint(rows / step), -limit, limit) * step
        squared = np.square(error, dtype=np.float64).sum(axis=1)
        best, least = np.where(squared < least, index, best), np.minimum(squared, least)
    return best.astype(np.int32)


def _cost(tensor: np.ndarray, quantized: Quantized) -> float:
    bits = entropy(quantized.values)
    # Step sizes of neighbouring channels are within an octave or two of each other.
    bits += np.log2(4 * STEPS_PER_OCTAVE) * len(quantized.steps)
    squared = float(np.square(tensor - quantized.dequantize(), dtype=np.float64).sum())
    return bits + tensor.size / 2 * np.log2(max(squared, 1e-30))


def entropy(values: np.ndarray) -> float:
    """Return the bits of integers by the entropy of their empirical distribution."""
    counts = np.bincount(values.ravel() - values.min())
    counts = counts[counts > 0]
    return float(counts @ np.log2(values.size / counts))
