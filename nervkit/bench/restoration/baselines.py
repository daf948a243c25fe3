"""Baselines: classical methods from scikit-image, scipy and ffmpeg, and nervkit's own methods
without a fit, which show what the fit gains."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic

from nervkit.bench.restoration.ffmpeg import filtered
from nervkit.errors import NervError
from nervkit.models.flow import LUMA, optical_flow
from nervkit.restoration.denoise import denoise
from nervkit.restoration.fill import fill_in
from nervkit.restoration.kinds import to_uint8
from nervkit.restoration.motion import warped_between
from nervkit.restoration.noise import white_variance

#: (T, H, W, 3) uint8
Frames: TypeAlias = npt.NDArray[np.uint8]
#: (T, H, W) bool: pixels to fill
Mask: TypeAlias = npt.NDArray[np.bool_]


class Denoiser(Protocol):
    """A method that takes noisy frames, and the path of their movie if there is one."""

    def __call__(self, frames: Frames, path: Path | None = None) -> Frames: ...


NO_FIT = "nervkit, no fit"
LIMITED = 219 / 255  # limited-range deviation over full-range deviation, for luma
PADDING = 4  # frames that minterpolate needs before and after


def _each(frames: Frames, method: Callable[[Frames], npt.NDArray[Any]]) -> Frames:
    """Apply a method to each frame."""
    return np.stack([to_uint8(method(frame)) for frame in frames])


def _deviation(frame: npt.NDArray[Any]) -> float:
    """Estimate the noise's standard deviation in one frame, assuming white noise."""
    planes = np.moveaxis(frame.astype(np.float32), 2, 0)
    return float(np.sqrt(np.mean([white_variance(plane) for plane in planes])))


def nl_means(frame: Frames) -> npt.NDArray[Any]:
    """Denoise one frame by non-local means (Buades et al., 2005). The strength follows from the
    estimated noise, as in scikit-image's guide."""
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


def total_variation(frame: Frames) -> npt.NDArray[Any]:
    """Denoise one frame by total variation (Chambolle, 2004), weighted by the estimated noise."""
    sigma = max(_deviation(frame), 1.0) / 255
    return 255 * denoise_tv_chambolle(frame / np.float32(255), weight=1.5 * sigma, channel_axis=-1)


def by_ffmpeg(filter: str, factor: float, most: float = np.inf) -> Denoiser:
    """Return an ffmpeg filter as a method. Its strength is `factor` times the estimated standard
    deviation of the luma's noise, from 1 to `most`. It works on the planes of the movie at `path`
    or, without a path, on 4:4:4."""

    def method(frames: Frames, path: Path | None = None) -> Frames:
        lumas = [(frame @ LUMA)[..., None] for frame in frames]
        sigma = LIMITED * float(np.mean([_deviation(luma) for luma in lumas]))
        chain = filter.format(f"{min(max(factor * sigma, 1.0), most):.2f}")
        return filtered(frames, chain if path else f"format=yuv444p,{chain}", path)

    return method


def no_fit(frames: Frames, path: Path | None = None) -> Frames:
    """Denoise by nervkit without a fit."""
    return denoise(frames, fit=False) if path is None else denoise(path, fit=False).frames


def on_frames(method: Callable[[Frames], Frames]) -> Denoiser:
    """Adapt a method that takes frames only."""

    def denoiser(frames: Frames, path: Path | None = None) -> Frames:
        return method(frames)

    return denoiser


