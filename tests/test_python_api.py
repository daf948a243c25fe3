"""nervkit as a library: arguments, results, and state that must stay unchanged."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import nervkit
from nervkit.collection.adding import add
from nervkit.container.file import NervFile
from nervkit.errors import OutputError, SourceError, UsageError
from nervkit.media.timing import Timing
from nervkit.models.config import VideoShape
from nervkit.models.hnerv import HNeRV
from nervkit.segments import Networks
from nervkit.target import Target
from nervkit.video.opening import View
from tests.conftest import ROOT
from tests.segmented import HEIGHT, WIDTH, random_segment, segmented

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, EACH = 3, 4  # segments of a file, and the frames of each
FRAMES = COUNT * EACH
TINY: dict[str, Any] = {"model": "hnerv", "steps": 2, "params": "6k", "seed": 3}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """(4, 48, 64, 3) uint8: a moving gradient with noise."""
    y, x = np.mgrid[:48, :64]
    moving = [2 * x[..., None] + y[..., None] + 9 * t + np.arange(3) for t in range(4)]
    noise = np.random.default_rng(0).integers(0, 40, (4, 48, 64, 3))
    return ((np.stack(moving) + noise) % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def movie(frames: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames, lossless."""
    path = tmp_path_factory.mktemp("movie") / "film.mkv"
    nervkit.write(frames, path, fps=10, codec="ffv1")
    return path


@pytest.fixture(scope="module")
def data() -> bytes:
    """A .nerv file of several segments."""
    return segmented([random_segment(EACH, seed) for seed in range(COUNT)])


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "video.nerv"
    file.write_bytes(data)
    return file


@pytest.fixture(scope="module")
def decoded(data: bytes) -> np.ndarray:
    """Its frames, one by one."""
    with nervkit.open(data) as video:
        return np.stack(list(video))


# Sources


class Named:
    """Path-like, and neither a str nor a Path."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __fspath__(self) -> str:
        return self._path


class OnlyReads:
    """A binary stream that can neither seek nor peek."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, count: int = -1) -> bytes:
        return self._stream.read(count)


def a_pipe(content: bytes) -> io.BufferedReader:
    """The read end of a pipe that delivers these bytes."""
    end, begin = os.pipe()

    def fill() -> None:
        with open(begin, "wb") as file:  # noqa: PTH123 (a descriptor)
            file.write(content)

    threading.Thread(target=fill).start()
    return open(end, "rb")  # noqa: PTH123


FILES: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "path-like": Named,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "file": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "stream": lambda path: OnlyReads(path.read_bytes()),
    "pipe": lambda path: a_pipe(path.read_bytes()),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_any_kind(kind: str, movie: Path, frames: np.ndarray) -> None:
    source = FILES[kind](movie)
    clip = nervkit.read_clip(source, strict=True)
    assert np.array_equal(clip.frames, frames)
    assert clip.fps == 10
    if isinstance(source, io.IOBase):
        assert not source.closed
        source.close()


def test_a_file_object_is_read_from_its_beginning_and_again(movie: Path) -> None:
    with movie.open("rb") as file:
        file.seek(100)
        first, again = nervkit.read_clip(file), nervkit.read_clip(file)
    assert np.array_equal(first.frames, again.frames)
    assert len(first.frames) == 4


def test_views_of_one_file_do_not_move_each_other() -> None:
    file = io.BytesIO(bytes(range(100)))
    one, other = View(file), View(file)
    assert one.read(3) == bytes([0, 1, 2])
    assert other.seek(-2, os.SEEK_END) == 98
    assert (one.read(2), other.read(9)) == (bytes([3, 4]), bytes([98, 99]))
    assert one.seek(5, os.SEEK_CUR) == one.tell() == 10
    assert one.read() == bytes(range(10, 100))


