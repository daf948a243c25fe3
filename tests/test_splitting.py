"""Long sources in segments: their borders, their frames, and the memory that splitting takes."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervkit.errors import NervError, ResourceError, SourceError, UsageError
from nervkit.video import spool
from nervkit.video.clip import Details
from nervkit.video.cuts import CutList, DetectedCuts, _sampled
from nervkit.video.edit import Edit
from nervkit.video.images import ArraySource
from nervkit.video.ranges import frames_hash
from nervkit.video.reader import Reading, read_clip
from nervkit.video.selection import Selection
from nervkit.video.source import Picture
from nervkit.video.splitting import LEAST_FRAMES, Splitter, Splitting

FFmpeg = Callable[..., bytes]
BIKES = [30, 76, 137, 187, 242]  # the frames that begin a shot, as one sees


def borders(source: Any, reading: Reading | None = None, **splitting: Any) -> list[int]:
    """The first frames of all segments but the first."""
    splitter = Splitter(source, Splitting.from_options("auto", **splitting), reading)
    return [segment.first for segment in splitter][1:]


def lengths(frames: int, *splitting: Any) -> list[int]:
    """The lengths of the segments of this many identical frames."""
    still = np.zeros((frames, 2, 2, 3), np.uint8)
    splitter = Splitter(still, Splitting.from_options(*splitting))
    return [len(segment.frames) for segment in splitter]


@pytest.fixture(scope="module")
def shots(clips: Path) -> list[np.ndarray]:
    """40 frames, all of one size, of each of four clips; the last one moves fast."""
    davis = clips / "davis"
    parts = {
        clips / "basketballpass": "0:40",
        davis / "blackswan" / "frames": "0:40",
        clips / "bikes.mp4": "80:120",
        davis / "bmx-trees" / "frames": "40:80",
    }
    return [read_clip(path, frames=part, resize="160x90").frames for path, part in parts.items()]


def mixed(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Frames of `one` mixed with a share of `other`, (T,) from 0 to 1."""
    return np.rint(one + share[:, None, None, None] * (other * 1.0 - one)).astype(np.uint8)


def test_segments_begin_at_the_cuts_one_sees(clips: Path) -> None:
    assert borders(clips / "bikes.mp4") == BIKES


def test_cuts_are_those_of_what_is_kept(clips: Path) -> None:
    reading = Reading.from_options(frames="20:200", crop="600x272", resize="150x68")
    kept = [cut - 20 for cut in BIKES if 20 < cut < 200]
    assert borders(clips / "bikes.mp4", reading) == kept


def test_a_clip_without_cuts_is_one_segment(bunny: Path) -> None:
    assert borders(bunny, Reading.from_options(frames=":80", resize="320x180")) == []


def test_clips_one_after_another(shots: list[np.ndarray]) -> None:
    assert borders(np.concatenate(shots)) == [40, 80, 120]


@pytest.mark.parametrize("length", range(1, LEAST_FRAMES))
@pytest.mark.parametrize("level", [0, 255])
def test_a_flash_is_no_cut(shots: list[np.ndarray], length: int, level: int) -> None:
    for shot in shots:
        flashed = shot.copy()
        flashed[15 : 15 + length] = level
        assert borders(flashed) == []


def test_flashes_beside_a_cut(shots: list[np.ndarray]) -> None:
    flashed = np.concatenate(shots)
    flashed[10:30:3] = 255
    flashed[36:38] = 255
    flashed[83:85] = 0
    flashed[140:142] = 255
    assert borders(flashed) == [40, 80, 120]


def test_a_flash_on_a_cut_is_one_border(shots: list[np.ndarray]) -> None:
    white = np.full_like(shots[0][:1], 255)
    assert borders(np.concatenate([shots[0], white, shots[1]])) == [40]


def test_a_short_shot_goes_with_the_one_after_it(shots: list[np.ndarray]) -> None:
    few = shots[1][: LEAST_FRAMES - 1]
    assert borders(np.concatenate([shots[0], few, shots[2]])) == [40]
    assert borders(np.concatenate([shots[0], shots[1][:LEAST_FRAMES], shots[2]])) == [40, 48]


