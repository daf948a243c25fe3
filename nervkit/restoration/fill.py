"""Plausible values for what is unknown, from what is around it in time and space."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

PIXELS = 1 << 16  # whose times are looked at at once: bounds the memory


def fill_in(frames: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """A start for a fit: a pixel that other frames know is interpolated linearly in time; one that
    is never known gets the membrane of what is around it.

    Args:
        frames: (T, H, W, 3) uint8.
        unknown: (T, H, W) bool; no frame is unknown as a whole.

    Returns:
        (T, H, W, 3) uint8, a copy.
    """
    filled = frames.copy()
    _fill_in_time(filled, unknown)
    never = unknown.all(axis=0)
    if never.any():
        membrane = Membrane(never)
        for frame in filled:
            frame[:] = membrane.fill(frame).round()
    return filled


def _fill_in_time(frames: np.ndarray, unknown: np.ndarray) -> None:
    """Interpolate, in place, all that is known at another time; ends are held."""
    pixels = np.argwhere(unknown.any(axis=0) & ~unknown.all(axis=0))
    for start in range(0, len(pixels), PIXELS):
        _fill_pixels(frames, unknown, *pixels[start : start + PIXELS].T)


def _fill_pixels(
    frames: np.ndarray, unknown: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> None:
    count = len(frames)
    known = ~unknown[:, rows, columns]
    times = np.arange(count, dtype=np.int32)[:, None]
    before = np.maximum.accumulate(np.where(known, times, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, times, count)[::-1], axis=0)[::-1]
    before, after = np.where(before < 0, after, before), np.where(after == count, before, after)
    share = ((times - before) / np.maximum(after - before, 1)).astype(np.float32)
    for t in range(count):
        lost = ~known[t]
        y, x = rows[lost], columns[lost]
        start, end = frames[before[t, lost], y, x], frames[after[t, lost], y, x]
        weight = share[t, lost, None]
        frames[t, y, x] = (start + weight * (end.astype(np.float32) - start)).round()


class Membrane:
    """Fills a hole with the solution of Laplace's equation that meets its edge: as smooth as can
    be (Perez et al., "Poisson image editing", 2003, eq. 2, without guidance). Towards the frame's
    border it is level."""

    def __init__(self, hole: np.ndarray) -> None:
        """`hole` is (H, W) bool, and not all True."""
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
        self._solver = splu(csc_array((values, (own, other)), shape=(size, size)))

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
