"""Kinds of frames in memory: results have the type and layout of their source."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nervkit.video.arrays import as_array, channels_first, is_tensor, stack_frames

if TYPE_CHECKING:
    from torch import Tensor

#: frames in memory, for functions that return the type of their argument
FramesT = TypeVar("FramesT", np.ndarray, "Tensor", list[Any])


def like_source(
    source: Any,
    frames: np.ndarray,
    changed: np.ndarray | bool = True,
    places: np.ndarray | EllipsisType = ...,
) -> np.ndarray | Tensor | list[Any]:
    """Return frames as an array, a tensor or a list, with the type, layout, channels and device of
    `source`.

    Args:
        source: an array, a tensor or a list of frames, as `read_clip` takes them.
        frames: (N, H, W, 3) uint8.
        changed: bool, broadcastable to (N, H, W). Where it is False, the result has the exact
            values of the source.
        places: (N,) int, the source frame that these values come from. By default result frame i
            takes them from source frame i.
    """
    if isinstance(source, (list, tuple)):
        return list(like_source(stack_frames(source), frames, changed, places))
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


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Round values to uint8, clipped to [0, 255]."""
    return values.round().clip(0, 255).astype(np.uint8)
