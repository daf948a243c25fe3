"""Segments read again from the source, in any order and process, give the same frames."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from nervkit.errors import SourceError
from nervkit.video import ranges
from nervkit.video.ranges import Locator, frames_hash, read_range
from nervkit.video.reader import Reading, read_clip
from nervkit.video.splitting import Splitter, Splitting

FFmpeg = Callable[..., bytes]
PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=4"]
H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "24", "-bf", "3"]
OPEN_GOP = ["-x264-params", "open-gop=1:scenecut=0"]
REFRESHED = [*H264, "-x264-params", "intra-refresh=1"]  # has no key frames but the first
HEVC = [
    *("-c:v", "libx265", "-pix_fmt", "yuv420p"),
    *("-x265-params", "log-level=error:keyint=24:min-keyint=24:open-gop=1:bframes=4:scenecut=0"),
]
UNEVEN = ["-vf", r"setpts='(N+0.3*mod(N\,5))/25/TB'", "-fps_mode", "vfr"]
LENGTH = 17  # of a segment: no multiple of a group of pictures


@pytest.fixture
def from_beginning(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first frames of the ranges for which a source was decoded from its beginning."""
    firsts: list[int] = []
    decode = ranges._from_beginning

    def noted(selection: Any, locator: Locator, first: int) -> Any:
        firsts.append(first)
        return decode(selection, locator, first)

    monkeypatch.setattr(ranges, "_from_beginning", noted)
    return firsts


def read_again(source: Any, length: int = LENGTH, **options: Any) -> Locator:
    """Split a source and read all segments again, the last one first. Return their locator."""
    reading = Reading.from_options(**options)
    splitter = Splitter(source, Splitting.from_options(length), reading)
    segments = [(s.first, s.frames, s.fingerprint) for s in splitter]
    locator = pickle.loads(pickle.dumps(splitter.locator))
    for first, frames, fingerprint in reversed(segments):
        again = read_range(locator, first, len(frames), fingerprint)
        assert np.array_equal(again, frames)
    return locator


@pytest.mark.parametrize(
    "name, options",
    [
        ("closed.mp4", H264),
        ("open.mp4", [*H264, *OPEN_GOP]),
        ("open.mkv", [*H264, *OPEN_GOP]),
        ("open.ts", [*H264, *OPEN_GOP]),
        ("closed.avi", H264),
        ("fragments.mp4", [*H264, "-movflags", "frag_keyframe+empty_moov"]),
        ("hevc.mp4", HEVC),
        ("hevc.mkv", HEVC),
        ("hevc.ts", HEVC),
        ("mpeg2.ts", ["-c:v", "mpeg2video", "-g", "15", "-bf", "2"]),
        ("uneven.mp4", [*UNEVEN, *H264]),
        ("uneven.mkv", [*UNEVEN, *H264]),
        ("vp9.webm", ["-c:v", "libvpx-vp9", "-g", "24", "-deadline", "realtime", "-cpu-used", "8"]),
        ("plain.y4m", ["-pix_fmt", "yuv420p"]),
    ],
)
def test_files_that_are_sought(
    ffmpeg: FFmpeg, tmp_path: Path, from_beginning: list[int], name: str, options: list[str]
) -> None:
    ffmpeg(*PICTURE, *options, tmp_path / name)
    locator = read_again(tmp_path / name)
    assert [mark.frame for mark in locator.marks] == list(range(0, 100, LENGTH))
    assert from_beginning == []


@pytest.mark.parametrize(
    "name, options",
    [
        ("open.avi", [*H264, *OPEN_GOP]),
        ("raw.h264", H264),
        ("refreshed.mp4", REFRESHED),
    ],
)
def test_files_that_are_read_from_the_beginning(
    ffmpeg: FFmpeg, tmp_path: Path, from_beginning: list[int], name: str, options: list[str]
) -> None:
    ffmpeg(
        "-f", "lavfi", "-i", "mandelbrot=size=96x64:rate=25", "-t", "4", *options, tmp_path / name
    )
    read_again(tmp_path / name)
    assert from_beginning


def test_key_frames_that_are_far_apart(
    ffmpeg: FFmpeg, tmp_path: Path, from_beginning: list[int]
) -> None:
    path = tmp_path / "far.ts"
    slow = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=2:duration=90"]
    ffmpeg(*slow, *H264, path)  # every 12 s
    read_again(path)
    assert from_beginning == []


@pytest.mark.parametrize(
    "name",
    [
        *("editlist_cut.mp4", "fragmented_cut.mp4", "glued_jump.ts", "audio_one_dup_dts.ts"),
        *("avi_dropped_frames.avi", "h264_bframes.avi", "camera_exif_mjpeg.avi", "ns_gap.nut"),
        *("anim.webp", "cut.gif", "mkv_pixelcrop.mkv", "thumbnail_track_first.mp4"),
        *("macos_appledouble_images", "raw.h264"),
    ],
)
def test_sources_that_are_hard_to_read(cases: Path, name: str) -> None:
    read_again(cases / name, length=7)


