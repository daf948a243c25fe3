"""The cost of a model: values, multiply-accumulates, memory."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nervkit.models.base import Representation, count_stored
from nervkit.models.config import ModelConfig, VideoShape

# Peak memory per stored value: the integers, the tensor, and its copy in the model.
VALUE_BYTES = 24
SAMPLE_BYTES = 16  # peak memory per sample of a frame while float32 becomes 8 bits

COUNTING = Lock()  # torch's counter hooks into the modules of all threads


@dataclass(frozen=True)
class Blueprint:
    """The shapes and costs of a model, computed without allocating it.

    Attributes:
        weights, embeddings: shapes of the stored tensors, by name, in the file's order.
        values: the number of stored values.
        macs: multiply-accumulates per frame if frames are decoded in order.
        memory: peak memory of decoding, in bytes.
        gradient_memory: upper bound of the peak memory of a backward pass through one frame.
    """

    weights: dict[str, tuple[int, ...]]
    embeddings: dict[str, tuple[int, ...]]
    values: int
    macs: int
    memory: int
    gradient_memory: int


def blueprint(
    model_type: type[Representation], config: ModelConfig, shape: VideoShape
) -> Blueprint:
    """Return the blueprint of a model, which runs on torch's meta device: nothing of its size is
    allocated or computed. The last 256 results are cached."""
    # mypy takes a class's __hash__ for that of its instances.
    return _cached(cast("Hashable", model_type), config, shape)


@lru_cache(maxsize=256)
def _cached(model_type: type[Representation], config: ModelConfig, shape: VideoShape) -> Blueprint:
    with COUNTING:
        return _measured(model_type, config, shape)


def _measured(
    model_type: type[Representation], config: ModelConfig, shape: VideoShape
) -> Blueprint:
    skeleton = model_type.skeleton(config, shape)
    values = count_stored(skeleton)
    counter = FlopCounterMode(display=False, custom_mapping=VECTOR_PRODUCTS)
    operations = _Operations()
    with counter, operations, torch.no_grad():
        skeleton.eval()(torch.zeros(1, device="meta"))
    frame = SAMPLE_BYTES * 3 * shape.height * shape.width
    cache = len(skeleton.neighbours) * frame  # kept from frame to frame
    memory = VALUE_BYTES * values + operations.largest + frame + cache
    weights, embeddings = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (skeleton.weights(), skeleton.embeddings())
    )
    return Blueprint(
        weights=weights,
        embeddings=embeddings,
        values=values,
        # In order, the neighbours' part has been computed before.
        macs=counter.get_total_flops() // 2 // (1 + len(skeleton.neighbours)),
        memory=memory,
        gradient_memory=memory + operations.largest + operations.outputs,
    )


# torch does not annotate these two methods of its mode.
class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the largest number of bytes of one operator's inputs and outputs (`largest`), and the
    bytes of all outputs (`outputs`). Outputs that alias an input count as none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = self.outputs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(value.alias_info for value in func._schema.returns):
            self.largest = max(self.largest, _bytes((args, result)))
            self.outputs += _bytes(result)
        return result


def _bytes(values: Any) -> int:
    """Return the bytes of all tensors in a nested structure."""
    tensors = [x for x in tree_leaves(values) if isinstance(x, Tensor)]
    return sum(x.numel() * x.element_size() for x in tensors)


def decode_macs(model_type: type[Representation], config: ModelConfig, shape: VideoShape) -> int:
    """Return the multiply-accumulates per frame if frames are decoded in order.

    This counts convolutions (padded borders included), linear layers and every other matrix product
    of `forward`, but no biases, activations or other element-wise work.
    """
    # torch's counter sees operators, not modules, so products outside of layers count too. It
    # misses products with a vector, and counts two operations per multiply-accumulate.
    return blueprint(model_type, config, shape).macs


def _mv_flops(matrix: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _addmv_flops(bias: torch.Size, matrix: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _dot_flops(first: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * first.numel()


VECTOR_PRODUCTS = {
    torch.ops.aten.mv: _mv_flops,
    torch.ops.aten.addmv: _addmv_flops,
    torch.ops.aten.dot: _dot_flops,
}
