"""Audio, subtitles, titles, flags, tags, chapters and attachments in movies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from nervkit.media.extras import Attachment, Chapter, Extras
from nervkit.media.timing import Timing
from nervkit.media.track import FLAGS, UNKNOWN
from nervkit.video.clip import Clip
from nervkit.video.movies import MovieOptions
from nervkit.video.reader import read_clip
from nervkit.video.stream import Stream
from nervkit.video.tracks import track_packets
from nervkit.video.writer import write_video

FFmpeg = Callable[..., bytes]
MOVIES = [".mp4", ".mov", ".mkv", ".webm"]
DEFAULTS = MovieOptions()
TIMING = Timing(np.arange(20), Fraction(1, 10), 1)

SUBRIP = """1
00:00:00,100 --> 00:00:00,350
Hello
there

2
00:00:00,400 --> 00:00:01,480
<i>again</i>, <b>äöü</b> 日本

3
00:00:01,500 --> 00:00:01,900
rock & roll

"""
OVERLAPPING = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
Style: Sign,Arial,40,&H00ff00,&Hffffff,&H0,&H0,1,0,0,0,100,100,0,0,1,1,0,8,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.20,0:00:01.00,Sign,,0,0,0,,{\\pos(10,10)}SIGN
Dialogue: 0,0:00:00.20,0:00:00.60,Default,,0,0,0,,First, with a comma
Dialogue: 0,0:00:00.60,0:00:01.20,Default,,0,0,0,,Second
"""


def stream_of(clip: Clip | None = None, **fields: Any) -> Stream:
    """Two seconds of small pictures, with a clip's tracks."""
    frames = np.random.default_rng(1).integers(0, 256, (20, 1, 1, 3), np.uint8)
    tracks = tuple(clip.tracks) if clip else ()
    fields = {"timing": TIMING, "tracks": tracks} | fields
    pictures = np.tile(frames, (1, 16, 16, 1))[: len(fields["timing"])]
    return Stream(pictures, 16, 16, **fields)


@pytest.fixture
def subtitled(ffmpeg: FFmpeg, tmp_path: Path) -> Callable[..., Clip]:
    """Makes a clip of two seconds with text subtitles of a codec."""

    def make(codec: str, text: str = SUBRIP) -> Clip:
        form = "ass" if text.startswith("[") else "srt"
        suffix = {"mov_text": ".mp4", "webvtt": ".webm"}.get(codec, ".mkv")
        written, path = tmp_path / f"text.{form}", tmp_path / f"in{suffix}"
        written.write_text(text)
        picture = ["-f", "lavfi", "-i", "testsrc2=size=16x16:rate=10:duration=2"]
        ffmpeg(*picture, "-i", written, "-c:s", codec, "-metadata:s:s:0", "language=ger", path)
        return read_clip(path)

    return make


def shown(ffmpeg: FFmpeg, path: Path) -> list[tuple[str, str]]:
    """Times and text of the subtitles, as ffmpeg reads them."""
    text = ffmpeg("-i", path, "-f", "srt", "-").decode()
    blocks = [block.split("\n", 2) for block in text.strip().split("\n\n")]
    return [(times, words) for _, times, words in blocks]


# Sound


