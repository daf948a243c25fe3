"""How much a model computes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig, VideoShape


def decode_macs(model_type: type[Representation], config: ModelConfig, shape: VideoShape) -> int:
    """Multiply-accumulates of decoding one frame.

    Convolutions (a padded border included), linear layers and every other matrix product of
    `forward`, wherever it is called; no biases, activations or other work per element. Nothing is
    computed: the model runs on torch's meta device.
    """
    # torch's counter sees operators, not modules, so that a product outside of a layer counts
    # too. It misses products with a vector and counts two operations for each multiply-accumulate.
    counter = FlopCounterMode(display=False, custom_mapping=VECTOR_PRODUCTS)
    model = model_type.skeleton(config, shape).eval()
    with counter, torch.no_grad():
        model(torch.zeros(1, device="meta"))
    return counter.get_total_flops() // 2


def _mv_flops(matrix: torch.Size, vector: torch.Size, **_: Any) -> int:
    return 2 * matrix.numel()


def _addmv_flops(bias: torch.Size, matrix: torch.Size, vector: torch.Size, **_: Any) -> int:
    return 2 * matrix.numel()


def _dot_flops(first: torch.Size, second: torch.Size, **_: Any) -> int:
    return 2 * first.numel()


VECTOR_PRODUCTS = {
    torch.ops.aten.mv: _mv_flops,
    torch.ops.aten.addmv: _addmv_flops,
    torch.ops.aten.dot: _dot_flops,
}
