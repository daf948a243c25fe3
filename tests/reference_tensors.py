"""Decode the tensors of a segment by section 4 of docs/format.md. Like reference_decoder.py, it
uses no nervkit code."""

from __future__ import annotations

import math
import struct

import numpy as np

SIGNIFICANDS = [
    *(8388608, 8760003, 9147842, 9552851, 9975792, 10417458, 10878679, 11360319),
    *(11863283, 12388516, 12937002, 13509772, 14107901, 14732511, 15384775, 16065917),
]
THRESHOLDS = [
    *(9, 10, 12, 15, 17, 21, 25, 29, 35),
    *(41, 49, 59, 70, 83, 99, 117, 140, 166),
    *(197, 235, 279, 332, 395, 470, 558, 664, 790),
    *(939, 1117, 1328, 1579, 1878, 2233, 2656, 3158, 3756),
    *(4467, 5312, 6317, 7512, 8933, 10624, 12634, 15024, 17867),
    *(21247, 25268, 30048, 35734, 42495, 50535, 60097, 71468, 84990),
    *(101070, 120194, 142935, 169979, 202141, 240387, 285870, 339959, 404281),
]
DECAYS = [
    *(1440801, 5145013, 15004422, 36905875, 78665070, 148652826, 253857248),
    *(398132550, 581260615, 799036310, 1044178424, 1307656790, 1580030169, 1852521207),
    *(2117713904, 2369882518, 2605029347, 2820730047, 3015876649, 3190386796, 3344923893),
    *(3480652712, 3599040369, 3701703250, 3790295335, 3866431115, 3931635878, 3987316692),
    *(4034748382, 4075069962, 4109287957, 4138284039, 4162825044, 4183574096, 4201101925),
    *(4215897841, 4228380000, 4238904802, 4247775344, 4255248918, 4261543595, 4266843974),
    *(4271306145, 4275061981, 4278222805, 4280882540, 4283120382, 4285003080, 4286586875),
    *(4287919135, 4289039749, 4289982295, 4290775039, 4291441769, 4292002499, 4292474072),
    *(4292870656, 4293204170, 4293484642, 4293720503, 4293918848, 4294085643, 4294225905),
    4294343854,
]
MASK = (1 << 64) - 1


