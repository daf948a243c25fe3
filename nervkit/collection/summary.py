"""Summarize a collection from its headers. Imports no torch, so that it answers at once."""

from __future__ import annotations

from typing import Any

from nervkit.container.collection import CollectionFile
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource


def contents(source: NervSource, *, limits: Limits | None = None) -> dict[str, Any]:
    """Return what a collection declares, without decoding; docs/json.md documents the keys.

    Raises SourceError, FormatError.
    """
    with CollectionFile(source, limits) as file:
        videos = []
        for index, entry in enumerate(file.entries):
            timing, checks = file.timing(index), file.checks(index)
            videos.append(
                {
                    "name": entry.name,
                    "frames": entry.frames,
                    "fps": float(timing.fps),
                    "duration": float(timing.seconds[1] - timing.seconds[0]),
                    "kept": entry.kept,
                    "added": entry.added,
                    "bytes": entry.bytes,
                    "bytes_by_part": entry.bytes_by_part,
                    "psnr": checks.psnr if checks else None,
                    "ssim": checks.ssim if checks else None,
                    "settings": entry.header.encoder["settings"],
                }
            )
        network = file.network
        return {
            "input": file.name,
            "width": network.width,
            "height": network.height,
            "model": network.model,
            "config": network.config,
            "weights": network.weights,
            "free": network.weights - sum(entry.added for entry in file.entries),
            "bytes": file.size,
            "header_bytes": file.header_bytes,
            "videos": videos,
        }
