"""The metric that a fit optimises and reports: RGB, or 4:2:0 planes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nervkit
from nervkit.container.header import MATRICES, RANGES
from nervkit.errors import Interrupted, ModelError, SourceError, UsageError
from nervkit.fitting.loop import Stepper
from nervkit.fitting.losses import LOSSES
from nervkit.fitting.metric import (
    DETAIL,
    PLANE_FLOOR,
    YUV,
    Metric,
    PlanesMetric,
    loss_of,
    metric_of,
)
from nervkit.metrics import mean_quality, psnr_planes, psnr_yuv
from nervkit.metrics.quality import Quality
from nervkit.models.blocks import in_patches
from nervkit.models.config import VideoShape
from nervkit.models.contract import check_model
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig
from nervkit.models.hnerv import HNeRV
from nervkit.models.recipe import Recipe
from nervkit.video.clip import Clip
from nervkit.video.colour import LUMA_WEIGHTS, Colour
from nervkit.video.planes import Planes, yuv_transform
from tests.test_target import waves

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
COLOURS = [
    Colour(MATRICES[matrix], RANGES[range], rgb_matrix=matrix, rgb_range=range)
    for matrix in MATRICES
    for range in RANGES
]


def slow_planes(frame: list[list[list[Tensor]]], colour: Colour) -> list[list[list[Tensor]]]:
    """Full-size Y, U and V, in 8-bit samples / 255, of frame[colour][row][column], pixel by pixel,
    by H.273."""
    red, blue = LUMA_WEIGHTS[colour.rgb_matrix]
    luma_scale, chroma_scale = (219, 224) if colour.rgb_range == "limited" else (255, 255)
    planes: list[list[list[Tensor]]] = [[], [], []]
    for row in zip(*frame, strict=True):
        for plane in planes:
            plane.append([])
        for r, g, b in zip(*row, strict=True):
            y = red * r + (1 - red - blue) * g + blue * b
            u, v = 0.5 * (b - y) / (1 - blue), 0.5 * (r - y) / (1 - red)
            planes[0][-1].append(luma_scale / 255 * y)
            planes[1][-1].append(chroma_scale / 255 * u)
            planes[2][-1].append(chroma_scale / 255 * v)
    return planes


def slow_loss(output: Tensor, target: Tensor, colour: Colour) -> Tensor:
    """The loss of (B, 3, H, W) frames through the full path RGB -> YUV -> 4:2:0, block by block."""
    total = output.new_zeros(())
    for x, y in zip(output, target, strict=True):
        shown, wanted = (slow_planes([[list(r) for r in c] for c in z], colour) for z in (x, y))
        height, width = x.shape[1:]
        errors = [
            [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(p, q, strict=True)]
            for p, q in zip(shown, wanted, strict=True)
        ]
        luma = sum(e**2 for row in errors[0] for e in row) / (height * width)
        total = total + 6 / 8 * torch.log(luma + PLANE_FLOOR)
        for plane in errors[1:]:
            squares = output.new_zeros(())
            for top in range(0, height, 2):
                for left in range(0, width, 2):
                    block = [e for row in plane[top : top + 2] for e in row[left : left + 2]]
                    mean = sum(block) / len(block)
                    squares = squares + len(block) * mean**2
                    squares = squares + DETAIL**2 * sum((e - mean) ** 2 for e in block)
            total = total + 1 / 8 * torch.log(squares / (height * width) + PLANE_FLOOR)
    return total / len(output)


def pair(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(2, 3, height, width, generator=generator)
    near = target + 0.05 * torch.randn(target.shape, generator=generator)
    return near.requires_grad_(), target


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_the_transform_is_that_of_the_converted_planes(colour: Colour) -> None:
    matrix, offsets = yuv_transform(colour)
    for rgb in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 180, 30)):
        frame = np.full((4, 4, 3), rgb, np.uint8)
        planes = Planes.from_rgb(frame, colour)
        expected = 255 * (matrix @ (np.array(rgb) / 255) + offsets)
        made = (planes.y[1, 1], planes.u[1, 1], planes.v[1, 1])
        assert np.abs(expected - made).max() < 1.5, rgb


@pytest.mark.parametrize("colour", COLOURS[:4], ids=str)
@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7)])
def test_loss_and_gradient_are_those_of_all_planes(colour: Colour, height: int, width: int) -> None:
    x, y = pair(height, width)
    exact = x.detach().double().requires_grad_()
    expected = slow_loss(exact, y.double(), colour)
    expected.backward()
    loss = PlanesMetric(colour, None, CPU).loss(LOSSES["log_mse"], x, y)
    loss.backward()
    torch.testing.assert_close(loss, expected.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("patch", [2, 4])
def test_patches_have_the_loss_and_gradient_of_frames(patch: int) -> None:
    x, y = pair(8, 12)
    metric = PlanesMetric(Colour(), patch, CPU)
    assert metric.by_value(LOSSES["log_mse"])
    loss = metric.loss(LOSSES["log_mse"], in_patches(x, patch), in_patches(y, patch))
    loss.backward()
    gradient, x.grad = x.grad, None
    expected = PlanesMetric(Colour(), None, CPU).loss(LOSSES["log_mse"], x, y)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient, x.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("strides", [(2, 4), (2, 3), (1,)])
def test_a_step_does_not_depend_on_how_values_lie(strides: tuple[int, ...]) -> None:
    """Patches of an odd size, which split chroma samples, are compared as frames."""
    shape = VideoShape(4, 24, 24)
    frames = torch.from_numpy(waves(4, 24, 24)).permute(0, 3, 1, 2)
    fitted = []
    for patch in (strides[-1], None):
        torch.manual_seed(0)
        ones = (1,) * len(strides)
        config = GridNeRVConfig(strides=strides, widths=(8,) * len(strides), depths=ones)
        model = GridNeRV(config, shape)
        stepper = Stepper(
            model, frames, GridNeRV.recipes["native"], metric=PlanesMetric(Colour(), patch, CPU)
        )
        assert stepper.metric.by_value(LOSSES["log_mse"]) == (patch is not None and patch % 2 == 0)
        errors = [float(stepper.step(k, 0.1)) for k in range(3)]
        fitted.append((errors, model.head.weight.detach().clone()))
    assert fitted[0][0] == pytest.approx(fitted[1][0], rel=1e-3)
    torch.testing.assert_close(fitted[0][1], fitted[1][1], rtol=1e-2, atol=1e-3)


def test_psnr_is_that_of_planes() -> None:
    """Except for swscale's chroma filter, which covers more pixels."""
    frames = waves(2, 32, 48)
    noisy = np.clip(frames + np.random.default_rng(0).normal(0, 4, frames.shape), 0, 255)
    noisy = noisy.round().astype(np.uint8)
    tensors = [torch.from_numpy(f).permute(0, 3, 1, 2) / 255 for f in (noisy, frames)]
    for colour in COLOURS[:4]:
        found = PlanesMetric(colour, None, CPU).psnr(*tensors)
        expected = [
            psnr_yuv(*psnr_planes(*(Planes.from_rgb(f, colour) for f in two), 32, 48))
            for two in zip(frames, noisy, strict=True)
        ]
        assert found.tolist() == pytest.approx(expected, abs=0.5)
    y = torch.rand(1, 3, 4, 4)
    assert float(PlanesMetric(Colour(), None, CPU).psnr(y, y)) == pytest.approx(100)


