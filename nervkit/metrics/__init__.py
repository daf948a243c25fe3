"""Quality metrics of 8-bit frames; vmaf.py measures files, bd.py compares rate-quality curves."""

from nervkit.metrics.msssim import ms_ssim
from nervkit.metrics.quality import (
    PLANE_WEIGHTS,
    Quality,
    mean_quality,
    mean_squared_error,
    psnr,
    psnr_from_mse,
    psnr_planes,
    psnr_yuv,
    quality_of,
    ssim,
)

__all__ = [
    "PLANE_WEIGHTS",
    "Quality",
    "mean_quality",
    "mean_squared_error",
    "ms_ssim",
    "psnr",
    "psnr_from_mse",
    "psnr_planes",
    "psnr_yuv",
    "quality_of",
    "ssim",
]