def test_bytes_that_are_cut_short_are_damaged(movie: Path) -> None:
    whole = movie.read_bytes()
    for content in (whole[: 2 * len(whole) // 3], io.BytesIO(whole[: 2 * len(whole) // 3])):
        with pytest.raises(SourceError, match=r"these bytes|this file.*; strict refuses"):
            nervkit.read_clip(content, strict=True)


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\nfilm.mkv"])
def test_bytes_that_are_no_video(content: bytes) -> None:
    with pytest.raises(SourceError, match="these bytes: "):
        nervkit.read_clip(content)


def test_a_file_that_is_open_as_text(movie: Path) -> None:
    with movie.open(encoding="latin-1") as file, pytest.raises(UsageError, match="mode 'rb'"):
        nervkit.read_clip(file)


def test_raw_planes_from_bytes() -> None:
    planes = np.full((2, 6, 4), 128, np.uint8)  # two frames of 4x4 in 4:2:0
    clip = nervkit.read_clip(planes.tobytes(), size="4x4", fps=5)
    assert clip.shape == (2, 4, 4, 3)
    assert clip.fps == 5


def first(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


MEMORY: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda frames: frames,
    "channels first": lambda frames: frames.transpose(0, 3, 1, 2),
    "list": list,
    "tuple": tuple,
    "list of tensors": lambda frames: list(torch.from_numpy(frames)),
    "list of tensors, channels first": lambda frames: list(first(frames)),
    "list of images": lambda frames: [Image.fromarray(frame) for frame in frames],
    "needs gradients": lambda frames: (first(frames) / 255).requires_grad_(),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_frames_in_memory(kind: str, frames: np.ndarray) -> None:
    clip = nervkit.read_clip(MEMORY[kind](frames), fps=10)
    assert np.array_equal(clip.frames, frames)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda f: f[0], UsageError, r"\(48, 64, 3\) is a single frame.*pass frame\[None\]"),
        (lambda f: torch.from_numpy(f[0]), UsageError, r"a single frame.*pass frame\[None\]"),
        (lambda f: first(f)[0], UsageError, r"\(3, 48, 64\) is a single frame"),
        (lambda f: [], SourceError, "list of frames is empty"),
        (lambda f: [f[0], f[1, :9]], SourceError, "must all have the same size"),
        (lambda f: [f[0], torch.from_numpy(f[1])], SourceError, "the same size and type"),
        (lambda f: ["a.png"], UsageError, r"must hold \(H, W, 3\) arrays or tensors"),
        (lambda f: 5, UsageError, "cannot read frames from int; give a path"),
    ],
)
def test_what_is_no_video(
    wrong: Callable[[np.ndarray], Any], error: type, says: str, frames: np.ndarray
) -> None:
    with pytest.raises(error, match=says):
        nervkit.read_clip(wrong(frames))


def test_a_clip_is_taken_as_it_is(movie: Path) -> None:
    clip = nervkit.read_clip(movie)
    assert nervkit.read_clip(clip) is clip
    with pytest.raises(UsageError, match="resize does not apply to a Clip"):
        nervkit.read_clip(clip, resize="8x8")


@pytest.mark.parametrize("kind", ["bytes", "file", "list", "list of tensors, channels first"])
def test_encode_takes_what_read_clip_takes(
    kind: str, movie: Path, frames: np.ndarray, tmp_path: Path
) -> None:
    output = tmp_path / "out.nerv"
    source = FILES[kind](movie) if kind in FILES else MEMORY[kind](frames)
    report = nervkit.encode(source, Named(output), **TINY)
    assert report.frames == 4
    with nervkit.open(output) as video:
        assert video.shape == frames.shape
    if kind == "bytes":
        assert nervkit.verify(output, io.BytesIO(movie.read_bytes())).psnr == report.psnr
        assert nervkit.verify(output, nervkit.read_clip(movie)).psnr == report.psnr


def test_bytes_in_several_segments(movie: Path, tmp_path: Path) -> None:
    report = nervkit.encode(movie.read_bytes(), tmp_path / "out.nerv", segments=2, **TINY)
    with nervkit.open(report.output) as video:
        assert [segment.frames for segment in video.segments] == [2, 2]


RESTORATIONS: dict[str, Callable[..., Any]] = {
    "denoise": partial(nervkit.denoise, fit=False),
    "inpaint": partial(nervkit.inpaint, mask=np.eye(16, 24) > 0, fit=False),
    "interpolate": partial(nervkit.interpolate, factor=2),
}


