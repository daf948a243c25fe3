"""Audio and subtitle tracks as bytes: exact times and packets; damage is refused."""

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

from nervkit.container.track import HEAD, pack_track, unpack_track
from nervkit.container.trackindex import TrackIndex, unpack_tracks
from nervkit.errors import FormatError
from nervkit.media.track import UNKNOWN, Track
from nervkit.video.reader import read_clip
from nervkit.video.tracks import PART_SECONDS, store_track, track_packets

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
    assert fields_of(unpack_track(pack_track(track))) == fields_of(track)
    bare = replace(track, kind="subtitle", language="", times=track.times[:1], data=b"x")
    assert fields_of(unpack_track(pack_track(bare))) == fields_of(bare)


def test_regular_times_cost_next_to_nothing(track: Track) -> None:
    pts = np.arange(10_000) * 1024
    times = np.stack([pts, pts, np.full_like(pts, 1024)], axis=1)
    regular = replace(track, times=times, data=bytes(10_000))
    assert len(pack_track(regular)) - 10_000 < 1200  # of 240,000 bytes
    assert np.array_equal(unpack_track(pack_track(regular)).times, regular.times)


def test_a_cut_payload_is_refused_or_lacks_the_end_of_its_carrier(track: Track) -> None:
    payload = pack_track(track)
    least = len(payload) - len(track.data) + len(track.times)  # a byte for each packet
    for size in range(least):
        with pytest.raises(FormatError):
            unpack_track(payload[:size])
    assert unpack_track(payload[:least]).data == track.data[: len(track.times)]


def test_no_flipped_bit_crashes(track: Track) -> None:
    payload = pack_track(track)
    refused = 0
    for bit in range(8 * (len(payload) - len(track.data))):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            unpack_track(bytes(damaged))
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
    assert unpack_track(packed(GOOD)).time_base == Fraction(1, 25)
    with pytest.raises(FormatError, match="a track's"):
        unpack_track(packed(description))


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
        unpack_track(payload)


@pytest.mark.parametrize("name", SOUNDS)
def test_real_packets_survive(clips: Path, name: str) -> None:
    (track,) = read_clip(clips / name, resize="16x16").audio
    assert track.codec == SOUNDS[name]
    back = unpack_track(pack_track(track))
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
    with pytest.raises(FormatError, match="more than its data can hold"):
        replace(track, data=b"no media")
    with pytest.raises(FormatError, match="holds more than it declares"):
        track_packets(replace(track, times=track.times[:-1]))
    with pytest.raises(FormatError, match="holds less than it declares"):
        track_packets(replace(track, times=np.concatenate([track.times, track.times[-1:]])))


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
    assert any("(adpcm_swf): no carrier can store it" in note for note in clip.notes)


# Parts


def lasting(ffmpeg: Callable[..., bytes], path: Path, seconds: float, *codec: str) -> Path:
    """A file of few pictures with audio of a codec."""
    picture = ["-f", "lavfi", "-i", f"testsrc2=size=16x16:rate=2:duration={seconds}"]
    sound = ["-f", "lavfi", "-i", f"sine=sample_rate=8000:duration={seconds}"]
    ffmpeg(*picture, *sound, "-c:v", "ffv1", "-c:a", *codec, path)
    return path


def carried(track: Track) -> list[tuple[Any, ...]]:
    """Everything known of the packets of a track."""
    return [
        (
            *(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe, p.is_discard),
            sorted((str(side.data_type), bytes(side)) for side in p.iter_sidedata()),
        )
        for p in track_packets(track)
    ]


