"""nervkit bench: anchors, processes, references, and whole sweeps of a small clip."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.bench.anchors import ANCHORS, FFmpeg, Frames, decode_arguments, decoded_planes
from nervkit.bench.codecs import PARAMS, TARGET_BPP, NeuralCodec, NeuralOptions
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.process import Finished, Runner
from nervkit.bench.reference import CONVERTED, OWN, OWN_RESIZED, prepare
from nervkit.bench.sweep import ClipBench, SweepLog, SweepOptions, sweep
from nervkit.errors import (
    Interrupted,
    MissingDependencyError,
    NervError,
    OutputError,
    SourceError,
    UsageError,
)
from nervkit.metrics import psnr
from nervkit.models.config import VideoShape
from nervkit.video.planes import Planes
from tests.command import run_nervkit

SMALL = {"crop": "1280x640", "resize": "96x48", "frames": "0:8"}


@pytest.fixture(scope="module")
def binary() -> FFmpeg:
    return FFmpeg()


def encode_anchor(
    name: str, value: int, frames: Frames, stream: Path, binary: FFmpeg
) -> list[Planes]:
    """Encode with the strong profile and decode again."""
    anchor, runner = ANCHORS[name], Runner()
    arguments = anchor.encode_arguments("strong", value, None, frames, str(stream))
    runner.run(binary.command(*arguments))
    back: list[Planes] = []
    runner.run(
        binary.command(*decode_arguments(anchor, str(stream), "pipe:1", "rawvideo")),
        read=lambda pipe: back.extend(decoded_planes(anchor, pipe, frames)),
    )
    return back


class TestPlanes:
    def test_a_sources_own_planes_give_exactly_its_rgb(self, bunny: Path, tmp_path: Path) -> None:
        reference = prepare(ClipSpec("b", bunny, None, {"frames": "3:7"}), tmp_path, 1)
        assert reference.record["anchor_input"] == OWN
        assert reference.record["ceiling_psnr"] == 100
        assert len(list(reference.planes.read())) == 4

    def test_they_follow_crop_and_window(self, bunny: Path, tmp_path: Path, ffmpeg) -> None:
        options = {"frames": "2:4", "crop": "320x160+100+60"}
        reference = prepare(ClipSpec("b", bunny, None, options), tmp_path, 1)
        wanted = ffmpeg(
            *("-i", bunny, "-vf", "select=between(n\\,2\\,3),crop=320:160:100:60"),
            *("-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"),
        )
        assert reference.planes.path.read_bytes() == wanted

    def test_resized_as_planes_they_come_closer_than_converted_rgb(
        self, bunny: Path, tmp_path: Path
    ) -> None:
        spec = ClipSpec("b", bunny, None, {**SMALL, "resize": "320x160"})
        reference = prepare(spec, tmp_path, 1)
        assert reference.record["anchor_input"] == OWN_RESIZED
        clip = reference.clip
        converted = np.mean(
            [
                psnr(f, Planes.from_rgb(f, clip.colour).rgb(clip.colour, 320, 160))
                for f in clip.frames
            ]
        )
        assert reference.record["ceiling_psnr"] > converted

    @pytest.mark.parametrize("crop", ["64x32+1+0", "64x32+0+3"])
    def test_a_crop_between_chroma_samples_converts_the_rgb(
        self, bunny: Path, tmp_path: Path, crop: str
    ) -> None:
        spec = ClipSpec("b", bunny, None, {"crop": crop, "frames": "0:2"})
        assert prepare(spec, tmp_path, 1).record["anchor_input"] == CONVERTED

    def test_rgb_sources_and_odd_sizes(self, tmp_path: Path) -> None:
        frames = np.random.default_rng(0).integers(0, 256, (3, 33, 45, 3), np.uint8)
        frames = frames // 8 + 100
        np.save(tmp_path / "odd.npy", frames)
        reference = prepare(ClipSpec("odd", tmp_path / "odd.npy"), tmp_path, 2)
        assert reference.record["anchor_input"] == CONVERTED
        assert (reference.planes.width, reference.planes.height) == (46, 34)
        first = next(reference.planes.read())
        assert first.y.shape == (34, 46)
        assert first.u.shape == (17, 23)
        assert np.array_equal(first.y[-1], first.y[-2])
        assert first.rgb(reference.clip.colour, 45, 33).shape == (33, 45, 3)
        assert 30 < reference.record["ceiling_psnr"] < 60

    def test_rotated_planes_stand_upright(self, clips: Path, tmp_path: Path) -> None:
        spec = ClipSpec("r", clips / "robust" / "decord_video_90.mov")
        reference = prepare(spec, tmp_path, 1)
        assert reference.record["anchor_input"] == OWN
        assert reference.record["ceiling_psnr"] > 40


class TestAnchors:
    @pytest.mark.parametrize("name", sorted(ANCHORS))
    def test_every_anchor_gives_back_all_frames_and_gets_worse_along_its_rungs(
        self, name: str, bunny: Path, tmp_path: Path, binary: FFmpeg
    ) -> None:
        reference = prepare(ClipSpec("b", bunny, None, {**SMALL, "resize": "160x80"}), tmp_path, 1)
        qualities, sizes = [], []
        for value in (ANCHORS[name].ladder[0], ANCHORS[name].ladder[-1]):
            stream = tmp_path / f"s{ANCHORS[name].suffix}"
            back = encode_anchor(name, value, reference.planes, stream, binary)
            pairs = zip(reference.planes.read(), back, strict=True)
            qualities.append(np.mean([psnr(a.y, b.y) for a, b in pairs]))
            sizes.append(stream.stat().st_size)
        assert qualities[0] > 38
        assert qualities[0] > qualities[1] + 3
        assert sizes[0] > 2 * sizes[1]

    def test_x264_lands_on_values_measured_elsewhere(
        self, bunny: Path, tmp_path: Path, binary: FFmpeg
    ) -> None:
        """0.0092 bpp, 29.99 dB: veryslow, CRF 40, RGB of the 1280x640 crop at 24 fps."""
        clip = nervkit.read_clip(bunny, crop="1280x640")
        frames = Frames(tmp_path / "f.yuv", 1280, 640, Fraction(24), 132)
        with frames.path.open("wb") as file:
            for frame in clip.frames:
                file.write(Planes.from_rgb(frame, clip.colour).samples())
        anchor = replace(ANCHORS["x264"], profiles={"strong": ("-preset", "veryslow")}, after=())
        stream, runner, back = tmp_path / "s.h264", Runner(), []
        runner.run(
            binary.command(*anchor.encode_arguments("strong", 40, None, frames, str(stream)))
        )
        runner.run(
            binary.command(*decode_arguments(anchor, str(stream), "pipe:1", "rawvideo")),
            read=lambda pipe: back.extend(decoded_planes(anchor, pipe, frames)),
        )
        pairs = zip(clip.frames, back, strict=True)
        quality = np.mean([psnr(f, p.rgb(clip.colour, 1280, 640)) for f, p in pairs])
        assert 8 * stream.stat().st_size / (132 * 1280 * 640) == pytest.approx(0.0092, abs=1e-4)
        assert quality == pytest.approx(29.99, abs=0.03)

    @pytest.mark.parametrize("name", sorted(ANCHORS))
    def test_rungs_hold_the_ladder_and_reach_the_limits(self, name: str) -> None:
        anchor = ANCHORS[name]
        rungs = anchor.rungs()
        assert set(anchor.ladder) <= set(rungs)
        assert rungs == sorted(set(rungs))
        assert rungs[-1] == anchor.limits[1]
        assert rungs[0] >= anchor.limits[0]

    @pytest.mark.parametrize("name", ["x264", "x265", "svt-av1", "vvenc"])
    def test_keyframes_come_at_the_interval(
        self, name: str, bunny: Path, tmp_path: Path, binary: FFmpeg, ffmpeg
    ) -> None:
        spec = ClipSpec("b", bunny, None, {"resize": "96x54", "frames": "0:66"})
        frames = prepare(spec, tmp_path, 1).planes
        counts = []
        for interval in (32, None):
            stream = tmp_path / f"s{ANCHORS[name].suffix}"
            arguments = ANCHORS[name].encode_arguments("strong", 40, interval, frames, str(stream))
            Runner().run(binary.command(*arguments))
            if name == "vvenc":  # ffmpeg's decoder cannot skip; IDR and CRA are types 7 to 9
                types = re.findall(rb"\x00\x00\x01.(.)", stream.read_bytes(), re.DOTALL)
                counts.append(sum(7 <= kind[0] >> 3 <= 9 for kind in types))
                continue
            keys = ffmpeg(
                *("-f", ANCHORS[name].format, "-skip_frame", "nokey", "-i", stream),
                *("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"),
            )
            counts.append(len(keys) // (frames.width * frames.height))
        assert counts[0] >= 2
        assert counts[1] < counts[0], counts

    def test_the_papers_profile_has_no_b_frames(
        self, bunny: Path, tmp_path: Path, binary: FFmpeg, ffmpeg
    ) -> None:
        frames = prepare(ClipSpec("b", bunny, None, SMALL), tmp_path, 1).planes
        stream = tmp_path / "s.h264"
        arguments = ANCHORS["x264"].encode_arguments("paper", 30, None, frames, str(stream))
        Runner().run(binary.command(*arguments))
        probe = ["-f", "h264", "-i", str(stream), "-vf", "showinfo", "-f", "null", "-"]
        shown = subprocess.run([binary.path, *probe], capture_output=True, text=True, check=True)
        assert shown.stderr.count("type:P") == 7
        assert "type:B" not in shown.stderr

    def test_missing_frames_are_noticed(self, tmp_path: Path) -> None:
        frames = Frames(tmp_path / "x", 4, 2, Fraction(25), 3)
        with pytest.raises(NervError, match="decoded 2 of 3 frames"):
            list(decoded_planes(ANCHORS["x264"], io.BytesIO(bytes(24)), frames))

    def test_ten_bits_are_rounded_to_eight(self, tmp_path: Path) -> None:
        frames = Frames(tmp_path / "x", 2, 2, Fraction(25), 1)
        samples = np.array([0, 1, 2, 1023, 400, 401], "<u2")
        (planes,) = decoded_planes(ANCHORS["vvenc"], io.BytesIO(samples.tobytes()), frames)
        assert planes.samples().tolist() == [0, 0, 1, 255, 100, 100]

    def test_a_binary_without_the_encoder(self, tmp_path: Path) -> None:
        fake = tmp_path / "ffmpeg"
        fake.write_text("#!/bin/sh\necho 'ffmpeg version 1.0 test libvmaf filter'\n")
        fake.chmod(0o755)
        with pytest.raises(MissingDependencyError, match=r"no libvvenc.*--ffmpeg"):
            FFmpeg(str(fake)).require(ANCHORS["vvenc"])

    def test_a_binary_without_vmaf_is_refused_at_once(self, tmp_path: Path) -> None:
        fake = tmp_path / "ffmpeg"
        fake.write_text("#!/bin/sh\necho 'ffmpeg version 1.0 test'\n")
        fake.chmod(0o755)
        with pytest.raises(MissingDependencyError, match=r"no libvmaf.*--ffmpeg"):
            FFmpeg(str(fake))

    def test_no_stream_holds_what_is_no_picture(
        self, bunny: Path, tmp_path: Path, binary: FFmpeg
    ) -> None:
        """Such as user data of x264 and x265 or VVenC's access unit delimiters."""
        frames = prepare(ClipSpec("b", bunny, None, SMALL | {"resize": "160x80"}), tmp_path, 1)
        for name, unit in (("x264", 6), ("x265", 39), ("vvenc", 20)):
            stream = tmp_path / f"s{ANCHORS[name].suffix}"
            encode_anchor(name, 40, frames.planes, stream, binary)
            heads = re.findall(rb"\x00\x00\x01(.)(.)", stream.read_bytes(), re.DOTALL)
            kinds = {
                "x264": [a[0] & 31 for a, _ in heads],
                "x265": [a[0] >> 1 & 63 for a, _ in heads],
                "vvenc": [b[0] >> 3 for _, b in heads],
            }[name]
            assert len(kinds) >= 8
            assert unit not in kinds

    @pytest.mark.parametrize("path", ["/no/such/ffmpeg", "/bin/false", "/bin/echo"])
    def test_no_ffmpeg(self, path: str) -> None:
        with pytest.raises(UsageError, match=path):
            FFmpeg(path)


