"""Published compression methods: stages of a fit, stored tensors, and the papers' counts."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

import nervkit
from nervkit.cli.encode import encode as encode_command
from nervkit.compression.accounting import (
    Accounted,
    boost_bits,
    ffnerv_bits,
    gaussian_bits,
    hinerv_bits,
    hnerv_bits,
    huffman_bits,
    nerv_bits,
)
from nervkit.compression.pruning import prune
from nervkit.compression.published import (
    COMPRESSIONS,
    Compression,
    EntropyMinimisation,
    Prune,
    QuantizationAware,
    QuantNoise,
)
from nervkit.compression.quantization import Quantized, entropy, ladder_step
from nervkit.encoding import segment
from nervkit.errors import Interrupted, ModelError, SourceError, UsageError
from nervkit.fitting import job
from nervkit.fitting.budget import Budget
from nervkit.fitting.functional import FunctionalModel, named_tensors
from nervkit.fitting.loop import fit
from nervkit.fitting.losses import LOSSES
from nervkit.fitting.options import FitOptions
from nervkit.fitting.phases import phases_of
from nervkit.fitting.progress import Progress
from nervkit.fitting.quantizers import (
    EntropyQuantizer,
    NoiseQuantizer,
    StageQuantizer,
    TanhQuantizer,
)
from nervkit.fitting.quantizers import gaussian_bits as noisy_bits
from nervkit.models.base import Representation
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV
from nervkit.models.hnerv import HNeRV
from nervkit.models.nerv import NeRV
from nervkit.models.recipe import Recipe
from tests.command import run_nervkit
from tests.test_clock import Clock
from tests.test_fitting import CONFIGS, stepper, stop_after, video

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = ["gridnerv", "hnerv", "nerv"]
CLASSES = [GridNeRV, HNeRV, NeRV]
SHAPE = VideoShape(5, 16, 24)


def encode(output: Path, source: Any = None, **options: Any) -> nervkit.EncodeReport:
    settings = {"steps": 20, "params": 5000, "precision": "float32", "overwrite": True}
    return nervkit.encode(video() if source is None else source, output, **settings | options)


def network(model: type[Representation]) -> Representation:
    torch.manual_seed(0)
    return model(CONFIGS[model], SHAPE)


def quantized(values: Any, steps: int = 1) -> Quantized:
    array = np.array(values, np.int32)
    return Quantized(array, np.zeros(steps, np.int32), 0 if steps > 1 else None, 8)


def accounted(values: Any, alive: Any = None, **options: Any) -> Accounted:
    tensor = quantized(values, options.pop("steps", 1))
    shape = tensor.values.shape
    mask = np.ones(shape, bool) if alive is None else np.array(alive, bool)
    return Accounted(tensor, mask, **options)


# Any model


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_any_compression_suits_any_model(model: str, compression: str, tmp_path: Path) -> None:
    """A decoder shows the file as fitted; the file records the method and has the paper's
    number."""
    source, output = video(4, 48, 64), tmp_path / "a.nerv"
    report = encode(output, source, model=model, params=8000, compression=compression)
    assert report.bytes == output.stat().st_size
    assert report.steps == 20
    assert report.compression == compression
    assert report.published_counts == COMPRESSIONS[compression].accounting.counts
    assert 0.6 < report.published_bpp / report.bpp < 1.2
    assert f"compression {compression}" in nervkit.info(output)["settings"]
    verified = nervkit.verify(output, against=source)
    assert (verified.identical, verified.wrong) == (4, 0)
    assert verified.psnr == pytest.approx(report.psnr, abs=1e-4)
    json.dumps(report.to_dict())


def test_without_a_compression_nothing_is_reported(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv")
    assert (report.compression, report.published_bpp, report.published_counts) == (None,) * 3


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compression", ["nerv", "hnerv", "hinerv"])
def test_what_is_pruned_stays_zero(
    model: str, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file, after all later phases."""
    keep: dict[str, np.ndarray] = {}

    def spy(fitted: Representation, *how: Any) -> dict[str, Tensor]:
        masks = prune(fitted, *how)
        keep.update({name: mask.numpy() != 0 for name, mask in masks.items()})
        return masks

    monkeypatch.setattr(job, "prune_weights", spy)
    encode(tmp_path / "a.nerv", model=model, compression=compression)
    share = COMPRESSIONS[compression].stages[0].share
    total = sum(mask.size for mask in keep.values())
    assert sum(int((~mask).sum()) for mask in keep.values()) == int(share * total)
    with nervkit.open(tmp_path / "a.nerv") as opened:
        stored = {name: tensor.numpy() for name, tensor in opened.model.stored().items()}
    for name, mask in keep.items():
        assert not stored[name][~mask].any(), name
    assert any(stored[name][mask].any() for name, mask in keep.items())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compression", ["ffnerv", "hnerv-boost", "hinerv"])
