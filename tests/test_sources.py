"""Sources as users have them: names, pipes, playlists, truncation, time bases, and metadata."""

from __future__ import annotations

import http.server
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from nervkit.errors import SourceError, UsageError
from nervkit.video.clip import Clip
from nervkit.video.edit import Edit
from nervkit.video.endings import cut_of
from nervkit.video.reader import read_clip
from nervkit.video.timeline import TimeLine, repair_times
from nervkit.video.tracks import within
from tests import heif

FFmpeg = Callable[..., bytes]

PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=2"]
SOUND = ["-f", "lavfi", "-i", "anoisesrc=d=2:r=44100"]


@pytest.fixture(scope="module")
def film(ffmpeg: FFmpeg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames with B-frames, and audio; the index is at the end."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    ffmpeg(*PICTURE, *SOUND, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", path)
    return path


@pytest.fixture
def copied(ffmpeg: FFmpeg, film: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the film's packets into a file of this name, with options of ffmpeg."""

    def copy(name: str, *options: str | Path) -> Path:
        ffmpeg("-i", film, "-c", "copy", *options, tmp_path / name)
        return tmp_path / name

    return copy


def has_note(clip: Clip, text: str) -> bool:
    return any(text in note for note in clip.notes)


def test_names_are_paths(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a:b.mp4", "C:x.mp4", "concat:a|b.mp4", ".mp4", "pipe:0.mp4", "50% off.mp4"]
    names += ["http:x.mp4", "file:x.mp4", "%03d.mp4", "./-", "#EXTM3U", "x" * 250 + ".mp4"]
    for name in names:
        Path(name).write_bytes(film.read_bytes())
        assert read_clip(name, frames=":1").shape == (1, 64, 96, 3)


def test_an_image_with_a_place_for_a_number_in_its_name(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    ffmpeg(*PICTURE, "-frames:v", "3", tmp_path / "%d.dpx")
    (tmp_path / "2.dpx").rename(tmp_path / "%d.dpx")
    first = read_clip(tmp_path / "1.dpx").frames
    assert not np.array_equal(read_clip(tmp_path / "%d.dpx").frames, first)


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing.mp4", "no such file or folder"),
        ("50% off.mp4", "no such file or folder"),
        ("x" * 300, "no such file or folder"),
        ("a\0b", "no such file or folder"),
        ("x%03d.png", "no file matches this pattern"),
        ("http://127.0.0.1:9/x.mp4", "allow_network=True"),
    ],
)
def test_what_is_not_there(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        read_clip(name)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile {film}\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "list.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"\n'
    ' profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period/></MPD>',
    "list.pls": "[playlist]\nFile1={film}\n",
    "hidden.mkv": "text\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' "
    "profiles='urn:mpeg:dash:profile:isoff-live:2011'>{film}",
    "hidden.avi": "text\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "hidden.ts": "text\n<AssetMap/><CompositionPlaylist>{film}</CompositionPlaylist>",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_open_nothing(name: str, copied: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / name
    segment = copied("segment.ts")
    path.write_text(PLAYLISTS[name].format(film=segment))
    before = segment.stat().st_atime_ns
    os.utime(segment, ns=(1, segment.stat().st_mtime_ns))
    message = "cannot be opened" if "hidden" in name else "allow_network=True"
    with pytest.raises(SourceError, match=message):
        read_clip(path)
    assert before != 1 == segment.stat().st_atime_ns  # nobody has read it


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat"])
def test_playlists_are_opened_where_that_is_allowed(
    name: str, copied: Callable[..., Path], tmp_path: Path, film: Path
) -> None:
    copied("segment.ts")
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(film="segment.ts"))
    clip = read_clip(path, allow_network=True)
    assert np.array_equal(clip.frames, read_clip(film).frames)


@pytest.fixture
def server(film: Path) -> Iterator[tuple[str, list[str]]]:
    """An address, and the paths that were requested there."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

    handler = partial(Handler, directory=str(film.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()


def test_addresses_are_opened_where_that_is_allowed(
    server: tuple[str, list[str]], film: Path, tmp_path: Path
) -> None:
    address, asked = server
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(PLAYLISTS["list.m3u8"].format(film=f"{address}/film.mp4"))
    for source in (f"{address}/film.mp4", playlist):
        with pytest.raises(SourceError, match="allow_network=True"):
            read_clip(source)
    assert asked == []
    clip = read_clip(f"{address}/film.mp4", allow_network=True)
    assert np.array_equal(clip.frames, read_clip(film).frames)
    assert asked


READ_STDIN = """
from nervkit.errors import NervError
from nervkit.video.reader import read_clip
import sys
try:
    print(read_clip(sys.argv[1]).shape)
except NervError as error:
    print(error)
"""


def from_pipe(source: Path, name: str = "-") -> str:
    command = [sys.executable, "-c", READ_STDIN, name]
    done = subprocess.run(command, input=source.read_bytes(), capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_pipes(copied: Callable[..., Path]) -> None:
    front = copied("front.mp4", "-movflags", "+faststart")
    for name in ("-", "/dev/stdin"):
        assert from_pipe(front, name) == "(50, 64, 96, 3)"


def test_standard_input_may_be_a_file(film: Path) -> None:
    command = [sys.executable, "-c", READ_STDIN, "/dev/stdin"]
    with film.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "(50, 64, 96, 3)"


def test_an_index_at_the_end_cannot_be_piped_and_is_no_damage(
    ffmpeg: FFmpeg, tmp_path: Path
) -> None:
    path = tmp_path / "large.mov"
    noise = ["-f", "lavfi", "-i", "nullsrc=size=320x240,geq=random(1)*255:128:128"]
    ffmpeg(*noise, "-frames:v", "12", "-c:v", "mjpeg", "-q:v", "2", path)
    assert path.stat().st_size > 1 << 18  # more than is read ahead
    assert len(read_clip(path, strict=True).frames) == 12
    error = from_pipe(path)
    assert "has its index at the end and cannot be read from a pipe" in error
    assert "damaged" not in error


def test_a_fifo_and_a_substituted_process(copied: Callable[..., Path], tmp_path: Path) -> None:
    source = copied("film.mkv")
    fifo = tmp_path / "fifo.mkv"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(source.read_bytes()))
    writer.start()
    assert len(read_clip(fifo).frames) == 50
    writer.join()
    reader, end = os.pipe()
    writer = threading.Thread(target=lambda: os.fdopen(end, "wb").write(source.read_bytes()))
    writer.start()
    assert len(read_clip(f"/dev/fd/{reader}").frames) == 50
    writer.join()
    os.close(reader)


def test_raw_video_from_a_pipe(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    raw = ffmpeg(*PICTURE, "-pix_fmt", "yuv420p", "-f", "rawvideo", "-")
    writer = threading.Thread(target=lambda: fifo.write_bytes(raw))
    writer.start()
    clip = read_clip(fifo, size="96x64", fps=50)
    writer.join()
    assert clip.shape == (50, 64, 96, 3)
    assert clip.fps == 50


@pytest.mark.parametrize("start", ["0.3", "0.9", "1.4"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_edit_lists(ffmpeg: FFmpeg, film: Path, tmp_path: Path, start: str, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    ffmpeg("-ss", start, "-i", film, "-c", "copy", path)
    clip = read_clip(path, strict=True)
    assert np.array_equal(clip.frames, read_clip(film, start=start).frames)
    assert clip.pts[0] == 0
    assert not has_note(clip, "lost")


@pytest.mark.parametrize(
    "name, codec",
    [
        ("raw.h265", "libx265"),
        ("raw.m2v", "mpeg2video"),
        ("raw.m4v", "mpeg4"),
        ("raw.mjpeg", "mjpeg"),
    ],
)
def test_raw_streams(ffmpeg: FFmpeg, tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    ffmpeg(*PICTURE, "-c:v", codec, *(["-f", "m4v"] if name == "raw.m4v" else []), path)
    for fps in (None, 50):
        clip = read_clip(path, fps=fps, strict=True)
        assert (len(clip.frames), clip.fps, clip.pts[0]) == (50, fps or 25, 0)
        assert has_note(clip, "assumes 25 fps") == (fps is None)


def test_a_raw_stream_may_tell_its_rate(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    ffmpeg(*PICTURE, "-r", "24000/1001", "-c:v", "libx264", path)
    assert read_clip(path).fps == Fraction(24000, 1001)


def test_a_bitmap_subtitle_without_a_duration_is_kept_from_the_cut(
    ffmpeg: FFmpeg, film: Path, tmp_path: Path
) -> None:
    """It stays until the packet that clears it."""
    path = tmp_path / "text.mkv"
    with av.open(str(film)) as read, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(read.streams.video[0])
        text = output.add_mux_stream("hdmv_pgs_subtitle")
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
        for pts in (200, 1200, 1500):
            packet = av.Packet(b"\x80\0\0")  # the end of a display set
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = pts
            output.mux(packet)
    (track,) = read_clip(path, start=1).tracks
    assert track.times[:, 0].tolist() == [0, 200, 500]
    (track,) = read_clip(path, start=1, frames=":5").tracks
    assert track.times[:, 0].tolist() == [0]


@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_packets_that_repeat_a_frame_pass_time(
    ffmpeg: FFmpeg, tmp_path: Path, b_frames: str
) -> None:
    """MPEG-4's N-VOPs, which recorders write into AVI when they drop a frame."""
    whole, path = tmp_path / "whole.avi", tmp_path / "repeats.avi"
    ffmpeg(*PICTURE, "-c:v", "mpeg4", "-bf", b_frames, "-g", "10", whole)
    assert read_clip(whole, strict=True).pts.tolist() == list(range(50))
    repeat = b"\0\0\1\xb6" + bytes([0b01010000, 0b01001111])  # of a clock of 25 ticks
    with av.open(str(whole)) as read, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for index, packet in enumerate(p for p in read.demux(video=0) if p.size):
            if index in (25, 26, 27, 39):
                time, packet = packet.dts, av.Packet(repeat)
                packet.dts, packet.time_base = time, Fraction(1, 25)
            packet.pts = packet.dts
            packet.stream = stream
            output.mux(packet)
    clip = read_clip(path)
    assert len(clip.frames) < 50
    assert clip.pts[-1] == 49
    assert clip.pts[:20].tolist() == list(range(20))
    if b_frames == "0":
        assert sorted({*range(50)} - {*clip.pts.tolist()}) == [25, 26, 27, 39]


ENCODED = {
    "film.avi": ("-c:v", "mpeg4", "-bf", "2", "-c:a", "mp3"),
    "film.flv": ("-c:v", "flv", "-c:a", "mp3"),
    "film.asf": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "film.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "film.gif": ("-an",),
    "film.y4m": ("-an", "-pix_fmt", "yuv420p"),
    "film.apng": ("-an", "-f", "apng"),
}
COPIED = {
    "film.mkv": (),
    "film.ts": (),
    "fragments.mp4": ("-movflags", "frag_keyframe+empty_moov"),
    "delayed.mp4": ("-movflags", "frag_keyframe+delay_moov+default_base_moof"),
    "front.mp4": ("-movflags", "+faststart"),
}


@pytest.mark.parametrize("name", [*ENCODED, *COPIED])
def test_files_cut_short(
    ffmpeg: FFmpeg, film: Path, copied: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name in COPIED:
        copied(name, *COPIED[name])
    else:
        ffmpeg("-i", film, *ENCODED[name], path)
    whole = read_clip(path, strict=True)
    assert not has_note(whole, "truncated")
    assert cut_of(path) is None
    data = path.read_bytes()
    for share in (0.35, 0.6, 0.83, 0.97):
        path.write_bytes(data[: int(len(data) * share) | 1])
        clip = read_clip(path)
        assert has_note(clip, "truncated")
        assert 0 < len(clip.frames) <= len(whole.frames)
        with pytest.raises(SourceError, match="; strict refuses"):
            read_clip(path, strict=True)
        if name.endswith(("gif", "apng", "y4m")):  # others reorder frames, or hide a cut in one
            assert np.array_equal(clip.frames, whole.frames[: len(clip.frames)])


def test_a_fragment_without_its_data(copied: Callable[..., Path]) -> None:
    path = copied("fragments.mp4", "-movflags", "frag_keyframe+empty_moov")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"mdat") - 4])
    assert has_note(read_clip(path), "truncated")


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.flv"])
@pytest.mark.parametrize("more", [b"\n", bytes(1000), b"appended by somebody", b"\0\0\0\7junk"])
def test_what_follows_the_end_is_no_cut(
    ffmpeg: FFmpeg, film: Path, tmp_path: Path, name: str, more: bytes
) -> None:
    path = tmp_path / name
    ffmpeg("-i", film, "-c", "copy", path)
    if name.endswith("flv"):
        more = b""
        path.write_bytes(path.read_bytes()[:-4])  # the size of the last tag, after it
    path.write_bytes(path.read_bytes() + more)
    assert not has_note(read_clip(path, strict=True), "truncated")


