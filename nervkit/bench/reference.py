"""The reference of a measurement: a clip's frames, and the 4:2:0 planes that anchors encode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from nervkit.bench.anchors import Frames
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.records import FORMAT, Record
from nervkit.metrics.quality import psnr
from nervkit.video.clip import Clip
from nervkit.video.colour import RGB, UNSPECIFIED
from nervkit.video.edit import EDIT_OPTIONS, Edit
from nervkit.video.planes import OwnPlanes, Planes, yuv_colour
from nervkit.video.reader import read_clip

OWN = "the source's own 4:2:0 planes"
OWN_RESIZED = "the source's own 4:2:0 planes, each resized"
CONVERTED = "the RGB frames, converted to 4:2:0 once"


@dataclass(frozen=True)
class Reference:
    """The clip to measure on: its RGB frames, its planes on disk, and its source record."""

    spec: ClipSpec
    clip: Clip
    planes: Frames
    record: Record

    @property
    def viewer_frames(self) -> list[int]:
        """Indices of the frames that are stored for the report's viewer."""
        return self.record["viewer_frames"]


def planes_path(folder: Path) -> Path:
    """Return the path of the raw planes, which exist while the clip in `folder` is measured."""
    return folder / "frames.yuv"


def prepare(spec: ClipSpec, folder: Path, viewer_frames: int) -> Reference:
    """Read a clip, write its planes into `folder`, and return the reference.

    Args:
        viewer_frames: number of frames to store for the report's viewer.

    Raises:
        SourceError, UsageError: as `read_clip`.
    """
    path = planes_path(folder)
    edit = Edit.from_options(**{k: v for k, v in spec.options.items() if k in EDIT_OPTIONS})
    with path.open("wb") as file:
        own = OwnPlanes(edit, lambda planes: _write(planes, file))
        clip = read_clip(spec.path, **spec.options, on_picture=own)
    count, height, width, _ = clip.shape
    even = (width + width % 2, height + height % 2)
    planes = Frames(path, *even, clip.fps, count)
    if not own.complete:
        with path.open("wb") as file:
            for frame in clip.frames:
                _write(Planes.from_rgb(frame, clip.colour), file)
    own_input = OWN if edit.resize is None else OWN_RESIZED
    anchor_input = own_input if own.complete else CONVERTED
    record = _record(spec, clip, anchor_input, _ceiling(clip, planes), viewer_frames)
    return Reference(spec, clip, planes, record)


def _record(
    spec: ClipSpec, clip: Clip, anchor_input: str, ceiling: float, viewer_frames: int
) -> Record:
    """Return the source record (docs/bench.md)."""
    count, height, width, _ = clip.shape
    colour = yuv_colour(clip.colour)
    # Evenly spaced, and not the first or last frame.
    shown = np.linspace(0, count - 1, min(viewer_frames, count) + 2)[1:-1].round().astype(int)
    return {
        "format": FORMAT,
        "clip": spec.name,
        "path": str(spec.path),
        "dataset": spec.dataset,
        "edit": clip.edit,
        "frames": count,
        "width": width,
        "height": height,
        "fps": float(clip.fps),
        "sha256": hashlib.sha256(clip.frames.data).hexdigest(),
        "colour": {
            "matrix": colour.rgb_matrix,
            "range": colour.rgb_range,
            "tagged": clip.colour.matrix not in (RGB, UNSPECIFIED),
            "pixel_format": clip.source.get("pixel_format", "rgb24"),
        },
        "anchor_input": anchor_input,
        "ceiling_psnr": ceiling,
        "viewer_frames": sorted(set(shown.tolist())),
        "notes": clip.notes,
    }


def save_viewer_frames(
    folder: Path,
    frames: npt.NDArray[np.uint8] | Mapping[int, npt.NDArray[np.uint8]],
    source: Record,
) -> None:
    """Store the viewer frames of a source record as PNG, from (H, W, 3) uint8 frames by index."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for index in source["viewer_frames"]:
        Image.fromarray(frames[index]).save(folder / f"{index:05d}.png")


def _write(planes: Planes, file: BinaryIO) -> None:
    file.write(planes.samples().data)


def _ceiling(clip: Clip, planes: Frames) -> float:
    """Return the mean RGB PSNR of the uncompressed planes, converted back."""
    height, width = clip.shape[1:3]
    pairs = zip(clip.frames, planes.read(), strict=True)
    values = [psnr(frame, own.rgb(clip.colour, width, height)) for frame, own in pairs]
    return sum(values) / len(values)
