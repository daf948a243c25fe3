"""Add a video to a collection."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from nervkit.assembly import check_storable, new_header
from nervkit.choices import MatrixName, PresetName, RangeName, RecipeName
from nervkit.collection.reading import (
    Collection,
    check_costs,
    model_of,
    plan_of,
    shape_of,
    shared_shapes,
)
from nervkit.collection.session import FittedVideo, fit_video
from nervkit.compression.masked import SharedWeights, pack_integers, sizes
from nervkit.compression.quantization import check_bits
from nervkit.container import chunks
from nervkit.container.collection import (
    MASKS,
    MODEL,
    MOST_NAME,
    MOST_VIDEOS,
    VIDEO,
    WEIGHTS,
    Entry,
    Network,
    pack_entry,
    write_grown,
)
from nervkit.container.header import Header
from nervkit.container.limits import UNLIMITED
from nervkit.container.settings import as_text
from nervkit.container.timing import pack_timing
from nervkit.decoder import prefetched
from nervkit.errors import FormatError, Interrupted, LimitError, NervError, UsageError
from nervkit.fitting.budget import Budget
from nervkit.fitting.job import never
from nervkit.fitting.progress import Progress
from nervkit.framechecks import DecodedFrames
from nervkit.keywords import checked_keywords, option, setting
from nervkit.lock import locked
from nervkit.media.checks import line
from nervkit.metrics import Quality, quality_of
from nervkit.models.complexity import blueprint
from nervkit.models.config import VideoShape
from nervkit.models.device import Device, choose_device, memory_errors
from nervkit.models.pfnr import PFNR, PFNRConfig
from nervkit.models.recipe import PAPER, Recipe
from nervkit.models.sizing import configure_or_smallest, default_parameters
from nervkit.networks import render
from nervkit.output import check_output, is_pipe, link_target, replacing
from nervkit.units import parse_count, parse_seconds, parse_seed, parse_strides
from nervkit.video.clip import Clip
from nervkit.video.reader import VideoSource, read_clip, title_of

DEFAULT_KEEP = 0.5
DEFAULT_BITS = 6
NEARLY_FULL = 0.02  # share of free weights below which `add` warns
SUFFIX = ".nervc"

Fourier: TypeAlias = Literal["sum", "alone", "none"]


@dataclass(frozen=True)
class AddReport:
    """The result of adding a video.

    Attributes:
        videos: number of videos in the collection.
        weights: number of shared weights; no video uses `free` of them.
        kept: number of shared weights that this video uses: `reused` from earlier videos and
            `added` ones.
        bytes: size of the file; `added_bytes`, by part in `bytes_by_part`, are for this video only,
            and `bpp` counts these.
        psnr, ssim: of the decoded file, means over frames.
    """

    output: str
    name: str
    frames: int
    width: int
    height: int
    fps: float
    videos: int
    weights: int
    kept: int
    reused: int
    added: int
    free: int
    bytes: int
    added_bytes: int
    bytes_by_part: dict[str, int]
    bpp: float
    psnr: float
    ssim: float | None
    steps: int
    fit_seconds: float
    seconds: float
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


@checked_keywords
def add(
    collection: str | os.PathLike[str],
    source: VideoSource,
    *,
    name: str | None = None,
    params: str | float | None = None,
    strides: str | tuple[int, ...] | None = None,
    videos: int | None = None,
    fourier: Fourier | None = None,
    keep: float = DEFAULT_KEEP,
    bits: int = DEFAULT_BITS,
    reuse: bool = True,
    recipe: RecipeName = "native",
    preset: PresetName | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    seed: int = 0,
    device: Device = "auto",
    start: str | float | None = None,
    to: str | float | None = None,
    duration: str | float | None = None,
    frames: str | int | slice | None = None,
    crop: str | tuple[int, ...] | None = None,
    resize: str | int | tuple[int, int] | None = None,
    matrix: MatrixName | None = None,
    range: RangeName | None = None,
    stream: str | int | None = None,
    audio: bool = True,
    subtitles: bool = True,
    fps: str | float | Fraction | None = None,
    size: str | tuple[int, int] | None = None,
    pixel_format: str | None = None,
    strict: bool = False,
    allow_network: bool = False,
    on_clip: Callable[[Clip], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> AddReport:
    """Add a video to a collection, or create the collection with it (PFNR, arXiv 2306.11305).

    The video is fitted as a subnetwork of the network that all videos share: it uses a share of the
    weights. Weights of earlier videos stay as they are, so earlier videos decode to the same bits
    as before. The file is replaced once the new one is complete and decoded.

    Args:
        collection: the .nervc file.
        source: as for `read_clip`. All videos of a collection have one frame size.
        name: name of the video; by default, of its file.
        params: approximate number of shared weights, such as 1.5e6 or "1.5M"; by default, that of a
            .nerv file of this frame size divided by `keep`. This and the next three define the
            network and apply to the first video only.
        strides: strides of the network's stages; by default, chosen for the frame size.
        videos: planned number of videos (16); more may follow.
        fourier: "sum" (the Fourier operator beside a convolution), "alone", or "none".
        keep: share of each tensor's weights that the video uses, 0 (exclusive) to 1.
        bits: bit depth of an added weight, 2 to 12.
        reuse: whether the video may use weights of earlier videos.
        recipe: "native" (nervkit's), or "paper" (as published).
        preset, epochs, steps, time, seed, device: as for `nervkit.encode`.
        start, to, duration, frames, crop, resize, matrix, range, stream, audio, subtitles, fps,
            size, pixel_format, strict, allow_network: as for `read_clip`.
        on_clip: called with the Clip once it is read.
        on_progress: called about once a second.
        stop: called before each step; if it returns True, Interrupted is raised and the file stays
            as it was.

    Raises:
        UsageError: an option is invalid, the name exists, or the frames have another size.
        FormatError: `collection` is not a valid .nervc file.
        SourceError, OutputError, ResourceError, Interrupted: see nervkit.errors.
    """
    began = clock.perf_counter()
    path = Path(collection)
    _check_keep(keep)
    bits, seed, stop = check_bits(bits), parse_seed(seed), stop or never
    chosen_recipe, budget = _recipe(recipe), _budget(recipe, preset, epochs, steps, time)
    to_device = choose_device(device)
    name = _name(name, source)
    making = _NetworkOptions(params, strides, videos, fourier)
    _check_output(path, source)
    with locked(link_target(path)), _opened(path) as earlier:
        if earlier is not None:
            _check_earlier(earlier, name, making)
        clip = read_clip(
            source,
            start=start,
            to=to,
            duration=duration,
            frames=frames,
            crop=crop,
            resize=resize,
            matrix=matrix,
            range=range,
            stream=stream,
            audio=audio,
            subtitles=subtitles,
            fps=fps,
            size=size,
            pixel_format=pixel_format,
            strict=strict,
            allow_network=allow_network,
        )
        network = _network(earlier, clip, keep, making)
        check_storable(network.width, network.height, replace(clip, tracks=[]))
        if on_clip is not None:
            on_clip(clip)
        plan, config, _ = plan_of(network, 0 if earlier is None else len(earlier), len(clip.frames))
        weights = SharedWeights(shared_shapes(plan)) if earlier is None else earlier.weights()
        notes = [*_dropped(clip), *_nearly_full(weights, name)]
        start = clock.perf_counter()
        with memory_errors(name):
            fitted = fit_video(
                torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(to_device),
                config,
                weights,
                budget,
                chosen_recipe,
                keep=keep,
                bits=bits,
                seed=seed,
                reuse=reuse,
                on_progress=on_progress,
                stop=stop,
            )
        fit_seconds = clock.perf_counter() - start
        settings = {"recipe": recipe, "budget": budget, "keep": keep, "bits": bits}
        text = as_text(settings | {"reuse": reuse, "seed": seed})
        header = new_header(network.width, network.height, clip, text)
        parts = _pack_video(name, header, clip, fitted, weights)
        model = model_of(plan, config, shape_of(network, len(clip.frames)), fitted.taken(weights))
        decoded = _decode(model, clip, stop)
        quality = decoded.quality
        parts += _pack_checks(decoded)
        written = _write(path, earlier, network, parts, name, model)
    notes += [*written.notes, *fitted.notes]
    return _report(
        path, name, clip, network, weights, fitted, written, quality, fit_seconds, began, notes
    )


@dataclass(frozen=True)
class _NetworkOptions:
    """The options of `add` that define a new collection's network. None: the default."""

    params: str | float | None
    strides: str | tuple[int, ...] | None
    videos: int | None
    fourier: Fourier | None

    def given(self) -> list[str]:
        """Return the names of the options that are set."""
        return [name for name, value in vars(self).items() if value is not None]

    def configure(self, shape: VideoShape, keep: float) -> PFNRConfig:
        """Return the configuration of the network for a first video. Raises UsageError."""
        options: dict[str, Any] = {"videos": self.videos, "fourier": self.fourier}
        if self.strides is not None:
            options["strides"] = parse_strides(self.strides)
        options = {name: value for name, value in options.items() if value is not None}

        def configure(parameters: int | None) -> PFNRConfig:
            return PFNR.configure(shape, parameters, **options)

        if self.params is not None:
            return configure(parse_count(self.params))
        return configure_or_smallest(configure, round(default_parameters(shape) / keep))


def _check_keep(keep: float) -> None:
    if not isinstance(keep, Real) or not 0 < keep <= 1:
        raise UsageError(f"{option('keep')} must lie in 0 (exclusive) to 1, not {keep!r}")


def _recipe(name: str) -> Recipe:
    if name not in PFNR.recipes:
        raise UsageError(f"unknown recipe {name!r}; choose from: {', '.join(PFNR.recipes)}")
    return PFNR.recipes[name]


def _budget(
    recipe: str,
    preset: str | None,
    epochs: float | None,
    steps: int | None,
    time: str | float | None,
) -> Budget:
    """Return the length of the fit: the user's, else the paper's for its recipe, else the default
    preset's."""
    seconds = None if time is None else float(parse_seconds(time, option("time")))
    given = (preset, epochs, steps, seconds)
    if recipe == PAPER and all(amount is None for amount in given):
        return Budget(epochs=PFNR.recipes[PAPER].epochs)
    return Budget.choose(*given)


def _name(name: str | None, source: VideoSource) -> str:
    """Return the name of the video. Raises UsageError if it is invalid."""
    if name is None:
        if not isinstance(source, (str, os.PathLike)) or source == "-":
            raise UsageError("a video without a file name needs a name; give name")
        name = title_of(source)
    try:
        if not line(name, "a video's name", MOST_NAME):
            raise UsageError("a video's name is empty")
    except FormatError as error:
        raise UsageError(str(error)) from error
    return name


def _check_output(path: Path, source: VideoSource) -> None:
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"{path}: the collection's name must end in {SUFFIX}")
    if is_pipe(path):
        raise UsageError(f"{path}: is a pipe; a collection must be written to a folder")
    check_output(path, overwrite=True, source=source)


