"""The report: a run folder as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from nervkit.bench.curves import (
    BD_METRICS,
    METRICS,
    THIN_OVERLAP,
    ClipResults,
    Point,
    Run,
    mean_comparisons,
    published,
)
from nervkit.errors import SourceError
from nervkit.output import replacing
from nervkit.version import __version__

#: parts of the page's script, in order
SCRIPTS = ("base", "curves", "deltas", "viewer", "frames", "costs", "foot", "main")
#: largest size of the file in bytes; viewer frames that exceed it are left out
BUDGET = 40_000_000


def write_report(run: Run, output: Path, budget: int = BUDGET) -> list[str]:
    """Write the report of a run to the HTML file `output`.

    Returns:
        One note for each clip whose viewer frames are not all in the file.

    Raises:
        SourceError: a damaged frame.
        OutputError: `output` cannot be written.
        MissingDependencyError: the library for BD-rates is not installed.
    """
    data = _data(run)
    frames = _Frames(budget, len(_json(data)) + sum(map(len, _page_files().values())))
    frames.choose(run)
    for clip_data, clip in zip(data["clips"], run.clips, strict=True):
        clip_data["shots"] = frames.of(clip, None)
        for point_data, point in zip(clip_data["points"], clip.points, strict=True):
            point_data["shots"] = frames.of(clip, point)
    data["notes"] = frames.notes
    with replacing(Path(output)) as partial:
        partial.write_text(_page(run, data, frames.images), encoding="utf-8")
    return frames.notes


def _data(run: Run) -> dict[str, Any]:
    """Return the data of the page, without the viewer's frames."""
    labels = run.labels
    curves = {curve.label: curve for clip in run.clips for curve in clip.curves}
    return {
        "version": __version__,
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "metrics": [{"key": key, **metric._asdict()} for key, metric in METRICS.items()],
        "bdMetrics": BD_METRICS,
        "psnr": run.psnr,
        "thin": THIN_OVERLAP,
        "series": [
            {key: getattr(curves[label], key) for key in ("label", "codec", "profile", "kind")}
            for label in labels
        ],
        "clips": [
            {
                "name": clip.name,
                "source": clip.source,
                "points": [
                    _point_data(point) | {"series": labels.index(curve.label)}
                    for curve in clip.curves
                    for point in curve.points
                ],
                "bd": [asdict(c) for c in clip.comparisons],
                "leftOut": clip.left_out,
                "published": [asdict(curve) for curve in published(clip)],
            }
            for clip in run.clips
        ],
        "means": [asdict(m) for m in mean_comparisons(run.comparisons)],
    }


def _point_data(point: Point) -> dict[str, Any]:
    """Return a point's record, with per-frame values rounded to what a chart can show."""
    per_frame = point.record.get("per_frame") or {}
    return point.record | {
        "per_frame": {
            key: [None if v is None else round(v, METRICS[key].digits + 1) for v in values]
            for key, values in per_frame.items()
            if key in METRICS
        }
    }


