"""What to stand beside: classical methods, from scikit-image, scipy and ffmpeg, and nervkit's own
without its fit, which tells what the fit is worth."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, inpaint_biharmonic

from nervkit.errors import NervError
from nervkit.restoration.denoise import Cleaner, noise_variance
from nervkit.restoration.fill import fill_in
from nervkit.restoration.kinds import pixels
from nervkit.restoration.motion import carried, motion

Frames = np.ndarray  # (T, H, W, 3) uint8
NO_FIT = "nervkit, no fit"
PADDING = 4  # frames


def _each(frames: Frames, method: Callable[[np.ndarray], np.ndarray]) -> Frames:
    return np.stack([pixels(method(frame)) for frame in frames])


def _deviation(frame: np.ndarray) -> float:
    """Of the noise of one frame, as `denoise` estimates it."""
    return float(np.sqrt(noise_variance(frame[None].astype(np.float32)).mean()))


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


class _Black:
    """Stands for a representation that knows nothing."""

    def __init__(self, frames: Frames) -> None:
        self._frame = np.zeros(frames.shape[1:], np.float32)

    def predict(self, position: float) -> np.ndarray:
        return self._frame


#: noisy frames -> cleaned frames
DENOISERS: dict[str, Callable[[Frames], Frames]] = {
    "gaussian": lambda x: _each(x, lambda f: ndimage.gaussian_filter(f.astype(float), (1, 1, 0))),
    "gaussian 3d": lambda x: pixels(ndimage.gaussian_filter(x.astype(np.float32), (1, 1, 1, 0))),
    "uniform 3x3": lambda x: _each(x, lambda f: ndimage.uniform_filter(f.astype(float), (3, 3, 1))),
    "median 3x3": lambda x: _each(x, lambda f: ndimage.median_filter(f, (3, 3, 1))),
    "median 3x3x3": lambda x: ndimage.median_filter(x, (3, 3, 3, 1)),
    "nl means": lambda x: _each(x, nl_means),
    "total variation": lambda x: _each(x, total_variation),
    NO_FIT: lambda x: np.stack(list(Cleaner(x, _Black(x)).frames())),
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
    import imageio_ffmpeg

    count, height, width, _ = frames.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *raw]
    command += ["-s", f"{width}x{height}", "-r", "25", "-i", "-"]
    # ffmpeg needs frames before and after those that it compensates, and they have to move on.
    padded = np.pad(frames, ((PADDING, PADDING), (0, 0), (0, 0), (0, 0)), "reflect")
    motion = "minterpolate=fps=50:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
    command += ["-vf", motion, *raw, "-"]
    done = subprocess.run(command, input=padded.tobytes(), capture_output=True, check=False)
    made = np.frombuffer(done.stdout, np.uint8)
    size = height * width * 3
    first = 2 * PADDING
    if done.returncode or len(made) < (first + 2 * count - 1) * size:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["too few frames"]
        raise NervError(f"ffmpeg's minterpolate failed: {reason[-1]}")
    return made.reshape(-1, height, width, 3)[first + 1 : first + 2 * count - 1 : 2]


def along_flow(frames: Frames) -> Frames:
    """The frames between, (T - 1, H, W, 3): both neighbours moved half the way."""
    return np.stack([pixels(carried(a, b, motion(a, b), 0.5)) for a, b in pairwise(frames)])


#: frames -> the frames between them
INTERPOLATORS: dict[str, Callable[[Frames], Frames]] = {
    "average": average,
    "minterpolate": minterpolate,
    NO_FIT: along_flow,
}
