"""The segments of an open file, and a cache of their networks."""

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
from nervkit.errors import NervError, UsageError
from nervkit.forking import register_after_fork
from nervkit.models.base import Representation
from nervkit.models.device import memory_errors
from nervkit.networks import check_budget, construct, load_tensors, segment_blueprint

KEPT_BYTES = 256 << 20  # of cached networks, by default
AHEAD_SHARE, SLICE_SECONDS = 0.2, 0.001  # of the time for building ahead; between pauses
VALUE_BYTES = 4  # float32


@dataclass(frozen=True)
class VideoSegment:
    """A run of frames with a network of its own.

    Attributes:
        index: position among the file's segments.
        start: index of its first frame in the video.
        frames: number of frames.
        model_name: name of the representation, such as "gridnerv".
        config: the representation's configuration, as stored.
        bytes: size on disk.
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
        """The network, a plain nn.Module: model(t) maps positions t (B,) float, relative to the
        segment's first frame, to frames (B, 3, H, W) in [0, 1]."""
        return self._networks.get(self.index)


class Segments(Sequence[VideoSegment]):
    """All segments of a file, in temporal order."""

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
        """The number of frames of all segments."""
        return int(self._starts[-1])

    def index_at(self, position: int) -> int:
        """Return the index of the segment that contains a frame of the video."""
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def span(self, index: int) -> tuple[int, int]:
        """Return the first frame of a segment, and the one after its last."""
        return int(self._starts[index]), int(self._starts[index + 1])


@dataclass
class _Entry:
    """A cached network, or one under construction, and its bytes; `wanted` is set once a thread
    waits for it."""

    network: Future[Representation]
    bytes: int
    wanted: Event = field(default_factory=Event)


class _Throttle:
    """Limits a thread to AHEAD_SHARE of the time until `wanted` is set. Python runs one thread at a
    time: without pauses, the thread would slow down decoding."""

    def __init__(self, wanted: Event) -> None:
        self._wanted, self._since = wanted, time.thread_time()

    def __call__(self) -> None:
        worked = time.thread_time() - self._since
        if worked > SLICE_SECONDS:
            self._wanted.wait(worked * (1 / AHEAD_SHARE - 1))
            self._since = time.thread_time()


class Networks:
    """An LRU cache, bounded in bytes, of the networks of a file's segments on one device; it can
    build one network ahead. Thread-safe.

    Args:
        file: the file with the tensors.
        header: its header.
        device: the networks' device.
        most: maximum bytes of all cached networks. The last used one is kept in any case.
    """

    def __init__(self, file: NervFile, header: Header, device: torch.device, most: int) -> None:
        self._file, self._header, self._device, self._most = file, header, device, most
        self._kept: OrderedDict[int, _Entry] = OrderedDict()  # the most recently used is the last
        self._last: Representation | None = None
        self._closed = False
        self._start_worker()
        register_after_fork(self)

    def _start_worker(self) -> None:
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nervkit-ahead")

    def after_fork(self) -> None:
        """Start a worker in a forked process, and drop networks whose construction it cannot
        finish."""
        self._start_worker()
        for index, entry in tuple(self._kept.items()):
            if not entry.network.done():
                del self._kept[index]

    def get(self, index: int) -> Representation:
        """Return the network of a segment; build it if it is not cached. Raises ChecksumError,
        FormatError, LimitError, ResourceError, and UsageError after `close`."""
        if self._closed:
            raise UsageError(f"{self._file.name}: this video is closed; open it again")
        network = self._found(index)
        # The frames that a network caches are not in its bytes: only the last used one has any.
        last, self._last = self._last, network
        if last is not None and last is not network:
            last.forget()
        return network

    def _found(self, index: int) -> Representation:
        while True:
            entry, is_new = self._entry(index)
            if is_new:
                return self._build(index, entry, self._constructed(index, entry))
            entry.wanted.set()
            try:
                return entry.network.result()
            except CancelledError:
                continue  # it failed for another thread; this one finds its own error

    def prepare(self, index: int) -> None:
        """Start to build a network that `get` is likely to need next, if there is room for it
        beside the last used one. Errors are raised by `get`, not here."""
        with self._lock:
            last = next(reversed(self._kept.values()), None)
            held = last.bytes if last else 0
            if index in self._kept or held + self._estimate(index) > self._most:
                return
        entry, is_new = self._entry(index, ahead=True)
        if not is_new:
            return
        with suppress(NervError):
            model = self._constructed(index, entry)
            self._worker.submit(self._build_ahead, index, entry, model)

    def close(self) -> None:
        """Stop building ahead and empty the cache. No network can be used afterwards."""
        self._closed = True
        with self._lock:
            for entry in self._kept.values():
                entry.wanted.set()  # no more pauses
        self._worker.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for entry in self._kept.values():
                entry.network.cancel()  # does nothing once it is done
            self._kept.clear()
            self._last = None

    def _estimate(self, index: int) -> int:
        """Estimate the bytes of a network before it is built."""
        return VALUE_BYTES * (self._header.segments[index].values or 0)

    def _entry(self, index: int, ahead: bool = False) -> tuple[_Entry, bool]:
        """Return the entry of a network, and whether it is new and the caller must fill it. Evicts
        before it adds, so that the cache never exceeds its size."""
        with self._lock:
            if (entry := self._kept.get(index)) is not None:
                self._kept.move_to_end(index)
                return entry, False
            entry = _Entry(Future(), self._estimate(index))
            spared = next(reversed(self._kept), None) if ahead else None
            self._evict(entry.bytes, spared)
            self._kept[index] = entry
            return entry, True

    def _evict(self, wanted: int, spared: int | None) -> None:
        """Drop the least recently used networks to make room for `wanted` bytes, except that of
        segment `spared`."""
        held = sum(entry.bytes for entry in self._kept.values())
        for index in tuple(self._kept):
            if held + wanted <= self._most:
                return
            if index != spared:
                held -= self._kept.pop(index).bytes

    def _constructed(self, index: int, entry: _Entry) -> Representation:
        """Construct a network without its tensors, in the calling thread: constructors use torch's
        global random state, which is the caller's."""
        with self._failing(index, entry):
            segment = self._header.segments[index]
            check_budget(self._file, [segment])
            return construct(self._header, segment)

    def _build_ahead(self, index: int, entry: _Entry, model: Representation) -> None:
        """Run `_build` in the worker."""
        self._build(index, entry, model, _Throttle(entry.wanted))

    def _build(
        self,
        index: int,
        entry: _Entry,
        model: Representation,
        on_block: Callable[[], None] = lambda: None,
    ) -> Representation:
        """Read the tensors of a network and publish it to all waiting threads."""
        with self._failing(index, entry):
            plan = segment_blueprint(self._header, self._header.segments[index])
            load_tensors(model, plan, self._file.segment(index), on_block)
            model = model.to(self._device)
            tensors = chain(model.parameters(), model.buffers())
            entry.bytes = sum(t.numel() * t.element_size() for t in tensors)
            entry.network.set_result(model)
        return model

    @contextmanager
    def _failing(self, index: int, entry: _Entry) -> Iterator[None]:
        """Name the file in errors inside, and drop the entry then; waiting threads try again."""
        try:
            with self._file.naming(), memory_errors(self._file.name):
                yield
        except BaseException:
            with self._lock:
                if self._kept.get(index) is entry:
                    del self._kept[index]
            entry.network.cancel()
            raise
