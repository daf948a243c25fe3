"""Denoising, inpainting and interpolation beside classical methods, on four clips.

    python benchmarks/restoration.py [DAMAGE ...]

The damages are those that `nervkit bench restore` knows; by default one of each kind. Every fit has
as many steps. Writes results/restoration/restore.json, and one frame of every method as a PNG.
"""

import sys

from common import ROOT, SHARED
from rich.console import Console

from nervkit.bench.datasets import ClipSpec
from nervkit.bench.restore import bench_restore
from nervkit.bench.tables import print_restorations

CLIPS = (
    ClipSpec(
        "bunny", ROOT / "examples" / "bunny.mp4", None, {"crop": "1280x640", "resize": "320x160"}
    ),
    ClipSpec("basketballpass", SHARED / "basketballpass", None, {"fps": "50"}),
    ClipSpec("blackswan", SHARED / "davis" / "blackswan" / "frames", None, {"resize": "427x240"}),
    ClipSpec("city", SHARED / "vid4_city", None, {"crop": "704x576", "resize": "352x288"}),
)
DAMAGES = ("gaussian:25", "salt-pepper:0.005", "boxes:50", "odd-even")
FIT = {"steps": 2000, "device": "cpu"}
FRAME = 24  # that is kept as a picture

record = bench_restore(
    CLIPS,
    ROOT / "benchmarks" / "results" / "restoration",
    sys.argv[1:] or DAMAGES,
    FIT,
    picture=FRAME,
    on_score=lambda clip, s: print(f"{clip} {s.damage} {s.method}: {s.psnr:.2f} dB", flush=True),
)
print_restorations(record, Console(width=100))
