"""How long a preset takes at sizes from a thumbnail to 1080p, from a video to a checked file.

    python benchmarks/presets.py [PRESET ...]

Bunny, 132 frames; 1080p is enlarged. The default is draft; medium takes half an hour in all.
"""

import sys
import tempfile
from pathlib import Path

from common import ROOT, report

import nervkit

SIZES = ("320x180", "1280x720", "1920x1080")

rows = []
with tempfile.TemporaryDirectory() as folder:
    for preset in sys.argv[1:] or ["draft"]:
        for size in SIZES:
            output = Path(folder) / f"{preset}-{size}.nerv"
            video = ROOT / "examples" / "bunny.mp4"
            done = nervkit.encode(video, output, resize=size, preset=preset)
            rows.append(
                {
                    "preset": preset,
                    "size": size,
                    "parameters": done.parameters,
                    "steps": done.steps,
                    "fit_seconds": done.fit_seconds,
                    "seconds": done.seconds,
                    "bytes_without_sound": done.bytes - done.bytes_by_part["tracks"],
                    "psnr": done.psnr,
                }
            )
            report("presets", rows)
