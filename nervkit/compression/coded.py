"""Entropy coding of tensors with step sizes, scales and contexts of their own, to the bytes of a
chunk and back. Numpy only; docs/format.md specifies the layout.

Every probability follows from integers that were decoded before. A matrix has a step size and a
scale of its Laplace distribution for each row and column (NVRC, 2409.07414, section 3.2: "dual
axis"). The mean and scale of a grid's value follow from decoded neighbours in time and space.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nervkit.compression.laplace import (
    FRACTIONS,
    SCALES,
    THRESHOLDS,
    UNIT_BITS,
    laplace_table,
    scale_of,
)
from nervkit.compression.quantization import LADDER_SIZE, STEPS_PER_OCTAVE, ladder_step
from nervkit.compression.rangecoder import Decoder, Encoder
from nervkit.errors import FormatError

UNITS_PER_OCTAVE = 4  # step sizes and scales are stored in quarters of an octave
LADDER_UNIT = STEPS_PER_OCTAVE // UNITS_PER_OCTAVE
MOST_UNITS = LADDER_SIZE // LADDER_UNIT
PEAK = (1 << 12) - 1  # largest magnitude of a coded integer
#: inputs of a grid value's prediction: the cell one knot earlier, its four neighbours, the cell two
#: knots earlier, and four neighbours in the same knot
TAPS = 4
PASSES = 3  # over a knot: cells of even row and column, cells of odd row and column, the rest
QUARTER_BITS = UNIT_BITS - 2  # shift of a mean from units of 1 / 256 to quarters of a step
HALF_QUARTER = 1 << (QUARTER_BITS - 1)  # for rounding
MOST_WEIGHT = 1023  # largest weight of a tap
COUNT = struct.Struct("<H")
RANGE = struct.Struct("<hh")


@dataclass(frozen=True)
class MatrixData:
    """A quantized tensor seen as a matrix (first axis, all others).

    Attributes:
        values: int32 of the tensor's shape, within PEAK.
        row_steps, column_steps: (R,), (C,) int32: the step size is 2^((row + column) / 4 - 24).
        row_scales, column_scales: (R,), (C,) int32: the scale is their sum, clamped to 0 .. 63.
    """

    values: np.ndarray
    row_steps: np.ndarray
    column_steps: np.ndarray
    row_scales: np.ndarray
    column_scales: np.ndarray

    @property
    def scales(self) -> np.ndarray:
        """The scale of each value, (R, C) int64, 0 .. 63."""
        return (self.row_scales[:, None] + self.column_scales).clip(0, SCALES - 1).astype(np.int64)

    def dequantize(self) -> np.ndarray:
        """Return the float32 tensor."""
        units = self.row_steps[:, None] + self.column_steps
        step = ladder_step(LADDER_UNIT * units.clip(0, MOST_UNITS - 1))
        flat = self.values.reshape(units.shape).astype(np.float32) * step
        return flat.astype(np.float32).reshape(self.values.shape)


@dataclass(frozen=True)
class GridData:
    """A quantized grid (knots, channels, rows, columns).

    Attributes:
        values: int32, within PEAK.
        steps: (C,) int32, step sizes in quarters of an octave, as in MatrixData.
        means: (PASSES, TAPS) int32: weights of the taps in a value's mean, in 1 / 256.
        gains: (PASSES, TAPS) int32, 0 or more: weights of the taps' magnitudes in its scale.
        floors: (PASSES, C) int32, 0 .. 62: the scale if all taps are 0.
    """

    values: np.ndarray
    steps: np.ndarray
    means: np.ndarray
    gains: np.ndarray
    floors: np.ndarray

    def dequantize(self) -> np.ndarray:
        """Return the float32 grid."""
        step = ladder_step(LADDER_UNIT * self.steps.clip(0, MOST_UNITS - 1))
        return (self.values.astype(np.float32) * step[:, None, None]).astype(np.float32)


CodedTensor = MatrixData | GridData


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns of a tensor seen as a matrix: its first axis, and the product of
    all others. A missing axis counts as 1."""
    return (shape[0], math.prod(shape[1:])) if len(shape) else (1, 1)


def pass_of_cells(rows: int, columns: int) -> np.ndarray:
    """Return the pass in which each cell of a knot is decoded, (rows, columns) int."""
    odd_row, odd_column = (np.arange(n) % 2 for n in (rows, columns))
    return np.where(odd_row[:, None] != odd_column, 2, odd_row[:, None] * np.ones_like(odd_column))


def taps_of(knot: np.ndarray, previous: np.ndarray, earlier: np.ndarray, turn: int) -> np.ndarray:
    """Return the taps of cells that pass `turn` decodes, (TAPS, C, rows, columns) int64.

    Args:
        knot: (C, rows, columns), 0 in cells that are not decoded yet.
        previous, earlier: the knots one and two before.
        turn: index of the pass.
    """
    beside = np.zeros_like(knot)
    if turn:
        beside = _diagonal(knot) if turn == 1 else _adjacent(knot)
    return np.stack([previous, _adjacent(previous), earlier, beside]).astype(np.int64)


