"""The papers' own accountings of bits, to compare with their figures. They count less than a file
takes; each docstring lists what its accounting leaves out. Numpy only.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nervkit.compression.quantization import Quantized, entropy

HALF, SINGLE = 16, 32  # bits of a float
LEAST_LIKELIHOOD = 1e-5  # added to the likelihood of a value (HNeRV-Boost)
LEAST_DEVIATION = 1e-5


@dataclass(frozen=True)
class Accounted:
    """A quantized tensor with what an accounting needs.

    Attributes:
        quantized: its integers and step sizes.
        alive: bool, of its shape: False where it was pruned.
        embedding: whether it is an embedding, whose first axis is time.
    """

    quantized: Quantized
    alive: np.ndarray
    embedding: bool = False

    @property
    def left(self) -> np.ndarray:
        """The integers that were not pruned, (N,) int32."""
        return self.quantized.values[self.alive]


@dataclass(frozen=True)
class Accounting:
    """An accounting: `bits` counts those of all tensors, `counts` describes in a few words how."""

    counts: str
    bits: Callable[[Sequence[Accounted]], float]


def huffman_bits(values: np.ndarray) -> float:
    """Return the bits of integers in the optimal prefix code for their counts (Huffman, 1952),
    without the code's table. A code of one symbol has one bit."""
    counts = np.unique(values, return_counts=True)[1].tolist()
    if len(counts) < 2:
        return float(sum(counts))
    heapq.heapify(counts)
    total = 0
    while len(counts) > 1:
        merged = heapq.heappop(counts) + heapq.heappop(counts)
        total += merged
        heapq.heappush(counts, merged)
    return float(total)


def gaussian_bits(values: np.ndarray) -> float:
    """Return the bits of integers by a Gaussian of their mean and deviation: -log2 of its mass
    within half a step of each, plus 10^-5 (HNeRV-Boost, 2402.18152)."""
    q = values.astype(np.float64)
    mean, deviation = q.mean(), max(float(q.std()), LEAST_DEVIATION)
    mass = ndtr((q + 0.5 - mean) / deviation) - ndtr((q - 0.5 - mean) / deviation)
    return float(np.maximum(0, -np.log2(mass + LEAST_LIKELIHOOD)).sum())


def nerv_bits(tensors: Sequence[Accounted]) -> float:
    """Return the bits of NeRV (2110.13903; its code): one Huffman code for all values that were not
    pruned. It leaves out the positions of pruned values, step sizes, the code's table and the
    header."""
    return huffman_bits(np.concatenate([tensor.left for tensor in tensors]))


def hnerv_bits(tensors: Sequence[Accounted]) -> float:
    """Return the bits of HNeRV (2304.02633, section 3.3): one Huffman code for all values, with a
    minimum and a scale of 16 bits for each step size. It leaves out the code's table and the
    header."""
    steps = sum(len(tensor.quantized.steps) for tensor in tensors)
    values = np.concatenate([tensor.quantized.values.ravel() for tensor in tensors])
    return huffman_bits(values) + 2 * HALF * steps


def ffnerv_bits(tensors: Sequence[Accounted]) -> float:
    """Return the bits of FFNeRV (2212.12294; its code): one Huffman code for all values, which are
    within -1 and 1 and need no scales. It leaves out the code's table and the header."""
    return huffman_bits(np.concatenate([tensor.quantized.values.ravel() for tensor in tensors]))


def boost_bits(tensors: Sequence[Accounted]) -> float:
    """Return the bits of HNeRV-Boost (2402.18152; its code): each tensor by a Gaussian, with its
    mean, deviation and scale in 32 bits each; embeddings by a Gaussian for each frame, with a scale
    and an offset for all frames. It leaves out the header."""
    total = 0.0
    for tensor in tensors:
        values = tensor.quantized.values
        parts = list(values) if tensor.embedding and values.ndim else [values]
        total += sum(gaussian_bits(part) for part in parts)
        total += SINGLE * (2 * len(parts) + 1 + tensor.embedding)
    return total


def hinerv_bits(tensors: Sequence[Accounted]) -> float:
    """Return the bits of HiNeRV (2306.09818; its code writes real files): for each tensor the
    entropy of the values that were not pruned and of their mask; 16 bits for a scale and for each
    value of a vector. It leaves out the tables of the arithmetic coder and the archive around its
    files."""
    total = 0.0
    for tensor in tensors:
        if tensor.quantized.values.ndim < 2:
            total += HALF * tensor.alive.size
            continue
        total += entropy(tensor.left) if tensor.left.size else 0.0
        share = tensor.alive.mean()
        mask_bits = -sum(p * math.log2(p) for p in (share, 1 - share) if p)
        total += tensor.alive.size * mask_bits + HALF * len(tensor.quantized.steps)
    return total


NERV = Accounting("a Huffman code of the unpruned values", nerv_bits)
HNERV = Accounting("a Huffman code, with minima and scales", hnerv_bits)
FFNERV = Accounting("a Huffman code", ffnerv_bits)
BOOST = Accounting("a Gaussian for each tensor, with its parameters", boost_bits)
HINERV = Accounting("entropy of the unpruned values and of the mask", hinerv_bits)
