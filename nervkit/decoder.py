"""An open .nerv file as a sequence of frames."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import Any, Generic, Literal, Self, SupportsIndex, cast, overload

import av
import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeVar

from nervkit.container.file import NervFile
from nervkit.container.header import Header
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.errors import UsageError
from nervkit.keywords import checked_keywords
from nervkit.media.checks import MOST_SECONDS
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.models.base import Representation
from nervkit.models.device import Device, choose_device, memory_errors
from nervkit.networks import check_budget, render, render_tensor, with_values
from nervkit.progress import check_callback
from nervkit.segments import KEPT_BYTES, Networks, Segments
from nervkit.units import check_integer, parse_seconds
from nervkit.video.preview import preview_places, strip_html
from nervkit.video.tracks import packets_within

END_OF_TIME = Fraction(2 * MOST_SECONDS)  # later than any timestamp of a file
QUEUE_LENGTH = 4  # frames decoded before the consumer asks for them
CUDA_BATCH = 4  # frames in one forward pass on a GPU
NUMPY, TORCH = "numpy", "torch"  # choices of `output`

Frame = TypeVar("Frame", np.ndarray, Tensor, default=np.ndarray)


@dataclass(frozen=True)
class _FrameType(Generic[Frame]):
    """How frames of one type are made: `render` runs a network, `empty` allocates a batch."""

    render: Callable[[Representation, Sequence[float]], Iterable[Frame]]
    empty: Callable[[tuple[int, ...], torch.device], Frame]


_ARRAYS: _FrameType[np.ndarray] = _FrameType(
    render=render, empty=lambda shape, device: np.empty(shape, np.uint8)
)
_TENSORS: _FrameType[Tensor] = _FrameType(
    render=render_tensor,
    empty=lambda shape, device: torch.empty(shape, dtype=torch.uint8, device=device),
)


class NervVideo(Generic[Frame]):
    """An open .nerv file as a sequence of frames.

    `len(video)`, `video[3]` (H, W, 3), `video[10:20]` (10, H, W, 3), `video[[1, 5, 9]]`
    (3, H, W, 3) and iteration return uint8 RGB; a boolean array selects where it is True.
    `frame_at` and `frames_in` select by time. Each frame costs one forward pass of its segment's
    network. The most recently used networks are cached. During sequential reading the next
    segment's network is loaded ahead.

    On a CPU, frames are computed one at a time in float32: a frame does not depend on which others
    are decoded. CUDA computes in float16, in batches if several frames are requested: samples may
    differ slightly from the CPU's. Threads and forked processes may share a video. A video can be
    pickled: the process that unpickles it reopens the file by its absolute path or from its bytes.

    Args:
        source: a path, the bytes of a file, a seekable binary file object, or an open NervFile.
            The latter two stay open.
        device: "cpu" (the reference), "cuda", "auto" or a torch.device.
        output: "numpy"; or "torch" for uint8 tensors on the device with the same values,
            (3, H, W) for a frame and (T, 3, H, W) for several.
        limits: what decoding may take. The default grows with the size of the file.
        salvage: read the intact segments of a truncated or damaged file, and of its tracks what is
            intact. Frames are counted without the lost ones, and keep their times; `file.notes`
            lists what is lost.
        keep_bytes: memory for cached networks, in bytes. At least one network is cached.

    Raises:
        SourceError: the file does not exist, or the object is not seekable.
        OptionError: an option does not exist.
        UsageError: an option or a limit is invalid.
        FormatError: not a valid .nerv file. The checksum of a segment is verified when one of its
            frames is first decoded; `file.check_all()` verifies all.
        LimitError: decoding takes more than `limits` allow.
        ResourceError: decoding takes more memory than is free. Opening checks the first segment
            for both, the first decode checks each other segment, and `check` checks any of them.
    """

    @overload
    def __init__(
        self: NervVideo[np.ndarray],
        source: NervSource | NervFile,
        *,
        device: Device = "cpu",
        output: Literal["numpy"] = "numpy",
        limits: Limits | None = None,
        salvage: bool = False,
        keep_bytes: int = KEPT_BYTES,
    ) -> None: ...
    @overload
    def __init__(
        self: NervVideo[Tensor],
        source: NervSource | NervFile,
        *,
        device: Device = "cpu",
        output: Literal["torch"],
        limits: Limits | None = None,
        salvage: bool = False,
        keep_bytes: int = KEPT_BYTES,
    ) -> None: ...
    @checked_keywords
    def __init__(
        self,
        source: NervSource | NervFile,
        *,
        device: Device = "cpu",
        output: str = NUMPY,
        limits: Limits | None = None,
        salvage: bool = False,
        keep_bytes: int = KEPT_BYTES,
    ) -> None:
        if output not in (NUMPY, TORCH):
            raise UsageError(f"unknown output {output!r}; choose from: {NUMPY}, {TORCH}")
        check_integer(keep_bytes, "keep_bytes", 0)
        self.output = output
        self._type: _FrameType[Frame] = cast("Any", _TENSORS if output == TORCH else _ARRAYS)
        self._device = choose_device(device)
        self._keep_bytes, self._salvage = keep_bytes, salvage
        self._batch = CUDA_BATCH if self._device.type == "cuda" else 1
        self._owns_file = not isinstance(source, NervFile)
        self.file: NervFile = (
            source if isinstance(source, NervFile) else NervFile(source, limits, salvage=salvage)
        )
        try:
            with self.file.naming():
                check_budget(self.file, self.file.header.segments[:1])
                header = with_values(self.file.header)
        except BaseException:
            self._close_file()
            raise
        self.header: Header = header
        self._networks = Networks(self.file, header, self._device, keep_bytes)
        self.segments = Segments(self.file, header, self._networks)
        self._next = 0  # the frame after the last one read: a read there is sequential

    @property
    def timing(self) -> Timing:
        """The timestamps of the frames."""
        return self.file.timing

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        return self.timing.fps

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3), or (T, 3, H, W) with output "torch"."""
        height, width = self.header.height, self.header.width
        if self.output == TORCH:
            return (len(self), 3, height, width)
        return (len(self), height, width, 3)

    @property
    def tracks(self) -> list[Track]:
        """Audio and subtitle tracks."""
        return self.file.tracks()

    def packets(
        self, track: int = 0, start: str | float | None = None, to: str | float | None = None
    ) -> Iterator[av.Packet[Any]]:
        """Yield the packets of one of `tracks`, to decode or to copy. Reads no segment.

        A track stored in several parts is read part by part: each part when its first packet is
        requested, and only parts that overlap the time from `start` to `to`.

        Args:
            track: index of the track, from 0.
            start: skip audio packets that begin, and subtitles that end, before this time of the
                file's timeline: seconds, "1.5m", "MM:SS" or "HH:MM:SS".
            to: stop before packets that begin at this time. Without `start` and `to`: all packets.

        Returns:
            Packets with their exact times on the file's timeline. They share one `stream`, whose
            `codec_context` decodes them in order, as `packet.decode()` does.

        Raises:
            IndexError: the track does not exist.
            UsageError: a time cannot be parsed.
            FormatError: a part is damaged.
        """
        window = None
        if (start, to) != (None, None):
            begin = parse_seconds(0 if start is None else start, "start")
            window = begin, END_OF_TIME if to is None else parse_seconds(to, "to")
        first = None
        with self.file.naming():
            for part in self.file.track_parts(track, window):
                for packet in packets_within(part, window):
                    first = first or packet
                    packet.stream = first.stream
                    yield packet

    @property
    def model(self) -> Representation:
        """The network, a plain nn.Module: model(t) for t (B,) float returns (B, 3, H, W) in [0, 1].

        Raises UsageError if the file has more than one segment; see `segments`.
        """
        if len(self.segments) > 1:
            raise UsageError(
                f"{self.file.name}: has several segments, each with its own network; use "
                "video.segments[i].model"
            )
        return self.segments[0].model

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames [start, stop), each (H, W, 3) uint8 or a tensor, depending on `output`."""
        return self._decode(range(start, len(self) if stop is None else stop))

    def frame_at(self, seconds: str | float) -> Frame:
        """Return the frame on screen at `seconds`, a number or a text such as "MM:SS": the last
        frame whose start time is not later, as torchcodec's `get_frame_played_at`. Raises
        IndexError before the first frame's start and from the last frame's end on."""
        return self[self.timing.index_at(_seconds(seconds, "seconds"))]

    def frames_in(self, start: str | float, stop: str | float) -> Frame:
        """Return the frames on screen in [start, stop), times as for `frame_at`, as torchcodec's
        `get_frames_played_in_range`: the frame on screen at `start` and all that begin later and
        before `stop`. Raises UsageError unless first frame's start <= start <= stop <= last
        frame's end."""
        span = _seconds(start, "start"), _seconds(stop, "stop")
        return self._decode_batch(self.timing.indices_in(*span))

    def _decode(self, positions: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames at valid positions one by one."""
        done, in_order = 0, len(positions) > 0 and positions[0] == self._next > 0
        ascending = isinstance(positions, range) and positions.step > 0
        while done < len(positions):
            index = self.segments.index_at(positions[done])
            first, after = self.segments.span(index)
            batch = positions[done : done + self._batch]
            local = [p - first for p in takewhile(range(first, after).__contains__, batch)]
            network = self._networks.get(index)
            done, self._next = done + len(local), first + local[-1] + 1
            with memory_errors(self.file.name):
                frames = self._type.render(network, local)
            # Loading starts after the frame, which it would delay, and runs while it is used.
            goes_on = in_order or (ascending and positions[-1] >= after)
            if goes_on and index + 1 < len(self.segments):
                self._networks.prepare(index + 1)
            yield from frames

    def _decode_batch(self, positions: Sequence[int]) -> Frame:
        """Return the same frames in one array or tensor."""
        result = self._type.empty((len(positions), *self.shape[1:]), self._device)
        for row, frame in enumerate(self._decode(positions)):
            result[row] = frame
        return result

    def check(self, start: int, stop: int) -> None:
        """Verify all that decoding frames [start, stop) needs before any is decoded: the checksums
        of their segments, and their total cost. Raises ChecksumError, LimitError, ResourceError."""
        first, after = self.segments.index_at(start), self.segments.index_at(stop - 1) + 1
        self.file.check_segments(first, after)
        with self.file.naming():
            check_budget(self.file, self.header.segments[first:after])

    def __len__(self) -> int:
        return self.segments.frames

    def __getitem__(
        self, index: SupportsIndex | slice | Sequence[int] | np.ndarray | Tensor
    ) -> Frame:
        if isinstance(index, slice):
            return self._decode_batch(range(*index.indices(len(self))))
        listed: Any = index
        if getattr(index, "ndim", 0) == 1:  # an array of any library
            array = cast("np.ndarray", index)
            listed = array.tolist()
            if str(array.dtype).endswith("bool"):
                if len(listed) != len(self):
                    raise IndexError(f"a mask of {len(listed)} values for {len(self)} frames")
                listed = np.flatnonzero(listed).tolist()
        if isinstance(listed, (list, range)):
            return self._decode_batch([self._position(one) for one in listed])
        return next(self._decode([self._position(listed)]))

    def _position(self, index: object) -> int:
        """Return the position of the frame at `index`; negative indices count from the end."""
        try:
            if isinstance(index, bool):
                raise TypeError("a boolean mask does not select frames")
            number = operator.index(cast("SupportsIndex", index))
        except TypeError as error:
            raise TypeError(
                f"a frame's index is a whole number, a slice or a list of numbers, not {index!r}"
            ) from error
        position = number + len(self) if number < 0 else number
        if not 0 <= position < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        return position

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "device": self._device,
            "output": self.output,
            "limits": self.file.limits,
            "salvage": self._salvage,
            "keep_bytes": self._keep_bytes,
        }
        return _reopen, (self.file.elsewhere if self._owns_file else self.file, options)

    def close(self) -> None:
        """Close the file. Frames can no longer be decoded."""
        self._networks.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._owns_file:
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        size, rate = f"{self.header.width}x{self.header.height}", f"{float(self.fps):.3g} fps"
        models = ", ".join(sorted({segment.model for segment in self.header.segments}))
        return f"NervVideo({len(self)} frames of {size}, {rate}, {models})"

    def _repr_html_(self) -> str:
        frames = self[preview_places(len(self))]
        if isinstance(frames, Tensor):
            return strip_html(repr(self), frames.permute(0, 2, 3, 1).cpu().numpy())
        return strip_html(repr(self), frames)


def _seconds(time: str | float, name: str) -> float:
    """Return a time, which a text may give, in seconds. Raises UsageError."""
    if isinstance(time, str) or not hasattr(time, "__float__"):
        return float(parse_seconds(time, name))
    return float(time)


def _reopen(source: NervSource | NervFile, options: dict[str, Any]) -> NervVideo[Any]:
    """Open a pickled video in the process that unpickles it."""
    return NervVideo(source, **options)


def prefetched(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same frames, computed in a thread while the consumer uses earlier ones."""
    worker = ThreadPoolExecutor(1)
    try:
        pending = deque(worker.submit(next, frames, None) for _ in range(QUEUE_LENGTH))
        while (frame := pending.popleft().result()) is not None:
            pending.append(worker.submit(next, frames, None))
            yield frame
    finally:
        worker.shutdown(wait=False, cancel_futures=True)  # a frame may take minutes


OnProgress = Callable[[int, int], None]


def with_progress(
    frames: Iterable[np.ndarray], total: int, on_progress: OnProgress | None, done: int = 0
) -> Iterator[np.ndarray]:
    """Yield the same frames, and call `on_progress` with (frames done, `total`) when the consumer
    has used one. `done` frames were used before. Raises UsageError if it is no function."""
    check_callback(on_progress, "on_progress")
    for count, frame in enumerate(frames, start=done + 1):
        yield frame
        if on_progress is not None:
            on_progress(count, total)
