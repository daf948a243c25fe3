"""Collections read: any frame of any video, movies of them, and whether they are as they were."""

from __future__ import annotations

import operator
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from nervkit.compression.masked import SharedWeights, read_integers, sizes
from nervkit.container.collection import MASKS, WEIGHTS, CollectionFile, Entry, Network
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.decoder import DecodeReport, computed_ahead
from nervkit.errors import FormatError, ResourceError, UsageError
from nervkit.media.timing import Timing
from nervkit.models.complexity import Blueprint, blueprint
from nervkit.models.config import VideoShape
from nervkit.models.device import Device, choose_device
from nervkit.models.pfnr import HEAD, PFNR, PFNRConfig
from nervkit.networks import render
from nervkit.verifier import is_wrong
from nervkit.video.colour import Colour
from nervkit.video.memory import available_memory, human_bytes
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video


class CollectionVideo:
    """A video of an open collection as a sequence of frames.

    `len(video)`, `video[3]` (H, W, 3), `video[10:20]` (10, H, W, 3) and iteration give uint8 RGB,
    as of `NervVideo`; frames are computed one at a time.

    Attributes:
        entry: what the file says of it.
        timing: when each frame is shown.
        model: its network, a plain nn.Module: model(t) gives (B, 3, H, W) in [0, 1].
    """

    def __init__(self, entry: Entry, timing: Timing, model: PFNR) -> None:
        self.entry, self.timing, self.model = entry, timing, model

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        return self.timing.fps

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        return (len(self), self.entry.header.height, self.entry.header.width, 3)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames [start, stop) one by one, (H, W, 3) uint8."""
        for position in range(start, len(self) if stop is None else stop):
            yield render(self.model, [position])[0]

    def __len__(self) -> int:
        return self.entry.frames

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if isinstance(index, slice):
            positions = range(*index.indices(len(self)))
            shown = [render(self.model, [position])[0] for position in positions]
            return np.stack(shown) if shown else np.empty((0, *self.shape[1:]), np.uint8)
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return render(self.model, [index % len(self)])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()


class Collection:
    """An open .nervc file: `collection["name"]` is a video, iteration gives all in order.

    Args:
        source: a path, the bytes of a file, or a binary file object that can seek.
        device: "cpu" (the reference), "cuda" or "auto".
        limits: what decoding a video may take; by default, what goes with the file's size.

    Raises:
        SourceError: no such file, or an object that cannot seek.
        FormatError: not a valid .nervc file. A part's checksum is verified when it is read.
        LimitError, ResourceError: a video takes more than `limits` allow, or than memory is free;
            found when it is asked for.
    """

    def __init__(
        self, source: NervSource, *, device: Device = "cpu", limits: Limits | None = None
    ) -> None:
        self._device = choose_device(device)
        self.file = CollectionFile(source, limits)

    @property
    def names(self) -> list[str]:
        """Names of the videos, in the order in which they were added."""
        return [entry.name for entry in self.file.entries]

    def __len__(self) -> int:
        return len(self.file.entries)

    def __getitem__(self, name: str) -> CollectionVideo:
        """The video called `name`. Raises UsageError where there is none."""
        index = self.file.index(name)
        return next(self._videos(index))

    def __iter__(self) -> Iterator[CollectionVideo]:
        return self._videos(0)

    def _videos(self, first: int) -> Iterator[CollectionVideo]:
        """The videos from `first` on."""
        weights = shared_weights(self.file)
        for index, entry in enumerate(self.file.entries):
            with self.file.naming():
                tensors = taken(self.file, index, weights)
                if index < first:
                    continue
                check_costs(self.file, index)
                model = model_of(*plan_of(self.file.network, index, entry.frames), tensors)
            yield CollectionVideo(entry, self.file.timing(index), model.to(self._device))

    def weights(self) -> SharedWeights:
        """The shared weights after all videos."""
        weights = shared_weights(self.file)
        with self.file.naming():
            for index in range(len(self)):
                taken(self.file, index, weights)
        return weights

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        network = self.file.network
        return f"Collection({len(self)} videos of {network.width}x{network.height})"


def shape_of(network: Network, frames: int) -> VideoShape:
    """What the network of a video of so many frames reproduces."""
    return VideoShape(frames, network.height, network.width)


def plan_of(network: Network, index: int, frames: int) -> tuple[Blueprint, PFNRConfig, VideoShape]:
    """The blueprint of a video's network, its configuration and what it reproduces. Raises
    FormatError."""
    shape = shape_of(network, frames)
    try:
        config = replace(PFNRConfig.from_dict(network.config | {"video": 0}), video=index)
        plan = blueprint(PFNR, config, shape)
    except UsageError as error:
        raise FormatError(f"the network's configuration is impossible: {error}") from error
    shared = sum(sizes(shared_shapes(plan)).values())
    if shared != network.weights:
        raise FormatError(
            f"the header declares {network.weights} weights, the network shares {shared}"
        )
    return plan, config, shape


def model_of(
    plan: Blueprint, config: PFNRConfig, shape: VideoShape, tensors: dict[str, np.ndarray]
) -> PFNR:
    """A video's network with its float32 tensors, by name, on the CPU."""
    model = PFNR.for_decoding(config, shape)
    shaped = {name: tensors[name].reshape(own) for name, own in plan.weights.items()}
    model.load_stored({name: torch.from_numpy(tensor) for name, tensor in shaped.items()})
    return model


