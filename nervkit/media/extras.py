"""Metadata that accompanies video and audio: tags, chapters, attachments."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from nervkit.errors import FormatError
from nervkit.media.checks import INT31, MOST_SECONDS, line, text

MAX_TAGS, MAX_TAG_NAME, MAX_TAG = 256, 64, 1 << 12
MAX_CHAPTERS, MAX_TITLE = 1 << 12, 1 << 10
MAX_ATTACHMENTS, MAX_ATTACHED_BYTES = 256, 1 << 26  # bytes of all attachments together
MAX_FILE_NAME, MAX_MEDIA_TYPE = 255, 128


@dataclass(frozen=True)
class Chapter:
    """A named interval. `start` and `end` are seconds on the video's timeline; the numerator has at
    most 63 bits, the denominator 31."""

    start: Fraction
    end: Fraction
    title: str = ""

    def __post_init__(self) -> None:
        for time in (self.start, self.end):
            if time.denominator > INT31 or abs(time) > MOST_SECONDS:
                raise FormatError(f"a chapter's time {float(time):g} s is out of range")
        if self.end < self.start:
            raise FormatError("a chapter ends before it starts")
        text(self.title, "a chapter's title", MAX_TITLE)


@dataclass(frozen=True)
class Attachment:
    """An embedded file that subtitles or players need, such as a font."""

    name: str
    media_type: str  # such as "font/ttf"; empty if the source has none
    data: bytes

    def __post_init__(self) -> None:
        line(self.name, "an attachment's name", MAX_FILE_NAME)
        line(self.media_type, "an attachment's type", MAX_MEDIA_TYPE)


@dataclass(frozen=True)
class Extras:
    """Tags, chapters and attachments. Raises FormatError if a count exceeds the format's limit.

    Attributes:
        tags: global tags under ffmpeg's names: title, artist, comment, timecode, ...
        chapters: sorted by time.
        attachments: in the source's order.
    """

    tags: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    def __post_init__(self) -> None:
        most = {"tags": MAX_TAGS, "chapters": MAX_CHAPTERS, "attachments": MAX_ATTACHMENTS}
        for name, count in most.items():
            if len(getattr(self, name)) > count:
                raise FormatError(f"a file can have at most {count} {name}")
        for name, value in self.tags.items():
            line(name, "a tag's name", MAX_TAG_NAME)
            text(value, "a tag", MAX_TAG)
        if sum(len(a.data) for a in self.attachments) > MAX_ATTACHED_BYTES:
            raise FormatError(f"attachments can have at most {MAX_ATTACHED_BYTES} bytes together")

    def __bool__(self) -> bool:
        return bool(self.tags or self.chapters or self.attachments)
