"""The payload of the tRAK chunk: an audio or subtitle track, or a part of one."""

from __future__ import annotations

import json
import struct
from typing import Any

from nervkit.container.columns import pack_columns, unpack_columns
from nervkit.container.fields import check_int, check_object, fraction, parse_json
from nervkit.container.limits import MOST_CHUNKS
from nervkit.errors import FormatError
from nervkit.media.checks import line
from nervkit.media.track import FLAGS, MOST_PACKETS, Track

HEAD = struct.Struct("<III")  # bytes of description, bytes of compressed times, packets
MAX_DESCRIPTION = 1 << 13


def pack_track(track: Track, continues: int | None = None) -> bytes:
    """Return the payload of a track chunk, without `track.later`. `continues`: for a later part,
    the index of its track's first chunk among all track chunks."""
    description: dict[str, Any] = {
        "kind": track.kind,
        "codec": track.codec,
        "language": track.language,
        "time_base": [track.time_base.numerator, track.time_base.denominator],
        "carrier": track.carrier,
    }
    if track.title:
        description["title"] = track.title
    if track.flags:
        description["flags"] = list(track.flags)
    if continues is not None:
        description["continues"] = continues
    content = json.dumps(description, separators=(",", ":")).encode()
    times = pack_columns(track.times)
    return HEAD.pack(len(content), len(times), len(track.times)) + content + times + track.data


def unpack_track(payload: bytes) -> Track:
    """Parse a track chunk. Does not open the carrier. Raises FormatError."""
    return unpack_part(payload)[0]


def unpack_part(payload: bytes) -> tuple[Track, int | None]:
    """Parse a track chunk; also return the index of the track chunk that it continues, or None.
    Raises FormatError."""
    size, times_size, count = _sizes(payload)
    start = HEAD.size + size
    fields = check_object(
        parse_json(payload[HEAD.size : start], "a track's description"),
        "a track's description",
        ("kind", "codec", "language", "time_base", "carrier"),
        ("title", "flags", "continues"),
    )
    flags = fields.get("flags", [])
    if not isinstance(flags, list) or not all(flag in FLAGS for flag in flags):
        raise FormatError("a track's flags are invalid")
    times = payload[start : start + times_size]
    continues = fields.get("continues")
    if continues is not None:
        check_int(continues, "what a part of a track continues", 0, MOST_CHUNKS)
    track = Track(
        kind=line(fields["kind"], "a track's kind", 64),
        codec=fields["codec"],
        language=fields["language"],
        time_base=fraction(fields["time_base"], "a track's time base"),
        times=unpack_columns(times, count, 3, "a track's times"),
        carrier=line(fields["carrier"], "a track's carrier", 64),
        data=payload[start + times_size :],
        title=fields.get("title", ""),
        flags=tuple(flags),
    )
    return track, continues


def count_packets(payload: bytes) -> int:
    """Return the number of packets that a track chunk declares. Raises FormatError if its data
    cannot hold so many."""
    return _sizes(payload)[2]


def _sizes(payload: bytes) -> tuple[int, int, int]:
    if len(payload) < HEAD.size:
        raise FormatError("a track is too short")
    size, times_size, count = HEAD.unpack_from(payload)
    left = len(payload) - HEAD.size - size - times_size
    if size > MAX_DESCRIPTION or not 1 <= count <= min(left, MOST_PACKETS):
        raise FormatError("a track's sizes are out of range")
    return size, times_size, count
