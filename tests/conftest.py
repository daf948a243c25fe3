"""Fixtures that all tests share."""

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
    """Where several processes test, torch has one thread in each."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bunny() -> Path:
    """The example clip: 132 frames of 1280x720 with 5.1 sound."""
    return ROOT / "examples" / "bunny.mp4"


def beside(name: str) -> Path:
    """A folder of the material that may lie beside the checkout; a test that needs it is skipped
    without it."""
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
    """The folder of sources that were read wrongly once."""
    return beside("cases")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models and frames this small lose time on a second thread, and much of it on a busy
    machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    """Runs the ffmpeg binary, which shares no code with PyAV's build; gives its stdout."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    return run
