"""PSNR and SSIM of 8-bit RGB frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nervkit.video.colour import Colour
from nervkit.video.planes import Planes

SSIM_WINDOW = 11
#: the PSNR of identical frames in dB, which would be infinite
IDENTICAL = 100.0
#: weights of Y, U and V in a combined PSNR (Ohm et al., 2012)
PLANE_WEIGHTS = (6 / 8, 1 / 8, 1 / 8)


@dataclass(frozen=True)
class Quality:
    """The quality of one frame, or the mean over frames. `ssim` is None for frames with a side
    under 11 pixels, `psnr_yuv` if it was not measured."""

    psnr: float
    ssim: float | None
    psnr_yuv: float | None = None


def psnr(reference: np.ndarray, frame: np.ndarray) -> float:
    """Return the PSNR in dB over all samples of two uint8 arrays of one shape; 100 if they are
    equal."""
    return psnr_from_mse(mean_squared_error(reference, frame))


def mean_squared_error(reference: np.ndarray, frame: np.ndarray) -> float:
    """Return the mean squared error over all samples of two uint8 arrays of one shape."""
    difference = reference.astype(np.int32) - frame
    return float(np.mean(difference * difference))


def psnr_from_mse(error: float) -> float:
    """Return the PSNR in dB for a mean squared error of 8-bit samples; 100 if it is 0."""
    return IDENTICAL if error == 0 else 10 * math.log10(255**2 / error)


def psnr_yuv(y: float, u: float, v: float) -> float:
    """Return the PSNR in dB of a 4:2:0 frame: the planes' 6:1:1 mean (Ohm et al., 2012)."""
    return sum(weight * value for weight, value in zip(PLANE_WEIGHTS, (y, u, v), strict=True))


def psnr_planes(
    reference: Planes, frame: Planes, height: int, width: int
) -> tuple[float, float, float]:
    """Return the PSNR in dB of the Y, U and V planes of a 4:2:0 picture of height x width pixels,
    without the padding of odd sizes."""
    y, u, v = (
        psnr(a[:rows, :columns], b[:rows, :columns])
        for a, b, rows, columns in (
            (reference.y, frame.y, height, width),
            (reference.u, frame.u, (height + 1) // 2, (width + 1) // 2),
            (reference.v, frame.v, (height + 1) // 2, (width + 1) // 2),
        )
    )
    return y, u, v


def ssim(reference: np.ndarray, frame: np.ndarray) -> float | None:
    """Return the SSIM (Wang et al., 2004) of two (H, W, 3) uint8 frames, mean over the channels,
    with an 11x11 Gaussian window of sigma 1.5; None if a side is under 11 pixels."""
    # Imported here, as it takes half a second, and `--help` and `info` must start fast.
    from skimage.metrics import structural_similarity

    if min(reference.shape[:2]) < SSIM_WINDOW:
        return None
    value = structural_similarity(
        reference,
        frame,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


def quality_of(reference: np.ndarray, frame: np.ndarray, colour: Colour | None = None) -> Quality:
    """Return the quality of an (H, W, 3) uint8 frame against a reference. With a colour it includes
    the quality of the 8-bit 4:2:0 planes, converted by the colour's matrix and range."""
    planes = None
    if colour is not None:
        height, width = frame.shape[:2]
        both = Planes.from_rgb(reference, colour), Planes.from_rgb(frame, colour)
        planes = psnr_yuv(*psnr_planes(*both, height, width))
    return Quality(psnr(reference, frame), ssim(reference, frame), planes)


def mean_quality(frames: Sequence[Quality]) -> Quality:
    """Return the means of frames' PSNR, SSIM and YUV PSNR."""
    return Quality(
        psnr=sum(q.psnr for q in frames) / len(frames),
        ssim=_mean([q.ssim for q in frames]),
        psnr_yuv=_mean([q.psnr_yuv for q in frames]),
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
