"""In-memory frames: converts arrays, tensors and lists of frames to one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from nervkit.errors import SourceError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

FrameSource: TypeAlias = "np.ndarray | Tensor | Sequence[Any]"
ONE_FRAME = "is a single frame; a video has shape (T, H, W, 3): pass frame[None] for one frame"


def is_tensor(source: object) -> TypeGuard[Tensor]:
    """Whether `source` is a torch tensor. Does not import torch."""
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(source).__mro__)


def is_array(source: object) -> TypeGuard[np.ndarray | Tensor]:
    """Whether `source` is an array or a tensor."""
    return isinstance(source, np.ndarray) or is_tensor(source)


def is_frames(source: object) -> bool:
    """Whether `source` holds frames in memory: an array, a tensor, or a list."""
    return isinstance(source, (list, tuple)) or is_array(source)


def stack_frames(source: Any) -> np.ndarray | Tensor:
    """Return an array or tensor unchanged; stack a list of frames (arrays, tensors, Pillow images).
    Raises UsageError for any other type, SourceError for frames of different sizes."""
    if is_array(source):
        return source
    if not isinstance(source, (list, tuple)):
        if hasattr(source, "shape") and hasattr(source, "__getitem__"):  # such as a NervVideo
            kind = type(source).__name__
            raise UsageError(f"cannot read frames from {kind}; pass its frames, such as video[:]")
        raise UsageError(
            f"cannot read frames from {type(source).__name__}; "
            "give a path, a binary file, bytes, an array, a tensor or a list of frames"
        )
    frames: list[Any] = [f if is_tensor(f) else np.asarray(f) for f in source]
    if not frames:
        raise SourceError("the list of frames is empty")
    for frame in frames:
        if frame.ndim not in (2, 3):
            raise UsageError(
                "a list of frames must hold (H, W, 3) arrays or tensors, "
                f"not shape {tuple(frame.shape)}"
            )
        if frame.shape != frames[0].shape or type(frame) is not type(frames[0]):
            raise SourceError("the frames in the list must all have the same size and type")
    if not is_tensor(frames[0]):
        return np.stack(frames)
    import torch

    return torch.stack(frames)


def channels_first(frames: np.ndarray | Tensor) -> bool:
    """Whether the layout of `frames` is (T, C, H, W)."""
    return frames.ndim == 4 and frames.shape[1] in (1, 3) and frames.shape[3] not in (1, 3)


def as_array(source: Any) -> np.ndarray:
    """Return in-memory frames as an array with channels last. Raises UsageError for a tensor that
    is a single frame, (3, H, W), and the errors of `stack_frames`."""
    frames = stack_frames(source)
    first = channels_first(frames)
    array = frames if isinstance(frames, np.ndarray) else _to_numpy(frames)
    return array.transpose(0, 2, 3, 1) if first else array


def _to_numpy(frames: Tensor) -> np.ndarray:
    if frames.ndim == 3 and frames.shape[0] == 3:
        raise UsageError(f"tensor: the shape {tuple(frames.shape)} {ONE_FRAME}")
    frames = frames.detach().cpu()
    if frames.is_floating_point() and frames.element_size() < 4:
        frames = frames.float()  # numpy has no bfloat16
    return frames.numpy()
