"""How much a model computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nervkit.models.base import Representation, count_stored
from nervkit.models.config import ModelConfig, VideoShape

# What is held at once for each stored value: the integers, the tensor, and its copy in the model.
VALUE_BYTES = 24
SAMPLE_BYTES = 16  # for each of a frame's samples: the frame in float32 while it becomes 8 bits

ONE_AT_A_TIME = Lock()  # torch's counter hooks into the modules of all threads


@dataclass(frozen=True)
class Blueprint:
    """What is known of a model before it has memory.

    Attributes:
        weights, embeddings: shapes of the stored tensors, by name, in the file's order.
        values: how many numbers they hold.
        macs: multiply-accumulates of decoding a frame, where frames are read in order.
        memory: bytes that decoding holds at once.
        gradient_memory: bytes that a backward pass through one frame holds at once, at most.
    """

    weights: dict[str, tuple[int, ...]]
    embeddings: dict[str, tuple[int, ...]]
    values: int
    macs: int
    memory: int
    gradient_memory: int


@lru_cache(maxsize=256)
def blueprint(
    model_type: type[Representation], config: ModelConfig, shape: VideoShape
) -> Blueprint:
    """The blueprint of a model. It runs on torch's meta device: nothing of its size is allocated
    or computed."""
    with ONE_AT_A_TIME:
        return _drawn(model_type, config, shape)


def _drawn(model_type: type[Representation], config: ModelConfig, shape: VideoShape) -> Blueprint:
    skeleton = model_type.skeleton(config, shape)
    values = count_stored(skeleton)
    counter = FlopCounterMode(display=False, custom_mapping=VECTOR_PRODUCTS)
    operations = _Operations()
    with counter, operations, torch.no_grad():
        skeleton.eval()(torch.zeros(1, device="meta"))
    frame = SAMPLE_BYTES * 3 * shape.height * shape.width
    kept = len(skeleton.neighbours) * frame  # from frame to frame
    memory = VALUE_BYTES * values + operations.largest + frame + kept
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (skeleton.weights(), skeleton.embeddings())
    ]
    # In order, what is computed of a neighbour has been computed before.
    macs = counter.get_total_flops() // 2 // (1 + len(skeleton.neighbours))
    return Blueprint(*shapes, values, macs, memory, memory + operations.largest + operations.made)


class _Operations(TorchDispatchMode):
    """Notes the most bytes that one operator's inputs and outputs take, and the bytes that all
    make together. What aliases an input takes none."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.made = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(value.alias_info for value in func._schema.returns):
            self.largest = max(self.largest, _bytes((args, result)))
            self.made += _bytes(result)
        return result


def _bytes(values: Any) -> int:
    """What all tensors among these take."""
    tensors = [x for x in tree_leaves(values) if isinstance(x, Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)


def decode_macs(model_type: type[Representation], config: ModelConfig, shape: VideoShape) -> int:
    """Multiply-accumulates of decoding one frame, where frames are read in order.

    Convolutions (a padded border included), linear layers and every other matrix product of
    `forward`, wherever it is called; no biases, activations or other work per element. Nothing is
    computed: the model runs on torch's meta device.
    """
    # torch's counter sees operators, not modules, so that a product outside of a layer counts
    # too. It misses products with a vector and counts two operations for each multiply-accumulate.
    return blueprint(model_type, config, shape).macs


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
