"""Open a .nerv file and take what is needed of it.

nervkit encode examples/bunny.mp4 -o bunny.nerv --resize 320x180 --preset draft
python examples/random_access.py bunny.nerv
"""

import sys

import imageio.v3 as iio
import torch

import nervkit

video = nervkit.open(sys.argv[1])
print(video, video.shape, f"{float(video.fps):.3f} fps")

first = video[0]  # (H, W, 3) uint8: costs one evaluation, wherever in the video
some = video[10:14]  # (4, H, W, 3)
print("frame 0:", first.shape, "frames 10 to 13:", some.shape)

# The model is a plain nn.Module; between frames it interpolates.
with torch.no_grad():
    between = video.model(torch.tensor([10.0, 10.5, 11.0]))
print("at 10, 10.5 and 11:", tuple(between.shape), "in", between.min().item(), between.max().item())

# imageio reads .nerv files once nervkit is imported.
print("through imageio:", iio.improps(sys.argv[1]).shape)
iio.imwrite("first.png", first)
