"""What is measured against: a clip's frames, and the 4:2:0 planes that the anchors encode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nervkit.bench.anchors import Frames
from nervkit.bench.datasets import ClipSpec
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
    """A clip that is measured: the RGB frames, the planes on disk, and the source record."""

    spec: ClipSpec
    clip: Clip
    planes: Frames
    record: dict[str, Any]

    @property
    def viewer_frames(self) -> list[int]:
        return self.record["viewer_frames"]


def planes_path(folder: Path) -> Path:
    """Where the planes of the clip with this folder are, while it is measured."""
    return folder / "frames.yuv"


def prepare(spec: ClipSpec, folder: Path, viewer_frames: int) -> Reference:
    """Read a clip, write its planes into `folder`, and describe it.

    Raises what `read_clip` does.
    """
    path = planes_path(folder)
    edit = Edit.from_options(**{k: v for k, v in spec.options.items() if k in EDIT_OPTIONS})
    with path.open("wb") as file:
        own = OwnPlanes(edit, lambda planes: file.write(planes.samples()))
        clip = read_clip(spec.path, **spec.options, on_picture=own)
    count, height, width, _ = clip.shape
    even = (width + width % 2, height + height % 2)
    planes = Frames(path, *even, clip.fps, count)
    if not own.complete:
        with path.open("wb") as file:
            for frame in clip.frames:
                file.write(Planes.from_rgb(frame, clip.colour).samples())
    colour = yuv_colour(clip.colour)
    shown = np.linspace(0, count - 1, min(viewer_frames, count) + 2)[1:-1].round().astype(int)
    own_input = OWN if edit.resize is None else OWN_RESIZED
    record = {
        "format": 1,
        "clip": spec.name,
        "path": str(spec.path),
        "dataset": spec.dataset,
        "edit": clip.edit,
        "frames": count,
        "width": width,
        "height": height,
        "fps": float(clip.fps),
        "sha256": hashlib.sha256(clip.frames).hexdigest(),
        "colour": {
            "matrix": colour.rgb_matrix,
            "range": colour.rgb_range,
            "tagged": clip.colour.matrix not in (RGB, UNSPECIFIED),
            "pixel_format": clip.source.get("pixel_format", "rgb24"),
        },
        "anchor_input": own_input if own.complete else CONVERTED,
        "ceiling_psnr": _ceiling(clip, planes),
        "viewer_frames": sorted(set(shown.tolist())),
        "notes": clip.notes,
    }
    return Reference(spec, clip, planes, record)


def save_viewer_frames(folder: Path, frames: Any, source: dict[str, Any]) -> None:
    """The viewer frames of a source record, from (H, W, 3) uint8 `frames` by index, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for index in source["viewer_frames"]:
        Image.fromarray(frames[index]).save(folder / f"{index:05d}.png")


def _ceiling(clip: Clip, planes: Frames) -> float:
    height, width = clip.shape[1:3]
    pairs = zip(clip.frames, planes.read(), strict=True)
    values = [psnr(frame, own.rgb(clip.colour, width, height)) for frame, own in pairs]
    return sum(values) / len(values)
