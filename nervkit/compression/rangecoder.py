"""Entropy coding of integers: an adaptive range coder with integer tables. Numpy only.

The range coder is constriction's. Every probability is an integer frequency over 2^24, computed
here by integer arithmetic from integers already coded, so that every machine decodes the same
values. docs/format.md specifies it bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import constriction
import numpy as np

from nervkit.errors import FormatError

TOTAL = 1 << 24
FIRST_BLOCK, LAST_BLOCK = 32, 4096
MAX_ALPHABET = 1 << 13


def block_bounds(count: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the blocks that share a table: 32 symbols, 64, ..., 4096, 4096, ..."""
    start, size = 0, FIRST_BLOCK
    while start < count:
        yield start, min(count, start + size)
        start, size = start + size, min(2 * size, LAST_BLOCK)


def frequencies(counts: np.ndarray, zero: int) -> np.ndarray:
    """Return integer frequencies, all positive and summing to 2^24, from counts of symbols.

    Each occurrence is spread over its neighbours in a triangle of radius n / 32, because
    distributions of weights are smooth. The value 0 is not spread, as pruning makes it a peak.

    Args:
        counts: (n,) int64, the number of occurrences of each symbol so far.
        zero: the symbol of the value 0; negative: no symbol has that value.
    """
    size = len(counts)
    radius = size >> 5
    spread = np.zeros(size + 2 * radius, np.int64)
    spread[radius : radius + size] = counts
    if zero >= 0:
        spread[radius + zero] = 0
    # A triangle is a box filter applied twice; box sums are differences of cumulative sums.
    for _ in range(2):
        sums = np.concatenate(([0], np.cumsum(spread)))
        spread = sums[radius + 1 :] - sums[: len(sums) - radius - 1]
    weights = 1 + spread
    if zero >= 0:
        weights[zero] += counts[zero] * (radius + 1) ** 2
    table = 1 + (TOTAL - size) * weights // weights.sum()
    table[np.argmax(weights)] += TOTAL - table.sum()
    return table


def _categorical(table: np.ndarray) -> constriction.stream.model.Categorical:
    # constriction adds 1 to every frequency and scales by (2^24 - n) / sum, here exactly 1.
    less_one = (table - 1).astype(np.float64)
    return constriction.stream.model.Categorical(less_one, perfect=False)


def _zero(low: int, high: int) -> int:
    return -low if low <= 0 <= high else -1


class Encoder:
    """Writes arrays of integers into one stream of bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def write(self, values: np.ndarray, low: int, high: int) -> None:
        """Append integers in [low, high]. The decoder must know count, low and high."""
        size = high - low + 1
        if size == 1:
            return
        symbols = (values.ravel() - low).astype(np.int32)
        counts = np.zeros(size, np.int64)
        for start, stop in block_bounds(len(symbols)):
            block = symbols[start:stop]
            self.write_by(frequencies(counts, _zero(low, high)), block)
            counts += np.bincount(block, minlength=size)

    def write_by(self, table: np.ndarray, symbols: np.ndarray) -> None:
        """Append symbols by a table of frequencies that sum to 2^24. The decoder needs the same."""
        self._coder.encode(symbols.astype(np.int32), _categorical(table))

    def finish(self) -> bytes:
        """Return the bytes of the stream."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Reads the arrays that `Encoder` wrote. Raises FormatError on bytes of no Encoder."""

    def __init__(self, data: bytes, on_block: Callable[[], None] = lambda: None) -> None:
        """`on_block` is called before the symbols of each table; a decoder in a background thread
        may sleep there."""
        self._on_block = on_block
        if len(data) % 4:
            raise FormatError("an entropy-coded stream is not a whole number of words")
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4"))

    def read(self, count: int, low: int, high: int) -> np.ndarray:
        """Return the next `count` integers, (count,) int32, all in [low, high]."""
        size = high - low + 1
        if not 1 <= size <= MAX_ALPHABET:
            raise FormatError(f"an alphabet of {size} values, not of 1 to {MAX_ALPHABET}")
        symbols = np.zeros(count, np.int32)
        if size > 1:
            counts = np.zeros(size, np.int64)
            for start, stop in block_bounds(count):
                block = self.read_by(frequencies(counts, _zero(low, high)), stop - start)
                symbols[start:stop] = block
                counts += np.bincount(block, minlength=size)
        return symbols + low

    def read_by(self, table: np.ndarray, count: int) -> np.ndarray:
        """Return the next `count` symbols, (count,) int32, by a table of frequencies that sum to
        2^24."""
        self._on_block()
        try:
            return self._coder.decode(_categorical(table), count)
        except AssertionError as error:  # constriction raises it on impossible data
            raise FormatError("an entropy-coded stream is damaged") from error

    def finish(self) -> None:
        """Check that the stream ends here. Raises FormatError."""
        if not self._coder.maybe_exhausted():
            raise FormatError("an entropy-coded stream goes on after its last value")
