"""Restoration results that papers publish, for their own clips, sizes and noise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One number of a paper's table: PSNR in dB, mean over the paper's clips."""

    task: str
    what: str
    method: str
    psnr: float
    source: str


_NERV = "NeRV (2110.13903), denoising of Bunny at 720p; the density of the noise is not stated"
_HNERV_INPAINT = "HNeRV (2304.02633), inpainting of ten DAVIS clips, five 50x50 boxes"
_HNERV_INTERPOLATE = "HNeRV (2304.02633), interpolation on UVG and DAVIS, odd frames from even ones"

PUBLISHED = (
    Published("denoise", "mean of noises", "noisy", 28.74, _NERV),
    Published("denoise", "mean of noises", "Gaussian filter", 30.41, _NERV),
    Published("denoise", "mean of noises", "uniform filter", 29.22, _NERV),
    Published("denoise", "mean of noises", "median filter", 33.87, _NERV),
    Published("denoise", "white", "NeRV", 33.31, _NERV),
    Published("denoise", "black", "NeRV", 34.20, _NERV),
    Published("denoise", "salt-pepper", "NeRV", 34.17, _NERV),
    Published("denoise", "random", "NeRV", 34.80, _NERV),
    Published("denoise", "mean of noises", "NeRV", 34.12, _NERV),
    Published("inpaint", "five boxes", "masked input", 19.96, _HNERV_INPAINT),
    Published("inpaint", "five boxes", "NeRV", 31.14, _HNERV_INPAINT),
    Published("inpaint", "five boxes", "HNeRV", 32.03, _HNERV_INPAINT),
    Published("inpaint", "five boxes", "IIVI", 32.97, _HNERV_INPAINT),
    Published("interpolate", "odd-even", "NeRV", 22.82, _HNERV_INTERPOLATE),
    Published("interpolate", "odd-even", "HNeRV", 26.15, _HNERV_INTERPOLATE),
)