def test_a_file_holds_what_the_last_step_saw(
    model: str, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors match to the last bit, and frames match the fit's own forward pass."""
    seen: dict[str, Tensor] = {}
    frames: list[Tensor] = []
    plain = segment.compress_network

    def spy(fitted: Representation, codec: StageQuantizer, *rest: Any) -> Any:
        seen.update({name: tensor.clone() for name, tensor in codec.rounded(fitted).items()})
        if not isinstance(codec, NoiseQuantizer):  # whose steps leave some values as they are
            again, _ = codec(named_tensors(fitted))
            assert all(torch.equal(again[name], seen[name]) for name in seen)
        if model == "hnerv" and compression != "hinerv":
            seen["embedding"] = fitted.embedding.clone()
            fitted.quantize_embedding = codec.embedded
        given = torch.from_numpy(video()).permute(0, 3, 1, 2) / 255
        positions = torch.arange(5.0)
        with torch.inference_mode():
            values = codec.rounded(fitted)
            functional = FunctionalModel(fitted)
            frames.append(functional.with_tensors(values, "fit_forward", positions, given).clone())
        fitted.quantize_embedding = None
        return plain(fitted, codec, *rest)

    monkeypatch.setattr(segment, "compress_network", spy)
    encode(tmp_path / "a.nerv", model=model, compression=compression)
    with nervkit.open(tmp_path / "a.nerv") as opened, torch.inference_mode():
        stored = opened.model.stored()
        shown = opened.model(torch.arange(5.0))
    assert set(seen) <= set(stored)
    if compression != "hinerv":  # which has no step for vectors
        assert set(seen) == set(stored)
        torch.testing.assert_close(shown, frames[0], rtol=0, atol=2e-5)
    for name, tensor in seen.items():
        assert torch.equal(stored[name], tensor), name


def test_the_entropy_stage_reaches_its_bits(tmp_path: Path) -> None:
    """Both by the estimate in the loss and in bytes."""
    boost = COMPRESSIONS["hnerv-boost"]
    stage = EntropyMinimisation(target_bits=4.0, epochs=1500)
    report = encode(
        tmp_path / "a.nerv", model="nerv", steps=500, compression=replace(boost, stages=(stage,))
    )
    before = encode(tmp_path / "b.nerv", model="nerv", bits=8)
    assert before.bits_per_parameter > 7
    assert report.bits_per_parameter < 5.5
    side = 96 * len(NeRV.skeleton(NeRV.configure(SHAPE, 5000), SHAPE).stored())
    values = report.parameters
    published = report.published_bpp * SHAPE.pixels - side
    assert 3.5 < published / values < 4.3


# Phases


def names_and_epochs(options: FitOptions) -> list[tuple[str, int]]:
    return [(phase.name, phase.epochs) for phase in phases_of(options)]


def test_phases_are_those_of_the_papers() -> None:
    def phases(compression: str) -> list[tuple[str, int]]:
        return names_and_epochs(FitOptions(model="nerv", compression=compression))

    assert phases("nerv") == phases("hnerv") == [("fit", 300), ("fine-tune", 50)]
    assert phases("ffnerv") == [("fit", 300)]
    assert phases("hnerv-boost") == [("fit", 300), ("entropy", 100)]
    assert phases("hinerv") == [("fit", 300), ("fine-tune", 60), ("quantization noise", 30)]
    assert names_and_epochs(FitOptions()) == [("fit", 300)]
    assert names_and_epochs(FitOptions(prune=0.2)) == [("fit", 300), ("fine-tune", 50)]


def test_a_quantization_holds_until_the_next() -> None:
    stages = (QuantizationAware(5), Prune(0.3), QuantNoise(4))
    first, second, third = phases_of(FitOptions(compression=Compression(stages)))
    assert [p.quantization for p in (first, second, third)] == [stages[0], stages[0], stages[2]]
    assert [p.pruned for p in (first, second, third)] == [False, True, True]
    recipe = GridNeRV.recipes["native"]
    assert first.recipe == recipe
    assert second.recipe.lr == pytest.approx(0.3 * recipe.lr)
    assert third.recipe.matrix_lr == pytest.approx(0.1 * recipe.matrix_lr)
    assert third.recipe.embedding_lr == pytest.approx(0.1 * recipe.embedding_lr)
    assert (recipe.warmup, second.recipe.warmup) == (0.02, 0.0)


@pytest.mark.parametrize(
    ("compression", "epochs"), [("paper", 350), ("hinerv", 390), ("hnerv-boost", 400), (None, 300)]
)
def test_the_papers_recipe_has_the_papers_epochs(compression: str | None, epochs: int) -> None:
    options = FitOptions(model="hnerv", recipe="paper", compression=compression)
    assert options.budget == Budget(epochs=epochs)


def test_a_papers_recipe_names_its_compression() -> None:
    for model in ("nerv", "hnerv"):
        options = FitOptions(model=model, compression="paper")
        assert options.compression_data == COMPRESSIONS[model]
        assert options.settings() == FitOptions(model=model, compression=model).settings()
    with pytest.raises(UsageError, match="the paper of gridnerv has no compression; choose from"):
        FitOptions(compression="paper")
    assert Recipe(loss="mse", lr=1.0, batch=1, epochs=1).compression is None


def test_phases_share_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, lambda k: 1.0)
    reports: list[Progress] = []
    options: dict[str, Any] = {"steps": None, "time": 39, "on_progress": reports.append}
    encode(tmp_path / "a.nerv", compression="hinerv", **options)
    phases = {report.phase: report.step for report in reports}
    assert phases == {"fit": 30, "fine-tune": 6, "quantization noise": 3}


