"""Timestamps in movies: exact, rounded to the millisecond with a note, or refused; never
wrapped."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nervkit.errors import OutputError
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.video.clocks import movie_clock, mp4_clock, plain_ratio
from nervkit.video.movies import CODECS, MovieOptions
from nervkit.video.reader import read_clip
from nervkit.video.stream import Stream
from nervkit.video.tracks import track_packets
from nervkit.video.writer import write_video

FFmpeg = Callable[..., bytes]
MILLISECOND = Fraction(1, 1000)
NANO = Fraction(1, 10**9)


def jittered(count: int, rate: int) -> Timing:
    """About 25 frames a second, in a time base of `rate` ticks a second."""
    steps = np.random.default_rng(3).integers(rate // 33, rate // 20, count)
    return Timing(np.cumsum(steps) - steps[0], Fraction(1, rate), rate // 25)


TIMINGS = {
    "10 MHz": jittered(60, 10_000_000),
    "1 us": jittered(60, 1_000_000),
    "90 kHz": jittered(60, 90_000),
    "1 ns with a gap of 8 s": Timing(np.array([0, 40, 80, 8080, 8120]) * 10**6, NANO, 40 * 10**6),
    "NTSC by a numerator": Timing(np.arange(10), Fraction(1001, 30000), 1),
    "one frame in three seconds": Timing(np.arange(5) * 3, Fraction(1), 3),
    "from 5 s on": Timing(np.arange(10) * 512 + 5 * 12800, Fraction(1, 12800), 512),
    "one frame": Timing(np.array([0]), Fraction(1, 25), 1),
    "a day's gap": Timing(
        np.array([0, 86400 * 90000, 86400 * 90000 + 3000]), Fraction(1, 90000), 3000
    ),
    "a mean rate of large numbers": Timing(
        np.cumsum([0, *[33_333, 50_021, 16_651] * 9]), Fraction(1, 10**6), 33_347
    ),
    "300 fps": Timing(np.arange(20), Fraction(1, 300), 1),
    "a frame in a day": Timing(np.arange(3) * 86400, Fraction(1), 86400),
}


def stream_of(timing: Timing, **fields: object) -> Stream:
    """Frames of one colour each."""
    colours = np.random.default_rng(1).integers(0, 256, (len(timing), 1, 1, 3), np.uint8)
    return Stream((np.tile(c, (16, 16, 1)) for c in colours), 16, 16, timing, **fields)


def seconds_of(timing: Timing) -> list[Fraction]:
    """The start of each frame and the end of the last one."""
    return [t * timing.time_base for t in [*timing.pts.tolist(), timing.pts[-1] + timing.duration]]


def written(path: Path) -> list[Fraction]:
    """The same times of a movie, from its demuxer."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        packets = [p for p in container.demux(video) if p.size]
        pts = sorted(p.pts * p.time_base for p in packets)
        if path.suffix in (".mp4", ".mov"):
            return [*pts, (video.start_time + video.duration) * video.time_base]
        return [*pts, pts[-1] + max(packets, key=lambda p: p.pts).duration * video.time_base]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", TIMINGS)
def test_times_survive(tmp_path: Path, name: str, codec: str) -> None:
    timing = TIMINGS[name]
    wanted = seconds_of(timing)
    for suffix in CODECS[codec].suffixes:
        path = tmp_path / f"out{suffix}"
        notes = write_video(str(path), stream_of(timing), MovieOptions(codec=codec))
        times = written(path)
        if suffix in (".mp4", ".mov"):
            assert times == wanted
            assert notes == []
        else:
            # The nearest millisecond; the last duration is that of two rounded times.
            assert len(times) == len(wanted)
            assert all(
                abs(a - b) <= MILLISECOND / 2 for a, b in zip(times[:-1], wanted[:-1], strict=True)
            )
            assert abs(times[-1] - wanted[-1]) <= 2 * MILLISECOND
            exact = all(t % MILLISECOND == 0 for t in wanted[:-1])
            assert [note[:15] for note in notes] == ["Matroska rounds"] * (not exact)


