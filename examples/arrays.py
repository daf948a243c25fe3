"""Encode frames in memory, and print the quality of the decoded frames.

python examples/arrays.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import nervkit

bunny = Path(__file__).parent / "bunny.mp4"
clip = nervkit.read_clip(bunny, frames="0:24", resize="160x90")
print(clip.shape, float(clip.fps), "fps;", *clip.notes, sep="\n  ")

with TemporaryDirectory() as folder:
    path = Path(folder) / "bunny.nerv"
    report = nervkit.encode(clip.frames, path, params="60k", steps=300, fps=25)
    video = nervkit.open(path)
    print(f"{report.bytes} bytes, {report.bpp:.3f} bpp, {report.psnr:.2f} dB, {report.ssim:.4f}")
    print("decoded frame 5:", video[5].shape, video[5].dtype)
