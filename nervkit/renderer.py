""".nerv -> a video of another size or speed, at rest, or with something removed or recoloured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import UsageError
from nervkit.media.timing import Timing
from nervkit.models.device import Device, memory_errors
from nervkit.models.flow import LUMA
from nervkit.networks import render as render_frames
from nervkit.restoration.masks import check_mask, read_mask
from nervkit.segments import VideoSegment
from nervkit.units import parse_colour, parse_size, parse_speed
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video

if TYPE_CHECKING:
    from nervkit.models.gaussians import Gaussians

MOST_FRAMES = 1_000_000  # of an output: a mistyped speed should not fill the disk


@dataclass(frozen=True)
class RenderReport:
    """What a rendering did. `edited` counts the Gaussians that were removed or recoloured."""

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
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


@dataclass(frozen=True)
class View:
    """How a video is shown. Checks itself: raises UsageError.

    Attributes:
        size: width and height; None: the video's own.
        speed: 1/4 shows four times the frames.
        stabilise: whether the camera rests.
        remove, recolour: a mask of what is removed or gets a `colour` (RGB, 0 to 255), as
            `restoration.masks.read_mask` takes; of frame `at`.
    """

    size: tuple[int, int] | None
    speed: Fraction
    stabilise: bool
    remove: Any
    recolour: Any
    colour: tuple[int, ...] | None
    at: int

    @classmethod
    def chosen(
        cls,
        size: str | tuple[int, int] | None,
        speed: str | float,
        stabilise: bool,
        remove: Any,
        recolour: Any,
        colour: str | None,
        at: int,
    ) -> View:
        """From what a user says."""
        if remove is not None and recolour is not None:
            raise UsageError("remove and recolour are two edits of what a mask shows; give one")
        if (recolour is None) != (colour is None):
            raise UsageError(
                "recolour needs a mask and a colour: --recolour mask.png --colour RRGGBB"
            )
        mask = recolour if remove is None else remove
        if mask is not None:
            check_mask(mask, ())
        if mask is None and at:
            raise UsageError("at says which frame a mask is of: give --remove or --recolour too")
        if type(at) is not int or at < 0:
            raise UsageError(f"at must be a frame's number from 0 on, not {at!r}")
        return cls(
            None if size is None else parse_size(size, "size"),
            parse_speed(speed),
            stabilise,
            remove,
            recolour,
            None if colour is None else parse_colour(colour),
            at,
        )

    @property
    def needs_gaussians(self) -> str | None:
        """What of this only Gaussians can do; None where any model can do all."""
        for name, wanted in (
            ("stabilise", self.stabilise),
            ("remove", self.remove is not None),
            ("recolour", self.recolour is not None),
        ):
            if wanted:
                return name
        return None


@dataclass(frozen=True)
class Edited:
    """Gaussians of a segment that are edited: which of each level, and the colours of all of them
    where they are removed, or the hue (3,) that what they show gets, of luma 1."""

    chosen: list[Tensor]
    colours: Sequence[Tensor] = ()
    hue: Tensor | None = None


def render(
    source: NervSource,
    output: str | os.PathLike[str],
    *,
    size: str | tuple[int, int] | None = None,
    speed: str | float = 1,
    stabilise: bool = False,
    remove: Any = None,
    recolour: Any = None,
    colour: str | None = None,
    at: int = 0,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> RenderReport:
    """Render a .nerv file at another speed. A file of the model "gaussians" can also be rendered at
    any size, stabilised, or with objects removed or recoloured.

    Args:
        source: a .nerv file, as for `NervVideo`.
        output: as for `decode`.
        size: "1280x720" or (width, height). Every pixel is computed from the representation; only
            a smaller size is made by resizing.
        speed: playback speed, a number or a fraction as text: 0.25 or "1/4" is slow motion. Frames
            between frames are computed, at the video's own frame rate. Other speeds drop the sound.
        stabilise: remove the camera's motion. The middle frame of each segment gives the viewpoint.
        remove: a mask of frame `at`, an image or an array (H, W), nonzero at the object. The object
            is removed in all frames and filled from its surroundings.
        recolour: a mask likewise. The object takes the hue of `colour`.
        colour: hexadecimal RGB, such as "ff8000".
        at: the frame that the masks belong to.
        codec: as for `decode`.
        crf: as for `decode`.
        pixel_format: as for `decode`.
        overwrite: replace an existing output.
        device: as for `NervVideo`.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, frames in all).

    Raises:
        UsageError: an option is not understood, or the model cannot do it.
        FormatError: as for `decode`; so are SourceError, OutputError, LimitError, ResourceError.
    """
    began = time.perf_counter()
    output = os.fspath(output)
    options = MovieOptions(codec, crf, pixel_format)
    view = View.chosen(size, speed, stabilise, remove, recolour, colour, at)
    check_destination(output, options, overwrite, source)
    with NervVideo(source, device=device, limits=limits) as video:
        return _rendered(video, output, view, options, on_progress, began)


def _rendered(
    video: NervVideo,
    output: str,
    view: View,
    options: MovieOptions,
    on_progress: Callable[[int, int], None] | None,
    began: float,
) -> RenderReport:
    header = video.header
    own = header.width, header.height
    width, height = view.size or own
    wanted = view.needs_gaussians or ("size" if (width, height) != own else None)
    for segment in video.segments if wanted else ():
        _check_gaussians(video.file.name, segment, wanted)
    if view.at >= len(video):
        raise UsageError(f"at {view.at} is beyond the end: there are {len(video)} frames")
    video.check(0, len(video))
    timing, places = paced(video.timing, view.speed)
    with memory_errors(video.file.name):
        edits = _edits(video, view)
    edited = sum(int(level.sum()) for e in edits.values() for level in e.chosen)
    notes = list(video.file.notes)
    if view.speed != 1 and video.tracks:
        notes.append("sound and subtitles are left out: they have the video's own speed")

    def pictures() -> Iterator[np.ndarray]:
        for done, frame in enumerate(computed_ahead(_frames(video, places, view, edits)), start=1):
            yield frame
            if on_progress is not None:
                on_progress(done, len(places))

    resized = Edit(resize=(width, height))
    stream = Stream(
        frames=pictures(),
        width=width,
        height=height,
        timing=timing,
        sample_aspect_ratio=resized.sample_aspect_ratio(header.sample_aspect_ratio, *own),
        colour=Colour.from_dict(header.colour),
        tracks=tuple(video.tracks) if view.speed == 1 else (),
        extras=video.file.extras(),
    )
    with video.file.naming():
        notes += write_video(output, stream, options)
    return RenderReport(
        output=output,
        frames=len(places),
        width=width,
        height=height,
        fps=float(timing.fps),
        model=header.segments[0].model,
        edited=edited,
        seconds=time.perf_counter() - began,
        notes=notes,
    )


def _frames(
    video: NervVideo,
    places: list[Fraction],
    view: View,
    edits: dict[int, Edited],
) -> Iterator[np.ndarray]:
    """The (H, W, 3) uint8 frames at `places`. Between two segments the nearer one stays."""
    own = video.header.width, video.header.height
    plain = view.needs_gaussians is None and (view.size or own) == own
    for place in places:
        index = video.segments.index_at(int(place))
        segment = video.segments[index]
        t = min(float(place - segment.start), segment.frames - 1.0)
        if float(place - segment.start) - t > 0.5:
            segment, t = video.segments[index + 1], 0.0
        with memory_errors(video.file.name):
            if plain:
                yield render_frames(segment.model, [t])[0]
            else:
                yield _seen(segment.model, t, view, edits.get(segment.index))


@torch.inference_mode()
def _seen(model: Gaussians, t: float, view: View, edited: Edited | None) -> np.ndarray:
    """One (H, W, 3) uint8 frame. What becomes smaller is computed at the video's size, or a whole
    part of the larger one, and averaged."""
    height, width = model.shape.height, model.shape.width
    if view.size is not None:
        width, height = view.size
    moment = model.background.new_tensor([t])
    full = max(height, model.shape.height), max(width, model.shape.width)
    moves = not view.stabilise
    frame = model.render(moment, full, moves, edited.colours if edited else ())[0]
    if edited and edited.hue is not None:
        luma = torch.einsum("chw,c->hw", frame, frame.new_tensor(LUMA))
        tinted = (luma * edited.hue[:, None, None]).clamp(0, 1)
        frame = torch.lerp(frame, tinted, model.carried(edited.chosen, moment, full, moves)[0])
    if full != (height, width):
        frame = torch.nn.functional.interpolate(frame[None], (height, width), mode="area")[0]
    pixels = frame.float().mul(255).round_().clamp_(0, 255).byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


@torch.inference_mode()
def _edits(video: NervVideo, view: View) -> dict[int, Edited]:
    """The edit of the segment that the mask is of, by its index. Other segments have other
    Gaussians: they stay."""
    mask = view.recolour if view.remove is None else view.remove
    if mask is None:
        return {}
    size = video.header.height, video.header.width
    marked = torch.from_numpy(read_mask(mask, (), (1, *size), {})[0])
    index = video.segments.index_at(view.at)
    segment = video.segments[index]
    model, t = segment.model, float(view.at - segment.start)
    chosen = model.within(marked.to(model.background.device), t)
    if view.colour is None:
        return {index: Edited(chosen, colours=model.without(chosen, t))}
    colour = model.background.new_tensor(view.colour) / 255
    hue = colour / (colour @ colour.new_tensor(LUMA)).clamp(min=1 / 255)
    return {index: Edited(chosen, hue=hue)}


def _check_gaussians(name: str, segment: VideoSegment, wanted: str) -> None:
    if segment.model_name != "gaussians":
        raise UsageError(
            f"{name}: {segment.model_name} has one size and no parts: --{wanted} needs a file of "
            "the model gaussians (any model can be shown at another --speed)"
        )


def paced(timing: Timing, speed: Fraction) -> tuple[Timing, list[Fraction]]:
    """A video at another speed, and its own frame rate: the timing of its frames and their places
    among the video's. Times are exact: they count in units that both divide."""
    up, down = speed.numerator, speed.denominator
    count = (len(timing) - 1) * down // up + 1
    if count > MOST_FRAMES:
        raise UsageError(f"this makes {count:,} frames; at most {MOST_FRAMES:,} are made")
    places = [Fraction(k * up, down) for k in range(count)]
    steps = np.append(np.diff(timing.pts), timing.duration)
    pts = []
    for place in places:
        before = int(place)
        pts.append(
            down * int(timing.pts[before]) + int((place - before) * down) * int(steps[before])
        )
    first = pts[0] // up
    shifted = np.array([time - pts[0] for time in pts], np.int64)
    return Timing(first + shifted, timing.time_base / up, int(steps[-1]) * up), places
