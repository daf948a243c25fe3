"""The segments of an open file, and their networks, of which the last used are kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from threading import Event, Lock
from typing import Any, overload

import numpy as np
import torch

from nervkit.container.file import NervFile
from nervkit.container.header import Header
from nervkit.errors import NervError
from nervkit.forking import renewed_after_fork
from nervkit.models.base import Representation
from nervkit.models.device import memory_errors
from nervkit.networks import check_budget, drawn, fill, unfilled

KEPT_BYTES = 256 << 20
AHEAD_SHARE, SLICE_SECONDS = 0.2, 0.001
VALUE_BYTES = 4  # of a network that is built: float32


@dataclass(frozen=True)
class VideoSegment:
    """A run of frames with a network of its own.

    Attributes:
        index: which of the file's segments it is.
        start: its first frame, in the video.
        frames: how many it has.
        model_name: of the representation, such as "gridnerv".
        config: the representation's configuration, as the file has it.
        bytes: on disk.
    """

    index: int
    start: int
    frames: int
    model_name: str
    config: dict[str, Any]
    bytes: int
    _networks: Networks = field(repr=False, compare=False)

    @property
    def model(self) -> Representation:
        """The network, a plain nn.Module: model(t) for t (B,) float, counted from the segment's
        first frame, gives (B, 3, H, W) in [0, 1]."""
        return self._networks.get(self.index)


class Segments(Sequence[VideoSegment]):
    """All segments of a file, in order of time."""

    def __init__(self, file: NervFile, header: Header, networks: Networks) -> None:
        self._file, self._header, self._networks = file, header, networks
        ends = np.cumsum([segment.frames for segment in header.segments])
        self._starts = np.concatenate(([0], ends))

    def __len__(self) -> int:
        return len(self._header.segments)

    @overload
    def __getitem__(self, index: int) -> VideoSegment: ...
    @overload
    def __getitem__(self, index: slice) -> list[VideoSegment]: ...
    def __getitem__(self, index: int | slice) -> VideoSegment | list[VideoSegment]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # raises IndexError
        declared = self._header.segments[place]
        return VideoSegment(
            index=place,
            start=int(self._starts[place]),
            frames=declared.frames,
            model_name=declared.model,
            config=declared.config,
            bytes=self._file.segment_bytes(place),
            _networks=self._networks,
        )

    @property
    def frames(self) -> int:
        """Of all segments."""
        return int(self._starts[-1])

    def index_at(self, position: int) -> int:
        """Which segment has a frame of the video."""
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def span(self, index: int) -> tuple[int, int]:
        """The first frame of a segment, and the one after its last."""
        return int(self._starts[index]), int(self._starts[index + 1])


@dataclass
class _Kept:
    """A network that is kept, or being built, and the bytes that it takes; `wanted` once somebody
    waits for it."""

    network: Future[Representation]
    bytes: int
    wanted: Event = field(default_factory=Event)


class _Rests:
    """Has a thread compute for AHEAD_SHARE of the time only, until `wanted`. Python runs one thread
    at a time: one that never rests would slow down the frames that are shown meanwhile."""

    def __init__(self, wanted: Event) -> None:
        self._wanted, self._since = wanted, time.thread_time()

    def __call__(self) -> None:
        worked = time.thread_time() - self._since
        if worked > SLICE_SECONDS:
            self._wanted.wait(worked * (1 / AHEAD_SHARE - 1))
            self._since = time.thread_time()


class Networks:
    """The networks of a file's segments on one device: the last used are kept, within a number of
    bytes, and one may be made ahead. Threads may share it.

    Args:
        file: where the tensors are.
        header: of that file.
        device: where networks compute.
        most: bytes of all networks that are kept. The last used one is kept in any case.
    """

    def __init__(self, file: NervFile, header: Header, device: torch.device, most: int) -> None:
        self._file, self._header, self._device, self._most = file, header, device, most
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # the last used is the last
        self._last: Representation | None = None
        self._begin()
        renewed_after_fork(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nervkit-ahead")

    def after_fork(self) -> None:
        """A forked process has no worker yet, and nobody there goes on with what was begun."""
        self._begin()
        for index, kept in tuple(self._kept.items()):
            if not kept.network.done():
                del self._kept[index]

    def get(self, index: int) -> Representation:
        """The network of a segment, built where it is not kept. Raises ChecksumError, FormatError,
        LimitError, ResourceError."""
        network = self._found(index)
        # What a network keeps from frame to frame is not among the bytes: one of all does so.
        last, self._last = self._last, network
        if last is not None and last is not network:
            last.forget()
        return network

    def _found(self, index: int) -> Representation:
        while True:
            kept, mine = self._entry(index)
            if mine:
                return self._build(index, kept, self._begun(index, kept))
            kept.wanted.set()
            try:
                return kept.network.result()
            except CancelledError:
                continue  # it failed for another thread; this one finds its own error

    def prepare(self, index: int) -> None:
        """Begin to build a network that is likely to be asked for next, where there is room for it
        beside the last used one. An error is not raised here, but by `get`."""
        with self._lock:
            last = next(reversed(self._kept.values()), None)
            held = last.bytes if last else 0
            if index in self._kept or held + self._estimate(index) > self._most:
                return
        kept, mine = self._entry(index, ahead=True)
        if not mine:
            return
        with suppress(NervError):
            model = self._begun(index, kept)
            self._worker.submit(self._build_ahead, index, kept, model)

    def close(self) -> None:
        """End what is being made ahead, and keep nothing."""
        with self._lock:
            for kept in self._kept.values():
                kept.wanted.set()  # no more rests
        self._worker.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for kept in self._kept.values():
                kept.network.cancel()  # does nothing where it is there
            self._kept.clear()
            self._last = None

    def _estimate(self, index: int) -> int:
        """Bytes of a network before it is built."""
        return VALUE_BYTES * (self._header.segments[index].values or 0)

    def _entry(self, index: int, ahead: bool = False) -> tuple[_Kept, bool]:
        """The place of a network, and whether it is new and the caller's to fill. Room is made
        first, so that no more is held at once than is kept."""
        with self._lock:
            if (kept := self._kept.get(index)) is not None:
                self._kept.move_to_end(index)
                return kept, False
            kept = _Kept(Future(), self._estimate(index))
            spared = next(reversed(self._kept), None) if ahead else None
            self._make_room(kept.bytes, spared)
            self._kept[index] = kept
            return kept, True

    def _make_room(self, wanted: int, spared: int | None) -> None:
        """Let go of the networks that were used longest ago, but not of segment `spared`."""
        held = sum(kept.bytes for kept in self._kept.values())
        for index in tuple(self._kept):
            if held + wanted <= self._most:
                return
            if index != spared:
                held -= self._kept.pop(index).bytes

    def _begun(self, index: int, kept: _Kept) -> Representation:
        """A network without its tensors. It is made in the thread that asks: models are constructed
        with torch's one random state, which is the caller's."""
        with self._failing(index, kept):
            segment = self._header.segments[index]
            check_budget(self._file, [segment])
            return unfilled(self._header, segment)

    def _build_ahead(self, index: int, kept: _Kept, model: Representation) -> None:
        """The same as `_build`, in the worker."""
        self._build(index, kept, model, _Rests(kept.wanted))

    def _build(
        self,
        index: int,
        kept: _Kept,
        model: Representation,
        on_block: Callable[[], None] = lambda: None,
    ) -> Representation:
        """Read the tensors of a network, and hand it to all who wait for it."""
        with self._failing(index, kept):
            plan = drawn(self._header, self._header.segments[index])
            fill(model, plan, self._file.segment(index), on_block)
            model = model.to(self._device)
            tensors = chain(model.parameters(), model.buffers())
            kept.bytes = sum(t.numel() * t.element_size() for t in tensors)
            kept.network.set_result(model)
        return model

    @contextmanager
    def _failing(self, index: int, kept: _Kept) -> Iterator[None]:
        """Errors inside name the file. Nothing is kept then, and who waits tries again."""
        try:
            with self._file.naming(), memory_errors(self._file.name):
                yield
        except BaseException:
            with self._lock:
                if self._kept.get(index) is kept:
                    del self._kept[index]
            kept.network.cancel()
            raise
