"""Quality of decoded frames at 8 bits, per frame and as means."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nervkit.bench.machine import cores
from nervkit.metrics.msssim import ms_ssim
from nervkit.metrics.quality import mean_squared_error, psnr_from_mse, psnr_planes, psnr_yuv, ssim
from nervkit.metrics.vmaf import vmaf
from nervkit.video.planes import Planes

if TYPE_CHECKING:
    from nervkit.bench.reference import Reference

PER_FRAME = ("psnr_rgb", "psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "ssim", "ms_ssim", "vmaf")


@dataclass(frozen=True)
class Measures:
    """Quality by metric; None if a metric is not defined for the frame size.

    Attributes:
        means: means over frames, and "psnr_rgb_mse", the PSNR of the mean squared error.
        per_frame: the values of each frame.
    """

    means: dict[str, float | None]
    per_frame: dict[str, list[float | None]]


def measure(
    reference: Reference,
    decoded: Iterator[tuple[npt.NDArray[np.uint8], Planes]],
    folder: Path,
    ffmpeg: str,
) -> Measures:
    """Compare decoded frames with a reference.

    Args:
        decoded: (H, W, 3) uint8 RGB and planes of each frame, in order.
        folder: for temporary files.
        ffmpeg: the binary that measures VMAF.

    Raises:
        NervError: VMAF cannot be measured.
    """
    planes = reference.planes
    rows: list[dict[str, float | None]] = []
    distorted = folder / "distorted.yuv"
    try:
        with distorted.open("wb") as file, ThreadPoolExecutor(cores()) as pool:
            triples = zip(reference.clip.frames, planes.read(), decoded, strict=True)
            # In small batches: all decoded frames at once could exceed the memory.
            while part := list(islice(triples, 2 * cores())):
                for _, _, (_, shown) in part:
                    file.write(shown.samples().data)
                rows += pool.map(lambda t: _compare(t[0], t[1], *t[2]), part)
        scores = vmaf(planes.path, distorted, planes.width, planes.height, ffmpeg)
    finally:
        distorted.unlink(missing_ok=True)
    for row, score in zip(rows, scores, strict=True):
        row["vmaf"] = score
    errors = [row.pop("mse") for row in rows]
    per_frame = {name: [row[name] for row in rows] for name in PER_FRAME}
    means = {name: _mean(values) for name, values in per_frame.items()}
    means["psnr_rgb_mse"] = psnr_from_mse(float(np.mean(np.array(errors, float))))
    return Measures(means, per_frame)


def _compare(
    frame: npt.NDArray[np.uint8],
    planes: Planes,
    shown: npt.NDArray[np.uint8],
    shown_planes: Planes,
) -> dict[str, float | None]:
    height, width = frame.shape[:2]
    error = mean_squared_error(frame, shown)
    y, u, v = psnr_planes(planes, shown_planes, height, width)
    return {
        "mse": error,
        "psnr_rgb": psnr_from_mse(error),
        "psnr_y": y,
        "psnr_u": u,
        "psnr_v": v,
        "psnr_yuv": psnr_yuv(y, u, v),
        "ssim": ssim(frame, shown),
        "ms_ssim": ms_ssim(frame, shown),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
