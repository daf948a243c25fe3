"""A PyTorch data set of frames from .nerv files, which DataLoader workers decode.

python examples/dataset.py one.nerv two.nerv
"""

import sys
from bisect import bisect_right
from itertools import accumulate

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import nervkit


class NervFrames(Dataset[tuple[Tensor, int]]):
    """Frames, uint8 (3, H, W), each with the index of its video. All videos have one size."""

    def __init__(self, paths: list[str]) -> None:
        # Opening does not decode. Each worker gets pickled copies, which open the files again.
        self.videos = [nervkit.open(path, output="torch") for path in paths]
        self.ends = list(accumulate(len(video) for video in self.videos))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        which = bisect_right(self.ends, index)
        # A negative index counts from the end of the video.
        return self.videos[which][index - self.ends[which]], which


def main() -> None:
    frames = NervFrames(sys.argv[1:])
    # Spawned workers do not inherit locks that threads of this process hold. Neighbouring frames
    # share the network of a segment: for long videos, shuffle clips instead of frames.
    loader = DataLoader(
        frames, batch_size=4, num_workers=2, shuffle=True, multiprocessing_context="spawn"
    )
    for batch, videos in loader:
        print(tuple(batch.shape), batch.dtype, "of videos", videos.tolist())


if __name__ == "__main__":  # spawned workers import this file
    main()