@pytest.mark.parametrize("suffix, count", [(".mp4", 30000), (".mkv", 3000)])
def test_many_frames_at_90_khz(ffmpeg: FFmpeg, tmp_path: Path, suffix: str, count: int) -> None:
    steps = np.random.default_rng(5).integers(2700, 3300, count)
    timing = Timing(np.cumsum(steps), Fraction(1, 90000), 3003)
    path = tmp_path / f"long{suffix}"
    frame = np.zeros((16, 16, 3), np.uint8)
    options = MovieOptions()
    write_video(str(path), Stream((frame for _ in steps), 16, 16, timing), options)
    wanted, times = seconds_of(timing), written(path)
    if suffix == ".mp4":
        assert times == wanted
        # ... and ffmpeg, which shares no code with PyAV's build, sees the same.
        listed = ffmpeg("-i", path, "-c", "copy", "-copyts", "-f", "framecrc", "-").decode()
        rows = [line.split(",") for line in listed.splitlines() if not line.startswith("#")]
        assert [int(row[2]) for row in rows] == timing.pts.tolist()
    else:
        assert len(times) == len(wanted)
        assert (
            max(abs(a - b) for a, b in zip(times[:-1], wanted[:-1], strict=True)) <= MILLISECOND / 2
        )


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_what_32_bits_cannot_hold_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    odd = Timing(np.array([0, 40_000_001, 8_080_000_000]), NANO, 40 * 10**6)
    with pytest.raises(OutputError, match=r"out\.m.*cannot hold .*\.mkv"):
        write_video(str(path), stream_of(odd), MovieOptions())
    assert list(tmp_path.iterdir()) == []


