"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

ROOT = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Give torch one thread per process when several processes run tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bunny() -> Path:
    """The example clip: 132 frames of 1280x720 with 5.1 audio."""
    return ROOT / "examples" / "bunny.mp4"


def beside(name: str) -> Path:
    """A folder of material beside the checkout; skips the test if the folder is missing."""
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the {name} are not here ({folder})")
    return folder


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips."""
    return beside("clips")


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of sources that nervkit once read wrongly."""
    return beside("cases")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: a second one slows models and frames this small down, above all on a busy
    machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    """Run the ffmpeg binary, which shares no code with PyAV's build, and return its stdout."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    return run
