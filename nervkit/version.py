"""The versions of nervkit and of the libraries it uses. This module imports quickly."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version

__version__ = "0.1.0"


def version_lines() -> Iterator[str]:
    """Yield one line each for nervkit, Python, torch, numpy, and PyAV with its FFmpeg. This imports
    PyAV but not torch."""
    import av

    yield f"nervkit {__version__}"
    yield f"Python {platform.python_version()}"
    yield f"torch {version('torch')}"
    yield f"numpy {version('numpy')}"
    libraries = (f"{k} {'.'.join(map(str, v))}" for k, v in av.library_versions.items())
    yield f"PyAV {version('av')} with FFmpeg {av.ffmpeg_version_info} ({', '.join(libraries)})"
