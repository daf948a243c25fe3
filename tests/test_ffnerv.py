"""FFNeRV: published sizes, frames warped from neighbours, and the caches of a fit and a decode."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import nervkit
from nervkit.errors import Interrupted, UsageError
from nervkit.fitting.functional import FunctionalModel
from nervkit.fitting.loop import Stepper, fit
from nervkit.fitting.losses import fusion6
from nervkit.models.base import SENSITIVE, count_stored
from nervkit.models.complexity import VALUE_BYTES, blueprint, decode_macs
from nervkit.models.config import VideoShape
from nervkit.models.contract import check_model
from nervkit.models.ffnerv import FFNeRV, FFNeRVConfig, Parts
from tests.segmented import random_segment, segmented
from tests.test_fitting import checkpoint, same, stop_after, video

pytestmark = pytest.mark.usefixtures("one_thread")

BUNNY = VideoShape(132, 720, 1280)
UVG = VideoShape(600, 1080, 1920)
SMALL = VideoShape(7, 20, 28)


def small(shape: VideoShape = SMALL, **options: Any) -> FFNeRV:
    """A model with flows of a few pixels, ready to decode."""
    options = {"strides": (2, 2, 2), "grid_knots": (2, 3), "grid_channels": 6} | options
    torch.manual_seed(0)
    model = FFNeRV(FFNeRVConfig(**{"min_width": 6} | options), shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


# Sizes


def test_ffnerv_has_the_published_counts() -> None:
    config = FFNeRV.configure(BUNNY)
    assert config == FFNeRVConfig()
    model = FFNeRV.skeleton(config, BUNNY)
    assert count_stored(model) == 12_408_509
    assert sum(grid.numel() for grid in model.grids) == 5_391_360
    config = FFNeRV.configure(UVG, convolution="compact")
    assert (config.grid_channels, config.expansion, config.min_width) == (48, 8, 24)
    assert (config.strides, config.grid_knots) == ((5, 3, 2, 2, 2), (300, 600))
    model = FFNeRV.skeleton(config, UVG)
    assert count_stored(model) == 11_308_169
    assert sum(grid.numel() for grid in model.grids) == 3_110_400


def test_ffnerv_counts_one_trunk_a_frame() -> None:
    config = FFNeRVConfig(strides=(2, 2, 2), grid_knots=(4,), grid_channels=4, min_width=4)
    shape = VideoShape(9, 16, 24)  # a grid of 2x3
    blocks = sum(6 * cells * 4 * 3**2 * (4 * 2**2) for cells in (1, 4, 16))
    flows, head = 24 * 4 * 3 * 4, 16 * 24 * 4 * 5
    assert decode_macs(FFNeRV, config, shape) == blocks + flows + head


@pytest.mark.parametrize("convolution", ["full", "compact"])
@pytest.mark.parametrize("frames", [1, 30, 3000])
@pytest.mark.parametrize("target", [60_000, 350_000])
def test_ffnerv_meets_its_target_from_below(convolution: str, frames: int, target: int) -> None:
    shape = VideoShape(frames, 121, 161)
    config = FFNeRV.configure(shape, target, convolution=convolution)
    model = FFNeRV.skeleton(config, shape)
    least = 0.6 if convolution == "compact" else 0.9  # whose channels are large steps
    assert least * target < count_stored(model) <= target
    grids = sum(grid.numel() for grid in model.grids)
    assert grids <= 0.5 * count_stored(model)
    assert config.convolution == convolution


def test_fields_that_are_given_stay() -> None:
    options = {"grid_knots": (3, 9), "grid_channels": 20, "neighbours": (-1, 1), "min_width": 5}
    config = FFNeRV.configure(SMALL, 60_000, **options)
    assert options.items() <= asdict(config).items()
    with pytest.raises(UsageError, match="convolution must be one of full, compact"):
        FFNeRV.configure(SMALL, 60_000, convolution="thin")


def test_grids_share_their_channels() -> None:
    assert FFNeRVConfig().channels() == [39] * 4
    assert FFNeRVConfig(grid_channels=10, grid_knots=(1, 2, 3)).channels() == [4, 3, 3]
    model = small(grid_channels=1, grid_knots=(2, 3))
    assert [tuple(grid.shape[:2]) for grid in model.grids] == [(2, 1)]
    assert model(torch.tensor([1.0])).shape == (1, 3, 20, 28)


def test_compact_blocks_have_groups_that_divide_their_widths() -> None:
    config = FFNeRVConfig(
        strides=(2, 3, 2),
        grid_knots=(3,),
        grid_channels=3,
        expansion=4,
        min_width=4,
        convolution="compact",
    )
    model = FFNeRV(config, SMALL)
    # 12 channels to 6 * 3^2 = 54, and 6 to 4 * 2^2 = 16
    assert [block.grouped.groups for block in model.blocks[1:]] == [2, 2]
    first, second = model.blocks[1:]
    assert first.grouped.weight.shape == (54, 6, 3, 3)
    assert second.mixing.weight.shape == (16, 16, 1, 1)
    assert list(model.matrices()) == [
        "blocks.0.conv.weight",
        "blocks.1.mixing.weight",
        "blocks.2.mixing.weight",
    ]
    assert SENSITIVE not in model.kinds().values()


def test_the_papers_recipe_is_the_published_one() -> None:
    recipe = FFNeRV.recipes["paper"]
    assert (recipe.loss, recipe.lr, recipe.betas) == ("fusion6", 5e-4, (0.5, 0.999))
    assert (recipe.batch, recipe.epochs) == (1, 300)
    assert (recipe.warmup, recipe.warmup_from, recipe.decay) == (0.2, 0.1, "cosine")
    assert recipe.matrix_lr is None
    assert FFNeRV.output_weights == (1.0, 0.1, 0.1)


def test_ffnerv_is_a_model() -> None:
    check_model("another", FFNeRV)


# A frame, from the equations


def reference(model: FFNeRV, own: Parts, others: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The final and the aggregated frame (3, H, W), pixel by pixel; `others` are the neighbours'
    independent frames."""
    height, width = model.shape.height, model.shape.width
    scale = int(np.prod(model.config.strides[model.flow_stage + 1 :]))
    coarse = own.flows[0].double().numpy()
    independent, share = own.independent[0].double().numpy(), own.share[0, 0].double().numpy()

    def sampled(plane: np.ndarray, y: float, x: float) -> float:
        """Bilinear sampling; the edge is repeated."""
        y, x = (min(max(v, 0.0), side - 1.0) for v, side in zip((y, x), plane.shape, strict=True))
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, plane.shape[0] - 1), min(x0 + 1, plane.shape[1] - 1)
        above = (1 - (x - x0)) * plane[y0, x0] + (x - x0) * plane[y0, x1]
        below = (1 - (x - x0)) * plane[y1, x0] + (x - x0) * plane[y1, x1]
        return (1 - (y - y0)) * above + (y - y0) * below

    final, aggregated = np.zeros((3, height, width)), np.zeros((3, height, width))
    count = len(others)
    for y in range(height):
        for x in range(width):
            logits = coarse[2 * count :, y // scale, x // scale]
            weights = np.exp(logits) / np.exp(logits).sum()
            at = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
            for n, other in enumerate(others):
                dx, dy = (scale * sampled(coarse[2 * n + axis], *at) for axis in (0, 1))
                for c in range(3):
                    aggregated[c, y, x] += weights[n] * sampled(other[c], y + dy, x + dx)
            mixed = share[y, x] * independent[:, y, x] + (1 - share[y, x]) * aggregated[:, y, x]
            final[:, y, x] = mixed
    return final, aggregated


@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_frame_is_that_of_the_equations(position: int) -> None:
    model = small()
    with torch.no_grad():
        own = model._parts(torch.tensor([float(position)]))
        shape = own.independent.shape[1:]
        others = [
            model._parts(torch.tensor([float(p)])).independent[0].double().numpy()
            if 0 <= (p := position + n) < 7
            else np.zeros(shape)
            for n in (-2, -1, 1, 2)
        ]
        shown = model(torch.tensor([float(position)]))[0]
    assert own.flows.abs().max() > 0.5  # of 4 pixels
    final, aggregated = reference(model, own, others)
    assert np.abs(shown.double().numpy() - final).max() < 1e-5
    assert np.abs(final - aggregated).max() > 0.01


def test_grids_are_linear_between_their_knots_and_constant_after_the_last() -> None:
    model = small(grid_knots=(3,), neighbours=(1,))
    seen: list[Tensor] = []
    model.blocks[0].register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        model._parts(torch.tensor([0.0, 3.5, 6.0]))
    grid = model.grids[0]  # a knot in 7/3 frames
    torch.testing.assert_close(seen[0][0], grid[0])
    torch.testing.assert_close(seen[0][1], 0.5 * grid[1] + 0.5 * grid[2])
    torch.testing.assert_close(seen[0][2], grid[2])


def test_without_flow_the_aggregated_frame_is_the_mean_of_the_neighbours() -> None:
    model = small()
    with torch.no_grad():
        model.flow_head.weight.zero_()
        model.flow_head.bias.zero_()
        model.head.weight[3:].zero_()
        model.head.bias[3:] = torch.tensor([-50.0, 50.0])  # the aggregated frame alone
        positions = torch.arange(7.0)
        independent = model._parts(positions).independent
        shown = model(positions)
    mean = (independent[1] + independent[2] + independent[4] + independent[5]) / 4
    torch.testing.assert_close(shown[3], mean, rtol=0, atol=1e-5)
    # before the first frame all is black, and takes its share
    torch.testing.assert_close(shown[0], (independent[1] + independent[2]) / 4, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [VideoShape(3, 121, 161), VideoShape(1, 121, 161)])
def test_frames_of_odd_sizes_and_few_neighbours(shape: VideoShape) -> None:
    model = FFNeRV(FFNeRV.configure(shape, 60_000), shape).eval()
    with torch.no_grad():
        frames = model(torch.arange(float(shape.frames)))
    assert frames.shape == (shape.frames, 3, 121, 161)
    assert 0 <= frames.min() < frames.max() <= 1


# Decoding


def counted(model: FFNeRV, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The positions whose parts are computed from now on, in order."""
    found: list[float] = []
    parts = model._parts

    def noted(t: Tensor) -> Parts:
        found.extend(t.tolist())
        return parts(t)

    monkeypatch.setattr(model, "_parts", noted)
    return found


def test_any_order_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    orders = [range(7), reversed(range(7)), (3, 0, 6, 1, 5, 2, 4)]
    found = counted(model, monkeypatch)
    shown: list[dict[int, Tensor]] = []
    with torch.inference_mode():
        for order in orders:
            model.forget()
            shown.append({i: model(torch.tensor([float(i)])) for i in order})
            if len(shown) == 1:
                assert found == [0, 1, 2, 3, 4, 5, 6]  # once each, in order
        together = model(torch.arange(7.0))
        model.forget()
        alone = model(torch.tensor([2.5]))
        again = model(torch.tensor([2.5]))
    for i in range(7):
        assert all(torch.equal(frames[i], shown[0][i]) for frames in shown[1:])
        assert torch.equal(together[i], shown[0][i][0])
    assert torch.equal(alone, again)
    # with gradients nothing is kept, and the frame is the same up to rounding
    torch.testing.assert_close(model(torch.tensor([4.0])), shown[0][4], rtol=0, atol=1e-6)


def test_decoding_keeps_no_more_than_a_frame_needs() -> None:
    model = small(VideoShape(40, 20, 28))
    with torch.inference_mode():
        for i in range(40):
            model(torch.tensor([float(i)]))
            assert len(model._kept.parts) <= 5
        kept = [part for parts in model._kept.parts.values() for part in parts]
        model.forget()
        assert not model._kept.parts
    plan = blueprint(FFNeRV, model.config, model.shape)
    beside = plan.memory - VALUE_BYTES * plan.values
    assert 0 < sum(part.untyped_storage().nbytes() for part in kept) < beside


def test_decoding_in_order_costs_what_is_declared() -> None:
    model = small()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for i in range(7):
            model(torch.tensor([float(i)]))
    declared = decode_macs(FFNeRV, model.config, SMALL)
    assert counter.get_total_flops() == 7 * 2 * declared


def test_other_weights_show_other_frames() -> None:
    model, other = small(), small()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.7)
    t = torch.tensor([3.0])

    def fresh(tensors: dict[str, Tensor]) -> Tensor:
        built = FFNeRV(model.config, SMALL).eval()
        built.load_stored(tensors)
        return built(t)

    with torch.inference_mode():
        first = model(t)
        # one network with the tensors of another, as a quantizer asks it
        called = FunctionalModel(model).with_tensors(other.stored(), "forward", t)
        assert torch.equal(called, fresh(other.stored()))
        assert torch.equal(model(t), first)
        model.load_stored(other.stored())
        assert torch.equal(model(t), called)
        assert not torch.equal(first, called)
    with torch.no_grad():
        model.head.bias.add_(0.1)  # as an optimizer does
        assert not torch.equal(model(t), called)
        assert torch.equal(model(t), fresh(model.stored()))


def test_only_the_segment_in_use_keeps_frames() -> None:
    data = segmented([random_segment(4, seed, "ffnerv") for seed in (0, 1)])
    with nervkit.open(data) as opened:
        networks = [segment.model for segment in opened.segments]
        frames = [opened[i] for i in (1, 5, 2, 6)]
        assert [len(network._kept.parts) for network in networks] == [0, 4]
        assert np.array_equal(opened[1], frames[0])
        assert [bool(network._kept.parts) for network in networks] == [True, False]


# Fitting


def started(recipe: str = "native", **options: Any) -> Stepper:
    shape = VideoShape(5, 16, 24)
    torch.manual_seed(0)
    config = FFNeRVConfig(strides=(2, 2), grid_knots=(2, 5), grid_channels=6, min_width=6)
    frames = torch.from_numpy(video()).permute(0, 3, 1, 2)
    return Stepper(
        FFNeRV(config, shape), frames, FFNeRV.recipes[recipe], precision="float32", **options
    )


def test_the_buffer_follows_the_fit_and_never_travels() -> None:
    stepper = started()
    model = stepper.model
    assert model.buffer.frames.shape == (5, 3, 16, 24)
    assert model.buffer.frames.dtype == torch.uint8
    with torch.no_grad():
        independent = model._parts(torch.arange(5.0)).independent
    difference = independent - model.buffer.at(torch.arange(5))
    assert difference.abs().max() <= 0.5 / 255 + 1e-6
    before = model.buffer.frames.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        model.fit_forward(torch.tensor([2.0]), torch.zeros(1, 3, 16, 24))
    assert torch.equal(model.buffer.frames, before)  # looking changes nothing
    model.fit_forward(torch.tensor([2.0]), torch.zeros(1, 3, 16, 24))
    changed = [not torch.equal(a, b) for a, b in zip(model.buffer.frames, before, strict=True)]
    assert changed == [False, False, True, False, False]
    assert not [name for name in model.stored() if "buffer" in name]
    assert not len(model.eval().buffer.frames)
    decoder = FFNeRV.for_decoding(model.config, model.shape).train()
    assert not hasattr(decoder, "buffer")
    assert decoder(torch.tensor([2.0])).requires_grad


def test_a_step_sees_the_neighbours_of_the_buffer_without_their_gradients() -> None:
    model = started().model
    t = torch.tensor([2.0])
    model.buffer.frames.random_(0, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = model._parts(t)
    final, aggregated, independent = model.fit_outputs(t, torch.zeros(1, 3, 16, 24), False)
    others = [model.buffer.frames[i].double().numpy() / 255 for i in (0, 1, 3, 4)]
    expected = reference(model, own, others)
    assert np.abs(final[0].detach().double().numpy() - expected[0]).max() < 1e-5
    assert np.abs(aggregated[0].detach().double().numpy() - expected[1]).max() < 1e-5
    assert torch.equal(independent, own.independent)
    final.sum().backward()
    reached = model.grids[1].grad.flatten(1).any(1)  # a knot for each frame
    assert reached.tolist() == [False, False, True, False, False]


def test_the_loss_has_three_terms() -> None:
    stepper, twin = started("paper"), started("paper")
    frame = stepper.frames[3:4].float() / 255
    outputs = twin.model.fit_outputs(torch.tensor([3.0]), stepper.frames[3:4], False)
    final, aggregated, independent = (fusion6(output, frame) for output in outputs)
    (final + 0.1 * aggregated + 0.1 * independent).backward()
    measured = stepper._update(torch.tensor([3]))
    torch.testing.assert_close(measured, final.detach())
    for ours, theirs in zip(stepper.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_what_does_not_count_gives_no_gradient_to_any_term() -> None:
    known = torch.zeros(5, 1, 16, 24, dtype=torch.uint8)
    stepper = started("native", known=known)
    stepper._update(torch.tensor([1, 2]))
    assert not any(p.grad.any() for p in stepper.model.parameters())


def test_a_resumed_fit_ends_the_same(tmp_path: Path) -> None:
    def tensors(model: nn.Module) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in model.state_dict().items()}

    whole = started()
    fit(whole, 12)
    kept = checkpoint(tmp_path)
    with pytest.raises(Interrupted):
        fit(started(), 12, checkpoint=kept, stop=stop_after(7))
    resumed = started()
    fit(resumed, 12, checkpoint=kept, saved=kept.load())
    assert same(tensors(whole.model), tensors(resumed.model))
    fresh = FFNeRV(whole.model.config, whole.model.shape)
    kept.load().restore(fresh, [])  # as the fine-tuning after pruning does
    assert fresh.buffer.frames.shape == (5, 3, 16, 24)


@pytest.mark.parametrize("size", [(3, 31, 41), (1, 16, 24)])
@pytest.mark.parametrize("options", [{}, {"target_size": "3k"}, {"bits": 6, "prune": 0.1}])
def test_a_file_decodes_to_what_was_encoded(
    size: tuple[int, int, int], options: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "a.nerv"
    source = video(*size)
    settings = {"model": "ffnerv", "steps": 12, "params": 6000, "precision": "float32"}
    report = nervkit.encode(source, output, **settings | options)
    verdict = nervkit.verify(output, source)
    assert (verdict.identical, verdict.wrong) == (size[0], 0)
    assert verdict.psnr == pytest.approx(report.psnr)
    with nervkit.open(output) as opened:
        in_order = opened[:]
    with nervkit.open(output) as opened:
        for i in reversed(range(size[0])):
            assert np.array_equal(opened[i], in_order[i])
