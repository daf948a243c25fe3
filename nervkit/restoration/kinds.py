"""What users hand in, and the same kind handed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nervkit.video.reader import as_array, channels_first

if TYPE_CHECKING:
    from torch import Tensor


def is_array(source: object) -> bool:
    """Whether frames were handed in as an array or a tensor."""
    return isinstance(source, np.ndarray) or is_tensor(source)


def is_tensor(source: object) -> bool:
    """Whether it is a torch tensor; torch need not be imported to tell."""
    return type(source).__module__.partition(".")[0] == "torch"


def alike(
    source: Any, frames: np.ndarray, changed: np.ndarray | bool = True, places: Any = ...
) -> np.ndarray | Tensor:
    """Frames as an array or tensor like `source`: of its type, layout, channels and device.

    Args:
        source: an array or tensor, as `read_clip` takes them.
        frames: (N, H, W, 3) uint8.
        changed: bool, of a shape that goes with (N, H, W): all else is taken from `source` itself,
            from its frames at
        places: (N,) int; every frame's own place if nothing else is said.
    """
    given = as_array(source)
    values = frames
    if given.ndim == 3 or given.shape[3] == 1:
        values = np.rint(frames.mean(axis=3, keepdims=True)).astype(np.uint8)
    if given.dtype != np.uint8:
        values = (values / np.float32(255)).astype(given.dtype)
    if not np.all(changed):
        full = given[..., None] if given.ndim == 3 else given
        values = np.where(np.asarray(changed)[..., None], values, full[places])
    if given.ndim == 3:
        values = values[..., 0]
    if not is_tensor(source):
        return values
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if channels_first(source):
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.to(device=source.device, dtype=source.dtype)


def pixels(values: np.ndarray) -> np.ndarray:
    """Values around [0, 255] as uint8."""
    return values.round().clip(0, 255).astype(np.uint8)
