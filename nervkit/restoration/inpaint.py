"""Filling unknown parts of a video from other frames and a representation of the known parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np

from nervkit.errors import UsageError
from nervkit.keywords import checked_keywords, option, setting, spelled_out
from nervkit.output import check_not_same
from nervkit.restoration.between import Interpolator
from nervkit.restoration.fill import CERTAIN, Membranes, fill_in
from nervkit.restoration.kinds import FramesT, to_uint8
from nervkit.restoration.masks import Mask, check_mask, read_mask
from nervkit.restoration.task import DEFAULTS, Fitted, RestoreOptions, RestoreReport, Task
from nervkit.video.clip import Clip
from nervkit.video.reader import FileSource, VideoSource

# Weights in the loss, of 255, of values that are interpolated smoothly or copied from other frames.
SMOOTH_WEIGHT, COPIED_WEIGHT = 16, 128
WEIGHTS = np.linspace(SMOOTH_WEIGHT, COPIED_WEIGHT, CERTAIN + 1).astype(np.uint8)  # by confidence


@overload
def inpaint(
    source: VideoSource,
    mask: Mask | None,
    output: str | os.PathLike[str],
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> RestoreReport: ...
@overload
def inpaint(
    source: VideoSource,
    mask: Mask | None = None,
    *,
    output: str | os.PathLike[str],
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> RestoreReport: ...
@overload
def inpaint(
    source: FramesT,
    mask: Mask | None = None,
    output: None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> FramesT: ...
@overload
def inpaint(
    source: FileSource | Clip,
    mask: Mask | None = None,
    output: None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> Clip: ...
@checked_keywords
@spelled_out(RestoreOptions, DEFAULTS)
def inpaint(
    source: VideoSource,
    mask: Mask | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> Any:
    """Fill the unknown parts of a video.

    Content that another frame shows is copied from there along the motion (`fill_in`). A
    representation is then fitted with a masked loss (as in HNeRV, 2304.02633): known pixels have
    full weight, copied ones less, and a smooth interpolation of the rest little. Where nothing
    could be copied, the detail of its prediction is added, without a visible seam. Frames without
    any known pixel are left out of the fit and predicted at their own time. Without a fit, the
    result consists of the copied and the interpolated pixels.

    Args:
        source: anything that `read_clip` takes.
        mask: the unknown pixels: an array (H, W) or (T, H, W) that is True or nonzero there; or an
            image, a folder or pattern of images, or a movie that is not black there.
        output: as for `decode`. None returns the frames instead.
        boxes: further unknown parts: "x,y,w,h" in pixels, "x,y,w,h@a:b" (only in frames a to
            b - 1), or "@a:b" (entire frames).
        whole: return the prediction for all pixels. By default known pixels do not change.
        **options: `fit` (True by default), the options of fitting (`encode`), reading
            (`read_clip`) and writing (`decode`), and callbacks; see `RestoreOptions`.

    Returns:
        With `output`, a RestoreReport. Otherwise an array, tensor or list like the source, or a
        Clip for any other source.

    Raises:
        UsageError: an option is invalid.
        SourceError: the source or the mask cannot be read.
        OutputError: the output exists, or cannot be written.
        Interrupted: the user stopped the work.
    """
    task = Task(inpaint, source, output, **options)
    fit = task.fit_requested is not False
    if whole and not fit:
        raise UsageError(f"{option('whole')} needs a fit: leave it or {setting('fit', False)} out")
    check_mask(mask, boxes)
    if output is not None and isinstance(mask, (str, os.PathLike)):
        check_not_same(mask, Path(output))
    clip = task.read()
    unknown = read_mask(mask, boxes, clip.shape[:3], task.reading, clip.skipped)
    missing = unknown.all(axis=(1, 2))
    present = ~missing if missing.any() else slice(None)
    filled, confidence = fill_in(clip.frames[present], unknown[present], task.search())
    fitted = None
    if fit:
        weights = np.where(unknown[present], WEIGHTS[confidence], np.uint8(255))
        fitted = task.fit(filled, weights[..., None])
    times = clip.pts[present]
    positions = np.interp(clip.pts, times, np.arange(len(times))).tolist()
    frames: Iterator[np.ndarray]
    if whole and fitted:
        frames = (to_uint8(fitted.predict(position)) for position in positions)
    else:
        patcher = Patcher(filled, confidence, fitted)
        frames = patcher.frames(clip.frames, unknown, positions)
    copied = int(confidence[unknown[present]].sum(dtype=np.int64))
    details = {
        "unknown_share": float(unknown.mean()),
        "found_share": copied / CERTAIN / int(unknown.sum()),
        "missing_frames": int(missing.sum()),
    }
    changed = True if whole else unknown
    return task.deliver(clip, frames, fitted, changed=changed, details=lambda: details)


class Patcher:
    """Fills the holes of frames: with the copied values, and in proportion to their uncertainty
    with the detail of the prediction."""

    def __init__(self, filled: np.ndarray, confidence: np.ndarray, fitted: Fitted | None) -> None:
        """`filled` and `confidence` come from `fill_in`, and cover the frames of the fit."""
        self._filled, self._confidence, self._fitted = filled, confidence, fitted
        self._membranes = Membranes()
        residual = lru_cache(maxsize=2)(self._residual)
        self._interpolator = Interpolator(filled, fitted, residual)

    def frames(
        self, frames: np.ndarray, unknown: np.ndarray, positions: list[float]
    ) -> Iterator[np.ndarray]:
        """Yield each of (T, H, W, 3) frames without its hole. `positions` are their places among
        the frames of the fit."""
        for frame, hole, position in zip(frames, unknown, positions, strict=True):
            if not hole.any():
                yield frame
                continue
            between = position % 1 > 0
            made = self._interpolator.at(position) if between else self._patched(int(position))
            yield np.where(hole[..., None], to_uint8(made), frame)

    def _patched(self, index: int) -> np.ndarray:
        if self._fitted is None:
            return self._filled[index]
        predicted = self._fitted.predict(index)
        certain = self._confidence[index] == CERTAIN
        # A membrane is linear in its boundary values, so the sum meets known pixels without a seam.
        detail = predicted - self._membranes.fill(predicted, ~certain)
        doubt = 1 - self._confidence[index][..., None] / np.float32(CERTAIN)
        return self._filled[index] + doubt * detail

    def _residual(self, index: int) -> np.ndarray:
        assert self._fitted is not None  # residuals exist only with a fit
        return self._patched(index) - self._fitted.predict(index)
