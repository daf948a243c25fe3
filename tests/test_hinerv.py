"""HiNeRV: published sizes, frames and patches of frames, and its loss."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import nervkit
from nervkit.errors import ModelError, UsageError
from nervkit.fitting.loop import Stepper
from nervkit.fitting.losses import fusion10_5x5, ms_ssim
from nervkit.metrics import msssim
from nervkit.models.base import GRID, SENSITIVE, count_stored
from nervkit.models.complexity import decode_macs
from nervkit.models.config import VideoShape
from nervkit.models.contract import check_model
from nervkit.models.hinerv import HiNeRV, HiNeRVConfig, Span
from nervkit.models.recipe import Loss, Recipe
from tests.test_fitting import video

pytestmark = pytest.mark.usefixtures("one_thread")

BUNNY = VideoShape(132, 720, 1280)
UVG = VideoShape(600, 1080, 1920)
SMALL = VideoShape(6, 45, 62)  # inside 48x72, on a grid of 4x6
TINY: dict[str, Any] = {
    "strides": (3, 2, 2),
    "width": 20,
    "depths": (2, 1, 2),
    "expansions": (2, 3, 1),
    "base_knots": 5,
    "base_channels": 2,
    "local_knots": 4,
    "local_channels": 3,
}


def small(shape: VideoShape = SMALL) -> HiNeRV:
    """A model in which no part keeps its special initial value, ready to decode."""
    torch.manual_seed(0)
    model = HiNeRV(HiNeRVConfig(**TINY), shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model.eval()


# Sizes


@pytest.mark.parametrize(
    ("width", "channels", "grids", "count", "gmacs"),
    [
        (136, 2, 92_160 + 45_936, 766_691, 23),
        (196, 4, 184_320 + 90_288, 1_585_666, 47),
        (280, 8, 368_640 + 180_576, 3_249_819, 95),
    ],
)
def test_hinerv_has_the_published_counts(
    width: int, channels: int, grids: int, count: int, gmacs: int
) -> None:
    sizes = {"width": width, "base_channels": channels, "local_channels": 2 * channels}
    config = replace(HiNeRVConfig(), **sizes)
    assert HiNeRV.configure(BUNNY, **sizes) == config
    assert HiNeRV.configure(BUNNY, count) == config
    model = HiNeRV.skeleton(config, BUNNY)
    assert count_stored(model) == count
    assert sum(grid.numel() for grid in model.embeddings().values()) == grids
    assert round(decode_macs(HiNeRV, config, BUNNY) / 1e9) == gmacs


def test_hinerv_s_of_1080p_has_the_published_size_and_work() -> None:
    config = HiNeRV.configure(UVG, width=280, base_knots=150, base_channels=2, local_channels=4)
    assert config.strides == (5, 3, 2, 2)
    assert config.local_knots == 600
    assert round(count_stored(HiNeRV.skeleton(config, UVG)) / 1e6, 2) == 3.19
    assert round(decode_macs(HiNeRV, config, UVG) / 1e9) == 181


@pytest.mark.parametrize("frames", [1, 30, 3000])
@pytest.mark.parametrize("target", [60_000, 350_000, 1_500_000])
def test_hinerv_meets_its_target_from_below(frames: int, target: int) -> None:
    shape = VideoShape(frames, 121, 161)
    model = HiNeRV.skeleton(HiNeRV.configure(shape, target), shape)
    assert 0.93 * target < count_stored(model) <= target
    grids = sum(grid.numel() for grid in model.embeddings().values())
    assert grids <= 0.31 * target


def test_fields_that_are_given_stay() -> None:
    options = {"width": 30, "base_channels": 3, "local_knots": 2, "expansions": (2, 2)}
    config = HiNeRV.configure(SMALL, 60_000, strides=(3, 4), **options)
    assert options.items() <= asdict(config).items()
    assert config.depths == (3, 1)
    with pytest.raises(UsageError, match="strides, depths, expansions must be lists of the same"):
        HiNeRV.configure(SMALL, 60_000, strides=(3, 4), depths=(1,))
    with pytest.raises(UsageError, match="width must lie in 4 to 4096"):
        HiNeRV.configure(SMALL, width=3)


def test_widths_are_halved_down_to_four() -> None:
    assert HiNeRVConfig(width=196).widths() == [196, 98, 49, 24]
    assert HiNeRVConfig(width=20).widths() == [20, 10, 5, 4]


def test_muon_gets_the_linear_maps_of_the_blocks() -> None:
    model = small()
    blocks = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    parts = ("expand", "project")
    assert list(model.matrices()) == [
        f"stages.{i}.blocks.{j}.{part}.weight" for i, j in blocks for part in parts
    ]


def test_tensors_are_coded_by_what_they_are() -> None:
    model = small()
    kinds = model.kinds()
    assert {kinds[name] for name in model.embeddings()} == {GRID}
    assert len(model.embeddings()) == 2 + 3 * 3
    assert kinds["stages.0.blocks.0.depthwise.weight"] == SENSITIVE


def test_the_papers_recipe_is_the_published_one() -> None:
    recipe = HiNeRV.recipes["paper"]
    assert (recipe.loss, recipe.lr, recipe.betas) == ("fusion10_5x5", 2e-3, (0.9, 0.999))
    assert (recipe.batch, recipe.epochs, recipe.most_norm) == (1, 300, 1.0)
    assert (recipe.warmup, recipe.warmup_from, recipe.decay) == (0.1, 0.01, "cosine")
    assert recipe.matrix_lr is None


def test_hinerv_is_a_model() -> None:
    check_model("another", HiNeRV)


# A frame, from the equations


def normed(x: Tensor) -> Tensor:
    """(C, H, W): the channels of every pixel minus their mean, divided by their deviation."""
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-6).sqrt()


def upsampling(rows: int, stride: int) -> Tensor:
    """(rows * stride, rows): bilinear weights along an axis; the edge is repeated."""
    matrix = torch.zeros(rows * stride, rows, dtype=torch.float64)
    for out in range(rows * stride):
        at = min(max((out + 0.5) / stride - 0.5, 0), rows - 1)
        low = int(at)
        matrix[out, low] += 1 - (at - low)
        matrix[out, min(low + 1, rows - 1)] += at - low
    return matrix


def at(grid: Tensor, t: float, frames: int) -> Tensor:
    """A grid at a time between the centres of its knots; the ends are repeated."""
    place = min(max((t + 0.5) * len(grid) / frames - 0.5, 0), len(grid) - 1)
    low = int(place)
    return (1 - (place - low)) * grid[low] + (place - low) * grid[min(low + 1, len(grid) - 1)]


def depthwise(x: Tensor, kernels: Tensor) -> Tensor:
    """(C, H, W): 3x3 of each channel, with zeros around the video."""
    x = F.pad(x, (1, 1, 1, 1))
    height, width = x.shape[1] - 2, x.shape[2] - 2
    taps = [(i, j) for i in range(3) for j in range(3)]
    return sum(
        kernels[:, 0, i, j, None, None] * x[:, i : i + height, j : j + width] for i, j in taps
    )


@torch.no_grad()
def reference(model: HiNeRV, t: float) -> Tensor:
    """(3, H, W), in float64, computed in full without optimizations."""
    frames, tensors = model.shape.frames, {k: v.double() for k, v in model.stored().items()}

    def linear(x: Tensor, name: str) -> Tensor:
        y = torch.einsum("oc,chw->ohw", tensors[f"{name}.weight"], x)
        bias = tensors.get(f"{name}.bias")
        return y if bias is None else y + bias[:, None, None]

    x = torch.cat([at(tensors[f"base.{level}"], t, frames) for level in range(2)])
    x = F.conv2d(x[None], tensors["stem.weight"], tensors["stem.bias"], padding=1)[0]
    for index, stride in enumerate(model.config.strides):
        x = normed(x)
        x = upsampling(x.shape[1], stride) @ x @ upsampling(x.shape[2], stride).T
        levels = [f"local.{3 * index + level}" for level in range(3)]
        local = linear(
            torch.cat([at(tensors[name], t, frames) for name in levels]),
            f"stages.{index}.encoding",
        )
        rows, columns = torch.arange(x.shape[1]), torch.arange(x.shape[2])
        x = x + local[:, (rows % stride)[:, None], columns % stride]
        for block in range(model.config.depths[index]):
            name = f"stages.{index}.blocks.{block}"
            y = normed(depthwise(x, tensors[f"{name}.depthwise.weight"]))
            y = linear(F.gelu(linear(y, f"{name}.expand")), f"{name}.project")
            x = x + y if x.shape == y.shape else y
    return linear(x, "head").sigmoid()[:, : model.shape.height, : model.shape.width]


@pytest.mark.parametrize("t", [0.0, 2.0, 3.25, 5.0])
def test_a_frame_is_that_of_the_equations(t: float) -> None:
    model = small()
    with torch.no_grad():
        shown = model(torch.tensor([t]))[0]
    assert shown.std() > 0.1
    torch.testing.assert_close(shown.double(), reference(model, t), rtol=0, atol=1e-5)


SPANS = [
    (Span(0, 45), Span(0, 62)),
    (Span(0, 1), Span(0, 1)),
    (Span(20, 32), Span(24, 48)),
    (Span(13, 14), Span(17, 40)),
    (Span(44, 45), Span(61, 62)),
    (Span(3, 45), Span(59, 62)),
]


@pytest.mark.parametrize(("rows", "columns"), SPANS)
def test_a_patch_is_the_part_of_the_frame(rows: Span, columns: Span) -> None:
    model = small()
    t = torch.tensor([0.0, 2.7])
    with torch.no_grad():
        frames, patch = model(t), model.patch(t, rows, columns)
    part = frames[..., slice(*rows), slice(*columns)]
    torch.testing.assert_close(patch, part, rtol=0, atol=1e-5)


def test_a_patch_has_the_gradients_of_the_part() -> None:
    model = small()
    t, rows, columns = torch.tensor([2.7]), Span(13, 30), Span(40, 62)

    def gradients(output: Tensor) -> list[Tensor]:
        model.zero_grad()
        output.square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    ours = gradients(model.patch(t, rows, columns))
    theirs = gradients(model(t)[..., slice(*rows), slice(*columns)])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_patch_costs_itself_and_what_is_around_it() -> None:
    shape = VideoShape(6, 480, 480)
    model = small(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.patch(torch.zeros(1), Span(240, 288), Span(240, 288))
    part = counter.get_total_flops() / 2 / decode_macs(HiNeRV, model.config, shape)
    assert 0.01 < part < 0.1  # it is a hundredth of the frame


def test_local_grids_repeat_in_every_cell() -> None:
    model = small(VideoShape(6, 48, 72))
    stage, seen = model.stages[1], []
    stage.blocks.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.zeros(1))
        for grid in model._local(1):
            grid.add_(torch.randn(grid.shape))
        model(torch.zeros(1))
    added = seen[1] - seen[0]
    assert added.abs().max() > 0.1
    torch.testing.assert_close(added[..., :, 2:], added[..., :, :-2], rtol=0, atol=1e-5)
    torch.testing.assert_close(added[..., 2:, :], added[..., :-2, :], rtol=0, atol=1e-5)
    assert (added[..., 1:, :] - added[..., :-1, :]).abs().max() > 0.1


def test_hinerv_starts_as_published() -> None:
    torch.manual_seed(0)
    model = HiNeRV(HiNeRVConfig(**TINY), SMALL)
    grids = torch.cat([grid.flatten() for grid in model.embeddings().values()])
    assert 0.9e-3 < grids.max() <= 1e-3
    assert -1e-3 <= grids.min() < -0.9e-3
    assert not any(v.any() for name, v in model.stored().items() if name.endswith("bias"))


@pytest.mark.parametrize("shape", [VideoShape(3, 121, 161), VideoShape(1, 121, 161)])
def test_frames_of_odd_sizes(shape: VideoShape) -> None:
    model = HiNeRV(HiNeRV.configure(shape, 60_000), shape).eval()
    with torch.no_grad():
        frames = model(torch.arange(float(shape.frames)))
    assert frames.shape == (shape.frames, 3, 121, 161)
    assert 0 <= frames.min() < frames.max() <= 1


# Fitting


def plain_ms_ssim(x: np.ndarray, y: np.ndarray, window: int, scales: int) -> float:
    """Of (H, W) planes of values in [0, 1], with a `window` of so many pixels."""
    inside = slice(window // 2, -(window // 2))

    def blurred(z: np.ndarray) -> np.ndarray:
        return gaussian_filter(z, 1.5, radius=window // 2)[inside, inside]

    exponents, value = np.array(msssim.WEIGHTS[:scales]), 1.0
    exponents *= sum(msssim.WEIGHTS) / exponents.sum()
    for scale, exponent in enumerate(exponents):
        mx, my = blurred(x), blurred(y)
        vx, vy, cov = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
        term = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
        if scale == scales - 1:
            term = term * (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        value *= max(term.mean(), 1e-6) ** exponent
        x, y = msssim._halved(x), msssim._halved(y)
    return value


@pytest.mark.parametrize(("size", "scales"), [((80, 97), 5), ((40, 64), 4), ((9, 30), 2)])
def test_the_loss_is_that_of_the_paper(size: tuple[int, int], scales: int) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.nn.functional.interpolate(
        torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64), size=size, mode="bicubic"
    )
    x = y + 0.05 * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    planes = zip(x.flatten(0, 1).numpy(), y.flatten(0, 1).numpy(), strict=True)
    expected = np.mean([plain_ms_ssim(a, b, 5, scales) for a, b in planes])
    assert 0.3 < expected < 0.99
    assert float(ms_ssim(x, y, 5)) == pytest.approx(expected, abs=1e-9)
    loss = 0.7 * float((x - y).abs().mean()) + 0.3 * (1 - expected)
    assert float(fusion10_5x5(x, y)) == pytest.approx(loss, abs=1e-9)


def test_ms_ssim_is_that_of_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    pair = torch.randint(0, 256, (2, 3, 165, 170), generator=generator)
    pair[1] = (pair[0] + torch.randint(-20, 20, pair[0].shape, generator=generator)).clamp(0, 255)
    a, b = (z.permute(1, 2, 0).byte().numpy() for z in pair)
    ours = ms_ssim(*(z[None].double() / 255 for z in pair))
    assert float(ours) == pytest.approx(msssim.ms_ssim(a, b), abs=1e-6)


def test_gradients_are_shortened_to_the_recipes_norm() -> None:
    frames = torch.from_numpy(video()).permute(0, 3, 1, 2)

    def norm(most: float | None) -> float:
        torch.manual_seed(0)
        model = HiNeRV(HiNeRVConfig(**TINY), VideoShape(5, 16, 24))
        loss = Loss("ten", lambda x, y: 10 * (x - y).abs().mean())
        recipe = Recipe(loss, lr=1e-9, batch=1, epochs=1, most_norm=most, precision="float32")
        Stepper(model, frames, recipe)._update(torch.tensor([1]))
        return float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())

    whole = norm(None)
    assert whole > 1
    assert norm(0.5) == pytest.approx(0.5, rel=1e-4)
    assert norm(2 * whole) == pytest.approx(whole, rel=1e-5)
    with pytest.raises(ModelError, match="most_norm must be a positive number"):
        Recipe("mse", lr=1e-3, batch=1, epochs=1, most_norm=0.0)


@pytest.mark.parametrize("size", [(3, 31, 41), (1, 16, 24)])
@pytest.mark.parametrize("options", [{}, {"target_size": "3k"}, {"bits": 6, "prune": 0.1}])
def test_a_file_decodes_to_what_was_encoded(
    size: tuple[int, int, int], options: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "a.nerv"
    source = video(*size)
    settings = {"model": "hinerv", "steps": 12, "params": 6000, "precision": "float32"}
    report = nervkit.encode(source, output, **settings | options)
    verdict = nervkit.verify(output, source)
    assert (verdict.identical, verdict.wrong) == (size[0], 0)
    assert verdict.psnr == pytest.approx(report.psnr)
    with nervkit.open(output) as opened:
        in_order = opened[:]
    with nervkit.open(output) as opened:
        for i in reversed(range(size[0])):
            assert np.array_equal(opened[i], in_order[i])
