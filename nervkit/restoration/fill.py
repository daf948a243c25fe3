"""Plausible values for what is unknown, from what is around it in space and along its motion."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, uniform_filter
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from nervkit.models.flow import optical_flow
from nervkit.restoration.kinds import pixels

RING = 4  # pixels around a hole that are looked for too: they tell how right what is found is
FLOW_MARGIN = 6  # pixels around those where the flow is not trusted either
FURTHEST = 60  # frames that a pixel is followed into, each way
DOUBLED = 6  # frames away: the expected squared error is twice as large there
REACH = 8.0  # pixels: how far what a ring tells holds, the deviation of a Gaussian
SURROUNDINGS = 41  # pixels: the side of the window in which a frame's variance is taken
LEAST_ERROR, LEAST_VARIANCE = 10.0, 25.0  # squared 8-bit steps
TRUSTED = 255


def fill_in(
    frames: np.ndarray,
    unknown: np.ndarray,
    on_search: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill holes from frames in which the same thing is seen, and smoothly where there is none.

    The optical flow around a hole is continued into it (Xu et al., "Deep flow-guided video
    inpainting", 1905.02884, but with a membrane), and every unknown pixel is followed along it,
    back and forth, to the first frame that knows it. How far off this is, known pixels around the
    hole tell, which are followed as if they were unknown. What is found is mixed with a membrane
    over the hole by what squared error is to be expected of both.

    Args:
        frames: (T, H, W, 3) uint8.
        unknown: (T, H, W) bool; no frame is unknown as a whole.
        on_search: called after each part of the work, with how many are done and how many there
            are.

    Returns:
        (T, H, W, 3) uint8, and (T, H, W) uint8, how far each value is to be trusted: TRUSTED where
        it is known, 0 where it is made up.
    """
    membranes = Membranes()
    filled = np.empty_like(frames)
    for made, frame, hole in zip(filled, frames, unknown, strict=True):
        made[:] = pixels(membranes.fill(frame, hole))
    trust = np.where(unknown, np.uint8(0), np.uint8(TRUSTED))
    if len(frames) == 1:
        return filled, trust
    holed = np.flatnonzero(unknown.any(axis=(1, 2)))
    parts = 2 * (len(frames) - 1) + len(holed)
    done = count(1)

    def part_done() -> None:
        on_search(next(done), parts)

    wide = np.stack([_widened(hole) for hole in unknown])
    forth = _flows(filled, wide, membranes, part_done)
    back = _flows(filled[::-1], wide[::-1], membranes, part_done)[::-1]
    for t in holed:
        hole = unknown[t]
        variance = _variance(frames[t], ~hole)
        found, error = _found(frames, wide, (forth, back), t, hole, variance)
        share = variance / (variance + error)
        made = filled[t] + share[..., None] * (found - filled[t])
        filled[t][hole] = pixels(made)[hole]
        trust[t][hole] = (TRUSTED * share)[hole]
        part_done()
    return filled, trust


def _widened(hole: np.ndarray) -> np.ndarray:
    """A hole with its ring; as it is where that would be the whole frame."""
    wide = binary_dilation(hole, iterations=RING)
    return hole if wide.all() else wide


