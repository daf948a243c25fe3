"""Decoding the tensors of a segment, each by its method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from nervkit.compression.coded import Data, decompress_coded, read_coded
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
    """The float32 tensors of a segment, given the names and shapes of the model's in order;
    `on_block` as of `rangecoder.Decoder`.

    Raises FormatError where the bytes and the shapes do not fit together, or a method is not known.
    """
    found: dict[str, np.ndarray] = {}
    for section, own in _with_shapes(data, shapes):
        if section.method not in METHODS:
            raise FormatError(
                f"tensors are coded by method {section.method}, which is not known here: "
                "install a newer nervkit"
            )
        found |= METHODS[section.method](section.data, own, on_block)
    return {name: found[name] for name in shapes}


def coded_tensors(data: SegmentData, shapes: Shapes) -> dict[str, Data]:
    """Those tensors of a segment that were coded with steps, scales and contexts of their own, by
    name. Raises FormatError as `decompress_segment`."""
    found: dict[str, Data] = {}
    for section, own in _with_shapes(data, shapes):
        if section.method == CONTEXTS:
            found |= read_coded(section.data, own)
    return found


def _with_shapes(data: SegmentData, shapes: Shapes) -> Iterator[tuple[Section, Shapes]]:
    """Each section with the shapes of its tensors. Raises FormatError."""
    if len(data.order) != len(shapes):
        raise FormatError(
            f"the segment's tensors do not fit its model: there are {len(data.order)}, and "
            f"{len(shapes)} are needed"
        )
    for index, section in enumerate(data.sections):
        pairs = zip(shapes.items(), data.order, strict=True)
        yield section, {name: shape for (name, shape), of in pairs if of == index}
