"""Encode and decode of real clips through the command line: the output matches the input."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nervkit.decoder import NervVideo
from tests.command import run_nervkit

CLIPS = {
    "robust/androidx_bear-vp9-odd-dimensions.webm": [],
    "robust/androidx_bt601.mov": ["--resize", "160x108"],
    "robust/decord_video_90.mov": [],
    "robust/imageio_cockatoo.mp4": ["--resize", "64x36"],
    "robust/moviepy_fire2.mp4": ["--resize", "128x72"],
    "robust/moviepy_transparent.webm": ["--resize", "50x50"],
    "robust/small_1frame.webm": [],
    "robust/torchcodec_h265_10bits.mp4": [],
    "cars_320x240_30fps_8bit_420.yuv": ["--frames", ":9", "--crop", "101x67+7+9"],
    "basketballpass": ["--frames", "4:9", "--fps", "50"],
    "davis/blackswan/frames": ["--frames", ":3", "--resize", "213x120"],
}


def nervkit(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return run_nervkit(*arguments, code=expect)


def named_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def video_times(path: Path) -> tuple[list[Fraction], Fraction]:
    """The start in seconds of each frame of a movie, and the duration of the last."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = sorted((p.pts, p.duration) for p in container.demux(stream) if p.size)
        times = [p * stream.time_base for p, _ in shown]
        return times, shown[-1][1] * stream.time_base


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """(seconds, bytes) of every packet of the streams of one kind."""
    found = []
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        for packet in container.demux(streams) if streams else ():
            if packet.size:
                found.append((packet.pts * packet.time_base, bytes(packet)))
    return found


