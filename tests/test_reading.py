"""Reading files of many segments: from any seekable object, in threads, in part, truncated."""

from __future__ import annotations

import gc
import io
import json
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest

import nervkit
from nervkit.cli import main
from nervkit.container import chunks
from nervkit.container.file import NervFile, pack_file
from nervkit.container.track import pack_track
from nervkit.errors import (
    ChecksumError,
    FormatError,
    OutputError,
    SourceError,
    TruncatedError,
    UsageError,
)
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.models.flow import optical_flow
from nervkit.restoration.between import CUT, Interpolator
from nervkit.restoration.motion import disagreement, warped_between
from nervkit.restoration.stored import StoredInterpolator
from nervkit.restoration.task import Fitted
from nervkit.segments import Networks
from nervkit.video.reader import read_clip
from nervkit.video.tracks import store_track, track_packets
from tests import reference_decoder
from tests.segmented import Watched, header, random_segment, segmented

pytestmark = pytest.mark.usefixtures("one_thread")

SEGMENTS, FRAMES = 6, 4
SOUND_RATE = 8000


def sound(path: Path, seconds: float) -> Track:
    """A track of a tone."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream("ffv1", rate=25)
        picture.width, picture.height, picture.pix_fmt = 16, 12, "bgr0"
        stream = output.add_stream("aac", rate=SOUND_RATE)
        shown = av.VideoFrame.from_ndarray(np.zeros((12, 16, 3), np.uint8), format="rgb24")
        output.mux([*picture.encode(shown), *picture.encode(None)])
        for index in range(round(seconds * SOUND_RATE / 1024)):
            tone = 0.5 * np.sin(np.arange(1024 * index, 1024 * (index + 1), dtype=np.float32) / 5)
            frame = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
            frame.sample_rate, frame.pts = SOUND_RATE, 1024 * index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    [track] = read_clip(path).tracks
    return track


@pytest.fixture(scope="module")
def segments() -> list[Any]:
    return [random_segment(FRAMES, seed) for seed in range(SEGMENTS)]


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Track:
    return sound(tmp_path_factory.mktemp("sound") / "sound.mkv", SEGMENTS * FRAMES / 25)


@pytest.fixture(scope="module")
def data(segments: list[Any], track: Track) -> bytes:
    return segmented(segments, tracks=[track])


@pytest.fixture(scope="module")
def expected(segments: list[Any]) -> np.ndarray:
    """The frames of all segments, each read from a file of its own."""
    return np.concatenate([nervkit.open(segmented([segment]))[:] for segment in segments])


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "many.nerv"
    path.write_bytes(data)
    return path


# Objects that seek


class Served:
    """A file on a local HTTP server, which supports range requests and records what it sent."""

    def __init__(self, data: bytes, ranges: bool = True) -> None:
        self.sent: list[int] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, with_body: bool) -> None:
                span, code = slice(None), 200
                asked = self.headers.get("Range")
                if ranges and asked:
                    first, last = asked.removeprefix("bytes=").split("-")
                    span, code = slice(int(first), int(last) + 1), 206
                body = data[span]
                self.send_response(code)
                if ranges:
                    self.send_header("Accept-Ranges", "bytes")
                    self.send_header("Content-Length", str(len(body)))
                if code == 206:
                    stop = span.start + len(body) - 1
                    self.send_header("Content-Range", f"bytes {span.start}-{stop}/{len(data)}")
                self.end_headers()
                if with_body:
                    served.sent.append(len(body))
                    self.wfile.write(body)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/many.nerv"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Grudging(io.RawIOBase):
    """A file that returns a few bytes per read, as unbuffered ones may."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def seek(self, position: int, whence: int = 0, /) -> int:
        self._at = position + (len(self._data) if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        found = self._data[self._at : self._at + min(size, 7)]
        self._at += len(found)
        return found


def test_a_video_is_read_from_file_objects(
    data: bytes, path: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/folder/many.nerv", data)
    for file in (
        path.open("rb"),
        io.BytesIO(data),
        memory.open("/folder/many.nerv"),
        Grudging(data),
    ):
        with nervkit.open(file) as video:
            assert (video[:] == expected).all()
            assert video.tracks[0].kind == "audio"
        assert nervkit.info(file)["frames"] == len(expected)
        assert nervkit.verify(file).frames == len(expected)
        nervkit.decode(file, tmp_path / "part.npy", frames="3:6", overwrite=True)
        assert (np.load(tmp_path / "part.npy") == expected[3:6]).all()
        assert not file.closed
    damaged = bytearray(data)
    damaged[-1] ^= 1
    for file, name in (
        (io.BytesIO(bytes(damaged)), "this file"),
        (memory.open("/folder/many.nerv"), "/folder/many.nerv"),
    ):
        with pytest.raises(FormatError, match=f"^{name}: "):
            if name != "this file":
                NervFile(file, nervkit.Limits(pixels=1))
            NervFile(file)


def test_a_remote_file_is_read_where_it_is_needed(
    data: bytes, segments: list[Any], track: Track, expected: np.ndarray, tmp_path: Path
) -> None:
    with NervFile(data) as file:
        spans = [c for c in file.chunks if c.type == chunks.SEGMENT]
        ends = sum(c.size for c in file.chunks if c.type in (b"HEAD", b"MODL", b"TABL", b"NEND"))
        beside = sum(c.size for c in file.chunks if c.type in (chunks.TIMING, chunks.TRACK))
    with Served(data) as served:
        opened = partial(fsspec.filesystem("http").open, served.url, cache_type="none")
        with opened() as remote, nervkit.open(remote) as video:
            assert sum(served.sent) == 16 + ends
            assert len(served.sent) == 5
            served.sent.clear()
            assert (video[9] == expected[9]).all()
            assert served.sent == [spans[2].size]
            served.sent.clear()
            [found] = video.tracks
            assert found == track
            assert sum(served.sent) < len(pack_track(track)) + 100
        with opened() as remote:
            served.sent.clear()
            nervkit.decode(remote, tmp_path / "part.npy", start=0.32, to="0.48")
            assert (np.load(tmp_path / "part.npy") == expected[8:12]).all()
            assert sum(served.sent) == 16 + ends + beside + 2 * spans[2].size  # checked, then read
        with opened() as remote:
            assert nervkit.verify(remote).frames == len(expected)


def test_an_object_that_cannot_seek_is_refused(data: bytes, path: Path) -> None:
    class Pipe(io.BytesIO):
        name = "a pipe"

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation("seek")

    with pytest.raises(SourceError, match=r"^a pipe: .*cannot seek.*pass its bytes"):
        nervkit.open(Pipe(data))
    with (
        Served(data, ranges=False) as served,
        fsspec.filesystem("http").open(served.url, block_size=0) as stream,
        pytest.raises(SourceError, match=r"cannot seek.*pass its bytes"),
    ):
        nervkit.open(stream)
    with path.open(encoding="latin1") as text, pytest.raises(UsageError, match="mode 'rb'"):
        nervkit.open(text)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a path, bytes or an open binary file, not int"):
        nervkit.open(5)  # type: ignore[arg-type]


def test_a_read_that_fails_names_the_file(data: bytes) -> None:
    class Lost(io.BytesIO):
        name = "over/there.nerv"
        lost = False

        def read(self, size: int | None = -1, /) -> bytes:
            if self.lost:
                raise OSError("the connection was lost")
            return super().read(size)

    file = Lost(data)
    with nervkit.open(file) as video:
        file.lost = True
        with pytest.raises(SourceError, match=r"^over/there.nerv: .* the connection was lost"):
            _ = video[0]
        file.lost = False
        assert video[0].shape == (12, 16, 3)


def test_opening_and_sound_touch_no_segment(data: bytes, track: Track) -> None:
    file = Watched(data)
    with nervkit.open(file) as video:
        assert len(video.segments) == SEGMENTS
        assert [s.start for s in video.segments] == list(range(0, SEGMENTS * FRAMES, FRAMES))
        assert video.tracks == [track]
        assert video.timing.fps == 25
        assert file.bytes_of(chunks.SEGMENT, video.file.chunks) == 0
        video.file.check_all()
        assert file.bytes_of(chunks.SEGMENT, video.file.chunks) > 0


def test_a_checksum_is_verified_where_its_bytes_are_read(data: bytes, expected: np.ndarray) -> None:
    with NervFile(data) as file:
        third = [c for c in file.chunks if c.type == chunks.SEGMENT][2]
    damaged = bytearray(data)
    damaged[third.offset + 40] ^= 1
    with nervkit.open(bytes(damaged)) as video:
        shown = video.frames()
        assert all((next(shown) == frame).all() for frame in expected[: 2 * FRAMES])
        with pytest.raises(ChecksumError, match=f"SEGM at byte {third.offset}"):
            next(shown)
        with pytest.raises(ChecksumError):
            _ = video[2 * FRAMES]
        assert (video[3 * FRAMES :] == expected[3 * FRAMES :]).all()
        with pytest.raises(ChecksumError):
            video.file.check_all()


# Segments and their networks


def test_segments_are_a_sequence(data: bytes, segments: list[Any]) -> None:
    with nervkit.open(data) as video:
        third = video.segments[2]
        assert (third.start, third.frames, third.index) == (2 * FRAMES, FRAMES, 2)
        assert (third.model_name, third.config) == ("hnerv", segments[2][0].config)
        assert third.model is video.segments[-4].model
        assert [s.index for s in video.segments[1:3]] == [1, 2]
        assert sum(s.bytes for s in video.segments) == video.file.bytes_by_part["tensors"]
        for place in (SEGMENTS, -SEGMENTS - 1):
            with pytest.raises(IndexError):
                _ = video.segments[place]
        with pytest.raises(UsageError, match=r"has several segments, .* video\.segments\[i\]"):
            _ = video.model
    one = nervkit.open(segmented(segments[:1]))
    assert one.model is one.segments[0].model


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The networks that are built, in order, with their threads."""
    found: list[tuple[int, str]] = []
    build = Networks._build

    def noted(self: Networks, index: int, *rest: Any) -> Any:
        found.append((index, threading.current_thread().name))
        return build(self, index, *rest)

    monkeypatch.setattr(Networks, "_build", noted)
    return found


def test_the_next_network_is_made_ahead(
    data: bytes, built: list[tuple[int, str]], expected: np.ndarray
) -> None:
    here = threading.current_thread().name
    with nervkit.open(data) as video:
        assert (video[:] == expected).all()
    assert [index for index, _ in built] == list(range(SEGMENTS))
    assert [name == here for _, name in built] == [True] + [False] * (SEGMENTS - 1)
    built.clear()
    with nervkit.open(data) as video:  # one by one, in order
        for position in range(SEGMENTS * FRAMES):
            assert (video[position] == expected[position]).all()
    assert [name == here for _, name in built] == [True] + [False] * (SEGMENTS - 1)
    built.clear()
    with nervkit.open(data) as video:  # not in order: nothing is made that nobody asked for
        for position in (20, 3, 9):
            assert (video[position] == expected[position]).all()
        assert (video[13:15] == expected[13:15]).all()
    assert built == [(5, here), (0, here), (2, here), (3, here)]


def test_what_is_made_ahead_rests_until_it_is_wanted(
    data: bytes, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sleep ends with the first reader that waits, and when the file is closed."""
    monkeypatch.setattr("nervkit.segments.AHEAD_SHARE", 1e-8)
    monkeypatch.setattr("nervkit.segments.SLICE_SECONDS", 0.0)
    with nervkit.open(data) as video:
        assert (video[:] == expected).all()
    with nervkit.open(data) as video:
        shown = video.frames()
        assert (next(shown) == expected[0]).all()


def test_alternating_between_segments_builds_each_once(
    data: bytes, built: list[tuple[int, str]], expected: np.ndarray
) -> None:
    with nervkit.open(data) as video:
        for position in (2, 21, 1, 22, 3, 20):
            assert (video[position] == expected[position]).all()
    assert [index for index, _ in built] == [0, 5]


def test_networks_are_kept_within_their_bytes(
    data: bytes, built: list[tuple[int, str]], expected: np.ndarray
) -> None:
    with nervkit.open(data) as video:
        size = sum(t.nbytes for t in video.segments[0].model.state_dict().values())
    built.clear()
    gc.freeze()  # collections then look at new objects only
    with nervkit.open(data, keep_bytes=3 * size) as video:
        seen = []
        for _ in range(2):
            for segment in video.segments:
                seen.append(weakref.ref(segment.model))
                gc.collect()
                assert sum(model() is not None for model in seen) <= 3
        assert len(built) == 2 * SEGMENTS
        kept = [video.segments[i].model for i in (3, 4, 5)]
        assert len(built) == 2 * SEGMENTS  # the last used
        assert len(set(kept)) == 3
    gc.unfreeze()
    built.clear()
    with nervkit.open(data, keep_bytes=0) as video:  # one, and none ahead
        assert (video[:] == expected).all()
        assert video.segments[5].model is video.segments[5].model
        assert len(video._networks._kept) == 1
    assert {name for _, name in built} == {threading.current_thread().name}


def test_threads_share_a_video(
    data: bytes, built: list[tuple[int, str]], expected: np.ndarray
) -> None:
    """Under concurrent reads, each network is built once and each frame is right."""
    with nervkit.open(io.BytesIO(data)) as video, ThreadPoolExecutor(6) as pool:
        barrier = threading.Barrier(6)

        def reader(seed: int) -> bool:
            barrier.wait()
            draw = np.random.default_rng(seed)
            right = [(video[:] == expected).all()] if seed % 2 else []
            for position in draw.integers(0, len(expected), 20).tolist():
                right.append((video[position] == expected[position]).all())
            return all(right)

        assert all(pool.map(reader, range(6)))
        assert sorted(index for index, _ in built) == list(range(SEGMENTS))
        assert video.tracks[0].packets > 0


def test_random_states_are_the_callers(data: bytes) -> None:
    """Background work draws nothing from torch's random state while the caller does."""
    import torch

    torch.manual_seed(3)
    wanted = torch.rand(SEGMENTS * FRAMES)
    torch.manual_seed(3)
    with nervkit.open(data) as video:
        found = [torch.rand(1) for _ in video]
    assert torch.equal(torch.cat(found), wanted)


# Parts by time


@pytest.mark.parametrize(
    ("start", "to", "first", "stop"),
    [
        ("0.4", "0.8", 10, 20),
        (0.41, None, 11, 24),
        (None, "00:00:00.5", 0, 13),
        ("0:00.88", "1m", 22, 24),
        ("1/25", 0.08, 1, 2),
    ],
)
def test_a_part_is_decoded_by_time(
    path: Path,
    expected: np.ndarray,
    tmp_path: Path,
    start: Any,
    to: Any,
    first: int,
    stop: int,
) -> None:
    report = nervkit.decode(path, tmp_path / "part.npy", start=start, to=to)
    assert report.frames == stop - first
    assert (np.load(tmp_path / "part.npy") == expected[first:stop]).all()


def test_a_part_has_the_sound_of_its_time(path: Path, track: Track, tmp_path: Path) -> None:
    nervkit.decode(path, tmp_path / "a.mkv", start=0.4, to=0.8, codec="ffv1")
    nervkit.decode(path, tmp_path / "b.mkv", frames="10:20", codec="ffv1")
    parts = [read_clip(tmp_path / f"{name}.mkv") for name in "ab"]
    assert (parts[0].frames == parts[1].frames).all()
    assert parts[0].tracks == parts[1].tracks
    assert 0 < parts[0].tracks[0].packets < track.packets
    assert parts[0].timing.seconds == (0, Fraction(2, 5))


def test_times_of_uneven_frames(segments: list[Any], tmp_path: Path) -> None:
    pts = np.array([5, 9, 30, 31, 50, 51, 52, 100])
    data = segmented(segments[:2], timing=Timing(pts, Fraction(1, 10), 20))
    output = tmp_path / "part.npy"
    for start, to, frames in ((0.9, 3.1, 2), (3.0, 5.05, 3), (None, 0.6, 1), (10, None, 1)):
        nervkit.decode(data, output, start=start, to=to, overwrite=True)
        assert len(np.load(output)) == frames
    with pytest.raises(UsageError, match=r"no frame begins from 1 s to 2 s"):
        nervkit.decode(data, output, start=1, to=2, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.96}, "start 0.96 is beyond the end: the video ends at 0.96 s"),
        ({"start": "10:00"}, "start 600 is beyond the end"),
        ({"start": 0.5, "to": 0.4}, "to 0.4 must be later than start, 0.5 s"),
        ({"to": 0}, "to 0 must be later than"),
        ({"start": "soon"}, "start must be a time such as"),
        ({"start": 0.5, "frames": "0:2"}, "give one"),
    ],
)
def test_impossible_parts_are_refused(
    path: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.decode(path, tmp_path / "out.npy", **options)
    assert not list(tmp_path.glob("*.npy"))


# Sound among the segments


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Track:
    """The same audio in parts of two packets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nervkit.video.tracks.PART_SHARE", 0)
        patch.setattr("nervkit.video.tracks.PART_SECONDS", Fraction(1, 5))
        made = sound(tmp_path_factory.mktemp("parts") / "sound.mkv", SEGMENTS * FRAMES / 25)
    assert len(made.parts) == 5
    return made


def subtitle(*times: tuple[int, int]) -> Track:
    """A part of subtitles, each shown from a ms for b ms."""
    lines = (f"00:00:00,{a:03} --> 00:00:00,{a + b:03}\nat {a}\n\n".encode() for a, b in times)
    with av.open(io.BytesIO(b"".join(lines)), format="srt") as made:
        track = store_track([p for p in made.demux() if p.size], Fraction(0))
    assert track is not None and track.times[:, [0, 2]].tolist() == list(map(list, times))
    return track


@pytest.fixture(scope="module")
def interleaved(segments: list[Any], parted: Track) -> bytes:
    """A file with audio and subtitles in parts."""
    text = replace(subtitle((0, 900), (100, 100)), later=(subtitle((500, 100), (700, 50)),))
    whole = header().of_segments([segment for segment, _ in segments])
    timing = Timing(np.arange(SEGMENTS * FRAMES), Fraction(1, 25), 1)
    return pack_file(whole, timing, [data for _, data in segments], [parted, text])


def test_sound_lies_before_the_segment_in_whose_time_it_begins(
    interleaved: bytes, parted: Track, tmp_path: Path
) -> None:
    with NervFile(interleaved) as file:
        kinds = [chunk.type for chunk in file.chunks]
        [found, text] = file.tracks()
        assert found == parted
        assert text.packets == 4
        first = next(c for c in file.chunks if c.type == chunks.SEGMENT)
    placed: list[list[int]] = [[]]  # tracks of the parts before each segment
    rows = iter(reference_decoder.read_index(interleaved))
    for kind in kinds:
        if kind == chunks.SEGMENT:
            placed.append([])
        elif kind == chunks.TRACK:
            placed[-1].append(next(rows)[0])
    begins = [part.span[0] for part in parted.parts]
    assert placed == [[0, 1, 0], [], [0], [1], [0], [0], []]  # segments of 160 ms
    assert [begin // 160 for begin in begins] == [-1, 0, 2, 4, 5]
    # Whoever has read so far can play the first segment with its sound.
    with NervFile(interleaved[: first.end], salvage=True) as start:
        assert start.header.frames == FRAMES
        [sounding, shown] = start.tracks()
        assert track_packets(sounding)[-1].pts > 160 - 128
        assert shown.packets == 2


def test_an_encode_puts_sound_among_the_segments(
    tmp_path: Path, ffmpeg: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervkit.video.tracks.PART_SHARE", 0)
    monkeypatch.setattr("nervkit.video.tracks.PART_SECONDS", Fraction(2, 5))
    source, path = tmp_path / "in.mkv", tmp_path / "out.nerv"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=16x12:rate=10:duration=2"]
    tone = ["-f", "lavfi", "-i", "sine=sample_rate=8000:duration=2"]
    ffmpeg(*picture, *tone, "-c:v", "ffv1", "-c:a", "aac", source)
    nervkit.encode(source, path, segments=10, steps=2, params=2500, strides=(2, 2), device="cpu")
    with NervFile(path) as file:
        kinds = [c.type for c in file.chunks if c.type in (chunks.TRACK, chunks.SEGMENT)]
        assert file.tracks() == read_clip(source).tracks
    first, second = (i for i, kind in enumerate(kinds) if kind == chunks.SEGMENT)
    assert (first, second - first - 1, len(kinds) - second - 1) == (3, 2, 0)


def test_a_decoder_written_from_the_specification_finds_the_parts(
    interleaved: bytes, parted: Track
) -> None:
    tracks = reference_decoder.read_tracks(interleaved)
    assert list(tracks) == [0, 1]
    for (description, times, carrier), part in zip(tracks[0], parted.parts, strict=True):
        assert (description["codec"], carrier) == ("aac", part.data)
        assert times == list(map(tuple, part.times.tolist()))


def read_of(file: Watched, of: NervFile) -> list[int]:
    """The indices, among all track chunks, of those that were read in part."""
    listed = [chunk for chunk in of.chunks if chunk.type == chunks.TRACK]
    return [i for i, chunk in enumerate(listed) if file.bytes_of(chunks.TRACK, [chunk])]


def test_packets_are_read_part_by_part(interleaved: bytes, parted: Track) -> None:
    everything = [(bytes(p), p.pts, p.dts, p.duration) for p in track_packets(parted)]
    file = Watched(interleaved)
    with nervkit.open(file) as video:
        assert read_of(file, video.file) == []
        packets = video.packets()
        assert bytes(next(packets)) == everything[0][0]
        assert read_of(file, video.file) == [0]
        found = [(bytes(p), p.pts, p.dts, p.duration) for p in packets]
        assert found == everything[1:]
        assert read_of(file, video.file) == [0, 2, 3, 5, 6]
        assert file.bytes_of(chunks.SEGMENT, video.file.chunks) == 0
        for number in (2, -1):
            with pytest.raises(IndexError, match=f"track {number} of 2"):
                next(video.packets(number))
        with pytest.raises(UsageError, match="start must be a time"):
            next(video.packets(0, "soon"))


def test_packets_of_parts_are_decoded_as_one_stream(interleaved: bytes, parted: Track) -> None:
    """No decoder restarts at the border of a part."""

    def samples(packets: Iterable[av.Packet]) -> np.ndarray:
        return np.concatenate([f.to_ndarray() for p in packets for f in p.decode()], axis=1)

    with nervkit.open(interleaved) as video:
        found = samples(video.packets())
    assert np.array_equal(found, samples(track_packets(parted)))
    assert found.shape[1] > SEGMENTS * FRAMES * SOUND_RATE // 25 - 1024


def test_no_more_sound_is_read_than_is_asked_for(interleaved: bytes, parted: Track) -> None:
    for start, to, places in ((0.5, 0.6, [3]), ("0.3", "0.52", [2, 3]), (0.89, None, [5, 6])):
        file = Watched(interleaved)
        with nervkit.open(file) as video:
            found = [p.pts for p in video.packets(0, start, to)]
            after, before = float(start), 9 if to is None else float(to)
            times = parted.time_base
            wanted = [p.pts for p in track_packets(parted) if after <= p.pts * times < before]
            assert found == wanted and found
            assert read_of(file, video.file) == places
            assert file.bytes_of(chunks.SEGMENT, video.file.chunks) == 0


def test_subtitles_that_are_still_shown(interleaved: bytes) -> None:
    file = Watched(interleaved)
    with nervkit.open(file) as video:
        shown = [(bytes(p), p.pts, p.duration) for p in video.packets(1, 0.71, 0.8)]
        assert shown == [(b"at 0", 710, 90), (b"at 700", 710, 40)]
        assert read_of(file, video.file) == [1, 4]
    file = Watched(interleaved)
    with nervkit.open(file) as video:
        assert [bytes(p) for p in video.packets(1, 0.91)] == []
        assert read_of(file, video.file) == []


def test_a_decode_of_a_part_reads_the_sound_of_its_time(
    interleaved: bytes, data: bytes, tmp_path: Path
) -> None:
    file = Watched(interleaved)
    options = {"start": 0.68, "codec": "ffv1"}
    nervkit.decode(file, tmp_path / "a.mkv", **options)
    with NervFile(interleaved) as opened:
        assert read_of(file, opened) == [1, 4, 5, 6]
    nervkit.decode(data, tmp_path / "b.mkv", **options)
    parts = [read_clip(tmp_path / f"{name}.mkv") for name in "ab"]
    assert parts[0].tracks[0] == parts[1].tracks[0]
    assert [track.packets for track in parts[0].tracks] == [parts[1].tracks[0].packets, 2]


@pytest.mark.parametrize("suffix", [".mka", ".m4a"])
def test_sound_is_copied_without_the_pictures(
    interleaved: bytes, parted: Track, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"sound{suffix}"
    file = Watched(interleaved)
    report = nervkit.decode(file, output)
    assert (report.frames, report.psnr, report.notes) == (0, None, [])
    with NervFile(interleaved) as opened:
        assert file.bytes_of(chunks.SEGMENT, opened.chunks) == 0
    wanted = track_packets(parted)
    with av.open(str(output)) as made:
        assert [stream.type for stream in made.streams] == ["audio"]
        packets = [p for p in made.demux(audio=0) if p.size]
        assert [bytes(p) for p in packets] == [bytes(p) for p in wanted]
        shift = packets[0].pts * packets[0].time_base - wanted[0].pts * wanted[0].time_base
        for packet, other in zip(packets, wanted, strict=True):
            late = packet.pts * packet.time_base - other.pts * other.time_base - shift
            assert abs(late) <= Fraction(1, 1000)
    file = Watched(interleaved)
    nervkit.decode(file, output, start=0.68, overwrite=True)
    with NervFile(interleaved) as opened:
        assert file.bytes_of(chunks.SEGMENT, opened.chunks) == 0
        assert read_of(file, opened) == [1, 4, 5, 6]
    with av.open(str(output)) as made:
        copied = [bytes(p) for p in made.demux(audio=0) if p.size]
    assert copied == [bytes(p) for p in wanted if p.pts * p.time_base >= Fraction(68, 100)]


def test_sound_that_cannot_be_copied(
    segments: list[Any],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(OutputError, match="there is no audio"):
        nervkit.decode(segmented(segments), tmp_path / "out.mka")
    for option in ({"codec": "x264"}, {"crf": 3}, {"pixel_format": "yuv420p"}):
        with pytest.raises(UsageError, match="audio is copied"):
            nervkit.decode(path, tmp_path / "out.mka", **option)
    (tmp_path / "there.mka").write_bytes(b"mine")
    with pytest.raises(OutputError, match="overwrite=True"):
        nervkit.decode(path, tmp_path / "there.mka")
    assert command(monkeypatch, "decode", path, "-o", tmp_path / "there.mka", "-y") == 0
    assert "there.mka: audio copied in " in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_sound_of_a_file_cut_short(interleaved: bytes, parted: Track, tmp_path: Path) -> None:
    short = cut(interleaved, 3)
    with nervkit.open(short, salvage=True) as video:
        [found, _] = video.tracks
        assert found == replace(parted, later=parted.later[:2])
        assert len(list(video.packets(0))) == sum(len(p.times) for p in found.parts)
    nervkit.decode(short, tmp_path / "out.mka", salvage=True)
    with av.open(str(tmp_path / "out.mka")) as made:
        count = sum(1 for p in made.demux(audio=0) if p.size)
    heard = [p for p in track_packets(parted) if 0 <= p.pts * p.time_base < Fraction(12, 25)]
    assert count == len(heard)


# Files cut short


def cut(data: bytes, whole: int) -> bytes:
    """The file up to the middle of the segment after the first `whole`."""
    with NervFile(data) as file:
        return data[: [c for c in file.chunks if c.type == chunks.SEGMENT][whole].end - 20]


@pytest.mark.parametrize("timing_first", [True, False])
def test_whole_segments_are_salvaged(
    segments: list[Any], track: Track, expected: np.ndarray, tmp_path: Path, timing_first: bool
) -> None:
    pts = np.arange(SEGMENTS * FRAMES) ** 2
    timing = Timing(pts, Fraction(1, 100), 7)
    data = segmented(segments, tracks=[track], timing=timing, timing_first=timing_first)
    short = cut(data, 3)
    with pytest.raises(TruncatedError, match=r"segments 0 to 2 \(frames 0 to 11\) are intact"):
        nervkit.open(short)
    with nervkit.open(short, salvage=True) as video:
        assert (video[:] == expected[:12]).all()
        assert video.header.values == sum(s.values for s, _ in segments[:3])
        assert "segments 0 to 2 (frames 0 to 11) are intact" in video.file.notes[0]
        if timing_first:
            assert video.timing == timing[:12]
            assert len(video.file.notes) == 1
        else:
            assert video.timing == Timing(np.arange(12), Fraction(1, 25), 1)
            assert "assumes 25 fps" in video.file.notes[1]
        assert sum(video.file.bytes_by_part.values()) == len(short)
    report = nervkit.decode(short, tmp_path / "out.mkv", salvage=True, codec="ffv1")
    assert (report.frames, report.psnr) == (12, None)
    assert report.notes[: len(video.file.notes)] == video.file.notes
    assert (read_clip(tmp_path / "out.mkv").frames == expected[:12]).all()


def test_salvaged_sound_ends_with_the_pictures(data: bytes, track: Track, tmp_path: Path) -> None:
    """In a file that stores all audio first."""
    with NervFile(data) as file:
        pieces = [(c.type, data[c.offset : c.offset + c.length]) for c in file.chunks[:-2]]
    pieces.insert(1, pieces.pop())
    assert pieces[1][0] == chunks.TRACK
    moved = chunks.preamble() + b"".join(chunks.pack_chunk(*piece) for piece in pieces)
    short = moved[: moved.rindex(chunks.SEGMENT)]
    nervkit.decode(short, tmp_path / "out.mkv", salvage=True)
    [found] = read_clip(tmp_path / "out.mkv").tracks
    assert 0 < len(track_packets(found)) < track.packets
    with NervFile(short, salvage=True) as file:
        assert file.tracks() == [track]


def test_what_cannot_be_salvaged(data: bytes, segments: list[Any], expected: np.ndarray) -> None:
    with pytest.raises(FormatError, match="no segment is intact"):
        nervkit.open(cut(data, 0), salvage=True)
    with pytest.raises(FormatError, match=r"these bytes: not a \.nerv file"):
        nervkit.open(b"something else", salvage=True)
    with nervkit.open(data, salvage=True) as video:  # nothing is to be done
        assert video.file.notes == []
        assert (video[:] == expected).all()
    with NervFile(data) as file:
        table = file.chunks[-2]
    damaged = bytearray(data)
    damaged[table.offset + 3] ^= 1
    with pytest.raises(ChecksumError, match="chunk TABL"):
        nervkit.open(bytes(damaged))
    with nervkit.open(bytes(damaged), salvage=True) as video:
        assert (video[:] == expected).all()
        assert "chunk TABL" in video.file.notes[0]
    # A model that was never written for the segments after it.
    first, data_of = segments[0]
    other = segmented([(first, data_of), (replace(first, config={"strides": [2]}), data_of)])
    with pytest.raises(FormatError, match="configuration is impossible"):
        nervkit.open(other[: other.rindex(chunks.TABLE)], salvage=True)


# Between the frames of a file


def test_a_file_is_interpolated_by_the_networks_of_its_segments(
    segments: list[Any], path: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    """Across a border, where no network applies, by the frames on both sides."""
    notes: list[str] = []
    made = nervkit.interpolate(path, factor=2, on_note=notes.append)
    assert (made.frames[::2] == expected).all()
    with nervkit.open(path) as video:
        fitted = Fitted(video.segments[2].model, "hnerv")
        inside = Interpolator(expected[8:12], fitted).at(1.5).clip(0, 255)
    assert np.abs(made.frames[2 * 9 + 1] - inside).max() <= 0.501
    for last in range(FRAMES - 1, len(expected) - 1, FRAMES):  # frames that nothing has in common
        assert (made.frames[2 * last + 1] == expected[last]).all()
    assert len(notes) == 1
    assert notes[0].startswith(f"{SEGMENTS - 1} of the new frames lie between two segments")
    report = nervkit.interpolate(path, tmp_path / "out.mkv", fps=50)
    assert report.details == {"new_frames": 23, "between_segments": SEGMENTS - 1}
    assert report.parameters == sum(s.values for s, _ in segments)
    assert len(report.notes) == 1


def test_a_border_within_a_scene_is_crossed_along_the_motion(tmp_path: Path) -> None:
    """Two segments of one frame each, in which a picture moves by two pixels."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (6, 10, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.stack([picture[:12, 8:24], picture[:12, 6:22]])
    flow = optical_flow(frames[0], frames[1])
    assert disagreement(frames[0], frames[1], flow) < CUT
    path = tmp_path / "two.nerv"
    path.write_bytes(segmented([random_segment(1, 0), random_segment(1, 1)]))
    with nervkit.open(path) as video:
        fits = StoredInterpolator(video, frames)
        assert np.allclose(fits.at(0.5), warped_between(frames[0], frames[1], flow, 0.5))
        apart = StoredInterpolator(video, np.stack([frames[0], 255 - frames[0]]))
        assert (apart.at(0.4) == frames[0]).all()
        assert (apart.at(0.6) == 255 - frames[0]).all()


# The command line


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run nervkit in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["nervkit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_info_shows_segments(
    segments: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "many.nerv"
    path.write_bytes(segmented([*segments, *segments, *segments]))
    assert command(monkeypatch, "info", path) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[0] == "segment")
    assert lines[start].split() == ["segment", "first", "frames", "values", "bytes", "bpp", "model"]
    assert lines[start + 3].split()[:3] == ["2", "8", "4"]
    assert lines[start + 13 :] == ["and 6 segments more: --segments shows all"]
    command(monkeypatch, "info", path, "--segments")
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["17", "68"]
    command(monkeypatch, "info", path, "--json")
    table = json.loads(capsys.readouterr().out)["segment_table"]
    assert len(table) == 18
    size = len(segments[1][1].pack(4, 0)) + 16
    assert table[1] == {
        "first_frame": 4,
        "frames": 4,
        "model": "hnerv",
        "parameters": segments[1][0].values,
        "bytes": size,
        "bpp": 8 * size / (4 * 12 * 16),
    }


# Damaged files


def flipped(data: bytes, *places: tuple[bytes, int]) -> bytes:
    """The file with one wrong bit in the middle of each chunk (type, index among its type)."""
    with NervFile(data) as file:
        listed = file.chunks
    damaged = bytearray(data)
    for type, index in places:
        chunk = [c for c in listed if c.type == type][index]
        damaged[chunk.offset + chunk.length // 2] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize("lost", [[0], [2], [5], [1, 2, 4]])
def test_segments_around_a_damaged_one_are_salvaged(
    segments: list[Any], track: Track, expected: np.ndarray, tmp_path: Path, lost: list[int]
) -> None:
    timing = Timing(np.arange(SEGMENTS * FRAMES) ** 2, Fraction(1, 100), 7)
    whole = segmented(segments, tracks=[track], timing=timing)
    damaged = flipped(whole, *((chunks.SEGMENT, index) for index in lost))
    kept = [t for t in range(SEGMENTS * FRAMES) if t // FRAMES not in lost]
    with nervkit.open(damaged, salvage=True) as video:
        assert (video[:] == expected[kept]).all()
        assert (video.timing.pts == timing.pts[kept]).all()
        assert video.timing.duration == timing[: kept[-1] + 1].duration
        assert [segment.start for segment in video.segments][:2] == [0, FRAMES]
        assert video.tracks == [track]
        named = [f"segment {i} is damaged: nervkit leaves out frames {4 * i} to" for i in lost]
        assert all(n.startswith(w) for n, w in zip(video.file.notes, named, strict=True))
        originals = [index for index in range(SEGMENTS) if index not in lost]
        for segment, original in zip(video.segments, originals, strict=True):
            assert (video[segment.start] == expected[FRAMES * original]).all()
    report = nervkit.decode(damaged, tmp_path / "out.mkv", salvage=True, codec="ffv1")
    assert (report.frames, report.psnr) == (len(kept), None)
    clip = read_clip(tmp_path / "out.mkv")
    assert (clip.frames == expected[kept]).all()
    shown = (clip.pts - clip.pts[0]) * clip.timing.time_base
    wanted = (timing.pts[kept] - timing.pts[kept[0]]) * timing.time_base
    assert shown.tolist() == wanted.tolist()


def test_a_damaged_segment_says_how_to_decode_the_others(
    data: bytes, segments: list[Any], expected: np.ndarray
) -> None:
    with nervkit.open(flipped(data, (chunks.SEGMENT, 3))) as video:
        assert (video[:12] == expected[:12]).all()
        with pytest.raises(ChecksumError, match=r"SEGM.*; use salvage=True to decode what is"):
            _ = video[12]
    alone = flipped(segmented(segments[:1]), (chunks.SEGMENT, 0))
    with nervkit.open(alone) as video, pytest.raises(ChecksumError, match="SEGM") as raised:
        _ = video[0]
    assert "salvage" not in str(raised.value)
    with pytest.raises(ChecksumError, match="no segment is intact"):
        nervkit.open(alone, salvage=True)


def test_damaged_parts_besides_segments(
    data: bytes, interleaved: bytes, parted: Track, expected: np.ndarray
) -> None:
    with nervkit.open(flipped(data, (chunks.TIMING, 0)), salvage=True) as video:
        assert video.timing == Timing(np.arange(24), Fraction(1, 25), 1)
        assert "timestamps are lost" in video.file.notes[0]
    with nervkit.open(flipped(data, (chunks.TRACK, 0)), salvage=True) as video:
        assert video.tracks == []
        assert (video[:] == expected).all()
        assert "audio or subtitles are damaged" in video.file.notes[0]
    with pytest.raises(ChecksumError, match="chunk HEAD"):
        nervkit.open(flipped(data, (chunks.HEADER, 0)), salvage=True)
    with nervkit.open(interleaved) as video:
        _, text = video.tracks
    # Track chunks: audio, text, audio, audio, text, audio, audio.
    with nervkit.open(flipped(interleaved, (chunks.TRACK, 3)), salvage=True) as video:
        assert video.tracks == [replace(parted, later=parted.later[:1] + parted.later[2:]), text]
    with nervkit.open(flipped(interleaved, (chunks.TRACK, 0)), salvage=True) as video:
        assert video.tracks == [text]
        assert len(list(video.packets(0))) == text.packets
    with nervkit.open(flipped(interleaved, (chunks.TRACK_INDEX, 0)), salvage=True) as video:
        assert video.tracks == [parted, text]


def test_a_file_that_is_damaged_and_cut_short(
    data: bytes, track: Track, expected: np.ndarray
) -> None:
    """The scan for chunks goes on behind a damaged one."""
    short = cut(flipped(data, (chunks.SEGMENT, 1)), 5)
    with pytest.raises(TruncatedError, match=r"; 4 of the first 5 segments are intact; use salv"):
        nervkit.open(short)
    with nervkit.open(short, salvage=True) as video:
        assert (video[:] == np.delete(expected[:20], np.s_[4:8], 0)).all()
        assert "4 of the first 5 segments are intact; the rest is lost" in video.file.notes[0]
        assert video.file.notes[1].startswith("segment 1 is damaged")
    for end in (chunks.TABLE, chunks.END):
        with pytest.raises(ChecksumError, match=r"use salvage=True to decode what is intact$"):
            nervkit.open(flipped(data, (end, 0)))
        with nervkit.open(flipped(data, (end, 0)), salvage=True) as video:
            assert (video[:] == expected).all()
            assert video.tracks == [track]
            assert "no other frame, track or tag is lost" in video.file.notes[0]
        with nervkit.open(flipped(data, (end, 0), (chunks.TRACK, 0)), salvage=True) as video:
            assert (video[:] == expected).all()
            assert video.tracks == []
    with nervkit.open(flipped(data, (chunks.TIMING, 0))[:-3], salvage=True) as video:
        assert (video[:] == expected).all()
        assert "timestamps are lost" in video.file.notes[1]
    # What a damaged segment says about its number of frames cannot be trusted.
    with NervFile(data) as file:
        second = [c for c in file.chunks if c.type == chunks.SEGMENT][1].offset
    unknown = data[:second] + bytes(4) + data[second + 4 : -3]
    with nervkit.open(unknown, salvage=True) as video:
        assert (video[:] == expected[:4]).all()


def test_a_damaged_model_takes_its_segments(segments: list[Any]) -> None:
    other = random_segment(FRAMES, 9, "gridnerv", strides=(4,))
    whole = segmented([segments[0], other, segments[1]])
    with nervkit.open(whole) as video:
        frames = video[:]
    with nervkit.open(flipped(whole, (chunks.MODEL, 1)), salvage=True) as video:
        assert (video[:] == frames[[0, 1, 2, 3, 8, 9, 10, 11]]).all()
        assert video.file.notes == [
            "segment 1 uses a damaged model: nervkit leaves out frames 4 to 7"
        ]
    with pytest.raises(ChecksumError, match=r"MODL.*; use salvage=True to decode what is intact"):
        nervkit.open(flipped(whole, (chunks.MODEL, 1)))
    with nervkit.open(flipped(whole, (chunks.MODEL, 0)), salvage=True) as video:
        assert (video[:] == frames[4:8]).all()


def test_parts_and_salvage_by_command(
    data: bytes,
    expected: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, output = tmp_path / "many.nerv", tmp_path / "out.npy"
    path.write_bytes(data)
    part = ("decode", path, "-o", output, "-y", "--device", "cpu")
    assert command(monkeypatch, *part, "--start", "00:00.2", "--to", "0.4") == 0
    assert (np.load(output) == expected[5:10]).all()
    path.write_bytes(cut(data, 2))
    assert command(monkeypatch, *part) == 1
    assert "(frames 0 to 7) are intact; use --salvage to decode" in capsys.readouterr().err
    assert command(monkeypatch, *part, "--salvage") == 0
    assert "note: the file ends inside a chunk" in capsys.readouterr().err
    assert (np.load(output) == expected[:8]).all()
    path.write_bytes(flipped(data, (chunks.SEGMENT, 1)))
    assert command(monkeypatch, *part) == 1
    assert "use --salvage to decode what is intact" in capsys.readouterr().err
    assert command(monkeypatch, *part, "--salvage") == 0
    assert "note: segment 1 is damaged" in capsys.readouterr().err
    assert (np.load(output) == np.delete(expected, np.s_[4:8], 0)).all()


@pytest.fixture(autouse=True)
def _no_files_in_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
