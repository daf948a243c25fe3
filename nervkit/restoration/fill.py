"""Filling holes: with content of other frames along the motion, and smoothly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, uniform_filter
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from nervkit.models.flow import optical_flow
from nervkit.restoration.kinds import to_uint8

RING = 4  # pixels around a hole that are searched for as well: their error is known
FLOW_MARGIN = 6  # pixels around those whose flow is not reliable either
MAX_DISTANCE = 60  # frames that a pixel is followed, in each direction
DOUBLING_DISTANCE = 6  # frames: the expected squared error is twice as large there
ERROR_RADIUS = 8.0  # pixels: standard deviation of the Gaussian that extrapolates errors
VARIANCE_WINDOW = 41  # pixels: side of the window for a frame's local variance
LEAST_ERROR, LEAST_VARIANCE = 10.0, 25.0  # squared 8-bit steps
CERTAIN = 255  # the confidence of known pixels


def fill_in(
    frames: np.ndarray,
    unknown: np.ndarray,
    on_search: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill holes from frames that show the hidden content, and smoothly where no frame does.

    The optical flow around a hole is continued into it (Xu et al., "Deep flow-guided video
    inpainting", 1905.02884, but with a membrane). Every unknown pixel is followed along the flow,
    forward and backward, to the first frame where it is known. The error of the result is estimated
    on known pixels around the hole, which are followed as if they were unknown. The result is the
    mean of what was found and a membrane over the hole, weighted by their expected squared errors.

    Args:
        frames: (T, H, W, 3) uint8.
        unknown: (T, H, W) bool; no frame is unknown entirely.
        on_search: called with (done, total) after each part of the work.

    Returns:
        The filled frames (T, H, W, 3) uint8, and the confidence of each pixel (T, H, W) uint8:
        CERTAIN where it is known, 0 where it is only interpolated.
    """
    membranes = Membranes()
    filled = np.empty_like(frames)
    for target, frame, hole in zip(filled, frames, unknown, strict=True):
        target[:] = to_uint8(membranes.fill(frame, hole))
    confidence = np.where(unknown, np.uint8(0), np.uint8(CERTAIN))
    if len(frames) == 1:
        return filled, confidence
    holed = np.flatnonzero(unknown.any(axis=(1, 2))).tolist()
    parts = 2 * (len(frames) - 1) + len(holed)
    done = count(1)

    def part_done() -> None:
        on_search(next(done), parts)

    wide = np.stack([_dilated(hole) for hole in unknown])
    forward = _flows(filled, wide, membranes, part_done)
    backward = _flows(filled[::-1], wide[::-1], membranes, part_done)[::-1]
    for t in holed:
        hole = unknown[t]
        variance = _local_variance(frames[t], ~hole)
        found, error = _search(frames, wide, (forward, backward), t, hole, variance)
        share = variance / (variance + error)
        mixed = filled[t] + share[..., None] * (found - filled[t])
        filled[t][hole] = to_uint8(mixed)[hole]
        confidence[t][hole] = (CERTAIN * share)[hole]
        part_done()
    return filled, confidence


def _dilated(hole: np.ndarray) -> np.ndarray:
    """Return a hole with its ring, or the hole itself if both would cover the frame."""
    wide = binary_dilation(hole, iterations=RING)
    return hole if wide.all() else wide