@pytest.fixture
def telephone(ffmpeg: FFmpeg, tmp_path: Path) -> Callable[[str], Clip]:
    """Makes a clip with G.711 audio."""

    def make(codec: str) -> Clip:
        path = tmp_path / "in.avi"
        picture = ["-f", "lavfi", "-i", "testsrc2=size=16x16:rate=10:duration=2"]
        sound = ["-f", "lavfi", "-i", "sine=sample_rate=8000:duration=2"]
        ffmpeg(*picture, *sound, "-c:a", codec, path)
        return read_clip(path)

    return make


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw"])
@pytest.mark.parametrize("name", ["out.mkv", "o u't|[f=nut]\\:a.mkv", " x .mkv"])
def test_matroska_holds_telephone_sound(
    ffmpeg: FFmpeg, telephone: Callable[[str], Clip], tmp_path: Path, codec: str, name: str
) -> None:
    clip = telephone(codec)
    path = tmp_path / name
    extras = replace(ATTACHED, tags={"title": "T"})
    assert write_video(str(path), stream_of(clip, extras=extras), DEFAULTS) == []
    assert sorted(tmp_path.iterdir()) == sorted([path, tmp_path / "in.avi"])
    with av.open(f"file:{path}") as container:
        assert [s.type for s in container.streams] == ["video", "audio", "attachment", "attachment"]
        assert container.streams.audio[0].codec_context.name == codec
        assert container.metadata["title"] == "T"
        packets = [p for p in container.demux(audio=0) if p.size]
    assert [bytes(p) for p in packets] == [bytes(p) for p in track_packets(clip.tracks[0])]
    heard = ffmpeg("-i", f"file:{path}", "-map", "0:a", "-f", "s16le", "-")
    assert heard == ffmpeg("-i", tmp_path / "in.avi", "-map", "0:a", "-f", "s16le", "-")


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_telephone_sound_elsewhere(
    telephone: Callable[[str], Clip], tmp_path: Path, suffix: str
) -> None:
    notes = write_video(str(tmp_path / f"out{suffix}"), stream_of(telephone("pcm_alaw")), DEFAULTS)
    assert notes == [f"{suffix} cannot hold pcm_alaw audio: left out (.mkv holds everything)"]


def test_chapters_are_missed_beside_telephone_sound(
    telephone: Callable[[str], Clip], tmp_path: Path
) -> None:
    stream = stream_of(telephone("pcm_alaw"), extras=Extras(chapters=CHAPTERS))
    notes = write_video(str(tmp_path / "out.mkv"), stream, DEFAULTS)
    assert notes == [".mkv holds 0 of 3 chapters"]


SOUNDS = (
    "flac",
    "truehd",
    "libopus",
    "libvorbis",
    "ac3",
    "mp2",
    "alac",
    "pcm_s16le",
    "pcm_u8",
    "aac",
)
REFUSED = {
    ".mp4": {"truehd", "pcm_u8"},
    ".mov": {"flac", "truehd", "opus", "vorbis"},
    ".mkv": set(),
    ".webm": {"flac", "truehd", "ac3", "mp2", "alac", "pcm_s16le", "pcm_u8", "aac"},
}


@pytest.mark.parametrize("encoder", SOUNDS)
def test_sound_is_copied_or_noted(ffmpeg: FFmpeg, tmp_path: Path, encoder: str) -> None:
    """A muxer that refuses a codec only when it begins to write does not fail the movie."""
    source = tmp_path / "in.mkv"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=16x16:rate=10:duration=0.5"]
    sound = ["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=0.5", "-ac", "2"]
    ffmpeg(*picture, *sound, "-strict", "-2", "-c:a", encoder, source)
    clip = read_clip(source)
    (track,) = clip.tracks
    for suffix in MOVIES:
        path = tmp_path / f"out{suffix}"
        notes = write_video(str(path), stream_of(clip), DEFAULTS)
        with av.open(str(path)) as container:
            copied = [
                bytes(p) for s in container.streams.audio for p in container.demux(s) if p.size
            ]
        if track.codec in REFUSED[suffix]:
            assert "left out" in notes[0]
            assert copied == []
        else:
            assert notes == []
            assert b"".join(copied) == b"".join(bytes(p) for p in track_packets(track))


# Text subtitles


FORMS = {".mp4": "mov_text", ".mov": "mov_text", ".webm": "webvtt"}


