"""HTML previews of a video for notebooks: a few frames side by side."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

FRAMES, HEIGHT = 5, 96  # number of frames in a strip, and its height in pixels


def preview_places(count: int) -> list[int]:
    """Return the indices of the frames in a strip: evenly spaced, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int)).tolist()


def strip_html(title: str, frames: Sequence[np.ndarray] | np.ndarray) -> str:
    """Return HTML with a line of text above one image of the frames, (H, W, 3) uint8 each."""
    height, width = frames[0].shape[:2]
    size = max(1, round(width * HEIGHT / height)), HEIGHT
    shown = [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames]
    data = io.BytesIO()
    Image.fromarray(np.concatenate(shown, axis=1)).save(data, "JPEG", quality=90)
    text, picture = html.escape(title), base64.b64encode(data.getvalue()).decode()
    return f'<div>{text}</div><img alt="{text}" src="data:image/jpeg;base64,{picture}">'