@pytest.mark.parametrize("task", RESTORATIONS)
def test_restorations_give_back_the_kind_that_they_take(
    task: str, frames: np.ndarray, tmp_path: Path
) -> None:
    frames = frames[:2, :16, :24]
    movie = tmp_path / "film.mkv"
    nervkit.write(frames, movie, codec="ffv1")
    restore, count = RESTORATIONS[task], 4 if task == "interpolate" else 2
    wanted = restore(frames)
    turned = restore(frames.transpose(0, 3, 1, 2))
    assert turned.shape == (count, 3, 16, 24)
    assert np.array_equal(turned.transpose(0, 2, 3, 1), wanted)
    listed = restore(list(first(frames)))
    assert isinstance(listed, list)
    assert [type(frame) for frame in listed] == [torch.Tensor] * count
    assert np.array_equal(torch.stack(listed).permute(0, 2, 3, 1), wanted)
    for source in (movie.read_bytes(), nervkit.read_clip(movie)):
        clip = restore(source)
        assert isinstance(clip, nervkit.Clip)
        assert np.array_equal(clip.frames, wanted)


# Options


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda f: nervkit.encode(f, "x.nerv", target_sise=1),
            "encode.*did you mean 'target_size'",
        ),
        (lambda f: nervkit.encode(f, "x.nerv", frame="0:2"), "encode.*did you mean 'frames'"),
        (lambda f: nervkit.verify("x.nerv", f, fsp=5), "verify.*did you mean 'fps'"),
        (lambda f: nervkit.denoise(f, overwrit=True), "denoise.*did you mean 'overwrite'"),
        (lambda f: nervkit.inpaint(f, boxs=["1,1,2,2"]), "inpaint.*did you mean 'boxes'"),
        (lambda f: nervkit.interpolate(f, factr=2), "interpolate.*did you mean 'factor'"),
        (lambda f: nervkit.open("x.nerv", outptu="torch"), "NervVideo.*did you mean 'output'"),
        (lambda f: nervkit.encode(f, "x.nerv", qqqqqq=1), r"encode\(\) has no option 'qqqqqq'$"),
    ],
)
def test_a_mistyped_option_is_named(
    call: Callable[[np.ndarray], Any], says: str, frames: np.ndarray
) -> None:
    with pytest.raises(TypeError, match=says) as caught:
        call(frames)
    assert isinstance(caught.value, nervkit.NervError)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda f: nervkit.encode(f, "x.nerv", target_bpp="much"), "target_bpp must be a number"),
        (lambda f: nervkit.encode(f, "x.nerv", crop=(20,)), r"crop must be WxH.*not \(20,\)"),
        (lambda f: nervkit.encode(f, "x.nerv", crop=(20, "y")), "crop must be WxH"),
        (lambda f: nervkit.encode(f, None), "output must be a path, not NoneType"),
        (lambda f: nervkit.encode(f, b"x.nerv"), "output must be a path, not bytes"),
        (lambda f: nervkit.encode(f, "x\0.nerv"), "output's name has a NUL character"),
        (lambda f: nervkit.write(f, None), "output must be a path"),
        (lambda f: nervkit.denoise(f, b"x.mkv"), "output must be a path"),
        (lambda f: nervkit.Limits(memory=-1), "memory must be an integer from 1, not -1"),
        (lambda f: nervkit.Limits(pixels="x"), "pixels must be an integer from 1, not 'x'"),
        (lambda f: nervkit.open("x.nerv", keep_bytes=-5), "keep_bytes must be an integer from 0"),
        (lambda f: nervkit.open("x.nerv", limits=5), r"limits must be nervkit\.Limits"),
        (lambda f: nervkit.open(""), "the file name is empty"),
        (lambda f: nervkit.open("x\0.nerv"), "no file can have this name"),
    ],
)
def test_an_invalid_value_is_a_usage_error(
    call: Callable[[np.ndarray], Any], says: str, frames: np.ndarray
) -> None:
    with pytest.raises(UsageError, match=says):
        call(frames)


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (nervkit.ProgressBar, r"on_progress: pass a bar, ProgressBar\(\)"),
        (5, "on_progress must be a function or None, not int"),
    ],
)
def test_a_callback_that_cannot_be_called_is_found_before_the_fit(
    callback: Any, says: str, frames: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        nervkit.encode(frames, tmp_path / "a.nerv", on_progress=callback, **TINY)
    assert list(tmp_path.iterdir()) == []


def test_a_nerv_file_is_no_source(path: Path, data: bytes, tmp_path: Path) -> None:
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(SourceError, match=r"this is a \.nerv file: decode it first, or use"):
            nervkit.read_clip(source)
    with nervkit.open(path) as video, pytest.raises(UsageError, match=r"such as video\[:\]"):
        nervkit.encode(video, tmp_path / "a.nerv", **TINY)


def test_values_may_be_text_or_tuples(frames: np.ndarray) -> None:
    assert Target.from_options(None, "0.5") == Target(bpp=0.5)
    assert np.array_equal(nervkit.read_clip(frames, crop=(20, 16)).frames, frames[:, 16:32, 22:42])
    window = nervkit.read_clip(frames, crop=(20, 16, 3, 5)).frames
    assert np.array_equal(window, frames[:, 5:21, 3:23])


@pytest.mark.parametrize("device", ["mps", torch.device("mps"), "meta", "gpu", 1.5])
def test_devices_that_there_are_not(device: Any, data: bytes) -> None:
    with pytest.raises(UsageError, match="choose from: auto, cpu, cuda, cuda:N"):
        nervkit.open(data, device=device)


def test_a_device_may_be_torchs(data: bytes, frames: np.ndarray, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert nervkit.verify(data, device=cpu).frames == FRAMES
    report = nervkit.encode(frames, tmp_path / "out.nerv", device=cpu, **TINY)
    assert nervkit.decode(report.output, tmp_path / "out.npy", device=cpu).frames == 4


def test_progress_of_reading_and_writing(movie: Path, tmp_path: Path) -> None:
    read: list[tuple[int, int | None]] = []
    written: list[tuple[int, int]] = []
    clip = nervkit.read_clip(movie, on_progress=lambda *now: read.append(now))
    nervkit.write(clip, tmp_path / "out.npy", on_progress=lambda *now: written.append(now))
    assert read == written == [(1, 4), (2, 4), (3, 4), (4, 4)]


# Writing


@pytest.mark.parametrize("name", ["out.mkv", "out.npy", "out%02d.png"])
def test_a_clip_is_written_and_read_again(name: str, movie: Path, tmp_path: Path) -> None:
    clip = nervkit.read_clip(movie)
    codec = {"codec": "ffv1"} if name.endswith("mkv") else {}
    nervkit.write(clip, tmp_path / name, **codec)
    again = nervkit.read_clip(tmp_path / name, **({} if codec else {"fps": 10}))
    assert np.array_equal(again.frames, clip.frames)
    assert again.timing.seconds == clip.timing.seconds
    with pytest.raises(nervkit.NervError, match="exists already"):
        nervkit.write(clip, tmp_path / name, **codec)
    nervkit.write(clip, tmp_path / name, overwrite=True, **codec)


def test_what_is_written_keeps_variable_times(movie: Path, tmp_path: Path) -> None:
    clip = nervkit.read_clip(movie)
    clip.timing = Timing(np.array([0, 3, 4, 9]), Fraction(1, 10), 2)
    nervkit.write(clip, tmp_path / "out.mkv", codec="ffv1")
    assert nervkit.read_clip(tmp_path / "out.mkv").timing.seconds == clip.timing.seconds
    notes = nervkit.write(clip, Named(tmp_path / "out.y4m"))
    assert notes == ["y4m cannot hold variable timing: written at the mean frame rate"]


# Frames of a file


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_frames_by_index(output: Any, data: bytes, decoded: np.ndarray) -> None:
    wanted = decoded if output == "numpy" else first(decoded).numpy()
    with nervkit.open(data, output=output) as video:
        kind = np.ndarray if output == "numpy" else torch.Tensor
        assert video.shape == wanted.shape
        for index in (0, -1, 7, [1, 5, 9], [9, 0, 9, -2], range(3, 5), slice(2, 9), slice(None)):
            got = video[index]
            assert type(got) is kind
            assert np.array_equal(got, wanted[index])
        for index in (np.array([5, 1]), torch.tensor([11, 3]), [np.int64(2)]):
            assert np.array_equal(video[index], wanted[list(index)])
        mask = np.arange(FRAMES) % 3 == 0
        for index in (mask, torch.tensor(mask)):
            assert np.array_equal(video[index], wanted[mask])
        assert video[[]].shape == (0, *wanted.shape[1:])
        assert np.array_equal(video[::-5], wanted[::-5])
        assert np.array_equal(list(video), wanted)


@pytest.mark.parametrize(
    "index", [0.5, [0.0], True, [True, False], (1, 2), "1", None, np.zeros((2, 2), int), [1, None]]
)
def test_what_is_no_index(index: Any, data: bytes) -> None:
    with nervkit.open(data) as video, pytest.raises(TypeError, match="whole number, a slice or"):
        video[index]


def test_an_index_of_no_frame_is_found_before_any_is_decoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nervkit.open(data) as video:
        monkeypatch.setattr(nervkit.NervVideo, "_decode", lambda *_: pytest.fail("decoded"))
        beyond = (FRAMES, -FRAMES - 1, [0, FRAMES], np.array([-FRAMES - 1]))
        for index in (*beyond, np.ones(FRAMES + 1, bool)):
            with pytest.raises(IndexError, match=f"(of|for) {FRAMES}"):
                video[index]


def test_an_unknown_output(data: bytes) -> None:
    with pytest.raises(UsageError, match="choose from: numpy, torch"):
        nervkit.open(data, output="jax")  # type: ignore[call-overload]


def test_tensors_are_the_callers(data: bytes) -> None:
    """The caller can change them, and use them in computations with gradients."""
    with nervkit.open(data, output="torch") as video:
        one, some = video[3], video[2:4]
        assert np.array_equal(one, some[1])
        one += 1
        assert not np.array_equal(one, some[1])
        weight = torch.ones(3, HEIGHT, WIDTH, requires_grad=True)
        (weight * video[3]).sum().backward()
        assert np.array_equal(weight.grad, some[1].float())
        assert one.is_contiguous()
        assert some.is_contiguous()


TIMES = Timing(np.array([2, 3, 7, 8]), Fraction(1, 30), 4)  # shown until 12/30 s


def shown_at(timing: Timing, seconds: Fraction) -> int:
    """By definition: the last frame whose start time is not later."""
    return max(i for i, pts in enumerate(timing.pts.tolist()) if pts * timing.time_base <= seconds)


def test_the_frame_at_a_time() -> None:
    for unit in range(2 * 7, 12 * 7):
        seconds = Fraction(unit, 7 * 30)
        assert TIMES.index_at(float(seconds)) == shown_at(TIMES, seconds)
    for wrong in (0.0, 2 / 30 - 1e-9, 12 / 30, 99.0, float("nan")):
        with pytest.raises(IndexError, match="no frame at"):
            TIMES.index_at(wrong)


@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(25), Fraction(60_000, 1001)])
def test_a_time_that_is_a_float_means_its_own_frame(rate: Fraction) -> None:
    timing = Timing(np.arange(500), 1 / rate, 1)
    for frame in range(500):
        assert timing.index_at(float(frame / rate)) == frame


