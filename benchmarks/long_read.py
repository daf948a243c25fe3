"""Cost of reading a file of many segments: opening it, random access, sequential frames.

    python benchmarks/long_read.py [SEGMENTS ...]

Files have 1, 100 and 10,000 segments (or as given) of 50 frames of 320x180. Their networks have
random tensors, since reading does not depend on the content. `open_reads` and `open_bytes` count
the reads of opening. Random access is the median over segments not read before. Sequential reading
lists the first frame of a segment separately: there the next network starts to be built in the
background. One process on an otherwise idle machine.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from common import report

import nervkit
from nervkit.compression.tensors import compress_tensors
from nervkit.container import chunks, format2
from nervkit.container.header import Header, Segment
from nervkit.container.segment import ADAPTIVE, SegmentData
from nervkit.container.timing import pack_timing
from nervkit.media.timing import Timing
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model

COUNTS = (1, 100, 10_000)
SHAPE, PARAMETERS = VideoShape(50, 180, 320), 30_000
RANDOM_FRAMES = 20
IN_ORDER = 4  # segments


class Counted(io.FileIO):
    """A file that counts reads and bytes."""

    reads = got = 0

    def read(self, size: int = -1, /) -> bytes:
        data = super().read(size)
        self.reads, self.got = self.reads + 1, self.got + len(data)
        return data


def write(path: Path, count: int) -> None:
    """Write a file of `count` segments."""
    colour = dict.fromkeys(("matrix", "range", "primaries", "transfer"), 2)
    header = Header(
        width=SHAPE.width,
        height=SHAPE.height,
        sample_aspect_ratio=Fraction(1),
        colour=colour | {"rgb_matrix": "bt709", "rgb_range": "limited"},
        source={},
        edit={},
        encoder={"version": "a benchmark", "settings": ""},
    )
    model_type = load_model("gridnerv")
    config = model_type.configure(SHAPE, PARAMETERS)
    network = model_type.for_decoding(config, SHAPE)
    arrays = {name: tensor.numpy() for name, tensor in network.stored().items()}
    data = SegmentData.of((ADAPTIVE, len(arrays), compress_tensors(arrays, 6)))
    segment = Segment(SHAPE.frames, "gridnerv", config.to_dict(), count_stored(network))
    timing = Timing(np.arange(count * SHAPE.frames), Fraction(1, 25), 1)
    with path.open("wb") as file:
        writer = format2.Writer(file, header)
        for _ in range(count):
            writer.segment(segment, data)
        writer.part(chunks.TIMING, pack_timing(timing))
        writer.finish()


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(path: Path, count: int) -> dict[str, Any]:
    """Return one row."""
    with Counted(path) as file:
        began = time.perf_counter()
        with nervkit.open(file) as video:
            opened = time.perf_counter() - began
            reads, got = file.reads, file.got
            places = np.random.default_rng(0).permutation(count)[:RANDOM_FRAMES] * SHAPE.frames
            elsewhere = [seconds(lambda p=place: video[int(p)]) for place in places]
            again = [seconds(lambda p=place: video[int(p) + 1]) for place in places]
    with nervkit.open(path) as video:
        shown = video.frames(0, SHAPE.frames * min(count, IN_ORDER))
        in_order = [
            seconds(lambda: next(shown)) for _ in range(SHAPE.frames * min(count, IN_ORDER))
        ]
    later = in_order[SHAPE.frames :] or in_order  # the first segment is the warm-up
    return {
        "segments": count,
        "file_bytes": path.stat().st_size,
        "open_seconds": opened,
        "open_reads": reads,
        "open_bytes": got,
        "frame_elsewhere_seconds": statistics.median(elsewhere),
        "frame_kept_seconds": statistics.median(again),
        "first_of_segment_seconds": statistics.median(later[:: SHAPE.frames]),
        "others_seconds": statistics.median(
            time for index, time in enumerate(later) if index % SHAPE.frames
        ),
    }


if __name__ == "__main__":
    counts = [int(argument) for argument in sys.argv[1:]] or COUNTS
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "long.nerv"
        rows = []
        for count in counts:
            write(path, count)
            rows.append(measure(path, count))
    report("long_read", rows)
