"""A disk buffer for frames of a segment whose end is not known yet."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from nervkit.errors import ResourceError
from nervkit.keywords import option
from nervkit.video.collector import MEMORY_SHARE
from nervkit.video.memory import available_memory, human_bytes


class Spool:
    """A FIFO of frames in a temporary file, which is deleted when the spool is closed.

    Args:
        capacity: maximum number of waiting frames. The file is a ring buffer of this size.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._first = self._end = 0  # range of waiting frames, counted from the very first
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
        with suppress(OSError):  # a full disk may fail to flush data that nobody needs any more
            self._file.close()

    def __len__(self) -> int:
        """Number of waiting frames."""
        return self._end - self._first

    def append(self, frame: np.ndarray) -> None:
        """Append an (H, W, 3) uint8 frame; all must have one shape. Raises ResourceError if the
        disk is full."""
        assert len(self) < self._capacity
        self._shape = frame.shape
        self._seek(self._end, frame.nbytes)
        try:
            self._file.write(np.ascontiguousarray(frame).data)
            self._file.flush()
        except OSError as error:
            raise ResourceError(
                f"{tempfile.gettempdir()}: cannot buffer frames ({error.strerror or error}): "
                f"up to {human_bytes(self._capacity * frame.nbytes)} are needed; "
                f"set TMPDIR to a folder with more space, or reduce {option('segment_frames')}"
            ) from error
        self._end += 1

    def take(self, count: int) -> np.ndarray:
        """Remove the first `count` frames and return them as (count, H, W, 3) uint8. Raises
        ResourceError if they do not fit into memory."""
        size = int(np.prod(self._shape))
        have = available_memory()
        if count * size > MEMORY_SHARE * have:
            raise ResourceError(
                f"a segment of {count} frames needs {human_bytes(count * size)} of memory, but "
                f"only {human_bytes(have)} are free; use shorter segments or smaller frames "
                "({option('resize')}, {option('crop')})"
            )
        frames = np.empty((count, *self._shape), np.uint8)
        for frame in frames:
            self._seek(self._first, size)
            self._file.readinto(frame)
            self._first += 1
        return frames

    def _seek(self, index: int, size: int) -> None:
        self._file.seek(index % self._capacity * size)
