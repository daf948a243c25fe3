"""Render a .nerv file at another size or speed, stabilised, or with edited objects."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from nervkit.choices import CodecName
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.decoder import NervVideo, OnProgress, prefetched, with_progress
from nervkit.errors import UsageError
from nervkit.keywords import checked_keywords, option
from nervkit.media.timing import Timing
from nervkit.models.device import Device, memory_errors
from nervkit.models.flow import LUMA
from nervkit.networks import render as render_frames
from nervkit.output import output_name
from nervkit.restoration.masks import Mask, check_mask, load_mask
from nervkit.segments import VideoSegment
from nervkit.units import parse_colour, parse_size, parse_speed
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video

if TYPE_CHECKING:
    from nervkit.models.gaussians import Gaussians

MOST_FRAMES = 1_000_000  # in an output: a mistyped speed should not fill the disk
GAUSSIANS = "gaussians"  # the model that can be rendered at any size and edited


@dataclass(frozen=True)
class RenderReport:
    """The result of `render`. `edited` is the number of Gaussians removed or recoloured."""

    output: str
    frames: int
    width: int
    height: int
    fps: float
    model: str
    edited: int
    seconds: float
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


@dataclass(frozen=True)
class View:
    """The options of `render` that change the picture or its timing.

    Attributes:
        size: width and height; None: the video's own.
        speed: playback speed; 1/4 shows four times the frames.
        stabilise: whether the camera stays at rest.
        edit: "remove" or "recolour"; None: no edit.
        mask: the pixels of frame `at` that the edit applies to.
        colour: RGB, 0 to 255, of a "recolour".
        at: the frame that the mask belongs to.
    """

    size: tuple[int, int] | None
    speed: Fraction
    stabilise: bool
    edit: str | None
    mask: Mask | None
    colour: tuple[int, ...] | None
    at: int

    @classmethod
    def from_options(
        cls,
        size: str | tuple[int, int] | None,
        speed: str | float,
        stabilise: bool,
        remove: Mask | None,
        recolour: Mask | None,
        colour: str | None,
        at: int,
    ) -> View:
        """Parse the options of `render`. Raises UsageError."""
        if remove is not None and recolour is not None:
            raise UsageError(
                f"{option('remove')} and {option('recolour')} are different edits; give one"
            )
        if (recolour is None) != (colour is None):
            raise UsageError(
                f"{option('recolour')} needs a mask and {option('colour')} a value such as "
                "ff8000; give both"
            )
        edit = "remove" if remove is not None else "recolour" if recolour is not None else None
        mask = recolour if remove is None else remove
        if mask is not None:
            check_mask(mask, ())
        if mask is None and at:
            raise UsageError(
                f"{option('at')} says which frame a mask belongs to; "
                f"give {option('remove')} or {option('recolour')} too"
            )
        if type(at) is not int or at < 0:
            raise UsageError(f"{option('at')} must be a frame number, 0 or more, not {at!r}")
        return cls(
            None if size is None else parse_size(size, option("size")),
            parse_speed(speed),
            stabilise,
            edit,
            mask,
            None if colour is None else parse_colour(colour),
            at,
        )

    @property
    def needs_gaussians(self) -> str | None:
        """The first option that only Gaussians support; None if any model supports all."""
        return "stabilise" if self.stabilise else self.edit


@dataclass(frozen=True)
class Edited:
    """The edited Gaussians of a segment.

    Attributes:
        chosen: mask of the edited Gaussians, for each level.
        colours: the new colours of all Gaussians for each level, if some are removed.
        hue: (3,) RGB of luma 1 that recoloured pixels get.
    """

    chosen: list[Tensor]
    colours: Sequence[Tensor] = ()
    hue: Tensor | None = None


@checked_keywords
def render(
    source: NervSource,
    output: str | os.PathLike[str],
    *,
    size: str | tuple[int, int] | None = None,
    speed: str | float = 1,
    stabilise: bool = False,
    remove: Mask | None = None,
    recolour: Mask | None = None,
    colour: str | None = None,
    at: int = 0,
    codec: CodecName | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> RenderReport:
    """Render a .nerv file at another speed. A file of the model "gaussians" can also be rendered at
    any size, stabilised, or with objects removed or recoloured.

    Args:
        source: a .nerv file, as for `NervVideo`.
        output: as for `decode`.
        size: "1280x720" or (width, height). Every pixel is evaluated from the representation; only
            smaller sizes are resampled.
        speed: playback speed, a number or a fraction as text: 0.25 or "1/4" is slow motion. Frames
            between the stored ones are evaluated; the frame rate stays. The output ends with the
            last stored frame: N frames at 1/2 speed become 2N - 1. A speed other than 1 drops the
            audio.
        stabilise: remove camera motion. The middle frame of each segment gives the viewpoint.
        remove: a mask of frame `at`: an image or an (H, W) array, nonzero at the object. The object
            is removed in all frames and filled from its surroundings.
        recolour: a mask likewise. The object takes the hue of `colour`.
        colour: hexadecimal RGB, such as "ff8000".
        at: the frame that the mask belongs to.
        codec: as for `decode`.
        crf: as for `decode`.
        pixel_format: as for `decode`.
        overwrite: replace an existing output.
        device: as for `NervVideo`.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, total frames).

    Raises:
        UsageError: an option is invalid, or the model does not support it.
        FormatError: as for `decode`; so are SourceError, OutputError, LimitError, ResourceError.
    """
    began = time.perf_counter()
    output = output_name(output)
    options = MovieOptions(codec, crf, pixel_format)
    view = View.from_options(size, speed, stabilise, remove, recolour, colour, at)
    check_destination(output, options, overwrite, source)
    with NervVideo(source, device=device, limits=limits) as video:
        return _write_frames(video, output, view, options, on_progress, began)


def _write_frames(
    video: NervVideo[np.ndarray],
    output: str,
    view: View,
    options: MovieOptions,
    on_progress: OnProgress | None,
    began: float,
) -> RenderReport:
    """Render all frames and write them."""
    header = video.header
    stored_size = header.width, header.height
    width, height = view.size or stored_size
    _check_model(video, view)
    if view.at >= len(video):
        raise UsageError(
            f"{option('at')} {view.at} is beyond the end: there are {len(video)} frames"
        )
    video.check(0, len(video))
    timing, positions = paced(video.timing, view.speed)
    with memory_errors(video.file.name):
        edits = _edits(video, view)
    notes = list(video.file.notes)
    if view.speed != 1 and video.tracks:
        notes.append("audio and subtitles are dropped: they have the video's own speed")
    frames = prefetched(_frames(video, positions, view, edits))
    edit = Edit(resize=(width, height))
    stream = Stream(
        frames=with_progress(frames, len(positions), on_progress),
        width=width,
        height=height,
        timing=timing,
        sample_aspect_ratio=edit.sample_aspect_ratio(header.sample_aspect_ratio, *stored_size),
        colour=Colour.from_dict(header.colour),
        tracks=tuple(video.tracks) if view.speed == 1 else (),
        extras=video.file.extras(),
    )
    with video.file.naming():
        notes += write_video(output, stream, options)
    return RenderReport(
        output=output,
        frames=len(positions),
        width=width,
        height=height,
        fps=float(timing.fps),
        model=header.segments[0].model,
        edited=sum(int(level.sum()) for edited in edits.values() for level in edited.chosen),
        seconds=time.perf_counter() - began,
        notes=notes,
    )


def _check_model(video: NervVideo[np.ndarray], view: View) -> None:
    """Raise UsageError if an option needs Gaussians and a segment has another model."""
    needing = view.needs_gaussians
    if needing is None and not _is_stored_size(video, view):
        needing = "size"
    if needing is None:
        return
    for segment in video.segments:
        if segment.model_name != GAUSSIANS:
            raise UsageError(
                f"{video.file.name}: {segment.model_name} does not support {option(needing)}, "
                "which needs a file of the model gaussians (every model supports "
                f"{option('speed')})"
            )


def _is_stored_size(video: NervVideo[np.ndarray], view: View) -> bool:
    return view.size in (None, (video.header.width, video.header.height))


def _frames(
    video: NervVideo[np.ndarray],
    positions: list[Fraction],
    view: View,
    edits: dict[int, Edited],
) -> Iterator[np.ndarray]:
    """Yield the (H, W, 3) uint8 frames at `positions`; between two segments the nearer frame."""
    plain = view.needs_gaussians is None and _is_stored_size(video, view)
    for position in positions:
        index = video.segments.index_at(int(position))
        segment = video.segments[index]
        t = min(float(position - segment.start), segment.frames - 1.0)
        if float(position - segment.start) - t > 0.5:
            segment, t = video.segments[index + 1], 0.0
        with memory_errors(video.file.name):
            if plain:
                yield render_frames(segment.model, [t])[0]
            else:
                yield _render_gaussians(_gaussians(segment), t, view, edits.get(segment.index))


def _gaussians(segment: VideoSegment) -> Gaussians:
    """Return the network of a segment whose model name was checked."""
    return cast("Gaussians", segment.model)


@torch.inference_mode()
def _render_gaussians(model: Gaussians, t: float, view: View, edited: Edited | None) -> np.ndarray:
    """Return one (H, W, 3) uint8 frame. A smaller size is rendered at the video's size and
    averaged."""
    height, width = model.shape.height, model.shape.width
    if view.size is not None:
        width, height = view.size
    time = model.background.new_tensor([t])
    full = max(height, model.shape.height), max(width, model.shape.width)
    moves = not view.stabilise
    frame = model.render(time, full, moves, edited.colours if edited else ())[0]
    if edited and edited.hue is not None:
        luma = torch.einsum("chw,c->hw", frame, frame.new_tensor(LUMA))
        tinted = (luma * edited.hue[:, None, None]).clamp(0, 1)
        frame = torch.lerp(frame, tinted, model.carried(edited.chosen, time, full, moves)[0])
    if full != (height, width):
        frame = torch.nn.functional.interpolate(frame[None], (height, width), mode="area")[0]
    pixels = frame.float().mul(255).round_().clamp_(0, 255).byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


@torch.inference_mode()
def _edits(video: NervVideo[np.ndarray], view: View) -> dict[int, Edited]:
    """Return the edit of the segment that the mask belongs to, by segment index. Other segments
    have Gaussians of their own and stay unedited."""
    if view.mask is None or view.edit is None:
        return {}
    size = video.header.height, video.header.width
    marked = torch.from_numpy(_read_mask(view.mask, view.edit, *size))
    index = video.segments.index_at(view.at)
    segment = video.segments[index]
    model, t = _gaussians(segment), float(view.at - segment.start)
    chosen = model.within(marked.to(model.background.device), t)
    if view.colour is None:
        return {index: Edited(chosen, colours=model.without(chosen, t))}
    colour = model.background.new_tensor(view.colour) / 255
    hue = colour / (colour @ colour.new_tensor(LUMA)).clamp(min=1 / 255)
    return {index: Edited(chosen, hue=hue)}


def _read_mask(mask: Mask, edit: str, height: int, width: int) -> np.ndarray:
    """Return the (H, W) bool mask of an edit, "remove" or "recolour". Raises UsageError if its size
    is wrong, or it marks nothing or everything."""
    marked = load_mask(mask, (1, height, width), {})
    if marked.shape not in ((height, width), (1, height, width)):
        raise UsageError(
            f"{edit}: the mask must be one picture of the frame's size, {width}x{height}, "
            f"not of shape {marked.shape}"
        )
    if not marked.any():
        raise UsageError(f"{edit}: the mask marks no pixel; make it nonzero at the object")
    if marked.all():
        raise UsageError(f"{edit}: the mask marks the whole frame; make it 0 around the object")
    return marked.reshape(height, width)


def paced(timing: Timing, speed: Fraction) -> tuple[Timing, list[Fraction]]:
    """Return the timing of a video at another speed, and the positions of its frames among the
    stored ones. The frame rate stays. Times are exact: the time base is divided to represent them.
    """
    up, down = speed.numerator, speed.denominator
    count = (len(timing) - 1) * down // up + 1
    if count > MOST_FRAMES:
        raise UsageError(f"this speed makes {count:,} frames; the limit is {MOST_FRAMES:,}")
    positions = [Fraction(k * up, down) for k in range(count)]
    steps = np.append(np.diff(timing.pts), timing.duration)
    pts = []
    for position in positions:
        before = int(position)
        pts.append(
            down * int(timing.pts[before]) + int((position - before) * down) * int(steps[before])
        )
    first = pts[0] // up
    shifted = np.array([time - pts[0] for time in pts], np.int64)
    return Timing(first + shifted, timing.time_base / up, int(steps[-1]) * up), positions