DENOISERS: dict[str, Denoiser] = {
    "gaussian": on_frames(
        lambda x: _each(x, lambda f: ndimage.gaussian_filter(f.astype(float), (1, 1, 0)))
    ),
    "gaussian 3d": on_frames(
        lambda x: to_uint8(ndimage.gaussian_filter(x.astype(np.float32), (1, 1, 1, 0)))
    ),
    "uniform 3x3": on_frames(
        lambda x: _each(x, lambda f: ndimage.uniform_filter(f.astype(float), (3, 3, 1)))
    ),
    "median 3x3": on_frames(lambda x: _each(x, lambda f: ndimage.median_filter(f, (3, 3, 1)))),
    "median 3x3x3": on_frames(lambda x: ndimage.median_filter(x, (3, 3, 3, 1))),
    "nl means": on_frames(lambda x: _each(x, nl_means)),
    "total variation": on_frames(lambda x: _each(x, total_variation)),
    # The strengths that scored best on Bunny, tuned against its clean frames.
    "ffmpeg hqdn3d": by_ffmpeg("hqdn3d={}", 3),
    "ffmpeg nlmeans": by_ffmpeg("nlmeans=s={}:p=5", 0.6, most=30),
    "ffmpeg bm3d": by_ffmpeg("bm3d=sigma={}:bstep=4", 4),
    NO_FIT: no_fit,
}


def biharmonic(frames: Frames, unknown: Mask) -> Frames:
    """Fill each frame's holes by the biharmonic equation; `unknown` is (T, H, W) bool."""
    filled = frames.copy()
    for frame, hole in zip(filled, unknown, strict=True):
        if hole.any() and not hole.all():
            made = inpaint_biharmonic(frame / 255.0, hole, channel_axis=-1, split_into_regions=True)
            frame[hole] = to_uint8(255 * made)[hole]
    return filled


def temporal_median(frames: Frames, unknown: Mask) -> Frames:
    """Fill holes by the median of the pixel's known values in other frames. Pixels that no frame
    knows become middle gray."""
    filled = frames.copy()
    rows, columns = np.nonzero(unknown.any(axis=0))
    values = np.where(unknown[:, rows, columns, None], np.nan, frames[:, rows, columns])
    seen = ~np.isnan(values).all(axis=(0, 2))
    median = np.full(values.shape[1:], 128.0)
    median[seen] = np.nanmedian(values[:, seen], axis=0)
    for frame, hole in zip(filled, unknown[:, rows, columns], strict=True):
        frame[rows[hole], columns[hole]] = to_uint8(median[hole])
    return filled


def filled_in(frames: Frames, unknown: Mask) -> Frames:
    """Fill holes from other frames by nervkit without a fit. Missing frames stay unchanged."""
    filled, present = frames.copy(), ~unknown.all(axis=(1, 2))
    filled[present] = fill_in(frames[present], unknown[present])[0]
    return filled


#: frames and an (T, H, W) mask of unknown pixels -> filled frames
INPAINTERS: dict[str, Callable[[Frames, Mask], Frames]] = {
    "biharmonic": biharmonic,
    "temporal median": temporal_median,
    NO_FIT: filled_in,
}


def average(frames: Frames) -> Frames:
    """Return (T - 1, H, W, 3) in-between frames: means of two neighbours."""
    return to_uint8((frames[:-1].astype(np.float32) + frames[1:]) / 2)


def minterpolate(frames: Frames) -> Frames:
    """Return (T - 1, H, W, 3) in-between frames by ffmpeg's motion-compensated `minterpolate`."""
    # Mirrored frames keep moving; repeated ones would not.
    padded = np.pad(frames, ((PADDING, PADDING), (0, 0), (0, 0), (0, 0)), "reflect")
    made = filtered(padded, "minterpolate=fps=50:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1")
    first, end = 2 * PADDING, 2 * (PADDING + len(frames)) - 1
    if len(made) < end:
        raise NervError("ffmpeg's minterpolate returned too few frames")
    return made[first + 1 : end : 2]


def along_flow(frames: Frames) -> Frames:
    """Return (T - 1, H, W, 3) in-between frames: both neighbours warped half-way along the flow."""
    return np.stack(
        [to_uint8(warped_between(a, b, optical_flow(a, b), 0.5)) for a, b in pairwise(frames)]
    )


#: frames -> in-between frames
INTERPOLATORS: dict[str, Callable[[Frames], Frames]] = {
    "average": average,
    "minterpolate": minterpolate,
    NO_FIT: along_flow,
}
