"""video -> a collection that has it too."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch

from nervkit.assembly import DecodedFrames, check_storable, header_of
from nervkit.collection.reading import (
    Collection,
    check_costs,
    model_of,
    plan_of,
    shape_of,
    shared_shapes,
)
from nervkit.collection.session import fit_video
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
    Network,
    pack_entry,
    write_grown,
)
from nervkit.container.limits import UNLIMITED
from nervkit.container.settings import as_text
from nervkit.container.timing import pack_timing
from nervkit.decoder import computed_ahead
from nervkit.errors import FormatError, Interrupted, LimitError, NervError, UsageError
from nervkit.fitting.budget import Budget
from nervkit.fitting.progress import Progress
from nervkit.keywords import check_keywords
from nervkit.lock import locked
from nervkit.media.checks import line
from nervkit.metrics import quality_of
from nervkit.models.complexity import blueprint
from nervkit.models.config import VideoShape
from nervkit.models.device import Device, choose_device, memory_errors
from nervkit.models.pfnr import PFNR, PFNRConfig
from nervkit.models.recipe import PAPER, Recipe
from nervkit.models.sizing import configure_or_smallest, default_parameters
from nervkit.networks import render
from nervkit.output import check_output, is_pipe, linked, replacing
from nervkit.units import parse_count, parse_seconds, parse_strides
from nervkit.video.clip import Clip
from nervkit.video.reader import READING, ReadingOptions, VideoSource, read_clip, title_of

DEFAULT_KEEP = 0.5
DEFAULT_BITS = 6
FULL = 0.02  # of all weights: with fewer that are free, a video can only reuse
SUFFIX = ".nervc"


@dataclass(frozen=True)
class AddReport:
    """What adding a video did.

    Attributes:
        videos: how many the collection has now.
        weights: that all videos share; `free` of them no video uses.
        kept: of them that this video uses; `reused` are those of earlier videos, `added` others.
        bytes: of the whole file; `added_bytes`, by part in `bytes_by_part`, are for this video
            only, and `bpp` is of them.
        psnr, ssim: of the file's decode, means over frames.
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
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


