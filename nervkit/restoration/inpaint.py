"""What is missing of a video, from a representation that is fitted to what is known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np

from nervkit.errors import UsageError
from nervkit.output import check_not_same
from nervkit.restoration.between import Between
from nervkit.restoration.fill import TRUSTED, Membranes, fill_in
from nervkit.restoration.kinds import Given, pixels
from nervkit.restoration.masks import check_mask, read_mask
from nervkit.restoration.task import Fitted, RestoreOptions, RestoreReport, Task
from nervkit.video.clip import Clip
from nervkit.video.reader import FileSource, VideoSource

# Of 255: how much a value counts in the fit that was made up smoothly, or found in another frame.
FILL_WEIGHT, FOUND_WEIGHT = 16, 128
WEIGHTS = np.linspace(FILL_WEIGHT, FOUND_WEIGHT, TRUSTED + 1).astype(np.uint8)  # by trust


@overload
def inpaint(
    source: VideoSource,
    mask: Any,
    output: str | os.PathLike[str],
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> RestoreReport: ...
@overload
def inpaint(
    source: Given,
    mask: Any = None,
    output: None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> Given: ...
@overload
def inpaint(
    source: FileSource | Clip,
    mask: Any = None,
    output: None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> Clip: ...
def inpaint(
    source: VideoSource,
    mask: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Unpack[RestoreOptions],
) -> Any:
    """Fill the unknown parts of a video.

    What another frame shows is copied from there along the motion (`fill_in`). A representation is
    then fitted with a masked loss (as in HNeRV, 2304.02633): known pixels count fully, copied ones
    less, and a smooth interpolation of the rest little. Where nothing could be copied, the detail
    of its prediction is added, without a visible seam. Frames that are missing altogether are left
    out of the fit and predicted at their own time. Without a fit, the result is the copied and the
    interpolated pixels.

    Args:
        source: whatever `read_clip` takes.
        mask: what is unknown: an array (H, W) or (T, H, W), True or nonzero there; or an image, a
            folder or pattern of images, or a movie, not black there.
        output: as for `decode`. None returns the frames instead.
        boxes: further unknown parts: "x,y,w,h" in pixels, "x,y,w,h@a:b" (in frames a to b - 1), or
            "@a:b" (whole frames).
        whole: return the representation's prediction of all pixels. By default known pixels stay
            untouched.
        **options: `fit` (bool, True by default), and the options of fitting (`encode`), reading
            (`read_clip`) and writing (`decode`); see `Task`.

    Returns:
        With `output`, a RestoreReport. Without, an array or tensor like the source's, or a Clip
        where the source is a path.

    Raises:
        UsageError: an option is not understood or does not fit.
        SourceError: the source or the mask cannot be read.
        OutputError: the output exists, or cannot be written.
        Interrupted: the user stopped the work.
    """
    task = Task(inpaint, source, output, **options)
    fit = task.fit_wanted is not False
    if whole and not fit:
        raise UsageError("--whole writes a fit's prediction, and --no-fit makes none; choose one")
    check_mask(mask, boxes)
    if output is not None and isinstance(mask, (str, os.PathLike)):
        check_not_same(mask, Path(output))
    clip = task.read()
    unknown = read_mask(mask, boxes, clip.shape[:3], task.reading, clip.skipped)
    missing = unknown.all(axis=(1, 2))
    present = ~missing if missing.any() else slice(None)
    filled, trust = fill_in(clip.frames[present], unknown[present], task.searched)
    known = np.where(unknown[present], WEIGHTS[trust], np.uint8(255))
    places = clip.pts[present]
    fitted = task.fit(filled, places, known[..., None]) if fit else None
    positions = np.interp(clip.pts, places, np.arange(len(places))).tolist()
    if whole and fitted:
        frames = (pixels(fitted.predict(position)) for position in positions)
    else:
        frames = _patched(clip.frames, unknown, positions, fitted, filled, trust)
    found = int(trust[unknown[present]].sum(dtype=np.int64))
    details = {
        "unknown_share": float(unknown.mean()),
        "found_share": found / TRUSTED / int(unknown.sum()),
        "missing_frames": int(missing.sum()),
    }
    changed = True if whole else unknown
    return task.deliver(clip, frames, fitted, changed=changed, details=lambda: details)


def _patched(
    frames: np.ndarray,
    unknown: np.ndarray,
    positions: list[float],
    fitted: Fitted | None,
    filled: np.ndarray,
    trust: np.ndarray,
) -> Iterator[np.ndarray]:
    """Each frame with its holes filled by what was found and, for as much as that is not to be
    trusted, the prediction's detail. `filled` and `trust` are of frames that are not missing."""
    membranes = Membranes()

    def patched(index: int) -> np.ndarray:
        if fitted is None:
            return filled[index]
        predicted = fitted.predict(index)
        known = trust[index] == TRUSTED
        # A membrane is linear in what is around it: this meets the known pixels without a seam.
        detail = predicted - membranes.fill(predicted, ~known)
        doubt = 1 - trust[index][..., None] / np.float32(TRUSTED)
        return filled[index] + doubt * detail

    @lru_cache(maxsize=2)
    def missed(index: int) -> np.ndarray:
        return patched(index) - fitted.predict(index)

    between = Between(filled, fitted, missed)
    for frame, hole, position in zip(frames, unknown, positions, strict=True):
        if not hole.any():
            yield frame
            continue
        made = between.at(position) if position % 1 else patched(int(position))
        yield np.where(hole[..., None], pixels(made), frame)
