"""How good restorations are: the papers' damages on clean clips, nervkit beside classical methods,
scored against what was there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
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
from nervkit.metrics.quality import SSIM_WINDOW, psnr_of
from nervkit.restoration.denoise import denoise
from nervkit.restoration.inpaint import inpaint
from nervkit.restoration.interpolate import interpolate
from nervkit.restoration.masks import read_mask
from nervkit.video.reader import read_clip

Runs = Iterator[tuple[str, np.ndarray]]

DAMAGES = (
    *("gaussian:10", "gaussian:25", "gaussian:50"),
    *("white:0.005", "black:0.005", "salt-pepper:0.005", "random:0.005"),
    *("poisson:25", "planes:10", "codec:12", "codec:30"),
    *("none", "boxes:50", "centre", "odd-even"),
)


@dataclass(frozen=True)
class Score:
    """One method on one damage. PSNR in dB and SSIM are means over frames of 8-bit RGB: of whole
    frames, of what is inside the holes, and of what is outside (None where there is none). For
    odd-even, only the frames that were left out count."""

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
        """JSON-ready."""
        return asdict(self)


def evaluate(
    frames: np.ndarray,
    damage: str,
    *,
    mask: Any = None,
    baselines: bool = True,
    on_score: Callable[[Score], None] = lambda score: None,
    on_frames: Callable[[str, np.ndarray], None] = lambda method, frames: None,
    **options: Any,
) -> list[Score]:
    """Damage a clean clip, repair it with nervkit and with the classical methods, and score all.

    Args:
        frames: (T, H, W, 3) uint8, clean.
        damage: "gaussian:SIGMA"; "poisson:SIGMA" (of white; less of what is darker);
            "white:DENSITY", "black:", "salt-pepper:", "random:" (share of pixels); "planes:SIGMA",
            "codec:STRENGTH" (a noisy 4:2:0 movie, see `noisy_file`; compared with its clean
            frames); "none" (how much of an undamaged clip `denoise` keeps); "boxes:SIDE" (five,
            HNeRV's), "centre" (H/4 x W/4); "mask" (that of `mask`); "odd-even" (odd frames are left
            out).
        mask: for "mask": what is a hole; as in `inpaint`.
        baselines: whether the classical methods are scored too.
        on_score: called with each Score as it is made.
        on_frames: called with each method's name and frames, after those of "clean" and "damaged".
        options: of the fit, and `fit`, whether to make one; see `Task`.

    Returns:
        The damaged clip's own score first (not for odd-even), then nervkit's, then the others'.
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
    frames: np.ndarray,
    damage: str,
    mask: Any,
    baselines: bool,
    options: dict[str, Any],
    folder: Path,
) -> tuple[np.ndarray, np.ndarray | None, Runs]:
    """What is compared with, the holes if the damage is such, and the methods' frames."""
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
    """Its kind and its amount, 0 where it has none. Raises UsageError."""
    match = re.fullmatch(r"([a-z-]+)(?::(\d+(?:\.\d+)?))?", damage)
    kind, amount = (match[1], match[2]) if match else ("", None)
    if kind in ("none", "centre", "mask", "odd-even") and amount is None:
        return kind, 0.0
    if kind in NOISES + IN_FILES and amount is not None:
        return kind, float(amount)
    if kind == "boxes" and amount is not None and re.fullmatch("[1-9][0-9]*", amount):
        return kind, int(amount)
    raise UsageError(f"unknown damage {damage!r}; such as: {', '.join(DAMAGES)}, mask")


def _holes(shape: tuple[int, ...], kind: str, amount: float, mask: Any) -> np.ndarray:
    if kind == "mask":
        return read_mask(mask, (), shape[:3], {})
    still = centre_box(*shape[1:3]) if kind == "centre" else five_boxes(*shape[1:3], int(amount))
    return np.broadcast_to(still, shape[:3])


def _denoising(
    noisy: np.ndarray, path: Path | None, baselines: bool, options: dict[str, Any]
) -> Runs:
    yield "damaged", noisy
    fitting: list[Progress] = []
    made = denoise(noisy if path is None else path, **options, on_progress=fitting.append)
    frames = made if path is None else made.frames
    yield "nervkit", frames
    for name, method in DENOISERS.items() if baselines else ():
        # If nervkit made no fit, its result is that of NO_FIT.
        fitted = any(p.phase == "fit" for p in fitting)
        yield name, frames if name == NO_FIT and not fitted else method(noisy, path)


def _inpainting(
    frames: np.ndarray, holes: np.ndarray, baselines: bool, options: dict[str, Any]
) -> Runs:
    masked = np.where(holes[..., None], np.uint8(0), frames)
    yield "damaged", masked
    yield "nervkit", inpaint(masked, holes, **options)
    for name, method in INPAINTERS.items() if baselines else ():
        yield name, method(masked, holes)


def _interpolation(frames: np.ndarray, baselines: bool, options: dict[str, Any]) -> Runs:
    even = frames[::2]
    between = slice(1, 2 * len(even) - 2, 2)
    yield "nervkit", interpolate(even, factor=2, **options)[between]
    for name, method in INTERPOLATORS.items() if baselines else ():
        yield name, method(even)


def score(
    damage: str,
    method: str,
    clean: np.ndarray,
    made: np.ndarray,
    holes: np.ndarray | None,
    seconds: float,
) -> Score:
    """Compare (T, H, W, 3) uint8 frames with the clean ones; `holes` (T, H, W) bool."""
    rows = []
    for t, (a, b) in enumerate(zip(clean, made, strict=True)):
        error = np.square(a.astype(np.float32) - b).mean(axis=2)
        similarity = _similarity(a, b)
        row = list(_over(error, similarity, np.ones(error.shape, bool)))
        for part in (None, None) if holes is None else (holes[t], ~holes[t]):
            row += (None, None) if part is None else _over(error, similarity, part)
        rows.append(row)
    return Score(damage, method, *map(_mean, zip(*rows, strict=True)), seconds)


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """(H, W) SSIM around each pixel, mean over the channels; None for tiny frames."""
    if min(a.shape[:2]) < SSIM_WINDOW:
        return None
    options = {"channel_axis": 2, "data_range": 255, "full": True}
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(a, b, **options, **gaussian)[1].mean(axis=2)


def _over(
    error: np.ndarray, similarity: np.ndarray | None, part: np.ndarray
) -> tuple[float | None, float | None]:
    """PSNR and mean SSIM over a part of a frame; None where it is empty."""
    if not part.any():
        return None, None
    mean = None if similarity is None else float(similarity[part].mean())
    return psnr_of(float(error[part].mean())), mean


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