def test_planes_of_odd_pictures_count_without_their_padding() -> None:
    frames = waves(2, 7, 9)
    planes = [Planes.from_rgb(f, Colour()) for f in frames]
    padded = replace(planes[1], y=planes[1].y.copy())
    padded.y[7:], padded.y[:, 9:] = 0, 255
    assert psnr_planes(planes[0], padded, 7, 9) == psnr_planes(*planes, 7, 9)


def test_losses_of_recipes() -> None:
    recipe = Recipe(loss="mse", lr=1e-3, batch=1, epochs=1)
    assert loss_of("rgb", recipe) is LOSSES["mse"]
    assert loss_of(YUV, recipe) is LOSSES["log_mse"]
    assert loss_of("rgb", replace(recipe, loss="fusion6")) is LOSSES["fusion6"]
    with pytest.raises(UsageError, match="fusion6, which is of RGB frames"):
        loss_of(YUV, replace(recipe, loss="fusion6"))
    with pytest.raises(UsageError, match="unknown metric 'ssim'; choose from: rgb, yuv"):
        loss_of("ssim", recipe)


def test_a_models_metric() -> None:
    shape = VideoShape(2, 24, 32)
    grid, hnerv = GridNeRV(GridNeRVConfig(), shape), HNeRV(HNeRV.configure(shape, 9_000), shape)
    assert metric_of("rgb", Colour(), grid, CPU).by_value(LOSSES["mse"])
    assert not metric_of("rgb", Colour(), grid, CPU).by_value(LOSSES["fusion6"])
    assert metric_of(YUV, Colour(), grid, CPU).by_value(LOSSES["log_mse"])
    assert not metric_of(YUV, Colour(), hnerv, CPU).by_value(LOSSES["log_mse"])


def test_known_values_are_of_rgb() -> None:
    frames = torch.zeros(2, 3, 24, 32, dtype=torch.uint8)
    model = GridNeRV(GridNeRVConfig(), VideoShape(2, 24, 32))
    metric = metric_of(YUV, Colour(), model, CPU)
    with pytest.raises(ValueError, match="known values"):
        Stepper(model, frames, GridNeRV.recipes["native"], known=frames, metric=metric)
    assert Stepper(model, frames, GridNeRV.recipes["native"], known=frames).metric.name == "rgb"