def _padded(x: np.ndarray) -> np.ndarray:
    """Return x with a border of zeros, as `np.pad` does, which is slow for small arrays."""
    count, rows, columns = x.shape
    padded = np.zeros((count, rows + 2, columns + 2), x.dtype)
    padded[:, 1:-1, 1:-1] = x
    return padded


def _adjacent(x: np.ndarray) -> np.ndarray:
    """Return the sum of the cells above, below, left and right of each cell."""
    x = _padded(x)
    return x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]


def _diagonal(x: np.ndarray) -> np.ndarray:
    """Return the sum of the four diagonal neighbours of each cell."""
    x = _padded(x)
    return x[:, :-2, :-2] + x[:, :-2, 2:] + x[:, 2:, :-2] + x[:, 2:, 2:]


#: side information of all tensors, which a chunk holds before their values, in this order
SIDES = (
    *("kinds", "reaches", "bases", "row_steps", "column_steps", "row_scales", "column_scales"),
    *("steps", "means", "gains", "floors"),
)
BOUNDS = {
    "kinds": (0, 1),
    "reaches": (0, PEAK),
    "bases": (-MOST_UNITS, MOST_UNITS),
    **dict.fromkeys(("row_steps", "column_steps", "steps"), (0, MOST_UNITS)),
    **dict.fromkeys(("row_scales", "column_scales"), (0, SCALES)),
    "means": (-MOST_WEIGHT, MOST_WEIGHT),
    "gains": (0, MOST_WEIGHT),
    "floors": (0, len(THRESHOLDS) - 1),
}
#: coded as differences from the tensor's minimum, which is coded as its base
BASED = ("row_steps", "column_steps", "row_scales", "column_scales", "steps")


def compress_coded(tensors: Sequence[CodedTensor]) -> bytes:
    """Return the payload of a chunk."""
    reaches = [int(np.abs(residual).max(initial=0)) for residual in map(_residuals, tensors)]
    sides: dict[str, list[np.ndarray]] = {name: [] for name in SIDES}
    sides["kinds"] = [np.array([isinstance(data, GridData) for data in tensors], np.int32)]
    sides["reaches"] = [np.array(reaches, np.int32)]
    for data in tensors:
        for name, values in vars(data).items():
            if name in BASED:
                sides["bases"].append(values.min(keepdims=True))
                sides[name].append(values - values.min())
            elif name != "values":
                sides[name].append(values.ravel())
    coder, ranges = Encoder(), b""
    for parts in sides.values():
        joined = np.concatenate(parts) if parts else np.zeros(1, np.int32)
        low, high = int(joined.min()), int(joined.max())
        ranges += RANGE.pack(low, high)
        if parts:
            coder.write(joined, low, high)
    for data, reach in zip(tensors, reaches, strict=True):
        for part in _parts(data):
            residuals = part.array[part.cells] - part.mean
            for table, places in _tables(part, reach):
                coder.write_by(table, residuals[places] + reach)
    return COUNT.pack(len(tensors)) + ranges + coder.finish()


