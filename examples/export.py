"""Export the network of a .nerv file with torch.export, to decode frames without nervkit.

python examples/export.py video.nerv video.pt2
"""

import sys

import torch

import nervkit

source, target = sys.argv[1:]
video = nervkit.open(source, output="torch")
model = video.model  # with several segments: video.segments[i].model

# The reference decoder computes one frame at a time, so the exported network takes one position.
torch.export.save(torch.export.export(model, (torch.zeros(1),)), target)

exported = torch.export.load(target).module()
with torch.inference_mode():
    for index in range(len(video)):
        shown = exported(torch.tensor([float(index)])).mul(255).round().clamp(0, 255).byte()[0]
        difference = (shown.int() - video[index].int()).abs().max().item()
        print(f"frame {index}: differs by {difference} at most")
