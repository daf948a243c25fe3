"""Open a .nerv file and read single frames, slices and frames between frames.

nervkit encode examples/bunny.mp4 -o bunny.nerv --resize 320x180 --preset draft
python examples/random_access.py bunny.nerv
"""

import sys

import imageio.v3 as iio
import torch

import nervkit

video = nervkit.open(sys.argv[1])
print(video, video.shape, f"{float(video.fps):.3f} fps")

first = video[0]  # (H, W, 3) uint8; any frame costs one evaluation of the network
some = video[10:14]  # (4, H, W, 3)
print("frame 0:", first.shape, "frames 10 to 13:", some.shape)

# The model is a plain nn.Module. It interpolates at fractional positions.
with torch.no_grad():
    between = video.model(torch.tensor([10.0, 10.5, 11.0]))
print("at 10, 10.5, 11:", tuple(between.shape), between.min().item(), "to", between.max().item())

# Importing nervkit registers a plugin with imageio.
print("through imageio:", iio.improps(sys.argv[1]).shape)
iio.imwrite("first.png", first)
