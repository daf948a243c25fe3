"""Every kind of output, read back with PyAV, ffmpeg and Pillow."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from nervkit.errors import OutputError, UsageError
from nervkit.media.timing import Timing
from nervkit.video import writer
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.movies import MovieOptions
from nervkit.video.reader import read_clip
from nervkit.video.stream import Stream
from nervkit.video.writer import check_destination, write_video

FFmpeg = Callable[..., bytes]
MOVIES = [".mp4", ".mov", ".mkv", ".webm"]
DEFAULTS = MovieOptions()
UNEVEN = Timing(np.array([0, 1000, 3500, 4000, 9000, 9100]), Fraction(1, 30000), 2500)


def steady(count: int) -> Timing:
    return Timing(np.arange(count) * 512, Fraction(1, 12800), 512)


def stream_of(frames: np.ndarray, **fields: Any) -> Stream:
    fields.setdefault("timing", steady(len(frames)))
    return Stream(frames, frames.shape[2], frames.shape[1], **fields)


def stream_of_clip(clip: Clip, **fields: Any) -> Stream:
    ratio, tracks = clip.sample_aspect_ratio, tuple(clip.tracks)
    return stream_of(
        clip.frames,
        **{
            "timing": clip.timing,
            "sample_aspect_ratio": ratio,
            "colour": clip.colour,
            "tracks": tracks,
            **fields,
        },
    )


@cache
def tiny(path: Path) -> Clip:
    """A complete clip for tests that do not depend on pixels."""
    return read_clip(path, resize="32x18")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / error))


def shown_times(path: Path) -> list[tuple[Fraction, Fraction]]:
    """The start and duration of each picture, from the packets."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        return sorted((p.pts * p.time_base, p.duration * p.time_base) for p in packets)


def copied_packets(path: Path, kind: str) -> list[tuple[bytes, Any, Any]]:
    """Bytes, presentation and decoding time (seconds) of all packets of the tracks of a kind."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        return [
            (bytes(p), p.pts * p.time_base, p.dts * p.time_base)
            for p in container.demux(streams)
            if p.size
        ]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (6, 48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def nature(bunny: Path) -> np.ndarray:
    """12 frames of film, which show a codec's quality."""
    return read_clip(bunny, frames=":12", crop="320x192").frames


# Times and geometry


@pytest.mark.parametrize("suffix", MOVIES)
@pytest.mark.parametrize("first", [0, 6001])
def test_every_frame_keeps_its_time(
    tmp_path: Path, noise: np.ndarray, suffix: str, first: int
) -> None:
    path = tmp_path / f"out{suffix}"
    timing = Timing(UNEVEN.pts + first, UNEVEN.time_base, UNEVEN.duration)
    notes = write_video(str(path), stream_of(noise, timing=timing), DEFAULTS)
    ends = [*timing.pts[1:].tolist(), timing.pts[-1] + timing.duration]
    wanted = [
        (pts * timing.time_base, (end - pts) * timing.time_base)
        for pts, end in zip(timing.pts.tolist(), ends, strict=True)
    ]
    times = shown_times(path)
    if suffix in (".mp4", ".mov"):
        assert times == wanted
        assert notes == []
    else:
        assert [round(1000 * pts) for pts, _ in wanted] == [1000 * pts for pts, _ in times]
        assert float(times[-1][1]) == pytest.approx(float(wanted[-1][1]), abs=0.0011)
        assert notes == ["Matroska rounds frame timestamps to milliseconds"]


@pytest.mark.parametrize("codec", ["x264", "x265", "vp9", "av1"])
def test_long_pauses_do_not_shorten_an_mp4(tmp_path: Path, nature: np.ndarray, codec: str) -> None:
    path = tmp_path / "out.mp4"
    timing = Timing(np.array([0, 10, 20, 30, 40, 80000, 300000]), Fraction(1, 30000), 2500)
    write_video(str(path), stream_of(nature[:7], timing=timing), MovieOptions(codec=codec))
    with av.open(str(path)) as container:
        assert container.duration == round(302500 / 30000 * av.time_base)
        assert [frame.pts for frame in container.decode(video=0)] == timing.pts.tolist()


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_whole_milliseconds_need_no_note(tmp_path: Path, noise: np.ndarray, suffix: str) -> None:
    assert write_video(str(tmp_path / f"out{suffix}"), stream_of(noise), DEFAULTS) == []