@pytest.mark.parametrize("name", CLIPS)
def test_every_clip_goes_through_and_comes_back(clips: Path, tmp_path: Path, name: str) -> None:
    source, coded, movie = clips / name, tmp_path / "clip.nerv", tmp_path / "clip.mp4"
    options = ["--steps", "2", *CLIPS[name]]
    encoded = json.loads(
        nervkit("encode", str(source), "-o", str(coded), *options, "--json").stdout
    )
    decoded = json.loads(nervkit("decode", str(coded), "-o", str(movie), "--json").stdout)
    assert decoded["frames"] == encoded["frames"]

    checked = nervkit("verify", str(coded), "--against", str(source), "--json")
    verdict = json.loads(checked.stdout)
    assert verdict["identical"] == encoded["frames"]
    assert verdict["psnr"] == pytest.approx(encoded["psnr"], abs=1e-9)
    assert encoded["bytes"] == coded.stat().st_size

    with av.open(str(movie)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == encoded["frames"]
    assert (frames[0].width, frames[0].height) == (encoded["width"], encoded["height"])
    if source.suffix in (".mp4", ".mov", ".webm"):
        assert video_times(movie)[0] == video_times(source)[0]
        expected, found = packets(source, "audio"), packets(movie, "audio")
        assert [data for _, data in found] == [data for _, data in expected]
        early = [abs(a - b) for (a, _), (b, _) in zip(found, expected, strict=True)]
        assert all(difference < Fraction(1, 1000) for difference in early)


def test_part_of_a_clip_keeps_sound_in_sync(bunny: Path, tmp_path: Path) -> None:
    """Frames and audio of a cut move together, so each frame keeps its sound."""
    coded, movie = tmp_path / "cut.nerv", tmp_path / "cut.mp4"
    options = ["--start", "2", "--frames", "5:25", "--resize", "64x36", "--steps", "2"]
    nervkit("encode", str(bunny), "-o", str(coded), *options)
    nervkit("decode", str(coded), "-o", str(movie), "--frames", "10:20")
    times, last = video_times(movie)
    assert times == [Fraction(i, 25) for i in range(10)]
    assert last == Fraction(1, 25)
    start = 2 + Fraction(15, 25)
    source = {data: time for time, data in packets(bunny, "audio")}
    heard = packets(movie, "audio")
    assert 0 <= heard[0][0] < Fraction(1024, 48000)
    assert heard[-1][0] < Fraction(10, 25)
    for time, data in heard:
        assert abs(source[data] - start - time) < Fraction(1, 1000)


def test_y4m_pipe_in_and_out(bunny: Path, tmp_path: Path) -> None:
    """ffmpeg | nervkit encode - ... nervkit decode -o - | ffmpeg, as people chain tools."""
    from imageio_ffmpeg import get_ffmpeg_exe

    coded = tmp_path / "piped.nerv"
    pipe = [
        get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(bunny),
        "-frames:v",
        "4",
        "-vf",
        "scale=63:35",
    ]
    sent = subprocess.run([*pipe, "-f", "yuv4mpegpipe", "-"], capture_output=True, check=True)
    into, out_of = named_pipe(tmp_path / "in"), named_pipe(tmp_path / "out")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(into.write_bytes, sent.stdout)
        run_nervkit("encode", "-", "-o", coded, "--steps", "2", stdin=into, code=0)
        assert sending.result() == len(sent.stdout)
        decode = ["decode", coded, "-o", "-", "--pixel-format", "yuv444p"]
        y4m = pool.submit(out_of.read_bytes)
        run_nervkit(*decode, stdout=out_of, code=0)
    read = [get_ffmpeg_exe(), "-v", "error", "-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    shown = subprocess.run(read, input=y4m.result(), capture_output=True, check=True).stdout
    frames = np.frombuffer(shown, np.uint8).reshape(4, 35, 63, 3)
    expected = NervVideo(coded)[:]
    # 8-bit YUV and back: a few levels at most.
    assert np.abs(frames.astype(int) - expected).max() <= 4


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of noise."""
    folder = tmp_path_factory.mktemp("coded")
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.save(folder / "noise.npy", noise)
    nervkit("encode", str(folder / "noise.npy"), "-o", str(folder / "a.nerv"), "--steps", "1")
    return folder / "a.nerv"


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "Movie: T.mkv", "50% off.mp4", "x" * 236 + ".mp4", "a:b/"]
)
def test_outputs_of_any_name(
    coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    nervkit("decode", str(coded), "-o", name)
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]
    refused = nervkit("decode", str(coded), "-o", name, expect=1).stderr
    assert "exists already; use -y" in refused
    assert len(refused.splitlines()) == 1


def test_a_link_and_a_pipe_as_outputs(coded: Path, tmp_path: Path) -> None:
    (tmp_path / "link.y4m").symlink_to("target.y4m")
    nervkit("decode", str(coded), "-o", str(tmp_path / "link.y4m"))
    assert (tmp_path / "link.y4m").is_symlink()
    out_of = named_pipe(tmp_path / "out")
    with ThreadPoolExecutor() as pool:
        piped = pool.submit(out_of.read_bytes)
        run_nervkit("decode", coded, "-o", "/dev/stdout", stdout=out_of, code=0)
    assert piped.result() == (tmp_path / "target.y4m").read_bytes()
    assert nervkit("decode", str(coded), "-o", "/dev/stdout", "--json", expect=2).stdout == ""


def test_a_restoration_does_not_replace_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for index in range(3):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(f"f{index:03d}.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for output in ("f%03d.png", ".", "./"):
        source = output.replace("./", ".")
        errors = nervkit("denoise", source, "-o", output, "-y", "--steps", "1", expect=2).stderr
        assert "input and output are the same" in errors
        assert len(errors.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_all_that_travels_comes_back(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    """Chapters, tags, a font, titles and flags, through a .nerv file and a cut."""
    (tmp_path / "t.srt").write_text("1\n00:00:00,500 --> 00:00:03,500\nlong\n")
    (tmp_path / "f.ttf").write_bytes(b"a font")
    (tmp_path / "meta").write_text(
        ";FFMETADATA1\ntitle=Film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=2000\nEND=4000\ntitle=Two\n"
    )
    picture = ["-f", "lavfi", "-i", "testsrc2=size=32x32:rate=5:duration=4"]
    inputs = [*picture, "-i", tmp_path / "t.srt", "-i", tmp_path / "meta", "-map_metadata", "2"]
    attached = ["-attach", tmp_path / "f.ttf", "-metadata:s:t", "mimetype=font/ttf"]
    described = ["-metadata:s:s:0", "title=Signs", "-disposition:s:0", "forced"]
    source, coded = tmp_path / "in.mkv", tmp_path / "a.nerv"
    ffmpeg(*inputs, *attached, *described, source)
    nervkit("encode", str(source), "-o", str(coded), "--steps", "1")
    nervkit("decode", str(coded), "-o", str(tmp_path / "out.mkv"), "--frames", "5:15")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.metadata["title"] == "Film"
        found = [
            (c["start"] * c["time_base"], c["metadata"]["title"]) for c in container.chapters()
        ]
        assert found == [(0, "One"), (1, "Two")]
        (subtitle,) = container.streams.subtitles
        assert subtitle.metadata["title"] == "Signs"
        assert subtitle.disposition.name == "forced"
        assert [bytes(s.data) for s in container.streams if s.type == "attachment"] == [b"a font"]
        (cue,) = [p for p in container.demux(subtitle) if p.size]
        assert (cue.pts, cue.duration) == (0, 2000)
    notes = json.loads(
        nervkit("decode", str(coded), "-o", str(tmp_path / "out.mp4"), "--json").stdout
    )["notes"]
    assert len(notes) == 2  # the form of the subtitles, the font
