"""Audio and subtitle tracks as bytes: exact times, exact packets, damage refused."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from nervkit.container.track import HEAD, UNKNOWN, Track
from nervkit.errors import FormatError
from nervkit.video.reader import read_clip
from nervkit.video.tracks import track_packets

SOUNDS = {
    "bigbuckbunny.mp4": "aac",
    "robust/androidx_bt601.mov": "aac",
    "robust/imageio_cockatoo.mp4": "mp3",
    "robust/moviepy_fire2.mp4": "aac",
    "robust/moviepy_transparent.webm": "vorbis",
}


@pytest.fixture
def track() -> Track:
    """A track of three packets, the first without a timestamp of its own."""
    times = np.array([[UNKNOWN, -1024, 1024], [0, 0, 1024], [1024, 1024, UNKNOWN]])
    return Track("audio", "aac", "deu", Fraction(1, 48000), times, "mp4", b"a carrier")


def fields_of(track: Track) -> dict[str, Any]:
    return {**vars(track), "times": track.times.tolist()}


def test_what_is_packed_is_unpacked(track: Track) -> None:
    assert fields_of(Track.unpack(track.pack())) == fields_of(track)
    bare = replace(track, kind="subtitle", language="", times=track.times[:1], data=b"x")
    assert fields_of(Track.unpack(bare.pack())) == fields_of(bare)


def test_regular_times_cost_next_to_nothing(track: Track) -> None:
    pts = np.arange(10_000) * 1024
    times = np.stack([pts, pts, np.full_like(pts, 1024)], axis=1)
    regular = replace(track, times=times, data=bytes(10_000))
    assert len(regular.pack()) - 10_000 < 1200  # of 240,000 bytes
    assert np.array_equal(Track.unpack(regular.pack()).times, regular.times)


def test_a_cut_payload_is_refused_or_lacks_the_end_of_its_carrier(track: Track) -> None:
    payload = track.pack()
    least = len(payload) - len(track.data) + len(track.times)  # a byte for each packet
    for size in range(least):
        with pytest.raises(FormatError):
            Track.unpack(payload[:size])
    assert Track.unpack(payload[:least]).data == track.data[: len(track.times)]


def test_no_flipped_bit_crashes(track: Track) -> None:
    payload = track.pack()
    refused = 0
    for bit in range(8 * (len(payload) - len(track.data))):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            Track.unpack(bytes(damaged))
        except FormatError:
            refused += 1
    # What remains is text that may say anything: names of a codec or a language, numbers.
    assert refused > 4 * len(payload)


def packed(description: Any, times: bytes = bytes(24), count: int = 1) -> bytes:
    text = description if isinstance(description, bytes) else json.dumps(description).encode()
    squeezed = zlib.compress(times)
    return HEAD.pack(len(text), len(squeezed), count) + text + squeezed + b"a carrier"


GOOD = {"kind": "audio", "codec": "aac", "language": "", "time_base": [1, 25], "carrier": "mp4"}


@pytest.mark.parametrize(
    "description",
    [
        b"{",
        b"[" * 4000,
        [],
        None,
        {},
        {**GOOD, "kind": "video"},
        {**GOOD, "carrier": "avi"},
        {**GOOD, "time_base": [1, 0]},
        {**GOOD, "time_base": [-1, 25]},
        {**GOOD, "time_base": [0, 1]},
        {**GOOD, "time_base": []},
        {**GOOD, "time_base": 5},
        {**GOOD, "time_base": [1, 2, 3]},
        {**GOOD, "time_base": [float("inf"), 1]},
    ],
)
def test_impossible_descriptions(description: Any) -> None:
    assert Track.unpack(packed(GOOD)).time_base == Fraction(1, 25)
    with pytest.raises(FormatError, match="a track's"):
        Track.unpack(packed(description))


@pytest.mark.parametrize(
    "payload",
    [
        packed(GOOD, bytes(24 * 1000), 1),  # more times than packets
        packed(GOOD, bytes(24), 2),
        packed(GOOD, bytes(23), 1),
        HEAD.pack(1 << 31, 0, 0) + bytes(100),
        HEAD.pack(0, 1 << 31, 0) + bytes(100),
        HEAD.pack(0, 0, (1 << 32) - 1) + bytes(100),
        struct.pack("<III", 2, 3, 1) + b"{}xyz",
    ],
)
def test_impossible_sizes(payload: bytes) -> None:
    with pytest.raises(FormatError):
        Track.unpack(payload)


@pytest.mark.parametrize("name", SOUNDS)
def test_real_packets_survive(clips: Path, name: str) -> None:
    (track,) = read_clip(clips / name, resize="16x16").audio
    assert track.codec == SOUNDS[name]
    back = Track.unpack(track.pack())
    with av.open(str(clips / name)) as container:
        stream = container.streams.audio[0]
        wanted = [(bytes(p), p.pts, p.dts, p.duration) for p in container.demux(stream) if p.size]
        parameters = stream.codec_context.extradata
        assert back.time_base == stream.time_base
    packets = track_packets(back)
    assert [(bytes(p), p.pts, p.dts, p.duration) for p in packets] == wanted
    assert bytes(packets[0].stream.codec_context.extradata or b"") == bytes(parameters or b"")


def test_a_window_moves_its_beginning_to_zero(bunny: Path) -> None:
    (track,) = read_clip(bunny, resize="16x16").audio
    everything = track_packets(track)
    part = track_packets(track, (Fraction(1, 2), Fraction(3, 2)))
    wanted = [p for p in everything if 24000 <= p.pts < 72000]
    assert [(bytes(p), p.pts) for p in part] == [(bytes(p), p.pts - 24000) for p in wanted]
    assert track_packets(track, (Fraction(100), Fraction(200))) == []


def test_damaged_carriers(bunny: Path) -> None:
    (track,) = read_clip(bunny, resize="16x16").audio
    for data in (b"no media" * 100, track.data[:1000]):
        with pytest.raises(FormatError, match="audio track cannot be read"):
            track_packets(replace(track, data=data))
    with pytest.raises(FormatError, match="more packets than its data can hold"):
        replace(track, data=b"no media")
    with pytest.raises(FormatError, match="has lost packets"):
        track_packets(replace(track, times=track.times[:-1]))


def test_several_tracks_keep_their_order_and_language(
    ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    text, path = tmp_path / "text.srt", tmp_path / "many.mkv"
    text.write_text("1\n00:00:00,100 --> 00:00:00,400\nHello\n")
    picture = ["-f", "lavfi", "-i", "testsrc2=size=32x32:rate=10:duration=0.5"]
    sounds = [
        argument
        for frequency in (300, 600)
        for argument in ("-f", "lavfi", "-i", f"sine=frequency={frequency}:duration=0.5")
    ]
    maps = [argument for index in range(4) for argument in ("-map", str(index))]
    languages = ["-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=fre"]
    codecs = ["-c:a:0", "flac", "-c:a:1", "libopus", "-c:s", "srt"]
    ffmpeg(*picture, *sounds, "-i", text, *maps, *languages, *codecs, path)
    clip = read_clip(path)
    found = [(track.kind, track.codec, track.language) for track in clip.tracks]
    assert sorted(found) == [
        ("audio", "flac", "ger"),
        ("audio", "opus", "fre"),
        ("subtitle", "subrip", ""),
    ]
    assert [track.language for track in clip.audio] == ["ger", "fre"]


def test_sound_that_no_carrier_holds_is_reported(
    ffmpeg: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.flv"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=32x32:rate=10:duration=0.5"]
    sound = ["-f", "lavfi", "-i", "sine=duration=0.5", "-ar", "11025", "-c:a", "adpcm_swf"]
    ffmpeg(*picture, *sound, path)
    assert [track.carrier for track in read_clip(path).tracks] == ["nut"]
    monkeypatch.setattr("nervkit.video.tracks.CARRIERS", ("mp4", "mov", "matroska"))
    clip = read_clip(path)
    assert clip.tracks == []
    assert "the audio track (adpcm_swf) cannot be stored: left out" in clip.notes
