"""Denoising, inpainting and interpolation beside classical methods, on five clips.

    python benchmarks/restoration.py [CLIP ...]

The damages are some of those that `nervkit bench restore` knows, one of each kind; on Bunny the
other noises and boxes too, and on blackswan a moving object's mask: that of bmx-trees, so that what
it hides is known. What results/restoration/restore.json has already is kept; one frame of every
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
MORE = {
    "bunny": (
        *("gaussian:10", "gaussian:50", "white:0.005", "black:0.005", "random:0.005"),
        *("salt-pepper:0.1", "centre"),
    ),
    "blackswan": ("mask",),
}
MASKS = SHARED / "davis" / "bmx-trees" / "masks"
FIT = {"preset": "draft", "device": "cpu"}
OUT = ROOT / "benchmarks" / "results" / "restoration"
FRAME = 12  # that is kept as a picture

if __name__ == "__main__":
    clips = {clip.name: clip for clip in CLIPS}
    for name in sys.argv[1:] or clips:
        damages = DAMAGES + MORE.get(name, ())
        masks = None
        if "mask" in damages:
            masks = nervkit.read_clip(MASKS, frames="0:50", resize="427x240").frames.any(axis=3)
        record = bench_restore(
            [clips[name]],
            OUT,
            damages,
            FIT,
            mask=masks,
            picture=FRAME,
            on_score=lambda name, score: print(
                f"{name} {score.damage} {score.method}: {score.psnr:.2f} dB", flush=True
            ),
        )
    print_restorations(record, Console(width=100))
