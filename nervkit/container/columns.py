"""Tables of integers whose columns go on at about one pace, as bytes."""

from __future__ import annotations

import zlib

import numpy as np

from nervkit.container.chunks import inflate
from nervkit.errors import FormatError

NUMBER = np.dtype("<i8")


def pack_columns(rows: np.ndarray) -> bytes:
    """(N, C) int64: each column as differences from 0, one after another, zlib-compressed."""
    steps = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.int64))
    return zlib.compress(steps.T.astype(NUMBER).tobytes(), 9)


def unpack_columns(data: bytes, rows: int, columns: int, what: str) -> np.ndarray:
    """The inverse: (rows, columns) int64. Raises FormatError, which calls it `what`."""
    size = NUMBER.itemsize * rows * columns
    raw = inflate(data, size, what)
    if len(raw) != size:
        raise FormatError(f"{what} are incomplete")
    steps = np.frombuffer(raw, NUMBER).reshape(columns, rows)
    return np.cumsum(steps.T, axis=0, dtype=np.int64)
