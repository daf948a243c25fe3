"""The version, and those of what nervkit is made with: imports nothing that takes long."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version

__version__ = "0.1.0"


def version_lines() -> Iterator[str]:
    """One line each: nervkit, Python, torch, numpy, and PyAV with its FFmpeg. torch is not
    imported, PyAV is."""
    import av

    yield f"nervkit {__version__}"
    yield f"Python {platform.python_version()}"
    yield f"torch {version('torch')}"
    yield f"numpy {version('numpy')}"
    libraries = (f"{k} {'.'.join(map(str, v))}" for k, v in av.library_versions.items())
    yield f"PyAV {version('av')} with FFmpeg {av.ffmpeg_version_info} ({', '.join(libraries)})"
