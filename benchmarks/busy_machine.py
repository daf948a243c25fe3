"""Effect of a process that keeps one core busy on a fit: the result of a two-minute fit in float
of the README's first clip, beside that process and alone, and the step time by number of threads,
which wait asleep (nervkit's default) or spinning.

    python benchmarks/busy_machine.py

Takes less than six minutes on an otherwise idle machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import ROOT, report

from nervkit.environment import SETTINGS

STEPS = 20
MEASURE = """
import time
import torch
import nervkit
from nervkit.fitting.options import FitOptions
from nervkit.fitting.loop import Stepper
from nervkit.models.config import VideoShape

clip = nervkit.read_clip({clip!r}, resize="320x180", frames=":16")
options, shape = FitOptions(device="cpu"), VideoShape(132, 180, 320)
network = options.model_type(options.configure(shape), shape)
frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
stepper = Stepper(network, frames, options.model_type.recipes["native"])
for k in range(4):
    stepper.step(k, 0.0)
began = time.perf_counter()
for k in range({steps}):
    stepper.step(k, 0.0)
print(time.perf_counter() - began)
"""


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """Run a process that keeps a core busy, if `busy`."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def step_row(threads: int, spinning: bool, busy: bool) -> dict[str, Any]:
    """Measure the time of STEPS steps."""
    clip = str(ROOT / "examples" / "bunny.mp4")
    program = MEASURE.format(clip=clip, steps=STEPS)
    with neighbour(busy):
        command, env = [sys.executable, "-c", program], {"OMP_NUM_THREADS": str(threads)}
        env |= {} if spinning else SETTINGS  # torch's threads spin by default
        seconds = float(subprocess.check_output(command, env=os.environ | env))
    return {
        "busy": busy,
        "threads": threads,
        "waiting": "spinning" if spinning else "asleep",
        f"seconds_of_{STEPS}_steps": seconds,
    }


def encode_row(busy: bool) -> dict[str, Any]:
    """Encode for two minutes."""
    with tempfile.TemporaryDirectory() as folder, neighbour(busy):
        output = Path(folder) / "bunny.nerv"
        options = ["--resize", "320x180", "--params", "142k", "--time", "2m", "--device", "cpu"]
        command = [sys.executable, "-m", "nervkit", "encode", "examples/bunny.mp4", "-o", output]
        began = time.perf_counter()
        printed = subprocess.check_output([*command, *options, "--json"], cwd=ROOT)
        made = json.loads(printed)
    return {
        "busy": busy,
        "psnr": made["psnr"],
        "steps": made["steps"],
        "fit_seconds": made["fit_seconds"],
        "seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    settings = [(1, False), (2, False), (2, True)]
    steps = [step_row(*each, busy) for busy in (False, True) for each in settings]
    for row in steps:
        print(row)
    report("busy_machine", [encode_row(busy) for busy in (False, True)], steps=steps)
