"""Fit GridNeRV to several clips and target sizes concurrently: on a GPU, the fits are branches of
one CUDA graph, which uses the GPU far better than a single small fit.

    python benchmarks/coded_curves.py --save-frames frames.npz
    python benchmarks/fits_at_once.py frames.npz fits.npz [--bytes 12000,24000] [--steps 12000]

The script needs only torch and scikit-image, not the clips or PyAV. On a CPU the fits run one after
the other. `coded_curves.py --fits fits.npz` writes files of the fits.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from nervkit.compression.coded import compress_coded
from nervkit.fitting.coding import Codec
from nervkit.fitting.graphed import EAGER_CALLS
from nervkit.fitting.loop import Stepper
from nervkit.fitting.optimizers import schedule, set_rates
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig

BYTES = (12_000, 24_000, 48_000, 96_000, 170_000)
PACE_FROM, PACE_TO = 200, 400  # steps that are timed if there is a time budget


def build(
    frames: torch.Tensor,
    size: int,
    seed: int,
    config: GridNeRVConfig | None = None,
    **recipe: Any,
) -> Stepper:
    """Return a fit to (T, 3, H, W) uint8 frames for `size` bytes of tensors, by default with the
    configuration of `encode --target-size`. `recipe` has changed fields of the model's recipe."""
    count, _, height, width = frames.shape
    shape = VideoShape(count, height, width)
    torch.manual_seed(seed)
    model = GridNeRV(config or GridNeRV.configure_coded(shape, size), shape).to(frames.device)
    model.start_fit(frames)
    changed = replace(GridNeRV.recipes["native"], **recipe)
    return Stepper(model, frames, changed, seed=seed, codec=Codec(model, 8 * size))


def built(
    makers: Sequence[Callable[[], Stepper]], device: torch.device
) -> tuple[list[Stepper], list[Any]]:
    """Build each fit of `makers` on a stream of its own. Return the fits and streams (None on a
    CPU)."""
    streams = [torch.cuda.Stream() if device.type == "cuda" else None for _ in makers]
    steppers = []
    for make, stream in zip(makers, streams, strict=True):
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            steppers.append(make())
    return steppers, streams


def frames_of(archive: Any, clip: str, device: torch.device) -> torch.Tensor:
    """Return (T, 3, H, W) uint8 frames of a clip that coded_curves.py saved."""
    return torch.from_numpy(archive[clip]).permute(0, 3, 1, 2).contiguous().to(device)


class Branches:
    """Updates of several fits at the same step of equal schedules, as one CUDA graph for each
    combination of flags."""

    def __init__(self, steppers: Sequence[Stepper], streams: Sequence[torch.cuda.Stream]) -> None:
        """Each stepper must have been built on its stream."""
        self.steppers, self.streams = steppers, streams
        self.indices = [s._batch_of(0).clone() for s in steppers]
        self.graphs: dict[tuple[bool, ...], torch.cuda.CUDAGraph] = {}
        for stepper in steppers:
            stepper._graphed = None

    def step(self, k: int, progress: float) -> None:
        """Run the k-th update of all fits."""
        for stepper, index in zip(self.steppers, self.indices, strict=True):
            set_rates(stepper.optimizers, schedule(progress, stepper.recipe))
            flags = stepper.codec.step_kind(k, progress, stepper.recipe)
            index.copy_(stepper._batch_of(k))
        if k <= EAGER_CALLS:
            torch.cuda.synchronize()
            self._update(flags)
            torch.cuda.synchronize()
            return
        if flags not in self.graphs:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._update(flags)
            self.graphs[flags] = graph
        self.graphs[flags].replay()

    def _update(self, flags: tuple[bool, ...]) -> None:
        joined = torch.cuda.current_stream()
        for stepper, index, stream in zip(self.steppers, self.indices, self.streams, strict=True):
            stream.wait_stream(joined)
            with torch.cuda.stream(stream):
                stepper._update(index, *flags)
        for stream in self.streams:
            joined.wait_stream(stream)


def fit_all(steppers: Sequence[Stepper], streams: Sequence[Any], steps: int, seconds: float) -> int:
    """Run all fits for `steps`, or for fewer steps within `seconds`. Return the number of steps."""
    branches = Branches(steppers, streams) if streams[0] is not None else None
    began, k, paced = time.perf_counter(), 0, 0.0
    while k < steps:
        if branches is None:
            for stepper in steppers:
                stepper.step(k, k / steps)
        else:
            branches.step(k, k / steps)
        k += 1
        if k in (PACE_FROM, PACE_TO):
            if branches is not None:
                torch.cuda.synchronize()
            now = time.perf_counter()
            if k == PACE_TO:
                pace = (now - paced) / (PACE_TO - PACE_FROM)
                if not math.isinf(seconds):
                    steps = min(steps, k + int((seconds - (now - began)) / pace))
                print(
                    f"{1e3 * pace:.1f} ms a step of {len(steppers)} fits; {steps} steps", flush=True
                )
            paced = now
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("fits", type=Path)
    parser.add_argument("--bytes", default=",".join(map(str, BYTES)))
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seconds", type=float, default=math.inf, help="of the fits, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    archive = np.load(chosen.frames)
    clips = {name: frames_of(archive, name, device) for name in archive}
    wanted = [(name, int(size)) for size in chosen.bytes.split(",") for name in clips]
    began = time.perf_counter()
    makers = [partial(build, clips[name], size, chosen.seed) for name, size in wanted]
    steppers, streams = built(makers, device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    steps = fit_all(steppers, streams, chosen.steps, chosen.seconds)
    if device.type == "cuda":
        torch.cuda.synchronize()
    ended = time.perf_counter()
    made: dict[str, np.ndarray] = {}
    rows = []
    for index, ((name, size), stepper) in enumerate(zip(wanted, steppers, strict=True)):
        payload = compress_coded(stepper.codec.data(stepper.model.eval()))
        made[str(index)] = np.frombuffer(payload, np.uint8)
        config = stepper.model.config.to_dict()
        rows.append({"clip": name, "target": size, "config": config})
        print(f"{name} {size}: {len(payload)} bytes, probe {stepper.probe():.2f} dB", flush=True)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    facts = {
        "steps": steps,
        "seed": chosen.seed,
        "device": gpu or "cpu",
        "torch": torch.__version__,
        "start_seconds": round(started - began, 1),
        "fit_seconds": round(ended - started, 1),
        "rows": rows,
    }
    made["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(chosen.fits, **made)


if __name__ == "__main__":
    main()
