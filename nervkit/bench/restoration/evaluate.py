"""Evaluate restoration: damage clean clips as in the papers, restore them by nervkit and by
baselines, and score the results against the clean frames."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from nervkit.bench.restoration.baselines import DENOISERS, INPAINTERS, INTERPOLATORS, NO_FIT
from nervkit.bench.restoration.damage import (
    IN_FILES,
    NOISES,
    add_noise,
    centre_box,
    five_boxes,
    noisy_file,
)
from nervkit.errors import UsageError
from nervkit.fitting.progress import Progress
from nervkit.metrics.quality import SSIM_WINDOW, psnr_from_mse
from nervkit.restoration.denoise import denoise
from nervkit.restoration.inpaint import inpaint
from nervkit.restoration.interpolate import interpolate
from nervkit.restoration.masks import read_mask
from nervkit.video.reader import read_clip

#: (T, H, W, 3) uint8
Frames: TypeAlias = npt.NDArray[np.uint8]
#: (T, H, W) or (H, W) bool
Mask: TypeAlias = npt.NDArray[np.bool_]
#: a method's name and its frames, computed when the iterator reaches it
Runs: TypeAlias = Iterator[tuple[str, Frames]]

DAMAGES = (
    *("gaussian:10", "gaussian:25", "gaussian:50"),
    *("white:0.005", "black:0.005", "salt-pepper:0.005", "random:0.005"),
    *("poisson:25", "planes:10", "codec:12", "codec:30"),
    *("none", "boxes:50", "centre", "odd-even"),
)


@dataclass(frozen=True)
class Score:
    """The score of one method on one damage. PSNR in dB and SSIM are means over 8-bit RGB frames:
    over full frames, inside the holes, and outside (None without holes). For odd-even, only the
    frames that were left out count."""

    damage: str
    method: str
    psnr: float
    ssim: float | None
    psnr_inside: float | None
    ssim_inside: float | None
    psnr_outside: float | None
    ssim_outside: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the score as a JSON-ready object."""
        return asdict(self)


def evaluate(
    frames: Frames,
    damage: str,
    *,
    mask: Any = None,
    baselines: bool = True,
    on_score: Callable[[Score], None] = lambda score: None,
    on_frames: Callable[[str, Frames], None] = lambda method, frames: None,
    **options: Any,
) -> list[Score]:
    """Damage a clean clip, restore it by nervkit and by the baselines, and score all results.

    Args:
        frames: (T, H, W, 3) uint8, clean.
        damage: "gaussian:SIGMA"; "poisson:SIGMA" (SIGMA at white, less in darker areas);
            "white:DENSITY", "black:", "salt-pepper:", "random:" (share of pixels); "planes:SIGMA",
            "codec:STRENGTH" (a noisy 4:2:0 movie, see `noisy_file`; compared with its clean
            frames); "none" (how much `denoise` changes an undamaged clip); "boxes:SIDE" (HNeRV's
            five), "centre" (H/4 x W/4); "mask" (given by `mask`); "odd-even" (odd frames are left
            out).
        mask: the holes of "mask", as in `inpaint`.
        baselines: whether to score the baselines too.
        on_score: receives each Score as soon as it is known.
        on_frames: receives each method's name and frames, starting with "clean" and "damaged".
        options: options of the fit, and `fit`, whether to make one; see `Task`.

    Returns:
        The score of the damaged clip (not for odd-even), then nervkit's, then the baselines'.

    Raises:
        UsageError: an unknown damage, or an amount out of range.
    """
    with TemporaryDirectory() as folder:
        clean, holes, runs = _prepared(frames, damage, mask, baselines, options, Path(folder))
        on_frames("clean", clean)
        scores = []
        began = time.perf_counter()
        for method, made in runs:
            seconds = time.perf_counter() - began
            on_frames(method, made)
            scores.append(score(damage, method, clean, made, holes, seconds))
            on_score(scores[-1])
            began = time.perf_counter()
        return scores


