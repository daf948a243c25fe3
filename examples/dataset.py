"""Frames of .nerv files as a data set, decoded by the workers of a DataLoader.

python examples/dataset.py one.nerv two.nerv
"""

import sys
from bisect import bisect_right
from itertools import accumulate

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import nervkit


class NervFrames(Dataset):
    """All frames of some videos of one size: uint8 (3, H, W) each, and the video's number."""

    def __init__(self, paths: list[str]) -> None:
        # Opening reads a file's head only. A worker gets copies, which open the files themselves.
        self.videos = [nervkit.open(path, output="torch") for path in paths]
        self.ends = list(accumulate(len(video) for video in self.videos))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        which = bisect_right(self.ends, index)
        # Counted from the end of its video, as negative indices are.
        return self.videos[which][index - self.ends[which]], which


def main() -> None:
    frames = NervFrames(sys.argv[1:])
    # Workers that are spawned do not inherit what the threads of this process hold. Frames next to
    # each other share a segment's network: of long videos, shuffle clips and not frames.
    loader = DataLoader(
        frames, batch_size=4, num_workers=2, shuffle=True, multiprocessing_context="spawn"
    )
    for batch, videos in loader:
        print(tuple(batch.shape), batch.dtype, "of videos", videos.tolist())


if __name__ == "__main__":  # spawned workers import this file
    main()