def add(
    collection: str | os.PathLike[str],
    source: VideoSource,
    *,
    name: str | None = None,
    params: str | float | None = None,
    strides: str | tuple[int, ...] | None = None,
    videos: int | None = None,
    fourier: str | None = None,
    keep: float = DEFAULT_KEEP,
    bits: int = DEFAULT_BITS,
    reuse: bool = True,
    recipe: str = "native",
    preset: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    seed: int = 0,
    device: Device = "auto",
    on_clip: Callable[[Clip], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    **reading: Unpack[ReadingOptions],
) -> AddReport:
    """Add a video to a collection, which is made where it does not exist (PFNR, 2306.11305).

    The video is fitted as a submodule of the network that all videos share: a share of the weights,
    those of earlier videos among them, which stay as they are. So earlier videos decode to the same
    bits as before. The file is replaced once the new one is whole and decoded.

    Args:
        collection: the .nervc file.
        source: whatever `read_clip` takes. Its frames have the size of the others.
        name: of the video; by default, that of its file.
        params: shared weights to aim at, such as 1.5e6 or "1.5M"; by default, as many as a video of
            this size has in a .nerv file, over `keep`. This and the next three are for the first
            video: they make the network.
        strides: of the network's stages; by default, by the frame's size.
        videos: how many are planned (16); more may follow.
        fourier: "sum" (the Fourier operator beside a convolution), "alone", or "none".
        keep: share of the weights of each tensor that the video uses, 0 (exclusive) to 1.
        bits: of a weight that it adds, 2 to 12.
        reuse: whether it may use weights of earlier videos.
        recipe: "native" (nervkit's), or "paper" (as published).
        preset, epochs, steps, time, seed, device: as of `nervkit.encode`.
        on_clip: called with the Clip once it is read.
        on_progress: called about once a second.
        stop: asked before each step; once True, Interrupted is raised, and the file stays as it
            was.
        reading: options of `read_clip`.

    Raises:
        UsageError: an option does not fit, the name exists, or the frames have another size.
        FormatError: `collection` is no collection, or damaged.
        SourceError, OutputError, ResourceError, Interrupted: see nervkit.errors.
    """
    began = clock.perf_counter()
    check_keywords(add, reading, READING)
    path = Path(collection)
    if not 0 < keep <= 1:
        raise UsageError(f"keep must lie in 0 (exclusive) to 1, not {keep!r}")
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"seed must lie in 0 to 2^63 - 1, not {seed}")
    check_bits(bits)
    chosen_recipe, budget = _recipe(recipe), _budget(recipe, preset, epochs, steps, time)
    to_device = choose_device(device)
    name = _name(name, source)
    making = {"params": params, "strides": strides, "videos": videos, "fourier": fourier}
    making = {option: value for option, value in making.items() if value is not None}
    _check_output(path, source)
    with locked(linked(path)), _opened(path) as earlier:
        if earlier is not None:
            _check_earlier(earlier, name, making)
        clip = read_clip(source, **reading)
        network = _network(earlier, clip, keep, making)
        check_storable(network.width, network.height, replace(clip, tracks=[]))
        if on_clip is not None:
            on_clip(clip)
        plan, config, _ = plan_of(network, 0 if earlier is None else len(earlier), len(clip.frames))
        weights = SharedWeights(shared_shapes(plan)) if earlier is None else earlier.weights()
        notes = _left_out(clip)
        if weights.free < FULL * weights.count:
            notes.append(
                f"of {weights.count:,} weights {weights.free:,} are free: {name} reuses those of "
                "earlier videos; a new collection has room"
            )
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
        header = header_of(
            network.width, network.height, clip, as_text(settings | {"reuse": reuse, "seed": seed})
        )
        added = sum(len(integers.values) for integers in fitted.added.values())
        kept = sum(int(mask.sum()) for mask in fitted.masks.values())
        parts = [
            (VIDEO, pack_entry(name, header, len(clip.frames), kept, added)),
            (chunks.TIMING, pack_timing(clip.timing)),
            (MASKS, weights.pack_masks(fitted.masks)),
            (WEIGHTS, pack_integers([*fitted.added.values(), *fitted.head.values()])),
        ]
        model = model_of(plan, config, shape_of(network, len(clip.frames)), fitted.taken(weights))
        decoded = _decoded(model, clip, stop)
        quality = decoded.quality
        checks = decoded.checks(quality.psnr, quality.ssim)
        parts += [(chunks.CHECKS, checks.pack()), (chunks.SAMPLES, checks.samples.tobytes())]
        with replacing(path) as partial:
            with partial.open("wb") as file:
                write_grown(file, None if earlier is None else earlier.file, network, parts)
            with Collection(partial, limits=UNLIMITED) as written:
                _check_written(written, name, model, path)
                entry, videos_now, size = written.file.entries[-1], len(written), written.file.size
            notes += _over_limits(partial)
    return AddReport(
        output=str(path),
        name=name,
        frames=len(clip.frames),
        width=network.width,
        height=network.height,
        fps=float(clip.fps),
        videos=videos_now,
        weights=network.weights,
        kept=kept,
        reused=kept - added,
        added=added,
        free=weights.free,
        bytes=size,
        added_bytes=entry.bytes,
        bytes_by_part=entry.bytes_by_part,
        bpp=8 * entry.bytes / clip.frames[..., 0].size,
        psnr=quality.psnr,
        ssim=quality.ssim,
        steps=fitted.steps,
        fit_seconds=fit_seconds,
        seconds=clock.perf_counter() - began,
        notes=[*notes, *fitted.notes],
    )


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
    """How long to fit: as the user says, else as long as the paper with its recipe, else the
    default preset."""
    seconds = None if time is None else float(parse_seconds(time, "time"))
    given = (preset, epochs, steps, seconds)
    if recipe == PAPER and all(amount is None for amount in given):
        return Budget(epochs=PFNR.recipes[PAPER].epochs)
    return Budget.choose(*given)