def test_no_short_segment_at_either_end(shots: list[np.ndarray]) -> None:
    few = LEAST_FRAMES - 1
    ends = np.concatenate([shots[0][:few], shots[1], shots[2][:few]])
    assert borders(ends) == []
    ends = np.concatenate([shots[0][: few + 1], shots[1], shots[2][: few + 1]])
    assert borders(ends) == [few + 1, few + 41]


@pytest.mark.parametrize("length", [6, 12, 24])
def test_fades_are_one_border_at_most(shots: list[np.ndarray], length: int) -> None:
    one, other = shots[0], shots[1]
    share = np.linspace(0, 1, length + 2)[1:-1]
    cross = mixed(one[-length:], other[:length], share)
    assert len(borders(np.concatenate([one[:-length], cross, other[length:]]))) <= 1
    black = np.zeros_like(one[:length])
    out, back = mixed(one[-length:], black, share), mixed(black, other[:length], share)
    assert len(borders(np.concatenate([one[:-length], out, back, other[length:]]))) <= 1


def test_stills_and_noise_have_no_cuts() -> None:
    assert borders(np.full((60, 48, 64, 3), 99, np.uint8)) == []
    assert borders(np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8)) == []


@pytest.mark.parametrize("width", [8, 31, 48, 64, 100])
def test_the_measure_of_change_is_the_mean_over_pixels(width: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 20, width, 1), dtype=np.uint8).repeat(3, axis=3)
    cuts = DetectedCuts(8)
    looks = [cuts._measure(_sampled(frame)) for frame in frames]
    differing = np.abs(frames[0, ..., 0].astype(int) - frames[1, ..., 0]).mean() * 100 / 256
    assert looks[1].change == pytest.approx(differing, rel=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (8, 8)])
def test_frames_of_unusual_sizes_are_cut_too(size: tuple[int, int]) -> None:
    frames = np.zeros((40, *size, 3), np.uint8)
    frames[20:] = 255
    assert borders(frames) == [20]


@pytest.mark.parametrize(
    "frames, most, wanted",
    [
        (100, 100, [100]),
        (101, 100, [51, 50]),
        (150, 100, [75, 75]),
        (151, 100, [100, 51]),
        (250, 100, [100, 75, 75]),
        (1000, 100, [100] * 10),
        (7, 2, [2, 2, 2, 1]),
    ],
)
def test_long_shots_are_divided(frames: int, most: int, wanted: list[int]) -> None:
    assert lengths(frames, "auto", most) == wanted


def test_no_part_of_a_long_shot_is_shorter_than_half() -> None:
    for frames in range(1, 130):
        parts = lengths(frames, "auto", 20)
        assert sum(parts) == frames
        assert max(parts) <= 20
        assert frames <= 20 or min(parts) >= 10


def test_long_shots_are_divided_between_cuts(clips: Path) -> None:
    found = borders(clips / "bikes.mp4", segment_frames=40)
    assert found == [30, 53, 76, 116, 137, 162, 187, 215, 242]


