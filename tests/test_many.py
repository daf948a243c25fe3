"""`nervkit encode` of several videos: names, failures, a second run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import nervkit
from nervkit.cli.many import Video, videos_of
from nervkit.errors import SourceError, UsageError
from tests.command import run_nervkit
from tests.test_target import waves

QUICK = ("--steps", "2", "--params", "6k", "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, and a text that is none."""
    for index, name in enumerate(("a.mkv", "b.mkv")):
        nervkit.write(waves(3 + index), tmp_path / name, codec="ffv1")
    (tmp_path / "notes.txt").write_text("no video")
    return tmp_path


def names(videos: list[Video] | None) -> list[tuple[str, str]]:
    assert videos is not None
    return [(Path(video.source).name, video.output.name) for video in videos]


def test_each_video_becomes_a_file_of_its_name(folder: Path) -> None:
    pair = [("a.mkv", "a.nerv"), ("b.mkv", "b.nerv")]
    sources = [str(folder / name) for name in ("a.mkv", "b.mkv")]
    assert names(videos_of(sources, str(folder / "out"))) == pair
    assert names(videos_of([str(folder)], str(folder / "out"))) == pair
    assert names(videos_of([str(folder / "*.mkv")], str(folder / "out") + "/")) == pair
    assert names(videos_of(sources[:1], str(folder))) == pair[:1]
    assert videos_of(sources[:1], str(folder / "a.nerv")) is None
    same = [*sources[:1], str(folder / "a.webm")]
    assert names(videos_of(same, "out")) == [("a.mkv", "a.mkv.nerv"), ("a.webm", "a.webm.nerv")]
    assert [video.position for video in videos_of(sources, "out") or ()] == ["[1/2] ", "[2/2] "]


def test_a_folder_of_images_is_one_video(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    nervkit.write(waves(3), tmp_path / "images" / "%03d.png")
    nervkit.write(waves(3), tmp_path / "images" / "preview.mkv")
    images = str(tmp_path / "images")
    assert videos_of([images], str(tmp_path / "a.nerv")) is None
    assert names(videos_of([images], str(tmp_path))) == [("preview.mkv", "preview.nerv")]


@pytest.mark.parametrize(
    ("sources", "output", "message"),
    [
        (["a.mkv", "b.mkv"], "x.nerv", "x.nerv: is one file for 2 videos"),
        (["."], "x.nerv", "x.nerv: is one file for 2 videos"),
        (["a.mkv", "-"], "out", "standard input cannot be one of several"),
        (["a.mkv", "x/a.mkv"], "out", "a.mkv and x/a.mkv would both become out/a.mkv.nerv"),
        (["no*.mkv"], "out/", "no.*: no file matches"),
    ],
)
def test_what_cannot_be_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], output: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises((UsageError, SourceError), match=message):
        videos_of(sources, output)


def test_a_failure_does_not_end_the_others_and_a_second_run_does_the_rest(folder: Path) -> None:
    (folder / "aa.mkv").write_bytes(b"no video")
    options = ("a.mkv", "aa.mkv", "b.mkv", "-o", "out/", *QUICK)
    first = run_nervkit("encode", *options, "--json", cwd=folder, code=1)
    made = json.loads(first.stdout)["videos"]
    assert [video["status"] for video in made] == ["encoded", "failed", "encoded"]
    assert made[0]["report"]["frames"] == 3
    assert "aa.mkv" in made[1]["error"]
    assert "[3/3] b.mkv -> out/b.nerv" in first.stderr
    assert "1 of 3 videos failed" in first.stderr.splitlines()[-1]
    assert {path.name for path in (folder / "out").iterdir()} == {"a.nerv", "b.nerv"}

    before = (folder / "out" / "b.nerv").read_bytes()
    nervkit.write(waves(2), folder / "aa.mkv", codec="ffv1", overwrite=True)
    second = run_nervkit("encode", *options, "--json", cwd=folder, code=0)
    statuses = [video["status"] for video in json.loads(second.stdout)["videos"]]
    assert statuses == ["skipped", "encoded", "skipped"]
    assert (folder / "out" / "b.nerv").read_bytes() == before

    os.utime(folder / "b.mkv", (2_000_000_000, 2_000_000_000))
    third = run_nervkit("encode", *options, cwd=folder, code=0)
    assert "out/b.nerv is older than its source, and kept" in third.stderr
    assert "it was made with" not in second.stderr + third.stderr
    other = run_nervkit("encode", *options, "--seed", "3", "--steps", "4", cwd=folder, code=0)
    kept = "out/a.nerv exists already, and is kept; it was made with budget 2 steps, seed 0 (-y"
    assert kept in other.stderr
    (folder / "out" / "b.nerv").write_bytes(before[:-9])
    other = run_nervkit("encode", *options, "--resize", "32x24", cwd=folder, code=1)
    assert "it was made with no resize (-y replaces it)" in other.stderr
    assert "truncated" in other.stderr
    assert "; -y replaces it" in other.stderr.splitlines()[-2]
    again = run_nervkit("encode", *options, "-y", "--json", cwd=folder, code=0)
    assert {v["status"] for v in json.loads(again.stdout)["videos"]} == {"encoded"}


def test_a_wrong_option_ends_all_before_anything_is_read(folder: Path) -> None:
    done = run_nervkit("encode", "a.mkv", "b.mkv", "-o", "out", "--bits", "99", cwd=folder, code=2)
    assert done.stderr.count("\n") == 1
    assert not (folder / "out").exists()


def test_failures_are_printed_by_a_quiet_command(folder: Path) -> None:
    options = ("a.mkv", "no.mkv", "-o", "out", "--quiet", *QUICK)
    lines = run_nervkit("encode", *options, cwd=folder, code=1).stderr.splitlines()
    assert lines[0].startswith("failed: no.mkv")
    assert len(lines) == 2


def test_an_output_that_is_no_nerv_file_is_not_skipped(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a.nerv").write_text("mine")
    run_nervkit("encode", "a.mkv", "b.mkv", "-o", "out", *QUICK, cwd=folder, code=1)
    assert (folder / "out" / "a.nerv").read_text() == "mine"
    assert np.array_equal(nervkit.open(folder / "out" / "b.nerv").shape, (4, 48, 64, 3))
