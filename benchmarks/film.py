"""Make a film of several thousand frames from short clips, with cuts, cross-fades and sound.

    python benchmarks/film.py OUTPUT.mp4

The clips of ../shared/clips follow one another, each several times in variations: mirrored, zoomed,
reversed. Cuts and cross-fades alternate.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from common import ROOT, SHARED

import nervkit

FRAMES, WIDTH, HEIGHT, RATE = 5_000, 320, 180, 25
FADE = 12  # frames of a cross-fade
CLIPS = (
    "bikes.mp4",
    "basketballpass",
    "davis/blackswan/frames",
    "bigbuckbunny.mp4",
    "davis/bmx-trees/frames",
    "vid4_city",
)
OWN_CUTS = {"bikes.mp4": (30, 76, 137, 187, 242)}  # the clips' own cuts


@dataclass
class Film:
    """The contents of a film: the first frames after cuts, the first frames of cross-fades, and the
    file's bytes."""

    cuts: list[int] = field(default_factory=list)
    fades: list[int] = field(default_factory=list)
    bytes: int = 0


def make_film(output: Path) -> Film:
    """Write the film, FRAMES frames of H.264 with AAC."""
    made = Film()
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(RATE)]
    sound = ["-stream_loop", "-1", "-i", str(ROOT / "examples" / "bunny.mp4")]
    chosen = ["-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p"]
    chosen += ["-c:a", "aac", "-ac", "2", "-b:a", "64k", "-t", str(FRAMES / RATE), str(output)]
    command = [*ffmpeg, *pictures, "-i", "-", *sound, *chosen]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    for frame in islice(_frames(made), FRAMES):
        process.stdin.write(frame.tobytes())
    process.stdin.close()
    if process.wait():
        raise SystemExit("ffmpeg could not write the film")
    made.cuts = [place for place in made.cuts if place < FRAMES]
    made.bytes = output.stat().st_size
    return made


def _frames(made: Film) -> Iterator[np.ndarray]:
    """Yield (HEIGHT, WIDTH, 3) uint8 frames without end."""
    shots, place = _shots(), 0
    tail = np.empty((0, HEIGHT, WIDTH, 3), np.uint8)
    for number, (shot, own) in zip(count(), shots):
        if len(tail):
            share = (np.arange(FADE) + 1).reshape(-1, 1, 1, 1) / (FADE + 1)
            made.fades.append(place)
            mixed = np.rint((1 - share) * tail + share * shot[:FADE]).astype(np.uint8)
            shot = np.concatenate([mixed, shot[FADE:]])
        elif place:
            made.cuts.append(place)
        made.cuts += [place + cut for cut in own]
        fades = number % 2 == 0
        kept = len(shot) - FADE if fades else len(shot)
        yield from shot[:kept]
        place, tail = place + kept, shot[kept:]


def _shots() -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield variations of the clips without end, and the frames before which they have cuts."""
    for guise in count():
        for name in CLIPS:
            frames = _clip(name, near=guise // 4 % 2 == 1)
            own = list(OWN_CUTS.get(name, ()))
            if guise % 2:
                frames = frames[:, :, ::-1]
            if guise // 2 % 2:
                frames, own = frames[::-1], sorted(len(frames) - cut for cut in own)
            yield frames, own


def _clip(name: str, near: bool) -> np.ndarray:
    size = "480x270" if near else f"{WIDTH}x{HEIGHT}"
    frames = nervkit.read_clip(SHARED / name, resize=size).frames
    top, left = (frames.shape[1] - HEIGHT) // 2, (frames.shape[2] - WIDTH) // 2
    return frames[:, top : top + HEIGHT, left : left + WIDTH]


if __name__ == "__main__":
    print(make_film(Path(sys.argv[1])))
