"""Compression: the range coder, quantization, coded tensors and pruning."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nervkit
from nervkit.compression.pruning import alive, prune
from nervkit.compression.quantization import (
    LADDER_SIZE,
    SIGNIFICANDS,
    Quantized,
    check_bits,
    entropy,
    ladder_step,
    peak,
    quantize,
)
from nervkit.compression.rangecoder import (
    MAX_ALPHABET,
    TOTAL,
    Decoder,
    Encoder,
    block_bounds,
    frequencies,
)
from nervkit.compression.tensors import (
    COUNT,
    DESCRIPTOR,
    NO_AXIS,
    compress_tensors,
    decompress_tensors,
    quantize_tensors,
)
from nervkit.errors import FormatError, UsageError
from nervkit.fitting import compress, job
from nervkit.models.base import Representation
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV
from nervkit.models.hnerv import HNeRV, HNeRVConfig
from nervkit.models.nerv import NeRV, NeRVConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# The range coder


def coded(*arrays: tuple[np.ndarray, int, int]) -> bytes:
    coder = Encoder()
    for values, low, high in arrays:
        coder.write(values, low, high)
    return coder.finish()


def integers(kind: str, size: int, count: int) -> np.ndarray:
    """(count,) integers in [0, size)."""
    generator = rng(size)
    if kind == "even":
        return generator.integers(0, size, count)
    if kind == "skewed":
        return np.minimum(generator.geometric(0.3, count) - 1, size - 1)
    if kind == "spiked":
        return np.where(generator.random(count) < 0.95, size // 2, generator.integers(0, size))
    return np.full(count, size - 1)


@pytest.mark.parametrize("kind", ["even", "skewed", "spiked", "constant"])
@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 255, 8191])
@pytest.mark.parametrize("count", [0, 1, 33, 10_000])
def test_integers_survive_coding(kind: str, size: int, count: int) -> None:
    for low in (0, -(size // 2), 1 - size, 5, -5 - size):
        values = integers(kind, size, count) + low
        data = coded((values, low, low + size - 1))
        decoder = Decoder(data)
        decoded = decoder.read(count, low, low + size - 1)
        decoder.finish()
        assert decoded.dtype == np.int32
        assert np.array_equal(decoded, values)


def test_arrays_of_different_alphabets_share_a_stream() -> None:
    arrays = [
        (rng(1).integers(-127, 128, (3, 5, 7)), -127, 127),
        (np.full(9, 4), 4, 4),
        (np.zeros(0, np.int32), -3, 3),
        (rng(2).integers(0, 2, 1000), 0, 1),
        (rng(3).integers(-4094, 4095, 500), -4094, 4094),
    ]
    decoder = Decoder(coded(*arrays))
    for values, low, high in arrays:
        assert np.array_equal(decoder.read(values.size, low, high), values.ravel())
    decoder.finish()


def test_what_says_nothing_costs_nothing() -> None:
    assert coded() == b""
    assert coded((np.full(1000, 3), 3, 3), (np.zeros(0, np.int32), 0, 9)) == b""
    decoder = Decoder(b"")
    assert np.array_equal(decoder.read(1000, 3, 3), np.full(1000, 3))
    decoder.finish()


def test_blocks_double_and_cover_everything() -> None:
    bounds = list(block_bounds(20_000))
    assert bounds[:3] == [(0, 32), (32, 96), (96, 224)]
    assert [stop for _, stop in bounds[:-1]] == [start for start, _ in bounds[1:]]
    assert bounds[-1][1] == 20_000
    assert max(stop - start for start, stop in bounds) == 4096


@pytest.mark.parametrize("size", [2, 31, 32, 255, 8191, MAX_ALPHABET])
@pytest.mark.parametrize("many", [0, 1, 1000, 1 << 20])
def test_frequencies_are_positive_and_fill_the_total(size: int, many: int) -> None:
    for zero in (-1, 0, size // 2, size - 1):
        spike = np.zeros(size, np.int64)
        spike[zero] = many
        for counts in (spike, spike[::-1], rng(size).integers(0, many + 1, size)):
            table = frequencies(counts.copy(), zero)
            assert table.min() >= 1
            assert table.sum() == TOTAL


@pytest.mark.parametrize("zero", [-1, 4000])
@pytest.mark.parametrize("most", [100, 1 << 28])
def test_frequencies_are_exact_however_many_symbols_came(zero: int, most: int) -> None:
    size, radius = 8189, 255
    counts = np.zeros(size, np.int64)
    counts[[0, 3990, 4000, 8188]] = [most // 3, most // 2, most, 1]
    weights = [1] * size
    for symbol in np.flatnonzero(counts).tolist():
        if symbol == zero:
            weights[symbol] += most * (radius + 1) ** 2
            continue
        for near in range(max(0, symbol - radius), min(size, symbol + radius + 1)):
            weights[near] += int(counts[symbol]) * (radius + 1 - abs(near - symbol))
    table = [1 + (TOTAL - size) * weight // sum(weights) for weight in weights]
    table[weights.index(max(weights))] += TOTAL - sum(table)
    assert frequencies(counts, zero).tolist() == table


@pytest.mark.parametrize(("spread", "bits"), [(2, 4), (10, 6), (30, 8), (30, 9), (300, 12)])
def test_gaussian_symbols_take_their_entropy(spread: float, bits: int) -> None:
    values = np.rint(spread * rng().normal(size=100_000)).astype(np.int32)
    values = values.clip(-peak(bits), peak(bits))
    size = 8 * len(coded((values, int(values.min()), int(values.max()))))
    assert entropy(values) < size < 1.01 * entropy(values)


def test_many_zeros_take_their_entropy() -> None:
    values = np.rint(30 * rng().normal(size=100_000)).astype(np.int32).clip(-127, 127)
    values[rng(1).random(values.size) < 0.5] = 0
    assert 8 * len(coded((values, -127, 127))) < 1.01 * entropy(values)


def test_entropy_is_shannons() -> None:
    assert entropy(np.array([5, 5, 5])) == 0
    assert entropy(np.array([[-1, 7], [7, -1]])) == 4
    assert entropy(np.array([0, 0, 0, 1])) == pytest.approx(4 * 0.8112781, abs=1e-6)


def test_garbage_is_refused_or_read_in_range() -> None:
    generator = rng(7)
    refused = 0
    for _ in range(1500):
        data = generator.bytes(4 * int(generator.integers(0, 30)))
        size = int(generator.choice([1, 2, 3, 255, 8191]))
        low = -int(generator.integers(0, size))
        count = int(generator.integers(0, 80))
        try:
            decoder = Decoder(data)
            values = decoder.read(count, low, low + size - 1)
            assert values.shape == (count,)
            assert ((low <= values) & (values < low + size)).all()
            decoder.finish()
        except FormatError:
            refused += 1
    assert refused > 750


def test_damaged_streams_are_refused_or_read_in_range() -> None:
    values = rng().integers(-127, 128, 300)
    data = coded((values, -127, 127))
    for length in range(0, len(data), 4):
        try:
            decoded = Decoder(data[:length]).read(300, -127, 127)
            assert np.abs(decoded).max() <= 127
        except FormatError:
            pass
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            decoder = Decoder(bytes(flipped))
            decoded = decoder.read(300, -127, 127)
            assert np.abs(decoded).max() <= 127
            decoder.finish()
        except FormatError:
            pass


def test_streams_are_whole_words_without_a_rest() -> None:
    data = coded((np.arange(100), 0, 99))
    with pytest.raises(FormatError, match="whole number of words"):
        Decoder(data[:-1])
    decoder = Decoder(data + bytes(8))
    decoder.read(100, 0, 99)
    with pytest.raises(FormatError, match="goes on"):
        decoder.finish()


@pytest.mark.parametrize(("low", "high"), [(1, 0), (0, MAX_ALPHABET), (5, -5)])
def test_impossible_alphabets_are_refused(low: int, high: int) -> None:
    with pytest.raises(FormatError, match="alphabet"):
        Decoder(bytes(16)).read(3, low, high)


# Quantization


def test_the_ladder_has_sixteen_steps_an_octave() -> None:
    assert list(SIGNIFICANDS) == [round(2 ** (i / 16) * 2**23) for i in range(16)]
    steps = ladder_step(np.arange(LADDER_SIZE))
    assert steps.dtype == np.float32
    assert steps[0] == 2**-24
    assert np.array_equal(steps[16:], 2 * steps[:-16])
    expected = 2.0 ** (np.arange(LADDER_SIZE) / 16 - 24)
    np.testing.assert_allclose(steps, expected, rtol=2**-24)


@pytest.mark.parametrize("bits", range(2, 13))
@pytest.mark.parametrize("kind", ["uniform", "gaussian", "outlier"])
def test_quantization_errs_by_half_a_step(bits: int, kind: str) -> None:
    tensor = rng(bits).uniform(-1, 1, 5000)
    if kind == "gaussian":
        tensor = rng(bits).normal(size=5000)
    elif kind == "outlier":
        tensor[17] = 40
    tensor = tensor.astype(np.float32)
    quantized = quantize(tensor, bits)
    limit = peak(bits)
    assert np.abs(quantized.values).max() <= limit
    step = float(ladder_step(quantized.steps)[0])
    error = np.abs(tensor.astype(np.float64) - quantized.dequantize())
    inside = np.abs(tensor) <= limit * step
    assert error[inside].max() <= step / 2 * (1 + 1e-6)
    assert np.array_equal(np.abs(quantized.values[~inside]), np.full((~inside).sum(), limit))
    # Clipping is only taken where it errs less than covering the range would.
    covering = 2.0 ** (np.ceil(16 * np.log2(np.abs(tensor).max() / limit)) / 16)
    plain = tensor - covering * np.rint(tensor / covering)
    assert (error**2).sum() <= (plain**2).sum() * (1 + 1e-6)
    assert covering <= np.abs(tensor).max() / limit * 2 ** (1 / 16) * (1 + 1e-6)


def test_clipping_an_outlier_pays() -> None:
    tensor = rng().normal(size=20_000).astype(np.float32)
    tensor[0] = 6
    step = ladder_step(quantize(tensor, 4).steps)
    assert peak(4) * step < 4.5


@pytest.mark.parametrize("bits", range(2, 13))
def test_zero_stays_zero(bits: int) -> None:
    tensor = rng().normal(size=(6, 50)).astype(np.float32)
    tensor[:, ::3] = 0
    assert not quantize(tensor, bits).dequantize()[:, ::3].any()
    empty = quantize(np.zeros((3, 4), np.float32), bits)
    assert not empty.values.any()
    assert not empty.dequantize().any()


@pytest.mark.parametrize("exponent", [-15, -8, 0, 6])
def test_quantization_scales_with_its_input(exponent: int) -> None:
    tensor = rng().normal(size=(4, 300)).astype(np.float32)
    small, scaled = quantize(tensor, 8), quantize(np.ldexp(tensor, exponent), 8)
    assert np.array_equal(scaled.values, small.values)
    assert np.array_equal(scaled.steps, small.steps + 16 * exponent)


def test_magnitudes_beyond_the_ladder_saturate() -> None:
    signs = np.array([1, -1, 1, -1], np.float32)
    huge = quantize(1e30 * signs, 8).dequantize()
    assert np.array_equal(huge, signs * 127 * ladder_step(np.array([LADDER_SIZE - 1])))
    assert not quantize(1e-30 * signs, 8).dequantize().any()
    tiny = quantize(np.float32(2**-24) * np.array([3, -100, 0, 127], np.float32), 8)
    assert tiny.values.tolist() == [3, -100, 0, 127]


def channels(kind: str, spread: float) -> np.ndarray:
    """(16, 60, 3, 3): 16 channels whose scales span a factor of `spread`."""
    scales = np.geomspace(1 / spread, 1, 16)[:, None, None, None]
    shape = (16, 60, 3, 3)
    draw = {
        "even": lambda: rng().uniform(-1, 1, shape),
        "signs": lambda: rng().choice([-1, 1], shape),
        "gaussian": lambda: rng().normal(size=shape),
    }
    return (scales * draw[kind]()).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize(("kind", "spread"), [("even", 10), ("signs", 10), ("signs", 1000)])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_is_chosen_where_bounded_channels_differ(
    bits: int, kind: str, spread: float, axis: int
) -> None:
    tensor = np.moveaxis(channels(kind, spread), 0, axis)
    quantized = quantize(tensor, bits)
    assert quantized.axis == axis
    assert quantized.steps.shape == (16,)
    assert quantized.values.shape == tensor.shape
    for channel in range(16):
        alone = quantize(tensor.take(channel, axis).ravel(), bits)
        assert quantized.steps[channel] == alone.steps[0]
        assert np.array_equal(quantized.values.take(channel, axis).ravel(), alone.values)


@pytest.mark.parametrize("bits", [3, 6, 8])
@pytest.mark.parametrize("kind", ["even", "signs", "gaussian"])
@pytest.mark.parametrize("spread", [1, 3, 100, 10_000])
def test_the_axis_is_worth_its_bits(bits: int, kind: str, spread: float) -> None:
    tensor = channels(kind, spread)

    def cost(values: np.ndarray, result: np.ndarray, steps: int) -> float:
        squared = np.square(tensor - result, dtype=np.float64).sum()
        return entropy(values) + 6 * steps + tensor.size / 2 * np.log2(max(squared, 1e-30))

    chosen = quantize(tensor, bits)
    least = cost(chosen.values, chosen.dequantize(), len(chosen.steps))
    whole = quantize(tensor.ravel(), bits)
    assert least <= cost(whole.values, whole.dequantize().reshape(tensor.shape), 1) + 1e-6
    for axis in (0, 1):
        parts = [quantize(part.ravel(), bits) for part in np.moveaxis(tensor, axis, 0)]
        values = np.concatenate([part.values for part in parts])
        shape = np.moveaxis(tensor, axis, 0).shape
        result = np.stack([part.dequantize() for part in parts]).reshape(shape)
        assert least <= cost(values, np.moveaxis(result, 0, axis), len(parts)) + 1e-6


def test_one_step_is_chosen_where_an_axis_does_not_pay() -> None:
    assert quantize(rng().normal(size=(8, 3)).astype(np.float32), 8).axis is None
    assert quantize(rng().uniform(-1, 1, (64, 64)).astype(np.float32), 8).axis is None
    assert quantize(channels("even", 10)[:, :1, :1, :1], 8).axis is None
    vector = quantize(np.geomspace(1e-3, 10, 40).astype(np.float32), 8)
    assert vector.axis is None
    assert vector.steps.shape == (1,)


def test_dequantizing_rounds_once() -> None:
    steps = np.array([300, 310, 333], np.int32)
    values = rng().integers(-2047, 2048, (5, 3, 2)).astype(np.int32)
    exact = values * ladder_step(steps).astype(np.float64)[None, :, None]
    result = Quantized(values, steps, 1, 12).dequantize()
    assert np.array_equal(result, exact.astype(np.float32))


@pytest.mark.parametrize("bits", [1, 13, 0, -8, 8.5, 8.0, "8", None])
def test_bit_widths_are_checked(bits: Any) -> None:
    with pytest.raises(UsageError, match="embedding_bits must"):
        check_bits(bits, "embedding_bits")
    assert [check_bits(width) for width in (2, 12)] == [2, 12]


# Coded tensors


def tensors() -> dict[str, np.ndarray]:
    """Weights of many kinds, with the names and order of a model's."""
    generator = rng(11)
    channels = np.geomspace(0.01, 3, 12)[:, None, None, None]
    pruned = generator.normal(size=(20, 30))
    pruned[np.abs(pruned) < 0.5] = 0
    arrays = {
        "conv": channels * generator.normal(size=(12, 8, 3, 3)),
        "bias": generator.normal(size=12),
        "pruned": pruned,
        "zeros": np.zeros((4, 5)),
        "constant": np.full((3, 3), 0.7),
        "one": generator.normal(size=(1, 1, 1, 1)),
        "scalar": np.array([2.5]),
        "scale": 1e-6 * np.ones((16, 1, 1)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def shapes(arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def smooth() -> np.ndarray:
    """(T, C, h, w) embeddings that change slowly with time."""
    t = np.linspace(0, 3, 60)[:, None, None, None]
    phases = 6 * rng(3).random((1, 16, 2, 4))
    return np.sin(t + phases).astype(np.float32)


@pytest.mark.parametrize("bits", range(2, 13))
def test_decoding_is_dequantizing(bits: int) -> None:
    arrays = tensors()
    decoded = decompress_tensors(compress_tensors(arrays, bits), shapes(arrays))
    assert list(decoded) == list(arrays)
    for name, array in arrays.items():
        width = min(12, bits + 4) if array.ndim == 1 else bits
        assert decoded[name].dtype == np.float32
        assert np.array_equal(decoded[name], quantize(array, width).dequantize()), name


def test_no_tensors_are_no_tensors() -> None:
    assert decompress_tensors(compress_tensors({}, 8), {}) == {}


def fields(data: bytes, index: int) -> tuple[int, ...]:
    return DESCRIPTOR.unpack_from(data, COUNT.size + DESCRIPTOR.size * index)


@pytest.mark.parametrize("bits", [2, 6, 8, 12])
def test_slow_embeddings_are_predicted_in_time(bits: int) -> None:
    array = {"embedding": smooth()}
    data = compress_tensors(array, bits)
    assert fields(data, 0)[2] == 1
    decoded = decompress_tensors(data, shapes(array))["embedding"]
    expected = quantize(smooth(), bits)
    assert np.array_equal(decoded, expected.dequantize())
    assert 8 * len(data) < entropy(expected.values)


def test_predicted_differences_may_double_the_range() -> None:
    array = np.ones((60, 40), np.float32)
    array[:20, ::2] = array[20:, 1::2] = -1
    data = compress_tensors({"embedding": array}, 12)
    most = int(quantize(array, 12).values.max())
    assert most > peak(11)
    assert fields(data, 0)[2:5] == (1, -2 * most, 2 * most)
    decoded = decompress_tensors(data, {"embedding": array.shape})["embedding"]
    assert np.array_equal(decoded, quantize(array, 12).dequantize())


def test_noise_and_vectors_are_not_predicted() -> None:
    noise = rng().normal(size=(60, 16, 2, 4)).astype(np.float32)
    assert fields(compress_tensors({"embedding": noise}, 8), 0)[2] == 0
    assert fields(compress_tensors({"bias": np.arange(100, dtype=np.float32)}, 8), 0)[2] == 0


def test_vectors_get_four_bits_more() -> None:
    arrays = {"bias": rng().normal(size=9).astype(np.float32), "weight": np.eye(3, dtype="f4")}
    for bits, vector in [(2, 6), (8, 12), (10, 12)]:
        data = compress_tensors(arrays, bits)
        assert [fields(data, index)[0] for index in (0, 1)] == [vector, bits]


def tampered(data: bytes, index: int, place: int, value: int) -> bytes:
    """`data` with one field of one descriptor changed."""
    changed = list(fields(data, index))
    changed[place] = value
    start = COUNT.size + DESCRIPTOR.size * index
    return data[:start] + DESCRIPTOR.pack(*changed) + data[start + DESCRIPTOR.size :]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *[(0, bits) for bits in (0, 1, 13, 64, 255)],
        *[(1, axis) for axis in (2, 3, 4, 254)],
        *[(2, flag) for flag in (2, 255)],
        *[(3, low) for low in (-32768, -128, 32767)],
        *[(4, high) for high in (-32768, 128, 32767)],
        *[(5, first) for first in (LADDER_SIZE, 65535)],
        *[(6, last) for last in (0, LADDER_SIZE, 65535)],
    ],
)
def test_impossible_descriptions_are_refused(place: int, value: int) -> None:
    arrays = {"conv": tensors()["conv"]}
    data = compress_tensors(arrays, 8)
    with pytest.raises(FormatError, match="tensor conv has an impossible description"):
        decompress_tensors(tampered(data, 0, place, value), shapes(arrays))


def test_an_axis_needs_dimensions() -> None:
    arrays = {"bias": tensors()["bias"]}
    data = tampered(compress_tensors(arrays, 8), 0, 1, 1)
    with pytest.raises(FormatError, match="impossible description"):
        decompress_tensors(data, shapes(arrays))


def test_predicted_values_stay_within_their_bits() -> None:
    coder = Encoder()
    coder.write(np.array([300]), 300, 300)
    coder.write(np.array([100, 100]), 0, 100)
    head = COUNT.pack(1) + DESCRIPTOR.pack(8, NO_AXIS, 1, 0, 100, 300, 300)
    with pytest.raises(FormatError, match="outside its 8 bits"):
        decompress_tensors(head + coder.finish(), {"embedding": (2, 1)})


def test_every_changed_byte_is_refused_or_decodes_to_the_right_shapes() -> None:
    arrays = tensors() | {"embedding": smooth()[:6]}
    data = compress_tensors(arrays, 6)
    head = COUNT.size + DESCRIPTOR.size * len(arrays)
    refused = 0
    for place in [*range(head), *range(head, len(data), 41)]:
        for change in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[place] ^= change
            try:
                decoded = decompress_tensors(bytes(changed), shapes(arrays))
            except FormatError:
                refused += 1
                continue
            assert shapes(decoded) == shapes(arrays)
            assert all(np.isfinite(array).all() for array in decoded.values())
    assert refused > head


def test_chunks_of_another_length_are_refused() -> None:
    arrays = tensors()
    data = compress_tensors(arrays, 8)
    for length in (0, 1, COUNT.size, COUNT.size + DESCRIPTOR.size * len(arrays) - 1):
        with pytest.raises(FormatError, match="does not hold the model's 8 tensors"):
            decompress_tensors(data[:length], shapes(arrays))
    with pytest.raises(FormatError):
        decompress_tensors(data + bytes(8), shapes(arrays))
    fewer = dict(list(shapes(arrays).items())[:-1])
    with pytest.raises(FormatError, match="7 tensors"):
        decompress_tensors(data, fewer)
    with pytest.raises(FormatError):
        decompress_tensors(struct.pack("<H", 9) + data[2:], shapes(arrays))


def test_larger_shapes_than_coded_do_not_crash() -> None:
    arrays = {"conv": tensors()["conv"]}
    data = compress_tensors(arrays, 8)
    try:
        decoded = decompress_tensors(data, {"conv": (12, 80, 3, 3)})
    except FormatError:
        return
    assert decoded["conv"].shape == (12, 80, 3, 3)


# Pruning


def network(model: type[Representation]) -> Representation:
    shape = VideoShape(4, 16, 24)
    torch.manual_seed(0)
    if model is NeRV:
        config = NeRVConfig(strides=(2, 2), stem_width=16, grid_channels=4, min_width=8)
        return NeRV(config, shape)
    result = HNeRV(HNeRVConfig(strides=(4, 2), width=12), shape)
    result.finish_fit([torch.rand(4, 3, 16, 24)])
    return result


@pytest.mark.parametrize("model", [GridNeRV, HNeRV, NeRV])
@pytest.mark.parametrize("share", [0.0, 1e-9, 0.1, 0.5, 0.999])
def test_pruning_takes_the_smallest_weights_of_all(
    model: type[Representation], share: float
) -> None:
    pruned, before = network(model), network(model).stored()
    keep = prune(pruned, share)
    after = pruned.stored()
    names = [name for name, t in before.items() if t.ndim >= 2 and name != "embedding"]
    assert list(keep) == names
    gone = torch.cat([before[name][keep[name] == 0] for name in names]).abs()
    kept = torch.cat([before[name][keep[name] == 1] for name in names]).abs()
    total = sum(before[name].numel() for name in names)
    assert len(gone) == int(share * total)
    assert len(gone) + len(kept) == total
    if len(gone):
        assert gone.max() < kept.min()
    for name in before:
        expected = before[name] * keep[name] if name in keep else before[name]
        assert torch.equal(after[name], expected), name


def test_pruning_leaves_biases_and_embeddings_and_the_encoder() -> None:
    pruned, before = network(HNeRV), network(HNeRV).state_dict()
    keep = prune(pruned, 0.9)
    untouched = [name for name in before if name not in keep]
    assert "embedding" in untouched
    assert "head.bias" in untouched
    assert any(name.startswith("encoder.") for name in untouched)
    assert all(torch.equal(before[name], pruned.state_dict()[name]) for name in untouched)


@pytest.mark.parametrize("model", [GridNeRV, HNeRV, NeRV])
def test_masks_can_be_read_off_a_pruned_model(model: type[Representation]) -> None:
    pruned = network(model)
    keep = prune(pruned, 0.4)
    read = alive(pruned)
    assert list(read) == list(keep)
    assert all(torch.equal(read[name], keep[name]) for name in keep)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan")])
def test_impossible_shares_are_usage_errors(share: float) -> None:
    with pytest.raises(UsageError, match="prune must lie in 0 to 1"):
        prune(network(NeRV), share)


@pytest.mark.parametrize("model", ["gridnerv", "hnerv", "nerv"])
@pytest.mark.parametrize("bits", [4, 8])
def test_pruned_weights_are_zeros_in_the_decoder(
    model: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep: dict[str, np.ndarray] = {}
    pruned: dict[str, np.ndarray] = {}
    tuned: dict[str, np.ndarray] = {}

    def prune_spy(fitted: Representation, *how: Any) -> dict[str, torch.Tensor]:
        masks = prune(fitted, *how)
        keep.update({name: mask.numpy() != 0 for name, mask in masks.items()})
        pruned.update({name: t.detach().numpy().copy() for name, t in fitted.weights().items()})
        return masks

    def quantize_spy(arrays: dict[str, np.ndarray], bits: int) -> dict[str, Quantized]:
        tuned.update(arrays)
        return quantize_tensors(arrays, bits)

    monkeypatch.setattr(job, "prune_weights", prune_spy)
    monkeypatch.setattr(compress, "quantize_tensors", quantize_spy)
    frames = rng().integers(0, 256, (4, 16, 24, 3), np.uint8)
    output = tmp_path / "a.nerv"
    nervkit.encode(frames, output, model=model, params=5000, steps=30, prune=0.4, bits=bits)
    with nervkit.open(output) as video:
        decoded = {name: t.numpy() for name, t in video.model.weights().items()}
    total = sum(mask.size for mask in keep.values())
    assert sum(int((~mask).sum()) for mask in keep.values()) == int(0.4 * total)
    for name, mask in keep.items():
        assert not tuned[name][~mask].any(), name
        assert not decoded[name][~mask].any(), name
        assert not np.array_equal(tuned[name], pruned[name]), name