def shared_shapes(plan: Blueprint) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that videos share."""
    return {name: shape for name, shape in plan.weights.items() if not name.startswith(HEAD)}


def shared_weights(file: CollectionFile) -> SharedWeights:
    """The shared weights before any video. Raises FormatError, LimitError."""
    with file.naming():
        plan, _, _ = plan_of(file.network, 0, 1)
        file.limits.check("values", plan.values * len(file.entries), file.size)
        return SharedWeights(shared_shapes(plan))


def taken(file: CollectionFile, index: int, weights: SharedWeights) -> dict[str, np.ndarray]:
    """The float32 tensors of a video, its head flat, given the weights after all before it,
    which then are those after it. Raises FormatError."""
    entry = file.entries[index]
    plan, _, _ = plan_of(file.network, index, entry.frames)
    masks = weights.read_masks(file.payload(index, MASKS))
    counts = {name: int(added.sum()) for name, added in weights.added(masks).items()}
    kept = sum(int(mask.sum()) for mask in masks.values())
    if (kept, sum(counts.values())) != (entry.kept, entry.added):
        raise FormatError(f"video {entry.name} uses other weights than it says")
    own = {name: shape for name, shape in plan.weights.items() if name.startswith(HEAD)}
    integers = read_integers(file.payload(index, WEIGHTS), counts | sizes(own))
    head = {name: integers[name].dequantize() for name in own}
    return weights.take(masks, integers) | head


def check_costs(file: CollectionFile, index: int) -> None:
    """Raise LimitError where decoding a video takes more than the file's limits allow,
    ResourceError where it takes more memory than is free. Nothing of that size is allocated."""
    with file.naming():
        plan, _, shape = plan_of(file.network, index, file.entries[index].frames)
        costs = {
            "pixels": shape.pixels,
            "values": plan.values * len(file.entries),  # each mask has a symbol for each weight
            "memory": plan.memory,
            "macs_per_frame": plan.macs,
            "macs_per_file": plan.macs * shape.frames,
        }
        for name, declared in costs.items():
            file.limits.check(name, declared, file.size)
    if plan.memory > (free := available_memory()):
        raise ResourceError(
            f"{file.name}: decoding takes {human_bytes(plan.memory)} of memory, "
            f"{human_bytes(free)} are free"
        )


def extract(
    source: NervSource,
    name: str,
    output: str | os.PathLike[str],
    *,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DecodeReport:
    """Decode a video of a collection to a movie, y4m, images or an array, as `nervkit.decode`.

    Args:
        source: as of `Collection`.
        name: of the video.
        output, codec, crf, pixel_format, overwrite, on_progress: as of `nervkit.decode`.
        device, limits: as of `Collection`.

    Returns:
        A report whose `bytes` are those that the collection has for this video only.

    Raises:
        UsageError: there is no such video, or an option does not fit.
        FormatError: not a valid .nervc file. SourceError, LimitError, ResourceError: see
            `Collection`. OutputError: the output exists, or cannot be written.
    """
    began = time.perf_counter()
    output = os.fspath(output)
    options = MovieOptions(codec, crf, pixel_format)
    check_destination(output, options, overwrite, source)
    with Collection(source, device=device, limits=limits) as collection:
        index = collection.file.index(name)
        video, checks = collection[name], collection.file.checks(index)
        entry, header = video.entry, video.entry.header

        def pictures() -> Iterator[np.ndarray]:
            for done, frame in enumerate(computed_ahead(iter(video)), start=1):
                yield frame
                if on_progress is not None:
                    on_progress(done, len(video))

        stream = Stream(
            frames=pictures(),
            width=header.width,
            height=header.height,
            timing=video.timing,
            sample_aspect_ratio=header.sample_aspect_ratio,
            colour=Colour.from_dict(header.colour),
        )
        notes = write_video(output, stream, options)
        seconds = time.perf_counter() - began
        return DecodeReport(
            output=output,
            frames=len(video),
            width=header.width,
            height=header.height,
            fps=float(video.fps),
            model=collection.file.network.model,
            parameters=entry.kept,
            bytes=entry.bytes,
            bpp=8 * entry.bytes / (len(video) * header.width * header.height),
            psnr=checks.psnr if checks else None,
            ssim=checks.ssim if checks else None,
            seconds=seconds,
            frames_per_second=len(video) / seconds,
            notes=notes,
        )


@dataclass(frozen=True)
class VideoCheck:
    """What a check of one video found: frames that are exactly as when it was added, and frames
    that differ by more than a rounding; None where the file has no frame checks."""

    name: str
    frames: int
    identical: int | None
    wrong: int | None


@dataclass(frozen=True)
class CollectionReport:
    """What a check of a collection found."""

    input: str
    bytes: int
    videos: list[VideoCheck]
    seconds: float

    @property
    def wrong(self) -> int:
        """Frames that are wrong, of all videos."""
        return sum(video.wrong or 0 for video in self.videos)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


def verify(
    source: NervSource,
    *,
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CollectionReport:
    """Verify every checksum of a collection, decode every frame, and compare with what was seen
    when its video was added.

    Args:
        source, limits: as of `Collection`.
        on_progress: called with (frames done, frames in all).

    Raises:
        FormatError: a checksum is wrong, or the file is otherwise invalid.
    """
    began = time.perf_counter()
    with Collection(source, limits=limits) as collection:
        file = collection.file
        file.check_all()
        total, done = sum(entry.frames for entry in file.entries), 0
        found = []
        for index, video in enumerate(collection):
            checks, identical, wrong = file.checks(index), 0, 0
            for position, frame in enumerate(computed_ahead(iter(video))):
                if checks is not None:
                    identical += zlib.crc32(frame) == checks.crcs[position]
                    wrong += is_wrong(frame, position, checks)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
            counts = (None, None) if checks is None else (int(identical), wrong)
            found.append(VideoCheck(video.entry.name, len(video), *counts))
        return CollectionReport(file.name, file.size, found, time.perf_counter() - began)
