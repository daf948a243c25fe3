"""Denoising, inpainting and interpolation against classical methods, on five clips.

    python benchmarks/restoration.py [CLIP ...]

The damages are some of those of `nervkit bench restore`. Denoising is measured on the first 24
frames of each clip, inpainting and interpolation on full clips. Bunny has the centre box too, and
blackswan the mask of a moving object, which is that of bmx-trees, so that the hidden content is
known. Impulses and holes have a fit, as by default, with preset draft. Existing runs in
results/restoration/restore.json are kept; one frame of every method is stored beside it
(benchmarks/restoration_pictures.py).
"""

import sys
from dataclasses import replace

from common import ROOT, SHARED

import nervkit
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.restoration.run import bench_restore

CLIPS = (
    ClipSpec(
        "bunny", ROOT / "examples" / "bunny.mp4", None, {"crop": "1280x640", "resize": "320x160"}
    ),
    ClipSpec("basketballpass", SHARED / "basketballpass", None, {"fps": "50"}),
    ClipSpec("blackswan", SHARED / "davis" / "blackswan" / "frames", None, {"resize": "427x240"}),
    ClipSpec("bmx-trees", SHARED / "davis" / "bmx-trees" / "frames", None, {"resize": "427x240"}),
    ClipSpec("city", SHARED / "vid4_city", None, {"crop": "704x576", "resize": "352x288"}),
)
EXCERPT = {"frames": "0:24"}
NOISES = ("planes:10", "codec:12", "codec:30", "gaussian:25", "poisson:25")
IMPULSES = ("salt-pepper:0.005",)
FITTED = ("boxes:50",)
MORE = {"bunny": ("centre",), "blackswan": ("mask",)}
FEWER = {"bmx-trees": ("gaussian:25",), "city": ("gaussian:25",)}
MASKS = SHARED / "davis" / "bmx-trees" / "masks"
DRAFT = {"preset": "draft", "device": "cpu"}
OUT = ROOT / "benchmarks" / "results" / "restoration"
FRAME = 12  # stored as a picture


def measure(
    clip: ClipSpec,
    damages: tuple[str, ...],
    fit: dict[str, str],
    *,
    mask: object = None,
    baselines: bool = True,
) -> None:
    """Score every method on each damage; print and record the scores."""
    bench_restore(
        [clip],
        OUT,
        damages,
        fit,
        mask=mask,
        baselines=baselines,
        picture=FRAME,
        on_score=lambda name, score: print(
            f"{name} {score.damage} {score.method}: {score.psnr:.2f} dB", flush=True
        ),
    )


if __name__ == "__main__":
    for clip in CLIPS:
        if sys.argv[1:] and clip.name not in sys.argv[1:]:
            continue
        excerpt = replace(clip, options=clip.options | EXCERPT)
        measure(excerpt, FEWER.get(clip.name, NOISES), {"device": "cpu"})
        measure(excerpt, ("none",), {"device": "cpu"}, baselines=False)
        measure(excerpt, IMPULSES, DRAFT)
        damages = FITTED + MORE.get(clip.name, ())
        masks = None
        if "mask" in damages:
            masks = nervkit.read_clip(MASKS, frames="0:50", resize="427x240").frames.any(axis=3)
        measure(clip, damages, DRAFT, mask=masks)
        measure(clip, ("odd-even",), {"device": "cpu"})
