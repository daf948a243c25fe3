"""Quantization by sensitivity: its estimates, its sizes, and requantized files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import nervkit
from nervkit import requantizer
from nervkit.compression.coded import GridData, MatrixData, compress_coded, decompress_coded
from nervkit.compression.tensors import compress_tensors, decompress_tensors
from nervkit.container.file import Checks, NervFile, pack_file
from nervkit.decoder import NervVideo
from nervkit.errors import (
    FormatError,
    Interrupted,
    LimitError,
    ModelError,
    NothingToDoError,
    OutputError,
    UsageError,
)
from nervkit.fitting.calibration import factored, laplace_scale
from nervkit.fitting.posttraining import Quantizer, compress_to_error, compress_to_size
from nervkit.fitting.sensitivity import mean_squared_derivatives, spread
from nervkit.lock import locked
from nervkit.media.extras import Attachment, Chapter, Extras
from nervkit.media.timing import Timing
from nervkit.metrics import psnr
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import Recipe
from nervkit.models.registry import load_model
from tests.command import run_nervkit

pytestmark = pytest.mark.usefixtures("one_thread")


def waves(frames: int = 8, height: int = 48, width: int = 64) -> np.ndarray:
    """(frames, height, width, 3) uint8: coloured waves that drift."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    picture = np.sin((x + 2 * t) / 5 + c) * np.cos((y - t) / 4) + np.sin(x * y / 50)
    return np.rint(127 + 60 * picture).astype(np.uint8)