@pytest.mark.parametrize("suffix", MOVIES)
@pytest.mark.parametrize("codec", ["subrip", "ass", "mov_text", "webvtt"])
def test_text_subtitles_reach_every_format(
    ffmpeg: FFmpeg, subtitled: Callable[..., Clip], tmp_path: Path, codec: str, suffix: str
) -> None:
    clip = subtitled(codec)
    path = tmp_path / f"out{suffix}"
    notes = write_video(str(path), stream_of(clip), DEFAULTS)
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        kept = stream.codec_context.codec.canonical_name
        assert stream.language == "ger"
    form = FORMS.get(suffix) or ("ass" if codec == "mov_text" else codec)
    assert kept == form
    if form == codec:
        assert notes == []
    else:
        assert notes == [
            f"{suffix} cannot hold {codec} subtitle: converted to {form}, which may lose styles"
        ]
    texts = shown(ffmpeg, path)
    assert [times for times, _ in texts] == [
        "00:00:00,100 --> 00:00:00,350",
        "00:00:00,400 --> 00:00:01,480",
        "00:00:01,500 --> 00:00:01,900",
    ]
    assert texts[0][1] == "Hello\nthere"
    for word in ("again", "äöü", "日本", "<i>", "<b>"):
        assert word in texts[1][1]
    assert "rock & roll" in texts[2][1]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_mp4_shows_one_subtitle_at_a_time(
    ffmpeg: FFmpeg, subtitled: Callable[..., Clip], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    write_video(str(path), stream_of(subtitled("ass", OVERLAPPING)), DEFAULTS)
    found = [(times, text.split("\n")) for times, text in shown(ffmpeg, path)]
    plain = [
        (t, [line.split(">")[-2].split("<")[0] if ">" in line else line for line in text])
        for t, text in found
    ]
    assert plain == [
        ("00:00:00,200 --> 00:00:00,600", ["SIGN", "First, with a comma"]),
        ("00:00:00,600 --> 00:00:01,000", ["SIGN", "Second"]),
        ("00:00:01,000 --> 00:00:01,200", ["Second"]),
    ]


def test_subtitles_that_cannot_be_read_are_noted(
    ffmpeg: FFmpeg, subtitled: Callable[..., Clip], tmp_path: Path
) -> None:
    clip = subtitled("subrip")
    latin = clip.tracks[0].data.replace(b"Hello", b"H\xe9llo")  # no UTF-8
    clip.tracks[0] = replace(clip.tracks[0], data=latin)
    path = tmp_path / "out.mp4"
    notes = write_video(str(path), stream_of(clip), DEFAULTS)
    assert notes[1:] == ["nervkit drops 1 unreadable subtitles (subrip)"]
    assert len(shown(ffmpeg, path)) == 2
    assert write_video(str(tmp_path / "out.mkv"), stream_of(clip), DEFAULTS) == []  # a copy


def test_pictures_for_subtitles_are_left_out(
    ffmpeg: FFmpeg, tmp_path: Path, subtitled: Callable[..., Clip]
) -> None:
    picture = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=2"]
    drawn = tmp_path / "drawn.mkv"
    # ffmpeg draws no text, so the pictures come from nowhere: an empty DVD subtitle.
    with av.open(str(drawn), "w") as container:
        stream = container.add_mux_stream("dvd_subtitle", time_base=Fraction(1, 1000))
        packet = av.Packet(bytes([0, 8, 0, 4, 0, 0, 0, 0]))
        packet.pts = packet.dts = 100
        packet.duration, packet.time_base, packet.stream = 500, Fraction(1, 1000), stream
        container.mux(packet)
    path = tmp_path / "in.mkv"
    ffmpeg(*picture, "-i", drawn, "-map", "0", "-map", "1", "-c:s", "copy", path)
    clip = read_clip(path)
    assert [track.codec for track in clip.tracks] == ["dvd_subtitle"]
    notes = write_video(str(tmp_path / "out.webm"), stream_of(clip), DEFAULTS)
    assert notes == [".webm cannot hold dvd_subtitle subtitle: left out (.mkv holds everything)"]
    assert write_video(str(tmp_path / "out.mkv"), stream_of(clip), DEFAULTS) == []


# Cuts


@pytest.mark.parametrize("suffix", MOVIES)
def test_what_is_on_screen_at_a_cut_stays(
    ffmpeg: FFmpeg, subtitled: Callable[..., Clip], tmp_path: Path, suffix: str
) -> None:
    clip = subtitled("subrip")
    part = Timing(np.arange(5), Fraction(1, 10), 1)
    window = (Fraction(9, 10), Fraction(16, 10))
    path = tmp_path / f"out{suffix}"
    write_video(str(path), stream_of(clip, timing=part, window=window), DEFAULTS)
    assert [times for times, _ in shown(ffmpeg, path)] == [
        "00:00:00,000 --> 00:00:00,580",
        "00:00:00,600 --> 00:00:00,700",
    ]


def test_packets_of_a_window(subtitled: Callable[..., Clip]) -> None:
    (track,) = subtitled("subrip").tracks

    def times(start: Fraction | int, end: Fraction | int) -> list[tuple[int, int, int]]:
        packets = track_packets(track, (Fraction(start), Fraction(end)))
        return [(p.pts, p.dts, p.duration) for p in packets]

    assert times(0, 2) == [(100, 100, 250), (400, 400, 1080), (1500, 1500, 400)]
    assert times(Fraction(35, 100), Fraction(4, 10)) == []  # between two
    assert times(Fraction(3, 10), Fraction(1)) == [(0, 0, 50), (100, 100, 600)]
    assert times(5, 6) == []
    # Without a duration, a subtitle is where it begins.
    endless = track.times.copy()
    endless[:, 2] = UNKNOWN
    track = replace(track, times=endless)
    assert times(Fraction(3, 10), Fraction(1)) == [(100, 100, 0)]


def test_a_part_without_a_track_says_so(subtitled: Callable[..., Clip], tmp_path: Path) -> None:
    clip = subtitled("subrip")
    part = Timing(np.arange(1), Fraction(1, 100), 1)
    stream = stream_of(clip, timing=part, window=(Fraction(36, 100), Fraction(37, 100)))
    notes = write_video(str(tmp_path / "out.mp4"), stream, DEFAULTS)
    assert notes == ["the subrip subtitle track has nothing in this part"]


# Titles and flags


@pytest.mark.parametrize("suffix", MOVIES)
@pytest.mark.parametrize("flag", FLAGS)
def test_titles_and_flags_are_kept_or_noted(
    subtitled: Callable[..., Clip], tmp_path: Path, suffix: str, flag: str
) -> None:
    clip = subtitled({".mkv": "subrip", ".webm": "webvtt"}.get(suffix, "mov_text"))
    clip.tracks[0] = replace(clip.tracks[0], title="Schilder, ä", flags=("forced", flag))
    path = tmp_path / f"out{suffix}"
    notes = write_video(str(path), stream_of(clip), DEFAULTS)
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        assert "Schilder, ä" in stream.metadata.values()
        kept = bool(stream.disposition & Disposition[flag])
        assert stream.disposition & Disposition.forced or "'forced'" in notes[0]
    assert kept != any(f"flag '{flag}' of track 1 (subtitle): left out" in note for note in notes)


# Tags


TAGS = {
    "title": "Ein Film, ä",
    "artist": "A",
    "comment": "two\nlines",
    "creation_time": "2020-01-02T03:04:05.000000Z",
    "encoder": "another",
    "timecode": "01:00:00:00",
}
FILM = Timing(np.arange(20), Fraction(1, 25), 1)


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {
            name.lower().replace(" ", "_"): value
            for part in (*container.streams, container)
            for name, value in part.metadata.items()
        }


@pytest.mark.parametrize("suffix", MOVIES)
@pytest.mark.parametrize("more", [{}, {"my_own tag": "kept", "episode_id": "E1"}])
def test_tags_are_kept(ffmpeg: FFmpeg, tmp_path: Path, suffix: str, more: dict[str, str]) -> None:
    path = tmp_path / f"out{suffix}"
    stream = stream_of(timing=FILM, extras=Extras(TAGS | more))
    assert write_video(str(path), stream, DEFAULTS) == []
    found = tags_of(path)
    wanted = {name.replace(" ", "_"): value for name, value in (TAGS | more).items()}
    assert (wanted | {"encoder": found["encoder"]}).items() <= found.items()
    assert found["encoder"] != "another"
    assert "title=Ein Film, ä" in ffmpeg("-i", path, "-f", "ffmetadata", "-").decode()


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_tag_that_is_lost_is_noted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    notes = write_video(str(path), stream_of(extras=Extras({"timecode": "noon"})), DEFAULTS)
    assert notes == [f"{suffix} cannot hold the tags timecode: left out"]


# Chapters


CHAPTERS = (
    Chapter(Fraction(0), Fraction(1, 2), "One"),
    Chapter(Fraction(1, 2), Fraction(3, 2), "Zwei, ä"),
    Chapter(Fraction(3, 2), Fraction(7), ""),  # longer than the movie
)


def chapters_of(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (
                round(float(c["start"] * c["time_base"]), 3),
                round(float(c["end"] * c["time_base"]), 3),
                c["metadata"].get("title", ""),
            )
            for c in container.chapters()
        ]


@pytest.mark.parametrize("suffix", MOVIES)
def test_chapters_are_kept(ffmpeg: FFmpeg, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    extras = Extras(chapters=CHAPTERS)
    assert write_video(str(path), stream_of(extras=extras), DEFAULTS) == []
    assert chapters_of(path) == [(0, 0.5, "One"), (0.5, 1.5, "Zwei, ä"), (1.5, 2, "")]
    assert ffmpeg("-i", path, "-f", "ffmetadata", "-").decode().count("[CHAPTER]") == 3
    with av.open(str(path)) as container:
        assert container.duration == 2_000_000


@pytest.mark.parametrize("suffix", MOVIES)
def test_chapters_are_cut_with_the_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    window = (Fraction(6, 10), Fraction(16, 10))
    stream = stream_of(timing=TIMING[:10], extras=Extras(chapters=CHAPTERS), window=window)
    assert write_video(str(path), stream, DEFAULTS) == []
    assert chapters_of(path) == [(0, 0.9, "Zwei, ä"), (0.9, 1, "")]


@pytest.fixture
def primed(ffmpeg: FFmpeg, tmp_path: Path) -> Clip:
    """A clip whose AAC audio begins with priming before 0."""
    picture = ["-f", "lavfi", "-i", "testsrc2=size=16x16:rate=10:duration=2"]
    sound = ["-f", "lavfi", "-i", "sine=sample_rate=44100:duration=2"]
    ffmpeg(*picture, *sound, "-c:a", "aac", tmp_path / "in.mp4")
    clip = read_clip(tmp_path / "in.mp4")
    assert clip.tracks[0].times[0, 0] < 0
    return clip


def test_chapters_go_with_the_pictures_where_priming_comes_first(
    primed: Clip, tmp_path: Path
) -> None:
    """Matroska begins with the audio's priming, which delays all packets."""
    stream = stream_of(primed, extras=Extras(chapters=CHAPTERS))
    write_video(str(tmp_path / "out.mkv"), stream, DEFAULTS)
    with av.open(str(tmp_path / "out.mkv")) as container:
        first = next(float(p.pts * p.time_base) for p in container.demux(video=0))
    starts = [start for start, *_ in chapters_of(tmp_path / "out.mkv")]
    assert first > 0.01
    assert starts == pytest.approx([first, first + 0.5, first + 1.5], abs=0.002)


def test_chapters_stay_where_the_sound_with_priming_is_left_out(
    primed: Clip, tmp_path: Path
) -> None:
    stream = stream_of(primed, extras=Extras(chapters=CHAPTERS))
    notes = write_video(str(tmp_path / "out.webm"), stream, DEFAULTS)
    assert notes == [".webm cannot hold aac audio: left out (.mkv holds everything)"]
    assert [start for start, *_ in chapters_of(tmp_path / "out.webm")] == [0, 0.5, 1.5]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_what_31_bits_cannot_count_is_left_out_of_mp4(tmp_path: Path, suffix: str) -> None:
    """libavformat would abort the process."""
    longest = 2**31 - 1
    for ticks, chapter, left_out in (
        (longest, Fraction(longest, 1000), []),
        (longest + 1, Fraction(longest, 1000), [f"{suffix} cannot hold a timecode for a video"]),
        (
            longest + 1,
            Fraction(longest + 1, 1000),
            [f"{suffix} cannot hold a timecode", "chapters"],
        ),
    ):
        timing = Timing(
            np.array([0, 10**9, 2 * 10**9 + 1]), Fraction(1, 1000), ticks - 2 * 10**9 - 1
        )
        extras = Extras({"timecode": "01:00:00:00"}, (Chapter(Fraction(0), chapter, "one"),))
        path = tmp_path / f"{ticks}{suffix}"
        notes = write_video(str(path), stream_of(timing=timing, extras=extras), DEFAULTS)
        assert len(notes) == len(left_out), notes
        assert all(words in note for words, note in zip(left_out, notes, strict=True))
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 3


def test_odd_times_of_chapters(tmp_path: Path) -> None:
    chapter = Chapter(Fraction(1, 999_999_937), Fraction(10**9, 999_999_937), "odd")
    timing = Timing(np.arange(5) * 70_000_001, Fraction(1, 2147483647), 70_000_001)
    window = (Fraction(7, 999_999_929), Fraction(1))
    stream = stream_of(timing=timing, extras=Extras(chapters=(chapter,)), window=window)
    write_video(str(tmp_path / "out.mp4"), stream, DEFAULTS)
    assert [title for *_, title in chapters_of(tmp_path / "out.mp4")] == ["odd"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_chapters_that_mp4_changes_are_noted(tmp_path: Path, suffix: str) -> None:
    late = Extras(chapters=(Chapter(Fraction(1), Fraction(2), "late"),))
    notes = write_video(str(tmp_path / f"out{suffix}"), stream_of(extras=late), DEFAULTS)
    assert notes == [f"{suffix} needs contiguous chapters from 0 on: chapter times were changed"]
    assert write_video(str(tmp_path / "out.mkv"), stream_of(extras=late), DEFAULTS) == []
    assert chapters_of(tmp_path / "out.mkv") == [(1, 2, "late")]


# Attached files


ATTACHED = Extras(
    attachments=(
        Attachment("a font.ttf", "font/ttf", b"\0\1\2" * 1000),
        Attachment("", "", b"x"),
    )
)


def test_attached_files_are_kept(tmp_path: Path, subtitled: Callable[..., Clip]) -> None:
    path = tmp_path / "out.mkv"
    stream = stream_of(subtitled("ass"), extras=ATTACHED)
    assert write_video(str(path), stream, DEFAULTS) == []
    with av.open(str(path)) as container:
        found = [s for s in container.streams if s.type == "attachment"]
        assert [s.metadata["filename"] for s in found] == ["a font.ttf", "attachment"]
        assert found[0].metadata["mimetype"] == "font/ttf"
        assert [bytes(s.data) for s in found] == [a.data for a in ATTACHED.attachments]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_attached_files_are_noted(tmp_path: Path, suffix: str) -> None:
    notes = write_video(str(tmp_path / f"out{suffix}"), stream_of(extras=ATTACHED), DEFAULTS)
    assert notes == [f"{suffix} cannot hold attachments (a font.ttf): use .mkv"]


@pytest.mark.parametrize(
    "output, kind", [("a.y4m", "y4m"), ("a.npy", ".npy"), ("frames", "images")]
)
def test_what_is_no_movie_holds_none_of_it(
    subtitled: Callable[..., Clip], tmp_path: Path, output: str, kind: str
) -> None:
    extras = Extras(TAGS, CHAPTERS, ATTACHED.attachments)
    stream = stream_of(subtitled("subrip"), extras=extras)
    notes = write_video(str(tmp_path / output), stream, DEFAULTS)
    assert notes == [
        f"{kind} cannot hold the subtitle and tags and chapters and attachments: left out"
    ]
