"""Initialise the fit of a segment from the segment before it in the same shot: is it better?

    python benchmarks/neighbour.py

Two clips without cuts, each in two halves. The second half is fitted at equal bytes and steps from
scratch, from all tensors of the first half, and from its weights and its grids' last knots. Takes
about 15 minutes on two cores. Writes results/neighbour.json.
"""

from __future__ import annotations

import numpy as np
from common import SHARED, report, small_bunny

import nervkit
from nervkit.compression.methods import coded_tensors
from nervkit.decoder import NervVideo
from nervkit.encoding.segment import SegmentJob, SegmentReport, fit_segment
from nervkit.fitting.options import FitOptions
from nervkit.fitting.start import StoredStart
from nervkit.models.config import VideoShape
from nervkit.networks import segment_blueprint, segment_model
from nervkit.target import default_bytes
from nervkit.video.colour import Colour
from nervkit.video.ranges import frames_hash

STEPS = (150, 500)


def fitted(
    frames: np.ndarray, steps: int, start: StoredStart | None
) -> tuple[bytes, SegmentReport]:
    shape = VideoShape(*frames.shape[:3])
    mark = frames_hash(frames)
    options = FitOptions(steps=steps, coded_bytes=default_bytes(shape), device="cpu")
    return fit_segment(
        SegmentJob(0, 0, shape, frames, mark, options, (8, 8), Colour(), True, start)
    )


def start_of(content: bytes, last: bool) -> StoredStart:
    """Return a file's tensors as an initialisation; with `last` the last knot of grids for all
    knots."""
    with NervVideo(content) as video:
        segment = video.header.segments[0]
        plan, (_, config, _) = (
            segment_blueprint(video.header, segment),
            segment_model(video.header, segment),
        )
        coded = coded_tensors(video.file.segment(0), plan.weights | plan.embeddings)
        tensors = {name: coded[name].dequantize() for name in plan.weights | plan.embeddings}
    if last:
        for name in plan.embeddings:
            del coded[name]
            tensors[name] = np.broadcast_to(tensors[name][-1:], tensors[name].shape).copy()
    return StoredStart(config, tensors, coded)


if __name__ == "__main__":
    ball = nervkit.read_clip(SHARED / "basketballpass", fps=50, resize="208x120").frames
    rows = []
    for name, frames in (("bunny", small_bunny().frames), ("basketballpass", ball)):
        half = len(frames) // 2
        for steps in STEPS:
            before, _ = fitted(frames[:half], steps, None)
            starts = {"anew": None, "all": start_of(before, False), "last": start_of(before, True)}
            for how, start in starts.items():
                _, made = fitted(frames[half : 2 * half], steps, start)
                row = {"clip": name, "steps": steps, "start": how, "bytes": made.bytes}
                rows.append(row | {"psnr": made.psnr})
    report("neighbour", rows)
