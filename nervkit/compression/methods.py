"""Decoding of a segment's tensors, each by its method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from nervkit.compression.coded import CodedTensor, decompress_coded, read_coded
from nervkit.compression.tensors import decompress_tensors
from nervkit.container.segment import ADAPTIVE, CONTEXTS, Section, SegmentData
from nervkit.errors import FormatError

Shapes = Mapping[str, tuple[int, ...]]

OnBlock = Callable[[], None]

METHODS: dict[int, Callable[[bytes, Shapes, OnBlock], dict[str, np.ndarray]]] = {
    ADAPTIVE: decompress_tensors,
    CONTEXTS: decompress_coded,
}


def decompress_segment(
    data: SegmentData, shapes: Shapes, on_block: OnBlock = lambda: None
) -> dict[str, np.ndarray]:
    """Decode the float32 tensors of a segment.

    Args:
        data: the coded tensors.
        shapes: of the model's tensors, by name, in order.
        on_block: see `rangecoder.Decoder`.

    Raises:
        FormatError: the bytes do not fit the shapes, or a method is unknown.
    """
    found: dict[str, np.ndarray] = {}
    for section, own in _with_shapes(data, shapes):
        if section.method not in METHODS:
            raise FormatError(
                f"tensors are coded by method {section.method}, which this nervkit does not know: "
                "install a newer one"
            )
        found |= METHODS[section.method](section.data, own, on_block)
    return {name: found[name] for name in shapes}


def coded_tensors(data: SegmentData, shapes: Shapes) -> dict[str, CodedTensor]:
    """Decode those tensors of a segment that have step sizes, scales and contexts of their own, by
    name, as integers. Raises FormatError as `decompress_segment`."""
    found: dict[str, CodedTensor] = {}
    for section, own in _with_shapes(data, shapes):
        if section.method == CONTEXTS:
            found |= read_coded(section.data, own)
    return found


def _with_shapes(data: SegmentData, shapes: Shapes) -> Iterator[tuple[Section, Shapes]]:
    """Yield each section with the shapes of its tensors. Raises FormatError."""
    if len(data.order) != len(shapes):
        raise FormatError(
            f"the segment has {len(data.order)} tensors, but its model has {len(shapes)}: "
            "the file is damaged"
        )
    for index, section in enumerate(data.sections):
        pairs = zip(shapes.items(), data.order, strict=True)
        yield section, {name: shape for (name, shape), of in pairs if of == index}
