"""What to stand beside: classical methods, from scikit-image, scipy and ffmpeg, and nervkit's own
without its fit, which tells what the fit is worth."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic

from nervkit.bench.restoration.ffmpeg import filtered
from nervkit.errors import NervError
from nervkit.models.flow import LUMA, optical_flow
from nervkit.restoration.denoise import denoise
from nervkit.restoration.fill import fill_in
from nervkit.restoration.kinds import pixels
from nervkit.restoration.motion import carried
from nervkit.restoration.noise import white_variance

Frames = np.ndarray  # (T, H, W, 3) uint8
Denoiser = Callable[..., Frames]
NO_FIT = "nervkit, no fit"
LIMITED = 219 / 255  # of the deviation of a luma from 0 to 255 is that of limited range
PADDING = 4  # frames


def _each(frames: Frames, method: Callable[[np.ndarray], np.ndarray]) -> Frames:
    return np.stack([pixels(method(frame)) for frame in frames])


def _deviation(frame: np.ndarray) -> float:
    """Of the noise of one frame, taken to be white."""
    planes = np.moveaxis(frame.astype(np.float32), 2, 0)
    return float(np.sqrt(np.mean([white_variance(plane) for plane in planes])))


def nl_means(frame: np.ndarray) -> np.ndarray:
    """Non-local means of one frame (Buades et al., 2005), its strength from the noise's estimated
    deviation, as scikit-image's guide has it."""
    sigma = max(_deviation(frame), 1.0)
    return denoise_nl_means(
        frame.astype(np.float32),
        patch_size=5,
        patch_distance=6,
        h=0.8 * sigma,
        sigma=sigma,
        fast_mode=True,
        channel_axis=-1,
        preserve_range=True,
    )


def total_variation(frame: np.ndarray) -> np.ndarray:
    """Total variation (Chambolle, 2004) of one frame, its weight from the estimated noise."""
    sigma = max(_deviation(frame), 1.0) / 255
    return 255 * denoise_tv_chambolle(frame / np.float32(255), weight=1.5 * sigma, channel_axis=-1)


def by_ffmpeg(filter: str, factor: float, most: float = np.inf) -> Denoiser:
    """A filter of ffmpeg, with `factor` times the estimated deviation of the luma's noise for its
    strength, from 1 to `most`. It works on the planes of the movie at `path` or, without one, on
    4:4:4."""

    def method(frames: Frames, path: Path | None = None) -> Frames:
        lumas = [(frame @ LUMA)[..., None] for frame in frames]
        sigma = LIMITED * float(np.mean([_deviation(luma) for luma in lumas]))
        chain = filter.format(f"{min(max(factor * sigma, 1.0), most):.2f}")
        return filtered(frames, chain if path else f"format=yuv444p,{chain}", path)

    return method


def no_fit(frames: Frames, path: Path | None = None) -> Frames:
    """nervkit's `denoise` without a fit."""
    return denoise(frames, fit=False) if path is None else denoise(path, fit=False).frames


def on_frames(method: Callable[[Frames], Frames]) -> Denoiser:
    """A method that takes frames only."""
    return lambda frames, path=None: method(frames)


#: noisy frames, and the path of the movie that they are from if there is one -> cleaned frames
DENOISERS: dict[str, Denoiser] = {
    "gaussian": on_frames(
        lambda x: _each(x, lambda f: ndimage.gaussian_filter(f.astype(float), (1, 1, 0)))
    ),
    "gaussian 3d": on_frames(
        lambda x: pixels(ndimage.gaussian_filter(x.astype(np.float32), (1, 1, 1, 0)))
    ),
    "uniform 3x3": on_frames(
        lambda x: _each(x, lambda f: ndimage.uniform_filter(f.astype(float), (3, 3, 1)))
    ),
    "median 3x3": on_frames(lambda x: _each(x, lambda f: ndimage.median_filter(f, (3, 3, 1)))),
    "median 3x3x3": on_frames(lambda x: ndimage.median_filter(x, (3, 3, 3, 1))),
    "nl means": on_frames(lambda x: _each(x, nl_means)),
    "total variation": on_frames(lambda x: _each(x, total_variation)),
    # At the strengths that did best on Bunny, with a look at its clean frames.
    "ffmpeg hqdn3d": by_ffmpeg("hqdn3d={}", 3),
    "ffmpeg nlmeans": by_ffmpeg("nlmeans=s={}:p=5", 0.6, most=30),
    "ffmpeg bm3d": by_ffmpeg("bm3d=sigma={}:bstep=4", 4),
    NO_FIT: no_fit,
}


def biharmonic(frames: Frames, unknown: np.ndarray) -> Frames:
    """Each frame's holes by the biharmonic equation; `unknown` is (T, H, W)."""
    filled = frames.copy()
    for frame, hole in zip(filled, unknown, strict=True):
        if hole.any() and not hole.all():
            made = inpaint_biharmonic(frame / 255.0, hole, channel_axis=-1, split_into_regions=True)
            frame[hole] = pixels(255 * made)[hole]
    return filled


def temporal_median(frames: Frames, unknown: np.ndarray) -> Frames:
    """Each hole's pixels by the median of their known values in other frames; what no frame knows
    becomes middle gray."""
    filled = frames.copy()
    rows, columns = np.nonzero(unknown.any(axis=0))
    values = np.where(unknown[:, rows, columns, None], np.nan, frames[:, rows, columns])
    seen = ~np.isnan(values).all(axis=(0, 2))
    median = np.full(values.shape[1:], 128.0)
    median[seen] = np.nanmedian(values[:, seen], axis=0)
    for frame, hole in zip(filled, unknown[:, rows, columns], strict=True):
        frame[rows[hole], columns[hole]] = pixels(median[hole])
    return filled


def found(frames: Frames, unknown: np.ndarray) -> Frames:
    """Holes by what other frames show there; frames that are missing whole stay as they are."""
    filled, present = frames.copy(), ~unknown.all(axis=(1, 2))
    filled[present] = fill_in(frames[present], unknown[present])[0]
    return filled


#: frames and (T, H, W) unknown -> filled frames
INPAINTERS: dict[str, Callable[[Frames, np.ndarray], Frames]] = {
    "biharmonic": biharmonic,
    "temporal median": temporal_median,
    NO_FIT: found,
}


def average(frames: Frames) -> Frames:
    """The frames between those of (T, H, W, 3): (T - 1, H, W, 3) means of two neighbours."""
    return pixels((frames[:-1].astype(np.float32) + frames[1:]) / 2)


def minterpolate(frames: Frames) -> Frames:
    """The frames between, by ffmpeg's motion-compensated `minterpolate`: (T - 1, H, W, 3)."""
    # ffmpeg needs frames before and after those that it compensates, and they have to move on.
    padded = np.pad(frames, ((PADDING, PADDING), (0, 0), (0, 0), (0, 0)), "reflect")
    made = filtered(padded, "minterpolate=fps=50:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1")
    first, end = 2 * PADDING, 2 * (PADDING + len(frames)) - 1
    if len(made) < end:
        raise NervError("ffmpeg's minterpolate made too few frames")
    return made[first + 1 : end : 2]


def along_flow(frames: Frames) -> Frames:
    """The frames between, (T - 1, H, W, 3): both neighbours moved half the way."""
    return np.stack([pixels(carried(a, b, optical_flow(a, b), 0.5)) for a, b in pairwise(frames)])


#: frames -> the frames between them
INTERPOLATORS: dict[str, Callable[[Frames], Frames]] = {
    "average": average,
    "minterpolate": minterpolate,
    NO_FIT: along_flow,
}
