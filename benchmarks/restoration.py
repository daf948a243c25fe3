"""Denoising, inpainting and interpolation beside classical methods, on five clips.

    python benchmarks/restoration.py [CLIP ...]

The damages are some of those that `nervkit bench restore` knows, one of each kind, and a moving
object's mask: that of DAVIS's bmx-trees, over blackswan, so that what it hides is known. Every fit
has as many steps. What results/restoration/restore.json has already is kept; one frame of every
method lies beside it (benchmarks/restoration_pictures.py).
"""

import sys

from common import ROOT, SHARED
from rich.console import Console

import nervkit
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.restore import bench_restore
from nervkit.bench.tables import print_restorations

CLIPS = (
    ClipSpec(
        "bunny", ROOT / "examples" / "bunny.mp4", None, {"crop": "1280x640", "resize": "320x160"}
    ),
    ClipSpec("basketballpass", SHARED / "basketballpass", None, {"fps": "50"}),
    ClipSpec("blackswan", SHARED / "davis" / "blackswan" / "frames", None, {"resize": "427x240"}),
    ClipSpec("bmx-trees", SHARED / "davis" / "bmx-trees" / "frames", None, {"resize": "427x240"}),
    ClipSpec("city", SHARED / "vid4_city", None, {"crop": "704x576", "resize": "352x288"}),
)
DAMAGES = ("gaussian:25", "salt-pepper:0.005", "boxes:50", "odd-even")
MASKED, MASKS = "blackswan", SHARED / "davis" / "bmx-trees" / "masks"
FIT = {"steps": 2000, "device": "cpu"}
OUT = ROOT / "benchmarks" / "results" / "restoration"
FRAME = 12  # that is kept as a picture

if __name__ == "__main__":
    for clip in CLIPS:
        if sys.argv[1:] and clip.name not in sys.argv[1:]:
            continue
        moving = clip.name == MASKED
        masks = nervkit.read_clip(MASKS, frames="0:50", resize="427x240").frames if moving else None
        record = bench_restore(
            [clip],
            OUT,
            (*DAMAGES, "mask") if moving else DAMAGES,
            FIT,
            mask=masks.any(axis=3) if moving else None,
            picture=FRAME,
            on_score=lambda name, s: print(
                f"{name} {s.damage} {s.method}: {s.psnr:.2f}", flush=True
            ),
        )
    print_restorations(record, Console(width=100))
