"""Payloads of the chunks for tags, chapters and attachments."""

from __future__ import annotations

import json
import struct
import zlib
from fractions import Fraction
from typing import Any

from nervkit.container.chunks import inflate
from nervkit.container.fields import check_int, check_object, parse_json
from nervkit.errors import FormatError
from nervkit.media.checks import INT31, INT63, text
from nervkit.media.extras import MAX_TITLE, Attachment, Chapter, Extras

MAX_DESCRIPTION = 1 << 21  # bytes of JSON
ATTACHMENT_HEAD = struct.Struct("<HH")  # byte length of the name, of the media type


def pack_attachment(attachment: Attachment) -> bytes:
    """Return the payload of an attachment chunk."""
    name, media_type = attachment.name.encode(), attachment.media_type.encode()
    return ATTACHMENT_HEAD.pack(len(name), len(media_type)) + name + media_type + attachment.data


def unpack_attachment(payload: bytes) -> Attachment:
    """Parse the payload of an attachment chunk. Raises FormatError."""
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
        raise FormatError("an attachment's name is not valid Unicode text") from error
    return Attachment(name, media_type, payload[end:])


def pack_description(extras: Extras) -> bytes:
    """Return the payload of the chunk for tags and chapters, empty if there are none."""
    if not extras.tags and not extras.chapters:
        return b""
    chapters = [[*_parts(c.start), *_parts(c.end), c.title] for c in extras.chapters]
    content = json.dumps({"tags": extras.tags, "chapters": chapters}, separators=(",", ":"))
    return zlib.compress(content.encode(), 9)


def unpack_extras(description: bytes | None, attachments: list[bytes]) -> Extras:
    """Parse the payloads of the description chunk and the attachment chunks. Raises FormatError."""
    tags, chapters = {}, []
    if description is not None:
        what = "the description of tags and chapters"
        content = inflate(description, MAX_DESCRIPTION, what)
        fields = check_object(parse_json(content, what), what, ("tags", "chapters"))
        tags, chapters = fields["tags"], fields["chapters"]
        if not isinstance(tags, dict) or not isinstance(chapters, list):
            raise FormatError(f"{what} is invalid")
    return Extras(tags, tuple(map(_chapter, chapters)), tuple(map(unpack_attachment, attachments)))


def _parts(time: Fraction) -> tuple[int, int]:
    return time.numerator, time.denominator


def _chapter(value: Any) -> Chapter:
    if not isinstance(value, list) or len(value) != 5:
        raise FormatError("a chapter must be a start, an end and a title")
    numbers = [
        check_int(part, "a chapter's time", *((1, INT31) if index % 2 else (-INT63, INT63)))
        for index, part in enumerate(value[:4])
    ]
    title = text(value[4], "a chapter's title", MAX_TITLE)
    return Chapter(Fraction(*numbers[:2]), Fraction(*numbers[2:]), title)