@pytest.mark.parametrize("every", [1, 7, 30, 60, 61, 500])
def test_segments_of_a_number_of_frames(every: int) -> None:
    parts = lengths(60, str(every))
    assert parts == [every] * (60 // every) + [60 % every] * (60 % every > 0)


def test_segments_hold_what_a_clip_holds(bunny: Path) -> None:
    options = {"resize": "64x36", "start": 1, "frames": "3:43"}
    clip = read_clip(bunny, **options)
    for splitting in ("off", 15):
        splitter = Splitter(
            bunny, Splitting.from_options(splitting), Reading.from_options(**options)
        )
        segments = list(splitter)
        assert np.array_equal(np.concatenate([s.frames for s in segments]), clip.frames)
        assert [s.index for s in segments] == list(range(len(segments)))
        assert [s.first for s in segments] == list(range(0, 40, 40 if splitting == "off" else 15))
        assert all(s.fingerprint == frames_hash(s.frames) for s in segments)
        assert type(splitter.details) is Details
        assert [track.codec for track in splitter.details.tracks] == ["aac"]
        for name, value in vars(splitter.details).items():
            if name != "tracks":
                assert value == getattr(clip, name), name
        assert np.array_equal(splitter.details.tracks[0].times, clip.tracks[0].times)
        assert splitter.details.tracks[0].data == clip.tracks[0].data


def test_what_is_known_from_the_first_segment_on(bunny: Path) -> None:
    splitter = Splitter(bunny, Splitting.from_options(20), Reading.from_options(resize="64x36"))
    with pytest.raises(RuntimeError, match="after its last segment"):
        _ = splitter.details
    next(iter(splitter))
    with pytest.raises(RuntimeError, match="can be iterated once"):
        list(splitter)
    assert splitter.size == (64, 36)
    assert splitter.source.colour == read_clip(bunny, frames=":1").colour
    assert splitter.source.description["codec"] == "h264"


def test_a_pipe_is_split_as_it_streams(ffmpeg: FFmpeg, clips: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.y4m"
    data = ffmpeg("-i", clips / "bikes.mp4", "-vf", "scale=160:-2", "-f", "yuv4mpegpipe", "-")
    os.mkfifo(fifo)
    rest = threading.Event()
    finished = []

    def write() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            pipe.write(data[: len(data) * 2 // 3])
            finished.append(rest.wait(timeout=600))
            pipe.write(data[len(data) * 2 // 3 :])

    writer = threading.Thread(target=write)
    writer.start()
    splitter = Splitter(fifo, Splitting.from_options("auto"))
    segments = iter(splitter)
    firsts = [next(segments).first]
    assert not finished  # the first is given before the pipe has ended
    rest.set()
    firsts += [segment.first for segment in segments]
    writer.join()
    assert firsts == [0, *BIKES]
    assert splitter.locator is None


def test_damage_keeps_what_is_whole(ffmpeg: FFmpeg, bunny: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    ffmpeg("-i", bunny, "-vf", "scale=160:90", "-frames:v", "60", "-c:a", "copy", whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    clip, splitter = read_clip(cut), Splitter(cut, Splitting.from_options(10))
    assert np.array_equal(np.concatenate([s.frames for s in splitter]), clip.frames)
    assert splitter.details.notes == clip.notes
    assert any("truncated" in note for note in clip.notes)
    strict = Splitter(cut, Splitting.from_options(10), Reading.from_options(strict=True))
    with pytest.raises(SourceError, match="; strict refuses"):
        list(strict)


@pytest.mark.parametrize("splitting", ["off", "auto", 3])
def test_nothing_to_split(splitting: str | int) -> None:
    with pytest.raises(SourceError, match="no frame can be decoded"):
        list(Splitter(np.zeros((0, 4, 4, 3), np.uint8), Splitting.from_options(splitting)))


def test_a_size_that_changes_is_refused_where_it_does(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "both.ts"
    parts = []
    for size in ("96x64", "64x48"):
        part = tmp_path / f"{size}.ts"
        pattern = f"testsrc2=size={size}:rate=25:duration=1"
        ffmpeg("-f", "lavfi", "-i", pattern, "-c:v", "libx264", "-pix_fmt", "yuv420p", part)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    segments = iter(Splitter(path, Splitting.from_options(10)))
    assert [next(segments).first for _ in range(2)] == [0, 10]
    with pytest.raises(SourceError, match="frame 25 is 64x48, but the first one is 96x64"):
        next(segments)


def test_given_cuts(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "cuts.txt"
    path.write_text("# frames\n0\n30\n\n5.48  # seconds\n76 # a frame\n01:30\n9999\n76\n")
    splitter = Splitter(clips / "bikes.mp4", Splitting.from_options(cuts=path))
    assert [segment.first for segment in splitter] == [0, 30, 76, 137]
    assert "2 of the cuts are beyond the last frame" in splitter.details.notes
    exact = [1, 2, 3.039, Fraction(137, 25), "0:07.48", np.int64(242)]
    assert borders(clips / "bikes.mp4", cuts=exact) == [1, 2, 76, 137, 187, 242]


def test_given_times_are_those_of_what_is_kept(clips: Path) -> None:
    late = Reading.from_options(start=2, frames="10:200")
    assert borders(clips / "bikes.mp4", late, cuts=[20, 1.0, 4.0]) == [20, 25, 100]


def test_a_time_is_that_of_the_nearest_frame() -> None:
    cars = Reading.from_options(fps="30000/1001")
    frames = np.zeros((30, 2, 2, 3), np.uint8)
    for cut in range(1, 30):
        seconds = cut * 1001 / 30000
        for given in (round(seconds, 3), seconds - 0.016, seconds + 0.016):
            assert borders(frames, cars, cuts=[given]) == [cut]


def test_one_wild_time_takes_no_cut_away() -> None:
    class Wild(ArraySource):
        def pictures(self) -> Iterator[Picture]:
            for index, picture in enumerate(super().pictures()):
                yield replace(picture, pts=10**6) if index == 5 else picture

    selection = Selection(Wild(np.zeros((20, 2, 2, 3), np.uint8), "wild", Fraction(25)), Edit())
    seconds = [selection.seconds for _ in selection.pictures()]
    assert seconds == [Fraction(index, 25) for index in range(20)]


@pytest.mark.parametrize(
    "line", ["-3", "1;2", "12 13", "frame 7", "nan", "1e3", "00:00:01:12", "²"]
)
def test_a_line_that_is_not_understood_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cuts.txt"
    path.write_text(f"12\n\n{line}\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"cuts\.txt: line 3: .*neither a frame"):
        CutList.of(path)


@pytest.mark.parametrize("content", [None, b"\xff\xd8\xff\xe0", "folder"])
def test_files_of_cuts_that_are_none(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "cuts.txt"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"cuts\.txt: (not a text file|cannot be read)"):
        Splitting.from_options(cuts=path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"segments": "fast"}, "segments must be 'off', 'auto' or a number of frames"),
        ({"segments": 0}, "from 1 to 1000000, not 0"),
        ({"segments": True}, "segments must be"),
        ({"segments": 2.5}, "segments must be"),
        ({"segments": "off", "segment_frames": 20}, "segment_frames needs segments='auto'"),
        ({"segments": 30, "cuts": [3]}, "cuts needs segments='auto', not 30"),
        ({"segments": "auto", "segment_frames": "1"}, "segment_frames must be .* from 2"),
        ({"cuts": [3, -1]}, "cuts: -1 is neither"),
        ({"cuts": [float("inf")]}, "cuts: inf is neither"),
        ({"cuts": [True]}, "cuts: True is neither"),
        ({"cuts": 7}, "cuts must be a file or a list, not 7"),
    ],
)
def test_options_that_are_not_understood(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Splitting.from_options(**options)


def test_the_kind_that_options_ask_for() -> None:
    assert Splitting.from_options().kind == "off"
    assert Splitting.from_options(segment_frames="20") == Splitting("auto", 20)
    assert Splitting.from_options(cuts=[2, 1]).cuts == CutList((1, 2))
    assert Splitting.from_options("48") == Splitting.from_options(48) == Splitting("every", 48)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "available_memory", lambda: 10_000)
    frames = np.zeros((20, 16, 16, 3), np.uint8)
    with pytest.raises(ResourceError, match=r"a segment of 20 frames needs 15\.4 kB"):
        list(Splitter(frames, Splitting.from_options(20)))
    assert len(list(Splitter(frames, Splitting.from_options(10)))) == 2


def test_a_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("r+b")  # noqa: SIM115
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **_: full)
    with pytest.raises(NervError, match="set TMPDIR to a folder with more space"):
        list(Splitter(np.zeros((20, 16, 16, 3), np.uint8), Splitting.from_options(10)))


def test_memory_holds_one_segment(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    most, frame = 100, 64 * 48 * 3
    splitting = Splitting.from_options("auto", most)
    peaks = []
    for frames in (1000, 4000):
        path = tmp_path / f"{frames}_64x48.yuv"
        source = f"testsrc=size=64x48:rate=100:duration={frames // 100}"
        ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "rgb24", "-f", "rawvideo", path)
        splitter = Splitter(path, splitting, Reading.from_options(pixel_format="rgb24"))
        tracemalloc.start()
        total = 0
        for segment in splitter:
            total += len(segment.frames)
            del segment
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert total == frames
    assert peaks[0] > most * frame  # pixels are counted
    assert peaks[0] < (most + 50) * frame
    assert peaks[1] - peaks[0] < 3000 * 64  # bytes for the times of a frame
