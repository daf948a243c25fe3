"""The representations: published sizes, any frame size, and the contract of every model."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from nervkit.errors import UsageError
from nervkit.models import device as device_module
from nervkit.models import registry
from nervkit.models.base import MOTION, Representation, TooFewParametersError, count_stored
from nervkit.models.blocks import PositionalEncoding
from nervkit.models.boost import ENeRVBoost, HNeRVBoost, NeRVBoost
from nervkit.models.config import MAX_FRAMES, MAX_SIDE, ModelConfig, VideoShape
from nervkit.models.device import autocast, choose_device, choose_precision
from nervkit.models.enerv import ENeRV
from nervkit.models.ffnerv import FFNeRV
from nervkit.models.gridnerv import VELOCITY, GridNeRV, GridNeRVConfig
from nervkit.models.hinerv import HiNeRV
from nervkit.models.hnerv import HNeRV, HNeRVConfig
from nervkit.models.nerv import NeRV, NeRVConfig
from nervkit.models.recipe import Recipe
from nervkit.models.registry import load_model, model_names

BOOSTED: list[type[Representation]] = [ENeRVBoost, HNeRVBoost, NeRVBoost]
MODELS: list[type[Representation]] = [ENeRV, FFNeRV, GridNeRV, HiNeRV, HNeRV, NeRV, *BOOSTED]
SIZES = [(1, 1), (2, 3), (1, 500), (500, 1), (7, 11), (31, 17), (48, 64), (121, 161), (480, 854)]
BUNNY = VideoShape(132, 640, 1280)


def smallest(model: type[Representation], shape: VideoShape) -> int:
    """The fewest values that `model` can have for `shape`, from its error message."""
    with pytest.raises(TooFewParametersError) as caught:
        model.configure(shape, 1)
    return caught.value.least


def values(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def randomised(model: Representation) -> Representation:
    """`model` with noise in every parameter and buffer, so that no part keeps its special initial
    value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in filter(torch.is_floating_point, model.state_dict().values()):
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model


# Published sizes


def test_nerv_s_has_the_published_count() -> None:
    shape = VideoShape(132, 720, 1280)
    model = NeRV.skeleton(NeRV.configure(shape), shape)
    assert count_stored(model) == 3_201_905
    assert count_stored(model) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("channels", "millions"), [(26, 3.2), (58, 6.3), (112, 12.5)])
def test_nerv_s_m_l_have_the_published_sizes(channels: int, millions: float) -> None:
    shape = VideoShape(132, 720, 1280)
    config = NeRV.configure(shape, grid_channels=channels)
    assert round(count_stored(NeRV.skeleton(config, shape)) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("parameters", "width"),
    [(350_000, 32), (750_000, 48), (1_500_000, 68), (3_000_000, 97)],
)
def test_hnerv_has_the_published_widths(parameters: int, width: int) -> None:
    config = HNeRV.configure(BUNNY, parameters)
    assert config == HNeRVConfig(strides=(5, 4, 4, 2, 2), width=width)
    assert [kernel for *_, kernel in config.stages()] == [1, 3, 5, 5, 5]


def test_hnerv_at_160x320_has_the_authors_counts() -> None:
    shape = VideoShape(132, 160, 320)
    config = HNeRV.configure(shape, 180_000)
    assert config == HNeRVConfig(strides=(5, 4, 2, 2), width=30)
    model = HNeRV.skeleton(config, shape)
    assert values(model.weights()) == 161_161
    assert values(model.embeddings()) == 16_896
    assert count_stored(model) == 161_161 + 16_896


def test_hnerv_stages_round_and_floor_their_widths() -> None:
    config = HNeRVConfig(strides=(5, 4, 2, 2), width=20)
    assert config.stages() == [(20, 17, 5, 1), (17, 14, 4, 3), (14, 12, 2, 5), (12, 12, 2, 5)]


