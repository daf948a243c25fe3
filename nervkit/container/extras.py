"""What travels beside pictures and sound: tags, chapters, attached files."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nervkit.container.chunks import inflate
from nervkit.container.fields import INT31, INT63, an_object, line, parse_json, text, whole
from nervkit.container.timing import MOST_SECONDS
from nervkit.errors import FormatError

MAX_TAGS, MAX_TAG_NAME, MAX_TAG = 256, 64, 1 << 12
MAX_CHAPTERS, MAX_TITLE = 1 << 12, 1 << 10
MAX_ATTACHMENTS, MAX_ATTACHED_BYTES = 256, 1 << 26  # bytes of all
MAX_FILE_NAME, MAX_MEDIA_TYPE = 255, 128
MAX_DESCRIPTION = 1 << 21  # bytes of JSON
ATTACHMENT_HEAD = struct.Struct("<HH")  # bytes of the name, of the media type


@dataclass(frozen=True)
class Chapter:
    """A named part of the video. `start` and `end` are seconds on the video's time line, as
    fractions of 63 bits over 31."""

    start: Fraction
    end: Fraction
    title: str = ""

    def __post_init__(self) -> None:
        for time in (self.start, self.end):
            if time.denominator > INT31 or abs(time) > MOST_SECONDS:
                raise FormatError(f"a chapter's time {float(time):g} s cannot be stored")
        if self.end < self.start:
            raise FormatError("a chapter ends before it starts")
        text(self.title, "a chapter's title", MAX_TITLE)


@dataclass(frozen=True)
class Attachment:
    """A file that subtitles or players need, such as a font."""

    name: str
    media_type: str  # such as "font/ttf"; empty where the source does not say
    data: bytes

    def __post_init__(self) -> None:
        line(self.name, "an attachment's name", MAX_FILE_NAME)
        line(self.media_type, "an attachment's type", MAX_MEDIA_TYPE)

    def pack(self) -> bytes:
        """The payload of an attachment chunk."""
        name, media_type = self.name.encode(), self.media_type.encode()
        return ATTACHMENT_HEAD.pack(len(name), len(media_type)) + name + media_type + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> Attachment:
        """The inverse of `pack`. Raises FormatError."""
        if len(payload) < ATTACHMENT_HEAD.size:
            raise FormatError("an attachment is too short")
        name_size, type_size = ATTACHMENT_HEAD.unpack_from(payload)
        start = ATTACHMENT_HEAD.size
        middle, end = start + name_size, start + name_size + type_size
        if end > len(payload):
            raise FormatError("an attachment is too short")
        try:
            name, media_type = payload[start:middle].decode(), payload[middle:end].decode()
        except UnicodeDecodeError as error:
            raise FormatError("an attachment's name is no Unicode text") from error
        return cls(name, media_type, payload[end:])


@dataclass(frozen=True)
class Extras:
    """All of it. Raises FormatError where it is more than a file holds.

    Attributes:
        tags: of the whole file, by ffmpeg's names: title, artist, comment, timecode, ...
        chapters: in order of time.
        attachments: files, in the source's order.
    """

    tags: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    def __post_init__(self) -> None:
        most = {"tags": MAX_TAGS, "chapters": MAX_CHAPTERS, "attachments": MAX_ATTACHMENTS}
        for name, count in most.items():
            if len(getattr(self, name)) > count:
                raise FormatError(f"a file holds {count} {name} at most")
        for name, value in self.tags.items():
            line(name, "a tag's name", MAX_TAG_NAME)
            text(value, "a tag", MAX_TAG)
        if sum(len(a.data) for a in self.attachments) > MAX_ATTACHED_BYTES:
            raise FormatError(f"a file holds attachments of {MAX_ATTACHED_BYTES} bytes at most")

    def __bool__(self) -> bool:
        return bool(self.tags or self.chapters or self.attachments)

    def pack_description(self) -> bytes:
        """The payload of the chunk of tags and chapters; empty where there are none."""
        if not self.tags and not self.chapters:
            return b""
        chapters = [[*_parts(c.start), *_parts(c.end), c.title] for c in self.chapters]
        content = json.dumps({"tags": self.tags, "chapters": chapters}, separators=(",", ":"))
        return zlib.compress(content.encode(), 9)

    @classmethod
    def unpack(cls, description: bytes | None, attachments: list[bytes]) -> Extras:
        """The inverse, from the payloads of the chunks. Raises FormatError."""
        tags, chapters = {}, []
        if description is not None:
            what = "the description of tags and chapters"
            content = inflate(description, MAX_DESCRIPTION, what)
            fields = an_object(parse_json(content, what), what, ("tags", "chapters"))
            tags, chapters = fields["tags"], fields["chapters"]
            if not isinstance(tags, dict) or not isinstance(chapters, list):
                raise FormatError(f"{what} is not understood")
        return cls(tags, tuple(map(_chapter, chapters)), tuple(map(Attachment.unpack, attachments)))


def _parts(time: Fraction) -> tuple[int, int]:
    return time.numerator, time.denominator


def _chapter(value: Any) -> Chapter:
    if not isinstance(value, list) or len(value) != 5:
        raise FormatError("a chapter must be a start, an end and a title")
    numbers = [
        whole(part, "a chapter's time", *((1, INT31) if index % 2 else (-INT63, INT63)))
        for index, part in enumerate(value[:4])
    ]
    title = text(value[4], "a chapter's title", MAX_TITLE)
    return Chapter(Fraction(*numbers[:2]), Fraction(*numbers[2:]), title)