def test_the_frames_in_a_range_of_times() -> None:
    units = range(2 * 3, 12 * 3 + 1)
    for a in units:
        for b in units:
            start, stop = Fraction(a, 90), Fraction(b, 90)
            if a > b:
                with pytest.raises(UsageError, match="must be in order"):
                    TIMES.indices_in(float(start), float(stop))
                continue
            begins = [pts * TIMES.time_base for pts in TIMES.pts.tolist()]
            ends = [*begins[1:], TIMES.seconds[1]]
            spans = list(zip(begins, ends, strict=True))
            wanted = [i for i, (begin, end) in enumerate(spans) if begin < stop and start < end]
            got = TIMES.indices_in(float(start), float(stop))
            assert list(got) == (wanted if start < stop else [])
    for a, b in ((0.0, 0.2), (0.2, 0.5), (float("nan"), 0.3)):
        with pytest.raises(UsageError, match="within the video"):
            TIMES.indices_in(a, b)


def test_frames_by_time(data: bytes, decoded: np.ndarray) -> None:
    with nervkit.open(data) as video:  # 25 frames a second
        assert np.array_equal(video.frame_at(0.21), decoded[5])
        assert np.array_equal(video.frames_in(0.19, 0.4), decoded[4:10])
        assert video.frames_in(0.2, 0.2).shape == (0, *decoded.shape[1:])
        assert np.array_equal(video.frame_at("0:00.21"), decoded[5])
        assert np.array_equal(video.frames_in("0", "0.2s"), decoded[:5])
        for call in (lambda: video.frame_at(None), lambda: video.frames_in(0, "soon")):
            with pytest.raises(UsageError, match="must be a time such as"):
                call()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_a_closed_video(kind: Callable[[bytes], Any], data: bytes) -> None:
    video = nervkit.open(kind(data))
    video[0]
    video.close()
    for call in (lambda: video[0], lambda: video.segments[0].model, lambda: next(iter(video))):
        with pytest.raises(UsageError, match="this video is closed; open it again"):
            call()
    if kind is not io.BytesIO:
        with pytest.raises(UsageError, match="this file is closed; open it again"):
            video.file.check_all()