# Of 20 steps, hinerv has 15, 3 and 2, hnerv-boost 15 and 5.
@pytest.mark.parametrize("model", ["hnerv", "gridnerv"])
@pytest.mark.parametrize(
    ("compression", "calls"),
    [
        ("hinerv", (6, 16 - 6, 2, 1)),
        ("hinerv", (15,)),
        ("hinerv", (19,)),
        ("hnerv-boost", (17,)),
        ("hnerv-boost", (3, 13, 2)),
        ("ffnerv", (9,)),
    ],
)
def test_a_resumed_phase_ends_the_same(
    model: str, compression: str, calls: tuple[int, ...], tmp_path: Path
) -> None:
    output = tmp_path / "a.nerv"
    options: dict[str, Any] = {"model": model, "compression": compression}
    encode(output, **options)
    content = output.read_bytes()
    output.unlink()
    for count in calls:
        with pytest.raises(Interrupted):
            encode(output, stop=stop_after(count), **options)
    report = encode(output, **options)
    assert output.read_bytes() == content
    assert report.steps == 20
    assert [path.name for path in tmp_path.iterdir()] == ["a.nerv"]


def test_another_compression_does_not_go_on(tmp_path: Path) -> None:
    output = tmp_path / "a.nerv"
    with pytest.raises(Interrupted):
        encode(output, compression="hinerv", stop=stop_after(18))
    own = replace(COMPRESSIONS["hinerv"], stages=(Prune(0.16), QuantNoise()))
    for other in (None, "hnerv", own):
        with pytest.raises(SourceError, match=r"another encode \(compression: hinerv -> "):
            encode(output, compression=other)