class Shades(Representation):
    """A colour per frame, each in a tensor of its own, times a gain that is a buffer; plus a tensor
    without effect and one without a derivative."""

    config_type = ModelConfig
    recipes: ClassVar[dict[str, Recipe]] = {"native": Recipe("mse", 0.1, 2, 1)}
    embedding_names = ("colours",)

    def __init__(self, config: ModelConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.colours = nn.ParameterList(torch.randn(3) for _ in range(shape.frames))
        self.register_buffer("gain", torch.tensor([0.5, 1.0, 2.0]))
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.idle = nn.Parameter(torch.randn(5))

    @classmethod
    def configure(cls, shape: VideoShape, parameters: int | None = None, **_: Any) -> ModelConfig:
        return ModelConfig()

    def forward(self, t: Tensor) -> Tensor:
        colours = torch.stack([self.colours[int(position)] for position in t])
        shown = (colours * self.gain)[:, self.order]
        return shown[:, :, None, None].expand(-1, -1, self.shape.height, self.shape.width)


def exact(model: Representation) -> dict[str, Tensor]:
    """Mean squared derivatives over all frames, from full Jacobians."""
    stored = {name: value.clone() for name, value in model.stored().items()}
    floats = {name: value for name, value in stored.items() if value.is_floating_point()}

    def frames(values: dict[str, Tensor], t: Tensor) -> Tensor:
        return functional_call(model, values, (t,)).flatten()

    found = {name: torch.zeros_like(value) for name, value in floats.items()}
    for position in range(model.shape.frames):
        jacobian = jacrev(frames)(floats, torch.tensor([float(position)]))
        for name, values in jacobian.items():
            found[name] += values.square().mean(0) / model.shape.frames
    return found


def tiny(model: str = "gridnerv", shape: VideoShape | None = None) -> Representation:
    shape = shape or VideoShape(3, 16, 16)
    torch.manual_seed(0)
    made = load_model(model).for_decoding(load_model(model).configure(shape, 1_200), shape)
    with torch.no_grad():
        for parameter in made.parameters():  # heads start at 0, and nothing shows through them
            parameter += 0.1 * torch.randn_like(parameter)
    return made


# The estimate


def test_the_estimate_meets_exact_derivatives() -> None:
    model = tiny()
    truth = exact(model)
    together = torch.cat([values.flatten() for values in truth.values()])

    def estimated(projections: int) -> Tensor:
        found = mean_squared_derivatives(model, projections)
        assert list(found) == list(truth) == list(model.stored())
        for name, values in truth.items():
            assert found[name].shape == values.shape
            mean = float(values.mean())
            assert projections < 300 or float(found[name].mean()) == pytest.approx(mean, rel=0.25)
        return torch.cat([values.flatten() for values in found.values()])

    few, many = estimated(20), estimated(320)
    ratio = (many[together > 0] / together[together > 0]).log2()
    assert float(ratio.abs().median()) < 0.2
    assert float(ratio.mean()) == pytest.approx(0, abs=0.1)
    assert (many - together).norm() < 0.5 * (few - together).norm()


def test_the_model_stays_and_the_estimate_is_repeatable() -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.stored().items()}
    first, second = (mean_squared_derivatives(model, 6, seed=3) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(before[name], value) for name, value in model.stored().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_content_of_frames_that_were_not_looked_at() -> None:
    model, calls = Shades(ModelConfig(), VideoShape(30, 4, 4)).eval(), []
    found = mean_squared_derivatives(model, 5, on_progress=lambda *done: calls.append(done))
    assert calls[-1] == (30, 30)
    assert all(found[f"colours.{k}"].any() for k in range(30))
    assert found["gain"].all()
    assert not found["idle"].any()
    assert "order" not in found


def test_frames_are_spread_at_no_regular_distance() -> None:
    positions = spread(160, 40)
    assert all(any(start <= p < start + 16 for p in positions) for start in range(0, 160, 16))
    assert {p % 4 for p in positions} == {0, 1, 2, 3}
    assert set(spread(3, 40)) == {0, 1, 2}


def test_a_model_without_derivatives_is_refused() -> None:
    class Opaque(Shades):
        def forward(self, t: Tensor) -> Tensor:
            return super().forward(t).detach()

    with pytest.raises(ModelError, match="no derivative"):
        mean_squared_derivatives(Opaque(ModelConfig(), VideoShape(3, 4, 4)).eval(), 4)


# Steps and scales


@pytest.mark.parametrize("axes", [(False, False), (True, False), (False, True), (True, True)])
def test_factors_level_rows_and_columns(axes: tuple[bool, bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 9, generator=generator) * 4.0 ** torch.arange(9)
    x[2], x[:, 4] = 0, 0
    row, column = factored(x, axes)
    assert row.shape == (7 if axes[0] else 1, 1)
    assert column.shape == (1, 9 if axes[1] else 1)
    levelled = x.double() / (row * column)
    live_rows, live_columns = [0, 1, 3, 4, 5, 6], [0, 1, 2, 3, 5, 6, 7, 8]
    if axes[0]:  # but for what the row and the column of zeros count
        means = levelled[live_rows].mean(1)
        assert float(means.max() / means.min()) < 1.3
    if axes[1]:
        means = levelled[:, live_columns].mean(0)
        assert float(means.max() / means.min()) < 1.3
    assert torch.isfinite(row.log2()).all() and torch.isfinite(column.log2()).all()


def test_laplace_scales_are_those_of_rounded_values() -> None:
    generator = np.random.default_rng(0)
    for scale in (0.4, 1.0, 7.0):
        values = np.rint(generator.laplace(0, scale, 200_000))
        found = laplace_scale(torch.tensor(np.abs(values).mean()))
        assert float(found) == pytest.approx(scale, rel=0.03)


def test_steps_follow_from_derivatives() -> None:
    """Every channel and every vector causes the same error, and a matrix does on average."""
    model = tiny()
    derivatives = exact(model)
    quantizer = Quantizer(model, derivatives)
    quantizer.set_error(-6.0)
    for (name, value), data in zip(model.stored().items(), quantizer.data(), strict=True):
        assert isinstance(data, GridData if name.startswith("grids") else MatrixData)
        s = derivatives[name].double().numpy()
        if isinstance(data, GridData):
            errors = s.mean((0, 2, 3)) * 4.0 ** (data.steps / 4 - 24)
        else:
            units = data.row_steps[:, None] + data.column_steps
            errors = np.array([(s.reshape(units.shape) * 4.0 ** (units / 4 - 24)).mean()])
        octaves = np.log2(errors) / 2 + 6.0
        assert octaves.min() > -0.5 and octaves.max() < 0.25, name
        assert float(np.abs(data.dequantize() - value.numpy()).max()) < 1


def test_what_does_not_show_is_coarse_and_whole_numbers_stay(tmp_path: Path) -> None:
    model = Shades(ModelConfig(), VideoShape(30, 16, 16)).eval()
    quantizer = Quantizer(model, mean_squared_derivatives(model, 5))
    shapes = {name: tuple(value.shape) for name, value in model.stored().items()}
    payload = compress_to_error([quantizer], 1e-4)[0]
    back = decompress_coded(payload, shapes)
    assert back["order"].tolist() == [2, 0, 1]
    assert len(np.unique(np.abs(back["idle"]))) <= 2
    for k in range(30):
        assert np.abs(back[f"colours.{k}"] - model.colours[k].detach().numpy()).max() < 0.1


@pytest.mark.parametrize(("model", "parameters"), [("gridnerv", 9_000), ("hnerv", 9_000)])
def test_bytes_come_within_a_hundredth(model: str, parameters: int) -> None:
    shape = VideoShape(6, 48, 64)
    made = load_model(model).for_decoding(load_model(model).configure(shape, parameters), shape)
    derivatives = mean_squared_derivatives(made, 10)
    sizes = []
    for size in (3_000, 5_000, 8_000):
        payload = compress_to_size([Quantizer(made, derivatives)], size)[0]
        assert abs(len(payload) - size) <= 0.01 * size
        sizes.append(len(payload))
    assert sizes == sorted(sizes)


@pytest.fixture(scope="module")
def fitted() -> tuple[Representation, np.ndarray]:
    """A GridNeRV after a short fit to a small clip, and the clip."""
    from nervkit.fitting.job import fit_clip
    from nervkit.fitting.options import FitOptions

    frames = waves(12, 48, 64)
    network, _ = fit_clip(frames, FitOptions(params=8_000, steps=400, device="cpu"))
    return network, frames


def shown(model: Representation, arrays: dict[str, np.ndarray], frames: np.ndarray) -> float:
    """PSNR in dB of all frames, given the model's tensors."""
    values = {name: torch.from_numpy(array) for name, array in arrays.items()}
    errors = []
    with torch.no_grad():
        for t, frame in enumerate(frames):
            output = functional_call(model, values, (torch.tensor([float(t)]),))[0]
            errors.append(
                float((output.permute(1, 2, 0) - torch.from_numpy(frame) / 255).square().mean())
            )
    return -10 * float(np.log10(np.mean(errors)))


def test_it_beats_equal_bits_at_equal_bytes(fitted: tuple[Representation, np.ndarray]) -> None:
    network, frames = fitted
    derivatives = mean_squared_derivatives(network)
    shapes = {name: tuple(value.shape) for name, value in network.stored().items()}
    for bits, least in ((7, 0.02), (6, 0.1), (5, 0.5)):
        size, uniform = 0, {}
        for group in (network.weights(), network.embeddings()):
            arrays = {name: value.numpy() for name, value in group.items()}
            data = compress_tensors(arrays, bits)
            size += len(data)
            uniform |= decompress_tensors(data, {name: shapes[name] for name in arrays})
        payload = compress_to_size([Quantizer(network, derivatives)], int(0.99 * size))[0]
        assert len(payload) <= size
        ours = decompress_coded(payload, shapes)
        assert shown(network, ours, frames) > shown(network, uniform, frames) + least


def test_the_error_is_the_one_that_is_asked_for(
    fitted: tuple[Representation, np.ndarray],
) -> None:
    network, _ = fitted
    derivatives = mean_squared_derivatives(network)
    for error in (1e-5, 1e-4):
        quantizer = Quantizer(network, derivatives)
        payload = compress_to_error([quantizer], error)[0]
        assert quantizer.squared_error() == pytest.approx(error, rel=0.1)
        assert payload == compress_coded(quantizer.data())


# Files


@pytest.fixture(scope="module")
def files(bunny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables.nerv (8 bits after the fit) and coded.nerv (fitted for its size), with
    audio, and segments.nerv: two segments, chapters, an attachment and uneven times."""
    folder = tmp_path_factory.mktemp("requantize")
    common: dict[str, Any] = {"frames": "0:8", "resize": "64x36", "device": "cpu"}
    nervkit.encode(bunny, folder / "tables.nerv", params=9_000, steps=150, **common)
    nervkit.encode(bunny, folder / "coded.nerv", target_bpp=3.5, steps=80, **common)
    with NervFile(folder / "tables.nerv") as file:
        header, tensors = file.header, file.segment(0)
        pts = np.cumsum([0, 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9])
        timing = Timing(pts, Fraction(1, 90), 3)
        extras = Extras(
            {"title": "a film"},
            (Chapter(Fraction(0), Fraction(1, 3), "eins"),),
            (Attachment("a.ttf", "font/ttf", bytes(range(250))),),
        )
        header = replace(header, segments=header.segments * 2)
        data = pack_file(header, timing, [tensors] * 2, file.tracks(), None, extras)
    (folder / "segments.nerv").write_bytes(data)
    return folder


def besides_tensors(path: Path) -> dict[str, Any]:
    """The content of a file except what requantizing may change."""
    with NervFile(path) as file:
        header = {k: v for k, v in vars(file.header).items() if k != "encoder"}
        return header | {
            "timing": file.timing,
            "tracks": file.tracks(),
            "extras": file.extras(),
        }


@pytest.mark.parametrize("name", ["tables", "coded", "segments"])
def test_all_but_the_tensors_survives(files: Path, tmp_path: Path, name: str) -> None:
    source, output = files / f"{name}.nerv", tmp_path / "out.nerv"
    before = source.read_bytes()
    with NervFile(source) as file:
        coded = sum(file.segment(index).size for index in range(len(file.header.segments)))
        target = file.size - coded // 3
    report = nervkit.requantize(source, output, target_size=target)
    assert report.bytes == output.stat().st_size == sum(report.bytes_by_part.values())
    assert report.input_bytes == len(before) and source.read_bytes() == before
    assert abs(report.bytes - target) <= 0.02 * target
    assert besides_tensors(output) == besides_tensors(source)
    checked = nervkit.verify(output)
    assert checked.identical == checked.frames and not checked.wrong
    with NervVideo(source) as old, NervVideo(output) as new:
        kept = np.mean([psnr(a, b) for a, b in zip(old, new, strict=True)])
        assert new.file.checks().samples is not None
        assert (new.file.checks().psnr, new.file.checks().ssim) == (None, None)
        assert new.header.encoder["settings"].endswith(f", requantized to {target} bytes")
        segments = [new.file.segment(index) for index in range(len(new.header.segments))]
        assert len({segment.size for segment in segments}) == 1  # of equal tensors, equally coarse
    assert report.kept_psnr == pytest.approx(kept) and report.kept_psnr > 30
    assert (report.psnr, report.ssim) == (None, None)


@pytest.mark.parametrize(
    ("option", "value", "reached"),
    [
        ("target_bpp", 2.5, lambda report: report.bpp / 2.5),
        ("target_bitrate", "500k", lambda report: 8 * report.bytes / 0.32 / 500_000),
        ("target_size", "20.5k", lambda report: report.bytes / 20_500),
    ],
)
def test_targets(
    files: Path, tmp_path: Path, option: str, value: Any, reached: Callable[[Any], float]
) -> None:
    report = nervkit.requantize(files / "tables.nerv", tmp_path / "o.nerv", **{option: value})
    assert reached(report) == pytest.approx(1, abs=0.02)


def test_a_loss_is_about_what_is_asked_for(files: Path, bunny: Path, tmp_path: Path) -> None:
    source, output = files / "tables.nerv", tmp_path / "out.nerv"
    report = nervkit.requantize(source, output, target_loss=0.5)
    before, after = (nervkit.verify(path, bunny).psnr for path in (source, output))
    assert before - after == pytest.approx(0.5, abs=0.2)
    assert report.estimated_psnr == pytest.approx(after, abs=0.2)
    assert report.bytes < report.input_bytes
    with pytest.raises(UsageError, match="declares no PSNR"):
        nervkit.requantize(output, tmp_path / "b.nerv", target_loss=0.5)


def test_progress_in_three_stages(files: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    nervkit.requantize(
        files / "tables.nerv",
        tmp_path / "out.nerv",
        target_bpp=2.5,
        on_progress=lambda *done: calls.append(done),
    )
    stages = ["verify", "sensitivity", "search", "check"]
    assert list(dict.fromkeys(stage for stage, _, _ in calls)) == stages
    for stage in stages:
        counts = [(done, total) for name, done, total in calls if name == stage]
        assert counts == sorted(counts) and counts[-1][0] == counts[-1][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of target_size, target_bpp, target_bitrate and target_loss"),
        ({"target_size": 9_000, "target_loss": 1.0}, "give one of"),
        ({"target_size": 9_000, "target_bpp": 1.0}, "give one of"),
        ({"target_size": "much"}, "target_size must be"),
        ({"target_bitrate": "fast"}, "target_bitrate must be"),
        ({"target_loss": 0.0}, "target_loss must lie in 0"),
        ({"target_loss": float("nan")}, "target_loss must lie in 0"),
        ({"target_loss": "little"}, "target_loss must be a number of dB such as 0.5, not 'little'"),
        ({"target_loss": [1]}, "target_loss must be a number of dB"),
        ({"target_bpp": "small"}, "target_bpp must be a number"),
        ({"target_size": 4_000}, "too small: of its 4,000 bytes"),
        ({"target_bpp": 2.5, "device": "abacus"}, "unknown device 'abacus'"),
    ],
)
def test_impossible_targets(
    files: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.requantize(files / "tables.nerv", tmp_path / "out.nerv", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message", "begun"),
    [
        ({"target_size": "90k"}, "tables.nerv: is smaller than the target already", False),
        ({"target_loss": "0.000001"}, "at that loss; nothing to do", True),
    ],
)
def test_nothing_to_do(
    files: Path, tmp_path: Path, options: dict[str, Any], message: str, begun: bool
) -> None:
    """Failures, not wrong usage; raised before any frame is decoded if possible."""
    calls: list[Any] = []
    with pytest.raises(NothingToDoError, match=message) as caught:
        nervkit.requantize(
            files / "tables.nerv",
            tmp_path / "out.nerv",
            on_progress=lambda *done: calls.append(done),
            **options,
        )
    assert caught.value.exit_code == 1
    assert bool(calls) == begun
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        (waves(2), "out.nerv", "the input is of type ndarray"),
        ("tables.nerv", waves(2), "the output is of type ndarray"),
        ("-", "out.nerv", "needs paths of .nerv files: the input cannot be a pipe"),
        ("tables.nerv", "-", "needs paths of .nerv files: the output cannot be a pipe"),
    ],
)
def test_only_files_are_requantized(source: Any, output: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.requantize(source, output, target_size=9_000)


def test_again(files: Path, tmp_path: Path) -> None:
    """The file records the last target and nothing of earlier tensors; a note explains why there is
    no estimate."""
    first, second = tmp_path / "a.nerv", tmp_path / "b.nerv"
    report = nervkit.requantize(files / "coded.nerv", first, target_loss="1")
    assert report.estimated_psnr is not None and report.notes == []
    assert report.settings.endswith(", requantized for a loss of 1 dB")
    report = nervkit.requantize(first, second, target_bpp="1.8")
    assert report.estimated_psnr is None
    assert report.notes == [
        "the input declares no PSNR (it was requantized before): the new file's is not estimated"
    ]
    settings = nervkit.info(second)["settings"]
    assert settings == report.settings
    assert settings.endswith(", requantized to 1.8 bits per pixel")
    assert settings.count("requantized") == 1
    assert "recipe native" in settings and "metric rgb" in settings
    assert "bits 8" not in settings and "coded_bytes" not in settings


def test_a_size_that_cannot_be(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors of many rows and columns take bytes too."""
    monkeypatch.setattr(requantizer, "compress_to_size", lambda *_, **__: [bytes(7000)])
    with pytest.raises(UsageError, match="for the tensors, which take at least 7,000"):
        nervkit.requantize(files / "tables.nerv", tmp_path / "out.nerv", target_bpp=2.5)
    assert not list(tmp_path.iterdir())


def test_outputs_are_kept(files: Path, tmp_path: Path) -> None:
    source, output = files / "tables.nerv", tmp_path / "out.nerv"
    output.write_bytes(b"mine")
    for error, place, message in (
        (OutputError, output, "use overwrite=True to replace it"),
        (UsageError, source, "input and output are the same file"),
        (UsageError, tmp_path / "out.mp4", "must end in .nerv"),
        (OutputError, tmp_path / "no" / "out.nerv", "no such folder"),
    ):
        with pytest.raises(error, match=message):
            nervkit.requantize(source, place, target_bpp=2.5)
    with locked(output), pytest.raises(OutputError, match="another run"):
        nervkit.requantize(source, output, target_bpp=2.5, overwrite=True)
    assert output.read_bytes() == b"mine"
    nervkit.requantize(source, output, target_bpp=2.5, overwrite=True)
    assert nervkit.info(output)["bpp"] == pytest.approx(2.5, rel=0.02)


def test_damaged_files_make_none(files: Path, tmp_path: Path) -> None:
    data = bytearray((files / "tables.nerv").read_bytes())
    cut, flipped = tmp_path / "cut.nerv", tmp_path / "flipped.nerv"
    cut.write_bytes(data[:-40])
    data[len(data) // 2] ^= 8
    flipped.write_bytes(data)
    for path in (cut, flipped):
        with pytest.raises(FormatError, match=path.name):
            nervkit.requantize(path, tmp_path / "out.nerv", target_bpp=2.5)
    with pytest.raises(LimitError, match=r"nervkit\.Limits\("):
        limits = nervkit.Limits(pixels=100)
        nervkit.requantize(
            files / "tables.nerv", tmp_path / "out.nerv", target_bpp=2.5, limits=limits
        )
    assert sorted(tmp_path.iterdir()) == [cut, flipped]


def rewritten(path: Path, output: Path, changed: Callable[[Checks], Checks | None]) -> None:
    """The file at `path` with other frame checks."""
    with NervFile(path) as file:
        checks = changed(file.checks())
        tensors = [file.segment(0)]
        output.write_bytes(
            pack_file(file.header, file.timing, tensors, file.tracks(), checks, file.extras())
        )


def test_what_its_encoder_did_not_see_is_not_requantized(files: Path, tmp_path: Path) -> None:
    """Otherwise the new file's checks would confirm wrong frames."""
    source, output = tmp_path / "in.nerv", tmp_path / "out.nerv"
    third = np.arange(8, dtype=np.uint32) == 3

    def wrong(checks: Checks) -> Checks:
        samples = np.where(third[:, None], checks.samples ^ 64, checks.samples)
        return replace(checks, crcs=checks.crcs ^ third, samples=samples)

    def without_samples(checks: Checks) -> Checks:
        return replace(checks, crcs=checks.crcs ^ third, samples=None)

    for change, message in (
        (wrong, "in.nerv: 1 of 8 frames differ from the encoder's; use"),
        (without_samples, "1 of 8 frames .* no samples, which distinguish rounding from damage"),
    ):
        rewritten(files / "tables.nerv", source, change)
        with pytest.raises(FormatError, match=message):
            nervkit.requantize(source, output, target_bpp=2.5)
        assert list(tmp_path.iterdir()) == [source]

    def rounded(checks: Checks) -> Checks:
        return replace(checks, crcs=checks.crcs ^ third, samples=checks.samples ^ 1)

    rewritten(files / "tables.nerv", source, rounded)
    assert nervkit.requantize(source, output, target_bpp=2.5).notes == []
    rewritten(files / "tables.nerv", source, lambda checks: None)
    notes = nervkit.requantize(source, output, target_bpp=2.5, overwrite=True).notes
    assert notes == [
        "the input has no frame checks: damage to it is not detected",
        "the input declares no PSNR: the new file's is not estimated",
    ]


def test_a_killed_run_is_no_hindrance(files: Path, tmp_path: Path) -> None:
    """The next run removes its leftovers, as encode does."""
    program = (
        "import os, signal, sys, nervkit\n"
        "def die(stage, done, total):\n"
        "    if stage == 'check':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "nervkit.requantize(sys.argv[1], 'out.nerv', target_bpp=2.5, on_progress=die)\n"
    )
    command = [sys.executable, "-c", program, str(files / "tables.nerv")]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out.nerv").exists()
    assert (tmp_path / ".out.nerv.lock").exists()
    nervkit.requantize(files / "tables.nerv", tmp_path / "out.nerv", target_bpp=2.5)
    assert list(tmp_path.iterdir()) == [tmp_path / "out.nerv"]


def test_stopped_in_the_middle_leaves_nothing(files: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "check" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nervkit.requantize(
            files / "tables.nerv", tmp_path / "out.nerv", target_bpp=2.5, on_progress=stop
        )
    assert not list(tmp_path.iterdir())


# The commands


def test_the_command(files: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        source = files / "tables.nerv"
        return run_nervkit("requantize", source, "-o", "o.nerv", *arguments, cwd=tmp_path)

    made = run("--target-bpp", "2.5", "--json")
    assert made.returncode == 0, made.stderr
    values = json.loads(made.stdout)
    assert set(values) == set(nervkit.RequantizeReport.__dataclass_fields__)
    assert values["bytes"] == (tmp_path / "o.nerv").stat().st_size
    assert "against the frames of" in made.stderr and "% of" in made.stderr
    checked = run_nervkit("verify", "o.nerv", cwd=tmp_path, code=0)
    assert "every frame is identical to the requantizer's" in checked.stderr
    refused = run("--target-size", "1M", "-y")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1 and refused.stderr.endswith("nothing to do\n")


@pytest.mark.parametrize("model", ["hnerv", "nerv"])
def test_published_recipes_are_fitted_in_float(tmp_path: Path, model: str) -> None:
    """With a target, the fit itself is the same as without; its tensors are then quantized to the
    target's bytes."""
    path = tmp_path / "a.nerv"
    options: dict[str, Any] = {"model": model, "recipe": "paper", "steps": 30, "device": "cpu"}
    report = nervkit.encode(waves(), path, target_size=9_000, **options)
    assert abs(report.bytes - 9_000) <= 180
    assert 3 < report.bits_per_parameter < 5
    config, params = report.config, report.parameters
    free = nervkit.encode(
        waves(), tmp_path / "b.nerv", params=params, bits=12, embedding_bits=12, **options
    )
    assert free.config == config
    assert report.psnr == pytest.approx(free.psnr, abs=0.3)
    assert nervkit.verify(path).identical == 8


def test_a_stopped_quantization_goes_on(tmp_path: Path) -> None:
    path, calls = tmp_path / "a.nerv", iter(range(1000))
    options: dict[str, Any] = {"model": "nerv", "recipe": "paper", "steps": 20, "device": "cpu"}
    with pytest.raises(Interrupted, match="while the fit was quantized"):
        nervkit.encode(waves(), path, target_size=9_000, stop=lambda: next(calls) == 25, **options)
    assert not path.exists()
    report = nervkit.encode(waves(), path, target_size=9_000, **options)
    assert report.earlier_seconds > 0 and abs(report.bytes - 9_000) <= 180
    assert list(tmp_path.iterdir()) == [path]