class HoleFlow(NamedTuple):
    """The optical flow from a frame to the next one, inside the bounding box of the first frame's
    hole: `values` (2, h, w) float16, which begin at `corner` (2, 1)."""

    corner: np.ndarray
    values: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the flow (2, N) at points (2, N) of the frame."""
        return _sampled(self.values.astype(np.float32), points - self.corner)


Flows: TypeAlias = list[HoleFlow | None]  # by frame; None for a frame without a hole


def _search(
    frames: np.ndarray,
    wide: np.ndarray,
    flows: tuple[Flows, Flows],
    t: int,
    hole: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Search other frames for the content of a frame's hole.

    Args:
        frames, wide: all frames, and their holes with rings.
        flows: forward and backward.
        t: index of the frame.
        hole, variance: (H, W) of the frame.

    Returns:
        The content (H, W, 3), and its expected squared error (H, W), infinite where no frame shows
        it.
    """
    frame = frames[t].astype(np.float32)
    rows, columns = np.nonzero(wide[t])
    start = np.stack([rows, columns]).astype(np.float32)
    colours = np.zeros((2, *frame.shape), np.float32)
    distances = np.full((2, *hole.shape), np.inf, np.float32)
    for way, (flow, step) in enumerate(zip(flows, (1, -1), strict=True)):
        reached = _follow(frames, wide, flow, step, t, start)
        colours[way, rows, columns], distances[way, rows, columns] = reached
    hit = np.isfinite(distances)
    # Far from a ring, the difference of both directions estimates the error, else the variance.
    difference = np.square(colours[0] - colours[1]).mean(axis=2) / 2
    default = np.where(hit.all(axis=0), difference, variance)
    precisions = []
    for way in (0, 1):
        squared = np.square(colours[way] - frame).mean(axis=2)
        error = _extrapolated(squared, hit[way] & wide[t] & ~hole, default) + LEAST_ERROR
        precisions.append(1 / (error * (1 + distances[way] / DOUBLING_DISTANCE)))
    first, second = precisions
    total = np.maximum(first + second, 1e-12)
    mean = (first[..., None] * colours[0] + second[..., None] * colours[1]) / total[..., None]
    return mean, np.where(hit.any(axis=0), 1 / total, np.inf)


def _extrapolated(values: np.ndarray, known: np.ndarray, default: np.ndarray) -> np.ndarray:
    """Extrapolate (H, W) values from known pixels around them; further away use `default`."""
    weight = gaussian_filter(known.astype(np.float32), ERROR_RADIUS, truncate=6)
    total = gaussian_filter(np.where(known, values, 0).astype(np.float32), ERROR_RADIUS, truncate=6)
    return np.where(weight < 1e-5, default, total / np.maximum(weight, 1e-5))