def _prepared(
    frames: Frames,
    damage: str,
    mask: Any,
    baselines: bool,
    options: dict[str, Any],
    folder: Path,
) -> tuple[Frames, Mask | None, Runs]:
    """Return the clean frames to compare with, the holes if there are any, and the methods'
    results."""
    kind, amount = parse_damage(damage)
    clean, holes = frames, None
    if kind == "none":
        runs = _denoising(frames, None, baselines, options)
    elif kind in NOISES:
        runs = _denoising(add_noise(frames, kind, amount), None, baselines, options)
    elif kind in IN_FILES:
        path, clean = noisy_file(frames, kind, amount, folder)
        runs = _denoising(read_clip(path).frames, path, baselines, options)
    elif kind == "odd-even":
        if len(frames) < 3:
            raise UsageError("odd-even needs 3 frames or more")
        runs = _interpolation(frames, baselines, options)
        clean = frames[1 : (len(frames) - 1) // 2 * 2 : 2]
    else:
        holes = _holes(frames.shape, kind, amount, mask)
        runs = _inpainting(frames, holes, baselines, options)
    return clean, holes, runs


def parse_damage(damage: str) -> tuple[str, float]:
    """Return the kind and the amount of a damage; 0 for kinds without one. Raises UsageError."""
    match = re.fullmatch(r"([a-z-]+)(?::(\d+(?:\.\d+)?))?", damage)
    kind, amount = (match[1], match[2]) if match else ("", None)
    if kind in ("none", "centre", "mask", "odd-even") and amount is None:
        return kind, 0.0
    if kind in NOISES + IN_FILES and amount is not None:
        return kind, float(amount)
    if kind == "boxes" and amount is not None and re.fullmatch("[1-9][0-9]*", amount):
        return kind, int(amount)
    raise UsageError(f"unknown damage {damage!r}; examples: {', '.join(DAMAGES)}, mask")


def _holes(shape: tuple[int, ...], kind: str, amount: float, mask: Any) -> Mask:
    if kind == "mask":
        return read_mask(mask, (), shape[:3], {})
    height, width = shape[1:3]
    box = centre_box(height, width) if kind == "centre" else five_boxes(height, width, int(amount))
    return np.broadcast_to(box, shape[:3])


def _denoising(noisy: Frames, path: Path | None, baselines: bool, options: dict[str, Any]) -> Runs:
    yield "damaged", noisy
    progress: list[Progress] = []
    restored: Frames
    if path is None:
        restored = denoise(noisy, **options, on_progress=progress.append)
    else:
        restored = denoise(path, **options, on_progress=progress.append).frames
    yield "nervkit", restored
    for name, method in DENOISERS.items() if baselines else ():
        # If nervkit made no fit, its result is that of NO_FIT.
        fitted = any(p.phase == "fit" for p in progress)
        yield name, restored if name == NO_FIT and not fitted else method(noisy, path)


def _inpainting(frames: Frames, holes: Mask, baselines: bool, options: dict[str, Any]) -> Runs:
    masked = np.where(holes[..., None], np.uint8(0), frames)
    yield "damaged", masked
    yield "nervkit", inpaint(masked, holes, **options)
    for name, method in INPAINTERS.items() if baselines else ():
        yield name, method(masked, holes)


def _interpolation(frames: Frames, baselines: bool, options: dict[str, Any]) -> Runs:
    even = frames[::2]
    between = slice(1, 2 * len(even) - 2, 2)
    yield "nervkit", interpolate(even, factor=2, **options)[between]
    for name, method in INTERPOLATORS.items() if baselines else ():
        yield name, method(even)


def score(
    damage: str,
    method: str,
    clean: Frames,
    restored: Frames,
    holes: Mask | None,
    seconds: float,
) -> Score:
    """Compare restored frames with the clean ones: overall, and inside and outside (T, H, W)
    `holes`."""
    rows: list[list[float | None]] = []
    for t, (a, b) in enumerate(zip(clean, restored, strict=True)):
        error = np.square(a.astype(np.float32) - b).mean(axis=2)
        similarity = _similarity(a, b)
        row = [*_over(error, similarity, np.ones(error.shape, bool))]
        for part in (None, None) if holes is None else (holes[t], ~holes[t]):
            row += (None, None) if part is None else _over(error, similarity, part)
        rows.append(row)
    psnr, *rest = (_mean(column) for column in zip(*rows, strict=True))
    assert psnr is not None, "every frame has a PSNR"
    ssim, psnr_inside, ssim_inside, psnr_outside, ssim_outside = rest
    return Score(
        damage,
        method,
        psnr,
        ssim,
        psnr_inside,
        ssim_inside,
        psnr_outside,
        ssim_outside,
        seconds,
    )


def _similarity(a: Frames, b: Frames) -> npt.NDArray[np.float64] | None:
    """Return the (H, W) SSIM map, mean over the channels; None for frames smaller than its
    window."""
    if min(a.shape[:2]) < SSIM_WINDOW:
        return None
    options = {"channel_axis": 2, "data_range": 255, "full": True}
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(a, b, **options, **gaussian)[1].mean(axis=2)


def _over(
    error: npt.NDArray[np.float32], similarity: npt.NDArray[np.float64] | None, part: Mask
) -> tuple[float | None, float | None]:
    """Return PSNR and mean SSIM over a part of a frame; None if it is empty."""
    if not part.any():
        return None, None
    mean = None if similarity is None else float(similarity[part].mean())
    return psnr_from_mse(float(error[part].mean())), mean


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
