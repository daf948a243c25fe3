"""Tags, chapters and attached files of a source, within the limits of a .nerv file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av
from av.stream import Disposition

from nervkit.container.extras import Attachment, Chapter, Extras

MAX_NAME, MAX_VALUE = 64, 4096  # characters of a tag
MAX_CHAPTERS, MAX_TITLE = 4096, 1024
MAX_ATTACHED = 64 << 20  # bytes in all
#: what describes the file that was read, not the film in it
OF_THE_FILE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "encoded_by", "software"),
    *("duration", "handler_name", "vendor_id", "writing_app", "muxing_app"),
)
COVER_NAMES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

Note = Callable[[str], None]


def read_tags(
    container: av.container.InputContainer, video: av.VideoStream, note: Note
) -> dict[str, str]:
    """The tags of a container, and the timecode at its beginning wherever it is told."""
    tags = {}
    for name, value in container.metadata.items():
        name = name.lower()
        if name in OF_THE_FILE or not value:
            continue
        if len(name) > MAX_NAME or len(value) > MAX_VALUE:
            note(f"the tag {name[:MAX_NAME]!r} is too long: left out")
            continue
        tags[name] = value
    told = [s.metadata["timecode"] for s in container.streams if "timecode" in s.metadata]
    if told:
        tags.setdefault("timecode", video.metadata.get("timecode", told[0]))
    title = video.metadata.get("title")
    if title and title != tags.get("title"):
        note(f"the video track's own title is not kept: {title[:80]!r}")
    return tags


def read_chapters(container: av.container.InputContainer, note: Note) -> tuple[Chapter, ...]:
    """The chapters of a container, in order of time, in seconds on its own time line."""
    found = []
    for entry in container.chapters():
        start, end = (entry[key] * Fraction(entry["time_base"]) for key in ("start", "end"))
        title = entry["metadata"].get("title", "")
        if len(title) > MAX_TITLE:
            note(f"the title of a chapter is too long: {title[:40]!r}... is cut")
        found.append(Chapter(start, max(start, end), title[:MAX_TITLE]))
    if len(found) > MAX_CHAPTERS:
        note(f"of {len(found)} chapters, the first {MAX_CHAPTERS} are kept")
    return tuple(sorted(found, key=lambda chapter: chapter.start)[:MAX_CHAPTERS])


def read_attachments(
    container: av.container.InputContainer, covers: dict[int, bytes], note: Note
) -> tuple[Attachment, ...]:
    """Attached files, and cover pictures (stream index: bytes) as such."""
    found = []
    for stream in container.streams:
        if stream.type == "attachment":
            name, kind = stream.name or "attachment", stream.mimetype or ""
            found.append(Attachment(name, kind, stream.data))
        elif stream.index in covers and stream.codec_context is not None:
            codec = stream.codec_context.codec.canonical_name
            name, kind = COVER_NAMES.get(codec, (f"cover.{codec}", f"image/{codec}"))
            tags = stream.metadata
            name, kind = tags.get("filename", name), tags.get("mimetype", kind)
            found.append(Attachment(name, kind, covers[stream.index]))
    kept, total = [], 0
    for file in found:
        if total + len(file.data) > MAX_ATTACHED:
            note(f"the attached file {file.name!r} is left out: {MAX_ATTACHED >> 20} MiB are kept")
            continue
        total += len(file.data)
        kept.append(file)
    return tuple(kept)


def is_cover(stream: av.stream.Stream) -> bool:
    """Whether a video stream is only a picture that stands for the film."""
    return Disposition.attached_pic in stream.disposition


def placed(extras: Extras, origin: Fraction, end: Fraction | None) -> Extras:
    """With the time `origin` (seconds) moved to 0. Where the video is cut, at `end`, chapters are
    cut with it."""
    chapters = []
    for chapter in extras.chapters:
        first, last = chapter.start, chapter.end
        if end is not None:
            first, last = max(first, origin), min(last, end)
            if first >= last:
                continue
        chapters.append(replace(chapter, start=first - origin, end=last - origin))
    return replace(extras, chapters=tuple(chapters))