def _local_variance(frame: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the variance (H, W) of the known pixels around each pixel of an (H, W, 3) frame, mean
    over channels."""
    share = uniform_filter(known.astype(np.float32), VARIANCE_WINDOW).clip(min=1e-6)
    values = np.where(known[..., None], frame, 0).astype(np.float32)
    window = (VARIANCE_WINDOW, VARIANCE_WINDOW, 1)
    mean = uniform_filter(values, window) / share[..., None]
    square = uniform_filter(values**2, window) / share[..., None]
    return (square - mean**2).mean(axis=2).clip(min=LEAST_VARIANCE)


def _flows(
    frames: np.ndarray, unknown: np.ndarray, membranes: Membranes, on_flow: Callable[[], None]
) -> Flows:
    """Return the flow from each frame to the next, continued into the holes by a membrane."""
    flows: Flows = []
    for t in range(len(frames) - 1):
        flows.append(None)
        if unknown[t].any():
            holes = unknown[t] | unknown[t + 1]
            wider = binary_dilation(holes, iterations=FLOW_MARGIN)
            hole = next(h for h in (wider, holes, unknown[t]) if not h.all())
            around = optical_flow(frames[t], frames[t + 1]).transpose(1, 2, 0)
            flow = membranes.fill(around, hole).transpose(2, 0, 1)
            # A followed pixel lies in a hole, or within a pixel of one.
            box = [slice(max(0, i.min() - 1), i.max() + 2) for i in np.nonzero(unknown[t])]
            corner = np.array([[box[0].start], [box[1].start]], np.float32)
            flows[t] = HoleFlow(corner, flow[:, *box].astype(np.float16))
        on_flow()
    return flows


def _follow(
    frames: np.ndarray,
    unknown: np.ndarray,
    flows: Flows,
    step: int,
    t: int,
    start: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow pixels from `start` (2, N) in frame t to the first frame where they are known. Returns
    their colours there (N, 3) and the distance in frames (N,), infinite if there is none."""
    height, width = frames.shape[1:3]
    pixel_count = start.shape[1]
    colours = np.zeros((pixel_count, 3), np.float32)
    distances = np.full(pixel_count, np.inf, np.float32)
    left, points = np.arange(pixel_count), start
    for distance in range(1, MAX_DISTANCE + 1):
        here, there = t + step * (distance - 1), t + step * distance
        if not 0 <= there < len(frames) or not len(left):
            break
        flow = flows[min(here, there)]
        assert flow is not None  # the remaining pixels lie in a hole
        points = points + flow.at(points)
        inside = (points >= 0).all(axis=0) & (points[0] <= height - 1) & (points[1] <= width - 1)
        left, points = left[inside], points[:, inside]
        seen = _sampled(unknown[there][None], points)[0] < 1e-3
        colours[left[seen]] = _sampled(frames[there].transpose(2, 0, 1), points[:, seen]).T
        distances[left[seen]] = distance
        left, points = left[~seen], points[:, ~seen]
    return colours, distances


def _sampled(planes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Sample (C, H, W) planes at points (2, N), bilinearly: (C, N) float32."""
    return np.stack(
        [map_coordinates(p, points, np.float32, order=1, mode="nearest") for p in planes]
    )


class Membrane:
    """Fills a hole with the solution of Laplace's equation that meets the hole's edge, the
    smoothest interpolation (Perez et al., "Poisson image editing", 2003, eq. 2, without guidance).
    At the frame's border its derivative is 0."""

    def __init__(self, hole: np.ndarray) -> None:
        """`hole` is (H, W) bool. Raises ValueError if it covers the frame."""
        if hole.all():
            raise ValueError("no pixels lie around the hole")
        self.hole = hole
        height, width = hole.shape
        self._rows, self._columns = np.nonzero(hole)
        number = np.full(hole.shape, -1)
        number[hole] = np.arange(len(self._rows))
        degree = np.zeros(len(self._rows))
        entries: list[tuple[np.ndarray, np.ndarray]] = []
        self._edges: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = self._rows + down, self._columns + right
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            degree += inside
            own, y, x = np.flatnonzero(inside), y[inside], x[inside]
            within = hole[y, x]
            entries.append((own[within], number[y[within], x[within]]))
            self._edges.append((own[~within], y[~within], x[~within]))
        own = np.concatenate([np.arange(len(degree)), *(a for a, _ in entries)])
        other = np.concatenate([np.arange(len(degree)), *(b for _, b in entries)])
        values = np.concatenate([degree, -np.ones(len(own) - len(degree))])
        size = len(degree)
        laplacian = csc_array((values, (own, other)), shape=(size, size))
        self._solver = splu(laplacian, permc_spec="MMD_AT_PLUS_A")  # the matrix is symmetric

    def fill(self, values: np.ndarray) -> np.ndarray:
        """Return (H, W, C) values as float32 with the hole filled."""
        filled = values.astype(np.float32)
        around = np.zeros((len(self._rows), filled.shape[2]))
        for own, y, x in self._edges:
            np.add.at(around, own, filled[y, x])
        filled[self._rows, self._columns] = self._solver.solve(around)
        return filled


class Membranes:
    """Fills the hole of each frame, and reuses the membrane while the hole stays the same."""

    def __init__(self) -> None:
        self._last: Membrane | None = None

    def fill(self, values: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """Fill as Membrane does. Without a hole, return the values as float32."""
        if not hole.any():
            return values.astype(np.float32)
        if self._last is None or not np.array_equal(self._last.hole, hole):
            self._last = Membrane(hole)
        return self._last.fill(values)
