"""nervkit's SSIM and MS-SSIM beside those of pytorch-msssim and torchmetrics: time and agreement.

    pip install torchmetrics pytorch-msssim
    THP_MEM_ALLOC_ENABLE=1 python benchmarks/ssim_loss.py [DEVICE]

"ssim", "ms_ssim" and "ms_ssim 5x5" are losses: the time is that of a forward and a backward pass of
a batch of two frames in float32, on one thread of a CPU. "measure" is the MS-SSIM of one 8-bit
frame, as `nervkit bench` measures it. Times are the best of some runs that take turns. Differences
are from nervkit's result for one frame in float64: of the value, and of the gradient relative to
its largest element. A library that refuses a size has no figures. `cuda_graph` says whether a CUDA
graph can record the passes; it is null on a CPU. Memory is allocated as in the command `nervkit`:
with huge pages, and freed memory is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pytorch_msssim
import torch
from common import report
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure as torchmetrics_ms_ssim,
)
from torchmetrics.functional.image import structural_similarity_index_measure as torchmetrics_ssim

from nervkit.environment import keep_freed_memory
from nervkit.fitting.losses import ms_ssim, ssim
from nervkit.metrics import ms_ssim as measured_ms_ssim

Similarity = Callable[[Tensor, Tensor], Tensor]

SIZES = ((320, 160), (427, 240), (1280, 720))
BATCH, LEAST_RUNS, LEAST_SECONDS = 2, 3, 1.0
OURS = "nervkit"
MODULES = {
    OURS: "nervkit.fitting.losses",
    "pytorch-msssim": "pytorch_msssim",
    "torchmetrics": "torchmetrics.functional.image",
}
LOSSES: dict[str, dict[str, Similarity]] = {
    "ssim": {
        OURS: ssim,
        "pytorch-msssim": partial(pytorch_msssim.ssim, data_range=1.0),
        "torchmetrics": partial(torchmetrics_ssim, data_range=1.0),
    },
    "ms_ssim": {
        OURS: ms_ssim,
        "pytorch-msssim": partial(pytorch_msssim.ms_ssim, data_range=1.0),
        "torchmetrics": partial(torchmetrics_ms_ssim, data_range=1.0),
    },
    "ms_ssim 5x5": {
        OURS: partial(ms_ssim, window=5),
        "pytorch-msssim": partial(pytorch_msssim.ms_ssim, data_range=1.0, win_size=5),
        "torchmetrics": partial(torchmetrics_ms_ssim, data_range=1.0, kernel_size=5),
    },
}


def pair(width: int, height: int, count: int) -> tuple[Tensor, Tensor]:
    """Waves in [0, 1] and a noisy copy, (count, 3, H, W) float64."""
    t, c, y, x = np.ogrid[:count, :3, :height, :width]
    frames = torch.from_numpy(0.5 + 0.4 * np.sin((x + 3 * t) / 7 + c) * np.cos((y - t) / 5))
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    return frames, (frames + 0.05 * noise).clamp(0, 1)


def passes(loss: Similarity, target: Tensor, output: Tensor) -> tuple[float, Tensor]:
    """A forward and a backward pass: the value and the gradient by `output`."""
    output = output.detach().requires_grad_()
    value = loss(output, target)
    (gradient,) = torch.autograd.grad(value, output)
    return float(value.detach()), gradient


def records_as_graph(loss: Similarity, target: Tensor, output: Tensor) -> bool | None:
    """Whether a CUDA graph can record a forward and a backward pass; None on a CPU."""
    if target.device.type != "cuda":
        return None
    output = output.detach().requires_grad_()
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.autograd.grad(loss(output, target), output)
    except RuntimeError:
        torch.cuda.synchronize()
        return False
    return True


def best_seconds(runs: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """The least time of each run, over turns."""
    best = dict.fromkeys(runs, float("inf"))
    began, turns = time.perf_counter(), 0
    while turns < LEAST_RUNS or time.perf_counter() - began < LEAST_SECONDS:
        turns += 1
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def compare_losses(name: str, width: int, height: int, device: str) -> list[dict[str, Any]]:
    """A row for each implementation of a loss."""
    exact = [x.to(device) for x in pair(width, height, 1)]
    single = [x.to(device, torch.float32) for x in pair(width, height, BATCH)]
    value, gradient = passes(LOSSES[name][OURS], *exact)
    agreement: dict[str, tuple[float, float]] = {}
    for library, loss in LOSSES[name].items():
        try:
            found, slope = passes(loss, *exact)
        except (AssertionError, ValueError):
            continue  # too small for five scales
        away = float((slope - gradient).abs().max() / gradient.abs().max())
        agreement[library] = abs(found - value), away
    runs = {each: partial(passes, LOSSES[name][each], *single) for each in agreement}
    seconds = best_seconds(runs, device)
    return [
        {
            "what": name,
            "size": f"{width}x{height}",
            "library": library,
            "ms": 1000 * seconds[library] if library in seconds else None,
            "value_difference": agreement.get(library, (None, None))[0],
            "gradient_difference": agreement.get(library, (None, None))[1],
            "cuda_graph": records_as_graph(loss, *single) if library in agreement else None,
        }
        for library, loss in LOSSES[name].items()
    ]


def compare_measures(width: int, height: int) -> list[dict[str, Any]]:
    """A row for each implementation of the MS-SSIM of an 8-bit frame."""
    exact = [x.mul(255).round() for x in pair(width, height, 1)]
    frames = [x[0].permute(1, 2, 0).contiguous().numpy().astype(np.uint8) for x in exact]
    runs: dict[str, Callable[[], float | None]] = {
        OURS: lambda: measured_ms_ssim(*frames),
        "pytorch-msssim": lambda: float(pytorch_msssim.ms_ssim(*exact, data_range=255.0)),
        "torchmetrics": lambda: float(torchmetrics_ms_ssim(*exact, data_range=255.0)),
    }
    expected = runs[OURS]()
    assert expected is not None
    differences = {name: abs((run() or 0.0) - expected) for name, run in runs.items()}
    seconds = best_seconds(runs, "cpu")
    return [
        {
            "what": "measure",
            "size": f"{width}x{height}",
            "library": name,
            "ms": 1000 * seconds[name],
            "value_difference": differences[name],
            "gradient_difference": None,
            "cuda_graph": None,
        }
        for name in runs
    ]


def import_seconds(module: str) -> float:
    """What importing a module takes in a process that has torch, the best of three."""
    code = (
        "import time, torch; began = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - began)"
    )
    runs = [subprocess.check_output([sys.executable, "-c", code]) for _ in range(3)]
    return min(map(float, runs))


if __name__ == "__main__":
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    torch.set_num_threads(1)
    if os.environ.get("THP_MEM_ALLOC_ENABLE") != "1":
        sys.exit("set THP_MEM_ALLOC_ENABLE=1: torch reads it when it is imported")
    keep_freed_memory()
    rows = [
        row
        for width, height in SIZES
        for name in LOSSES
        for row in compare_losses(name, width, height, device)
    ]
    rows += compare_measures(*SIZES[1])
    imports = {name: import_seconds(module) for name, module in MODULES.items()}
    print("import seconds:", {name: round(seconds, 2) for name, seconds in imports.items()})
    versions = {name: version(name) for name in MODULES if name != OURS}
    report("ssim_loss", rows, versions=versions, import_seconds=imports)