def test_a_real_clip_of_variable_rate(clips: Path, tmp_path: Path) -> None:
    clip = read_clip(clips / "robust" / "moviepy_fire2.mp4", resize="64x36")
    path = tmp_path / "out.mp4"
    assert write_video(str(path), stream_of_clip(clip), DEFAULTS) == []
    times = shown_times(path)
    assert [pts for pts, _ in times] == [pts * clip.time_base for pts in clip.pts.tolist()]
    assert times[-1][1] == clip.timing.duration * clip.time_base
    source = copied_packets(clips / "robust" / "moviepy_fire2.mp4", "audio")
    assert copied_packets(path, "audio") == source


@pytest.mark.parametrize("suffix", MOVIES)
def test_pixels_keep_their_shape(tmp_path: Path, noise: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    stream = stream_of(noise, sample_aspect_ratio=Fraction(64, 45))
    notes = write_video(str(path), stream, DEFAULTS)
    with av.open(str(path)) as container:
        kept = container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
    assert kept == (suffix != ".webm")
    assert kept or notes == ["libvpx-vp9 in Matroska loses the sample aspect ratio 64:45"]


@pytest.mark.parametrize("suffix", MOVIES)
@pytest.mark.parametrize("width, height", [(1, 1), (161, 121), (2, 3)])
def test_any_size(tmp_path: Path, suffix: str, width: int, height: int) -> None:
    rows, columns = np.mgrid[0:height, 0:width]
    frame = np.stack([columns + 40, rows + 60, (rows + columns) // 2], axis=-1).astype(np.uint8)
    frames = np.stack([frame] * 3)
    path = tmp_path / f"out{suffix}"
    notes = write_video(str(path), stream_of(frames), DEFAULTS)
    with av.open(str(path)) as container:
        back = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).max() <= 8
    assert any("4:4:4" in note for note in notes) == (suffix != ".webm")


# Colour and quality


@pytest.mark.parametrize("suffix", MOVIES)
@pytest.mark.parametrize(
    "colour, tags",
    [
        (Colour(1, 1, 1, 1, "bt709", "limited"), (1, 1, 1, 1)),
        (Colour(1, 2, 1, 1, "bt709", "full"), (1, 2, 1, 1)),
        (Colour(6, 1, 6, 6, "bt601", "limited"), (6, 1, 6, 6)),
        (Colour(9, 1, 9, 16, "bt2020", "limited"), (9, 1, 9, 16)),
        (Colour(2, 0, 2, 2, "bt601", "full"), (2, 2, 2, 2)),  # from gray
        (Colour(), (1, 1, 2, 2)),  # from RGB
    ],
)
def test_colour_tags_and_planes_agree(
    tmp_path: Path, nature: np.ndarray, suffix: str, colour: Colour, tags: tuple[int, ...]
) -> None:
    path = tmp_path / f"out{suffix}"
    write_video(str(path), stream_of(nature[:2], colour=colour), DEFAULTS)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    got = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
    assert tuple(map(int, got)) == tags
    assert psnr(read_clip(path).frames, nature[:2]) > 38


def test_untagged_stays_untagged(tmp_path: Path, nature: np.ndarray) -> None:
    path = tmp_path / "out.mp4"
    colour = Colour(2, 0, 2, 2, "bt601", "limited")
    write_video(str(path), stream_of(nature[:2], colour=colour), DEFAULTS)
    clip = read_clip(path)
    assert (clip.colour.matrix, clip.colour.range) == (2, 0)
    assert psnr(clip.frames, nature[:2]) > 38


def test_gray_video_keeps_its_range(ffmpeg: FFmpeg, tmp_path: Path, bunny: Path) -> None:
    gray, path = tmp_path / "gray.mkv", tmp_path / "out.mp4"
    small = "crop=320:192,format=gray"
    ffmpeg("-i", bunny, "-an", "-frames:v", "2", "-vf", small, "-c:v", "ffv1", gray)
    clip = read_clip(gray)
    write_video(str(path), stream_of_clip(clip), DEFAULTS)
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    assert psnr(np.frombuffer(raw, np.uint8).reshape(clip.shape), clip.frames) > 40


@pytest.mark.parametrize(
    "suffix, codec, least",
    [
        # Measured here: 41.7, 41.7, 41.7, 41.4, 40.7, 40.0, 41.4; about 0.7 dB are left for
        # other builds of the encoders.
        (".mp4", None, 41.0),
        (".mkv", None, 41.0),
        (".mov", None, 41.0),
        (".webm", None, 40.7),
        (".mp4", "x265", 40.0),
        (".mkv", "av1", 39.3),
        (".mp4", "vp9", 40.7),
    ],
)
def test_the_default_is_visually_lossless(
    ffmpeg: FFmpeg,
    tmp_path: Path,
    nature: np.ndarray,
    suffix: str,
    codec: str | None,
    least: float,
) -> None:
    path = tmp_path / f"out{suffix}"
    stream = stream_of(nature, colour=Colour(2, 0, 2, 2, "bt601", "limited"))
    write_video(str(path), stream, MovieOptions(codec=codec))
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    assert psnr(np.frombuffer(raw, np.uint8).reshape(nature.shape), nature) > least


def test_crf_and_pixel_format_are_obeyed(tmp_path: Path, nature: np.ndarray) -> None:
    sizes = {}
    for crf in (10, 40):
        path = tmp_path / f"{crf}.mp4"
        write_video(str(path), stream_of(nature), MovieOptions(crf=crf))
        sizes[crf] = path.stat().st_size
    assert sizes[10] > 4 * sizes[40]
    path = tmp_path / "full.mp4"
    write_video(str(path), stream_of(nature), MovieOptions(pixel_format="yuv444p"))
    assert read_clip(path).source["pixel_format"] == "yuv444p"


@pytest.mark.parametrize(
    "suffix, codec",
    [(".mkv", "ffv1"), (".mkv", "x264rgb"), (".mp4", "x264rgb"), (".mov", "x264rgb")],
)
@pytest.mark.parametrize("width, height", [(64, 48), (7, 5)])
def test_lossless_means_every_bit(
    ffmpeg: FFmpeg,
    tmp_path: Path,
    noise: np.ndarray,
    suffix: str,
    codec: str,
    width: int,
    height: int,
) -> None:
    frames, path = noise[:, :height, :width], tmp_path / f"out{suffix}"
    # The colours of a YUV source must not be put on RGB.
    colour = Colour(1, 1, 1, 1, "bt709", "limited")
    write_video(str(path), stream_of(frames, colour=colour), MovieOptions(codec=codec))
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(frames.shape), frames)
    assert np.array_equal(read_clip(path).frames, frames)


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match=r"unknown codec 'divx'.*x264.*ffv1"):
        MovieOptions(codec="divx")
    with pytest.raises(UsageError, match="crf must be an integer in 0 to 63"):
        MovieOptions(crf=64)
    for output, options in (
        ("a.webm", MovieOptions(codec="x264")),
        ("a.mov", MovieOptions(codec="ffv1")),
        ("a.mkv", MovieOptions(codec="ffv1", crf=3)),
        ("a.npy", MovieOptions(crf=3)),
        ("a.y4m", MovieOptions(codec="x264")),
        ("a.gif", DEFAULTS),
        ("a.png", DEFAULTS),
        ("a%d%d.png", DEFAULTS),
        ("a%d.gif", DEFAULTS),
    ):
        with pytest.raises(UsageError):
            check_destination(output, options, overwrite=False)