def test_a_model_may_not_lie_about_its_patches() -> None:
    class Wrong(HNeRV):
        value_patch = 2

    with pytest.raises(ModelError, match="value_patch says patches of 2"):
        check_model("wrong", Wrong)


def test_means_of_quality_are_of_what_was_measured() -> None:
    assert mean_quality([Quality(30, 0.5, 33.0), Quality(40, None, 35.0)]) == Quality(35, 0.5, 34)
    assert mean_quality([Quality(30, 0.5)]).psnr_yuv is None


def encode(path: Path, source: Any = None, **options: Any) -> nervkit.EncodeReport:
    options = {"steps": 80, "overwrite": True, "device": "cpu", "metric": "yuv"} | options
    return nervkit.encode(waves() if source is None else source, path, **options)


@pytest.mark.parametrize("model", ["gridnerv", "hnerv"])
def test_a_fit_for_planes_is_better_in_planes(bunny: Path, tmp_path: Path, model: str) -> None:
    clip = nervkit.read_clip(bunny, resize="96x48", frames="0:8")
    planes = [Planes.from_rgb(f, clip.colour) for f in clip.frames]

    def quality(metric: str) -> tuple[float, nervkit.EncodeReport]:
        path = tmp_path / f"{metric}.nerv"
        report = encode(path, clip, metric=metric, model=model, steps=100)
        shown = [Planes.from_rgb(f, clip.colour) for f in nervkit.open(path)[:]]
        pairs = zip(planes, shown, strict=True)
        return np.mean([psnr_yuv(*psnr_planes(a, b, 48, 96)) for a, b in pairs]), report

    (by_rgb, rgb), (by_planes, yuv) = quality("rgb"), quality("yuv")
    assert by_planes > by_rgb + 0.1
    assert yuv.psnr > rgb.psnr - 2  # colours of single pixels do not drift
    assert (rgb.metric, rgb.psnr_yuv, yuv.metric) == ("rgb", None, "yuv")
    assert yuv.psnr_yuv == pytest.approx(by_planes)
    assert yuv.to_dict()["psnr_yuv"] == yuv.psnr_yuv
    assert "metric yuv" in yuv.settings and "metric rgb" in rgb.settings
    assert nervkit.info(tmp_path / "yuv.nerv")["metric"] == "yuv"
    checked = nervkit.verify(tmp_path / "yuv.nerv", bunny)
    assert checked.psnr_yuv == pytest.approx(yuv.psnr_yuv)
    assert np.mean(checked.frame_psnr_yuv) == pytest.approx(yuv.psnr_yuv)
    assert nervkit.verify(tmp_path / "rgb.nerv", bunny).psnr_yuv == pytest.approx(by_rgb)


def test_progress_is_in_the_metric(tmp_path: Path) -> None:
    last: list[Any] = []
    report = encode(tmp_path / "a.nerv", on_progress=last.append, bits=8)
    assert last[-1].psnr == pytest.approx(report.psnr_yuv, abs=1)
    assert abs(last[-1].psnr - report.psnr) > 2


def test_a_size_may_be_asked_for_beside(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv", target_size=6_000)
    assert abs(report.bytes - 6_000) <= 120
    assert math.isfinite(report.psnr_yuv)


def test_pruning_and_odd_sizes(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv", waves(4, 35, 51), prune=0.2, steps=20)
    assert (report.width, report.height) == (51, 35)
    assert report.psnr_yuv > 15


def test_a_checkpoint_is_of_one_metric(tmp_path: Path) -> None:
    source = Clip(waves(), nervkit.read_clip(waves()).timing)

    def stopped(**options: Any) -> None:
        calls = iter(range(1000))
        encode(tmp_path / "a.nerv", source, stop=lambda: next(calls) == 9, **options)

    with pytest.raises(Interrupted):
        stopped()
    with pytest.raises(SourceError, match="metric: yuv -> rgb"):
        stopped(metric="rgb")
    source.colour = replace(source.colour, matrix=1, rgb_matrix="bt709")
    with pytest.raises(SourceError, match=r"planes: .*bt709"):
        stopped()
    source.colour = Colour()
    once, again = tmp_path / "once.nerv", tmp_path / "a.nerv"
    encode(once, source)
    encode(again, source)
    assert once.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "vmaf"}, "unknown metric 'vmaf'; choose from: rgb, yuv"),
        ({"model": "nerv", "recipe": "paper"}, "the recipe paper of nerv has fusion6, which is"),
    ],
)
def test_impossible_metrics(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode(tmp_path / "a.nerv", "missing.mp4", **options)
    assert not list(tmp_path.iterdir())


def test_rgb_stays_the_recipes_own_loss() -> None:
    x, y = pair(4, 4)
    for loss in LOSSES.values():
        torch.testing.assert_close(Metric().loss(loss, x, y), loss.function(x, y))