@contextmanager
def _opened(path: Path) -> Iterator[Collection | None]:
    """Yield the existing collection with all checksums verified; None if there is none."""
    if not path.exists():
        yield None
        return
    with Collection(path, limits=UNLIMITED) as collection:
        collection.file.check_all()
        yield collection


def _check_earlier(collection: Collection, name: str, making: _NetworkOptions) -> None:
    """Raise UsageError if a collection cannot take a video of this name, or has its network
    already although options define one."""
    path = collection.file.name
    if name in collection.names:
        raise UsageError(f"{path}: has a video {name!r} already; choose another name")
    if given := making.given():
        raise UsageError(f"{path}: has its network already; leave out {option(given[0])}")
    if len(collection) == MOST_VIDEOS:
        raise UsageError(f"{path}: has {MOST_VIDEOS} videos, the most that a collection holds")


def _network(
    collection: Collection | None, clip: Clip, keep: float, making: _NetworkOptions
) -> Network:
    """Return the collection's network, or a new one for the clip. Raises UsageError if the clip has
    another frame size."""
    count, height, width, _ = clip.shape
    if collection is not None:
        network = collection.file.network
        if (network.width, network.height) != (width, height):
            size = f"{network.width}x{network.height}"
            raise UsageError(
                f"the video has frames of {width}x{height}, {collection.file.name} has {size}; "
                f"give {setting('resize', size)}"
            )
        return network
    shape = VideoShape(count, height, width)
    config = making.configure(shape, keep)
    shapes = shared_shapes(blueprint(PFNR, config, shape))
    values = config.to_dict()
    del values["video"]
    return Network(MODEL, values, width, height, sum(sizes(shapes).values()))


