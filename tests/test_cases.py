"""Sources that other tools are reported to read wrongly, with the right result for each."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from nervkit.errors import SourceError
from nervkit.video import collector
from nervkit.video.clip import Clip
from nervkit.video.reader import read_clip

ROOT = Path(__file__).parent.parent

FFmpeg = Callable[..., bytes]


def has_note(clip: Clip, text: str) -> bool:
    return any(text in note for note in clip.notes)


def seconds(clip: Clip) -> list[float]:
    return [float(pts * clip.time_base) for pts in clip.pts]


def of_constant_rate(clip: Clip, frames: int, fps: int = 25) -> bool:
    return len(clip.frames) == frames and clip.timing.constant and clip.fps == fps


def shown(ffmpeg: FFmpeg, path: Path, clip: Clip, *options: str) -> np.ndarray:
    """The frames as the ffmpeg binary decodes them."""
    source = ["-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", *options]
    raw = ffmpeg(*source, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *clip.shape[1:])


@pytest.mark.parametrize(
    "name, note",
    [
        (
            "ttml_subs.mp4",
            "nervkit drops the subtitle track (ttml (stpp)): there is no decoder for it",
        ),
        (
            "iphone_apac.mov",
            "nervkit drops the audio track (none (apac)): there is no decoder for it",
        ),
    ],
)
def test_a_track_without_a_decoder_is_left_out(cases: Path, name: str, note: str) -> None:
    clip = read_clip(cases / name, strict=True)
    assert of_constant_rate(clip, 100)
    assert [(track.codec, len(track.times)) for track in clip.tracks] == [("aac", 174)]
    assert [n for n in clip.notes if "nervkit drops" in n] == [note]


@pytest.mark.parametrize("name", ["exif.png", "exif_rot6.jpg"])
def test_images_with_exif(cases: Path, name: str) -> None:
    with Image.open(cases / name) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    clip = read_clip(cases / name, strict=True)
    assert np.array_equal(clip.frames, wanted[None])
    assert wanted.shape[:2] == ((64, 48) if "rot6" in name else (48, 64))


def test_a_camera_with_exif_in_its_frames(ffmpeg: FFmpeg, cases: Path) -> None:
    path = cases / "camera_exif_mjpeg.avi"
    clip = read_clip(path, strict=True)
    assert np.array_equal(clip.frames, shown(ffmpeg, path, clip))
    assert of_constant_rate(clip, 10)


def test_frames_that_an_edit_list_hides_are_not_lost(ffmpeg: FFmpeg, cases: Path) -> None:
    path = cases / "editlist_cut.mp4"
    clip = read_clip(path, strict=True)
    assert of_constant_rate(clip, 62)
    assert np.array_equal(clip.frames, shown(ffmpeg, path, clip))
    assert not has_note(clip, "lost")
    (track,) = clip.tracks
    assert -0.15 < float(track.times[0, 0] * track.time_base) <= 0  # not the hidden 0.6 s of sound


def test_frames_that_an_avi_drops_are_not_lost(cases: Path) -> None:
    clip = read_clip(cases / "avi_dropped_frames.avi", strict=True)
    assert len(clip.frames) == 58
    assert clip.time_base == Fraction(1, 25)
    assert (clip.pts[0], clip.pts[-1]) == (0, 99)
    assert not has_note(clip, "lost")


def test_memory_follows_what_is_there(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "available_memory", lambda: 3_000_000)  # 100 frames: 1.8 MB
    clip = read_clip(cases / "avi_claims_50M_frames.avi", strict=True)
    assert of_constant_rate(clip, 100)
    assert len(clip.frames.base) == 100


def test_two_recordings_glued_go_on(cases: Path) -> None:
    clip = read_clip(cases / "glued_jump.ts", strict=True)
    assert len(clip.frames) == 104
    assert 4 < clip.timing.seconds[1] < 4.5
    assert max(np.diff(seconds(clip))) < 0.3
    (track,) = clip.tracks
    assert (track.codec, len(track.times)) == ("aac", 176)
    steps = np.diff(track.times[:, 0]) * float(track.time_base)
    assert steps.min() >= 0 and steps.max() < 0.3
    assert has_note(clip, "discontinuities of the timestamps (+3597.840 s)")


def test_one_packet_of_sound_out_of_order(cases: Path) -> None:
    clip = read_clip(cases / "audio_one_dup_dts.ts", strict=True)
    assert of_constant_rate(clip, 100)
    (track,) = clip.tracks
    assert len(track.times) == 174
    steps = np.diff(track.times[:, 0])
    # 1024 samples of 44.1 kHz; durations are rounded, which adds up over 15 packets.
    assert steps.min() >= 2089 and steps.max() <= 2089 + 15
    assert has_note(clip, "replaced 15 missing or implausible timestamps of audio packets")


def test_a_clock_of_microseconds(cases: Path) -> None:
    clip = read_clip(cases / "vfr_1us_2200.mp4", strict=True)
    assert clip.time_base == Fraction(1, 1_000_000)
    assert len(clip.frames) == 2200
    assert clip.pts[:3].tolist() == [0, 33334, 66668]
    assert clip.pts[-1] == 73300758


def test_a_gap_of_more_than_32_bits(cases: Path) -> None:
    clip = read_clip(cases / "ns_gap.nut", strict=True)
    assert seconds(clip) == [0, 0.04, 0.08, 8.08, 8.12]


def test_the_film_is_taken_and_not_its_picture(cases: Path) -> None:
    path = cases / "thumbnail_track_first.mp4"
    clip = read_clip(path, strict=True)
    assert clip.shape == (100, 64, 96, 3)
    assert has_note(clip, "2 video streams; nervkit reads number 1 (h264")
    assert read_clip(path, stream=0).shape == (1, 200, 200, 3)
    assert np.array_equal(read_clip(path, stream=1).frames, clip.frames)


def test_reordered_frames_without_timestamps(ffmpeg: FFmpeg, cases: Path) -> None:
    path = cases / "h264_bframes.avi"
    clip = read_clip(path, strict=True)
    assert of_constant_rate(clip, 100)
    assert clip.pts[0] == 0
    assert np.array_equal(clip.frames, shown(ffmpeg, path, clip))
    assert not has_note(clip, "timestamps")


def test_a_fragmented_mp4_that_is_cut(ffmpeg: FFmpeg, cases: Path) -> None:
    path = cases / "fragmented_cut.mp4"
    clip = read_clip(path)
    assert np.array_equal(clip.frames, shown(ffmpeg, path, clip))
    assert has_note(clip, "truncated: 75 frames are intact, 5303 bytes are missing")
    with pytest.raises(SourceError, match=r"truncated.*; strict refuses"):
        read_clip(path, strict=True)


def test_a_gif_that_is_cut(cases: Path) -> None:
    clip = read_clip(cases / "cut.gif")
    assert seconds(clip) == [0, 0.1]  # the third is there in part
    assert has_note(clip, "2 of 3 frames are intact, 1 lost")
    with pytest.raises(SourceError, match="; strict refuses"):
        read_clip(cases / "cut.gif", strict=True)


def test_sound_of_a_camera_that_mp4_cannot_hold(cases: Path) -> None:
    (track,) = read_clip(cases / "ipcam_g711.mkv", strict=True).tracks
    assert (track.codec, len(track.times)) == ("pcm_alaw", 174)


def test_chapters_and_tags(cases: Path) -> None:
    clip = read_clip(cases / "chapters.mp4", strict=True)
    assert clip.extras.tags == {"title": "My Film", "artist": "me"}
    chapters = [(chapter.start, chapter.end, chapter.title) for chapter in clip.extras.chapters]
    assert chapters == [(0, 2, "One"), (2, 4, "Two")]
    assert not has_note(clip, "nervkit drops")


def test_chapters_are_cut_with_the_video(cases: Path) -> None:
    clip = read_clip(cases / "chapters.mp4", start=1, frames=":50")
    chapters = [(chapter.start, chapter.end, chapter.title) for chapter in clip.extras.chapters]
    assert chapters == [(0, 1, "One"), (1, 2, "Two")]
    clip = read_clip(cases / "chapters.mp4", start=2)
    assert [chapter.title for chapter in clip.extras.chapters] == ["Two"]


def test_what_travels_in_a_matroska_file(cases: Path) -> None:
    clip = read_clip(cases / "anime_chapters_fonts.mkv", strict=True)
    sound, text = clip.tracks
    assert (sound.title, sound.language, sound.flags) == ("Commentary", "ger", ("default",))
    assert (text.codec, text.flags) == ("ass", ("forced",))
    (font,) = clip.extras.attachments
    assert (font.name, font.media_type) == ("font.ttf", "application/x-truetype-font")
    assert len(font.data) == 500
    assert clip.extras.tags["title"] == "My Film"
    assert [chapter.title for chapter in clip.extras.chapters] == ["One", "Two"]


def test_a_container_that_crops(ffmpeg: FFmpeg, cases: Path) -> None:
    path = cases / "mkv_pixelcrop.mkv"
    clip = read_clip(path, strict=True)
    assert clip.shape == (25, 40, 88, 3)
    whole = np.frombuffer(
        ffmpeg("-apply_cropping", "none", "-i", path, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
        np.uint8,
    ).reshape(25, 64, 96, 3)
    assert np.array_equal(clip.frames, whole[:, 8:48, 4:92])
    assert has_note(clip, "crops the video by 4/4/8/16 (left/right/top/bottom)")
    # ffmpeg crops before it spreads the chroma: only there, at the edges, it may differ.
    difference = np.abs(clip.frames.astype(int) - shown(ffmpeg, path, clip))
    assert difference[:, 2:-2, 2:-2].max() <= 2


def test_an_animated_webp(cases: Path) -> None:
    path = cases / "anim.webp"
    clip = read_clip(path, strict=True)
    assert seconds(clip) == [0, 0.1, 0.3, 0.35, 0.39]
    assert clip.timing.seconds[1] == Fraction(89, 100)
    with Image.open(path) as image:
        for index, frame in enumerate(clip.frames):
            image.seek(index)
            assert np.array_equal(frame, np.asarray(image.convert("RGB")))


def test_a_raw_stream_has_the_rate_that_is_given(ffmpeg: FFmpeg, cases: Path) -> None:
    path = cases / "raw.h264"
    clip = read_clip(path, fps=30, strict=True)
    assert of_constant_rate(clip, 100, 30)
    assert np.array_equal(clip.frames, shown(ffmpeg, path, clip))
    assert not has_note(clip, "fps")
    assumed = read_clip(path)
    assert of_constant_rate(assumed, 100)
    assert has_note(assumed, "assumes 25 fps (set fps to change it)")


def test_a_subtitle_on_screen_at_the_cut(cases: Path) -> None:
    text = read_clip(cases / "sub_across_cut.mkv", start=1).tracks[1]
    assert text.codec == "subrip"
    assert text.time_base == Fraction(1, 1000)
    assert text.times[:, [0, 2]].tolist() == [[0, 2500], [2600, 300]]
    (rest,) = read_clip(cases / "sub_across_cut.mkv", start=1, frames=":10").tracks[1].times
    assert rest[[0, 2]].tolist() == [0, 400]


def test_hidden_files_are_no_frames(cases: Path) -> None:
    assert len(read_clip(cases / "macos_appledouble_images", strict=True).frames) == 8