class TestRunner:
    def test_output_time_and_memory(self) -> None:
        code = "import time; b = bytearray(80_000_000); time.sleep(0.3); print('done')"
        finished = Runner().run([sys.executable, "-c", code])
        assert finished.output == b"done\n"
        assert finished.seconds >= 0.3
        assert 80e6 < finished.peak_memory < 160e6

    def test_memory_is_the_childs_own(self) -> None:
        held = np.ones(40_000_000)
        finished = Runner().run([sys.executable, "-c", "import time; time.sleep(0.2)"])
        assert finished.peak_memory < held.nbytes / 4

    def test_failure_says_the_last_line(self) -> None:
        code = "import sys; print('first\\nthe reason', file=sys.stderr); sys.exit(3)"
        with pytest.raises(NervError, match="the reason"):
            Runner().run([sys.executable, "-c", code])

    def test_a_failure_of_nervkit_is_said_once(self, capfd: pytest.CaptureFixture[str]) -> None:
        code = (
            "import sys; print('note: a', file=sys.stderr); "
            "sys.exit('nervkit: c.mp4: no such file')"
        )
        with pytest.raises(NervError) as caught:
            Runner().run([sys.executable, "-c", code], show=True)
        assert str(caught.value) == "c.mp4: no such file"
        assert capfd.readouterr().err == "note: a\n"

    def test_no_such_program(self) -> None:
        with pytest.raises(SourceError, match="nothing-like-it"):
            Runner().run(["nothing-like-it"])

    def test_a_stopped_runner_starts_nothing(self) -> None:
        runner = Runner()
        runner.stop()
        with pytest.raises(Interrupted):
            runner.run([sys.executable, "-c", "pass"])


