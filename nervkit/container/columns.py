"""Integer tables whose columns change at a nearly constant rate, as compressed bytes."""

from __future__ import annotations

import zlib

import numpy as np

from nervkit.container.chunks import inflate
from nervkit.errors import FormatError

NUMBER = np.dtype("<i8")


def pack_columns(rows: np.ndarray) -> bytes:
    """Return the zlib-compressed columns of (N, C) int64 `rows`, each delta-coded from 0."""
    steps = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.int64))
    return zlib.compress(steps.T.astype(NUMBER).tobytes(), 9)


def unpack_columns(data: bytes, rows: int, columns: int, what: str) -> np.ndarray:
    """Return the (rows, columns) int64 table of `pack_columns`. Raises FormatError, which names
    the table `what`."""
    size = NUMBER.itemsize * rows * columns
    raw = inflate(data, size, what)
    if len(raw) != size:
        raise FormatError(f"{what} are incomplete")
    steps = np.frombuffer(raw, NUMBER).reshape(columns, rows)
    return np.cumsum(steps.T, axis=0, dtype=np.int64)
