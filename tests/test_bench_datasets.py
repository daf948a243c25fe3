"""Datasets by name, in mock folders with the right names and sizes, and the published curves."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nervkit.bench.datasets import (
    DAVIS_VALIDATION,
    LISTED,
    VARIANTS,
    ClipSpec,
    dataset_clips,
    unique_name,
)
from nervkit.bench.published import published_curves
from nervkit.errors import SourceError, UsageError
from nervkit.video.edit import Edit
from nervkit.video.reader import read_clip

FRAME = 1920 * 1080 * 3 // 2
UVG_FILES = {
    "Beauty_1920x1080_120fps_420_8bit_YUV.yuv": 600,
    "Bosphorus_1920x1080_120fps_420_8bit_YUV.yuv": 600,
    "HoneyBee_1920x1080_120fps_420_8bit_YUV.yuv": 600,
    "Jockey_1920x1080_120fps_420_8bit_YUV.yuv": 600,
    "ReadySteadyGo_1920x1080_120fps_420_8bit_YUV.yuv": 600,
    "ShakeNDry_1920x1080_120fps_420_8bit_YUV.yuv": 300,
    "YachtRide_1920x1080_120fps_420_8bit_YUV.yuv": 600,
}
RAW = {"size": "1920x1080", "pixel_format": "yuv420p"}


def sparse(path: Path, size: int) -> Path:
    """A sparse file of `size` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def images(folder: Path, count: int = 1, suffix: str = ".png") -> Path:
    for index in range(count):
        sparse(folder / f"{index:05}{suffix}", 1)
    return folder


def names(clips: list[ClipSpec]) -> list[str]:
    return [clip.name for clip in clips]


def test_uvg_whole(tmp_path: Path) -> None:
    for name, frames in UVG_FILES.items():
        sparse(tmp_path / name, frames * FRAME)
    found = dataset_clips("uvg@hnerv", tmp_path)
    assert names(found.clips) == list(LISTED["uvg"])
    assert found.missing == []
    assert found.clips[4].path.name.startswith("ReadySteadyGo")
    for clip in found.clips:
        assert clip.dataset == "uvg@hnerv"
        assert clip.options == {**RAW, "fps": "120", "crop": "1920x960"}


def test_uvg_names_are_taken_as_people_have_them(tmp_path: Path) -> None:
    sparse(tmp_path / "beauty.yuv", 600 * FRAME)
    sparse(tmp_path / "Bosphorus.mp4", 10)
    sparse(tmp_path / "HoneyBee_3840x2160_120fps_420_10bit_YUV.yuv", 10)
    sparse(tmp_path / "HoneyBee_1920x1080_120fps_420_8bit_YUV.yuv", 600 * FRAME)
    sparse(tmp_path / "Jockey.y4m", 10)
    sparse(tmp_path / "Jockey.mp4", 10)
    images(tmp_path / "ReadySetGo_1920x1080_120")
    sparse(tmp_path / "ShakeNDry_RAW" / "ShakeNDry_1920x1080_120fps.yuv", 300 * FRAME)
    sparse(tmp_path / "Yacht.yuv", 10)
    found = dataset_clips("uvg", tmp_path)
    assert found.missing == ["YachtRide"]
    paths = {clip.name: clip.path.relative_to(tmp_path).as_posix() for clip in found.clips}
    assert paths == {
        "beauty": "beauty.yuv",
        "bosphorus": "Bosphorus.mp4",
        "honeybee": "HoneyBee_1920x1080_120fps_420_8bit_YUV.yuv",
        "jockey": "Jockey.y4m",
        "readysetgo": "ReadySetGo_1920x1080_120",
        "shakendry": "ShakeNDry_RAW/ShakeNDry_1920x1080_120fps.yuv",
    }
    options = {clip.name: clip.options for clip in found.clips}
    assert options["beauty"] == {**RAW, "fps": "120"}
    assert options["jockey"] == {}
    assert options["readysetgo"] == {"fps": "120"}


