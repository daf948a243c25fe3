"""What is missing of a video, from a representation that is fitted to what is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nervkit.restoration.fill import Membranes, fill_in
from nervkit.restoration.masks import read_mask
from nervkit.restoration.task import Fitted, Task

FILL_WEIGHT = 16  # of 255: how much a filled-in value counts in the fit, beside a known one


def inpaint(
    source: Any,
    mask: Any = None,
    output: str | Path | None = None,
    *,
    boxes: Sequence[str] = (),
    whole: bool = False,
    **options: Any,
) -> Any:
    """Fill the unknown parts of a video.

    A representation is fitted with a loss on what is known (HNeRV, 2304.02633); what
    is unknown starts from a smooth filling, which counts for little. Its predictions go into the
    holes, moved by the membrane of what they miss around the hole, so that no seam shows. Frames
    that are missing whole are left out of the fit, and are positions between those that it has.

    Args:
        source: as `read_clip` takes.
        mask: what is unknown: (H, W) or (T, H, W), True or not 0 there; an image, a folder or
            pattern of images, or a movie, not black there.
        output: as `decode` writes; None hands frames back instead.
        boxes: more that is unknown: "x,y,w,h", "x,y,w,h@a:b" (frames a to b - 1), "@a:b" (whole
            frames).
        whole: hand out the representation's whole prediction; else known pixels are untouched.
        options: of the fit, of reading and of writing; see `Task`.

    Returns:
        With `output`, a RestoreReport. Without, an array or tensor like the source's, or for a path
        a Clip.

    Raises:
        UsageError, SourceError, OutputError, Interrupted: see nervkit.errors.
    """
    task = Task("inpaint", source, output, **options)
    clip = task.read()
    unknown = read_mask(mask, boxes, clip.shape[:3], task.reading)
    missing = unknown.all(axis=(1, 2))
    present = np.flatnonzero(~missing)
    filled = fill_in(clip.frames[present], unknown[present])
    known = np.where(unknown[present], np.uint8(FILL_WEIGHT), np.uint8(255))[..., None]
    fitted = task.fit(filled, present, known)
    if whole:
        frames = (_pixels(fitted.predict(t)) for t in range(len(clip.frames)))
    else:
        frames = _patched(clip.frames, unknown, fitted)
    details = {"unknown_share": float(unknown.mean()), "missing_frames": int(missing.sum())}
    changed = None if whole else unknown
    return task.deliver(clip, frames, fitted, changed=changed, details=lambda: details)


def _patched(frames: np.ndarray, unknown: np.ndarray, fitted: Fitted) -> Iterator[np.ndarray]:
    """Each frame with its holes filled by the prediction and the membrane of what that misses."""
    membranes, places = Membranes(), fitted.places

    @lru_cache(maxsize=2)
    def missed(t: int) -> np.ndarray:
        return membranes.fill(frames[t] - fitted.predict(t), unknown[t])

    for t, frame in enumerate(frames):
        if not unknown[t].any():
            yield frame
            continue
        after = min(int(np.searchsorted(places, t)), len(places) - 1)
        before = after if places[after] <= t else max(after - 1, 0)
        left, right = int(places[before]), int(places[after])
        share = np.float32((t - left) / max(right - left, 1)) if left < t else np.float32(0)
        correction = (1 - share) * missed(left) + share * missed(right)
        predicted = _pixels(fitted.predict(t) + correction)
        yield np.where(unknown[t][..., None], predicted, frame)


def _pixels(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)
