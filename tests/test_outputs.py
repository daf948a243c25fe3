"""Outputs: names, links, pipes, numbered images; no file is lost that the command did not write."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from nervkit.errors import OutputError, UsageError
from nervkit.lock import locked
from nervkit.media.timing import Timing
from nervkit.output import helper_path, replacing
from nervkit.video.movies import MovieOptions
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, place_of, write_video

DEFAULTS = MovieOptions()
MOVIES = [".mp4", ".mov", ".mkv", ".webm"]
FILES = [*MOVIES, ".y4m", ".npy"]
TIMING = Timing(np.arange(6), Fraction(1, 25), 1)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (6, 32, 48, 3), np.uint8)


def stream_of(frames: np.ndarray) -> Stream:
    return Stream(frames, frames.shape[2], frames.shape[1], TIMING[: len(frames)])


def put(
    output: str | Path, frames: np.ndarray, overwrite: bool = False, source: object = None
) -> list[str]:
    """Write as decode does."""
    check_destination(str(output), DEFAULTS, overwrite, source)
    return write_video(str(output), stream_of(frames), DEFAULTS)


def count(path: Path) -> int:
    """The number of frames in a file."""
    if path.suffix == ".npy":
        return len(np.load(path))
    with path.open("rb") as file, av.open(file) as container:
        return sum(1 for _ in container.decode(video=0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Names


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize(
    "stem", ["a:b", "Movie: T", "file:a", "50% off", "a%03d", "%d", "http:", "-x", "a|b'c", "é\n"]
)
def test_any_name_is_a_name(
    tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, stem: str, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)  # so that the name is all that is given
    put(stem + suffix, frames)
    assert names(tmp_path) == [stem + suffix]
    assert count(Path(stem + suffix)) == 6


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("size", [240, 255])
def test_long_names(tmp_path: Path, frames: np.ndarray, suffix: str, size: int) -> None:
    path = tmp_path / ("x" * (size - len(suffix)) + suffix)
    put(path, frames)
    assert list(tmp_path.iterdir()) == [path]
    assert count(path) == 6


def test_long_names_of_images(tmp_path: Path, frames: np.ndarray) -> None:
    put(tmp_path / ("x" * 240 + "%03d.png"), frames[:2])
    put(tmp_path / ("y" * 255), frames[:2])
    assert names(tmp_path) == ["x" * 240 + "000.png", "x" * 240 + "001.png", "y" * 255]


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "x" * 300, "x" * 300 + "%03d.png"])
def test_names_that_no_file_can_have(tmp_path: Path, frames: np.ndarray, name: str) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        put(tmp_path / name, frames)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp", ".jpg", ".jpeg", ".webp"])
def test_one_frame_is_one_image(tmp_path: Path, frames: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    smooth = np.full((1, 32, 48, 3), (200, 40, 90), np.uint8)
    given = frames[:1] if suffix in (".png", ".tiff", ".bmp") else smooth
    check_destination(str(path), DEFAULTS, False, single=True)
    assert write_video(str(path), stream_of(given), DEFAULTS) == []
    read = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert names(tmp_path) == [path.name]
    assert np.abs(read - given[0]).max() <= (0 if given is not smooth else 6)
    with pytest.raises(OutputError, match="exists already"):
        check_destination(str(path), DEFAULTS, False, single=True)


def test_what_is_a_pattern(tmp_path: Path, frames: np.ndarray) -> None:
    for name in ("100%.png", "a.png"):
        with pytest.raises(UsageError, match="an image file holds one frame"):
            put(tmp_path / name, frames)
    for name in ("%d%d.png", "%05d"):
        with pytest.raises(UsageError, match="a pattern needs exactly one number"):
            put(tmp_path / name, frames)
    put(tmp_path / "50% off %02d.png", frames[:2])
    put(tmp_path / "b%3d.png", frames[:1])
    put(tmp_path / "50% off", frames[:1])
    assert names(tmp_path) == ["50% off", "50% off 00.png", "50% off 01.png", "b  0.png"]


# Links


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(
    tmp_path: Path, frames: np.ndarray, suffix: str, there: bool
) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / f"data{suffix}", tmp_path / f"out{suffix}"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("elsewhere") / target.name)
    if there:
        with pytest.raises(OutputError, match="exists already"):
            put(link, frames)
    put(link, frames, overwrite=True)
    assert link.is_symlink()
    assert count(target) == 6
    assert names(tmp_path) == ["elsewhere", f"out{suffix}"]
    assert names(tmp_path / "elsewhere") == [target.name]


def test_links_among_images(tmp_path: Path, frames: np.ndarray) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to("far")
    (tmp_path / "one.png").write_bytes(b"old")
    (tmp_path / "far" / "00001.png").symlink_to(tmp_path / "one.png")
    put(f"{tmp_path}/near/", frames, overwrite=True)
    assert (tmp_path / "near").is_symlink()
    assert (tmp_path / "far" / "00001.png").is_symlink()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")), frames[1])
    assert len(names(tmp_path / "far")) == 6


def test_links_to_nowhere(tmp_path: Path, frames: np.ndarray) -> None:
    (tmp_path / "gone.mp4").symlink_to("no/such/folder.mp4")
    with pytest.raises(OutputError, match="no such folder"):
        put(tmp_path / "gone.mp4", frames)
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(OutputError, match=r"loop\.mp4: this link points to itself"):
        put(tmp_path / "loop.mp4", frames)


# Pipes


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], tuple[Path, Callable[[], bytes]]]:
    """Makes a FIFO with a reader, and returns what was read."""

    def make(name: str) -> tuple[Path, Callable[[], bytes]]:
        path, read = tmp_path / name, []
        os.mkfifo(path)
        reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
        reader.start()

        def result() -> bytes:
            reader.join(20)
            return read[0]

        return path, result

    return make


@pytest.mark.parametrize("name", ["pipe", "pipe.y4m", "pipe.fifo"])
def test_a_fifo_gets_y4m(
    tmp_path: Path,
    frames: np.ndarray,
    fifo: Callable[[str], tuple[Path, Callable[[], bytes]]],
    name: str,
) -> None:
    path, result = fifo(name)
    put(path, frames)
    assert path.is_fifo()
    assert names(tmp_path) == [name]
    put(tmp_path / "same.y4m", frames)
    assert result() == (tmp_path / "same.y4m").read_bytes()


def test_a_fifo_gets_an_array(
    frames: np.ndarray, fifo: Callable[[str], tuple[Path, Callable[[], bytes]]]
) -> None:
    path, result = fifo("pipe.npy")
    put(path, frames)
    assert result().endswith(frames.tobytes())


@pytest.mark.parametrize("suffix", MOVIES)
def test_a_movie_is_not_piped(tmp_path: Path, frames: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="a movie must be a file, not a pipe; pipe y4m instead"):
        put(path, frames, overwrite=True)
    assert path.is_fifo()


def test_devices(tmp_path: Path, frames: np.ndarray) -> None:
    put("/dev/null", frames)
    assert not Path("/dev/null").is_file()
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"):
        put("/dev/full", frames)


WRITE = """
import sys, numpy as np
from fractions import Fraction
from nervkit.container.timing import Timing
from nervkit.video.movies import MovieOptions
from nervkit.video.writer import Stream, check_destination, write_video
output = sys.argv[1]
check_destination(output, MovieOptions(), False)
timing = Timing(np.arange(2), Fraction(1, 25), 1)
write_video(output, Stream(np.zeros((2, 32, 32, 3), np.uint8), 32, 32, timing), MovieOptions())
"""


@pytest.mark.parametrize(
    "line, at_first",
    [
        ('"$0" -c "$1" /dev/stdout > "$2"', b""),
        ('"$0" -c "$1" /dev/stdout >> "$2"', b"kept\n"),
        ('"$0" -c "$1" /dev/fd/7 7> "$2"', b""),
        ('"$0" -c "$1" >(cat > "$2"); wait $!', b""),
        ('"$0" -c "$1" - > "$2"', b""),
    ],
)
def test_what_a_shell_opens(tmp_path: Path, line: str, at_first: bytes) -> None:
    path = tmp_path / "out.y4m"
    path.write_bytes(at_first)
    command = ["bash", "-c", line, sys.executable, WRITE, str(path)]
    subprocess.run(command, check=True, capture_output=True)
    data = path.read_bytes()
    assert data.startswith(at_first + b"YUV4MPEG2 ")
    assert data.count(b"FRAME\n") == 2
    assert list(tmp_path.iterdir()) == [path]


# The source


def images(folder: Path, pattern: str, frames: np.ndarray) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / (pattern % index))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "source, output",
    [
        ("f%03d.png", "f%03d.png"),
        ("f%03d.png", "./sub/../f%03d.png"),
        ("f%d.png", "f%03d.png"),
        (".", "f%03d.png"),
        (".", "."),
        (".", "./"),
        ("../in", "../linked/"),
        ("f%03d.png", "../linked/f%03d.png"),
    ],
)
def test_images_do_not_replace_their_source(
    tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, source: str, output: str
) -> None:
    folder = tmp_path / "in"
    before = images(folder, "f%03d.png", frames)
    (tmp_path / "linked").symlink_to(folder)
    monkeypatch.chdir(folder)
    (folder / "sub").mkdir()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="input and output are the same"):
            put(output, frames, overwrite, source)
    (folder / "sub").rmdir()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_images_beside_their_source(
    tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images(tmp_path, "f%03d.png", frames)
    monkeypatch.chdir(tmp_path)
    put("g%03d.png", frames, source="f%03d.png")
    put("f%05d.png", frames, source="f%03d.png")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(after) == 18
    assert before.items() <= after.items()


@pytest.mark.parametrize("suffix", FILES)
def test_a_link_to_the_source_is_the_source(
    tmp_path: Path, frames: np.ndarray, suffix: str
) -> None:
    source, link = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    source.write_bytes(b"source")
    link.symlink_to(source)
    with pytest.raises(UsageError, match="input and output are the same file"):
        put(link, frames, True, source)


# What is replaced, and what stays


def test_older_images_stay_and_are_noted(tmp_path: Path, frames: np.ndarray) -> None:
    images(tmp_path, "f%03d.png", frames)
    (tmp_path / "f7.png").write_bytes(b"mine")
    (tmp_path / "g000.png").write_bytes(b"mine")
    notes = put(tmp_path / "f%03d.png", frames[4:], overwrite=True)
    assert notes == [f"{tmp_path}: 4 older images remain, such as f002.png"]
    found = [np.asarray(Image.open(tmp_path / f"f{i:03d}.png")) for i in range(6)]
    assert np.array_equal(found, [*frames[4:], *frames[2:]])
    assert len(names(tmp_path)) == 8


def test_a_pattern_replaces_nothing_unasked(tmp_path: Path, frames: np.ndarray) -> None:
    (tmp_path / "f003.png").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"f003\.png: exists already; use overwrite=True"):
        put(tmp_path / "f%03d.png", frames)
    put(tmp_path / "f%04d.png", frames)
    assert (tmp_path / "f003.png").read_bytes() == b"old"


def test_an_empty_folder_needs_no_permission(tmp_path: Path, frames: np.ndarray) -> None:
    (tmp_path / "frames.v1").mkdir()
    put(f"{tmp_path}/frames.v1", frames)
    put(f"{tmp_path}/frames.v1/", frames, overwrite=True)
    assert len(names(tmp_path / "frames.v1")) == 6


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_a_folder(
    tmp_path: Path, frames: np.ndarray, overwrite: bool
) -> None:
    (tmp_path / "frames").write_bytes(b"mine")
    with pytest.raises(OutputError, match="frames: exists already and is not a folder"):
        put(tmp_path / "frames", frames, overwrite)
    assert (tmp_path / "frames").read_bytes() == b"mine"


def test_a_folder_in_the_place_of_an_image(tmp_path: Path, frames: np.ndarray) -> None:
    images(tmp_path, "f%d.png", frames[:1])
    before = (tmp_path / "f0.png").read_bytes()
    (tmp_path / "f3.png").mkdir()
    with pytest.raises(OutputError, match=r"f3\.png: is a folder"):
        put(tmp_path / "f%d.png", frames[::-1], overwrite=True)
    assert (tmp_path / "f0.png").read_bytes() == before
    assert names(tmp_path) == ["f0.png", "f3.png"]


@pytest.mark.parametrize("name", ["a.mp4", "a.y4m", "frames", "f%d.png"])
def test_what_a_killed_run_left_is_replaced(tmp_path: Path, frames: np.ndarray, name: str) -> None:
    left = helper_path(tmp_path / name, "partial" + Path(name).suffix * ("%" not in name))
    if name.startswith("f"):
        left.mkdir()
        (left / ("f9.png" if "%" in name else "00009.png")).write_bytes(b"left")
    else:
        left.write_bytes(b"left")
    put(tmp_path / name, frames)
    assert not left.exists()
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())
    assert len(list(tmp_path.rglob("*.png"))) == 6 * name.startswith("f")


@pytest.mark.parametrize("name", ["a.mp4", "a.y4m", "frames", "f%d.png"])
@pytest.mark.parametrize("kind", ["folder", "link", "link to a folder"])
def test_the_place_of_a_helper_is_taken(
    tmp_path: Path, frames: np.ndarray, name: str, kind: str
) -> None:
    place = helper_path(tmp_path / name, "partial" + Path(name).suffix * ("%" not in name))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    if kind == "folder":
        (tmp_path / "mine").rename(place)
    else:
        place.symlink_to("mine/precious.txt" if kind == "link" else "mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="move it away"):
        put(tmp_path / name, frames)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.mp4", "a.y4m", "frames", "f%d.png", "old"])
def test_another_run_is_writing(tmp_path: Path, frames: np.ndarray, name: str) -> None:
    (tmp_path / "old").mkdir()
    output = str(tmp_path / name)
    refused = pytest.raises(OutputError, match="another run of nervkit is writing it")
    with locked(place_of(output)), refused:
        put(output, frames)
    put(output, frames)
    assert not any(path.name[0] == "." for path in tmp_path.rglob("*"))


# Failures


def no_more(frames: np.ndarray, error: BaseException) -> Iterator[np.ndarray]:
    yield from frames
    raise error


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.npy", "frames", "f%d.png"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_a_failure_changes_nothing(
    tmp_path: Path, frames: np.ndarray, name: str, error: BaseException
) -> None:
    put(tmp_path / name, frames)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    stream = Stream(no_more(frames[::-1][:5], error), 48, 32, TIMING)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        write_video(str(tmp_path / name), stream, DEFAULTS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [f"a{suffix}" for suffix in FILES] + ["frames", "f%d.bmp"])
def test_a_disk_that_fills_up(tmp_path: Path, name: str) -> None:
    """A limit on the file size stops real writes in the middle."""
    code = WRITE.replace("np.zeros((2, 32, 32, 3), np.uint8), 32, 32", "noise, 320, 192").replace(
        "output = ",
        "noise = np.random.default_rng(0).integers(0, 256, (2, 192, 320, 3), np.uint8)\noutput = ",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / name)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("nervkit.errors.OutputError: ")
    assert str(tmp_path) in last
    assert "cannot be written: File too large" in last
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written"), replacing(path) as partial:
        partial.write_text("new")
        path.mkdir()
    assert list(tmp_path.iterdir()) == [path]
    assert path.is_dir()