@pytest.mark.parametrize("size", [0, 600 * FRAME - 1, 300 * FRAME, 600 * FRAME * 2])
def test_uvg_of_the_wrong_length_is_refused(tmp_path: Path, size: int) -> None:
    path = sparse(tmp_path / "Jockey_1920x1080_120fps_420_8bit_YUV.yuv", size)
    with pytest.raises(SourceError) as error:
        dataset_clips("uvg", tmp_path)
    message = str(error.value)
    assert str(path) in message and f"{size} bytes" in message and str(600 * FRAME) in message
    assert "download it again" in message and "\n" not in message


def test_mcl_jcv(tmp_path: Path) -> None:
    lengths = {"01": ("30", 150), "05": ("25", 125), "17": ("24", 120), "30": ("30", 150)}
    for number, (fps, frames) in lengths.items():
        sparse(tmp_path / f"videoSRC{number}_1920x1080_{fps}.yuv", frames * FRAME)
    found = dataset_clips("mcl-jcv", tmp_path)
    assert {clip.name: clip.options["fps"] for clip in found.clips} == {
        f"videosrc{number}": fps for number, (fps, _) in lengths.items()
    }
    assert len(found.missing) == 26 and found.missing[0] == "videoSRC02"
    sparse(tmp_path / "videoSRC18_1920x1080_25.yuv", 150 * FRAME)
    with pytest.raises(SourceError, match="125 frames"):
        dataset_clips("mcl-jcv", tmp_path)


def test_davis_as_it_is_unpacked(tmp_path: Path) -> None:
    for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
        for resolution in ("480p", "Full-Resolution"):
            for sequence in ("goat", "bear", "soapbox"):
                images(tmp_path / kind / resolution / sequence, suffix=suffix)
    small, full = (dataset_clips(name, tmp_path) for name in ("davis", "davis@hnerv"))
    assert names(small.clips) == names(full.clips) == ["bear", "goat", "soapbox"]
    assert small.clips[0].path == tmp_path / "JPEGImages" / "480p" / "bear"
    assert full.clips[0].path == tmp_path / "JPEGImages" / "Full-Resolution" / "bear"
    assert (small.clips[0].options, full.clips[0].options) == ({}, {"crop": "1920x960"})
    boost = dataset_clips("davis@hnerv-boost", tmp_path)
    assert names(boost.clips) == ["goat", "soapbox"]
    assert sorted([*boost.missing, "goat", "soapbox"]) == sorted(DAVIS_VALIDATION)
    images(tmp_path / "JPEGImages" / "1080p" / "libby", suffix=".jpg")
    assert names(dataset_clips("davis@hnerv", tmp_path).clips) == ["libby"]


def test_davis_without_the_right_resolution_says_where_it_looked(tmp_path: Path) -> None:
    images(tmp_path / "JPEGImages" / "480p" / "goat", suffix=".jpg")
    with pytest.raises(SourceError, match=r"looked for .*1080p or Full-Resolution"):
        dataset_clips("davis@hnerv", tmp_path)


def test_davis_sequences_right_under_the_root(clips: Path) -> None:
    found = dataset_clips("davis", clips / "davis")
    assert names(found.clips) == ["blackswan", "bmx-trees"]
    assert read_clip(found.clips[0].path, frames="0:1").shape == (1, 480, 854, 3)


def test_bunny(bunny: Path, tmp_path: Path) -> None:
    for root in (bunny, bunny.parent):
        (clip,) = dataset_clips("bunny@hnerv", root).clips
        assert clip == ClipSpec("bunny", bunny, "bunny@hnerv", {"crop": "1280x640"})
    assert read_clip(clip.path, frames="0:1", **clip.options).shape == (1, 640, 1280, 3)
    (clip,) = dataset_clips("bunny", images(tmp_path / "bunny", 132)).clips
    assert (clip.path, clip.options) == (tmp_path / "bunny", {"fps": "25"})
    assert dataset_clips("bunny", tmp_path).clips == [clip]
    sparse(tmp_path / "bunny" / "more.png", 1)
    with pytest.raises(SourceError, match="133 images"):
        dataset_clips("bunny", tmp_path)