def _name(name: str | None, source: VideoSource) -> str:
    """What the video is called. Raises UsageError where that cannot be."""
    if name is None:
        if source == "-" or not isinstance(source, (str, os.PathLike)):
            raise UsageError("a video that has no file needs a name: --name")
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
        raise UsageError(f"{path}: a collection needs a place in a folder, no pipe")
    check_output(path, overwrite=True, source=source)


@contextmanager
def _opened(path: Path) -> Iterator[Collection | None]:
    """The collection as it is, all of its checksums verified; None where there is none yet."""
    if not path.exists():
        yield None
        return
    with Collection(path, limits=UNLIMITED) as collection:
        collection.file.check_all()
        yield collection


def _check_earlier(collection: Collection, name: str, making: dict[str, Any]) -> None:
    """Raise UsageError where a collection cannot have a video of this name, or exists already where
    options would make it."""
    path = collection.file.name
    if name in collection.names:
        raise UsageError(f"{path}: has a video {name!r} already; choose another name: --name")
    if making:
        raise UsageError(f"{path}: its network is made already: leave out --{next(iter(making))}")
    if len(collection) == MOST_VIDEOS:
        raise UsageError(f"{path}: has {MOST_VIDEOS} videos, and cannot have more")


def _network(
    collection: Collection | None, clip: Clip, keep: float, making: dict[str, Any]
) -> Network:
    """The network that the clip is fitted with: the collection's, or a new one. Raises UsageError
    where the clip's frames have another size."""
    count, height, width, _ = clip.shape
    if collection is not None:
        network = collection.file.network
        if (network.width, network.height) != (width, height):
            size = f"{network.width}x{network.height}"
            raise UsageError(
                f"the video has frames of {width}x{height}, those of {collection.file.name} are of "
                f"{size}: use --resize {size}"
            )
        return network
    shape = VideoShape(count, height, width)
    options = {name: making[name] for name in ("videos", "fourier") if name in making}
    if "strides" in making:
        options["strides"] = parse_strides(making["strides"])

    def configure(parameters: int | None) -> PFNRConfig:
        return PFNR.configure(shape, parameters, **options)

    if "params" in making:
        config = configure(parse_count(making["params"]))
    else:
        config = configure_or_smallest(configure, round(default_parameters(shape) / keep))
    shapes = shared_shapes(blueprint(PFNR, config, shape))
    values = config.to_dict()
    del values["video"]
    return Network(MODEL, values, width, height, sum(sizes(shapes).values()))


def _left_out(clip: Clip) -> list[str]:
    """Notes on the clip, and on what of it a collection does not hold."""
    kinds = sorted({track.kind for track in clip.tracks})
    extras = ("tags", "chapters", "attachments")
    kinds += [kind for kind in extras if getattr(clip.extras, kind)]
    if not kinds:
        return list(clip.notes)
    return [*clip.notes, f"a collection holds pictures only: left out are {', '.join(kinds)}"]


def _decoded(model: PFNR, clip: Clip, stop: Callable[[], bool]) -> DecodedFrames:
    """What the video decodes to. Raises Interrupted."""
    decoded = DecodedFrames()
    frames = computed_ahead(render(model, [t])[0] for t in range(len(clip.frames)))
    for reference, frame in zip(clip.frames, frames, strict=True):
        if stop():
            raise Interrupted("stopped while the video was checked")
        decoded.add(frame, quality_of(reference, frame))
    return decoded


def _over_limits(path: Path) -> list[str]:
    """A note where the last video takes more than readers allow by default."""
    try:
        with Collection(path) as collection:
            check_costs(collection.file, len(collection) - 1)
    except LimitError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"who extracts this video must raise a limit: {reason}"]
    return []


def _check_written(written: Collection, name: str, model: PFNR, path: Path) -> None:
    """Raise NervError where a file is damaged, or its video has another network than `model`."""
    written.file.check_all()
    found, expected = written[name].model.stored(), model.stored()
    if not all(torch.equal(found[key], expected[key]) for key in expected):
        raise NervError(f"{path}: the disk did not give back what was written")
