"""Frames that are in memory: arrays, tensors and lists of frames, as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nervkit.errors import SourceError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

FrameSource: TypeAlias = "np.ndarray | Tensor | Sequence[Any]"
ONE_FRAME = "is that of one frame, and a video is (T, H, W, 3): for this one frame pass frame[None]"


def is_tensor(source: object) -> bool:
    """Whether it is a torch tensor; torch need not be imported to tell."""
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(source).__mro__)


def is_array(source: object) -> bool:
    """Whether it is an array or a tensor."""
    return isinstance(source, np.ndarray) or is_tensor(source)


def is_frames(source: object) -> bool:
    """Whether frames were handed in: an array, a tensor, or a list of such."""
    return isinstance(source, (list, tuple)) or is_array(source)


def stacked(source: Any) -> np.ndarray | Tensor:
    """An array or tensor as it is, and of a list of frames (arrays, tensors, Pillow's images) one
    of all. Raises UsageError for anything else, SourceError for frames of several sizes."""
    if is_array(source):
        return source
    if not isinstance(source, (list, tuple)):
        raise UsageError(
            f"cannot read frames from {type(source).__name__}; "
            "give a path, a binary file, bytes, an array, a tensor or a list of frames"
        )
    frames = [f if is_tensor(f) else np.asarray(f) for f in source]
    if not frames:
        raise SourceError("there are no frames in this list")
    for frame in frames:
        if frame.ndim not in (2, 3):
            raise UsageError(
                "a list of frames holds (H, W, 3) arrays or tensors, "
                f"and not what has shape {tuple(frame.shape)}"
            )
        if frame.shape != frames[0].shape or type(frame) is not type(frames[0]):
            raise SourceError("the frames of this list are not all of one size and kind")
    if not is_tensor(frames[0]):
        return np.stack(frames)
    import torch

    return torch.stack(frames)


def channels_first(frames: np.ndarray | Tensor) -> bool:
    """Whether an array or tensor of frames is (T, C, H, W)."""
    return frames.ndim == 4 and frames.shape[1] in (1, 3) and frames.shape[3] not in (1, 3)


def as_array(source: Any) -> np.ndarray:
    """Frames in memory as an array with channels last. Raises UsageError for a tensor that is a
    single frame, (3, H, W), and for what `stacked` refuses."""
    frames = stacked(source)
    first = channels_first(frames)
    if is_tensor(frames):
        if frames.ndim == 3 and frames.shape[0] == 3:
            raise UsageError(f"tensor: the shape {tuple(frames.shape)} {ONE_FRAME}")
        frames = frames.detach().cpu()
        if frames.is_floating_point() and frames.element_size() < 4:
            frames = frames.float()  # numpy has no bfloat16
        frames = frames.numpy()
    return frames.transpose(0, 2, 3, 1) if first else frames