# Tracks


@pytest.mark.parametrize(
    "source, suffix",
    [
        ("bigbuckbunny.mp4", ".mp4"),  # aac
        ("bigbuckbunny.mp4", ".mov"),
        ("robust/androidx_bt601.mov", ".mp4"),  # begins after the picture
        ("robust/imageio_cockatoo.mp4", ".mp4"),  # mp3
        ("robust/moviepy_transparent.webm", ".mp4"),  # vorbis
        ("robust/moviepy_transparent.webm", ".webm"),
        ("robust/moviepy_transparent.webm", ".mkv"),
    ],
)
def test_sound_is_copied_exactly(clips: Path, tmp_path: Path, source: str, suffix: str) -> None:
    clip = tiny(clips / source)
    path = tmp_path / f"out{suffix}"
    notes = write_video(str(path), stream_of_clip(clip), DEFAULTS)
    assert copied_packets(path, "audio") == copied_packets(clips / source, "audio")
    assert not any("left out" in note for note in notes)


@pytest.mark.parametrize("source", ["bigbuckbunny.mp4", "robust/imageio_cockatoo.mp4"])
def test_matroska_rounds_the_times_of_sound_to_milliseconds(
    clips: Path, tmp_path: Path, source: str
) -> None:
    clip = tiny(clips / source)
    path = tmp_path / "out.mkv"
    write_video(str(path), stream_of_clip(clip), DEFAULTS)
    old, new = copied_packets(clips / source, "audio"), copied_packets(path, "audio")
    assert [data for data, *_ in new] == [data for data, *_ in old]
    # What precedes time 0 (the encoder's delay) shifts the whole file.
    shift = new[0][1] - old[0][1]
    assert 0 <= shift < Fraction(1, 10)
    assert all(abs(b[1] - a[1] - shift) <= Fraction(1, 900) for a, b in zip(old, new, strict=True))
    first = shown_times(path)[0][0]
    assert abs(first - clip.timing.seconds[0] - shift) <= Fraction(1, 900)  # in sync


