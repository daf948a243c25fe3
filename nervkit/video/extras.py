"""Tags, chapters and attached files of a source, within the limits of a .nerv file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av
from av.stream import Disposition

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

#: what describes the file that was read, not the film in it
OF_THE_FILE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "encoded_by", "software"),
    *("duration", "handler_name", "vendor_id", "writing_app", "muxing_app"),
)
COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

Note = Callable[[str], None]


def read_tags(
    container: av.container.InputContainer, video: av.VideoStream, note: Note
) -> dict[str, str]:
    """The tags of a container, and the timecode at its beginning wherever it is stored."""
    tags: dict[str, str] = {}
    for name, value in container.metadata.items():
        name = name.lower()
        if name in OF_THE_FILE or not value:
            continue
        storable = name.isprintable() and len(name) <= MAX_TAG_NAME and len(value) <= MAX_TAG
        if not storable or len(tags) == MAX_TAGS:
            note(f"the tag {printable(name, 40)} is too long, or one too many: left out")
            continue
        tags[name] = value
    timecodes = [s.metadata["timecode"] for s in container.streams if "timecode" in s.metadata]
    if timecodes:
        tags.setdefault("timecode", video.metadata.get("timecode", timecodes[0]))
    title = video.metadata.get("title")
    if title and title != tags.get("title"):
        note(f"the video track's own title is not kept: {printable(title)}")
    return tags


def read_chapters(container: av.container.InputContainer, note: Note) -> tuple[Chapter, ...]:
    """The chapters of a container, in order of time, in seconds on its own time line."""
    found = []
    for entry in container.chapters():
        start, end = (entry[key] * Fraction(entry["time_base"]) for key in ("start", "end"))
        title = entry["metadata"].get("title", "")
        if max(abs(start), abs(end)) > MOST_SECONDS // 2:
            note(f"a chapter lies decades away: left out ({printable(title, 40)})")
            continue
        if len(title) > MAX_TITLE:
            note(f"a chapter's title is too long and was cut: {printable(title, 40)}")
        found.append(Chapter(start, max(start, end), title[:MAX_TITLE]))
    if len(found) > MAX_CHAPTERS:
        note(f"of {len(found)} chapters, the first {MAX_CHAPTERS} are kept")
    return tuple(sorted(found, key=lambda chapter: chapter.start)[:MAX_CHAPTERS])


def read_attachments(
    container: av.container.InputContainer, covers: dict[int, bytes], note: Note
) -> tuple[Attachment, ...]:
    """Attached files, and cover pictures (stream index: bytes) as such."""
    kept: list[Attachment] = []
    total = 0
    for stream in container.streams:
        name, kind, data = "attachment", "", b""
        if stream.type == "attachment":
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
            note(f"the attached file {name} is too large, or one too many: left out")
            total -= len(data)
            continue
        kept.append(Attachment(name, kind, data))
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
        start, stop = ((t - origin).limit_denominator(INT31) for t in (first, last))
        chapters.append(replace(chapter, start=start, end=stop))
    return replace(extras, chapters=tuple(chapters))
