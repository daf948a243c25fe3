"""Coding of a collection's shared weights: the mask of each video, and the weights that it adds, as
integers. Numpy only; docs/collection.md specifies the layout.

The use by earlier videos is the context of a mask. Of the weights that a video uses, only those
that no earlier video used are coded.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nervkit.compression.quantization import LADDER_SIZE, MAX_BITS, ladder_step, peak
from nervkit.compression.rangecoder import Decoder, Encoder
from nervkit.errors import FormatError

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray]

COUNT = struct.Struct("<H")
DESCRIPTOR = struct.Struct("<Hhh")  # step, lowest and highest integer
CONTEXTS = 3  # of a mask's bit: never used, used before the last video, used by the last video
PEAK = peak(MAX_BITS)


@dataclass(frozen=True)
class QuantizedValues:
    """Quantized values of one tensor: `values` (n,) int32 times the ladder's step size at `step`,
    0..511."""

    values: np.ndarray
    step: int

    def dequantize(self) -> np.ndarray:
        """Return (n,) float32, with one rounding per value, the same on every machine."""
        return self.values.astype(np.float32) * ladder_step(np.array(self.step))


class SharedWeights:
    """The shared tensors of a collection after a number of videos.

    Attributes:
        shapes: of the shared tensors, by name, in order.
        values: float32, the frozen values; 0 where a weight is free.
        used: bool, the weights that any video uses.
        last: bool, the last video's mask.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = dict(shapes)
        self.values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self.used = {name: np.zeros(shape, bool) for name, shape in shapes.items()}
        self.last = {name: np.zeros(shape, bool) for name, shape in shapes.items()}

    @property
    def count(self) -> int:
        """The number of shared weights."""
        return sum(values.size for values in self.values.values())

    @property
    def free(self) -> int:
        """The number of weights that no video uses."""
        return self.count - sum(int(used.sum()) for used in self.used.values())

    def pack_masks(self, masks: Arrays) -> bytes:
        """Return the coded masks of the next video, bool arrays of the shared tensors' shapes."""
        coder = Encoder()
        for name, context in self._contexts():
            mask = masks[name].ravel()
            for value in range(CONTEXTS):
                coder.write(mask[context == value].astype(np.int32), 0, 1)
        return coder.finish()

    def read_masks(self, data: bytes) -> dict[str, np.ndarray]:
        """Decode the masks of `pack_masks`. Raises FormatError."""
        coder = Decoder(data)
        masks = {}
        for name, context in self._contexts():
            mask = np.zeros(len(context), bool)
            for value in range(CONTEXTS):
                places = context == value
                mask[places] = coder.read(int(places.sum()), 0, 1).astype(bool)
            masks[name] = mask.reshape(self.shapes[name])
        coder.finish()
        return masks

    def added(self, masks: Arrays) -> dict[str, np.ndarray]:
        """Return the masks of the weights that no earlier video uses."""
        return {name: mask & ~self.used[name] for name, mask in masks.items()}

    def take(self, masks: Arrays, weights: Mapping[str, QuantizedValues]) -> dict[str, np.ndarray]:
        """Add the next video: freeze the weights that it adds.

        Args:
            masks: of the video, by name.
            weights: that it adds, by name, in the order of the arrays.

        Returns:
            The video's tensors, float32, 0 outside of its masks.
        """
        for name, added in self.added(masks).items():
            self.values[name][added] = weights[name].dequantize()
            self.used[name] |= masks[name]
            self.last[name] = masks[name]
        return {name: np.where(mask, self.values[name], 0) for name, mask in masks.items()}

    def _contexts(self) -> list[tuple[str, np.ndarray]]:
        """Return the context of each bit of each tensor's mask, flat (n,)."""
        return [
            (name, (self.used[name].astype(np.uint8) + self.last[name]).ravel())
            for name in self.shapes
        ]


def pack_integers(tensors: Sequence[QuantizedValues]) -> bytes:
    """Code integers of several tensors, in order."""
    descriptors, coder = [], Encoder()
    for tensor in tensors:
        low, high = (int(f(tensor.values, initial=0)) for f in (np.min, np.max))
        descriptors.append(DESCRIPTOR.pack(tensor.step, low, high))
        coder.write(tensor.values, low, high)
    return COUNT.pack(len(tensors)) + b"".join(descriptors) + coder.finish()


def read_integers(data: bytes, counts: Mapping[str, int]) -> dict[str, QuantizedValues]:
    """Decode the integers of `pack_integers`. `counts` are the tensors' numbers of values, by name,
    in order. Raises FormatError if the bytes do not fit them."""
    start = COUNT.size + DESCRIPTOR.size * len(counts)
    if len(data) < start or COUNT.unpack_from(data)[0] != len(counts):
        raise FormatError(f"the weights are not those of {len(counts)} tensors")
    coder, tensors = Decoder(data[start:]), {}
    descriptors = DESCRIPTOR.iter_unpack(data[COUNT.size : start])
    for (name, count), (step, low, high) in zip(counts.items(), descriptors, strict=True):
        if not (-PEAK <= low <= 0 <= high <= PEAK and step < LADDER_SIZE):
            raise FormatError(f"tensor {name} has an impossible description")
        tensors[name] = QuantizedValues(coder.read(count, low, high), step)
    coder.finish()
    return tensors


def sizes(shapes: Shapes) -> dict[str, int]:
    """Return the number of values of each tensor."""
    return {name: math.prod(shape) for name, shape in shapes.items()}
