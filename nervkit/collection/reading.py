"""Read a collection: decode frames of its videos, export them, and verify them."""

from __future__ import annotations

import operator
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
import torch

from nervkit.choices import CodecName
from nervkit.compression.masked import SharedWeights, read_integers, sizes
from nervkit.container.collection import MASKS, WEIGHTS, CollectionFile, Entry, Network
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.decoder import OnProgress, prefetched, with_progress
from nervkit.errors import FormatError, ResourceError, UsageError
from nervkit.exporter import DecodeReport
from nervkit.framechecks import Match, count_matches
from nervkit.keywords import checked_keywords
from nervkit.media.timing import Timing
from nervkit.models.complexity import Blueprint, blueprint
from nervkit.models.config import VideoShape
from nervkit.models.device import Device, choose_device
from nervkit.models.pfnr import HEAD, PFNR, PFNRConfig
from nervkit.networks import render
from nervkit.output import output_name
from nervkit.video.colour import Colour
from nervkit.video.memory import available_memory, human_bytes
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video


class CollectionVideo:
    """A video of an open collection as a sequence of frames.

    `len(video)`, `video[3]` (H, W, 3), `video[10:20]` (10, H, W, 3) and iteration return uint8 RGB
    as for `NervVideo`; frames are computed one at a time.

    Attributes:
        entry: its declaration in the file.
        timing: the timestamps of the frames.
        model: its network, a plain nn.Module: model(t) returns (B, 3, H, W) in [0, 1].
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
        """Yield frames [start, stop), each (H, W, 3) uint8."""
        for position in range(start, len(self) if stop is None else stop):
            yield render(self.model, [position])[0]

    def __len__(self) -> int:
        return self.entry.frames

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if isinstance(index, slice):
            positions = range(*index.indices(len(self)))
            frames = [render(self.model, [position])[0] for position in positions]
            return np.stack(frames) if frames else np.empty((0, *self.shape[1:]), np.uint8)
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return render(self.model, [index % len(self)])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()


class Collection:
    """An open .nervc file: `collection["name"]` is a video; iteration yields all videos in order.

    Args:
        source: a path, the bytes of a file, or a seekable binary file object.
        device: "cpu" (the reference), "cuda" or "auto".
        limits: what decoding a video may take. The default grows with the size of the file.

    Raises:
        SourceError: the file does not exist, or the object is not seekable.
        FormatError: not a valid .nervc file. A chunk's checksum is verified when it is read.
        LimitError: a video takes more than `limits` allow; raised when the video is requested.
        ResourceError: a video takes more memory than is free; likewise.
    """

    @checked_keywords
    def __init__(
        self, source: NervSource, *, device: Device = "cpu", limits: Limits | None = None
    ) -> None:
        self._device = choose_device(device)
        self.file = CollectionFile(source, limits)

    @property
    def names(self) -> list[str]:
        """Names of the videos in the order in which they were added."""
        return [entry.name for entry in self.file.entries]

    def __len__(self) -> int:
        return len(self.file.entries)

    def __getitem__(self, name: str) -> CollectionVideo:
        """Return the video called `name`. Raises UsageError if there is none."""
        index = self.file.index(name)
        return next(self._videos(index))

    def __iter__(self) -> Iterator[CollectionVideo]:
        return self._videos(0)

    def _videos(self, first: int) -> Iterator[CollectionVideo]:
        """Yield the videos from `first` on. Each needs the masks and weights of all before it."""
        weights = shared_weights(self.file)
        for index, entry in enumerate(self.file.entries):
            with self.file.naming():
                tensors = apply_video(self.file, index, weights)
                if index < first:
                    continue
                check_costs(self.file, index)
                model = model_of(*plan_of(self.file.network, index, entry.frames), tensors)
            yield CollectionVideo(entry, self.file.timing(index), model.to(self._device))

    def weights(self) -> SharedWeights:
        """Return the shared weights after all videos."""
        weights = shared_weights(self.file)
        with self.file.naming():
            for index in range(len(self)):
                apply_video(self.file, index, weights)
        return weights

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        network = self.file.network
        return f"Collection({len(self)} videos of {network.width}x{network.height})"


def shape_of(network: Network, frames: int) -> VideoShape:
    """Return the shape of a video with this many frames."""
    return VideoShape(frames, network.height, network.width)


def plan_of(network: Network, index: int, frames: int) -> tuple[Blueprint, PFNRConfig, VideoShape]:
    """Return the blueprint and configuration of a video's network, and the video's shape. Raises
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
    """Return a video's network with its float32 tensors, given by name, on the CPU."""
    model = PFNR.for_decoding(config, shape)
    shaped = {name: tensors[name].reshape(own) for name, own in plan.weights.items()}
    model.load_stored({name: torch.from_numpy(tensor) for name, tensor in shaped.items()})
    return model