@pytest.mark.parametrize(
    "options",
    [
        {"start": 0.5, "frames": "3:60"},
        {"frames": "11:"},
        {"crop": "50x40+3+5", "resize": "32x32"},
        {"start": "0.3", "matrix": "bt709", "range": "full", "stream": 0},
    ],
)
def test_edits(
    ffmpeg: FFmpeg, tmp_path: Path, from_beginning: list[int], options: dict[str, Any]
) -> None:
    path = tmp_path / "film.mp4"
    ffmpeg(*PICTURE, *H264, path)
    read_again(path, **options)
    assert from_beginning == []


def test_turned_pictures(ffmpeg: FFmpeg, tmp_path: Path, from_beginning: list[int]) -> None:
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg(*PICTURE, *H264, plain)
    ffmpeg("-display_rotation:v", "90", "-i", plain, "-c", "copy", turned)
    read_again(turned)
    assert from_beginning == []


def test_damage_in_the_middle(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    ffmpeg(*PICTURE, *H264, path)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in [p for p in container.demux(video=0) if p.size][30:50]:
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    assert len(read_clip(path).frames) < 100
    read_again(path)


def test_images_and_arrays_are_read_directly(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (20, 12, 20, 3), np.uint8)
    folder = tmp_path / "images"
    folder.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index}.png")
    np.save(tmp_path / "frames.npy", frames)
    frames.tofile(tmp_path / "raw_20x12.yuv")
    for source in (folder, folder / "%d.png", tmp_path / "frames.npy"):
        locator = read_again(source, length=6)
    (folder / "3.png").write_bytes(b"damaged")
    locator = replace(locator, source=str(folder))
    assert np.array_equal(read_range(locator, 4, 16), frames[4:])  # no other image is opened
    read_again(tmp_path / "raw_20x12.yuv", pixel_format="rgb24", fps=30)


def test_another_process_in_another_folder(
    ffmpeg: FFmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg(*PICTURE, *H264, tmp_path / "film.mp4")
    monkeypatch.chdir(tmp_path)
    locator = read_again("film.mp4", frames="5:")
    script = (
        "import pickle, sys; from nervkit.video.ranges import *;"
        "print(frames_hash(read_range(pickle.load(sys.stdin.buffer), 40, 20)))"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": str(Path(ranges.__file__).parents[2])}
    done = subprocess.run(
        command, input=pickle.dumps(locator), capture_output=True, cwd="/", env=environment
    )
    wanted = frames_hash(read_clip("film.mp4", frames="45:65").frames)
    assert done.stdout.decode().strip() == wanted


def test_what_cannot_be_compared_is_not_sought(
    ffmpeg: FFmpeg, tmp_path: Path, from_beginning: list[int]
) -> None:
    path = tmp_path / "refreshed.mp4"
    ffmpeg("-f", "lavfi", "-i", "mandelbrot=size=96x64:rate=25", "-t", "4", *REFRESHED, path)
    locator, frames = read_again(path), read_clip(path).frames
    for first in range(0, 100, LENGTH):
        from_beginning.clear()
        assert np.array_equal(read_range(locator, first, 5), frames[first : first + 5])
        assert from_beginning == [first]


def test_any_range_may_be_read(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    ffmpeg(*PICTURE, *H264, path)
    locator, frames = read_again(path), read_clip(path).frames
    for first, count in ((0, 1), (16, 3), (99, 1), (0, 100), (50, 31)):
        assert np.array_equal(read_range(locator, first, count), frames[first : first + count])


def test_only_what_is_needed_is_decoded(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    ffmpeg(*PICTURE, *H264, path)
    mark = read_again(path).before(90)
    assert mark is not None
    source = Reading().open(path)
    assert source.seek(mark.pts)
    assert len(list(source.pictures())) <= 100 - mark.frame + 24


def test_a_source_that_changed_is_refused(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    ffmpeg(*PICTURE, *H264, path)
    splitter = Splitter(path, Splitting.from_options(40))
    fingerprints = [segment.fingerprint for segment in splitter]
    ffmpeg(*PICTURE, "-vf", "negate", "-frames:v", "90", *H264, path)
    with pytest.raises(SourceError, match=r"film\.mp4: frames 40 to 79 have changed"):
        read_range(splitter.locator, 40, 40, fingerprints[1])
    with pytest.raises(SourceError, match=r"film\.mp4: it has no frames 80 to 99"):
        read_range(splitter.locator, 80, 20)
    path.unlink()
    with pytest.raises(SourceError, match="no such file"):
        read_range(splitter.locator, 0, 40, fingerprints[0])


def test_sources_that_cannot_be_read_again(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path, fifo = tmp_path / "film.mkv", tmp_path / "fifo"
    ffmpeg(*PICTURE, *H264, path)
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()))
    writer.start()
    splitter = Splitter(fifo, Splitting.from_options(40))
    assert [segment.first for segment in splitter] == [0, 40, 80]
    writer.join()
    assert not splitter.source.rereadable
    assert splitter.locator is None
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    assert Splitter(frames, Splitting.from_options(2)).locator is None
