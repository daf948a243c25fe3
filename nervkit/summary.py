"""Summarize a .nerv file from its headers. Imports no torch, so that it answers at once."""

from __future__ import annotations

import time
from typing import Any

from nervkit.container.file import NervFile
from nervkit.container.limits import Limits
from nervkit.container.settings import setting
from nervkit.container.source import NervSource
from nervkit.keywords import checked_keywords


@checked_keywords
def info(source: NervSource, *, limits: Limits | None = None) -> dict[str, Any]:
    """Return what the header of a .nerv file declares, and its bytes by part.

    Reads no weights and decodes no frame.

    Args:
        source: a path, the bytes of a file, or a seekable binary file object.
        limits: what the file may declare. The default grows with its size.

    Returns:
        JSON-ready values; docs/json.md documents the keys.

    Raises:
        SourceError: the file does not exist.
        FormatError: not a valid .nerv file.
        LimitError: the file declares more than `limits` allow.
    """
    began = time.perf_counter()
    with NervFile(source, limits) as file:
        header, timing, checks, extras = file.header, file.timing, file.checks(), file.extras()
        start, end = timing.seconds
        ratio = header.sample_aspect_ratio
        first = header.segments[0]
        return {
            "input": file.name,
            "format_version": "{}.{}".format(*file.version),
            "frames": header.frames,
            "width": header.width,
            "height": header.height,
            "sample_aspect_ratio": f"{ratio.numerator}:{ratio.denominator}",
            "fps": float(timing.fps),
            "variable_timing": not timing.constant,
            "time_base": str(timing.time_base),
            "start_time": float(start),
            "duration": float(end - start),
            "colour": header.colour,
            "source": header.source,
            "edit": header.edit,
            "model": first.model,
            "config": first.config,
            "segments": len(header.segments),
            "segment_table": _table(file),
            "exact": header.exact,
            "parameters": header.values,
            "metric": setting(header.encoder["settings"], "metric"),
            "psnr": checks.psnr if checks else None,
            "ssim": checks.ssim if checks else None,
            "bytes": file.size,
            "bytes_by_part": file.bytes_by_part,
            "bpp": file.bpp,
            "tracks": [
                {
                    "kind": track.kind,
                    "codec": track.codec,
                    "language": track.language,
                    "title": track.title,
                    "flags": list(track.flags),
                    "packets": track.packets,
                    "bytes": track.size,
                }
                for track in file.tracks()
            ],
            "tags": extras.tags,
            "chapters": [
                {"start": float(c.start), "end": float(c.end), "title": c.title}
                for c in extras.chapters
            ],
            "attachments": [
                {"name": a.name, "media_type": a.media_type, "bytes": len(a.data)}
                for a in extras.attachments
            ],
            "encoder": header.encoder["version"],
            "settings": header.encoder["settings"],
            "seconds": time.perf_counter() - began,
        }


def _table(file: NervFile) -> list[dict[str, Any]]:
    """Return the segments in order."""
    header, rows, first = file.header, [], 0
    for index, segment in enumerate(header.segments):
        size = file.segment_bytes(index)
        rows.append(
            {
                "first_frame": first,
                "frames": segment.frames,
                "model": segment.model,
                "parameters": segment.values,
                "bytes": size,
                "bpp": 8 * size / (segment.frames * header.width * header.height),
            }
        )
        first += segment.frames
    return rows