def _found(
    frames: np.ndarray,
    wide: np.ndarray,
    flows: tuple[list[HoleFlow | None], list[HoleFlow | None]],
    t: int,
    hole: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What other frames show of a frame's hole, (H, W, 3), and the squared error to be expected of
    it (H, W), infinite where they show nothing; `variance` (H, W) is that of the frame."""
    frame = frames[t].astype(np.float32)
    rows, columns = np.nonzero(wide[t])
    start = np.stack([rows, columns]).astype(np.float32)
    colours = np.zeros((2, *frame.shape), np.float32)
    distances = np.full((2, *hole.shape), np.inf, np.float32)
    for way, (flow, step) in enumerate(zip(flows, (1, -1), strict=True)):
        reached = _follow(frames, wide, flow, step, t, start)
        colours[way, rows, columns], distances[way, rows, columns] = reached
    hit = np.isfinite(distances)
    # Without a ring: as far off as the two ways are from each other, or as anything may be.
    difference = np.square(colours[0] - colours[1]).mean(axis=2) / 2
    default = np.where(hit.all(axis=0), difference, variance)
    precisions = []
    for way in (0, 1):
        off = np.square(colours[way] - frame).mean(axis=2)
        error = _extrapolated(off, hit[way] & wide[t] & ~hole, default) + LEAST_ERROR
        precisions.append(1 / (error * (1 + distances[way] / DOUBLED)))
    first, second = precisions
    total = np.maximum(first + second, 1e-12)
    mean = (first[..., None] * colours[0] + second[..., None] * colours[1]) / total[..., None]
    return mean, np.where(hit.any(axis=0), 1 / total, np.inf)


def _extrapolated(values: np.ndarray, known: np.ndarray, default: np.ndarray) -> np.ndarray:
    """(H, W) values carried from where they are known to around there, `default` far from it."""
    weight = gaussian_filter(known.astype(np.float32), REACH, truncate=6)
    carried = gaussian_filter(np.where(known, values, 0).astype(np.float32), REACH, truncate=6)
    return np.where(weight < 1e-5, default, carried / np.maximum(weight, 1e-5))


def _variance(frame: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) variance of what is known around each pixel of an (H, W, 3) frame, mean over its
    channels."""
    share = uniform_filter(known.astype(np.float32), SURROUNDINGS).clip(min=1e-6)
    values = np.where(known[..., None], frame, 0).astype(np.float32)
    window = (SURROUNDINGS, SURROUNDINGS, 1)
    mean = uniform_filter(values, window) / share[..., None]
    square = uniform_filter(values**2, window) / share[..., None]
    return (square - mean**2).mean(axis=2).clip(min=LEAST_VARIANCE)


class HoleFlow(NamedTuple):
    """The optical flow from one frame to the next where the first has a hole: (2, h, w) float16
    values, of which the first is at `corner` (2, 1)."""

    corner: np.ndarray
    values: np.ndarray

    def at(self, place: np.ndarray) -> np.ndarray:
        """(2, N) at places (2, N) of the frame."""
        return _sampled(self.values.astype(np.float32), place - self.corner)


def _flows(
    frames: np.ndarray, unknown: np.ndarray, membranes: Membranes, on_flow: Callable[[], None]
) -> list[HoleFlow | None]:
    """The flow from each frame to the next, smooth in the holes; None where there is no hole."""
    flows: list[HoleFlow | None] = []
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
    flows: list[HoleFlow | None],
    step: int,
    t: int,
    start: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow pixels at `start` (2, N) of frame t: the colours (N, 3) that they come to, and how
    many frames away (N,), infinite where they come to none."""
    height, width = frames.shape[1:3]
    many = start.shape[1]
    colours, distances = np.zeros((many, 3), np.float32), np.full(many, np.inf, np.float32)
    left, place = np.arange(many), start
    for distance in range(1, FURTHEST + 1):
        here, there = t + step * (distance - 1), t + step * distance
        if not 0 <= there < len(frames) or not len(left):
            break
        flow = flows[min(here, there)]
        assert flow is not None  # what is left lies in a hole
        place = place + flow.at(place)
        inside = (place >= 0).all(axis=0) & (place[0] <= height - 1) & (place[1] <= width - 1)
        left, place = left[inside], place[:, inside]
        seen = _sampled(unknown[there][None], place)[0] < 1e-3
        colours[left[seen]] = _sampled(frames[there].transpose(2, 0, 1), place[:, seen]).T
        distances[left[seen]] = distance
        left, place = left[~seen], place[:, ~seen]
    return colours, distances


def _sampled(planes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(C, N) float32 values of (C, H, W) planes at places (2, N), bilinear."""
    return np.stack(
        [map_coordinates(p, place, np.float32, order=1, mode="nearest") for p in planes]
    )


class Membrane:
    """Fills a hole with the solution of Laplace's equation that meets its edge: as smooth as can
    be (Perez et al., "Poisson image editing", 2003, eq. 2, without guidance). Towards the frame's
    border it is level."""

    def __init__(self, hole: np.ndarray) -> None:
        """`hole` is (H, W) bool. Raises ValueError where it is all True."""
        if hole.all():
            raise ValueError("nothing is around the hole")
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
        self._solver = splu(laplacian, permc_spec="MMD_AT_PLUS_A")  # it is symmetric

    def fill(self, values: np.ndarray) -> np.ndarray:
        """(H, W, C) values of any kind, as float32, with the hole filled."""
        filled = values.astype(np.float32)
        around = np.zeros((len(self._rows), filled.shape[2]))
        for own, y, x in self._edges:
            np.add.at(around, own, filled[y, x])
        filled[self._rows, self._columns] = self._solver.solve(around)
        return filled


class Membranes:
    """The membrane of each frame's hole; one that stays the same is prepared once."""

    def __init__(self) -> None:
        self._last: Membrane | None = None

    def fill(self, values: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """See Membrane. Without a hole, the values as float32."""
        if not hole.any():
            return values.astype(np.float32)
        if self._last is None or not np.array_equal(self._last.hole, hole):
            self._last = Membrane(hole)
        return self._last.fill(values)
