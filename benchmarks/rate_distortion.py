"""GridNeRV, HNeRV and NeRV against four anchors on four clips, at sizes that a CPU can fit.

    python benchmarks/rate_distortion.py FOLDER

measures into FOLDER (it goes on where it was), copies the records to results/rate_distortion/
and draws results/rate_distortion.svg. Run from the checkout, with the clips beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from common import RESULTS, ROOT

CLIPS = {
    "examples/bunny.mp4": "--crop 1280x640 --resize 320x160",
    "../shared/clips/basketballpass": "--fps 50",
    "../shared/clips/vid4_city": "--resize 352x288 --fps 30",
    "../shared/clips/davis/blackswan/frames": "--resize 427x240",
}
CHOSEN = "--codecs gridnerv,hnerv,nerv,x264,x265,svt-av1,vvenc --steps 600 --params 60k,150k,375k"


def nervkit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "nervkit", "bench", *arguments], cwd=ROOT, check=True)


folder = Path(sys.argv[1]).resolve()
for clip, edit in CLIPS.items():
    nervkit(clip, "--out", str(folder), *CHOSEN.split(), *edit.split())
plot = str(RESULTS / "rate_distortion.svg")
nervkit("report", str(folder), "-o", str(folder / "report.html"), "--plot", plot, "-y")
for record in folder.glob("*/*.json"):
    kept = RESULTS / "rate_distortion" / record.relative_to(folder)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(record, kept)