def decompress_coded(
    payload: bytes,
    shapes: Mapping[str, tuple[int, ...]],
    on_block: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Decode the float32 tensors of a payload; see `read_coded`."""
    return {n: data.dequantize() for n, data in read_coded(payload, shapes, on_block).items()}


def read_coded(
    payload: bytes,
    shapes: Mapping[str, tuple[int, ...]],
    on_block: Callable[[], None] = lambda: None,
) -> dict[str, CodedTensor]:
    """Decode the tensors of a payload as integers with their side information.

    Args:
        payload: from `compress_coded`.
        shapes: of the tensors, by name, in order.
        on_block: see `Decoder`.

    Raises:
        FormatError: the bytes do not fit the shapes.
    """
    start = COUNT.size + RANGE.size * len(SIDES)
    if len(payload) < start or COUNT.unpack_from(payload)[0] != len(shapes):
        raise FormatError(f"the chunk does not hold the model's {len(shapes)} tensors")
    coder = Decoder(payload[start:], on_block)
    ranges = RANGE.iter_unpack(payload[COUNT.size : start])
    side_ranges = dict(zip(SIDES, ranges, strict=True))
    tensors = _read_side_information(coder, side_ranges, list(shapes.values()))
    for name, (data, reach) in zip(shapes, tensors, strict=True):
        for part in _parts(data):
            residuals = np.zeros_like(part.mean)
            for table, places in _tables(part, reach):
                residuals[places] = coder.read_by(table, int(places.sum())) - reach
            values = residuals + part.mean
            if np.abs(values).max(initial=0) > PEAK:
                raise FormatError(f"tensor {name} has values beyond {PEAK}")
            part.array[part.cells] = values
    coder.finish()
    return {name: data for name, (data, _) in zip(shapes, tensors, strict=True)}


class Part(NamedTuple):
    """Values that are coded together, with their Laplace distributions.

    Attributes:
        array, cells: the values are array[cells].
        scales: of the distributions.
        mean, fractions: integer part of their means, and fractional part in quarters of a step.
    """

    array: np.ndarray
    cells: Any
    scales: np.ndarray
    fractions: np.ndarray
    mean: np.ndarray


def _parts(data: CodedTensor) -> Iterator[Part]:
    """Yield the parts of a tensor in order. Each one depends on the values of those before it."""
    if isinstance(data, MatrixData):
        values, scales = data.values, data.scales.reshape(data.values.shape)
        yield Part(values, ..., scales, np.zeros_like(scales), np.zeros_like(values))
        return
    turns = pass_of_cells(*data.values.shape[2:])
    floors = np.array(THRESHOLDS, np.int64)[data.floors]
    zeros = np.zeros_like(data.values[0])
    for k in range(len(data.values)):
        previous = data.values[k - 1] if k > 0 else zeros
        earlier = data.values[k - 2] if k > 1 else zeros
        for turn in range(PASSES):
            rows, columns = np.nonzero(turns == turn)
            if not len(rows):
                continue
            knot = np.where(turns < turn, data.values[k], 0)
            taps = taps_of(knot, previous, earlier, turn)[:, :, rows, columns]
            magnitudes = np.abs(knot), np.abs(previous), np.abs(earlier)
            sizes = taps_of(*magnitudes, turn)[:, :, rows, columns]
            quarters = (np.tensordot(data.means[turn], taps, 1) + HALF_QUARTER) >> QUARTER_BITS
            scales = scale_of(floors[turn][:, None] + np.tensordot(data.gains[turn], sizes, 1))
            mean = (quarters // FRACTIONS).astype(np.int32)
            cells = (slice(None), rows, columns)
            yield Part(data.values[k], cells, scales, quarters % FRACTIONS, mean)


def _residuals(data: CodedTensor) -> np.ndarray:
    """Return the differences of a tensor's values from their means, in coding order."""
    return np.concatenate([(p.array[p.cells] - p.mean).ravel() for p in _parts(data)])


def _tables(part: Part, reach: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frequency table of a part, and the mask of the values that it codes."""
    numbers = part.scales * FRACTIONS + part.fractions
    for number in np.unique(numbers) if reach else ():
        scale, fraction = divmod(int(number), FRACTIONS)
        yield laplace_table(scale, fraction, -reach, reach), numbers == number


def _read_side_information(
    coder: Decoder, ranges: dict[str, tuple[int, int]], shapes: list[tuple[int, ...]]
) -> list[tuple[CodedTensor, int]]:
    """Decode the side information of all tensors. Return the tensors with values of 0, and for each
    the largest magnitude of its residuals. Raises FormatError."""

    def section(name: str, count: int) -> np.ndarray:
        low, high = ranges[name]
        least, most = BOUNDS[name]
        if not least <= low <= high <= most:
            raise FormatError(f"the tensors' {name} lie in {low} to {high}")
        return coder.read(count, low, high)

    kinds = section("kinds", len(shapes))
    reaches = section("reaches", len(shapes)).tolist()
    sizes = [_side_sizes(bool(kind), shape) for kind, shape in zip(kinds, shapes, strict=True)]
    based = [name for of in sizes for name in of if name in BASED]
    bases = iter(section("bases", len(based)).tolist()) if based else iter(())
    sides: list[dict[str, np.ndarray]] = [
        {name: np.full(count, next(bases) if name in BASED else 0) for name, count in of.items()}
        for of in sizes
    ]
    for name in SIDES[3:]:
        total = sum(of.get(name, 0) for of in sizes)
        joined, start = section(name, total) if total else np.zeros(0, np.int32), 0
        for of, side in zip(sizes, sides, strict=True):
            if name in of:
                side[name] = (side[name] + joined[start : start + of[name]]).astype(np.int32)
                start += of[name]
    tensors = zip(kinds, shapes, sides, strict=True)
    empty = [_without_values(bool(kind), shape, side) for kind, shape, side in tensors]
    return list(zip(empty, reaches, strict=True))


def _without_values(
    is_grid: bool, shape: tuple[int, ...], side: dict[str, np.ndarray]
) -> CodedTensor:
    """Return a tensor with its side information and values of 0."""
    values = np.zeros(shape, np.int32)
    if not is_grid:
        return MatrixData(values, **side)
    by_pass = {name: side[name].reshape(PASSES, -1) for name in ("means", "gains", "floors")}
    return GridData(values, side["steps"], **by_pass)


def _side_sizes(is_grid: bool, shape: tuple[int, ...]) -> dict[str, int]:
    """Return how many numbers of each kind of side information a tensor has."""
    if not is_grid:
        rows, columns = matrix_shape(shape)
        return {name: rows if name.startswith("row") else columns for name in SIDES[3:7]}
    if len(shape) != 4:
        raise FormatError(f"a tensor of {len(shape)} axes is no grid")
    weights = PASSES * TAPS
    return {"steps": shape[1], "means": weights, "gains": weights, "floors": PASSES * shape[1]}