@contextmanager
def forked_commands() -> Iterator[None]:
    """Run the nervkit commands of a sweep in forks of the preloaded server, which takes a fifth of
    the time of new processes. TestCommand runs them in new processes."""
    real = Runner.run

    def run(runner: Runner, command: list[str], **options: Any) -> Finished:
        if command[:3] != [sys.executable, "-m", "nervkit"]:
            return real(runner, command, **options)
        began = time.perf_counter()
        done = run_nervkit(*command[3:], code=0)
        return Finished(done.stdout.encode(), time.perf_counter() - began, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run", run)
        yield


@pytest.fixture(scope="module")
def swept(bunny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run of a small clip, and its messages."""
    folder, messages = tmp_path_factory.mktemp("run"), []
    with forked_commands():
        sweep([ClipSpec("b", bunny, None, SMALL)], folder, OPTIONS, messages.append)
    return folder, messages


OPTIONS = SweepOptions(
    codecs=["hnerv", "x264", "svt-av1"],
    sizes=["6k", "12k"],
    rates={"x264": [30, 45]},
    fit=NeuralOptions("cpu", 0, {"steps": 20}, rate=PARAMS),
    viewer_frames=2,
)


BAD_PRESET = NeuralOptions(options={"preset": "rapid"}, rate=PARAMS)
BAD_BITS = NeuralOptions(options={"bits": 40}, rate=PARAMS)


class TestSweep:
    @pytest.fixture(autouse=True)
    def forks(self) -> Iterator[None]:
        with forked_commands():
            yield

    def test_a_record_says_what_its_file_is(self, swept: tuple[Path, list[str]]) -> None:
        folder, _ = swept
        names = {path.stem for path in (folder / "b").glob("*.json")}
        assert {"source", "hnerv-6k", "hnerv-12k", "x264-crf30", "x264-crf45"} <= names
        assert any(name.startswith("svt-av1-") for name in names)
        assert not (folder / "b" / "frames.yuv").exists()
        for path in (folder / "b").glob("*.json"):
            if path.stem == "source":
                continue
            record = json.loads(path.read_text())
            (stream,) = (
                p
                for p in path.parent.glob(f"{path.stem}.*")
                if p.suffix in (".nerv", ".h264", ".obu")
            )
            assert record["bytes"] <= stream.stat().st_size
            assert record["bpp"] == pytest.approx(8 * record["bytes"] / (8 * 96 * 48))
            assert record["kbps"] == pytest.approx(8 * record["bytes"] / (8 / 25) / 1000)
            assert sum(record["bytes_by_part"].values()) == record["bytes"]
            assert record["measures"]["ms_ssim"] is None
            for name, values in record["per_frame"].items():
                assert len(values) == 8
                if record["measures"][name] is not None:
                    assert record["measures"][name] == pytest.approx(np.mean(values))
            shots = sorted(p.name for p in (path.parent / path.stem).glob("*.png"))
            assert shots == ["00002.png", "00005.png"]

    def test_the_neural_record_agrees_with_verify(
        self, swept: tuple[Path, list[str]], bunny: Path
    ) -> None:
        folder, _ = swept
        record = json.loads((folder / "b" / "hnerv-12k.json").read_text())
        checked = nervkit.verify(folder / "b" / "hnerv-12k.nerv", bunny)
        assert record["measures"]["psnr_rgb"] == pytest.approx(checked.psnr)
        assert record["measures"]["ssim"] == pytest.approx(checked.ssim)
        assert record["per_frame"]["psnr_rgb"] == pytest.approx(checked.frame_psnr)
        assert record["bpp"] == pytest.approx(checked.bpp)
        assert record["parameters"] == checked.parameters
        assert record["macs_per_pixel"] > 0
        assert record["seed"] == 0

    def test_audio_is_not_counted(self, bunny: Path, tmp_path: Path) -> None:
        options = replace(OPTIONS, codecs=["nerv"], sizes=["12k"], rates={})
        spec = ClipSpec("b", bunny, None, {"resize": "96x54", "frames": "0:8"})
        sweep([spec], tmp_path, options)
        record = json.loads((tmp_path / "b" / "nerv-12k.json").read_text())
        parts = nervkit.info(tmp_path / "b" / "nerv-12k.nerv")["bytes_by_part"]
        assert parts["tracks"] > 0
        assert record["bytes"] == sum(parts.values()) - parts["tracks"] - parts["extras"]

    def test_what_is_done_is_kept_and_what_changed_is_redone(
        self, swept: tuple[Path, list[str]], bunny: Path
    ) -> None:
        folder, first = swept
        spec, again = ClipSpec("b", bunny, None, SMALL), []
        before = {p: p.stat().st_mtime_ns for p in (folder / "b").glob("hnerv-*.json")}
        sweep([spec], folder, OPTIONS, again.append)
        points = [line for line in again if " bpp " in line]
        assert len(points) == sum(" bpp " in line for line in first)
        assert all(line.endswith("(kept)") for line in points)
        assert before == {p: p.stat().st_mtime_ns for p in (folder / "b").glob("hnerv-*.json")}
        (folder / "b" / "x264-crf45.h264").write_bytes(b"xx")
        messages: list[str] = []
        sweep([spec], folder, replace(OPTIONS, codecs=["x264"]), messages.append)
        assert [line.endswith("(kept)") for line in messages if " bpp " in line] == [True, False]
        changed = replace(OPTIONS, codecs=["x264"], interval=4)
        messages: list[str] = []
        sweep([spec], folder, changed, messages.append)
        assert not any(line.endswith("(kept)") for line in messages)
        sweep([spec], folder, replace(OPTIONS, codecs=["x264"]))

    def test_other_viewer_frames_are_decoded_but_not_fitted_again(
        self, swept: tuple[Path, list[str]], bunny: Path, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(swept[0], tmp_path / "run")
        before = json.loads((folder / "b" / "hnerv-6k.json").read_text())
        stream = folder / "b" / "hnerv-6k.nerv"
        made = stream.stat().st_mtime_ns
        options = replace(OPTIONS, codecs=["hnerv"], sizes=["6k"], viewer_frames=1, rates={})
        sweep([ClipSpec("b", bunny, None, SMALL)], folder, options)
        after = json.loads((folder / "b" / "hnerv-6k.json").read_text())
        assert stream.stat().st_mtime_ns == made
        assert after["encode_seconds"] == before["encode_seconds"]
        assert after["measures"] == before["measures"]
        assert len(list((folder / "b" / "hnerv-6k").glob("*.png"))) == 1

    def test_what_fails_after_the_fit_does_not_lose_it(
        self, bunny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nervkit.bench import points

        def fail(*_: object) -> None:
            raise NervError("no measure today")

        spec = ClipSpec("b", bunny, None, SMALL)
        options = replace(OPTIONS, codecs=["hnerv"], sizes=["6k"], rates={})
        with monkeypatch.context() as patch:
            patch.setattr(points, "measure", fail)
            messages: list[str] = []
            with pytest.raises(NervError, match="none of the requested points could be measured"):
                sweep([spec], tmp_path, options, messages.append)
        assert messages[-1] == "note: b: hnerv 6k failed: no measure today"
        stream = tmp_path / "b" / "hnerv-6k.nerv"
        made = stream.stat().st_mtime_ns
        assert sweep([spec], tmp_path, options) == []
        assert stream.stat().st_mtime_ns == made
        assert not list((tmp_path / "b").glob("*.state"))

    def test_a_folder_keeps_to_its_source(self, swept: tuple[Path, list[str]], bunny: Path) -> None:
        spec = ClipSpec("b", bunny, None, SMALL | {"frames": "0:4"})
        with pytest.raises(UsageError, match="holds points of other frames"):
            sweep([spec], swept[0], OPTIONS)
        assert not (swept[0] / "b" / "frames.yuv").exists()

    def test_an_unreadable_clip_is_left_out(self, bunny: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(bytes(1000))
        specs = [ClipSpec("broken", broken), ClipSpec("b", bunny, None, SMALL)]
        notes = sweep(specs, tmp_path / "run", replace(OPTIONS, codecs=["x264"]))
        assert [note.startswith("broken: left out: ") for note in notes] == [True]
        assert (tmp_path / "run" / "b" / "x264-crf30.json").exists()

    def test_default_sizes_are_possible_ones(
        self, bunny: Path, tmp_path: Path, binary: FFmpeg
    ) -> None:

        for options in (SMALL, SMALL | {"resize": "16x16", "frames": "0:1"}):
            reference = prepare(ClipSpec("b", bunny, None, options), tmp_path, 0)
            for model in ("hnerv", "nerv"):
                codec = NeuralCodec(model, "native", NeuralOptions(), Runner())
                sizes = codec.default_sizes(reference)
                assert len(sizes) == len(set(sizes)) >= 1
                shape = VideoShape(*reference.clip.shape[:3])
                for size in sizes:
                    room = float(size) * shape.pixels / 8 - 30 * shape.frames
                    codec.model_type.configure_coded(shape, round(room))

    def test_a_full_disk_is_one_error(self, bunny: Path, tmp_path: Path, monkeypatch) -> None:
        from nervkit.bench import reference

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(reference.Planes, "samples", full)
        with pytest.raises(OutputError, match="No space left"):
            sweep([ClipSpec("b", bunny, None, SMALL)], tmp_path, OPTIONS)
        assert not list(tmp_path.rglob("*.yuv"))

    def test_anchors_cover_the_neural_quality_or_say_not(
        self, bunny: Path, tmp_path: Path, binary: FFmpeg, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nervkit.bench.codecs import AnchorCodec

        spec = ClipSpec("b", bunny, None, SMALL)
        log = SweepLog()
        bench = ClipBench(spec, tmp_path, OPTIONS, binary, log)
        codec = AnchorCodec("x264", "strong", None, binary, Runner())
        asked: list[int] = []

        def linear(codec: AnchorCodec, rate: int) -> dict:
            asked.append(rate)
            return {"measures": {"psnr_rgb": 55 - 0.6 * rate}}

        monkeypatch.setattr(bench, "_measure", linear)
        for low, high in ((27.0, 31.0), (40.0, 44.0), (50.0, 53.0)):
            asked.clear()
            bench._cover(codec, low, high)
            assert 55 - 0.6 * max(asked) <= low
            assert 55 - 0.6 * min(asked) >= high
            assert len(asked) == len(set(asked)) >= 4
        assert not log.notes
        bench._cover(codec, 12.0, 30.0)
        assert len(log.notes) == 1
        assert "24.40" in log.notes[0]
        assert "12.00" in log.notes[0]

    def test_a_run_is_fitted_for_and_judged_by_one_metric(
        self, bunny: Path, tmp_path: Path
    ) -> None:
        yuv = replace(OPTIONS.fit, metric="yuv")
        options = replace(OPTIONS, codecs=["gridnerv", "x264"], sizes=["12k"], fit=yuv)
        messages: list[str] = []
        sweep([ClipSpec("b", bunny, None, SMALL)], tmp_path, options, messages.append)
        names = ("source", "gridnerv-yuv-12k", "x264-crf30")
        source, neural, anchor = (
            json.loads((tmp_path / "b" / f"{name}.json").read_text()) for name in names
        )
        assert (source["metric"], neural["metric"], anchor["metric"]) == ("yuv", "yuv", None)
        assert "--metric yuv" in neural["commands"]["encode"]
        assert "metric yuv" in neural["profile"]
        settings = nervkit.info(tmp_path / "b" / "gridnerv-yuv-12k.nerv")["settings"]
        assert "metric yuv" in settings
        points = [line for line in messages if " bpp " in line]
        for record, line in zip((neural, anchor), points[:2], strict=True):
            assert f"{record['measures']['psnr_yuv']:.2f} dB" in line

    def test_one_fit_serves_several_rates(self, bunny: Path, tmp_path: Path) -> None:
        """Rates down to a quarter of its own."""
        spec = ClipSpec("b", bunny, None, SMALL)
        by_bpp = replace(OPTIONS.fit, rate=TARGET_BPP, options={"steps": 8})
        sizes = ["0.45", "1.9", "0.9"]
        options = replace(OPTIONS, codecs=["gridnerv"], sizes=sizes, rates={}, fit=by_bpp)

        def records() -> list[dict[str, Any]]:
            folder = tmp_path / "b"
            names = (f"gridnerv-{bpp}bpp.json" for bpp in ("1.9", "0.9", "0.45"))
            return [json.loads((folder / name).read_text()) for name in names]

        sweep([spec], tmp_path, options)
        high, middle, low = records()
        assert [point["steps"] for point in (high, middle, low)] == [8, 4, 8]
        assert middle["parameters"] == high["parameters"] > low["parameters"]
        assert "--start-from gridnerv-1.9bpp.nerv" in middle["commands"]["encode"]
        assert "--start-from" not in low["commands"]["encode"]
        assert len({point["profile"] for point in (high, middle, low)}) == 1
        messages: list[str] = []
        sweep([spec], tmp_path, options, messages.append)
        assert sum("(kept)" in line for line in messages) == 3

    @pytest.mark.parametrize(
        ("model", "changes", "warm_starts"),
        [
            ("gridnerv", {}, True),
            ("gridnerv", {"separate": True}, False),
            ("gridnerv", {"rate": PARAMS}, False),
            ("hnerv", {}, False),  # its encoder is not in a file
        ],
    )
    def test_which_rates_have_one_fit(
        self, model: str, changes: dict[str, Any], warm_starts: bool
    ) -> None:
        fit = replace(OPTIONS.fit, rate=TARGET_BPP)
        assert (
            NeuralCodec(model, "native", replace(fit, **changes), Runner()).warm_starts
            == warm_starts
        )

    def test_anchors_cover_the_quality_by_the_runs_metric(
        self, bunny: Path, tmp_path: Path, binary: FFmpeg, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nervkit.bench.codecs import AnchorCodec

        options = replace(OPTIONS, fit=replace(OPTIONS.fit, metric="yuv"))
        spec = ClipSpec("b", bunny, None, SMALL)
        bench = ClipBench(spec, tmp_path, options, binary, SweepLog())
        asked: list[int] = []

        def linear(codec: AnchorCodec, rate: int) -> dict:
            asked.append(rate)
            return {"measures": {"psnr_rgb": 0.0, "psnr_yuv": 60 - 0.6 * rate}}

        monkeypatch.setattr(bench, "_measure", linear)
        bench._cover(AnchorCodec("x264", "strong", None, binary, Runner()), 32.0, 36.0)
        assert 60 - 0.6 * max(asked) <= 32
        assert 60 - 0.6 * min(asked) >= 36

    def test_a_codec_that_fails_is_a_note_and_the_rest_goes_on(
        self, bunny: Path, tmp_path: Path
    ) -> None:
        spec = ClipSpec("b", bunny, None, {"resize": "2x2", "frames": "0:3"})
        options = replace(OPTIONS, codecs=["x265", "x264"], rates={"x265": [30], "x264": [30]})
        notes = sweep([spec], tmp_path, options)
        assert any("x265 crf30 failed" in note for note in notes)
        assert (tmp_path / "b" / "x264-crf30.json").exists()

    def test_beside_the_fits(self, bunny: Path, tmp_path: Path) -> None:
        specs = [ClipSpec(name, bunny, None, SMALL) for name in ("one", "two", "three")]
        options = replace(OPTIONS, codecs=["x264"], jobs=2)
        sweep(specs, tmp_path, options)
        for spec in specs:
            record = json.loads((tmp_path / spec.name / "x264-crf30.json").read_text())
            assert record["alone"] is False
            assert not (tmp_path / spec.name / "frames.yuv").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"codecs": ["x266"]}, "unknown codec 'x266'; choose from: .*gridnerv, .*vvenc"),
            ({"codecs": ["x264", "x264"]}, "one is named twice"),
            ({"codecs": ["hnerv:paper-draft"], "rates": {}}, "unknown recipe or preset"),
            ({"codecs": ["hnerv:draft"], "rates": {}}, "sets how long to fit: leave out --steps"),
            ({"codecs": ["svt-av1:paper"]}, "unknown profile 'paper'"),
            ({"codecs": ["x264:best"]}, "unknown profile 'best'"),
            ({"rates": {"x264": [99]}}, "crf must lie in 0 to 51"),
            ({"rates": {"x265": [20]}}, "'x265' is no anchor of this run"),
            (
                {"codecs": ["hnerv:best"]},
                "'best' for hnerv; choose from: paper, native, draft, fast, medium, slow, placebo",
            ),
            ({"sizes": ["many"]}, "params must be a number"),
            ({"sizes": ["many"], "fit": NeuralOptions()}, "target_bpp must be a number"),
            ({"sizes": ["50"], "fit": NeuralOptions()}, "target_bpp must lie in"),
            ({"codecs": ["nerv"], "fit": BAD_PRESET, "rates": {}}, "unknown preset 'rapid'"),
            ({"codecs": ["nerv"], "fit": BAD_BITS, "rates": {}}, "bits must"),
        ],
    )
    def test_usage(self, bunny: Path, tmp_path: Path, change: dict, message: str) -> None:
        options = replace(OPTIONS, **{"codecs": ["x264"], **change})
        with pytest.raises(UsageError, match=message):
            sweep([ClipSpec("b", bunny)], tmp_path / "run", options)
        assert not (tmp_path / "run").exists()


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "nervkit", "bench", *map(str, arguments)]


class TestCommand:
    def test_one_line_to_a_report(self, bunny: Path, tmp_path: Path) -> None:
        edit = [part for name, value in SMALL.items() for part in (f"--{name}", value)]
        run = run_nervkit(
            *("bench", bunny, "--out", tmp_path / "run", "--codecs", "nerv,x264", "--steps", "20"),
            *("--params", "8k,16k", "--rate", "x264=30,40", "--device", "cpu", "--json"),
            *edit,
            code=0,
        )
        values = json.loads(run.stdout)
        assert {point["point"] for point in values["points"]} == {"8k", "16k", "crf30", "crf40"}
        page = (tmp_path / "run" / "report.html").read_text()
        assert page.lower().startswith("<!doctype html>")
        assert "PSNR RGB" in run.stderr
        plot = tmp_path / "plot.svg"
        report = ("bench", "report", tmp_path / "run", "-o", tmp_path / "r.html")
        run_nervkit(*report, "--plot", plot, code=0)
        assert plot.read_text().startswith("<?xml")
        assert "use -y" in run_nervkit(*report, code=1).stderr

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["x.mp4", "-o", "run", "--root", "."], 2, "--root is for --dataset"),
            (["x.mp4"], 2, "Missing option"),
            (["-o", "run"], 2, "give clips, or --dataset"),
            (["x.mp4", "-o", "run", "--dataset", "uvg"], 2, "give clips, or --dataset"),
            (["-o", "run", "--dataset", "uvg"], 2, "--root"),
            (["-", "-o", "run"], 2, "standard input"),
            (["x.mp4", "-o", "run", "--rate", "x264"], 2, "rate must be CODEC=N"),
            (["no.mp4", "-o", "run"], 1, "no.mp4: no such file"),
            (["no.mp4", "-o", "run", "--codecs", "x266"], 2, "unknown codec 'x266'"),
            (["no.mp4", "-o", "run", "--device", "tpu"], 2, "unknown device 'tpu'"),
            (["x.mp4", "-o", "run", "--metric", "vmaf"], 2, "choose from: rgb, yuv"),
            (["report", "nowhere"], 1, "nowhere: no such folder"),
            (["x.mp4", "-o", "run", "--ffmpeg", "/bin/false"], 2, "/bin/false"),
        ],
    )
    def test_bad_input(self, arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
        (tmp_path / "x.mp4").touch()
        run = run_nervkit("bench", *arguments, cwd=tmp_path, code=code)
        assert message in run.stderr
        assert len(run.stderr.strip().splitlines()) == 1

    def test_nothing_measured_is_a_failure_that_is_said_once(
        self, swept: tuple[Path, list[str]], bunny: Path
    ) -> None:
        """Regardless of other content of the folder."""
        edit = [part for name, value in SMALL.items() for part in (f"--{name}", value)]
        arguments = [bunny, "--out", swept[0], "--codecs", "gridnerv", *edit]
        arguments += ["--target-bpp", "0.0001", "--steps", "4", "--device", "cpu"]
        run = run_nervkit("bench", *arguments, code=1)
        assert run.stderr.count("is too small") == 1
        assert "python" not in run.stderr
        last = run.stderr.splitlines()[-1]
        assert last.endswith("none of the requested points could be measured")
        assert last.startswith("nervkit: ")

    def test_a_signal_ends_the_fit_with_a_checkpoint(self, bunny: Path, tmp_path: Path) -> None:
        arguments = command(
            *(bunny, "-o", tmp_path / "run", "--codecs", "hnerv", "--params", "12k"),
            *("--device", "cpu", "--frames", "0:8", "--resize", "96x54", "--steps"),
        )
        process = subprocess.Popen([*arguments, "100000"], stderr=subprocess.PIPE, text=True)
        checkpoint = tmp_path / "run" / "bunny" / "hnerv-12k.nerv.checkpoint"
        deadline = time.monotonic() + 600
        assert process.stderr is not None
        for line in process.stderr:
            if "fit step" in line or time.monotonic() > deadline:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait() == 130
        assert "run the same command again to go on" in rest
        assert checkpoint.is_file()
        assert not list((tmp_path / "run").rglob("*.nerv"))
        assert not list((tmp_path / "run").rglob("*.yuv"))
