"""Check the x264 anchor against values measured without nervkit.

Bunny, 132 frames, 1280x640 centre crop as RGB; `libx264 -preset veryslow -crf N -pix_fmt yuv420p`
as an elementary stream; RGB PSNR after ffmpeg's default conversion back, mean over frames.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from common import ROOT, report

import nervkit
from nervkit.bench.anchors import ANCHORS, FFmpeg, Frames, decode_arguments, decoded_planes
from nervkit.bench.process import Runner
from nervkit.metrics import psnr
from nervkit.video.planes import Planes

KNOWN = {20: (0.1002, 40.13), 25: (0.0537, 37.96), 30: (0.0270, 35.22)}
KNOWN |= {35: (0.0147, 32.57), 40: (0.0092, 29.99)}

# The frame rate of the known values: x264's CRF depends on it.
FPS = Fraction(24)

clip = nervkit.read_clip(ROOT / "examples" / "bunny.mp4", crop="1280x640")
count, height, width, _ = clip.shape
anchor = replace(ANCHORS["x264"], profiles={"untuned": ("-preset", "veryslow")}, after=())
ffmpeg, runner, rows = FFmpeg(), Runner(), []
with tempfile.TemporaryDirectory() as folder:
    frames = Frames(Path(folder, "frames.yuv"), width, height, FPS, count)
    with frames.path.open("wb") as file:
        for frame in clip.frames:
            file.write(Planes.from_rgb(frame, clip.colour).samples())
    stream = Path(folder, "stream.h264")
    for crf, (known_bpp, known_psnr) in KNOWN.items():
        arguments = anchor.encode_arguments("untuned", crf, None, frames, str(stream))
        runner.run(ffmpeg.command(*arguments))
        back: list[Planes] = []
        runner.run(
            ffmpeg.command(*decode_arguments(anchor, str(stream), "pipe:1", "rawvideo")),
            read=lambda pipe, back=back: back.extend(decoded_planes(anchor, pipe, frames)),
        )
        pairs = zip(clip.frames, back, strict=True)
        values = [psnr(frame, planes.rgb(clip.colour, width, height)) for frame, planes in pairs]
        rows.append(
            {
                "crf": crf,
                "bpp": 8 * stream.stat().st_size / (count * width * height),
                "known bpp": known_bpp,
                "psnr": float(np.mean(values)),
                "known psnr": known_psnr,
            }
        )
report("anchor_check", rows, ffmpeg=ffmpeg.version)