def _nearly_full(weights: SharedWeights, name: str) -> list[str]:
    """Return a note if few weights are free."""
    if weights.free >= NEARLY_FULL * weights.count:
        return []
    return [
        f"only {weights.free:,} of {weights.count:,} weights are free: {name} mostly reuses those "
        "of earlier videos; start a new collection for better quality"
    ]


def _dropped(clip: Clip) -> list[str]:
    """Return the clip's notes, and one on what a collection does not store."""
    kinds = sorted({track.kind for track in clip.tracks})
    extras = ("tags", "chapters", "attachments")
    kinds += [kind for kind in extras if getattr(clip.extras, kind)]
    if not kinds:
        return list(clip.notes)
    return [*clip.notes, f"a collection stores pictures only: dropped {', '.join(kinds)}"]


def _pack_video(
    name: str, header: Header, clip: Clip, fitted: FittedVideo, weights: SharedWeights
) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a fitted video, without frame checks. `weights` are those before it."""
    added = sum(len(integers.values) for integers in fitted.added.values())
    kept = sum(int(mask.sum()) for mask in fitted.masks.values())
    return [
        (VIDEO, pack_entry(name, header, len(clip.frames), kept, added)),
        (chunks.TIMING, pack_timing(clip.timing)),
        (MASKS, weights.pack_masks(fitted.masks)),
        (WEIGHTS, pack_integers([*fitted.added.values(), *fitted.head.values()])),
    ]


def _pack_checks(decoded: DecodedFrames) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a video's frame checks."""
    quality = decoded.quality
    checks = decoded.checks(quality.psnr, quality.ssim)
    return [(chunks.CHECKS, checks.pack()), (chunks.SAMPLES, decoded.samples.tobytes())]