def test_long_sound_lies_in_parts(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    path = lasting(ffmpeg, tmp_path / "long.mkv", 30, "pcm_s16le")
    [track] = read_clip(path).tracks
    assert len(track.parts) == 3
    assert all(end - begin > 1000 * PART_SECONDS for begin, end in (p.span for p in track.parts))
    sound = sum(len(packet) for packet, *_ in carried(track))
    assert sound == 2 * 8000 * 30
    assert sum(len(pack_track(part, 0)) for part in track.parts) < 1.01 * sound
    with av.open(str(path)) as container:
        wanted = [(bytes(p), p.pts, p.dts, p.duration) for p in container.demux(audio=0) if p.size]
    assert [packet[:4] for packet in carried(track)] == wanted
    assert len({id(p.stream) for p in track_packets(track)}) == 1


@pytest.mark.parametrize("codec", ["aac", "libopus", "libmp3lame", "flac", "wavpack"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_parts_give_back_what_one_does(
    ffmpeg: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
    suffix: str,
) -> None:
    """Side data and flags included, such as samples that a decoder has to skip."""
    if (codec, suffix) == ("wavpack", ".mp4"):
        pytest.skip("MP4 holds no WavPack")
    path = lasting(ffmpeg, tmp_path / f"in{suffix}", 3, codec, "-strict", "-2")
    [whole] = read_clip(path).tracks
    monkeypatch.setattr("nervkit.video.tracks.PART_SHARE", 0)
    monkeypatch.setattr("nervkit.video.tracks.PART_SECONDS", Fraction(1, 2))
    [parts] = read_clip(path).tracks
    assert whole.later == () and len(parts.parts) > 3
    assert carried(parts) == carried(whole)
    contexts = [track_packets(track)[0].stream.codec_context for track in (whole, parts)]
    known = [(c.name, c.extradata, c.sample_rate, c.layout.name, c.frame_size) for c in contexts]
    assert known[0] == known[1]


def test_sound_out_of_order_is_not_parted_there(
    ffmpeg: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervkit.video.tracks.PART_SHARE", 0)
    monkeypatch.setattr("nervkit.video.tracks.PART_SECONDS", Fraction(1, 2))
    with av.open(str(lasting(ffmpeg, tmp_path / "in.mkv", 3, "flac"))) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        assert len(store_track(packets, Fraction(0)).parts) > 3
        times = packets[-1].pts, packets[-1].dts
        packets[-1].pts = packets[-1].dts = None
        assert store_track(packets, Fraction(0)).later == ()
        packets[-1].pts, packets[-1].dts = times
        packets[1].pts = 1700  # ms: shown after much that is decoded later
        track = store_track(packets, Fraction(0))
    begins = [part.span[0] for part in track.parts]
    assert [p.pts for p in track_packets(track)][1] == 1700
    assert len(begins) > 3
    assert all(begin < 600 or begin >= 1700 for begin in begins)


def test_when_a_part_is_there(track: Track) -> None:
    assert track.span == (-22, 22)  # from -1024/48000 to 1024/48000 s
    unknown = replace(track, times=np.full((3, 3), UNKNOWN))
    assert unknown.span == (0, 0)
    endless = replace(track, times=np.array([[5, 5, UNKNOWN]]), time_base=Fraction(2), data=b"x")
    assert endless.span == (10_000, 10_000)


def test_parts_that_run_backwards(track: Track) -> None:
    after = replace(track, times=np.array([[2048, UNKNOWN, 1024], [3072, UNKNOWN, 1024]]))
    assert replace(track, later=(after,)).packets == 5
    for later in ((track,), (after, track)):
        with pytest.raises(FormatError, match="backwards"):
            replace(track, later=later)
    with pytest.raises(FormatError, match="has no timestamps"):
        replace(track, later=(replace(after, times=np.full((2, 3), UNKNOWN)),))
    for change in ({"language": "eng"}, {"title": "b"}, {"flags": ("dub",)}, {"codec": "mp3"}):
        with pytest.raises(FormatError, match="another description than the first"):
            replace(track, later=(replace(after, **change),))


ROWS = ((0, -21, 400), (1, 10, 20), (0, 400, 900), (0, 900, 900), (1, 20, 5000))


def test_the_index_finds_the_parts_of_a_time() -> None:
    index = TrackIndex.unpack(TrackIndex(ROWS).pack(), len(ROWS))
    assert index.rows == ROWS
    assert index.tracks == [0, 1]

    def found(start: str, stop: str) -> tuple[list[int], list[int]]:
        window = Fraction(start), Fraction(stop)
        return index.within(window), index.covering(window)

    assert found("0", "0.005") == ([0], [0, 1])
    assert found("0.0201", "0.4") == ([0, 4], [0, 4])
    assert found("0.9", "0.9001") == ([2, 3, 4], [2, 3, 4])
    assert found("0.9001", "9") == ([4], [0, 4])
    assert found("6", "7") == ([], [0, 1])


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 0, 1), (1, 0, 1)],  # of a track that begins later
        [(0, 0, 1), (0, 1, 2), (1, 2, 3)],  # continues what is no first part
        [(-1, 0, 1)],
        [(0, 5, 4)],
        [(0, 5, 6), (0, 4, 6)],  # out of order
        [(0, 0, 1 << 43)],
        [(0, -(1 << 43), 0)],
    ],
)
def test_impossible_indexes(rows: list[tuple[int, int, int]]) -> None:
    payload = TrackIndex(tuple(rows)).pack()
    with pytest.raises(FormatError, match="index of tracks"):
        TrackIndex.unpack(payload, len(rows))
    assert TrackIndex.unpack(TrackIndex(ROWS[:2]).pack(), 2).rows == ROWS[:2]
    for count in (1, 3):
        with pytest.raises(FormatError, match="index of tracks"):
            TrackIndex.unpack(TrackIndex(ROWS[:2]).pack(), count)


def test_an_index_that_tells_otherwise(track: Track) -> None:
    after = replace(track, times=np.array([[2048, 2048, 1024]]))
    payloads = {0: pack_track(track), 1: pack_track(after, 0), 2: pack_track(track)}
    rows = ((0, *track.span), (0, *after.span), (2, *track.span))
    both = replace(track, later=(after,))
    assert unpack_tracks(payloads, TrackIndex(rows)) == [both, track]
    assert unpack_tracks({1: payloads[1]}, TrackIndex(rows)) == [after]
    for place in range(3):
        for row in ((place, 0, 0), (1, *rows[place][1:])):
            wrong = (*rows[:place], row, *rows[place + 1 :])
            with pytest.raises(FormatError, match="contradicts a part"):
                unpack_tracks(payloads, TrackIndex(wrong))
    with pytest.raises(FormatError, match="continues a track that is not before"):
        unpack_tracks({0: pack_track(track, 0)}, TrackIndex(rows))