@pytest.mark.parametrize("name", ["film.avi", "film.mkv", "film.flv", "film.ts", "film.ogv"])
def test_a_stream_without_a_length_is_no_cut(
    ffmpeg: FFmpeg, film: Path, tmp_path: Path, name: str
) -> None:
    """ffmpeg writes such files into a pipe, because it cannot seek back to fill in sizes."""
    path = tmp_path / name
    format = {"mkv": "matroska", "ts": "mpegts", "ogv": "ogg"}.get(name[5:], name[5:])
    codecs = ENCODED.get(name, ["-c", "copy"])
    path.write_bytes(ffmpeg("-i", film, *codecs, "-f", format, "-"))
    assert not has_note(read_clip(path, strict=True), "truncated")


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff", "webp"])
def test_pictures_cut_short_are_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(noise).save(path)
    assert read_clip(path, strict=True).shape == (1, 64, 64, 3)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"picture\.\w+: (not a readable image|truncated)"):
        read_clip(path)


def test_an_animated_webp_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    pictures = [Image.new("RGB", (64, 48), (40 * i, 0, 0)) for i in range(4)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[40, 40, 80, 40])
    assert read_clip(path, strict=True).pts.tolist() == [0, 40, 80, 160]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SourceError, match="truncated: 30 bytes are missing"):
        read_clip(path)


