"""Videos of several segments: division, fits by any executor, resuming, and writing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.container.file import NervFile
from nervkit.container.limits import UNLIMITED
from nervkit.encoding import executors
from nervkit.encoding.allocation import MIN_SEGMENT_BYTES, Complexity, allocate
from nervkit.encoding.executors import InProcess, Processes
from nervkit.encoding.run import SegmentsProgress
from nervkit.encoding.segment import FrameRange, SegmentJob, fit_segment
from nervkit.errors import (
    Interrupted,
    MissingDependencyError,
    OutputError,
    SourceError,
    UsageError,
)
from nervkit.fitting.job import CheckpointOptions
from nervkit.fitting.options import FitOptions
from nervkit.models.config import VideoShape
from nervkit.video.colour import Colour
from nervkit.video.probe import content_bytes
from nervkit.video.ranges import Locator, frames_hash
from nervkit.video.reader import Reading

pytestmark = pytest.mark.usefixtures("one_thread")

PATIENCE = 600  # seconds after which a process counts as hung; loading torch may take a minute


def scenes(*lengths: int, height: int = 32, width: int = 48) -> np.ndarray:
    """(sum of lengths, height, width, 3) uint8: different moving waves in each scene, every other
    scene darker."""
    parts = []
    for k, length in enumerate(lengths):
        t, y, x, c = np.ogrid[:length, :height, :width, :3]
        wave = np.sin((x + 2 * t + 13 * k) / (4 + k) + c) * np.cos((y - t) / (3 + k))
        parts.append(np.rint((127 + 60 * wave) / (1 + k % 2)).astype(np.uint8))
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of 12, 20 and 10 frames."""
    path = tmp_path_factory.mktemp("long") / "clip.npy"
    np.save(path, scenes(12, 20, 10))
    return path


def encode(source: Any, output: Path, **options: Any) -> nervkit.EncodeReport:
    chosen = {"steps": 8, "device": "cpu", "overwrite": True, "segments": "auto", "fps": 25}
    if not {"target_size", "target_psnr", "time"} & set(options):
        chosen["params"] = 5_000
    return nervkit.encode(source, output, **(chosen | options))


