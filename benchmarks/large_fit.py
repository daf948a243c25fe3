"""What `nervkit encode --time` reaches on Bunny at 1280x640, with no other option.

    python benchmarks/large_fit.py [TIME ...]

The default is ten minutes. The PSNR is that of the file, decoded.
"""

import sys
import tempfile
from pathlib import Path

from common import ROOT, report

import nervkit

rows = []
with tempfile.TemporaryDirectory() as folder:
    for time in sys.argv[1:] or ["10m"]:
        done = nervkit.encode(
            ROOT / "examples" / "bunny.mp4",
            Path(folder) / f"{time}.nerv",
            crop="1280x640",
            time=time,
        )
        rows.append(
            {
                "time": time,
                "model": done.model,
                "parameters": done.parameters,
                "steps": done.steps,
                "fit_seconds": done.fit_seconds,
                "seconds": done.seconds,
                "bytes_without_sound": done.bytes - done.bytes_by_part["tracks"],
                "psnr": done.psnr,
                "ssim": done.ssim,
            }
        )
        report("large_fit", rows)