@pytest.mark.parametrize(
    ("model", "height", "width", "strides"),
    [
        (HNeRV, 640, 1280, (5, 4, 4, 2, 2)),
        (HNeRV, 480, 960, (5, 4, 3, 2, 2)),
        (HNeRV, 960, 1920, (5, 4, 4, 3, 2)),
        (HNeRV, 160, 320, (5, 4, 2, 2)),
        (NeRV, 720, 1280, (5, 2, 2, 2, 2)),
        (NeRV, 1080, 1920, (5, 3, 2, 2, 2)),
    ],
)
def test_published_strides_are_chosen(
    model: type[Representation], height: int, width: int, strides: tuple[int, ...]
) -> None:
    assert model.configure(VideoShape(132, height, width)).strides == strides


def published(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe except those for rate-distortion fits, which are nervkit's own."""
    own = ("codec_lr", "least_noise", "whole_noise_from", "rounding_from")
    return {name: value for name, value in asdict(recipe).items() if name not in own}


def test_paper_recipes_hold_the_published_numbers() -> None:
    assert published(NeRV.recipes["paper"]) == {
        "loss": "fusion6",
        "lr": 5e-4,
        "batch": 1,
        "epochs": 300,
        "optimizer": "adam",
        "betas": (0.5, 0.999),
        "matrix_lr": None,
        "matrix_optimizer": "muon",
        "embedding_lr": None,
        "decay": "cosine",
        "warmup": 0.2,
        "warmup_from": 0.1,
        "most_norm": None,
        "precision": "float32",
        "repeated": (),
        "compression": "nerv",
    }
    assert published(HNeRV.recipes["paper"]) == {
        "loss": "mse",
        "lr": 1e-3,
        "batch": 2,
        "epochs": 300,
        "optimizer": "adam",
        "betas": (0.9, 0.999),
        "matrix_lr": None,
        "matrix_optimizer": "muon",
        "embedding_lr": None,
        "decay": "cosine",
        "warmup": 0.1,
        "warmup_from": 0.1,
        "most_norm": None,
        "precision": "float32",
        "repeated": (),
        "compression": "hnerv",
    }


# Any size


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_frame_size_comes_out_exactly(
    model: type[Representation], height: int, width: int
) -> None:
    shape = VideoShape(3, height, width)
    network = model(model.configure(shape, max(smallest(model, shape), 20_000)), shape).eval()
    with torch.inference_mode():
        frames = network(torch.tensor([0.0, 1.5]))
    assert frames.shape == (2, 3, height, width)
    assert frames.dtype == torch.float32
    assert 0 <= frames.min() <= frames.max() <= 1


@pytest.mark.parametrize(("height", "width"), SIZES[:-1])
def test_hnerv_encodes_every_frame_size(height: int, width: int) -> None:
    shape = VideoShape(2, height, width)
    network = HNeRV(HNeRV.configure(shape, max(smallest(HNeRV, shape), 20_000)), shape)
    frames = torch.rand(2, 3, height, width)
    network.finish_fit([frames[:1], frames[1:]])
    assert network.fit_forward(torch.tensor([0.0, 1.0]), frames).shape == frames.shape
    torch.testing.assert_close(network.embedding, network.encode(frames))


@pytest.mark.parametrize("model", MODELS)
def test_given_strides_are_kept(model: type[Representation]) -> None:
    shape = VideoShape(2, 50, 70)
    config = model.configure(shape, 60_000, strides=(3, 2, 2))
    assert config.strides == (3, 2, 2)
    assert model(config, shape)(torch.zeros(1)).shape == (1, 3, 50, 70)


# Targets


# The stem's width takes up what a channel more or less leaves, so NeRV stays close below.
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("target", [20_000, 100_000, 350_000, 1_500_000, 3_000_000])
def test_nerv_meets_its_target_from_below(height: int, width: int, target: int) -> None:
    shape = VideoShape(30, height, width)
    count = count_stored(NeRV.skeleton(NeRV.configure(shape, target), shape))
    assert 0.975 * target <= count <= target


# HNeRV has one knob, the width, and is counted as its authors count, before rounding.
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("target", [200_000, 350_000, 1_500_000, 3_000_000])
def test_hnerv_meets_its_target(height: int, width: int, target: int) -> None:
    shape = VideoShape(30, height, width)
    count = count_stored(HNeRV.skeleton(HNeRV.configure(shape, target), shape))
    assert count == pytest.approx(target, rel=0.06)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_too_small_targets_name_the_least_that_works(
    model: type[Representation], height: int, width: int
) -> None:
    shape = VideoShape(5, height, width)
    least = smallest(model, shape)
    with pytest.raises(TooFewParametersError, match=f"{least - 1:,} .*at least {least:,}"):
        model.configure(shape, least - 1)
    config = model.configure(shape, least)
    assert config == model.configure(shape, least)
    assert count_stored(model.skeleton(config, shape)) <= 1.3 * least


def test_small_hnerv_lowers_the_floor_only_as_far_as_needed() -> None:
    shape = VideoShape(8, 48, 64)
    assert HNeRV.configure(shape, 100_000).min_width == 12
    small = HNeRV.configure(shape, 4_000)
    assert 1 < small.min_width < 12
    assert small.width >= small.min_width
    with pytest.raises(TooFewParametersError):
        HNeRV.configure(shape, 4_000, min_width=12)


# What every model promises


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("height", "width"), [(24, 32), (37, 53)])
def test_gradients_reach_every_parameter(
    model: type[Representation], height: int, width: int
) -> None:
    torch.manual_seed(0)  # a ReLU may be dead by chance
    shape = VideoShape(4, height, width)
    network = randomised(model(model.configure(shape, 30_000), shape)).train()
    targets = torch.rand(2, 3, height, width)
    output = network.fit_forward(torch.tensor([1.0, 2.0]), targets)
    (output - targets).square().mean().backward()
    untouched = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert untouched == []


