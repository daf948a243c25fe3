"""What travels beside pictures and sound: tags, chapters, attached files."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True)
class Chapter:
    """A named part of the video. `start` and `end` are seconds on the video's time line."""

    start: Fraction
    end: Fraction
    title: str = ""


@dataclass(frozen=True)
class Attachment:
    """A file that subtitles or players need, such as a font."""

    name: str
    media_type: str  # such as "font/ttf"; empty where the source does not say
    data: bytes


@dataclass(frozen=True)
class Extras:
    """All of it.

    Attributes:
        tags: of the whole file, by ffmpeg's names: title, artist, comment, timecode, ...
        chapters: in order of time.
        attachments: files, in the source's order.
    """

    tags: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tags or self.chapters or self.attachments)