def _decode(model: PFNR, clip: Clip, stop: Callable[[], bool]) -> DecodedFrames:
    """Decode all frames of the video. Raises Interrupted."""
    decoded = DecodedFrames()
    frames = prefetched(render(model, [t])[0] for t in range(len(clip.frames)))
    for reference, frame in zip(clip.frames, frames, strict=True):
        if stop():
            raise Interrupted("stopped while the video was checked")
        decoded.add(frame, quality_of(reference, frame))
    return decoded


@dataclass(frozen=True)
class _Written:
    """What a new collection file holds: the last video's entry, the number of videos, and bytes."""

    entry: Entry
    videos: int
    bytes: int
    notes: list[str]


def _write(
    path: Path,
    earlier: Collection | None,
    network: Network,
    parts: list[tuple[bytes, bytes]],
    name: str,
    model: PFNR,
) -> _Written:
    """Write the collection with one more video, read it back, then rename it into place."""
    with replacing(path) as partial:
        with partial.open("wb") as file:
            write_grown(file, None if earlier is None else earlier.file, network, parts)
        with Collection(partial, limits=UNLIMITED) as written:
            _check_written(written, name, model, path)
            entry, videos, size = written.file.entries[-1], len(written), written.file.size
        return _Written(entry, videos, size, _over_limits(partial))


def _report(
    path: Path,
    name: str,
    clip: Clip,
    network: Network,
    weights: SharedWeights,
    fitted: FittedVideo,
    written: _Written,
    quality: Quality,
    fit_seconds: float,
    began: float,
    notes: list[str],
) -> AddReport:
    entry = written.entry
    return AddReport(
        output=str(path),
        name=name,
        frames=len(clip.frames),
        width=network.width,
        height=network.height,
        fps=float(clip.fps),
        videos=written.videos,
        weights=network.weights,
        kept=entry.kept,
        reused=entry.kept - entry.added,
        added=entry.added,
        free=weights.free,
        bytes=written.bytes,
        added_bytes=entry.bytes,
        bytes_by_part=entry.bytes_by_part,
        bpp=8 * entry.bytes / clip.frames[..., 0].size,
        psnr=quality.psnr,
        ssim=quality.ssim,
        steps=fitted.steps,
        fit_seconds=fit_seconds,
        seconds=clock.perf_counter() - began,
        notes=notes,
    )


def _over_limits(path: Path) -> list[str]:
    """Return a note if the last video exceeds the default limits of decoders."""
    try:
        with Collection(path) as collection:
            check_costs(collection.file, len(collection) - 1)
    except LimitError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"decoding this video needs a raised limit: {reason}"]
    return []


def _check_written(written: Collection, name: str, model: PFNR, path: Path) -> None:
    """Raise NervError if the file is damaged, or its video's network differs from `model`."""
    written.file.check_all()
    found, expected = written[name].model.stored(), model.stored()
    if not all(torch.equal(found[key], expected[key]) for key in expected):
        raise NervError(f"{path}: reads back differently than written; check the disk")