@pytest.mark.parametrize("model", MODELS)
def test_a_loss_by_value_has_the_gradients_of_one_on_frames(model: type[Representation]) -> None:
    shape = VideoShape(4, 24, 32)
    options = {"strides": (2, 4)} if model is GridNeRV else {}
    network = randomised(model(model.configure(shape, 60_000, **options), shape)).train()
    frames = torch.randint(0, 256, (2, 24, 32, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    t = torch.tensor([1.0, 2.0])

    def gradients(output: Tensor, target: Tensor) -> list[Tensor]:
        network.zero_grad()
        (output - target).square().sum().backward()
        return [p.grad.clone() for p in network.parameters()]

    by_value = gradients(network.fit_values(t, frames), network.arranged(frames) / 255)
    on_frames = gradients(network.fit_forward(t, frames / 255), frames / 255)
    for ours, theirs in zip(by_value, on_frames, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_gridnerv_repeats_the_edge_in_patches_beyond_the_frame() -> None:
    network = randomised(GridNeRV(GridNeRVConfig(), VideoShape(4, 22, 37)))
    frames = torch.randint(0, 256, (2, 22, 37, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    t = torch.tensor([1.0, 2.0])
    output, target = network.fit_values(t, frames), network.arranged(frames)
    repeated = F.pad(frames.float(), (0, 3, 0, 2), mode="replicate").byte()
    assert torch.equal(target, F.pixel_unshuffle(repeated, 4).permute(0, 2, 3, 1))
    shown = F.pixel_shuffle(output.permute(0, 3, 1, 2), 4)[..., :22, :37]
    torch.testing.assert_close(shown, network(t))


@pytest.mark.parametrize("model", MODELS)
def test_stored_tensors_are_all_that_a_decoder_needs(model: type[Representation]) -> None:
    shape = VideoShape(4, 20, 28)
    config = model.configure(shape, 30_000)
    network = randomised(model(config, shape)).eval().to(memory_format=torch.channels_last)
    decoder = model.for_decoding(config, shape)
    assert list(decoder.stored()) == list(network.stored())
    assert set(decoder.state_dict()) == set(decoder.stored())
    decoder.load_stored(network.stored())
    t = torch.tensor([0.0, 1.25, 3.0])
    with torch.inference_mode():
        assert torch.equal(decoder(t), network(t))


@pytest.mark.parametrize("model", [HNeRV, NeRV])
def test_muon_gets_the_inner_matrices_only(model: type[Representation]) -> None:
    shape = VideoShape(4, 48, 64)
    network = model(model.configure(shape, 30_000), shape)
    names = list(network.matrices())
    blocks = [f"blocks.{index}.conv.weight" for index in range(len(network.config.strides))]
    assert names == (["stem.2.weight", *blocks] if model is NeRV else blocks)
    assert set(names) <= set(dict(network.named_parameters()))


def test_muon_gets_what_mixes_channels_in_gridnerv() -> None:
    shape = VideoShape(4, 48, 64)
    network = GridNeRV(GridNeRVConfig(), shape)
    blocks = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    linear = [f"stages.{i}.{j}.{part}.weight" for i, j in blocks for part in ("expand", "project")]
    expected = ["stem.weight", *linear, "reductions.0.weight", "head.weight"]
    assert list(network.matrices()) == expected


def test_gridnerv_has_the_counts_of_its_equations() -> None:
    shape = VideoShape(132, 160, 320)
    model = GridNeRV.skeleton(GridNeRVConfig(), shape)
    # knots x channels x rows x columns: one knot in 2, 4, 12 frames and one for all
    grids = 67 * 2 * 5 * 10 + 34 * 2 * 10 * 20 + 12 * 4 * 20 * 40 + 4 * 20 * 40
    assert values(model.embeddings()) == grids

    def block(c: int) -> int:
        return 9 * c + (c + 1) * 3 * c + (3 * c + 1) * c

    stem, reduction, head = (9 * 12 + 1) * 48, 49 * 48, (9 * 48 + 1) * 48
    assert values(model.weights()) == stem + 6 * block(48) + reduction + head


def test_gridnerv_bounds_its_work_per_pixel() -> None:
    shape = VideoShape(132, 640, 1280)
    for parameters in (500_000, 3_000_000):
        config = GridNeRV.configure(shape, parameters)
        assert config.widths[-1] == 68  # 24 sqrt(8)
        assert math.prod(config.strides) == 32
        stored = count_stored(GridNeRV.skeleton(config, shape))
        assert 0.97 * parameters < stored <= parameters


def test_gridnerv_gives_longer_clips_slower_grids() -> None:
    def configured(frames: int) -> tuple[GridNeRVConfig, float]:
        shape = VideoShape(frames, 160, 320)
        config = GridNeRV.configure(shape, 200_000)
        model = GridNeRV.skeleton(config, shape)
        return config, values(model.embeddings()) / count_stored(model)

    assert configured(132)[0].grid_rates == (2, 4, 12, 0)
    config, share = configured(3000)
    assert share <= 0.5
    factor = config.grid_rates[0] // 2
    assert factor > 1
    assert config.grid_rates == (2 * factor, 4 * factor, 12 * factor, 0)


def test_gridnerv_grids_are_linear_between_their_knots() -> None:
    shape = VideoShape(9, 16, 16)
    config = GridNeRVConfig(
        strides=(2, 4),
        widths=(6, 5),
        depths=(1, 1),
        grid_rates=(4, 0),
        grid_scales=(1, 1),
        grid_channels=(2, 1),
    )
    model = randomised(GridNeRV(config, shape))
    moving, still = model.grids
    assert (len(moving), len(still)) == (3, 1)
    with torch.inference_mode():
        sampled = model._sample(moving, torch.tensor([0.0, 4.0, 5.0, 8.0]), 1, None)
        expected = torch.stack(
            [moving[0], moving[1], 0.75 * moving[1] + 0.25 * moving[2], moving[2]]
        )
        torch.testing.assert_close(sampled, expected)
        torch.testing.assert_close(
            model._sample(still, torch.tensor([0.0, 7.5]), 1, None), still.expand(2, -1, -1, -1)
        )


def moving_model(frames: int = 9, **options: Any) -> GridNeRV:
    """A model for 32x48 pixels, in 4x6 cells, with one moved grid and a moved detail grid."""
    fields: dict[str, Any] = {
        "strides": (2, 4),
        "widths": (6, 5),
        "depths": (1, 1),
        "grid_rates": (4, 4),
        "grid_scales": (1, 0),
        "grid_channels": (2, 1),
        "moved_rate": 4,
        "motion_rate": 2,
        "motion_scale": 2,
    }
    return GridNeRV(GridNeRVConfig(**(fields | options)), VideoShape(frames, 32, 48))


def test_gridnerv_moved_grids_follow_their_velocities() -> None:
    model = randomised(moving_model())
    grid = model.grids[0]
    assert (len(grid), tuple(model.motion.shape)) == (3, (5, 4, 2, 3))
    with torch.no_grad():
        model.motion.zero_()
        model.motion[:, 0] = VELOCITY / 4  # x: a quarter of a cell in a frame, both ways
    with torch.inference_mode():
        t = torch.tensor([4.0, 6.0])
        sampled = model._sample(grid, t, 1, model._velocities(t))
        torch.testing.assert_close(sampled[0], grid[1])
        # Two frames after its knot, content stands half a cell to the right of where it was; two
        # frames before the next one, half a cell to the left of where it will be.
        right = (grid[1] + torch.cat([grid[1][..., :1], grid[1][..., :-1]], 2)) / 2
        left = (grid[2] + torch.cat([grid[2][..., 1:], grid[2][..., -1:]], 2)) / 2
        torch.testing.assert_close(sampled[1], (right + left) / 2)


def test_gridnerv_velocities_differ_before_and_after() -> None:
    model = moving_model()
    with torch.no_grad():
        model.motion[:, 1], model.motion[:, 3] = 3.0, 1.0  # y: mean, half of the difference
    since_x, since_y, until_x, until_y = model._velocities(torch.tensor([3.0]))[0]
    assert (since_x == 0).all() and (until_x == 0).all()
    assert (since_y == 2).all() and (until_y == 4).all()


def test_gridnerv_starts_with_the_motion_of_a_pan() -> None:
    rng = np.random.default_rng(0)
    wide = ndimage.gaussian_filter(rng.uniform(0, 255, (64, 200, 3)), (3, 3, 0))
    wide = np.uint8((wide - wide.min()) / np.ptp(wide) * 255)
    frames = np.stack([wide[:, 40 - 2 * t : 168 - 2 * t] for t in range(9)])  # 2 pixels a frame
    model = GridNeRV(moving_model().config, VideoShape(*frames.shape[:3]))
    model.start_fit(torch.from_numpy(frames).permute(0, 3, 1, 2))
    inner = model.motion[:, :, 1:-1, 2:-2] / VELOCITY * 8  # pixels in a frame
    assert (inner[:, 0] - 2).abs().max() < 0.5
    assert inner[:, 1:].abs().max() < 0.5


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_gridnerv_with_motion_of_short_clips(frames: int) -> None:
    model = moving_model(frames)
    pixels = torch.randint(0, 256, (frames, 3, 32, 48), dtype=torch.uint8)
    model.start_fit(pixels)
    assert model(torch.arange(frames).float()).shape == (frames, 3, 32, 48)
    assert model.kinds()["motion"] == MOTION


def test_gridnerv_detail_grids_start_without_effect() -> None:
    torch.manual_seed(0)
    model = moving_model()
    assert not model.grids[1].any() and model.grids[1].shape == (3, 1, 8, 12)
    before = model(torch.tensor([1.5]))
    with torch.no_grad():
        model.details.weight.mul_(2)
    assert torch.equal(model(torch.tensor([1.5])), before)
    model(torch.tensor([1.5])).sum().backward()
    assert model.grids[1].grad.abs().sum() > 0


def test_gridnerv_configurations_of_earlier_files() -> None:
    config = GridNeRVConfig()
    earlier = config.to_dict()
    for name in ("moved_rate", "motion_rate", "motion_scale"):
        del earlier[name]
    assert GridNeRVConfig.from_dict(earlier) == config
    with pytest.raises(UsageError, match="has fields"):
        GridNeRVConfig.from_dict({k: v for k, v in earlier.items() if k != "widths"})


def test_gridnerv_refuses_detail_grids_without_a_later_stage() -> None:
    with pytest.raises(UsageError, match="two stages"):
        GridNeRVConfig(
            strides=(4,),
            widths=(6,),
            depths=(1,),
            grid_rates=(4, 4),
            grid_scales=(1, 0),
            grid_channels=(1, 1),
        )
    with pytest.raises(UsageError, match="must not all be 0"):
        GridNeRVConfig(grid_rates=(4,), grid_scales=(0,), grid_channels=(1,))


def test_gridnerv_configurations_need_lists_of_one_length() -> None:
    with pytest.raises(UsageError, match="strides, widths, depths must be lists of the same"):
        GridNeRVConfig(strides=(2, 2, 4))
    with pytest.raises(UsageError, match="grid_rates, grid_scales, grid_channels must be lists"):
        GridNeRVConfig(grid_rates=(2, 4))


@pytest.mark.parametrize(("height", "width"), [(48, 64), (31, 17), (1, 1), (2, 500)])
def test_gridnerv_starts_from_the_clips_principal_components(height: int, width: int) -> None:
    frames = drifting(6, height, width)
    shape = VideoShape(6, height, width)
    torch.manual_seed(0)
    model = GridNeRV(GridNeRV.configure(shape, smallest(GridNeRV, shape) + 40_000), shape)
    before = copy.deepcopy(model.state_dict())
    model.start_fit(frames)
    after = model.state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {name for name in after if name.startswith(("grids.", "head."))}
    if (height, width) == (48, 64):
        channels = after["grids.0"].transpose(0, 1).flatten(1)
        spread = channels @ channels.T / channels.shape[1]
        torch.testing.assert_close(
            spread.diag(), torch.full((len(spread),), 0.09), rtol=0.05, atol=0
        )
        assert (spread - spread.diag().diag()).abs().max() < 0.005
        # features of 0 give the mean picture's patch: within the clamp, the clip's mean colour
        mean = torch.sigmoid(after["head.bias"].view(3, -1).mean(1))
        torch.testing.assert_close(mean, frames.float().mean((0, 2, 3)) / 255, rtol=0, atol=0.05)


def test_gridnerv_starts_from_long_clips() -> None:
    shape = VideoShape(256, 16, 16)
    model = GridNeRV(GridNeRV.configure(shape, 60_000), shape)
    model.start_fit(drifting(256, 16, 16))
    still = model.grids[-1].detach()
    assert bool(still.isfinite().all())
    assert float(still[0, 0].std(correction=0)) == pytest.approx(0.3, rel=0.01)


def drifting(frames: int, height: int, width: int) -> Tensor:
    """(T, 3, H, W) uint8: waves that drift, with some noise."""
    t, y, x = np.ogrid[:frames, :height, :width]
    waves = [np.sin((x + 3 * t) / (5 + c)) * np.cos((y - t) / 5 + c) for c in range(3)]
    noise = np.random.default_rng(0).normal(scale=5, size=(frames, 3, height, width))
    return torch.from_numpy(np.rint(127 + 100 * np.stack(waves, 1) + noise).clip(0, 255)).byte()


def test_hnerv_interpolates_embeddings_between_frames() -> None:
    shape = VideoShape(5, 24, 32)
    model = randomised(HNeRV(HNeRV.configure(shape, 30_000), shape)).eval()
    with torch.inference_mode():
        embedding = model.embedding
        middle, quarter, last = model(torch.tensor([2.5, 1.25, 4.0])).split(1)
        t = torch.zeros(1)  # which does not matter
        expected = model.decode((embedding[2:3] + embedding[3:4]) / 2, t)
        torch.testing.assert_close(middle, expected, rtol=0, atol=1e-6)
        expected = model.decode(0.75 * embedding[1:2] + 0.25 * embedding[2:3], t)
        torch.testing.assert_close(quarter, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(last, model.decode(embedding[4:5], t), rtol=0, atol=1e-6)
        mean_of_frames = (model(torch.tensor([2.0])) + model(torch.tensor([3.0]))) / 2
    assert (middle - mean_of_frames).abs().max() > 1e-3


def test_hnerv_encoder_never_travels() -> None:
    shape = VideoShape(4, 24, 32)
    model = HNeRV(HNeRV.configure(shape, 30_000), shape).eval()
    assert any(name.startswith("encoder.") for name in model.state_dict())
    assert not [name for name in model.stored() if name.startswith("encoder")]
    assert list(model.stored())[-1] == "embedding"
    assert not hasattr(HNeRV.for_decoding(model.config, shape), "encoder")
    model.finish_fit([torch.rand(4, 3, 24, 32)])
    with torch.inference_mode():
        before = model(torch.arange(4.0))
        for parameter in model.encoder.parameters():
            parameter.zero_()
        assert torch.equal(model(torch.arange(4.0)), before)


def test_hnerv_embeddings_are_what_the_encoder_makes() -> None:
    shape = VideoShape(3, 24, 32)
    model = HNeRV(HNeRV.configure(shape, 30_000), shape).eval()
    frames = torch.rand(3, 3, 24, 32)
    with torch.no_grad():
        model.finish_fit(frames.split(2))
        fitted = model.fit_forward(torch.arange(3.0), frames)
        torch.testing.assert_close(model(torch.arange(3.0)), fitted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("base", "levels"), [(1.25, 40), (1.25, 80), (2.0, 8)])
def test_positional_encoding_is_the_papers(base: float, levels: int) -> None:
    t = torch.arange(132) / 132
    angles = t.double().numpy()[:, None] * math.pi * base ** np.arange(levels)
    expected = np.empty((132, 2 * levels))
    expected[:, 0::2], expected[:, 1::2] = np.sin(angles), np.cos(angles)
    encoded = PositionalEncoding(base, levels)(t)
    assert encoded.dtype == torch.float32
    # Past 2^23 turns the last bits of the float64 angle show.
    limit = 1e-7 if base**levels < 1e6 else 1e-6
    assert np.abs(encoded.numpy() - expected).max() <= limit


def test_nerv_normalises_time_by_the_number_of_frames() -> None:
    shape = VideoShape(8, 10, 12)
    model = NeRV(NeRV.configure(shape, 30_000), shape)
    seen: list[Tensor] = []
    model.encoding.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    model(torch.tensor([0.0, 2.0, 7.0]))
    assert seen[0].tolist() == [0, 0.25, 0.875]


# Configurations


@pytest.mark.parametrize("config", [HNeRVConfig(), NeRVConfig(), HNeRVConfig(strides=(3, 2))])
def test_configurations_survive_json(config: ModelConfig) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("config", "field", "bad"),
    [
        (HNeRVConfig, "width", 0),
        (HNeRVConfig, "width", 4097),
        (HNeRVConfig, "width", 68.0),
        (HNeRVConfig, "width", True),
        (HNeRVConfig, "width", "68"),
        (HNeRVConfig, "width", None),
        (HNeRVConfig, "width", [68]),
        pytest.param(HNeRVConfig, "width", 10**400, id="beyond-float"),
        pytest.param(HNeRVConfig, "width", -(10**400), id="below-float"),
        (HNeRVConfig, "strides", []),
        (HNeRVConfig, "strides", [2] * 9),
        (HNeRVConfig, "strides", [2, 0]),
        (HNeRVConfig, "strides", [2, 9]),
        (HNeRVConfig, "strides", [2, 2.0]),
        (HNeRVConfig, "strides", [[2]]),
        (HNeRVConfig, "strides", 5),
        (HNeRVConfig, "reduction", 0.99),
        (HNeRVConfig, "reduction", 4.01),
        (HNeRVConfig, "reduction", math.nan),
        (HNeRVConfig, "reduction", math.inf),
        (HNeRVConfig, "reduction", True),
        (HNeRVConfig, "max_kernel", 10),
        (NeRVConfig, "pe_levels", 129),
        (NeRVConfig, "pe_base", 0.5),
        (NeRVConfig, "grid_channels", 1025),
    ],
)
def test_configurations_are_bounded(config: type[ModelConfig], field: str, bad: Any) -> None:
    with pytest.raises(UsageError, match=field):
        config.from_dict(config().to_dict() | {field: bad})


def test_configuration_bounds_are_inclusive() -> None:
    least = HNeRVConfig.from_dict(HNeRVConfig().to_dict() | {"width": 1, "reduction": 1})
    assert (least.width, least.reduction) == (1, 1)
    assert HNeRVConfig(width=4096, strides=(8,) * 8).width == 4096


def test_configurations_refuse_unknown_and_missing_fields() -> None:
    fields = NeRVConfig().to_dict()
    with pytest.raises(UsageError, match="depth"):
        NeRVConfig.from_dict(fields | {"depth": 1})
    del fields["stem_width"]
    with pytest.raises(UsageError, match="stem_width"):
        NeRVConfig.from_dict(fields)


@pytest.mark.parametrize("bad", [0, -1, 1.0, True, "3", None])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_video_shapes_are_whole_positive_numbers(place: int, bad: Any) -> None:
    sides: list[Any] = [3, 4, 5]
    sides[place] = bad
    with pytest.raises(UsageError, match="whole number"):
        VideoShape(*sides)


def test_video_shapes_have_limits() -> None:
    assert VideoShape(MAX_FRAMES, MAX_SIDE, MAX_SIDE).pixels == MAX_FRAMES * MAX_SIDE**2
    for sides in [(MAX_FRAMES + 1, 1, 1), (1, MAX_SIDE + 1, 1), (1, 1, MAX_SIDE + 1)]:
        with pytest.raises(UsageError):
            VideoShape(*sides)


# The registry

OWN = ["enerv", "enerv-boost", "ffnerv", "gaussians", "gridnerv", "hinerv", "hnerv"]
OWN += ["hnerv-boost", "nerv", "nerv-boost"]


class Flat(Representation):
    """A third party's model: one colour per frame."""

    config_type = ModelConfig
    recipes = {"native": Recipe("mse", 1e-2, 1, 1), "paper": Recipe("mse", 1e-2, 1, 1)}  # noqa: RUF012

    def __init__(self, config: ModelConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.colour = nn.Parameter(torch.zeros(shape.frames, 3))

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> ModelConfig:
        return ModelConfig(**options)

    def forward(self, t: Tensor) -> Tensor:
        colour = self.colour[t.round().long()].sigmoid()
        return colour[:, :, None, None].expand(-1, -1, self.shape.height, self.shape.width)


def test_the_registry_knows_its_own_models() -> None:
    assert list(registry.BUILT_IN) == OWN
    assert set(model_names()) >= set(registry.BUILT_IN)  # plugins may be installed here
    assert load_model("gridnerv") is GridNeRV
    assert load_model("hnerv") is HNeRV
    assert load_model("nerv") is NeRV


def test_an_unknown_model_is_answered_with_the_names() -> None:
    known = ", ".join(model_names())
    with pytest.raises(UsageError, match=f"'hnrev'; choose from: {known}"):
        load_model("hnrev")


def test_third_party_models_come_through_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    group = registry.ENTRY_POINT_GROUP
    points = [
        EntryPoint("flat", f"{__name__}:Flat", group),
        EntryPoint("nerv", f"{__name__}:Flat", group),
    ]
    asked: list[str] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return points

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_registered", {})
    assert model_names() == sorted(["flat", *OWN])
    assert load_model("flat") is Flat
    assert load_model("nerv") is NeRV  # nobody takes the place of a built-in model
    assert set(asked) == {"nervkit.models"}


# Devices and precisions


def test_unknown_devices_and_precisions_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(UsageError, match="no such device here"):
        choose_device(f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(UsageError, match="unknown precision 'half'; choose from: auto, bfloat16"):
        choose_precision("half", torch.device("cpu"))


def test_precision_follows_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has, expected in [(True, torch.bfloat16), (False, torch.float32)]:
        monkeypatch.setattr(device_module, "cpu_has_bfloat16", lambda has=has: has)
        assert choose_precision("auto", cpu) == expected
    assert choose_precision("float32", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_the_type_asked_for(dtype: torch.dtype) -> None:
    with autocast(torch.device("cpu"), dtype):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
