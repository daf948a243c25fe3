"""Follow points through a video by the motion that a .nerv file of Gaussians stores."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image, ImageDraw

from nervkit.choices import CodecName
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.decoder import NervVideo, OnProgress, prefetched, with_progress
from nervkit.errors import UsageError
from nervkit.keywords import checked_keywords, option, setting
from nervkit.models.device import memory_errors
from nervkit.output import check_output, output_name, replacing
from nervkit.video.colour import Colour
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video

if TYPE_CHECKING:
    from nervkit.models.gaussians import Gaussians

TAIL = 12  # earlier frames of a trajectory that are drawn
COLOURS = ("#ff3b30", "#34c759", "#0a84ff", "#ffd60a", "#ff2d95", "#5ac8fa")

Point = tuple[float, float, float]  # x, y, frame
POINT_NUMBER = re.compile(r"\s*\d+(\.\d+)?\s*")


@dataclass(frozen=True)
class Trajectory:
    """The path of a point.

    Attributes:
        at: x and y in pixels from the frame's upper left corner, and the frame.
        first_frame: first frame of the segment that contains it; the path ends with the segment.
        points: x and y in each frame of the segment. They may lie outside the frame.
    """

    at: Point
    first_frame: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Tracks:
    """Trajectories of points in a video.

    Attributes:
        frames: number of frames of the video.
        width: of the video, in pixels.
        height: of the video, in pixels.
        tracks: one Trajectory for each requested point.
    """

    frames: int
    width: int
    height: int
    tracks: tuple[Trajectory, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


@checked_keywords
def tracks(
    source: NervSource,
    at: Iterable[str | Point],
    *,
    output: str | os.PathLike[str] | None = None,
    draw: str | os.PathLike[str] | None = None,
    codec: CodecName | None = None,
    crf: int | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> Tracks:
    """Follow points through a .nerv file of the model "gaussians".

    Args:
        source: a .nerv file, as for `NervVideo`.
        at: points, each (x, y, frame) or "x,y,frame". x and y are in pixels; the centre of the
            upper left pixel is (0.5, 0.5).
        output: write the trajectories to this path as JSON.
        draw: write the video with the trajectories drawn on it to this path, as for `decode`.
        codec: of the drawn video, as for `decode`.
        crf: likewise.
        overwrite: replace existing outputs.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, total frames) while the video is drawn.

    Raises:
        UsageError: a point cannot be parsed or is not in the video, or the model stores no motion.
        FormatError: as for `decode`; so are OutputError, LimitError and ResourceError.
    """
    points = [_parse_point(point) for point in at]
    if not points:
        raise UsageError(f"give the points to follow: {setting('at', 'x,y,frame')}")
    options = MovieOptions(codec, crf)
    output = None if output is None else output_name(output)
    draw = None if draw is None else output_name(draw)
    if output is not None and draw is not None and Path(output).resolve() == Path(draw).resolve():
        raise UsageError(f"{output}: output and draw are the same file; give two names")
    if draw is not None:
        check_destination(draw, options, overwrite, source)
    elif codec is not None or crf is not None:
        raise UsageError(
            f"{option('codec')} and {option('crf')} apply to the drawn video; give "
            f"{option('draw')} too"
        )
    if output is not None:
        check_output(Path(output), overwrite, source)
    with NervVideo(source, limits=limits) as video:
        count, height, width, _ = video.shape
        for x, y, t in points:
            if not (x < width and y < height and t < count):
                raise UsageError(
                    f"the point {x:g},{y:g},{t:g} is not in {count} frames of {width}x{height}"
                )
        found = Tracks(count, width, height, tuple(_follow(video, point) for point in points))
        if output is not None:
            with replacing(Path(output)) as partial:
                partial.write_text(json.dumps(found.to_dict(), allow_nan=False) + "\n")
        if draw is not None:
            _draw(video, found.tracks, draw, options, on_progress)
    return found


@torch.inference_mode()
def _follow(video: NervVideo[np.ndarray], at: Point) -> Trajectory:
    """Return the path of a point. Raises UsageError if its segment has another model."""
    x, y, t = at
    segment = video.segments[video.segments.index_at(int(t))]
    if segment.model_name != "gaussians":
        raise UsageError(
            f"{video.file.name}: {segment.model_name} stores no trajectories; tracks needs a file "
            "of the model gaussians"
        )
    with memory_errors(video.file.name):
        local = min(t - segment.start, segment.frames - 1.0)
        model = cast("Gaussians", segment.model)
        path = model.track((x, y), local, torch.arange(float(segment.frames)))
    points = tuple((round(x, 3), round(y, 3)) for x, y in path.tolist())
    return Trajectory(at, segment.start, points)


def _draw(
    video: NervVideo[np.ndarray],
    trajectories: Sequence[Trajectory],
    output: str,
    options: MovieOptions,
    on_progress: OnProgress | None,
) -> None:
    """Write the video with a circle at each point and a line along its recent path."""
    decoded = enumerate(prefetched(iter(video)))
    frames = (drawn(frame, index, trajectories) for index, frame in decoded)
    header = video.header
    stream = Stream(
        frames=with_progress(frames, len(video), on_progress),
        width=header.width,
        height=header.height,
        timing=video.timing,
        sample_aspect_ratio=header.sample_aspect_ratio,
        colour=Colour.from_dict(header.colour),
        tracks=tuple(video.tracks),
        extras=video.file.extras(),
    )
    write_video(output, stream, options)


def drawn(frame: np.ndarray, index: int, trajectories: Sequence[Trajectory]) -> np.ndarray:
    """Return a copy of the (H, W, 3) uint8 frame `index` with the trajectories drawn on it."""
    image = Image.fromarray(frame)
    canvas = ImageDraw.Draw(image)
    radius = max(1.5, min(image.size) / 80)
    for number, trajectory in enumerate(trajectories):
        place = index - trajectory.first_frame
        if not 0 <= place < len(trajectory.points):
            continue
        colour = COLOURS[number % len(COLOURS)]
        # Pillow's coordinates have the centre of the upper left pixel at 0.
        recent = trajectory.points[max(0, place - TAIL) : place + 1]
        tail = [(x - 0.5, y - 0.5) for x, y in recent]
        if len(tail) > 1:
            canvas.line(tail, fill=colour, width=max(1, round(radius / 2)))
        x, y = tail[-1]
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour)
    return np.asarray(image)


def _parse_point(point: str | Point) -> Point:
    """Parse x, y and frame. Raises UsageError."""
    parts = point.split(",") if isinstance(point, str) else list(point)
    if len(parts) == 3 and all(POINT_NUMBER.fullmatch(str(part)) for part in parts):
        x, y, t = (float(part) for part in parts)
        if all(map(math.isfinite, (x, y, t))):
            return x, y, t
    raise UsageError(f"a point is x,y,frame, each 0 or more, such as 120,80,0, not {point!r}")