def test_sound_that_the_output_cannot_hold_is_reported(clips: Path, tmp_path: Path) -> None:
    clip = read_clip(clips / "robust" / "imageio_cockatoo.mp4", frames=":3", resize="32x18")
    path = tmp_path / "out.webm"
    notes = write_video(str(path), stream_of_clip(clip), DEFAULTS)
    assert notes == [".webm cannot hold mp3 audio: left out (.mkv holds everything)"]
    assert len(shown_times(path)) == 3


def test_a_part_gets_its_part_of_the_sound(bunny: Path, tmp_path: Path) -> None:
    clip = tiny(bunny)
    timing, frames = clip.timing[50:75], clip.frames[50:75]
    window = timing.seconds
    timing = Timing(timing.pts - timing.pts[0], timing.time_base, timing.duration)
    path = tmp_path / "out.mp4"
    stream = stream_of_clip(clip, timing=timing, window=window)
    write_video(str(path), Stream(**{**vars(stream), "frames": frames}), DEFAULTS)
    wanted = [
        (data, pts - 2, dts - 2)
        for data, pts, dts in copied_packets(bunny, "audio")
        if 2 <= pts < 3
    ]
    assert copied_packets(path, "audio") == wanted


SUBTITLES = """1
00:00:00,100 --> 00:00:00,350
Hello

2
00:00:00,400 --> 00:00:00,480
<i>again</i>, äöü
"""