def test_progress_tells_the_seconds_of_all_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"fit": 100.0, "fine-tune": 7.0, "quantization noise": 3.0}

    def timed(*arguments: Any, phase: str, **options: Any) -> Any:
        made = fit(*arguments, phase=phase, **options)
        return replace(made, seconds=seconds[phase])

    monkeypatch.setattr(job, "fit", timed)
    assert encode(tmp_path / "a.nerv", compression="hinerv").fit_seconds == 110


def test_a_compression_of_ones_own(tmp_path: Path) -> None:
    """A 3-bit method: every value is one of 7 levels, and half of the weights are 0."""
    own = Compression((QuantizationAware(bits=3), Prune(0.5)), bits=4, embedding_bits=4)
    report = encode(tmp_path / "a.nerv", model="nerv", compression=own)
    assert report.published_bpp is None
    assert report.steps == 20
    with nervkit.open(tmp_path / "a.nerv") as opened:
        stored = opened.model.stored()
    step = float(ladder_step(np.array(round((math.log2(1 / 3) + 24) * 16))))
    for name, tensor in stored.items():
        q = tensor / step
        assert torch.equal(q, q.round()) and q.abs().max() <= 3, name
    weights = torch.cat([w.flatten() for w in stored.values() if w.ndim > 1])
    assert (weights == 0).float().mean() >= 0.5


