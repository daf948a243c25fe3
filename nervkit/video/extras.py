"""Tags, chapters and attachments of a source, within the limits of a .nerv file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.stream import AttachmentStream, Disposition

from nervkit.container.fields import printable
from nervkit.media.checks import INT31, MOST_SECONDS
from nervkit.media.extras import (
    MAX_ATTACHED_BYTES,
    MAX_ATTACHMENTS,
    MAX_CHAPTERS,
    MAX_FILE_NAME,
    MAX_MEDIA_TYPE,
    MAX_TAG,
    MAX_TAG_NAME,
    MAX_TAGS,
    MAX_TITLE,
    Attachment,
    Chapter,
    Extras,
)

if TYPE_CHECKING:
    from av.container.core import Chapter as AvChapter

#: tags that describe the source file, not its content
FILE_TAGS = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "encoded_by", "software"),
    *("duration", "handler_name", "vendor_id", "writing_app", "muxing_app"),
)
COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

Note = Callable[[str], None]


def read_tags(
    container: av.container.InputContainer, video: av.VideoStream, note: Note
) -> dict[str, str]:
    """Return a container's tags, including the start timecode wherever it is stored."""
    tags: dict[str, str] = {}
    for name, value in container.metadata.items():
        name = name.lower()
        if name in FILE_TAGS or not value:
            continue
        storable = name.isprintable() and len(name) <= MAX_TAG_NAME and len(value) <= MAX_TAG
        if not storable or len(tags) == MAX_TAGS:
            note(f"nervkit drops the tag {printable(name, 40)}: it is too long, or one too many")
            continue
        tags[name] = value
    timecodes = [s.metadata["timecode"] for s in container.streams if "timecode" in s.metadata]
    if timecodes:
        tags.setdefault("timecode", video.metadata.get("timecode", timecodes[0]))
    title = video.metadata.get("title")
    if title and title != tags.get("title"):
        note(f"nervkit drops the title of the video track: {printable(title)}")
    return tags


def read_chapters(container: av.container.InputContainer, note: Note) -> tuple[Chapter, ...]:
    """Return a container's chapters sorted by time, in seconds on its own timeline."""
    found = []
    for entry in container.chapters():
        start, end = chapter_times(entry)
        title = entry["metadata"].get("title", "")
        if max(abs(start), abs(end)) > MOST_SECONDS // 2:
            note(f"nervkit drops a chapter that is decades from 0: {printable(title, 40)}")
            continue
        if len(title) > MAX_TITLE:
            note(f"nervkit shortens a chapter title that is too long: {printable(title, 40)}")
        found.append(Chapter(start, max(start, end), title[:MAX_TITLE]))
    if len(found) > MAX_CHAPTERS:
        note(f"nervkit keeps the first {MAX_CHAPTERS} of {len(found)} chapters")
    return tuple(sorted(found, key=lambda chapter: chapter.start)[:MAX_CHAPTERS])


def chapter_times(entry: AvChapter) -> tuple[Fraction, Fraction]:
    """Return start and end of a container's chapter, in seconds."""
    time_base = entry["time_base"]
    assert time_base is not None  # demuxers always set it
    return entry["start"] * time_base, entry["end"] * time_base


def read_attachments(
    container: av.container.InputContainer, covers: dict[int, bytes], note: Note
) -> tuple[Attachment, ...]:
    """Return attachments, and cover pictures (`covers`: stream index to bytes) as attachments."""
    kept: list[Attachment] = []
    total = 0
    for stream in container.streams:
        name, kind, data = "attachment", "", b""
        if isinstance(stream, AttachmentStream):
            data = stream.data
        elif stream.index in covers:
            codec = stream.codec_context.codec.canonical_name
            name, kind = COVERS.get(codec, (f"cover.{codec}", f"image/{codec}"))
            data = covers[stream.index]
        else:
            continue
        name = printable(stream.metadata.get("filename", name), MAX_FILE_NAME)
        kind = printable(stream.metadata.get("mimetype", kind), MAX_MEDIA_TYPE)
        total += len(data)
        if len(kept) == MAX_ATTACHMENTS or total > MAX_ATTACHED_BYTES:
            note(f"nervkit drops the attachment {name}: it is too large, or one too many")
            total -= len(data)
            continue
        kept.append(Attachment(name, kind, data))
    return tuple(kept)


def is_cover(stream: av.stream.Stream) -> bool:
    """Whether a video stream is a cover picture."""
    return Disposition.attached_pic in stream.disposition


def shift_extras(extras: Extras, origin: Fraction, end: Fraction | None) -> Extras:
    """Return the extras with time `origin` (seconds) moved to 0. With `end`, chapters are clipped
    to [origin, end)."""
    chapters = []
    for chapter in extras.chapters:
        first, last = chapter.start, chapter.end
        if end is not None:
            first, last = max(first, origin), min(last, end)
            if first >= last:
                continue
        start, stop = ((t - origin).limit_denominator(INT31) for t in (first, last))
        chapters.append(replace(chapter, start=start, end=stop))
    return replace(extras, chapters=tuple(chapters))