@pytest.fixture
def subtitled(ffmpeg: FFmpeg, tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes small clips with a text subtitle of a codec."""

    def make(name: str, codec: str) -> Path:
        text, path = tmp_path / "text.srt", tmp_path / name
        text.write_text(SUBTITLES)
        picture = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=0.5"]
        language = ["-metadata:s:s:0", "language=ger"]
        ffmpeg(*picture, "-i", text, "-c:s", codec, *language, path)
        return path

    return make


@pytest.mark.parametrize(
    "codec, source, suffix",
    [
        ("subrip", "in.mkv", ".mkv"),
        ("ass", "in.mkv", ".mkv"),
        ("mov_text", "in.mp4", ".mp4"),
        ("mov_text", "in.mp4", ".mov"),
        ("webvtt", "in.webm", ".webm"),
    ],
)
def test_subtitles_are_copied(
    ffmpeg: FFmpeg,
    subtitled: Callable[[str, str], Path],
    tmp_path: Path,
    codec: str,
    source: str,
    suffix: str,
) -> None:
    original = subtitled(source, codec)
    clip = read_clip(original)
    assert [(t.codec, t.language) for t in clip.subtitles] == [(codec, "ger")]
    path = tmp_path / f"out{suffix}"
    assert write_video(str(path), stream_of_clip(clip), DEFAULTS) == []
    assert copied_packets(path, "subtitle") == copied_packets(original, "subtitle")
    with av.open(str(path)) as container:
        assert container.streams.subtitles[0].language == "ger"
    shown = ffmpeg("-i", path, "-f", "srt", "-").decode()
    assert shown == ffmpeg("-i", original, "-f", "srt", "-").decode()
    assert "00:00:00,100 --> 00:00:00,350" in shown
    assert "äöü" in shown


def test_outputs_without_tracks_say_so(bunny: Path, tmp_path: Path) -> None:
    clip = read_clip(bunny, frames=":2", resize="32x18")
    for name, kind in (("a.npy", ".npy"), ("a.y4m", "y4m"), ("frames/", "images")):
        notes = write_video(str(tmp_path / name), stream_of_clip(clip), DEFAULTS)
        assert notes == [f"{kind} cannot hold the audio: left out"]
    uneven = Stream(**{**vars(stream_of(clip.frames)), "timing": UNEVEN[1:3]})
    notes = write_video(str(tmp_path / "b.npy"), uneven, DEFAULTS)
    assert notes == [".npy cannot hold variable timing: written at the mean frame rate"]


# y4m, arrays, images


@pytest.mark.parametrize("format, least", [("yuv420p", 45), ("yuv422p", 45), ("yuv444p", 48)])
@pytest.mark.parametrize(
    "colour",
    [Colour(2, 0, 2, 2, "bt601", "limited"), Colour(2, 2, 2, 2, "bt601", "full"), Colour()],
)
def test_y4m_on_stdout_is_what_ffmpeg_parses(
    ffmpeg: FFmpeg,
    monkeypatch: pytest.MonkeyPatch,
    nature: np.ndarray,
    format: str,
    least: float,
    colour: Colour,
) -> None:
    stdout = io.BytesIO()
    monkeypatch.setattr(writer, "sys", SimpleNamespace(stdout=SimpleNamespace(buffer=stdout)))
    ratio = Fraction(12, 11)
    stream = stream_of(nature[:3], colour=colour, sample_aspect_ratio=ratio)
    assert write_video("-", stream, MovieOptions(pixel_format=format)) == []
    data = stdout.getvalue()
    raw = ffmpeg("-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-", stdin=data)
    assert psnr(np.frombuffer(raw, np.uint8).reshape(3, 192, 320, 3), nature[:3]) > least
    with av.open(io.BytesIO(data)) as container:
        video = container.streams.video[0]
        assert (video.format.name, video.average_rate) == (format, 25)
        assert video.sample_aspect_ratio == ratio


def test_y4m_of_odd_sizes(ffmpeg: FFmpeg, tmp_path: Path, nature: np.ndarray) -> None:
    path = tmp_path / "odd.y4m"
    frames = nature[:2, :121, :161]
    write_video(str(path), stream_of(frames), DEFAULTS)
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    assert psnr(np.frombuffer(raw, np.uint8).reshape(frames.shape), frames) > 38


def test_y4m_says_which_matrix_it_cannot_name(tmp_path: Path, noise: np.ndarray) -> None:
    colour = Colour(1, 1, 1, 1, "bt709", "limited")
    path = tmp_path / "a.y4m"
    (note,) = write_video(str(path), stream_of(noise, colour=colour), DEFAULTS)
    assert "bt709" in note
    options = MovieOptions(pixel_format="yuv444p")
    write_video(str(path), stream_of(noise, colour=colour), options)
    assert psnr(read_clip(path, matrix="bt709").frames, noise) > 45
    with pytest.raises(UsageError, match="y4m supports"):
        write_video(str(path), stream_of(noise), MovieOptions(pixel_format="rgb24"))


def test_arrays(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "frames.npy"
    stream = Stream(iter(noise[:, :, ::-1]), 64, 48, steady(6))  # views are no plain memory
    assert write_video(str(path), stream, DEFAULTS) == []
    back = np.load(path)
    assert back.dtype == np.uint8
    assert np.array_equal(back, noise[:, :, ::-1])


def read_images(paths: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def test_a_folder_of_images(tmp_path: Path, noise: np.ndarray) -> None:
    for name in ("plain", "with.dot/"):
        folder = tmp_path / name
        output = str(tmp_path) + "/" + name
        check_destination(output, DEFAULTS, overwrite=False)
        write_video(output, stream_of(noise), DEFAULTS)
        paths = sorted(folder.iterdir())
        assert [path.name for path in paths] == [f"{i:05d}.png" for i in range(6)]
        assert np.array_equal(read_images(paths), noise)
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "with.dot"}


def test_a_folder_that_exists_loses_nothing(tmp_path: Path, noise: np.ndarray) -> None:
    folder = tmp_path / "frames"
    write_video(str(folder), stream_of(noise), DEFAULTS)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already; use overwrite=True"):
        check_destination(str(folder), DEFAULTS, overwrite=False)
    check_destination(str(folder), DEFAULTS, overwrite=True)
    (note,) = write_video(str(folder), stream_of(noise[3:5]), DEFAULTS)
    assert note.endswith("4 older images remain, such as 00002.png")
    found = read_images(sorted(folder.glob("*.png")))
    assert np.array_equal(found, np.concatenate([noise[3:5], noise[2:]]))
    assert (folder / "notes.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_current_folder(
    tmp_path: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(".", stream_of(noise), DEFAULTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i:05d}.png" for i in range(6)]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_numbered_images(tmp_path: Path, nature: np.ndarray, suffix: str) -> None:
    folder = tmp_path / "v1.0"
    folder.mkdir()
    output = str(folder / f"shot_%03d{suffix}")
    check_destination(output, DEFAULTS, overwrite=False)
    write_video(output, stream_of(nature[:2]), DEFAULTS)
    back = read_images([folder / f"shot_{i:03d}{suffix}" for i in range(2)])
    if suffix in (".jpg", ".webp"):
        assert psnr(back, nature[:2]) > 30
    else:
        assert np.array_equal(back, nature[:2])


# What cannot be written


def test_destinations_are_checked_before_the_work(tmp_path: Path, bunny: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match=r"old\.mp4: exists already"):
        check_destination(str(tmp_path / "old.mp4"), DEFAULTS, overwrite=False)
    check_destination(str(tmp_path / "old.mp4"), DEFAULTS, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        check_destination(str(tmp_path / "folder.mp4"), DEFAULTS, overwrite=True)
    for name in ("none/a.mp4", "none/%05d.png", "none/frames/"):
        with pytest.raises(OutputError, match="no such folder for the output"):
            check_destination(str(tmp_path / name), DEFAULTS, overwrite=True)
    with pytest.raises(UsageError, match="input and output are the same file"):
        check_destination(str(bunny), DEFAULTS, overwrite=True, source=str(bunny))


def test_an_unwritable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by its mode: root may write everywhere.
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("nervkit.output.TemporaryFile", refuse)
    for name in ("a.mp4", "%05d.png", "frames"):
        with pytest.raises(OutputError, match="this folder is not writable"):
            check_destination(str(tmp_path / name), DEFAULTS, overwrite=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc here")
def test_a_folder_that_takes_no_files_is_refused_before_any_work() -> None:
    """Root may write to /proc by its mode, and still cannot create a file there."""
    with pytest.raises(OutputError, match="/proc: this folder is not writable"):
        check_destination("/proc/x.mp4", DEFAULTS, overwrite=False)


def failing(frames: np.ndarray, error: BaseException) -> Iterator[np.ndarray]:
    yield from frames
    raise error


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.y4m", "a.npy", "frames/"])
@pytest.mark.parametrize(
    "error, wanted",
    [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OutputError), (KeyboardInterrupt(), None)],
)
def test_failures_leave_nothing_behind(
    tmp_path: Path,
    noise: np.ndarray,
    name: str,
    error: BaseException,
    wanted: type[BaseException] | None,
) -> None:
    stream = Stream(failing(noise[:3], error), 64, 48, steady(6))
    with pytest.raises(wanted or type(error)) as caught:
        write_video(f"{tmp_path}/{name}", stream, DEFAULTS)
    assert list(tmp_path.iterdir()) == []
    if wanted:
        assert "No space left on device" in str(caught.value)
        assert name.rstrip("/") in str(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.npy"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, noise: np.ndarray, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError):
        write_video(str(path), Stream(failing(noise[:3], full), 64, 48, steady(6)), DEFAULTS)
    assert path.read_bytes() == b"old"
    write_video(str(path), stream_of(noise), DEFAULTS)
    assert path.stat().st_size > 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.y4m", "a.npy"])
def test_a_full_disk_is_one_line(
    tmp_path: Path, noise: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = writer.replacing

    @contextmanager
    def on_a_full_disk(path: Path) -> Iterator[Path]:
        with real(path) as partial:
            partial.symlink_to("/dev/full")
            yield partial

    monkeypatch.setattr(writer, "replacing", on_a_full_disk)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_video(str(tmp_path / name), stream_of(noise), DEFAULTS)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