class _Frames:
    """The viewer's frames, as lossless WebP in base64, within a budget of bytes."""

    def __init__(self, budget: int, used: int) -> None:
        self.budget, self.left = budget, budget - used
        self.images: list[str] = []
        self.notes: list[str] = []
        self._index: dict[Path, int] = {}

    def choose(self, run: Run) -> None:
        """Choose frames, from the middle of each clip outwards: the first frame of every clip, then
        the second of every clip, and so on. A frame is taken with the images of all points or not
        at all; of the first frame, as many images as fit the clip's share of the budget."""
        for count, clip in enumerate(run.clips):
            order = _from_the_middle(clip.source["viewer_frames"])
            if order:
                share = self.left // (len(run.clips) - count)
                self._take(clip, order[0], share, partial=True)
        for rank in range(1, max(len(clip.source["viewer_frames"]) for clip in run.clips)):
            for clip in run.clips:
                order = _from_the_middle(clip.source["viewer_frames"])
                if rank < len(order):
                    self._take(clip, order[rank], self.left, partial=False)
        for clip in run.clips:
            self._note(clip)

    def of(self, clip: ClipResults, point: Point | None) -> dict[int, int]:
        """Return the places in `images` of a point's frames, or the source's, by frame index."""
        paths = {i: _path(clip, point, i) for i in clip.source["viewer_frames"]}
        return {i: self._index[path] for i, path in paths.items() if path in self._index}

    def _take(self, clip: ClipResults, index: int, limit: int, partial: bool) -> None:
        """Add the images of frame `index` within `limit` bytes: all, or if `partial` what fits."""
        taken: dict[Path, str] = {}
        for path in _stored(clip, index):
            image = _webp(path, (clip.source["width"], clip.source["height"]))
            if len(image) > limit:
                if not partial:
                    return
                break
            limit -= len(image)
            taken[path] = image
        for path, image in taken.items():
            self._index[path] = len(self.images)
            self.images.append(image)
            self.left -= len(image)

    def _note(self, clip: ClipResults) -> None:
        indices = clip.source["viewer_frames"]
        stored = sum(len(list(_stored(clip, i))) for i in indices)
        taken = sum(len(self.of(clip, point)) for point in (None, *clip.points))
        if taken < stored:
            size = f"{self.budget / 1e6:.3g} MB"
            self.notes.append(
                f"{clip.name}: the viewer has {taken} of {stored} frames; more exceed {size}"
            )
        if stored < len(indices) * (1 + len(clip.points)):
            self.notes.append(f"{clip.name}: some viewer frames are not in the run folder")


def _stored(clip: ClipResults, index: int) -> Iterator[Path]:
    """Yield the stored images of frame `index`: the source's, the neural codecs', then the anchors'
    by distance in rate to the nearest neural point."""
    neural = [p.record["bpp"] for p in clip.points if p.record["kind"] == "neural"]

    def distance(point: Point) -> float:
        rate = point.record["bpp"]
        return min((abs(math.log(rate / other)) for other in neural), default=0.0)

    for point in (None, *sorted(clip.points, key=distance)):
        path = _path(clip, point, index)
        if path.exists():
            yield path


def _path(clip: ClipResults, point: Point | None, index: int) -> Path:
    return clip.source_frame(index) if point is None else point.frame(index)


def _from_the_middle(indices: list[int]) -> list[int]:
    """Sort indices by distance to the middle one."""
    middle = indices[len(indices) // 2] if indices else 0
    return sorted(indices, key=lambda index: abs(index - middle))


def _webp(path: Path, size: tuple[int, int]) -> str:
    """Return an image as lossless WebP in base64. Raises SourceError for a damaged one."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise SourceError(f"{path}: cannot be read as an image: {error}") from error
    if image.size != size:
        raise SourceError(
            f"{path}: is {image.width}x{image.height}, but the clip is {size[0]}x{size[1]}"
        )
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=60, method=4)
    return base64.b64encode(buffer.getvalue()).decode()


def _page_files() -> dict[str, str]:
    def text(name: str) -> str:
        return resources.files(__package__).joinpath(f"page/{name}").read_text(encoding="utf-8")

    return {
        "page": text("page.html"),
        "css": text("page.css"),
        "library": text("vendor/d3.min.js"),
        "js": "\n".join(text(f"{part}.js") for part in SCRIPTS),
    }


def _page(run: Run, data: dict[str, Any], images: list[str]) -> str:
    files = _page_files()
    names = ", ".join(clip.name for clip in run.clips)
    parts = {
        "title": html.escape(f"{names} · nervkit bench"),
        **{key: files[key] for key in ("css", "library", "js")},
        "data": _json(data),
        "images": "\n".join(
            f'<script type="text/plain" id="image-{index}">{image}</script>'
            for index, image in enumerate(images)
        ),
    }
    # In one pass, so that inserted text is not searched for placeholders.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], files["page"])


def _json(data: dict[str, Any]) -> str:
    """Return JSON that is safe inside a <script>: it has no `<`."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