def test_segments_add_up(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv", video(6), segments=3, compression="hnerv", model="nerv")
    assert len(report.segments) == 2
    alone = [
        encode(tmp_path / f"{k}.nerv", video(6)[k : k + 3], compression="hnerv", model="nerv")
        for k in (0, 3)
    ]
    assert report.published_bpp == pytest.approx(sum(r.published_bpp for r in alone) / 2)


# Quantizers


@pytest.mark.parametrize("bits", [2, 6, 8])
def test_quantization_aware_values_are_tanh_rounded_towards_zero(bits: int) -> None:
    model = network(NeRV)
    codec = TanhQuantizer(model, QuantizationAware(bits))
    values = {name: p.detach().mul(3).requires_grad_() for name, p in model.named_parameters()}
    seen, _ = codec(values)
    assert set(seen) == set(values)
    n = 2 ** (bits - 1) - 1
    step = float(ladder_step(np.array(codec.index)))
    assert abs(math.log2(step * n)) <= 1 / 32  # the nearest of 16 in an octave
    for name, value in values.items():
        slow = [math.copysign(math.floor(abs(math.tanh(w)) * n), w) for w in value.flatten()[:50]]
        found = seen[name].detach().flatten()[:50] / step
        # A value at a border may fall to either side in another precision.
        assert (found - torch.tensor(slow)).abs().gt(0).sum() <= 1, name
        (gradient,) = torch.autograd.grad(seen[name].sum(), value)
        expected = (1 - value.detach().tanh().square()) * n * step
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("probability", [0.0, 0.9, 1.0])
def test_quantization_noise_rounds_its_share_without_a_gradient(probability: float) -> None:
    model = network(HNeRV)
    codec = NoiseQuantizer(model, QuantNoise(6, probability))
    values = dict(model.named_parameters())
    torch.manual_seed(1)
    seen, _ = codec(values)
    assert codec.names and all(values[name].ndim > 1 for name in codec.names)
    assert set(codec.names) == {
        name for name, value in model.stored().items() if value.ndim > 1 and name in values
    }
    kept = count = 0
    for name in codec.names:
        (gradient,) = torch.autograd.grad(seen[name].sum(), values[name])
        assert set(gradient.unique().tolist()) <= {0.0, 1.0}
        passed = gradient.bool()
        assert torch.equal(seen[name][passed], values[name][passed])
        levels = codec.levels(name, values[name].detach())
        rounded = levels.q * levels.step
        assert torch.equal(seen[name][~passed], rounded[~passed])
        kept, count = kept + int(passed.sum()), count + passed.numel()
    spread = 4 * math.sqrt(count * probability * (1 - probability)) / count
    assert kept / count == pytest.approx(1 - probability, abs=spread)


@pytest.mark.parametrize(
    ("shape", "axis"), [((30, 4, 3, 3), 0), ((4, 30, 3, 3), 1), ((20, 20), None), ((3, 21), 1)]
)
def test_quantization_noise_has_steps_along_the_longer_axis(
    shape: tuple[int, ...], axis: int | None
) -> None:
    codec = NoiseQuantizer(network(NeRV), QuantNoise(6))
    torch.manual_seed(0)
    value = torch.randn(shape)
    q, step, index, found = codec.levels("any", value)
    assert found == axis
    assert index.shape == (1 if axis is None else shape[axis],)
    assert torch.equal(step.flatten(), codec.ladder[index])
    assert q.abs().max() <= 31
    rows = value[None] if axis is None else value.movedim(axis, 0)
    for row, at in zip(rows, codec.ladder[index], strict=True):
        # The least step of the ladder that covers the row's largest value.
        assert at / 2 ** (1 / 16) * 31 < row.abs().max() * (1 + 1e-5) <= at * 31 * (1 + 1e-4)
    assert ((q * step - value).abs() <= step / 2 * (1 + 1e-4)).all()


def test_the_bits_in_the_loss_are_a_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    code = 5 * torch.randn(40, 30, generator=generator, dtype=torch.float64) + 2
    torch.manual_seed(3)
    bits = float(noisy_bits(code))
    torch.manual_seed(3)
    noisy = (code + torch.rand_like(code) - 0.5).numpy()
    mean, deviation = code.numpy().mean(), code.numpy().std()
    mass = norm.cdf(noisy + 0.5, mean, deviation) - norm.cdf(noisy - 0.5, mean, deviation)
    assert bits == pytest.approx(-np.log2(mass + 1e-5).sum(), rel=1e-5)
    # What it stands for is what the integers take.
    assert bits == pytest.approx(gaussian_bits(code.round().numpy()), rel=0.02)


@pytest.mark.parametrize("count", [1, 7])
def test_a_tensor_of_one_value_takes_no_bits(count: int) -> None:
    code = torch.full((count,), 3.0, requires_grad=True)
    bits = noisy_bits(code)
    bits.backward()
    assert float(bits.detach()) < 0.01
    assert code.grad.isfinite().all()


def test_bits_are_in_the_loss_while_they_are_too_many() -> None:
    model = network(NeRV)
    values, count = named_tensors(model), sum(t.numel() for t in model.stored().values())
    loss, aim = torch.tensor(0.25), LOSSES["mse"]

    def objective(target: float) -> tuple[float, EntropyQuantizer]:
        codec = EntropyQuantizer(model, EntropyMinimisation(target_bits=target, weight=0.3), 384)
        torch.manual_seed(0)
        _, codes = codec(values)
        return float(codec.objective(loss, loss, aim, codes).detach()), codec

    torch.manual_seed(0)
    codec = objective(1.0)[1]
    _, codes = codec(values)
    torch.manual_seed(0)
    bits = sum(float(noisy_bits(code).detach()) for code in codes)
    assert objective(1.01 * bits / count)[0] == pytest.approx(math.log(0.25))
    assert objective(0.99 * bits / count)[0] == pytest.approx(
        math.log(0.25) + 0.3 * bits / 384, rel=1e-4
    )


def test_the_first_steps_are_of_8_bits_and_are_learned() -> None:
    model = network(GridNeRV)
    codec = EntropyQuantizer(model, EntropyMinimisation(), 384)
    seen, codes = codec(named_tensors(model))
    for name, tensor in model.stored().items():
        assert (seen[name] - tensor).abs().max() <= max(float(tensor.abs().max()), 0.01) / 240, name
    codec.objective(torch.tensor(1.0), torch.tensor(1.0), LOSSES["mse"], codes).backward()
    assert codec.log_steps.grad.isfinite().all()
    assert (codec.log_steps.grad <= 0).all()  # larger steps take fewer bits
    assert (codec.log_steps.grad < 0).sum() > len(codec.names) / 2


def test_embeddings_that_come_from_frames_are_seen_as_they_are_stored() -> None:
    """HNeRV's encoder makes them and learns through their rounding; their bits cover all frames."""
    earlier = network(HNeRV)
    earlier.embedding.normal_()
    fitted = stepper(HNeRV, codec=EntropyQuantizer(earlier, EntropyMinimisation(), 384))
    model, codec = fitted.model, fitted.codec
    frames = torch.rand(2, 3, 16, 24)
    codec(named_tensors(model))
    made = model.encode(frames)
    q, step, _, _ = codec.levels("embedding", made.detach())
    assert torch.equal(made, q * step)
    assert len(q.unique()) > 20
    made.sum().backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    plain = codec.objective(torch.tensor(1.0), torch.tensor(1.0), LOSSES["mse"], [])
    code = codec._embedded["embedding"]
    assert len(code) == 2
    assert float(plain.detach()) == 0.0  # few bits
    codec.target = 1.0
    torch.manual_seed(0)
    weighted = float(
        codec.objective(torch.tensor(1.0), torch.tensor(1.0), LOSSES["mse"], []).detach()
    )
    torch.manual_seed(0)
    expected = 0.05 / 384 * float(noisy_bits(code).detach()) * 5 / 2
    assert weighted == pytest.approx(expected, rel=1e-4)
    model.quantize_embedding = None
    assert not torch.equal(model.encode(frames), made)


@pytest.mark.parametrize("model", CLASSES)
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_normalized_scores_are_over_the_root_of_the_count(
    model: type[Representation], share: float
) -> None:
    pruned, before = network(model), network(model).stored()
    keep = prune(pruned, share, "normalized")
    scores = {name: before[name].abs() / before[name].numel() ** 0.5 for name in keep}
    ordered = sorted(value for score in scores.values() for value in score.flatten().tolist())
    threshold = ordered[int(share * len(ordered)) - 1]
    for name, mask in keep.items():
        assert torch.equal(mask != 0, scores[name] > threshold), name
        assert torch.equal(pruned.stored()[name], before[name] * mask), name
    plain = prune(network(model), share)
    assert any(not torch.equal(plain[name], keep[name]) for name in keep)


# What papers count


@pytest.mark.parametrize(
    ("counts", "bits"),
    [
        # Lengths 3, 3, 2, 2, 2 for 1, 1, 2, 2, 2; 4, 4, 3, 2, 1 for 1, 1, 2, 4, 8; ...
        ([1, 1, 2, 2, 2], 3 + 3 + 2 * 6),
        ([1, 1, 2, 4, 8], 4 + 4 + 6 + 8 + 8),
        ([5, 5], 10),
        ([9], 9),
    ],
)
def test_huffman_codes(counts: list[int], bits: int) -> None:
    values = np.repeat(np.arange(len(counts)) - 2, counts)
    assert huffman_bits(np.random.default_rng(0).permutation(values)) == bits


def test_a_huffman_code_is_within_a_bit_of_the_entropy() -> None:
    values = np.rint(np.random.default_rng(1).laplace(0, 4, 5000)).astype(np.int32)
    assert entropy(values) <= huffman_bits(values) < entropy(values) + 5000


def test_nerv_counts_what_is_left() -> None:
    tensors = [
        accounted([[0, 1], [2, 2]], alive=[[0, 1], [1, 1]]),
        accounted([1, 0], alive=[1, 1]),
    ]
    assert nerv_bits(tensors) == huffman_bits(np.array([1, 2, 2, 1, 0]))


def test_hnerv_counts_minima_and_scales() -> None:
    tensors = [accounted([[0, 1], [2, 2]], steps=2), accounted([1, 0])]
    values = np.array([0, 1, 2, 2, 1, 0])
    assert hnerv_bits(tensors) == huffman_bits(values) + 32 * 3
    assert ffnerv_bits(tensors) == huffman_bits(values)


def test_boost_counts_gaussians_with_their_parameters() -> None:
    generator = np.random.default_rng(0)
    weights, embedding = generator.integers(-9, 9, (20, 30)), generator.integers(-5, 5, (3, 40))

    def slow(values: np.ndarray) -> float:
        mean, deviation = values.mean(), values.std()
        edges = norm.cdf(np.stack([values - 0.5, values + 0.5]), mean, deviation)
        return float(-np.log2(edges[1] - edges[0] + 1e-5).sum())

    assert boost_bits([accounted(weights)]) == pytest.approx(slow(weights) + 32 * 3)
    assert boost_bits([accounted(embedding, embedding=True)]) == pytest.approx(
        sum(map(slow, embedding)) + 32 * (2 * 3 + 2)
    )


def test_hinerv_counts_masks_and_what_is_left() -> None:
    values, alive = [[0, 1, 2], [2, 0, 2]], [[0, 1, 1], [1, 0, 1]]
    which = 6 * -(2 / 6 * math.log2(2 / 6) + 4 / 6 * math.log2(4 / 6))
    left = 4 * -(1 / 4 * math.log2(1 / 4) + 3 / 4 * math.log2(3 / 4))
    assert hinerv_bits([accounted(values, alive, steps=2)]) == pytest.approx(which + left + 32)
    assert hinerv_bits([accounted([5, 5, 0])]) == 48  # a vector is not quantized there
    assert hinerv_bits([accounted([[0, 0]], [[0, 0]])]) == 16


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "gzip"}, "unknown compression 'gzip'; choose from: nerv, hnerv, ffnerv"),
        ({"compression": 7}, "unknown compression 7"),
        ({"compression": "nerv", "prune": 0.1}, "leave out prune"),
        ({"compression": "nerv", "bits": 6}, "leave out bits"),
        ({"compression": "nerv", "embedding_bits": 6}, "leave out bits and embedding_bits"),
        ({"compression": "nerv", "target_size": 9000}, "compression excludes a target"),
        ({"compression": "nerv", "target_bpp": 0.1}, "compression excludes a target"),
        ({"compression": "nerv", "target_psnr": 30}, "compression excludes a target"),
        ({"compression": "paper"}, "of gridnerv has no compression"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        nervkit.encode(tmp_path / "missing.mp4", tmp_path / "a.nerv", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Prune(1.0), "prune must lie in 0 to 1"),
        (lambda: Prune(0.1, "best"), "score must be magnitude or normalized"),
        (lambda: Prune(0.1, epochs=0), "epochs must be a whole number from 1"),
        (lambda: QuantNoise(13), "bits must be a whole number"),
        (lambda: QuantNoise(probability=1.5), "probability must lie in 0 to 1"),
        (lambda: QuantizationAware(rate=0.0), "rate must be a positive number"),
        (lambda: EntropyMinimisation(target_bits=math.inf), "target_bits must be a positive"),
        (lambda: Compression(bits=1), "bits must be a whole number"),
        (lambda: Compression((Prune(0.1), Prune(0.2))), "one stage of each kind"),
        (lambda: Compression((Prune(0.1), QuantizationAware())), "only the first stage"),
    ],
)
def test_impossible_stages_are_usage_errors(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made()


def test_the_command_compresses_and_tells_both_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", video())
    options = "encode clip.npy -o a.nerv --model hnerv --steps 12 --params 5k --json"
    done = run_nervkit(*options.split(), "--compression", "hnerv", cwd=tmp_path, code=0)
    report = json.loads(done.stdout)
    published = f"{report['published_bpp']:.4f} bpp ({report['published_counts']})"
    line = f"by the paper's accounting: {published}; the file: {report['bpp']:.4f} bpp"
    assert line in done.stderr
    refused = run_nervkit(
        *options.split(), "--compression", "hnerv", "--prune", "0.2", cwd=tmp_path, code=2
    )
    assert refused.stderr.strip().count("\n") == 0
    assert "leave out --prune" in refused.stderr


def test_help_lists_all_compressions() -> None:
    annotation = inspect.signature(encode_command, eval_str=True).parameters["compression"]
    (option,) = annotation.annotation.__metadata__
    assert all(f" {name}," in option.help for name in (*COMPRESSIONS,))


def test_a_models_own_compression_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = NeRV.recipes | {"paper": replace(NeRV.recipes["paper"], compression="gzip")}
    monkeypatch.setattr(NeRV, "recipes", recipes)
    with pytest.raises(UsageError, match="unknown compression 'gzip'"):
        FitOptions(model="nerv", compression="paper")
    with pytest.raises(ModelError, match="a recipe's compression must be a name"):
        replace(NeRV.recipes["paper"], compression=3)