def test_folder(tmp_path: Path) -> None:
    for name in ("take10.mp4", "take2.MKV", "take 1.mp4", "take-1.mov", "notes.txt", ".take.mp4"):
        sparse(tmp_path / name, 1)
    sparse(tmp_path / "Cars_320x240_30fps.yuv", 3 * 320 * 240 * 3 // 2)
    sparse(tmp_path / "unsized.yuv", 5)
    (tmp_path / "empty").mkdir()
    images(tmp_path / "shots", 2)
    found = dataset_clips("folder", tmp_path)
    expected = ["Cars_320x240_30fps", "shots", "take2", "take10", "take-1", "take-1-2", "unsized"]
    assert names(found.clips) == expected
    assert found.missing == []
    assert all(clip.dataset is None and clip.options == {} for clip in found.clips)


@pytest.mark.parametrize(
    "name, frame",
    [
        ("a_64x48_25.yuv", 64 * 48 * 3 // 2),
        ("a_63x47.yuv", 63 * 47 + 2 * 32 * 24),
        ("a_64x48_444.yuv", 64 * 48 * 3),
        ("a_64x48_10bit_422.yuv", 64 * 48 * 2 * 2),
    ],
)
def test_raw_files_of_a_folder_hold_whole_frames(tmp_path: Path, name: str, frame: int) -> None:
    sparse(tmp_path / name, 3 * frame)
    assert len(dataset_clips("folder", tmp_path).clips) == 1
    for size in (0, 3 * frame + 1):
        sparse(tmp_path / name, size)
        with pytest.raises(SourceError, match=rf"{name}: {size} bytes.*{frame} bytes each"):
            dataset_clips("folder", tmp_path)


def test_real_images_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "shots" / "1.png")
    (clip,) = dataset_clips("folder", tmp_path).clips
    assert read_clip(clip.path, **clip.options).shape == (1, 4, 6, 3)


@pytest.mark.parametrize("name", ["uvgg", "uvg@nobody", "@hnerv", "", "UVG"])
def test_an_unknown_name_lists_the_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="uvg, uvg@hnerv, mcl-jcv"):
        dataset_clips(name, tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="looked for"):
        dataset_clips(name, tmp_path)
    with pytest.raises(SourceError, match="no such"):
        dataset_clips(name, tmp_path / "absent")
    if not name.startswith("bunny"):
        with pytest.raises(SourceError, match="is a file"):
            dataset_clips(name, sparse(tmp_path / "file.mp4", 1))


def test_names_are_unique_and_safe() -> None:
    assert unique_name("a/b: c?", []) == "a-b-c"
    assert unique_name("..", []) == "clip"
    assert unique_name("A", ["a", "a-2"]) == "A-3"


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_the_reader_takes_every_variants_options(options: dict[str, str]) -> None:
    Edit.from_options(**options)


def test_lists_need_no_torch_and_no_pyav() -> None:
    code = "import nervkit.bench.datasets, nervkit.bench.published, sys; "
    code += "sys.exit(bool({'av', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def increases(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


@pytest.mark.parametrize("dataset", VARIANTS)
def test_published_curves_are_well_formed(dataset: str) -> None:
    for curve in published_curves(dataset):
        assert set(curve["datasets"]) <= set(VARIANTS)
        assert curve["x"] in ("bpp", "parameters") and curve["metric"] == "psnr_rgb"
        assert all(curve[key] for key in ("codec", "source", "note"))
        assert len(curve["points"]) > 1
        for axis in zip(*curve["points"], strict=True):
            assert increases(axis)
        listed = LISTED.get(dataset.partition("@")[0], {})
        for clip, points in curve.get("clips", {}).items():
            assert clip in listed
            assert len(points) == len(curve["points"])
            assert increases([x for x, _ in points])
        if "clips" in curve:
            means = np.mean(list(curve["clips"].values()), axis=0)
            assert np.allclose(means[:, 1], np.array(curve["points"])[:, 1], atol=0.016)


def test_published_curves_are_distinct() -> None:
    for dataset in VARIANTS:
        labels = [(curve["codec"], curve["x"]) for curve in published_curves(dataset)]
        assert len(labels) == len(set(labels))


def test_published_bunny() -> None:
    hnerv = next(c for c in published_curves("bunny@hnerv") if c["codec"] == "HNeRV")
    assert hnerv["points"][2] == [1_500_000, 35.57]
    assert published_curves(None) == published_curves("no such dataset") == []
