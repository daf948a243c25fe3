"""GridNeRV by preset against four anchors on four clips.

    python benchmarks/rate_distortion.py FOLDER [--presets draft,medium,slow] [--clips bunny,...]

measures into FOLDER (a repeated run goes on), copies the records to results/rate_distortion/ and
draws results/rate_distortion.svg. Run it from the checkout, with the clips beside it. On two cores,
draft takes about ten minutes per clip, medium an hour, slow five hours.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from common import RESULTS, ROOT

CLIPS = {
    "bunny": "examples/bunny.mp4 --crop 1280x640 --resize 320x160",
    "basketballpass": "../shared/clips/basketballpass --fps 50",
    "vid4_city": "../shared/clips/vid4_city --resize 352x288 --fps 30",
    "blackswan": "../shared/clips/davis/blackswan/frames --resize 427x240",
}
ANCHORS = "x264,x265,svt-av1,vvenc"


def nervkit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "nervkit", "bench", *arguments], cwd=ROOT, check=True)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("--presets", default="draft,medium,slow")
parser.add_argument("--clips", default=",".join(CLIPS))
asked = parser.parse_args()
folder = asked.folder.resolve()
native = ",".join(f"gridnerv:{preset}" for preset in asked.presets.split(","))
for name in asked.clips.split(","):
    clip, *edit = CLIPS[name].split()
    nervkit(clip, "--out", str(folder), "--codecs", f"{native},{ANCHORS}", *edit)
plot = str(RESULTS / "rate_distortion.svg")
nervkit("report", str(folder), "-o", str(folder / "report.html"), "--plot", plot, "-y")
for record in folder.glob("*/*.json"):
    kept = RESULTS / "rate_distortion" / record.relative_to(folder)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(record, kept)
