"""Any input to frames, compared with the ffmpeg binary and Pillow on the same files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from nervkit.errors import ResourceError, SourceError, UsageError
from nervkit.video import collector
from nervkit.video.clip import Clip
from nervkit.video.planes import scaler_threads
from nervkit.video.reader import read_clip

BUNNY_SHA256 = "52126f0b88bddddb25abea5e135a998b93636fa15d94b5acb1f7eb6958fa4fc5"
CARS = "cars_320x240_30fps_8bit_420.yuv"
PATTERN = "testsrc2=size=64x48:rate=10:duration=0.5"

FFmpeg = Callable[..., bytes]


def decode(ffmpeg: FFmpeg, path: Path, *options: str, shape: tuple[int, ...]) -> np.ndarray:
    """All frames of the first video stream, converted to RGB by ffmpeg."""
    source = ["-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    raw = ffmpeg(*source, *options, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape[1:])


def packet_times(ffmpeg: FFmpeg, path: Path) -> tuple[Fraction, list[int], list[int]]:
    """Time base, timestamps and durations of the video packets, in order of time."""
    text = ffmpeg("-i", path, "-map", "0:v:0", "-c", "copy", "-copyts", "-f", "framemd5", "-")
    lines = text.decode().splitlines()
    base = next(line.split()[-1] for line in lines if line.startswith("#tb"))
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    times = sorted((int(row[2]), int(row[3])) for row in rows)
    return Fraction(base), [t[0] for t in times], [t[1] for t in times]


def has_note(clip: Clip, text: str) -> bool:
    return any(text in note for note in clip.notes)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 12, 20, 3), np.uint8)


@pytest.fixture
def small_mp4(ffmpeg: FFmpeg, bunny: Path, tmp_path: Path) -> Path:
    """60 small frames with audio, with the index in front, as for streaming."""
    path = tmp_path / "small.mp4"
    video = ["-vf", "scale=160:90", "-frames:v", "60", "-g", "12"]
    ffmpeg("-i", bunny, *video, "-c:a", "copy", "-movflags", "+faststart", path)
    return path


def test_bunny_is_the_literatures_clip(bunny: Path) -> None:
    clip = read_clip(bunny)
    assert clip.shape == (132, 720, 1280, 3)
    assert hashlib.sha256(clip.frames).hexdigest() == BUNNY_SHA256
    assert clip.fps == 25
    assert clip.pts.tolist() == list(range(0, 132 * 512, 512))
    assert clip.time_base == Fraction(1, 12800)
    assert [(t.codec, len(t.times)) for t in clip.audio] == [("aac", 249)]
    assert has_note(clip, "no colour tags; nervkit assumes bt601 limited")


@pytest.mark.parametrize(
    "name, notes",
    [
        ("androidx_bear-vp9-odd-dimensions.webm", ["no colour tags"]),
        ("androidx_bt601.mov", []),
        ("decord_video_90.mov", ["by 270 degrees"]),
        ("imageio_cockatoo.mp4", ["no colour tags"]),
        ("moviepy_fire2.mp4", ["by 180 degrees", "no colour tags"]),
        ("moviepy_transparent.webm", ["alpha"]),
        ("small_1frame.webm", []),
        ("torchcodec_h265_10bits.mp4", ["no colour tags", "has 10 bits"]),
    ],
)
def test_robust_clips_are_what_ffmpeg_shows(
    ffmpeg: FFmpeg, clips: Path, name: str, notes: list[str]
) -> None:
    path = clips / "robust" / name
    clip = read_clip(path, frames=":30")
    # ffmpeg takes all chroma as centred unless specified; this stream says that its own is not.
    sited = ["-vf", "scale=in_h_chr_pos=0:in_v_chr_pos=128"] if "10bits" in name else []
    wanted = decode(ffmpeg, path, "-frames:v", "30", *sited, shape=clip.shape)
    assert np.array_equal(clip.frames, wanted)
    assert len(clip.notes) == len(notes)
    assert all(has_note(clip, text) for text in notes)


@pytest.mark.parametrize(
    "name", ["moviepy_fire2.mp4", "androidx_bt601.mov", "androidx_bear-vp9-odd-dimensions.webm"]
)
def test_timestamps_are_the_packets(ffmpeg: FFmpeg, clips: Path, name: str) -> None:
    path = clips / "robust" / name
    clip = read_clip(path)
    base, pts, durations = packet_times(ffmpeg, path)
    assert clip.time_base == base
    assert clip.pts.tolist() == pts
    assert clip.timing.duration == durations[-1]


@pytest.mark.parametrize("degrees, turns", [(90, 1), (180, 2), (270, 3)])
def test_rotation_is_applied(ffmpeg: FFmpeg, tmp_path: Path, degrees: int, turns: int) -> None:
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-vf", "setsar=4/3", "-pix_fmt", "yuv420p", plain)
    ffmpeg("-display_rotation:v", str(degrees), "-i", plain, "-c", "copy", turned)
    clip, upright = read_clip(turned), read_clip(plain)
    assert np.array_equal(clip.frames, decode(ffmpeg, turned, shape=clip.shape))
    assert np.array_equal(clip.frames, np.rot90(upright.frames, turns, axes=(1, 2)))
    assert clip.sample_aspect_ratio == (Fraction(4, 3) if turns == 2 else Fraction(3, 4))
    assert clip.source["rotation"] == degrees


@pytest.mark.parametrize("flip", [["-display_hflip:v"], ["-display_vflip:v"]])
@pytest.mark.parametrize("degrees", [0, 90])
def test_mirroring_is_applied(
    ffmpeg: FFmpeg, tmp_path: Path, flip: list[str], degrees: int
) -> None:
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", "yuv420p", plain)
    ffmpeg("-display_rotation:v", str(degrees), *flip, "-i", plain, "-c", "copy", turned)
    clip = read_clip(turned)
    assert not np.array_equal(clip.frames, read_clip(plain).frames)
    assert np.array_equal(clip.frames, decode(ffmpeg, turned, shape=clip.shape))
    assert clip.source["mirrored"]
    assert any("mirrors" in note for note in clip.notes)


def test_an_oblique_turn_is_not_done_and_said(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", "yuv420p", plain)
    ffmpeg("-display_rotation:v", "30", "-i", plain, "-c", "copy", turned)
    clip = read_clip(turned)
    assert np.array_equal(clip.frames, read_clip(plain).frames)
    assert any("ignores the requested rotation" in note for note in clip.notes)


def make_tagged(
    ffmpeg: FFmpeg, path: Path, pixel_format: str, matrix: str | None, range: str | None
) -> None:
    """A lossless clip with colours converted by, and tagged with, a matrix and a range."""
    scale, tags = ["flags=bicubic"], []
    if matrix:
        names = {"smpte170m": "bt601", "bt2020nc": "bt2020"}
        scale.append(f"out_color_matrix={names.get(matrix, matrix)}")
        tags += ["-colorspace", matrix]
    if range:
        scale.append(f"out_range={range}")
        tags += ["-color_range", range]
    filters = f"scale={':'.join(scale)},format={pixel_format}"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-vf", filters, *tags, "-c:v", "ffv1", path)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize(
    "matrix, range, meaning",
    [
        (None, None, "BT.601, limited range (untagged)"),
        (None, "pc", "BT.601, full range (untagged)"),
        ("bt709", "tv", "BT.709, limited range"),
        ("bt709", "pc", "BT.709, full range"),
        ("smpte170m", "tv", "BT.601, limited range"),
        ("bt2020nc", "tv", "BT.2020, limited range"),
    ],
)
def test_colour_tags_are_obeyed(
    ffmpeg: FFmpeg,
    tmp_path: Path,
    pixel_format: str,
    matrix: str | None,
    range: str | None,
    meaning: str,
) -> None:
    path = tmp_path / "tagged.mkv"
    make_tagged(ffmpeg, path, pixel_format, matrix, range)
    clip = read_clip(path)
    assert str(clip.colour) == meaning
    assert np.array_equal(clip.frames, decode(ffmpeg, path, shape=clip.shape))


@pytest.mark.parametrize("asked", [("bt709", "full"), ("bt2020", None), (None, "full")])
def test_matrix_and_range_can_be_overridden(
    ffmpeg: FFmpeg, tmp_path: Path, asked: tuple[str | None, str | None]
) -> None:
    path = tmp_path / "tagged.mkv"
    make_tagged(ffmpeg, path, "yuv444p", "smpte170m", "tv")
    matrix, range = asked
    clip = read_clip(path, matrix=matrix, range=range)
    filters = f"scale=in_color_matrix={matrix or 'bt601'}:in_range={range or 'limited'}"
    assert np.array_equal(clip.frames, decode(ffmpeg, path, "-vf", filters, shape=clip.shape))
    assert not np.array_equal(clip.frames, read_clip(path).frames)
    assert clip.edit == {k: v for k, v in (("matrix", matrix), ("range", range)) if v}


def test_an_override_silences_the_note_on_untagged_colour(bunny: Path) -> None:
    assert not has_note(read_clip(bunny, frames=":1", matrix="bt709"), "no colour tags")


def test_unknown_matrix_and_range_name_the_known_ones(bunny: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown matrix 'rec601'.*bt709.*bt601"):
        read_clip(bunny, matrix="rec601")
    with pytest.raises(UsageError, match=r"unknown range 'tv'.*limited, full"):
        read_clip(bunny, range="tv")


@pytest.mark.parametrize(
    "pixel_format, note",
    [
        ("gray", None),
        ("gray10le", "has 10 bits"),
        ("yuva420p", "alpha"),
        ("bgra", "alpha"),
        ("bgr0", None),
        ("gbrp10le", "has 10 bits"),
    ],
)
def test_other_layouts(ffmpeg: FFmpeg, tmp_path: Path, pixel_format: str, note: str | None) -> None:
    path = tmp_path / "layout.mkv"
    filters = f"format={pixel_format}"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-vf", filters, "-c:v", "ffv1", path)
    clip = read_clip(path)
    assert clip.source["pixel_format"] == pixel_format
    assert np.array_equal(clip.frames, decode(ffmpeg, path, shape=clip.shape))
    lost = [n for n in clip.notes if "bits" in n or "alpha" in n]
    assert len(lost) == (note is not None)
    assert note is None or note in lost[0]


def test_interlaced_video_says_so(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "fields.mkv"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-vf", "setfield=tff", "-c:v", "ffv1", path)
    assert has_note(read_clip(path), "interlaced")


@pytest.fixture
def y4m(ffmpeg: FFmpeg) -> bytes:
    tags = ["-pix_fmt", "yuv420p", "-vf", "setsar=12/11", "-f", "yuv4mpegpipe"]
    return ffmpeg("-f", "lavfi", "-i", PATTERN, *tags, "-")


def test_y4m_from_a_file(ffmpeg: FFmpeg, tmp_path: Path, y4m: bytes) -> None:
    path = tmp_path / "video.y4m"
    path.write_bytes(y4m)
    clip = read_clip(path)
    assert clip.shape == (5, 48, 64, 3)
    assert np.array_equal(clip.frames, decode(ffmpeg, path, shape=clip.shape))
    assert (clip.fps, clip.sample_aspect_ratio) == (10, Fraction(12, 11))


SHOW_STDIN = """
import hashlib
from nervkit.video.reader import read_clip
clip = read_clip("-")
print(clip.shape, clip.fps, hashlib.sha256(clip.frames).hexdigest())
"""


def test_y4m_from_a_pipe_is_the_same(tmp_path: Path, y4m: bytes) -> None:
    path = tmp_path / "video.y4m"
    path.write_bytes(y4m)
    clip = read_clip(path)
    command = [sys.executable, "-c", SHOW_STDIN]
    shown = subprocess.run(command, input=y4m, capture_output=True, check=True).stdout.decode()
    assert shown.strip() == f"{clip.shape} 10 {hashlib.sha256(clip.frames).hexdigest()}"


def test_an_empty_pipe_is_a_source_error() -> None:
    command = [sys.executable, "-c", SHOW_STDIN]
    done = subprocess.run(command, input=b"", capture_output=True, check=False)
    last = done.stderr.decode().strip().splitlines()[-1]
    assert last.startswith("nervkit.errors.SourceError: standard input")


def raw_planes(ffmpeg: FFmpeg, path: Path, size: str, format: str) -> np.ndarray:
    width, height = map(int, size.split("x"))
    layout = ["-f", "rawvideo", "-video_size", size, "-pixel_format", format]
    raw = ffmpeg(*layout, "-i", path, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def test_raw_video_described_by_its_name(ffmpeg: FFmpeg, clips: Path) -> None:
    clip = read_clip(clips / CARS)
    assert clip.shape == (30, 240, 320, 3)
    assert np.array_equal(clip.frames, raw_planes(ffmpeg, clips / CARS, "320x240", "yuv420p"))
    assert clip.fps == 30
    assert has_note(clip, "assumes 320x240, yuv420p")


@pytest.mark.parametrize(
    "name, format, fps",
    [
        ("a_64x48_29.97_10bit_422.yuv", "yuv422p10le", Fraction(2997, 100)),
        ("a_64x48_60_444.yuv", "yuv444p", 60),
        ("a_64x48.yuv", "yuv420p", 25),
    ],
)
def test_raw_names_tell_rate_and_format(
    ffmpeg: FFmpeg, tmp_path: Path, name: str, format: str, fps: Fraction
) -> None:
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", format, "-f", "rawvideo", path)
    clip = read_clip(path)
    assert np.array_equal(clip.frames, raw_planes(ffmpeg, path, "64x48", format))
    assert clip.source["pixel_format"] == format
    assert clip.fps == fps


def test_raw_video_described_by_options(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "nameless.yuv"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", "yuv444p", "-f", "rawvideo", path)
    clip = read_clip(path, size="64x48", fps="30000/1001", pixel_format="yuv444p")
    assert np.array_equal(clip.frames, raw_planes(ffmpeg, path, "64x48", "yuv444p"))
    assert clip.fps == Fraction(30000, 1001)
    with pytest.raises(UsageError, match="set size"):
        read_clip(path)
    with pytest.raises(UsageError, match="fps must be"):
        read_clip(path, size="64x48", fps="0")
    with pytest.raises(SourceError, match="nameless"):
        read_clip(path, size="64x48", pixel_format="yuv999p")


def test_size_and_format_are_for_raw_video_only(bunny: Path) -> None:
    with pytest.raises(UsageError, match=r"^size is for raw"):
        read_clip(bunny, size="64x48")
    with pytest.raises(UsageError, match="pixel_format is for raw"):
        read_clip(bunny, pixel_format="yuv420p")


def test_images_come_in_natural_order(tmp_path: Path) -> None:
    for value in (1, 2, 9, 10, 100):
        Image.new("RGB", (4, 3), (value, 0, 0)).save(tmp_path / f"frame{value}.png")
    (tmp_path / "notes.txt").write_text("no image")
    for source in (tmp_path, str(tmp_path / "frame%d.png")):
        clip = read_clip(source, fps=50)
        assert clip.frames[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 100]
        assert clip.fps == 50
        assert clip.notes == []
    assert has_note(read_clip(tmp_path), "assumes 25 fps")


def test_real_images_are_what_pillow_reads(clips: Path) -> None:
    folder = clips / "davis" / "blackswan"
    paths = sorted(folder.glob("*.jpg")) or sorted(folder.rglob("*.jpg"))
    clip = read_clip(paths[0].parent, frames="1:3")
    wanted = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths[1:3]])
    assert np.array_equal(clip.frames, wanted)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_every_mode(tmp_path: Path, noise: np.ndarray, mode: str) -> None:
    image = Image.fromarray(noise[0]).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(77)
    path = tmp_path / ("1.tif" if mode == "CMYK" else "1.png")
    image.save(path)
    clip = read_clip(tmp_path)
    assert np.array_equal(clip.frames[0], np.asarray(image.convert("RGB")))
    assert has_note(clip, "alpha") == (mode in ("LA", "RGBA"))
    assert not has_note(clip, "bits per sample")


def test_palette_transparency_is_reported(tmp_path: Path, noise: np.ndarray) -> None:
    image = Image.fromarray(noise[0]).quantize(8)
    image.save(tmp_path / "1.png", transparency=0)
    clip = read_clip(tmp_path)
    assert np.array_equal(clip.frames[0], np.asarray(image.convert("RGB")))
    assert has_note(clip, "alpha")


@pytest.mark.parametrize("pixel_format", ["gray16be", "rgb48be", "rgba64be", "ya16be"])
def test_deep_images(ffmpeg: FFmpeg, tmp_path: Path, pixel_format: str) -> None:
    path = tmp_path / "1.png"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-frames:v", "1", "-pix_fmt", pixel_format, path)
    clip = read_clip(tmp_path)
    wanted = decode(ffmpeg, path, shape=clip.shape)
    # Rounding: ffmpeg, Pillow and nervkit differ by one step at most.
    assert np.abs(clip.frames.astype(int) - wanted).max() <= 1
    assert has_note(clip, "has 16 bits")
    assert has_note(clip, "alpha") == ("a" in pixel_format.replace("gray", ""))


def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "1.png")
    assert np.array_equal(read_clip(tmp_path).frames[0, ..., 0], np.rint(values / 257))


def test_float_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "1.tif")
    with pytest.raises(SourceError, match=r"1\.tif: unsupported bit depth"):
        read_clip(tmp_path)


def test_images_stand_upright(tmp_path: Path, noise: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(noise[0]).save(tmp_path / "1.png", exif=exif)
    assert np.array_equal(read_clip(tmp_path).frames[0], np.rot90(noise[0], -1))


def test_mixed_sizes_are_refused_or_resized(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "1.png")
    Image.new("RGB", (6, 8)).save(tmp_path / "2.png")
    with pytest.raises(SourceError, match="frame 1 is 6x8, but the first one is 8x6"):
        read_clip(tmp_path)
    assert read_clip(tmp_path, resize="4x4").shape == (2, 4, 4, 3)


def test_folders_without_images_and_damaged_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images in this folder"):
        read_clip(tmp_path)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(SourceError, match=r"1\.png: not a readable image"):
        read_clip(tmp_path)
    with pytest.raises(SourceError, match="no file matches this pattern"):
        read_clip(str(tmp_path / "x%03d.png"))
    with pytest.raises(SourceError, match="no such folder"):
        read_clip(str(tmp_path / "none" / "%03d.png"))


def test_arrays_and_tensors_of_bytes(tmp_path: Path, noise: np.ndarray) -> None:
    tensor = torch.from_numpy(noise)
    np.save(tmp_path / "frames.npy", noise)
    for source in (noise, tensor, tensor.permute(0, 3, 1, 2), tmp_path / "frames.npy"):
        clip = read_clip(source, fps=12)
        assert np.array_equal(clip.frames, noise)
        assert clip.fps == 12


def test_arrays_of_floats_are_rounded() -> None:
    values = np.linspace(0, 1, 4 * 5 * 6 * 3).reshape(4, 5, 6, 3)
    wanted = np.rint(values * 255)
    for source in (values, values.astype(np.float32), torch.from_numpy(values)):
        assert np.array_equal(read_clip(source).frames, wanted)
    half = torch.rand(2, 3, 8, 8, dtype=torch.bfloat16)
    frames = half.permute(0, 2, 3, 1).float().numpy()
    assert np.array_equal(read_clip(half).frames, np.rint(frames * 255))


def test_gray_arrays_become_rgb(noise: np.ndarray) -> None:
    gray = noise[..., 0]
    for source in (gray, gray[..., None]):
        assert np.array_equal(read_clip(source).frames, gray[..., None].repeat(3, axis=3))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.int32),
        np.full((1, 4, 4, 3), 1.01),
        np.full((1, 4, 4, 3), -0.01),
        np.full((1, 4, 4, 3), np.nan),
        [[1, 2]],
    ],
)
def test_unusable_arrays(frames: object) -> None:
    with pytest.raises(UsageError):
        read_clip(frames)


def test_no_frames_at_all(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no frame can be decoded"):
        read_clip(np.zeros((0, 4, 4, 3), np.uint8))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(SourceError, match=r"not a readable \.npy"):
        read_clip(tmp_path / "bad.npy")


def test_frames_are_counted_from_start(bunny: Path) -> None:
    whole = read_clip(bunny, frames=":40", resize="64x36")
    part = read_clip(bunny, start=1, frames="2:7", resize="64x36")
    assert np.array_equal(part.frames, whole.frames[27:32])
    assert part.pts.tolist() == [0, 512, 1024, 1536, 2048]
    assert part.timing.duration == 512
    assert part.edit == {"start": "1", "frames": "2:7", "resize": "64x36"}


def test_start_keeps_the_first_frame_at_or_after_it(clips: Path) -> None:
    path = clips / "robust" / "moviepy_fire2.mp4"
    whole = read_clip(path, resize="64x36")
    seconds = [float((pts - whole.pts[0]) * whole.time_base) for pts in whole.pts]
    part = read_clip(path, start=1, resize="64x36")
    first = next(i for i, second in enumerate(seconds) if second >= 1)
    assert np.array_equal(part.frames, whole.frames[first:])
    assert part.pts.tolist() == (whole.pts[first:] - whole.pts[first]).tolist()
    assert part.timing.duration == whole.timing.duration


def test_a_cut_ends_where_the_next_frame_begins(clips: Path) -> None:
    # Matroska's frames say 33 ms; some are shown for 34.
    path = clips / "robust" / "androidx_bear-vp9-odd-dimensions.webm"
    last = int(np.argmax(np.diff(read_clip(path).pts)))
    part = read_clip(path, frames=f":{last + 1}")
    assert len(part.timing) == last + 1
    assert part.timing.duration == 34


def test_a_range_beyond_the_end_keeps_what_there_is(noise: np.ndarray) -> None:
    assert len(read_clip(noise, frames="1:9").frames) == 2
    with pytest.raises(SourceError, match="frames 3: selects no frame; the source has 3 frames"):
        read_clip(noise, frames="3:")
    with pytest.raises(SourceError, match="start 5 selects no frame"):
        read_clip(noise, start=5)


def test_crop_and_resize_of_a_file(bunny: Path) -> None:
    full = read_clip(bunny, frames=":2").frames
    clip = read_clip(bunny, frames=":2", crop="1280x640", resize=(320, 160))
    crop = full[:, 40:680].reshape(2, 160, 4, 320, 4, 3).astype(int).sum(axis=(2, 4))
    assert np.array_equal(clip.frames, (crop + 8) // 16)
    assert clip.sample_aspect_ratio == 1
    with pytest.raises(UsageError, match="does not fit into the 1280x720"):
        read_clip(bunny, crop="1281x720")


def test_audio_is_cut_with_the_frames(bunny: Path) -> None:
    whole, part = read_clip(bunny, resize="16x9"), read_clip(bunny, start=2, frames=":25")
    (all_times,), (times,) = ([t.times for t in clip.audio] for clip in (whole, part))
    wanted = all_times[(all_times[:, 0] >= 2 * 48000) & (all_times[:, 0] < 3 * 48000)]
    assert np.array_equal(times, wanted - [2 * 48000, 2 * 48000, 0])


def test_missing_empty_and_foreign_files(ffmpeg: FFmpeg, bunny: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_clip(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="the file is empty"):
        read_clip(tmp_path / "empty.mp4")
    (tmp_path / "junk.mp4").write_bytes(b"this is no video " * 99)
    with pytest.raises(SourceError, match="cannot be opened as video"):
        read_clip(tmp_path / "junk.mp4")
    ffmpeg("-i", bunny, "-vn", "-c:a", "copy", tmp_path / "sound.m4a")
    with pytest.raises(SourceError, match="no video stream"):
        read_clip(tmp_path / "sound.m4a")


def cut(path: Path, share: float) -> Path:
    """A copy of the first bytes, with the same name, in a folder of its own."""
    folder = path.parent if path.parent.name == "cut" else path.parent / "cut"
    folder.mkdir(exist_ok=True)
    short = folder / path.name
    short.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return short


def test_a_cut_mp4_keeps_what_is_whole(ffmpeg: FFmpeg, small_mp4: Path) -> None:
    whole = read_clip(small_mp4)
    short = cut(small_mp4, 0.6)
    clip = read_clip(short)
    kept = len(clip.frames)
    assert 20 < kept < 60
    assert np.array_equal(clip.frames, whole.frames[:kept])
    assert has_note(clip, f"{kept} of 60 frames are intact, {60 - kept} lost")
    with pytest.raises(SourceError, match=r"60 frames are intact.*; strict refuses"):
        read_clip(short, strict=True)
    with pytest.raises(SourceError, match=r"cannot be opened|no video stream|no frame can be"):
        read_clip(cut(small_mp4, 0.05))


def test_a_cut_webm_keeps_what_is_whole(ffmpeg: FFmpeg, clips: Path, tmp_path: Path) -> None:
    name = "moviepy_transparent.webm"
    data = (clips / "robust" / name).read_bytes()
    (tmp_path / name).write_bytes(data)
    assert not has_note(read_clip(tmp_path / name, strict=True), "truncated")
    short = cut(tmp_path / name, 0.6)
    clip = read_clip(short)
    assert np.array_equal(clip.frames, decode(ffmpeg, short, shape=clip.shape))
    missing = len(data) - short.stat().st_size
    assert has_note(clip, f"truncated: {len(clip.frames)} frames are intact, {missing} bytes")
    with pytest.raises(SourceError, match="; strict refuses"):
        read_clip(short, strict=True)


def test_a_matroska_stream_of_unknown_length_is_not_cut(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "live.mkv"
    path.write_bytes(ffmpeg("-f", "lavfi", "-i", PATTERN, "-f", "matroska", "-live", "1", "-"))
    assert len(read_clip(path, strict=True).frames) == 5


def test_cut_raw_video_keeps_what_is_whole(clips: Path, tmp_path: Path) -> None:
    size = 320 * 240 * 3 // 2
    short = tmp_path / CARS
    short.write_bytes((clips / CARS).read_bytes()[: 7 * size + size // 2])
    clip = read_clip(short)
    assert np.array_equal(clip.frames, read_clip(clips / CARS).frames[:7])
    assert has_note(clip, "7 of 8 frames are intact, 1 lost")
    with pytest.raises(SourceError, match="; strict refuses"):
        read_clip(short, strict=True)


@pytest.fixture
def scratched_mp4(small_mp4: Path) -> Path:
    """A movie whose video packets of frames 12 to 23 hold random bytes."""
    data = bytearray(small_mp4.read_bytes())
    with av.open(str(small_mp4)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        for packet in packets[12:24]:
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path = small_mp4.with_name("scratched.mp4")
    path.write_bytes(data)
    return path


def test_damage_in_the_middle_is_reported(scratched_mp4: Path, small_mp4: Path) -> None:
    clip, whole = read_clip(scratched_mp4), read_clip(small_mp4)
    kept = len(clip.frames)
    assert 36 <= kept <= 48
    assert np.array_equal(clip.frames[-24:], whole.frames[-24:])  # from the next key frame on
    assert has_note(clip, f"{kept} of 60 frames are intact")


def test_damage_within_the_wanted_range_is_reported(scratched_mp4: Path) -> None:
    assert has_note(read_clip(scratched_mp4, frames=":30"), "damaged")
    with pytest.raises(SourceError, match="; strict refuses"):
        read_clip(scratched_mp4, frames=":30", strict=True)


def test_a_cut_after_the_wanted_range_does_not_matter(small_mp4: Path) -> None:
    clip = read_clip(cut(small_mp4, 0.6), frames=":5", strict=True)
    assert np.array_equal(clip.frames, read_clip(small_mp4, frames=":5").frames)


def test_what_does_not_fit_into_memory_is_refused(
    bunny: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "available_memory", lambda: 100_000_000)
    # 132 frames of 2.76 MB: 29 of them would fill the 80 MB that may be used
    with pytest.raises(ResourceError, match=r"132 frames of 1280x720 need 365\.0 MB.*0:28\b"):
        read_clip(bunny)
    assert len(read_clip(bunny, frames="0:28").frames) == 28
    assert len(read_clip(bunny, resize="320x180").frames) == 132
    with pytest.raises(ResourceError):
        read_clip(bunny, frames="0:29")


@pytest.mark.parametrize(
    "width, height, threads", [(64, 36, 1), (641, 361, 1), (3841, 2160, 1), (3840, 2160, 0)]
)
def test_threads_of_a_conversion(width: int, height: int, threads: int) -> None:
    """Several threads corrupt frames of an odd width with more than 8 bits, now and then."""
    assert scaler_threads(av.VideoFrame(width, height, "gray10le")) == threads