# Other processes


@pytest.mark.parametrize("kind", ["path", "bytes", "BytesIO", "NervFile"])
def test_a_pickled_video_is_the_same_one(
    kind: str, path: Path, data: bytes, decoded: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    source = {
        "path": lambda: path.name,
        "bytes": lambda: data,
        "BytesIO": lambda: io.BytesIO(data),
        "NervFile": lambda: NervFile(path.name),
    }[kind]()
    limits = nervkit.Limits(values=10_000)
    kept = pickle.dumps(nervkit.open(source, output="torch", limits=limits, keep_bytes=1))
    monkeypatch.chdir("/")  # where the other process is need not be here
    with pickle.loads(kept) as video:
        assert np.array_equal(video[:], first(decoded))
        if kind != "NervFile":
            assert video.file.limits == limits


def test_an_open_file_is_not_pickled(path: Path) -> None:
    with (
        path.open("rb") as file,
        nervkit.open(file) as video,
        pytest.raises(UsageError, match=r"video\.nerv: an open file cannot be sent .* a path"),
    ):
        pickle.dumps(video)


class Frames(Dataset):
    """The frames of a video."""

    def __init__(self, video: nervkit.NervVideo) -> None:
        self.video = video

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.video[index]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_forked_workers_read_on_their_own(
    kind: str, path: Path, data: bytes, decoded: np.ndarray
) -> None:
    video = nervkit.open(path if kind == "path" else data, output="torch", keep_bytes=1)
    video[0]  # a network and a worker thread of this process's
    video._networks._worker.submit(lambda: None).result()
    # What a thread of the parent's has begun, and holds, at the moment of the fork.
    video._networks._entry(1, ahead=True)
    with video.file._lock, video._networks._lock:
        loader = DataLoader(
            Frames(video), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60
        )
        batches = list(loader)
    assert np.array_equal(torch.cat(batches), first(decoded))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_does_not_share_an_open_file(path: Path) -> None:
    with path.open("rb") as file, nervkit.open(file) as video:
        video.file._file.after_fork()
        with pytest.raises(SourceError, match=r"video\.nerv: the forked process shares"):
            video[0]
    with nervkit.open(io.BytesIO(path.read_bytes())) as video:
        video.file._file.after_fork()
        assert video[0].shape == (HEIGHT, WIDTH, 3)


def test_what_was_begun_before_a_fork_is_begun_anew(data: bytes) -> None:
    video = nervkit.open(data)
    video[0]
    networks: Networks = video._networks
    begun, _ = networks._entry(1)
    networks.after_fork()
    assert list(networks._kept) == [0]
    assert isinstance(begun.network, Future)
    assert not begun.network.done()
    assert networks.get(1) is not networks.get(0)


# In words and pictures


def test_reprs_are_one_line(data: bytes, movie: Path) -> None:
    with nervkit.open(data) as video:
        assert repr(video) == f"NervVideo({FRAMES} frames of {WIDTH}x{HEIGHT}, 25 fps, hnerv)"
    assert repr(nervkit.read_clip(movie)) == "Clip(4 frames of 64x48, 10 fps)"


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_a_notebook_shows_a_strip_of_frames(output: Any, data: bytes, decoded: np.ndarray) -> None:
    with nervkit.open(data, output=output) as video:
        html = video._repr_html_()
    assert html.count(f"NervVideo({FRAMES} frames") == 2
    picture = base64.b64decode(re.search(r'base64,([^"]+)"', html)[1])
    strip = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    assert strip.shape == (96, 5 * 128, 3)
    last = np.asarray(Image.fromarray(decoded[-1]).resize((128, 96)))
    assert np.abs(strip[:, -128:].astype(float) - last).mean() < 10
    assert nervkit.read_clip(decoded[:2])._repr_html_().count("Clip(2 frames") == 2


def test_another_source_is_noted(frames: np.ndarray, tmp_path: Path) -> None:
    report = nervkit.encode(frames, tmp_path / "a.nerv", **TINY)
    assert not any("another" in note for note in nervkit.verify(report.output, frames).notes)
    other = np.where(frames > 127, 0, 255).astype(np.uint8)
    notes = nervkit.verify(report.output, other).notes
    assert f"the file states {report.psnr:.2f} dB against its source: this may be" in notes[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": None}, "seed must be an integer"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"seed": "3"}, "seed must be an integer in 0 to"),
        ({"steps": True}, "steps must be a positive whole number, not True"),
        ({"prune": "0.1"}, "prune must be a number, not '0.1'"),
        ({"checkpoint_interval": -1}, "checkpoint_interval must be a number of seconds from 0"),
        ({"start_from": 3, "params": None}, "start_from must be a path"),
        ({"ray": True}, "ray must be auto, local or an address"),
        ({"model": ["nerv"]}, "model must be a name"),
    ],
)
def test_values_of_a_wrong_type_are_usage_errors(
    frames: np.ndarray, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.encode(frames, tmp_path / "a.nerv", **(TINY | options))


def test_numbers_of_numpy_are_numbers(frames: np.ndarray, tmp_path: Path) -> None:
    own = {"steps": 2, "seed": 3, "bits": 6, "prune": 0.5}
    theirs = {
        "steps": np.int64(2),
        "seed": np.uint8(3),
        "bits": np.int32(6),
        "prune": np.float64(0.5),
        "stop": None,
    }
    nervkit.encode(frames, tmp_path / "a.nerv", **(TINY | own))
    nervkit.encode(frames, tmp_path / "b.nerv", **(TINY | theirs))
    assert (tmp_path / "a.nerv").read_bytes() == (tmp_path / "b.nerv").read_bytes()


def test_an_array_in_a_collection_needs_a_name(frames: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        add(tmp_path / "a.nervc", frames, steps=2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"codec": "av1", "resize": "33x25"}, UsageError, "needs an even width and height"),
        ({"codec": "x265", "resize": "8x8"}, OutputError, r"libx265 cannot write 8x8 .*; try"),
        ({"crf": "20"}, UsageError, "crf must be an integer"),
        ({"on_progress": 3}, UsageError, "on_progress must be a function"),
    ],
)
def test_movies_that_cannot_be_written(
    path: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        nervkit.decode(path, tmp_path / "out.mkv", **options)
    assert "avcodec" not in str(raised.value)
    assert not list(tmp_path.glob("*.mkv"))


# What is left alone


def states() -> list[bytes]:
    """All random states, the number of threads, the default dtype and the scheduling."""
    own = [random.getstate(), np.random.get_state(), torch.get_num_threads()]
    if hasattr(os, "sched_getscheduler"):
        own += [os.sched_getscheduler(0), os.sched_getparam(0).sched_priority]
    return [*map(pickle.dumps, own), bytes(torch.get_rng_state()), str(torch.get_default_dtype())]


@pytest.mark.parametrize(
    "call",
    [
        lambda frames, folder: nervkit.encode(frames, folder / "a.nerv", **TINY),
        lambda frames, folder: nervkit.encode(
            frames, folder / "a.nerv", model="hnerv", steps=2, target_size=4000
        ),
        lambda frames, folder: nervkit.denoise(frames[:2, :24, :32], **TINY),
        lambda frames, folder: nervkit.interpolate(frames[:2], factor=2),
    ],
    ids=["encode", "encode to a size", "denoise", "interpolate"],
)
def test_calls_leave_global_state_alone(
    call: Callable[[np.ndarray, Path], Any], frames: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    before, environment = states(), dict(os.environ)
    call(frames, tmp_path)
    assert states() == before
    assert dict(os.environ) == environment


def test_reading_and_decoding_leave_global_state_alone(path: Path, tmp_path: Path) -> None:
    before, environment = states(), dict(os.environ)
    nervkit.decode(path, tmp_path / "out.mkv", codec="av1")  # SVT-AV1 reads the environment
    nervkit.verify(path)
    size = int(0.8 * path.stat().st_size)
    nervkit.requantize(path, tmp_path / "small.nerv", target_size=size)
    assert states() == before
    assert dict(os.environ) == environment


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_no_thread_of_an_encoder_is_a_real_time_one(frames: np.ndarray, tmp_path: Path) -> None:
    """SVT-AV1 makes all of its threads so, if the process is root's."""
    seen = set()

    def look(done: int, total: int) -> None:
        threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
        seen.update(map(os.sched_getscheduler, threads))

    nervkit.write(frames, tmp_path / "a.mkv", codec="av1", on_progress=look)
    assert seen == {os.SCHED_OTHER}


def test_a_fit_does_not_depend_on_the_callers_random_state(
    frames: np.ndarray, tmp_path: Path
) -> None:
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nervkit.encode(frames, tmp_path / f"{seed}.nerv", model="hnerv", steps=3, target_size=4000)
        made.append((tmp_path / f"{seed}.nerv").read_bytes())
    assert made[0] == made[1]


def test_networks_for_decoding_leave_other_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: pytest.fail("seeds GPUs"))
    monkeypatch.setattr("torch.cuda.manual_seed", lambda seed: pytest.fail("seeds a GPU"))
    shape = VideoShape(4, HEIGHT, WIDTH)
    HNeRV.for_decoding(HNeRV.configure(shape, 2500, strides=(2, 2)), shape)


IMPORT = """
import json, os, signal, sys
before = dict(os.environ), signal.getsignal(signal.SIGINT)
import nervkit
nervkit.open, nervkit.encode, nervkit.denoise, nervkit.decode
import torch, nervkit.models.device
print(json.dumps(before == (dict(os.environ), signal.getsignal(signal.SIGINT))))
"""


def test_importing_leaves_the_environment_and_signals_alone() -> None:
    found = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "SVT_LOG")}
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is True


