"""Fixtures that all tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def bunny() -> Path:
    """The example clip: 132 frames of 1280x720 with 5.1 sound."""
    return ROOT / "examples" / "bunny.mp4"


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips beside the checkout; tests that need it skip without it."""
    folder = ROOT.parent / "shared" / "clips"
    if not folder.is_dir():
        pytest.skip(f"the clips are not here ({folder})")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    """Runs the ffmpeg binary, which shares no code with PyAV's build; gives its stdout."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    return run