def test_only_the_last_duration_is_rounded(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    timing = Timing(np.array([0, 40, 80, 8080, 8120]) * 10**6, NANO, 33_333_333)
    notes = write_video(str(path), stream_of(timing), MovieOptions())
    assert notes == ["MP4 rounds the duration of the last frame"]
    times, wanted = written(path), seconds_of(timing)
    assert times[:-1] == wanted[:-1]
    assert 0 < abs(times[-1] - wanted[-1]) < Fraction(1, 10**8)


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_frames_within_a_millisecond_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    fast = Timing(np.array([0, 1, 2, 9]), Fraction(1, 2000), 1)
    with pytest.raises(OutputError, match=r"out\..*frames 1 and 2 equal; use \.mp4"):
        write_video(str(path), stream_of(fast), MovieOptions())
    assert list(tmp_path.iterdir()) == []
    assert write_video(str(tmp_path / "out.mp4"), stream_of(fast), MovieOptions()) == []
    assert written(tmp_path / "out.mp4") == seconds_of(fast)


def test_b_frames_of_a_constant_rate_are_kept(tmp_path: Path, bunny: Path) -> None:
    frames = read_clip(bunny, frames=":12", crop="160x96").frames
    timing = Timing(np.arange(12) * 1001, Fraction(1, 30000), 1001)
    for suffix in (".mp4", ".mkv"):
        path = tmp_path / f"out{suffix}"
        write_video(str(path), Stream(frames, 160, 96, timing), MovieOptions())
        with av.open(str(path)) as container:
            order = [p.pts for p in container.demux(video=0) if p.size]
        assert order != sorted(order)
        wanted = seconds_of(timing)
        assert all(
            abs(a - b) <= MILLISECOND / 2 for a, b in zip(written(path), wanted, strict=True)
        )


@pytest.fixture
def sound(ffmpeg: FFmpeg, tmp_path: Path) -> Callable[[Fraction, int], Track]:
    """Makes an AAC track that begins at a time (seconds), in a time base of `rate` ticks a
    second."""

    def make(start: Fraction, rate: int) -> Track:
        path = tmp_path / "sound.mp4"
        if not path.exists():
            picture = ["-f", "lavfi", "-i", "testsrc2=size=16x16:rate=10:duration=0.3"]
            tone = ["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=0.3"]
            ffmpeg(*picture, *tone, "-c:a", "aac", path)
        (track,) = read_clip(path).tracks
        first = round(start * rate)
        pts = first + np.arange(len(track.times)) * 1024 * rate // 48000
        times = np.stack([pts, pts, np.full_like(pts, 1024 * rate // 48000)], axis=1)
        return Track("audio", "aac", "", Fraction(1, rate), times, track.carrier, track.data)

    return make


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rate", [48000, 10_000_000])
@pytest.mark.parametrize("video, audio", [(0, Fraction(1, 4)), (3, 0), (0, 0), (10_001, 5)])
def test_offsets_between_tracks_are_kept(
    tmp_path: Path,
    sound: Callable[[Fraction, int], Track],
    suffix: str,
    rate: int,
    video: int,
    audio: Fraction,
) -> None:
    timing = Timing(np.arange(4) * 333_333 + video, Fraction(1, 10_000_000), 333_333)
    path = tmp_path / f"out{suffix}"
    write_video(
        str(path), stream_of(timing, tracks=(sound(Fraction(audio), rate),)), MovieOptions()
    )
    with av.open(str(path)) as container:
        first = next(p for p in container.demux(audio=0) if p.size)
        heard = first.pts * first.time_base
    allowed = MILLISECOND / 2 if suffix == ".mkv" else Fraction(1, 48000)
    assert abs(heard - audio) <= allowed
    assert abs(written(path)[0] - seconds_of(timing)[0]) <= allowed


def test_sound_with_a_gap_of_a_day(tmp_path: Path, sound: Callable[[Fraction, int], Track]) -> None:
    track = sound(Fraction(0), 48000)
    track.times[5:, :2] += 48000 * 86400
    timing = TIMINGS["a frame in a day"]
    with pytest.raises(OutputError, match=r"a\.mp4: .*gap in the audio .*use \.mkv"):
        write_video(str(tmp_path / "a.mp4"), stream_of(timing, tracks=(track,)), MovieOptions())
    assert not list(tmp_path.glob("*a.mp4*"))
    path = tmp_path / "a.mkv"
    write_video(str(path), stream_of(timing, tracks=(track,)), MovieOptions())
    with av.open(str(path)) as container:
        heard = [p.pts * p.time_base for p in container.demux(audio=0) if p.size]
    expected = [p.pts * p.time_base for p in track_packets(track)]
    assert all(abs(a - b) <= MILLISECOND / 2 for a, b in zip(heard, expected, strict=True))


def test_clocks() -> None:
    assert mp4_clock([0, 3, 9], Fraction(1, 90000)) == 90000
    assert mp4_clock([0, 40, 8080], Fraction(1, 1000)) == 1000
    assert mp4_clock([t * 10**6 for t in (0, 40, 8080)], NANO) == 25
    assert mp4_clock([0, 1, 8 * 10**9], NANO) is None
    assert mp4_clock([0, 1], Fraction(1, 1 << 32)) is None
    assert movie_clock([48000], 90000) == 720000
    # Too many for a common one: the frames' times stay exact.
    clock = movie_clock([44100, 48000], 9_999_991)
    assert clock % 9_999_991 == 0
    assert 1 << 30 < clock < 1 << 31


def test_ratios_fit_into_a_file() -> None:
    assert plain_ratio(Fraction(30000, 1001)) == Fraction(30000, 1001)
    for ratio in (
        Fraction(1, 86400),
        Fraction(10**12 + 1, 10**11),
        Fraction(1 << 40),
        Fraction(3, 1 << 31),
    ):
        plain = plain_ratio(ratio)
        assert max(plain.numerator, plain.denominator) < 1 << 31
        if ratio < 1 << 31:
            assert abs(plain / ratio - 1) < 1e-3
