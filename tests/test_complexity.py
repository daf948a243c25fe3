"""The count of multiply-accumulates, compared with counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nervkit.models.base import Representation
from nervkit.models.complexity import blueprint, decode_macs
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.gridnerv import GridNeRV
from nervkit.models.hnerv import HNeRV, HNeRVConfig
from nervkit.models.nerv import NeRV, NeRVConfig


def test_a_tiny_hnerv_by_hand() -> None:
    config = HNeRVConfig(
        strides=(2, 3), width=6, embedding_channels=4, reduction=2, min_width=2, max_kernel=3
    )
    shape = VideoShape(frames=5, height=11, width=17)  # inside 12x18, on a grid of 2x3
    stem = 2 * 3 * 4 * 6
    first = 2 * 3 * 6 * (3 * 2**2)  # 1x1, to 3 channels, on the grid
    second = 4 * 6 * 3 * 3**2 * (2 * 3**2)  # 3x3, to 2 channels, on twice the grid
    head = 12 * 18 * 2 * 3**2 * 3
    assert decode_macs(HNeRV, config, shape) == stem + first + second + head == 23_904


def test_a_tiny_nerv_by_hand() -> None:
    config = NeRVConfig(
        strides=(2, 2), stem_width=10, grid_channels=4, min_width=2, pe_base=1.25, pe_levels=3
    )
    shape = VideoShape(frames=5, height=8, width=12)  # a grid of 2x3
    stem = 6 * 10 + 10 * (2 * 3 * 4)
    first = 2 * 3 * 4 * 3**2 * (4 * 2**2)
    second = 4 * 6 * 4 * 3**2 * (2 * 2**2)
    head = 8 * 12 * 2 * 3
    assert decode_macs(NeRV, config, shape) == stem + first + second + head == 11_244


@pytest.mark.parametrize("parameters", [350_000, 1_500_000])
def test_hnerv_by_the_formula(parameters: int) -> None:
    shape = VideoShape(132, 640, 1280)
    config = HNeRV.configure(shape, parameters)
    rows, columns = 2, 4
    expected = rows * columns * config.embedding_channels * config.width
    for cin, cout, stride, kernel in config.stages():
        expected += rows * columns * cin * kernel**2 * cout * stride**2
        rows, columns = rows * stride, columns * stride
    assert (rows, columns) == (640, 1280)
    expected += rows * columns * config.stages()[-1][1] * 3**2 * 3
    assert decode_macs(HNeRV, config, shape) == expected


@pytest.mark.parametrize("model_type", [GridNeRV, HNeRV, NeRV])
def test_the_count_is_that_of_a_real_decode(model_type: type[Representation]) -> None:
    shape = VideoShape(6, 50, 70)
    config = model_type.configure(shape, 20_000)
    model = model_type.for_decoding(config, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(3))
    assert counter.get_total_flops() == 3 * 2 * decode_macs(model_type, config, shape)


def test_the_length_of_the_clip_does_not_count() -> None:
    config = HNeRVConfig(strides=(4, 2), width=8, embedding_channels=4)
    counts = {decode_macs(HNeRV, config, VideoShape(n, 16, 24)) for n in (1, 2, 500)}
    assert len(counts) == 1


class Mixed(Representation):
    """Every kind of product that a model may decode with, in layers and outside of them."""

    config_type = ModelConfig
    fit_only = ("encoder",)

    def __init__(self, config: ModelConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.encoder = nn.Conv2d(3, 64, 7)
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.transposed = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.matrix = nn.Parameter(torch.zeros(5, 6))
        self.vector = nn.Parameter(torch.zeros(6))

    @classmethod
    def configure(cls, shape: VideoShape, parameters: int | None = None) -> ModelConfig:
        return ModelConfig()

    def forward(self, t: Tensor) -> Tensor:
        x = self.transposed(self.grouped(t.new_zeros(len(t), 4, 5, 7)))
        x = x.flatten(2).mT  # (B, 140, 6)
        x, _ = self.attention(x, x, x, need_weights=False)
        y = x @ self.matrix.T
        z = torch.einsum("bni,ji->bnj", x, self.matrix)
        column = self.matrix @ self.vector
        column = torch.addmv(column, self.matrix, self.vector)
        return (y + z + column).sum() + self.vector @ self.vector


def test_products_outside_of_layers_count() -> None:
    grouped = 5 * 7 * (4 // 2) * 3**2 * 8
    transposed = 5 * 7 * 8 * 2**2 * (6 // 2)
    attention = 4 * 140 * 6 * 6 + 2 * 140 * 140 * 6
    products = 2 * 140 * 6 * 5 + 2 * 5 * 6 + 6
    total = grouped + transposed + attention + products
    assert decode_macs(Mixed, ModelConfig(), VideoShape(1, 2, 3)) == total


@pytest.mark.parametrize("model_type", [GridNeRV, HNeRV, NeRV])
def test_a_backward_pass_holds_no_more_than_is_said(model_type: type[Representation]) -> None:
    shape = VideoShape(4, 48, 64)
    config = model_type.configure(shape, 12_000)
    model, held = model_type.for_decoding(config, shape), {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.zeros(1))
    plan = blueprint(model_type, config, shape)
    assert sum(held.values()) <= plan.gradient_memory
    assert plan.memory < plan.gradient_memory < 20 * plan.memory
