"""Measures of quality between 8-bit RGB frames."""

from nervkit.metrics.quality import Quality, mean_quality, psnr, ssim

__all__ = ["Quality", "mean_quality", "psnr", "ssim"]