def test_an_animated_webp_is_reported_where_it_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "moving.mp4"
    pictures = [Image.new("RGB", (64, 48), (40 * i, 0, 0)) for i in range(4)]
    pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:])
    message = "an animated WebP must be a file named .webp"
    with pytest.raises(SourceError, match=message):
        read_clip(path)
    assert from_pipe(path) == f"standard input: {message}"


def test_an_animated_png_is_a_video(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "moving.png"
    ffmpeg(*PICTURE, "-frames:v", "5", "-f", "apng", path)
    clip = read_clip(path, strict=True)
    assert len(clip.frames) == 5
    assert clip.fps == 25


def test_an_unfinished_recording_says_so(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "unfinished.mp4"
    path.write_bytes(film.read_bytes()[:20_000])
    with pytest.raises(SourceError, match="its index is missing or damaged"):
        read_clip(path)


def test_tiles_of_a_heic_picture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "phone.heic"
    heif.write_grid(path, columns=3, rows=2)
    with pytest.raises(SourceError, match=r"phone\.heic: a tiled picture \(HEIC, 6 tiles\)"):
        read_clip(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_frames(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:16, :16], pixels[32:, :16] = (255, 0, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=95, subsampling=0, exif=exif)
    path = tmp_path / "camera.avi"
    with av.open(path, "w") as output:
        stream = output.add_mux_stream("mjpeg", width=64, height=48)
        for index in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            output.mux(packet)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(jpeg.getvalue())
    clip, picture = read_clip(path, strict=True), read_clip(folder)
    assert len(clip.frames) == 3
    # Two JPEG decoders round differently.
    assert np.abs(clip.frames[0].astype(int) - picture.frames[0]).max() <= 6


def test_the_default_stream_is_taken(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    path = tmp_path / "three.mkv"
    small = ["-f", "lavfi", "-i", "color=red:size=32x32:rate=25:duration=0.2"]
    large = ["-f", "lavfi", "-i", "color=blue:size=64x64:rate=25:duration=0.2"]
    streams = ["-map", "0", "-map", "1", "-map", "0", "-c:v", "ffv1"]
    flags = ["-disposition:v:0", "0", "-disposition:v:1", "0", "-disposition:v:2", "default"]
    ffmpeg(*small, *large, *streams, *flags, path)
    clip = read_clip(path)
    assert clip.shape == (5, 32, 32, 3)
    assert has_note(clip, "3 video streams; nervkit reads number 2 ")
    ffmpeg(*small, *large, *streams, "-disposition:v", "0", path)
    assert read_clip(path).shape == (5, 64, 64, 3)  # the largest
    chosen = read_clip(path, stream=1)
    assert chosen.shape == (5, 64, 64, 3)
    assert not has_note(chosen, "video streams")
    assert Edit.from_dict(chosen.edit).stream == 1
    with pytest.raises(UsageError, match=r"no such stream \(video streams: 3\)"):
        read_clip(path, stream=3)
    with pytest.raises(UsageError, match="an integer"):
        read_clip(path, stream=-1)


def test_the_stream_is_chosen_on_the_command_line(film: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.nerv"
    command = [sys.executable, "-m", "nervkit", "encode", str(film), "-o", str(output)]
    done = subprocess.run([*command, "--stream", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"nervkit: stream 1: {film} has no such stream (video streams: 1)\n"
    assert not output.exists()


def test_a_cover_is_no_video_and_is_kept(ffmpeg: FFmpeg, film: Path, tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:size=200x200", "-frames:v", "1", cover)
    path = tmp_path / "film.mp4"
    attached = ["-c", "copy", "-map", "0", "-map", "1", "-disposition:v:1", "attached_pic"]
    ffmpeg("-i", film, "-i", cover, *attached, path)
    clip = read_clip(path, strict=True)
    assert clip.shape == (50, 64, 96, 3)
    (kept,) = clip.extras.attachments
    assert (kept.name, kept.media_type) == ("cover.png", "image/png")
    assert kept.data == cover.read_bytes()
    only = tmp_path / "song.m4a"
    picture = ["-map", "0:a", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic"]
    ffmpeg(*SOUND, "-i", cover, *picture, "-c:a", "aac", only)
    with pytest.raises(SourceError, match="no video stream"):
        read_clip(only)


def test_a_timecode_is_a_tag_of_the_beginning(copied: Callable[..., Path]) -> None:
    path = copied("film.mov", "-timecode", "01:00:00:00")
    clip = read_clip(path)
    assert clip.extras.tags["timecode"] == "01:00:00:00"
    assert not has_note(clip, "nervkit drops")
    cut = read_clip(path, start=1)
    assert "timecode" not in cut.extras.tags
    assert has_note(cut, "drops the timecode")


def test_data_tracks_are_left_out_with_a_note(ffmpeg: FFmpeg, film: Path, tmp_path: Path) -> None:
    data, path = tmp_path / "data.bin", tmp_path / "film.ts"
    data.write_bytes(bytes(1000))
    ffmpeg("-i", film, "-f", "data", "-i", data, "-map", "0", "-map", "1", "-c", "copy", path)
    assert has_note(read_clip(path), "drops the data track (bin_data")


def test_tags_beyond_the_limits_are_left_out_with_a_note(copied: Callable[..., Path]) -> None:
    tags = {"comment": "c" * 5000, "n" * 80: "x", "artist": "é\nö"}
    options = [part for tag in tags.items() for part in ("-metadata", "=".join(tag))]
    clip = read_clip(copied("film.mkv", *options))
    assert clip.extras.tags == {"artist": "é\nö"}
    assert sum("is too long, or one too many" in note for note in clip.notes) == 2


def test_tags_that_are_no_unicode_do_not_end_a_run(copied: Callable[..., Path]) -> None:
    path = copied("film.avi", "-metadata", "title=XXXX")
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"caf\xe9"))
    assert read_clip(path).extras.tags["title"] == "caf\N{REPLACEMENT CHARACTER}"


def test_two_tracks_of_which_one_is_unknown(copied: Callable[..., Path]) -> None:
    path = copied("film.mov", "-map", "0", "-map", "0:a", "-metadata:s:a:1", "title=Spatial")
    data = path.read_bytes()
    last = data.rindex(b"trak")
    path.write_bytes(data[:last] + data[last:].replace(b"mp4a", b"apac").replace(b"esds", b"none"))
    clip = read_clip(path, strict=True)
    assert [track.codec for track in clip.tracks] == ["aac"]
    assert has_note(clip, "(apac)): there is no decoder for it")


@pytest.mark.parametrize(
    "codec, suffix",
    [
        ("pcm_mulaw", "mkv"),
        ("pcm_alaw", "mov"),
        ("adpcm_ima_wav", "avi"),
        ("mp2", "mpg"),
        ("wmav2", "asf"),
        ("g726", "mkv"),
        ("ac3", "ts"),
        ("libopus", "webm"),
        ("flac", "mkv"),
    ],
)
def test_sound_of_every_kind_is_kept(
    ffmpeg: FFmpeg, tmp_path: Path, codec: str, suffix: str
) -> None:
    path = tmp_path / f"film.{suffix}"
    rate = ["-ar", "8000", "-ac", "1"] if codec[:3] in ("pcm", "g72") else ["-ar", "48000"]
    video = {"webm": "libvpx", "asf": "wmv2", "mpg": "mpeg2video"}.get(suffix, "mpeg4")
    ffmpeg(*PICTURE, *SOUND, "-c:v", video, "-c:a", codec, *rate, path)
    with av.open(str(path)) as container:
        contents = [bytes(p) for p in container.demux(audio=0) if p.size]
    (track,) = read_clip(path, strict=True).tracks
    assert len(track.times) == len(contents)
    with av.open(io.BytesIO(track.data), format=track.carrier) as carrier:
        assert [bytes(p) for p in carrier.demux(audio=0) if p.size] == contents


@pytest.mark.parametrize("offset", ["0", "72000", "95441"])
def test_a_transport_stream_starts_at_0(copied: Callable[..., Path], offset: str) -> None:
    """At 20 hours, and where its 33-bit clock wraps."""
    clip = read_clip(copied("late.ts", "-output_ts_offset", offset), strict=True)
    assert clip.timing.constant
    (track,) = clip.tracks
    starts = [clip.timing.seconds[0], track.times[0, 0] * track.time_base]
    assert min(starts) == 0
    # The sound begins with 1,024 samples that nobody is to hear; TS cannot say that.
    assert max(starts) == pytest.approx(1024 / 44100, abs=1e-4)
    assert clip.source["start"] != 0


def test_offsets_between_tracks_are_kept(ffmpeg: FFmpeg, film: Path, tmp_path: Path) -> None:
    path = tmp_path / "offset.mkv"
    both = ["-itsoffset", "0.5", "-i", film, "-i", film, "-c", "copy"]
    ffmpeg(*both, "-map", "0:v", "-map", "1:a", path)
    clip = read_clip(path)
    assert clip.timing.seconds == (Fraction(1, 2), Fraction(5, 2))
    assert read_clip(path, start="0.6", frames=":1").skipped == 3
    ffmpeg(*both, "-map", "1:v", "-map", "0:a", path)
    clip = read_clip(path)
    assert clip.timing.seconds[0] == 0
    assert float(clip.tracks[0].times[0, 0] * clip.tracks[0].time_base) == pytest.approx(0.477)
    ffmpeg("-i", film, "-c", "copy", "-output_ts_offset", "7", path)
    clip = read_clip(path)
    assert clip.timing.seconds == (0, 2)
    assert clip.source["start"] == 7


def rewritten(source: Path, target: Path, pts: Callable[[int], int]) -> Path:
    """The film's video without B-frames, with altered times in 1/1000 s, in Matroska or NUT."""
    with av.open(str(source)) as read, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for index, packet in enumerate(p for p in read.demux(video=0) if p.size):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = pts(index)
            packet.duration = 40
            output.mux(packet)
    return target


def test_a_clock_that_always_jumps_goes_on() -> None:
    line = TimeLine()
    packet = av.Packet(b"x")
    packet.time_base, packet.duration = Fraction(1, 90_000), 3600
    for index in range(2_000):
        packet.dts = packet.pts = (index * 7919 % 2_003) * 9_000_000
        line.place_video(packet)
        assert packet.dts == 3600 * index
    assert len(line.jumps) > 1_000


@pytest.fixture(scope="module")
def plain(ffmpeg: FFmpeg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mkv"
    ffmpeg(*PICTURE, "-c:v", "libx264", "-bf", "0", "-pix_fmt", "yuv420p", path)
    return path


def patched_times(path: Path, changes: dict[int, int]) -> None:
    """Overwrite the relative times of SimpleBlocks of track 1, by index, in a small Matroska."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [p.pos for p in container.demux(video=0) if p.size]
    for index, time in changes.items():
        at = data.index(b"\x81" + (40 * index).to_bytes(2), places[index]) + 1
        data[at : at + 2] = time.to_bytes(2)
    path.write_bytes(data)


@pytest.mark.parametrize("wild", [30_000, 0])
def test_one_wild_timestamp_does_not_ruin_the_rest(plain: Path, tmp_path: Path, wild: int) -> None:
    path = tmp_path / "wild.mkv"
    path.write_bytes(plain.read_bytes())
    patched_times(path, {20: wild})
    clip = read_clip(path)
    assert clip.pts.tolist() == list(range(0, 2000, 40))
    assert has_note(clip, "replaced 1 missing, repeated or implausible frame timestamps")
    assert read_clip(path, start=1).skipped == 25


def test_a_real_gap_stays(plain: Path, tmp_path: Path) -> None:
    times = [*range(0, 1000, 40), *range(100_000, 101_000, 40)]
    clip = read_clip(rewritten(plain, tmp_path / "gap.mkv", times.__getitem__), strict=True)
    assert clip.pts.tolist() == times
    assert not has_note(clip, "timestamps")


def test_recordings_glued_to_an_earlier_and_a_later_time(
    ffmpeg: FFmpeg, film: Path, tmp_path: Path
) -> None:
    path = tmp_path / "glued.ts"
    parts = []
    for offset in ("5000", "100", "9000"):
        ffmpeg("-i", film, "-c", "copy", "-output_ts_offset", offset, path)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    clip = read_clip(path)
    assert len(clip.frames) == 150
    assert 6 <= clip.timing.seconds[1] < 6.2
    (track,) = clip.tracks
    end = float(track.times[-1, 0] * track.time_base)
    assert 5.9 < end < 6.2
    steps = np.diff(track.times[:, 0]) * float(track.time_base)
    assert steps.min() >= 0 and steps.max() < 0.15
    assert has_note(clip, "discontinuities of the timestamps (")


def clocked(ticks: int) -> bytes:
    """A PES timestamp's 33 bits between its marker bits (ISO 13818-1, 2.4.3.6), prefix aside."""
    parts = (ticks >> 29 & 0xE | 1, (ticks >> 15 & 0x7FFF) << 1 | 1, (ticks & 0x7FFF) << 1 | 1)
    return bytes([parts[0]]) + parts[1].to_bytes(2) + parts[2].to_bytes(2)


def moved(data: bytes, stream: int, number: int, seconds: float) -> bytes:
    """A transport stream with altered timestamps of one PES packet."""
    changed, mark = bytearray(data), b"\0\0\1" + bytes([stream])
    starts = [
        at + place
        for at in range(0, len(data), 188)
        if data[at + 1] & 0x40 and (place := data[at : at + 188].find(mark)) > 0
    ]
    start = starts[number]
    for at in (start + 9, start + 14)[: 1 + (data[start + 7] >> 6 & 1)]:
        old = data[at : at + 5]
        ticks = (old[0] >> 1 & 7) << 30 | int.from_bytes(old[1:3]) >> 1 << 15
        ticks |= int.from_bytes(old[3:]) >> 1
        new = clocked(ticks + round(90_000 * seconds))
        changed[at : at + 5] = bytes([old[0] & 0xF0 | new[0]]) + new[1:]
    return bytes(changed)


@pytest.mark.parametrize("stream, kind", [(0xE0, "frames"), (0xC0, "audio")])
@pytest.mark.parametrize("seconds", [3600, 20, 4, -0.5])
def test_one_wild_packet_in_a_transport_stream(
    ffmpeg: FFmpeg, plain: Path, tmp_path: Path, stream: int, kind: str, seconds: float
) -> None:
    path = tmp_path / "wild.ts"
    ffmpeg("-i", plain, *SOUND, "-c:v", "copy", "-c:a", "mp2", path)
    whole = read_clip(path, strict=True)
    path.write_bytes(moved(path.read_bytes(), stream, 8, seconds))
    clip = read_clip(path, strict=True)
    assert len(clip.frames) == 50
    assert np.abs(clip.pts - whole.pts).max() <= 1
    times, wanted = clip.tracks[0].times, whole.tracks[0].times
    assert len(times) == len(wanted)
    assert np.abs(times[:, 0] - wanted[:, 0]).max() <= 90  # a millisecond
    note = "discontinuities" if kind == "frames" and seconds > 10 else "implausible"
    assert has_note(clip, note)


def test_sound_alone_that_jumps_goes_on(ffmpeg: FFmpeg, film: Path, tmp_path: Path) -> None:
    """The video's clock is continuous; the audio's is an hour late from its middle on."""
    path = tmp_path / "sound.ts"
    with av.open(str(film)) as read, av.open(str(path), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in read.streams}
        for packet in read.demux():
            if not packet.size or packet.pts is None:
                continue
            if packet.stream.type == "audio" and packet.pts > 44100:
                packet.pts, packet.dts = packet.pts + 44100 * 3600, packet.dts + 44100 * 3600
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    clip = read_clip(path)
    (track,) = clip.tracks
    assert len(clip.frames) == 50
    assert float(track.times[-1, 0] * track.time_base) == pytest.approx(2, abs=0.1)
    assert has_note(clip, "missing or implausible timestamps of audio packets")


@pytest.mark.parametrize(
    "times, durations, wanted, changed",
    [
        ([0, 40, 80], [40] * 3, [0, 40, 80], 0),
        ([0, 40, None, 120], [40] * 4, [0, 40, 80, 120], 1),
        ([0, 40, 40, 120], [40] * 4, [0, 40, 80, 120], 1),
        ([0, 9000, 80, 120], [40] * 4, [0, 40, 80, 120], 1),
        ([0, 40, 80, 9000, 9040, 200, 240, 280], [40] * 8, list(range(0, 320, 40)), 2),
        ([9000, 40, 80], [40] * 3, [0, 40, 80], 1),
        ([0, 40, 80, 0, 40], [40] * 5, [0, 40, 80, 120, 160], 2),
        ([None, None], [None, 40], [0, 1], 2),
        ([0, 40, 20, 80], [None] * 4, [0, 20, 21, 80], 1),
        ([0, 0, 0, 10], [40] * 4, [0, 3, 6, 10], 2),
        ([], [], [], 0),
    ],
)
def test_repaired_times(
    times: list[int | None], durations: list[int | None], wanted: list[int], changed: int
) -> None:
    result, count = repair_times(times, durations)
    assert count == changed
    assert sorted(set(result)) == result
    if len(times) != 4 or durations[0] is not None:
        assert result == wanted


def test_equal_times_may_be_kept() -> None:
    assert repair_times([0, 20, 20, 10, 40], [20] * 5, strictly=False) == ([0, 20, 20, 30, 40], 1)


@pytest.mark.parametrize(
    "item, wanted",
    [
        ((0, 10), None),
        ((0, 11), (10, 1)),
        ((5, 100), (10, 10)),
        ((12, 3), (12, 3)),
        ((19, 5), (19, 1)),
        ((20, 5), None),
        ((10, 0), (10, 0)),
        ((9, 0), None),
        ((20, 0), None),
    ],
)
def test_what_lies_within_a_window(item: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    assert within(*item, 10, 20) == wanted
