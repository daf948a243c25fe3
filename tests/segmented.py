"""Files of many segments without a fit: networks with random tensors."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch

from nervkit.compression.tensors import compress_tensors
from nervkit.container import chunks, format2
from nervkit.container.header import Header, Segment
from nervkit.container.segment import ADAPTIVE, SegmentData
from nervkit.container.timing import pack_timing
from nervkit.container.track import pack_track
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model

HEIGHT, WIDTH = 12, 16


def header() -> Header:
    """A header for 16x12 frames, without segments."""
    colour = dict.fromkeys(("matrix", "range", "primaries", "transfer"), 2)
    return Header(
        width=WIDTH,
        height=HEIGHT,
        sample_aspect_ratio=Fraction(1),
        colour=colour | {"rgb_matrix": "bt709", "rgb_range": "limited"},
        source={},
        edit={},
        encoder={"version": "a test", "settings": ""},
    )


def random_segment(
    frames: int, seed: int, name: str = "hnerv", strides: tuple[int, ...] = (2, 2)
) -> tuple[Segment, SegmentData]:
    """A segment of random content, different for every seed."""
    model_type, shape = load_model(name), VideoShape(frames, HEIGHT, WIDTH)
    config = model_type.configure(shape, 2500, strides=strides)
    network = model_type.for_decoding(config, shape)
    draw = torch.Generator().manual_seed(seed)
    arrays = {
        name: (tensor + 0.3 * torch.randn(tensor.shape, generator=draw)).numpy()
        for name, tensor in network.stored().items()
    }
    data = SegmentData.of((ADAPTIVE, len(arrays), compress_tensors(arrays, 6)))
    return Segment(frames, name, config.to_dict(), count_stored(network)), data


def segmented(
    segments: Sequence[tuple[Segment, SegmentData]],
    *,
    tracks: Sequence[Track] = (),
    timing: Timing | None = None,
    timing_first: bool = False,
) -> bytes:
    """A file of these segments, by default at 25 fps."""
    count = sum(segment.frames for segment, _ in segments)
    packed = pack_timing(timing or Timing(np.arange(count), Fraction(1, 25), 1))
    file = io.BytesIO()
    writer = format2.Writer(file, header())
    if timing_first:
        writer.part(chunks.TIMING, packed)
    for segment, data in segments:
        writer.segment(segment, data)
    if not timing_first:
        writer.part(chunks.TIMING, packed)
    for track in tracks:
        writer.part(chunks.TRACK, pack_track(track))
    writer.finish()
    return file.getvalue()


class Watched(io.BytesIO):
    """Bytes that record which of them were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.spans: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        found = super().read(size)
        self.spans.append((start, start + len(found)))
        return found

    def bytes_of(self, kind: bytes, contents: Sequence[chunks.Chunk]) -> int:
        """The number of bytes read from chunks of a kind."""
        return sum(
            max(0, min(stop, chunk.end) - max(start, chunk.offset))
            for chunk in contents
            if chunk.type == kind
            for start, stop in self.spans
        )