def shared_shapes(plan: Blueprint) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that videos share."""
    return {name: shape for name, shape in plan.weights.items() if not name.startswith(HEAD)}


def shared_weights(file: CollectionFile) -> SharedWeights:
    """Return the shared weights before the first video. Raises FormatError, LimitError."""
    with file.naming():
        plan, _, _ = plan_of(file.network, 0, 1)
        file.limits.check("values", plan.values * len(file.entries), file.size)
        return SharedWeights(shared_shapes(plan))


def apply_video(file: CollectionFile, index: int, weights: SharedWeights) -> dict[str, np.ndarray]:
    """Return the float32 tensors of a video, its head flat, and update `weights` from their state
    after the previous video to that after this one. Raises FormatError."""
    entry = file.entries[index]
    plan, _, _ = plan_of(file.network, index, entry.frames)
    masks = weights.read_masks(file.payload(index, MASKS))
    counts = {name: int(added.sum()) for name, added in weights.added(masks).items()}
    kept = sum(int(mask.sum()) for mask in masks.values())
    if (kept, sum(counts.values())) != (entry.kept, entry.added):
        raise FormatError(f"video {entry.name} uses other weights than it declares")
    own = {name: shape for name, shape in plan.weights.items() if name.startswith(HEAD)}
    integers = read_integers(file.payload(index, WEIGHTS), counts | sizes(own))
    head = {name: integers[name].dequantize() for name in own}
    return weights.take(masks, integers) | head


def check_costs(file: CollectionFile, index: int) -> None:
    """Raise LimitError if decoding a video takes more than the file's limits allow, ResourceError
    if it takes more memory than is free. Nothing of that size is allocated."""
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
    codec: CodecName | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> DecodeReport:
    """Decode a video of a collection to a movie, y4m, images or an array, as `nervkit.decode`.

    Args:
        source: as for `Collection`.
        name: name of the video.
        output, codec, crf, pixel_format, overwrite, on_progress: as for `nervkit.decode`.
        device, limits: as for `Collection`.

    Returns:
        A report whose `bytes` count the chunks of this video only.

    Raises:
        UsageError: the video does not exist, or an option is invalid or does not apply.
        FormatError: as for `Collection`; so are SourceError, LimitError and ResourceError.
        OutputError: the output exists, or cannot be written.
    """
    began = time.perf_counter()
    output = output_name(output)
    options = MovieOptions(codec, crf, pixel_format)
    check_destination(output, options, overwrite, source)
    with Collection(source, device=device, limits=limits) as collection:
        index = collection.file.index(name)
        video, checks = collection[name], collection.file.checks(index)
        entry, header = video.entry, video.entry.header
        stream = Stream(
            frames=with_progress(prefetched(iter(video)), len(video), on_progress),
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
    """The result of verifying one video: the number of frames that are identical to those decoded
    when it was added, and of those that differ by more than rounding. None without frame checks."""

    name: str
    frames: int
    identical: int | None
    wrong: int | None


@dataclass(frozen=True)
class CollectionReport:
    """The result of `verify`."""

    input: str
    bytes: int
    videos: list[VideoCheck]
    seconds: float

    @property
    def wrong(self) -> int:
        """Number of wrong frames of all videos."""
        return sum(video.wrong or 0 for video in self.videos)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


def verify(
    source: NervSource,
    *,
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> CollectionReport:
    """Verify every checksum of a collection, decode every frame, and compare it with the frame
    checks made when its video was added.

    Args:
        source, limits: as for `Collection`.
        on_progress: called with (frames done, total frames).

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
            checks = file.checks(index)
            frames = with_progress(prefetched(iter(video)), total, on_progress, done)
            done += len(video)
            if checks is None:
                deque(frames, maxlen=0)  # decode them all the same: they may be damaged
                found.append(VideoCheck(video.entry.name, len(video), None, None))
                continue
            matches = count_matches(frames, checks)
            identical, wrong = matches[Match.IDENTICAL], matches[Match.WRONG]
            found.append(VideoCheck(video.entry.name, len(video), identical, wrong))
        return CollectionReport(file.name, file.size, found, time.perf_counter() - began)