def read_tensors(payload: bytes, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Section 4.4."""
    (count,) = struct.unpack_from("<H", payload)
    assert count == len(shapes)
    coder = RangeDecoder(payload[2 + 11 * count :])
    tensors = []
    for index, shape in enumerate(shapes):
        _, axis, predicted, low, high, first, last = struct.unpack_from(
            "<BBBhhHH", payload, 2 + 11 * index
        )
        positions = coder.integers(1 if axis == 255 else shape[axis], first, last)
        values = np.array(coder.integers(math.prod(shape), low, high)).reshape(shape)
        if predicted:
            values = np.cumsum(values, axis=0)
        steps = np.array(
            [SIGNIFICANDS[p % 16] * 2.0 ** (p // 16 - 47) for p in positions], np.float32
        )
        if axis != 255:
            steps = steps.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        tensors.append(values.astype(np.float32) * steps)
    return tensors


def read_coded(payload: bytes, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Section 4.5."""
    (count,) = struct.unpack_from("<H", payload)
    assert count == len(shapes)
    ranges = list(struct.iter_unpack("<hh", payload[2:46]))
    coder = RangeDecoder(payload[46:])
    kinds = coder.integers(count, *ranges[0])
    reaches = coder.integers(count, *ranges[1])
    bases = coder.integers(sum(1 if kind else 4 for kind in kinds), *ranges[2])
    sides: list[list[list[int]]] = [[] for _ in shapes]
    for array in range(3, 11):
        of_grids = array >= 7
        sizes = []
        for kind, shape in zip(kinds, shapes, strict=True):
            rows, columns = math.prod(shape[:1]), math.prod(shape[1:])
            size = (rows, columns)[(array - 3) % 2] if not of_grids else 12
            if of_grids and kind:
                size = {7: shape[1], 10: 3 * shape[1]}.get(array, 12)
            sizes.append(size if bool(kind) == of_grids else 0)
        numbers = iter(coder.integers(sum(sizes), *ranges[array]) if sum(sizes) else [])
        for tensor, size in enumerate(sizes):
            if size:
                sides[tensor].append([next(numbers) for _ in range(size)])
    tensors, place = [], 0
    for kind, reach, shape, side in zip(kinds, reaches, shapes, sides, strict=True):
        based = 1 if kind else 4
        for index in range(based):
            side[index] = [bases[place + index] + number for number in side[index]]
        place += based
        read = read_grid if kind else read_matrix
        tensors.append(read(coder, reach, shape, side))
    return tensors


def read_matrix(
    coder: RangeDecoder, reach: int, shape: tuple[int, ...], side: list[list[int]]
) -> np.ndarray:
    row_steps, column_steps, row_scales, column_scales = side
    scales = [4 * min(max(r + c, 0), 63) for r in row_scales for c in column_scales]
    values = np.array(read_part(coder, scales, reach), np.float32)
    steps = [step_of(r + c) for r in row_steps for c in column_steps]
    return (values * np.array(steps, np.float32)).reshape(shape)


def read_grid(
    coder: RangeDecoder, reach: int, shape: tuple[int, ...], side: list[list[int]]
) -> np.ndarray:
    steps, means, gains, floors = side
    knots, channels, rows, columns = shape
    q = np.zeros((knots, channels, rows, columns), int)

    def at(n: int, c: int, y: int, x: int) -> int:
        inside = n >= 0 and 0 <= y < rows and 0 <= x < columns
        return int(q[n, c, y, x]) if inside else 0

    axial, diagonal = [(-1, 0), (1, 0), (0, -1), (0, 1)], [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    for n in range(knots):
        for p in range(3):
            places, tables, shifts = [], [], []
            for c in range(channels):
                for y in range(rows):
                    for x in range(columns):
                        if p != (2 if y % 2 != x % 2 else y % 2):
                            continue
                        around = [[], diagonal, axial][p]
                        groups = [
                            [at(n - 1, c, y, x)],
                            [at(n - 1, c, y + b, x + a) for b, a in axial],
                            [at(n - 2, c, y, x)],
                            [at(n, c, y + b, x + a) for b, a in around],
                        ]
                        u = 32
                        size = THRESHOLDS[floors[p * channels + c]]
                        for k, group in enumerate(groups):
                            u += means[4 * p + k] * sum(group)
                            size += gains[4 * p + k] * sum(map(abs, group))
                        u >>= 6
                        scale = sum(threshold < size for threshold in THRESHOLDS)
                        places.append((n, c, y, x))
                        tables.append(4 * scale + u % 4)
                        shifts.append(u // 4)
            residuals = read_part(coder, tables, reach)
            for place, residual, shift in zip(places, residuals, shifts, strict=True):
                q[place] = residual + shift
    factors = np.array([step_of(step) for step in steps], np.float32)
    return q.astype(np.float32) * factors[:, None, None]


def read_part(coder: RangeDecoder, tables: list[int], reach: int) -> list[int]:
    residuals = [0] * len(tables)
    for number in sorted(set(tables)) if reach else []:
        table = laplace(*divmod(number, 4), reach)
        for place in [i for i, t in enumerate(tables) if t == number]:
            residuals[place] = coder.symbol(table) - reach
    return residuals


def laplace(scale: int, fraction: int, reach: int) -> list[int]:
    tails = [1 << 30]
    for _ in range(4 * reach + 5):
        tails.append(tails[-1] * DECAYS[scale] >> 32)

    def below(e: int) -> int:
        return tails[-e] if e <= 0 else (1 << 31) - tails[e]

    n = 2 * reach + 1
    weights = [
        1 + below(4 * r + 2 - fraction) - below(4 * r - 2 - fraction)
        for r in range(-reach, reach + 1)
    ]
    table = [1 + ((1 << 24) - n) * weight // sum(weights) for weight in weights]
    table[weights.index(max(weights))] += (1 << 24) - sum(table)
    return table


def step_of(position: int) -> float:
    position = 4 * min(max(position, 0), 127)
    return SIGNIFICANDS[position % 16] * 2.0 ** (position // 16 - 47)


class RangeDecoder:
    """Section 4.3."""

    def __init__(self, data: bytes) -> None:
        self.words = iter(struct.unpack(f"<{len(data) // 4}I", data))
        self.lower, self.range = 0, MASK
        self.point = next(self.words, 0) << 32 | next(self.words, 0)

    def integers(self, count: int, low: int, high: int) -> list[int]:
        n = high - low + 1
        if n == 1:
            return [low] * count
        counts, symbols, block = [0] * n, [], 32
        while len(symbols) < count:
            table = frequencies(counts, -low if low <= 0 <= high else None)
            new = [self.symbol(table) for _ in range(min(block, count - len(symbols)))]
            for symbol in new:
                counts[symbol] += 1
            symbols += new
            block = min(2 * block, 4096)
        return [low + symbol for symbol in symbols]

    def symbol(self, table: list[int]) -> int:
        scale = self.range >> 24
        x = ((self.point - self.lower) & MASK) // scale
        assert x < 1 << 24, "damaged"
        symbol = below = 0
        while below + table[symbol] <= x:
            below += table[symbol]
            symbol += 1
        self.lower = (self.lower + scale * below) & MASK
        self.range = scale * table[symbol]
        if self.range < 1 << 32:
            self.lower = self.lower << 32 & MASK
            self.range = self.range << 32
            self.point = (self.point << 32 | next(self.words, 0)) & MASK
        return symbol


def frequencies(counts: list[int], zero: int | None) -> list[int]:
    n = len(counts)
    r = n // 32
    spread = [0 if s == zero else c for s, c in enumerate(counts)]
    weights = [1] * n
    for s in (s for s in range(n) if spread[s]):
        for near in range(max(0, s - r), min(n, s + r + 1)):
            weights[near] += (r + 1 - abs(s - near)) * spread[s]
    if zero is not None:
        weights[zero] += (r + 1) ** 2 * counts[zero]
    total = sum(weights)
    table = [1 + ((1 << 24) - n) * w // total for w in weights]
    table[weights.index(max(weights))] += (1 << 24) - sum(table)
    return table