@pytest.fixture(scope="module")
def encoded(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip's file, made in this process."""
    path = tmp_path_factory.mktemp("encoded") / "a.nerv"
    encode(clip, path)
    return path


def work_of(output: Path) -> Path:
    return output.with_name(output.name + ".segments")


# Segments


def test_segments_follow_the_cuts_and_show_what_is_reported(clip: Path, tmp_path: Path) -> None:
    told: list[SegmentsProgress] = []
    report = encode(clip, tmp_path / "a.nerv", on_segments=told.append)
    assert [(s["first"], s["frames"]) for s in report.segments] == [(0, 12), (12, 20), (32, 10)]
    assert report.parameters == sum(s["parameters"] for s in report.segments)
    assert report.steps == 24
    checked = nervkit.verify(tmp_path / "a.nerv", against=clip, fps=25)
    assert (checked.identical, checked.wrong) == (42, 0)
    assert checked.psnr == pytest.approx(report.psnr, abs=1e-4)
    assert not work_of(tmp_path / "a.nerv").exists()
    assert (told[-1].done, told[-1].known, told[-1].whole) == (3, 3, True)
    assert max(progress.frames_done for progress in told) == 42
    assert {progress.expected_frames for progress in told} == {42, None}
    early = [p for p in told if p.frames_done and not p.whole]
    assert early and all(p.seconds_left is not None for p in early)


def test_each_segment_has_a_model_of_its_own(encoded: Path) -> None:
    with nervkit.open(encoded) as video:
        assert len(video.segments) == 3
        forward = [video[t] for t in range(len(video))]
        backward = [video[t] for t in reversed(range(len(video)))]
    assert all(map(np.array_equal, forward, reversed(backward)))


def test_a_short_video_is_one_segment_unless_it_is_asked(clip: Path, tmp_path: Path) -> None:
    whole = encode(clip, tmp_path / "a.nerv", segments=None)
    assert len(whole.segments) == 1
    every = encode(clip, tmp_path / "a.nerv", segments=16)
    assert [s["frames"] for s in every.segments] == [16, 16, 10]
    given = encode(clip, tmp_path / "a.nerv", segments=None, cuts=[5, 30])
    assert [s["first"] for s in given.segments] == [0, 5, 30]


def test_a_long_video_is_divided_without_being_asked(tmp_path: Path) -> None:
    source = scenes(140, 20, 100, height=8, width=16)
    report = encode(source, tmp_path / "a.nerv", segments=None, steps=1)
    assert [s["first"] for s in report.segments] == [0, 140, 160]
    shorter = encode(source[:200], tmp_path / "a.nerv", segments=None, steps=1)
    assert len(shorter.segments) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = []
    for frames in (3_000, 30_000):
        np.save(
            tmp_path / "clip.npy",
            np.tile(scenes(100, 100, height=16, width=16), (frames // 200, 1, 1, 1)),
        )
        command = [sys.executable, "-m", "nervkit", "encode", "clip.npy", "-o", "a.nerv", "-y"]
        process = subprocess.Popen(
            [*command, "--steps", "1", "--params", "2000", "--fps", "25"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] < 1.1 * peaks[0]


# Targets


def test_what_there_is_to_see_is_the_same_every_time(clips: Path) -> None:
    frames = nervkit.read_clip(clips / "bikes.mp4", frames="30:76", resize="320x180").frames
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(8):
        _ = [rng.integers(0, 256, size, np.uint8) for size in rng.integers(1_000, 400_000, 50)]
        found.add(content_bytes(frames))
    assert len(found) == 1


def test_bytes_go_where_there_is_more_to_see() -> None:
    contents = [
        Complexity(100, 200.0),
        Complexity(100, 800.0),
        Complexity(50, 800.0),
        Complexity(100, 0.01),
    ]
    sizes = allocate(100_000, contents)
    assert sum(sizes) == pytest.approx(100_000, abs=4)
    assert sizes[0] < sizes[1] < 4 * sizes[0]
    assert sizes[2] == pytest.approx(sizes[1] / 2, rel=0.02)
    assert sizes[3] >= MIN_SEGMENT_BYTES
    assert allocate(10, contents) == [MIN_SEGMENT_BYTES] * 4


def test_the_file_has_the_size_that_is_asked_for_whoever_fits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 256, (16, 32, 48, 3), dtype=np.uint8)
    np.save(tmp_path / "clip.npy", np.concatenate([scenes(20), noisy]))
    options = {"target_size": 14_000, "steps": 40}
    report = encode(tmp_path / "clip.npy", tmp_path / "a.nerv", **options)
    assert abs(report.bytes - 14_000) <= 280
    calm, busy = report.segments
    assert busy["bytes"] / busy["frames"] > 1.5 * calm["bytes"] / calm["frames"]
    encode(tmp_path / "clip.npy", tmp_path / "b.nerv", workers=2, **options)
    assert (tmp_path / "b.nerv").read_bytes() == (tmp_path / "a.nerv").read_bytes()


def test_a_time_is_shared(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: dict[int, float | None] = {}

    def recorded(job: SegmentJob, *others: Any) -> Any:
        shares[job.shape.frames] = job.options.budget.seconds
        return fit_segment(job, *others)

    monkeypatch.setattr(executors, "fit_segment", recorded)
    report = encode(clip, tmp_path / "a.nerv", steps=None, time="3s")
    assert shares == {frames: pytest.approx(3 * frames / 42) for frames in (12, 20, 10)}
    assert sum(s["fit_seconds"] for s in report.segments) == pytest.approx(report.fit_seconds)


@pytest.mark.parametrize("budget", [{"time": "1s"}, {"steps": 1}])
def test_a_quality_and_what_the_file_says(tmp_path: Path, budget: dict[str, Any]) -> None:
    source, output = scenes(8, 8, height=16, width=16), tmp_path / "a.nerv"
    report = encode(source, output, target_psnr=18, **({"steps": None} | budget))
    assert len(report.segments) == 2
    settings = nervkit.info(output)["settings"]
    assert "target 18 dB" in settings
    assert settings == report.settings


def test_a_pipe_is_split_as_it_streams(clip: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.y4m"
    os.mkfifo(pipe)
    y4m = tmp_path / "clip.y4m"
    _write_y4m(y4m, np.load(clip))
    with subprocess.Popen(["cp", str(y4m), str(pipe)]):
        report = encode(pipe, tmp_path / "a.nerv", fps=None)
    assert len(report.segments) == 3
    with subprocess.Popen(["cp", str(y4m), str(pipe)]), pytest.raises(UsageError, match="twice"):
        encode(pipe, tmp_path / "b.nerv", fps=None, target_size=20_000)


def _write_y4m(path: Path, frames: np.ndarray) -> None:
    import av

    with av.open(str(path), "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


# Anywhere


def job_of(clip: Path, first: int = 0, count: int = 12) -> SegmentJob:
    frames = np.load(clip)[first : first + count]
    locator = Locator(str(clip), Reading.from_options(fps=25))
    return SegmentJob(
        index=0,
        first=first,
        shape=VideoShape(*frames.shape[:3]),
        frames=FrameRange(locator, first, count, frames_hash(frames)),
        fingerprint=frames_hash(frames),
        options=FitOptions(steps=4, params=5_000, device="cpu"),
        bits=(8, 8),
        colour=Colour(),
    )


def test_a_segment_follows_from_its_job(clip: Path, tmp_path: Path) -> None:
    job = job_of(clip, 12, 20)
    content, report = fit_segment(job)
    again, _ = fit_segment(replace(job, frames=np.load(clip)[12:32]))
    assert content == again
    (tmp_path / "a.nerv").write_bytes(content)
    part = np.load(clip)[12:32]
    checked = nervkit.verify(tmp_path / "a.nerv", against=part, fps=25)
    assert checked.identical == 20
    assert checked.psnr == pytest.approx(report.psnr, abs=1e-4)


def test_frames_that_have_changed_are_noticed(clip: Path) -> None:
    job = job_of(clip)
    assert isinstance(job.frames, FrameRange)
    with pytest.raises(SourceError, match="have changed since the source was first read"):
        fit_segment(replace(job, frames=replace(job.frames, fingerprint="0" * 16)))


# Interruptions


def test_an_interrupted_encode_goes_on_where_it_was(
    clip: Path, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, fitted = tmp_path / "a.nerv", []
    done = False

    def on_segments(progress: SegmentsProgress) -> None:
        nonlocal done
        done |= progress.done == 2

    with pytest.raises(Interrupted) as stopped:
        encode(clip, output, on_segments=on_segments, stop=lambda: done)
    assert stopped.value.resumable
    assert not output.exists()
    names = sorted(path.name for path in work_of(output).iterdir())
    assert names[:4] == ["00000.json", "00000.nerv", "00001.json", "00001.nerv"]
    assert nervkit.verify(work_of(output) / "00001.nerv").identical == 20

    def counted(job: SegmentJob, *rest: Any) -> Any:
        fitted.append(job.index)
        return fit_segment(job, *rest)

    monkeypatch.setattr(executors, "fit_segment", counted)
    encode(clip, output)
    assert fitted == [2]
    assert output.read_bytes() == encoded.read_bytes()


def test_a_work_folder_of_another_encode(clip: Path, encoded: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.nerv"
    with pytest.raises(Interrupted):
        encode(clip, output, stop=lambda: (work_of(output) / "00000.json").exists())
    with pytest.raises(SourceError, match=r"budget: 8 steps -> 9 steps.*set restart"):
        encode(clip, output, steps=9)
    encode(clip, output, restart=True)
    assert output.read_bytes() == encoded.read_bytes()
    (tmp_path / "b.nerv.segments").touch()
    with pytest.raises(OutputError, match="move it away"):
        encode(clip, tmp_path / "b.nerv")


@pytest.mark.parametrize("damage", ["cut", "flip", "report"])
def test_a_finished_segment_that_is_damaged_is_fitted_again(
    clip: Path, encoded: Path, tmp_path: Path, damage: str
) -> None:
    output, stopped = tmp_path / "a.nerv", False

    def on_segments(progress: SegmentsProgress) -> None:
        nonlocal stopped
        stopped |= progress.done == 1

    with pytest.raises(Interrupted):
        encode(clip, output, on_segments=on_segments, stop=lambda: stopped)
    path = work_of(output) / ("00000.json" if damage == "report" else "00000.nerv")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-9])
    encode(clip, output)
    assert output.read_bytes() == encoded.read_bytes()


def _children(process: subprocess.Popen[Any]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    names = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed}
    return [pid for pid, name in names.items() if b"spawn_main" in name]


def _with_hangups() -> None:
    """A process under nohup ignores SIGHUP, and so do its children: these shall not."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# A command whose workers say when they fit: each imports this script.
WATCHED = """
import os
from pathlib import Path
from nervkit.cli import main
from nervkit.fitting.loop import Stepper
step = Stepper.step
def watched(self, k, progress):
    if k == 3:
        Path(f"{os.getpid()}.fits").touch()
    return step(self, k, progress)
Stepper.step = watched
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def running(clip: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an encode with two workers in a process. If it is to make many steps, wait until both
    workers fit."""
    started: list[subprocess.Popen[str]] = []

    def start(steps: int) -> subprocess.Popen[str]:
        script, work = tmp_path / "nervkit", tmp_path / "a.nerv.segments"
        script.write_text(WATCHED)
        command = [sys.executable, str(script), "encode", str(clip), "-o", "a.nerv"]
        command += ["--steps", str(steps), "--segments", "auto", "--workers", "2", "--fps", "25"]
        command += ["--params", "5000"]
        process = subprocess.Popen(
            [*command, "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, preexec_fn=_with_hangups,
        )  # fmt: skip
        started.append(process)
        fitting = 2 if steps > 100 else 0
        deadline = time.monotonic() + PATIENCE
        while (
            len(_children(process)) < 2
            or not work.is_dir()
            or len(list(tmp_path.glob("*.fits"))) < fitting
        ):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_killed_worker_is_tried_again(
    running: Callable[[int], subprocess.Popen[str]], encoded: Path, tmp_path: Path
) -> None:
    process = running(8)
    os.kill(_children(process)[0], signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "ended (SIGKILL); nervkit restarts it" in stderr
    assert (tmp_path / "a.nerv").read_bytes() == encoded.read_bytes()
    assert len(json.loads(stdout)["segments"]) == 3


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_signal_stops_all_workers_with_their_checkpoints(
    running: Callable[[int], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = running(100_000)
    workers = _children(process)
    for worker in workers:  # a terminal sends a signal to them too
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(worker, number)
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert "run the same command again to resume" in stderr
    assert "Traceback" not in stderr
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert len(list((tmp_path / "a.nerv.segments").glob("*.checkpoint"))) == 2
    assert not (tmp_path / "a.nerv").exists()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_workers_end_with_their_parent(
    running: Callable[[int], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = running(100_000)
    workers = _children(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_error_of_a_worker_is_the_callers(clip: Path) -> None:
    job = job_of(clip)
    assert isinstance(job.frames, FrameRange)
    job = replace(job, frames=replace(job.frames, fingerprint="0" * 16))
    keep = CheckpointOptions(clip.with_name("0.checkpoint"))
    with pytest.raises(SourceError, match="have changed since the source was first read"):
        next(Processes(2).run(iter([(job, keep)]), executors.ExecutorCallbacks()))


def test_a_worker_stays_for_the_next_segment_and_is_replaced_when_killed(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start = Processes._start_worker

    def counted(self: Processes) -> Any:
        worker = start(self)
        assert worker.process.pid is not None
        started.append(worker.process.pid)
        return worker

    monkeypatch.setattr(Processes, "_start_worker", counted)
    jobs = [replace(job_of(clip, first), index=k) for k, first in enumerate((0, 12, 24))]
    keeps = [CheckpointOptions(clip.with_name(f"{k}.checkpoint")) for k in range(3)]
    notes: list[str] = []
    fitted = Processes(1).run(
        iter(zip(jobs, keeps, strict=True)), executors.ExecutorCallbacks(on_note=notes.append)
    )
    contents = [next(fitted)[1], next(fitted)[1]]
    assert len(started) == 1
    os.kill(started[0], signal.SIGKILL)  # while it has nothing to do
    contents.append(next(fitted)[1])
    assert len(started) == 2
    assert [note for note in notes if "ended (SIGKILL); nervkit restarts it" in note]
    assert contents == [fit_segment(job)[0] for job in jobs]
    assert next(fitted, None) is None
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


# Choices


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be a number from 1"),
        ({"workers": "many"}, "or auto, not 'many'"),
        ({"segments": "some"}, "segments must be"),
        ({"segments": "off", "cuts": [3]}, "cuts needs segments='auto'"),
        ({"segment_frames": 1}, "from 2"),
    ],
)
def test_bad_choices(clip: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode(clip, tmp_path / "b.nerv", **options)
    assert not (tmp_path / "b.nerv").exists()


def test_a_start_is_for_one_segment(clip: Path, encoded: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use segments='off'"):
        encode(clip, tmp_path / "b.nerv", start_from=encoded, params=None)


def test_workers_are_counted() -> None:
    from nervkit.encoding.choice import choose_executor

    assert isinstance(choose_executor(1, None), InProcess)
    assert choose_executor("3", None) == Processes(3)
    assert choose_executor("auto", None).slots >= 1


def test_without_ray(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nervkit\[ray\]'"):
        encode(clip, tmp_path / "a.nerv", ray="auto")


def test_segments_differ_in_model_and_size(clip: Path, encoded: Path) -> None:
    with NervFile(encoded, UNLIMITED) as file:
        assert len({json.dumps(segment.config) for segment in file.header.segments}) > 1


def test_a_file_says_what_its_segments_share(encoded: Path) -> None:
    assert "bits 8" in nervkit.info(encoded)["settings"]
