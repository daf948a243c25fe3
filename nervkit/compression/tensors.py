"""Entropy coding of tensors by adaptive tables, to the bytes of a chunk and back. Numpy only;
docs/format.md specifies the layout."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nervkit.compression.quantization import (
    LADDER_SIZE,
    MAX_BITS,
    MIN_BITS,
    Quantized,
    entropy,
    peak,
    quantize,
)
from nervkit.compression.rangecoder import Decoder, Encoder
from nervkit.errors import FormatError

# bits, axis (255: none), predicted, lowest and highest value, lowest and highest step
DESCRIPTOR = struct.Struct("<BBBhhHH")
COUNT = struct.Struct("<H")
NO_AXIS = 255
VECTOR_EXTRA_BITS = 4  # more for biases, which are few and sensitive


def quantize_tensors(tensors: Mapping[str, np.ndarray], bits: int) -> dict[str, Quantized]:
    """Quantize float32 tensors to `bits` bits (vectors to 4 more), by name."""
    return {
        name: quantize(t, min(bits + VECTOR_EXTRA_BITS, MAX_BITS) if t.ndim == 1 else bits)
        for name, t in tensors.items()
    }


def compress_tensors(tensors: Mapping[str, np.ndarray], bits: int) -> bytes:
    """Quantize float32 tensors as `quantize_tensors` does, and code them in order."""
    return compress_quantized(list(quantize_tensors(tensors, bits).values()))


def compress_quantized(tensors: Sequence[Quantized]) -> bytes:
    """Code quantized tensors, in order."""
    descriptors, coder = [], Encoder()
    for q in tensors:
        values, predicted = _shorter(q.values)
        low, high = int(values.min()), int(values.max())
        first, last = int(q.steps.min()), int(q.steps.max())
        axis = NO_AXIS if q.axis is None else q.axis
        descriptors.append(DESCRIPTOR.pack(q.bits, axis, predicted, low, high, first, last))
        coder.write(q.steps, first, last)
        coder.write(values, low, high)
    return COUNT.pack(len(tensors)) + b"".join(descriptors) + coder.finish()


def decompress_tensors(
    data: bytes, shapes: Mapping[str, tuple[int, ...]], on_block: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Decode the float32 tensors that `compress_tensors` coded.

    Args:
        data: the coded tensors.
        shapes: of the tensors, by name, in order.
        on_block: see `Decoder`.

    Raises:
        FormatError: the bytes do not fit the shapes.
    """
    start = COUNT.size + DESCRIPTOR.size * len(shapes)
    if len(data) < start or COUNT.unpack_from(data)[0] != len(shapes):
        raise FormatError(f"the chunk does not hold the model's {len(shapes)} tensors")
    coder = Decoder(data[start:], on_block)
    tensors = {}
    for index, (name, shape) in enumerate(shapes.items()):
        fields = DESCRIPTOR.unpack_from(data, COUNT.size + DESCRIPTOR.size * index)
        tensors[name] = _read(coder, fields, shape, name)
    coder.finish()
    return tensors


def _read(coder: Decoder, fields: tuple[int, ...], shape: tuple[int, ...], name: str) -> np.ndarray:
    bits, axis_code, predicted, low, high, first, last = fields
    axis = None if axis_code == NO_AXIS else axis_code
    limit = peak(bits) if MIN_BITS <= bits <= MAX_BITS else 0
    reach = 2 * limit if predicted else limit
    valid = (
        limit > 0
        and (axis is None or axis < min(2, len(shape)))
        and predicted in (0, 1)
        and -reach <= low <= high <= reach
        and first <= last < LADDER_SIZE
    )
    if not valid:
        raise FormatError(f"tensor {name} has an impossible description")
    steps = coder.read(1 if axis is None else shape[axis], first, last)
    values = coder.read(math.prod(shape), low, high).reshape(shape)
    if predicted:
        values = np.cumsum(values, axis=0, dtype=np.int32)
        if np.abs(values).max() > limit:
            raise FormatError(f"tensor {name} has values outside its {bits} bits")
    return Quantized(values, steps, axis, bits).dequantize()


def _shorter(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the values, or their differences along the first axis (time, for embeddings), if these
    take fewer bits; and whether they are differences."""
    if values.ndim < 2:
        return values, False
    differences = np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))
    return min((values, False), (differences, True), key=lambda pair: entropy(pair[0]))