PREPARED = """
import ctypes, os, sys
sys.argv[0] = sys.argv[1]
class Libc:
    def __init__(self, name): pass
    def mallopt(self, parameter, value): print("mallopt", parameter, value)
ctypes.CDLL = Libc
import nervkit
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("THP_MEM_ALLOC_ENABLE"))
"""


@pytest.mark.parametrize("name", ["nervkit", "train.py"])
def test_only_the_command_sets_what_makes_it_faster(name: str) -> None:
    found = os.environ | {"OMP_WAIT_POLICY": "ACTIVE"}
    found.pop("THP_MEM_ALLOC_ENABLE", None)
    command = [sys.executable, "-c", PREPARED, name]
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=True)
    settings = done.stdout.splitlines()[-1]
    assert settings == ("ACTIVE 1" if name == "nervkit" else "ACTIVE None")
    if sys.platform == "linux":
        assert done.stdout.count("mallopt") in ((2, 0) if name == "nervkit" else (0,))


# Examples


def run_example(name: str, *arguments: Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    place = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_a_data_set(path: Path, data: bytes, tmp_path: Path) -> None:
    other = tmp_path / "other.nerv"
    other.write_bytes(data)
    lines = run_example("dataset.py", path, other).splitlines()
    assert len(lines) == 2 * FRAMES // 4
    assert all(line.startswith(f"(4, 3, {HEIGHT}, {WIDTH}) torch.uint8") for line in lines)
    videos = [int(one) for line in lines for one in re.findall(r"\d", line.split("[")[1])]
    assert sorted(videos) == [0] * FRAMES + [1] * FRAMES


def test_the_example_of_an_export(tmp_path: Path) -> None:
    source, target = tmp_path / "one.nerv", tmp_path / "one.pt2"
    source.write_bytes(segmented([random_segment(EACH, 1)]))
    lines = run_example("export.py", source, target).splitlines()
    assert lines == [f"frame {index}: differs by 0 at most" for index in range(EACH)]
    assert target.stat().st_size > 1000
