"""Calls whose types mypy checks; see test_typing.py. Nothing runs them."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from torch import Tensor

import nervkit


def results(
    array: np.ndarray,
    tensor: Tensor,
    frames: list[Any],
    clip: nervkit.Clip,
    path: Path,
    data: bytes,
) -> None:
    """A restoration returns the type of its source, or a Clip for a file."""
    assert_type(nervkit.denoise(array), np.ndarray)
    assert_type(nervkit.denoise(tensor), Tensor)
    assert_type(nervkit.denoise(frames), list[Any])
    assert_type(nervkit.denoise(clip), nervkit.Clip)
    assert_type(nervkit.denoise(path, frames=":5"), nervkit.Clip)
    assert_type(nervkit.denoise(data), nervkit.Clip)
    assert_type(nervkit.inpaint(array, array > 0), np.ndarray)
    assert_type(nervkit.inpaint(tensor, boxes=["0,0,4,4"]), Tensor)
    assert_type(nervkit.inpaint(clip, path), nervkit.Clip)
    assert_type(nervkit.inpaint("in.mp4", tensor), nervkit.Clip)
    assert_type(nervkit.interpolate(array, factor=2), np.ndarray)
    assert_type(nervkit.interpolate(tensor, fps=60), Tensor)
    assert_type(nervkit.interpolate(clip, factor=2), nervkit.Clip)
    assert_type(nervkit.interpolate(nervkit.open(path), factor=2), nervkit.Clip)


def reports(array: np.ndarray, path: Path, output: str | None) -> None:
    """With an output it returns a report."""
    assert_type(nervkit.denoise(array, "out.mp4"), nervkit.RestoreReport)
    assert_type(nervkit.inpaint(path, None, path, boxes=["@1:2"]), nervkit.RestoreReport)
    assert_type(nervkit.inpaint(path, output=path, boxes=["@1:2"]), nervkit.RestoreReport)
    assert_type(nervkit.interpolate(array, "out.mp4", factor=2), nervkit.RestoreReport)
    assert_type(nervkit.denoise(array, output), nervkit.RestoreReport | np.ndarray)


def mistakes(array: np.ndarray) -> None:
    """Unknown names of options and of choices are errors; an unused `type: ignore` is one too."""
    nervkit.denoise(array, preset="swift")  # type: ignore[call-overload]
    nervkit.denoise(array, precision="half")  # type: ignore[call-overload]
    nervkit.encode(array, "a.nerv", matrix="709")  # type: ignore[arg-type]
    nervkit.encode(array, "a.nerv", compression="zip")  # type: ignore[arg-type]
    nervkit.verify("a.nerv", array, sizes="2x2")  # type: ignore[call-arg]
    nervkit.decode("a.nerv", "a.mp4", codec="mpeg2")  # type: ignore[arg-type]
    nervkit.inpaint(array, overwrit=True)  # type: ignore[call-overload]
    nervkit.interpolate(array, factor="2")  # type: ignore[call-overload]


def videos(path: Path) -> None:
    """A video without a type argument returns arrays."""
    video: nervkit.NervVideo = nervkit.open(path)
    assert_type(video[0], np.ndarray)
    assert_type(nervkit.open(path, output="torch")[0], Tensor)
