"""What users hand in, and the same kind handed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nervkit.video.arrays import as_array, channels_first, is_tensor, stacked

if TYPE_CHECKING:
    from torch import Tensor

#: frames in memory that somebody hands in, and gets back in kind
Given = TypeVar("Given", np.ndarray, "Tensor", list[Any])


def alike(
    source: Any, frames: np.ndarray, changed: np.ndarray | bool = True, places: Any = ...
) -> np.ndarray | Tensor | list[Any]:
    """Frames as an array, a tensor or a list of frames like `source`: of its type, layout,
    channels and device.

    Args:
        source: an array, a tensor or a list of frames, as `read_clip` takes them.
        frames: (N, H, W, 3) uint8.
        changed: bool, of a shape that goes with (N, H, W): all else is taken from `source` itself,
            from its frames at
        places: (N,) int; every frame's own place if nothing else is said.
    """
    if isinstance(source, (list, tuple)):
        return list(alike(stacked(source), frames, changed, places))
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
    if channels_first(source):
        values = values.transpose(0, 3, 1, 2)
    if not is_tensor(source):
        return values
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(
        device=source.device, dtype=source.dtype
    )


def pixels(values: np.ndarray) -> np.ndarray:
    """Values around [0, 255] as uint8."""
    return values.round().clip(0, 255).astype(np.uint8)
