"""Frames that wait on disk until it is known where a segment ends."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from nervkit.errors import ResourceError
from nervkit.video.collector import MEMORY_SHARE
from nervkit.video.memory import available_memory, human_bytes


class Spool:
    """A queue of frames in a temporary file, which goes when the spool is closed.

    Args:
        capacity: the most frames that wait at a time. The file is a ring of so many.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._first = self._end = 0  # the frames that wait, counted from the first of all
        self._shape: tuple[int, ...] = ()
        self._file = tempfile.TemporaryFile(prefix="nervkit-")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # what a full disk did not take is not wanted any more
            self._file.close()

    def __len__(self) -> int:
        """How many frames wait."""
        return self._end - self._first

    def append(self, frame: np.ndarray) -> None:
        """An (H, W, 3) uint8 frame, of the first one's shape. Raises ResourceError where the disk
        is full."""
        assert len(self) < self._capacity
        self._shape = frame.shape
        self._seek(self._end, frame.nbytes)
        try:
            self._file.write(np.ascontiguousarray(frame))
            self._file.flush()
        except OSError as error:
            raise ResourceError(
                f"frames cannot be kept in {tempfile.gettempdir()} ({error.strerror or error}): "
                f"up to {human_bytes(self._capacity * frame.nbytes)} are needed; "
                "set TMPDIR to a folder with more space, or take fewer --segment-frames"
            ) from error
        self._end += 1

    def take(self, count: int) -> np.ndarray:
        """(count, H, W, 3) uint8, the first ones that wait. Raises ResourceError where they do not
        fit into memory."""
        size = int(np.prod(self._shape))
        have = available_memory()
        if count * size > MEMORY_SHARE * have:
            raise ResourceError(
                f"a segment of {count} frames takes {human_bytes(count * size)}, "
                f"{human_bytes(have)} of memory are free; take shorter segments, or smaller "
                "frames (--resize, --crop)"
            )
        frames = np.empty((count, *self._shape), np.uint8)
        for frame in frames:
            self._seek(self._first, size)
            self._file.readinto(frame)
            self._first += 1
        return frames

    def _seek(self, index: int, size: int) -> None:
        self._file.seek(index % self._capacity * size)
