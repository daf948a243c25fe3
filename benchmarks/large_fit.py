"""Quality of `nervkit encode --params 1.5M --time 10m` on Bunny at 1280x640, the clip and size of
HNeRV's tables.

    python benchmarks/large_fit.py [TIME ...]

The default is ten minutes. PSNR is that of the decoded file.
"""

import sys
import tempfile
from pathlib import Path

from common import ROOT, report

import nervkit

PARAMS = 1_500_000

rows = []
with tempfile.TemporaryDirectory() as folder:
    for time in sys.argv[1:] or ["10m"]:
        done = nervkit.encode(
            ROOT / "examples" / "bunny.mp4",
            Path(folder) / f"{time}.nerv",
            crop="1280x640",
            params=PARAMS,
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
