"""Gaussians against GridNeRV at equal time and bytes, and the error of their tracks.

    python benchmarks/gaussians.py [--seconds 40]

Time is CPU time of one thread, so that other work on the machine does not matter, and includes the
initialisation of a fit. Tracks are measured on a still with known motion, after a fit in float.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT, SHARED, quality, report, small_bunny

import nervkit
from nervkit.compression.coded import decompress_coded
from nervkit.fitting.loop import Stepper
from nervkit.models.base import Representation, count_stored
from nervkit.models.config import VideoShape
from nervkit.models.gaussians import Gaussians
from nervkit.models.registry import load_model
from nervkit.video.clip import Clip

CLIPS = {
    "bunny 320x160": (small_bunny, 40_000),
    "blackswan 213x120": (
        lambda: nervkit.read_clip(
            SHARED / "davis" / "blackswan" / "frames", fps=25, resize="213x120"
        ),
        30_000,
    ),
}
TRACKED = (24, 72, 128)  # frames, height, width
TRACKED_PARAMETERS, TRACKED_SHARE = 40_000, 0.3  # of the other fits' time
STEP, TURN = (2.0, 0.5), math.radians(1)  # motion of the still per frame: pixels, or an angle
POINTS = 200


def within(stepper: Stepper, began: float, seconds: float) -> int:
    """Fit until `seconds` of CPU time have passed since `began`. Return the number of steps."""
    steps = 0
    while (progress := (time.process_time() - began) / seconds) < 1:
        stepper.step(steps, progress)
        steps += 1
    return steps


def coded(clip: Clip, name: str, size: int, seconds: float) -> dict[str, Any]:
    """Fit a model to about `size` bytes and measure the decoded result."""
    model_type, shape = load_model(name), VideoShape(*clip.shape[:3])
    config = model_type.configure_coded(shape, size)
    torch.manual_seed(0)
    network = model_type(config, shape)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    began = time.process_time()
    network.start_fit(frames)
    start = time.process_time() - began
    stepper = Stepper(network, frames, model_type.recipes["native"], target_bits=8 * size)
    steps = within(stepper, began, seconds)
    payload = stepper.codec.compress(network)
    shapes = {k: tuple(v.shape) for k, v in network.stored().items()}
    decoded = model_type.for_decoding(config, shape)
    tensors = decompress_coded(payload, shapes, lambda: None)
    decoded.load_stored({k: torch.from_numpy(v) for k, v in tensors.items()})
    return {
        "parameters": count_stored(network),
        "start_seconds": start,
        "steps": steps,
        "bytes": len(payload),
        "psnr": quality(decoded, clip),
        "off_pixels": None,
        "off_95": None,
    }


def moving(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a moving still: (T, 3, H, W) uint8 frames, (N, 2) points of the first frame, and their
    positions in all frames, (N, T, 2)."""
    count, height, width = TRACKED
    still = nervkit.read_clip(ROOT / "examples" / "bunny.mp4", frames="0:1", resize="640x360")
    whole = torch.from_numpy(still.frames[0]).permute(2, 0, 1)[None].float() / 255
    t = torch.arange(float(count))
    turn = torch.polar(torch.ones(count), t * TURN if kind == "turn" else 0 * t)
    shift = torch.complex(*(s * t for s in STEP)) if kind == "pan" else 0 * turn
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    z = torch.complex(x + 0.5 - width / 2, y + 0.5 - height / 2)
    frames = []
    for k in range(count):
        seen = (z - shift[k]) / turn[k]
        places = torch.stack([seen.real / 320, seen.imag / 180], -1)[None]
        frames.append(F.grid_sample(whole, places, "bicubic", align_corners=False)[0])
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(POINTS, 2, generator=generator) * torch.tensor([width, height])
    start = torch.complex(points[:, 0] - width / 2, points[:, 1] - height / 2)[:, None]
    paths = start * turn + shift
    truth = torch.stack([paths.real + width / 2, paths.imag + height / 2], -1)
    return torch.stack(frames).clamp(0, 1).mul(255).round().byte(), points, truth


def tracked(kind: str, seconds: float) -> dict[str, Any]:
    """Measure the error of tracks of the first frame's points while they are visible."""
    frames, points, truth = moving(kind)
    shape = VideoShape(*TRACKED)
    torch.manual_seed(0)
    network: Representation = Gaussians(Gaussians.configure(shape, TRACKED_PARAMETERS), shape)
    began = time.process_time()
    network.start_fit(frames)
    start = time.process_time() - began
    steps = within(Stepper(network, frames, Gaussians.recipes["native"]), began, seconds)
    network.eval()
    times = torch.arange(float(len(frames)))
    with torch.inference_mode():
        found = torch.stack([network.track(tuple(p), 0.0, times) for p in points.tolist()])
    limits = torch.tensor([shape.width, shape.height])
    visible = ((truth > 0) & (truth < limits)).all(-1)
    error = (found - truth).norm(dim=-1)[visible].numpy()
    clip = nervkit.Clip(frames.permute(0, 2, 3, 1).numpy(), None)
    return {
        "parameters": count_stored(network),
        "start_seconds": start,
        "steps": steps,
        "bytes": None,
        "psnr": quality(network, clip),
        "off_pixels": float(error.mean()),
        "off_95": float(np.quantile(error, 0.95)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of one thread, for each fit")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    clips = {name: (read(), size) for name, (read, size) in CLIPS.items()}
    rows = [
        {"clip": f"a still, {kind}", "model": "gaussians"} | tracked(kind, TRACKED_SHARE * seconds)
        for kind in ("pan", "turn")
    ]
    for name, (clip, size) in clips.items():
        for model in ("gaussians", "gridnerv"):
            rows.append({"clip": name, "model": model} | coded(clip, model, size, seconds))
    report("gaussians", rows, seconds=seconds)


if __name__ == "__main__":
    main()
