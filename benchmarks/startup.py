"""Start-up time of `nervkit --help` and `nervkit info`, each the median of 9 runs."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import report

import nervkit


def seconds(*arguments: str) -> float:
    command = [sys.executable, "-c", "from nervkit.cli import main; main()", *arguments]
    times = []
    for _ in range(9):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.nerv"
        nervkit.encode(np.zeros((4, 64, 64, 3), np.uint8), path, steps=1)
        commands = {"--help": ["--help"], "info": ["info", str(path)]}
        rows = [{"command": name, "seconds": seconds(*args)} for name, args in commands.items()]
    report("startup", rows)
