"""Tensors of rate-distortion fits: integer tables, coding, and the rate in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import laplace
from torch import Tensor

import nervkit
from nervkit.compression.coded import (
    PASSES,
    TAPS,
    CodedTensor,
    GridData,
    MatrixData,
    compress_coded,
    decompress_coded,
    matrix_shape,
    pass_of_cells,
    taps_of,
)
from nervkit.compression.laplace import LOWEST_SCALE, SCALES, THRESHOLDS, laplace_table, scale_of
from nervkit.errors import FormatError
from nervkit.fitting.coders import GridCoder, MatrixCoder, laplace_bits, rounded
from nervkit.fitting.coding import Codec
from nervkit.fitting.start import StoredStart
from nervkit.models import registry
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV
from nervkit.start import read_start
from nervkit.video.ranges import frames_hash
from tests.reference_decoder import read_coded


def random_matrix(rng: np.random.Generator, *shape: int) -> MatrixData:
    rows, columns = matrix_shape(shape)
    row, column = rng.integers(10, 30, rows), rng.integers(-3, 4, columns)
    deviation = 2.0 ** ((row[:, None] + column + LOWEST_SCALE) / 4)
    return MatrixData(
        np.rint(rng.laplace(0, deviation)).astype(np.int32).reshape(shape),
        *(
            rng.integers(*bounds, n).astype(np.int32)
            for bounds, n in (((50, 80), rows), ((-4, 5), columns))
        ),
        row.astype(np.int32),
        column.astype(np.int32),
    )


def random_grid(rng: np.random.Generator, *shape: int) -> GridData:
    values = np.rint(np.cumsum(rng.laplace(0, 0.7, shape), axis=0)).astype(np.int32)
    return GridData(
        values,
        rng.integers(60, 90, shape[1]).astype(np.int32),
        rng.integers(-300, 300, (PASSES, TAPS)).astype(np.int32),
        rng.integers(0, 200, (PASSES, TAPS)).astype(np.int32),
        rng.integers(0, len(THRESHOLDS), (PASSES, shape[1])).astype(np.int32),
    )


def random_tensors(seed: int = 0) -> list[CodedTensor]:
    rng = np.random.default_rng(seed)
    matrices = [random_matrix(rng, *shape) for shape in ((7, 5), (9,), (4, 3, 3, 3), (1, 1), ())]
    grids = [random_grid(rng, *shape) for shape in ((5, 2, 4, 7), (1, 3, 6, 5), (3, 1, 1, 1))]
    return [matrices[0], grids[0], *matrices[1:], *grids[1:]]


def shapes_of(tensors: list[CodedTensor]) -> dict[str, tuple[int, ...]]:
    return {str(i): data.values.shape for i, data in enumerate(tensors)}


@pytest.mark.parametrize("scale", [0, 12, 20, 33, 63])
@pytest.mark.parametrize("fraction", range(4))
def test_a_table_is_the_distribution(scale: int, fraction: int) -> None:
    table = laplace_table(scale, fraction, -40, 50)
    assert table.sum() == 1 << 24
    assert table.min() >= 1
    edges = np.arange(-41, 51) + 0.5 - fraction / 4
    mass = np.diff(laplace.cdf(edges, scale=2 ** ((scale + LOWEST_SCALE) / 4)))
    assert np.abs(table / 2**24 - mass / mass.sum()).max() < 2e-5


def test_scales_are_the_nearest() -> None:
    exact = 2 ** (np.linspace(-19.4, 42.4, 500) / 4)
    found = scale_of(np.rint(exact * 256).astype(np.int64))
    wanted = 4 * np.log2(exact) - LOWEST_SCALE
    assert np.abs(found - wanted)[exact > 0.5].max() < 0.52
    assert np.abs(found - wanted).max() < 1  # small ones are few units of 1 / 256
    assert scale_of(np.array([0, 1 << 40])).tolist() == [0, SCALES - 1]


@pytest.mark.parametrize("seed", range(4))
def test_tensors_come_back(seed: int) -> None:
    tensors = random_tensors(seed)
    decoded = decompress_coded(compress_coded(tensors), shapes_of(tensors))
    for data, array in zip(tensors, decoded.values(), strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array, data.dequantize())


def test_a_decoder_written_from_the_specification_agrees() -> None:
    tensors = random_tensors(5)
    shapes = [data.values.shape for data in tensors]
    for data, array in zip(tensors, read_coded(compress_coded(tensors), shapes), strict=True):
        assert np.array_equal(array, data.dequantize())


def test_values_of_known_scale_take_their_entropy() -> None:
    rng = np.random.default_rng(1)
    one = np.zeros(1, np.int32)
    scale = 24  # 2 steps
    values = np.rint(rng.laplace(0, 2, (1, 40_000))).astype(np.int32)
    data = MatrixData(
        values, one, np.zeros(40_000, np.int32), one + scale, np.zeros(40_000, np.int32)
    )
    mass = np.diff(laplace.cdf(np.arange(-60, 61) - 0.5, scale=2))
    entropy = -(mass * np.log2(mass)).sum()
    assert 8 * len(compress_coded([data])) / 40_000 == pytest.approx(entropy, rel=0.01)


def test_damage_is_refused_or_other_values() -> None:
    tensors, rng = random_tensors(), np.random.default_rng(2)
    payload, refused = compress_coded(tensors), 0
    for _ in range(400):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        try:
            decoded = decompress_coded(bytes(damaged), shapes_of(tensors))
        except FormatError:
            refused += 1
        else:
            assert all(np.isfinite(array).all() for array in decoded.values())
    assert refused > 0
    for payload_cut in (payload[:1], payload[:30], payload[:-4], payload + bytes(8)):
        with pytest.raises(FormatError):
            decompress_coded(payload_cut, shapes_of(tensors))
    with pytest.raises(FormatError):
        decompress_coded(payload, shapes_of(tensors[1:]))


def test_contexts_are_those_of_the_file() -> None:
    """The fit computes all knots and passes at once in torch; the file codes them in order in
    integers."""
    grid = random_grid(np.random.default_rng(3), 4, 2, 5, 6)
    coder = GridCoder([torch.zeros(grid.values.shape)], 0.1)
    weights = torch.eye(TAPS).view(TAPS, 1, 1, TAPS).expand(TAPS, 2, PASSES, TAPS)
    values = torch.from_numpy(grid.values).float()
    taps = [torch.stack(coder.predicted(values, weight)) for weight in weights]
    turns = pass_of_cells(5, 6)
    assert sorted(np.unique(turns)) == [0, 1, 2]
    for k in range(4):
        before, earlier = (grid.values[k - n] if k >= n else 0 * grid.values[0] for n in (1, 2))
        for turn in range(PASSES):
            known = np.where(turns < turn, grid.values[k], 0)
            for kind, magnitude in enumerate((np.array, np.abs)):
                expected = taps_of(*map(magnitude, (known, before, earlier)), turn)
                found = torch.stack([tap[kind, k] for tap in taps]).numpy()
                assert np.array_equal(found[:, :, turns == turn], expected[:, :, turns == turn])


def test_the_rate_is_that_of_the_tables() -> None:
    q = torch.arange(-8, 9).float()
    for scale in (20, 27):
        table = laplace_table(scale, 0, -200, 200)[192:209]
        bits = laplace_bits(q, torch.tensor(2.0 ** ((scale + LOWEST_SCALE) / 4)))
        kept = bits < 19  # beyond, the likelihood is cut
        assert np.allclose(bits[kept], -np.log2(table / 2**24)[kept.numpy()], atol=0.03)


def test_gradients_of_the_rate() -> None:
    q = torch.tensor([-3.2, -0.7, 0.1, 0.4, 2.5], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.5, 1.0, 0.7, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(laplace_bits, (q, scale))
    x = torch.tensor([0.4, 1.6], requires_grad=True)
    rounded(x).sum().backward()
    assert x.grad.tolist() == [1, 1]


def small_model() -> GridNeRV:
    torch.manual_seed(0)
    shape = VideoShape(6, 40, 48)
    return GridNeRV(GridNeRV.configure(shape, 4000), shape)


def test_what_is_rounded_is_what_is_stored() -> None:
    model = small_model()
    codec = Codec(model, 8000.0)
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    quantized, _ = codec(dict(model.named_parameters()), rounding=True)
    data = codec.data(model)
    decoded = decompress_coded(compress_coded(data), shapes_of(data))
    for name, array in zip(model.stored(), decoded.values(), strict=True):
        assert np.allclose(quantized[name].detach().numpy(), array, rtol=1e-5, atol=0), name


def test_values_too_large_for_their_step_get_a_larger_one() -> None:
    model = small_model()
    codec = Codec(model, 8000.0)
    with torch.no_grad():
        model.stem.bias[0] = 1e3
        model.grids[0][0, 0, 0, 0] = -1e4
    data = codec.data(model)
    decoded = decompress_coded(compress_coded(data), shapes_of(data))
    by_name = dict(zip(model.stored(), decoded.values(), strict=True))
    assert by_name["stem.bias"][0] == pytest.approx(1e3, rel=1e-3)
    assert by_name["grids.0"][0, 0, 0, 0] == pytest.approx(-1e4, rel=1e-3)


def test_the_estimate_is_the_size() -> None:
    model = small_model()
    codec = Codec(model, 8000.0)
    _, integers = codec(dict(model.named_parameters()), rounding=True)
    coders = zip(codec.coders, integers, strict=True)
    estimated = sum(coder.bits(q, coder.best_width(q)).sum().item() for coder, q in coders)
    side = len(
        compress_coded([type(d)(**{**vars(d), "values": 0 * d.values}) for d in codec.data(model)])
    )
    stored = 8 * len(compress_coded(codec.data(model)))
    assert estimated < stored < estimated * 1.03 + 8 * side


def test_noise_has_its_amplitude() -> None:
    model = small_model()
    codec = Codec(model, 8000.0)
    values = dict(model.named_parameters())
    recipe = GridNeRV.recipes["native"]
    for noise, progress in ((0.1, 0.0), (0.55, 0.35), (1.0, 0.7), (1.0, 0.8)):
        assert not codec.advance(progress, recipe)
        assert float(codec.noise) == pytest.approx(noise)
        _, integers = codec(values, rounding=False)
        coders = zip(codec.groups, codec.coders, integers, strict=True)
        for names, coder, q in coders:
            difference = q - coder.stacked([values[name] for name in names]) / coder.step()
            assert difference.abs().max() <= noise / 2 + 1e-4
    assert codec.advance(0.85, recipe)
    loss = codec.bits(integers)
    loss.backward()
    assert all(parameter.grad is not None for parameter in codec.parameters())


def test_a_codec_starts_from_what_is_stored() -> None:
    """From the same tensors it stores the same bytes again."""
    model = GridNeRV(
        GridNeRV.configure_coded(VideoShape(30, 96, 128), 9_000), VideoShape(30, 96, 128)
    )
    first, second = Codec(model, 72_000), Codec(model, 72_000)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    stored = dict(zip(model.stored(), first.data(model), strict=True))
    second.start_from(stored)
    for name, data in zip(stored, second.data(model), strict=True):
        assert (stored[name].values == data.values).all(), name
        assert (stored[name].dequantize() == data.dequantize()).all(), name
    assert torch.equal(
        *(codec(model.stored(), True)[0]["head.weight"] for codec in (first, second))
    )


def test_a_codec_starts_from_some_of_its_tensors() -> None:
    model = GridNeRV(GridNeRV.configure(VideoShape(8, 48, 64)), VideoShape(8, 48, 64))
    codec, untouched = Codec(model, 72_000), Codec(model, 72_000)
    names = list(model.stored())
    data = dict(zip(names, codec.data(model, 3.0), strict=True))
    codec.start_from({name: data[name] for name in names if name.startswith("grids.")})
    for group, started, before in zip(codec.groups, codec.coders, untouched.coders, strict=True):
        same = torch.equal(started.log_step, before.log_step)
        assert same != group[0].startswith("grids."), group


class SignCoder(MatrixCoder):
    """A third party's coder: values are -1, 0 or 1 steps."""

    def data(self, values: Sequence[Tensor], coarser: float = 0.0) -> list[CodedTensor]:
        of_all = super().data(values, coarser)
        return [replace(data, values=data.values.clip(-1, 1)) for data in of_all]


class Signed(GridNeRV):
    codings: ClassVar = {"signs": (SignCoder, 0.7)}

    def kinds(self) -> dict[str, str]:
        return super().kinds() | {"head.weight": "signs"}


def test_a_model_brings_a_coder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    nervkit.register_model(Signed)
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), dtype=np.uint8)
    nervkit.encode(frames, tmp_path / "a.nerv", model="signed", steps=20, target_size=4_000)
    mark = frames_hash(frames)
    start = read_start(tmp_path / "a.nerv", "signed", VideoShape(6, 32, 48), mark)
    assert isinstance(start, StoredStart)
    coded = start.coded
    assert set(np.unique(coded["head.weight"].values)) == {-1, 0, 1}
    assert np.abs(coded["stem.weight"].values).max() > 1
    assert nervkit.verify(tmp_path / "a.nerv").identical == 6
