"""Files of a requested size: rate-distortion fits."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import nervkit
from nervkit.container.file import NervFile
from nervkit.container.segment import CONTEXTS
from nervkit.errors import Interrupted, NervError, UsageError
from nervkit.fitting.coding import Codec
from nervkit.fitting.job import FitCallbacks, FitJob
from nervkit.fitting.options import FitOptions
from nervkit.media.timing import Timing
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig
from nervkit.target import Target, default_bytes
from nervkit.units import parse_bitrate, parse_size_in_bytes
from tests.command import run_nervkit

pytestmark = pytest.mark.usefixtures("one_thread")


def waves(frames: int = 8, height: int = 48, width: int = 64) -> np.ndarray:
    """(frames, height, width, 3) uint8: coloured waves that drift."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    picture = np.sin((x + 2 * t) / 5 + c) * np.cos((y - t) / 4) + np.sin(x * y / 50)
    return np.rint(127 + 60 * picture).astype(np.uint8)


def encode(path: Path, source: Any = None, **options: Any) -> nervkit.EncodeReport:
    options = {"steps": 60, "overwrite": True, "device": "cpu"} | options
    return nervkit.encode(waves() if source is None else source, path, **options)


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("gridnerv", 5_000),
        ("gridnerv", 12_000),
        ("hnerv", 5_000),
        ("hnerv", 12_000),
        ("nerv", 5_000),
    ],
)
def test_a_file_has_the_size_that_is_asked_for(tmp_path: Path, model: str, target: int) -> None:
    report = encode(tmp_path / "a.nerv", model=model, target_size=target)
    assert report.bytes == (tmp_path / "a.nerv").stat().st_size
    assert abs(report.bytes - target) <= 0.02 * target
    assert nervkit.verify(tmp_path / "a.nerv").identical == 8


def test_a_target_that_is_missed_is_noted() -> None:
    codec = Codec(GridNeRV(GridNeRVConfig(), VideoShape(4, 48, 64)), target_bits=80_000)
    assert codec.missed(bytes(10_190), 20.0) is None
    assert "take 10,300 bytes instead of the target 10,000" in codec.missed(bytes(10_300), 20.0)
    codec.target_psnr = 30.0
    assert codec.missed(bytes(10_300), 30.09) is None
    assert "has 30.20 dB instead of the target 30: fewer" in codec.missed(bytes(10_000), 30.2)
    assert "has 29.80 dB instead of the target 30" in codec.missed(bytes(10_000), 29.8)


def test_a_quality_is_reached(tmp_path: Path, bunny: Path) -> None:
    cut = {"frames": "0:8", "resize": "96x54", "steps": 150, "params": "20k"}
    for metric, psnr in (("rgb", 27.5), ("yuv", 31.0)):
        report = encode(tmp_path / f"{metric}.nerv", bunny, target_psnr=psnr, metric=metric, **cut)
        reached = report.psnr if metric == "rgb" else report.psnr_yuv
        noted = any("dB, and" in note for note in report.notes)
        assert abs(reached - psnr) <= 0.1 or noted
        if metric == "rgb":
            assert not noted, report.notes
    lower = encode(tmp_path / "b.nerv", bunny, target_psnr=26.5, **cut)
    assert lower.psnr == pytest.approx(26.5, abs=0.1)


def test_tracks_count_in_a_size_and_not_in_bits_per_pixel(bunny: Path, tmp_path: Path) -> None:
    cut = {"frames": "0:8", "resize": "64x36", "steps": 20}
    whole = encode(tmp_path / "a.nerv", bunny, target_size="30k", **cut)
    assert whole.bytes_by_part["tracks"] > 10_000
    assert abs(whole.bytes - 30_000) <= 600
    pixels = encode(tmp_path / "b.nerv", bunny, target_bpp=1.5, **cut)
    assert pixels.bpp == pytest.approx(1.5, rel=0.02)
    rate = encode(tmp_path / "c.nerv", bunny, target_bitrate="800k", **cut)
    assert rate.bytes_by_part["tracks"] == whole.bytes_by_part["tracks"]
    assert 8 * rate.bytes / (8 / rate.fps) == pytest.approx(800_000, rel=0.02)


def test_a_bitrate_counts_the_time_that_frames_are_shown(tmp_path: Path) -> None:
    """For any frame rate and any start time."""
    clip = nervkit.read_clip(waves(4))
    clip.timing = Timing(np.array([900, 901, 904, 905]), Fraction(1, 4), 3)  # 2 s
    report = encode(tmp_path / "a.nerv", clip, target_bitrate=24_000)
    assert abs(report.bytes - 6_000) <= 120


def test_bytes_buy_quality(tmp_path: Path) -> None:
    small, large = (encode(tmp_path / "a.nerv", target_size=n) for n in (4_000, 9_000))
    assert small.psnr + 1 < large.psnr


def test_a_stopped_fit_goes_on_to_the_same_file(tmp_path: Path) -> None:
    options = {"steps": 30, "target_size": 6_000}
    encode(tmp_path / "once.nerv", **options)
    steps = iter(range(1000))
    with pytest.raises(Interrupted):
        encode(tmp_path / "twice.nerv", stop=lambda: next(steps) == 16, **options)
    with pytest.raises(nervkit.NervError, match="coded_bytes"):
        encode(tmp_path / "twice.nerv", **(options | {"target_size": 7_000}))
    encode(tmp_path / "twice.nerv", **options)
    assert (tmp_path / "once.nerv").read_bytes() == (tmp_path / "twice.nerv").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_size": "much"}, "target_size must be a number of bytes such as 500k"),
        ({"target_size": 0}, "target_size must be"),
        ({"target_bpp": 0.0}, "target_bpp must lie in"),
        ({"target_bpp": float("nan")}, "target_bpp must lie in"),
        ({"target_psnr": "high"}, "target_psnr must lie in 10 to 60 dB, not high"),
        ({"target_size": 9_000, "bits": 6}, "bits and embedding_bits exclude a target"),
        ({"target_psnr": 61.0}, "target_psnr must lie in 10 to 60 dB"),
        ({"target_psnr": float("nan")}, "target_psnr must lie in"),
        ({"target_psnr": 30.0, "target_size": 9_000}, "give one of target_size"),
        ({"target_psnr": 30.0, "recipe": "paper", "model": "hnerv"}, "leave out recipe='paper'"),
        ({"target_size": 9_000, "target_bpp": 1.0}, "give one of target_size, target_bpp"),
        ({"target_bpp": 1.0, "target_bitrate": "1M"}, "give one of target_size, target_bpp"),
        ({"target_bitrate": "fast"}, "target_bitrate must be bits per second such as 200k"),
        ({"target_bitrate": 0}, "target_bitrate must be"),
        ({"target_bitrate": "20 kB"}, "target_bitrate must be"),
        ({"target_bitrate": "20k"}, "of its 800 bytes.*least is target_bitrate"),
        ({"target_size": 1_200}, "of its 1,200 bytes.*least is target_size"),
        ({"target_size": 9_000, "prune": 0.2}, "prune is for a fit without a target"),
    ],
)
def test_impossible_targets(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode(tmp_path / "a.nerv", **options)
    assert not list(tmp_path.iterdir())


def test_bitrates() -> None:
    rates = {
        "200k": 200_000,
        "1.5M": 1_500_000,
        12: 12,
        "2 Mbit/s": 2_000_000,
        "9kbps": 9000,
        "0.5g": 5 * 10**8,
    }
    for text, rate in rates.items():
        assert parse_bitrate(text) == rate
    for text in ("200 kb", "-5", "0.2", "1e6", "2T", "k", "2000G"):
        with pytest.raises(UsageError, match="such as 200k"):
            parse_bitrate(text)


def test_sizes_in_bytes() -> None:
    sizes = {"500k": 500_000, "1.5M": 1_500_000, 12: 12, "12": 12, "2 GB": 2 * 10**9, "7kB": 7000}
    for text, size in sizes.items():
        assert parse_size_in_bytes(text) == size
    assert Target.from_options(None, None, None) is None


def test_a_segment_is_coded_one_way(tmp_path: Path) -> None:
    encode(tmp_path / "a.nerv", target_size=5_000, steps=2)
    with NervFile(tmp_path / "a.nerv") as file:
        assert [section.method for section in file.segment(0).sections] == [CONTEXTS]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `waves`, fitted through its quantizer."""
    path = tmp_path_factory.mktemp("fitted") / "fitted.nerv"
    encode(path, steps=200, target_size=9_000)
    return path


def test_a_fit_starts_from_a_file_and_serves_another_rate(fitted: Path, tmp_path: Path) -> None:
    before = nervkit.verify(fitted, against=waves()).psnr
    same = encode(tmp_path / "a.nerv", steps=1, target_size=9_000, start_from=fitted)
    assert abs(same.psnr - before) < 1
    lower = encode(tmp_path / "b.nerv", steps=60, target_size=6_000, start_from=fitted)
    anew = encode(tmp_path / "c.nerv", steps=60, target_size=6_000)
    assert abs(lower.bytes - 6_000) <= 120
    assert lower.parameters == same.parameters
    assert lower.psnr > anew.psnr + 3


def test_a_fit_in_float_starts_from_a_file(fitted: Path, tmp_path: Path) -> None:
    before = nervkit.verify(fitted, against=waves()).psnr
    report = encode(tmp_path / "a.nerv", steps=20, bits=10, start_from=fitted)
    assert report.psnr > before - 1


def test_a_fit_from_a_file_resumes(fitted: Path, tmp_path: Path) -> None:
    options = {"steps": 40, "target_size": 7_000, "start_from": fitted}
    encode(tmp_path / "whole.nerv", **options)
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        encode(tmp_path / "parts.nerv", stop=lambda: next(asked) > 20, **options)
    encode(tmp_path / "parts.nerv", **options)
    assert (tmp_path / "parts.nerv").read_bytes() == (tmp_path / "whole.nerv").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "hnerv"}, "a fit of hnerv for 8 frames of 64x48 cannot start from gridnerv"),
        ({"frames": "0:6"}, "for 6 frames of 64x48 cannot start from gridnerv for 8 frames"),
        ({"params": 9_000}, "leave out params"),
        ({"start_from": "no.nerv"}, "no.nerv: No such file"),
    ],
)
def test_what_a_fit_cannot_start_from(
    fitted: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(NervError, match=message):
        encode(tmp_path / "a.nerv", **({"start_from": fitted} | options))
    assert not (tmp_path / "a.nerv").exists()


def test_a_fit_cannot_start_from_a_file_without_what_only_helps_fitting(tmp_path: Path) -> None:
    encode(tmp_path / "a.nerv", model="hnerv", steps=2)
    with pytest.raises(UsageError, match="has no encoder"):
        encode(tmp_path / "b.nerv", model="hnerv", steps=2, start_from=tmp_path / "a.nerv")


def test_without_a_target_a_fit_sees_its_quantizer(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv")
    with NervFile(tmp_path / "a.nerv") as file:
        assert [section.method for section in file.segment(0).sections] == [CONTEXTS]
    coded = report.bits_per_parameter * report.parameters / 8
    assert coded == pytest.approx(default_bytes(VideoShape(8, 48, 64)), rel=0.12)
    assert "aimed" not in str(report.notes)


@pytest.mark.parametrize("options", [{"params": 9_000}, {"bits": 8}, {"prune": 0.1}])
def test_a_fit_of_given_values_or_bits_is_quantized_afterwards(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    encode(tmp_path / "a.nerv", steps=3, **options)
    with NervFile(tmp_path / "a.nerv") as file:
        assert CONTEXTS not in [section.method for section in file.segment(0).sections]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `waves` by HNeRV at 8 bits, with its fit beside it."""
    path = tmp_path_factory.mktemp("kept") / "a.nerv"
    encode(path, model="hnerv", steps=60, bits=8, keep_fit=True)
    return path


def test_a_kept_fit_is_quantized_again_without_steps(kept: Path, tmp_path: Path) -> None:
    options = {"model": "hnerv", "start_from": f"{kept}.fit", "steps": None}
    same = encode(tmp_path / "a.nerv", bits=8, **options)
    with nervkit.open(tmp_path / "a.nerv") as again, nervkit.open(kept) as first:
        assert np.array_equal(again[:], first[:])
    assert same.steps == 60
    fewer = encode(tmp_path / "b.nerv", bits=5, **options)
    assert fewer.bytes < same.bytes
    assert fewer.steps == 60


def test_a_kept_fit_goes_on_with_what_only_helps_fitting(kept: Path, tmp_path: Path) -> None:
    before = nervkit.verify(kept, against=waves()).psnr
    options = {"model": "hnerv", "start_from": f"{kept}.fit", "steps": 60}
    longer = encode(tmp_path / "a.nerv", bits=8, keep_fit=True, **options)
    assert longer.psnr > before + 1
    assert (tmp_path / "a.nerv.fit").exists()
    assert not (tmp_path / "a.nerv.checkpoint").exists()


def test_a_kept_fit_through_the_quantizer_serves_another_rate(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.nerv", steps=60, target_size=9_000, keep_fit=True)
    options = {"start_from": tmp_path / "a.nerv.fit"}
    same = encode(tmp_path / "b.nerv", steps=1, target_size=9_000, **options)
    assert abs(same.psnr - first.psnr) < 1
    float_fit = encode(tmp_path / "c.nerv", bits=10, steps=None, **options)
    assert float_fit.psnr > first.psnr - 1
    assert "the kept fit was made for its own quantizer" in float_fit.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nerv"}, "a fit of nerv cannot start from one of hnerv"),
        ({"model": "hnerv", "frames": "0:6"}, "is a fit of other frames"),
        ({"model": "hnerv", "segments": 4}, "start_from needs a video of one segment"),
        ({"model": "hnerv", "start_from": "a.zip"}, "a.zip: not a readable checkpoint"),
    ],
)
def test_what_cannot_go_on_from_a_kept_fit(
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.zip").write_bytes(b"PK and nothing else")
    with pytest.raises(NervError, match=message):
        encode(tmp_path / "a.nerv", **({"start_from": f"{kept}.fit", "steps": 2} | options))


def test_a_start_that_takes_most_of_the_time_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.from_numpy(waves()).permute(0, 3, 1, 2)
    options = FitOptions(time=20, params=9_000, device="cpu")
    shape = VideoShape(8, 48, 64)
    model = options.model_type(options.configure(shape), shape)
    now = iter((0.0, 12.0))
    clock = SimpleNamespace(perf_counter=lambda: next(now, 12.0))
    monkeypatch.setattr("nervkit.fitting.job.clock", clock)
    notes: list[str] = []
    asked = iter((False, True))
    watch = FitCallbacks(on_note=notes.append, stop=lambda: next(asked))
    with pytest.raises(Interrupted):
        FitJob(model, frames, options).run(None, watch)
    assert notes == ["the start of the fit took 12 s of its 20 s; a longer time is better"]


def test_several_segments_keep_no_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keep_fit needs a video of one segment"):
        encode(tmp_path / "a.nerv", steps=2, segments=4, keep_fit=True)


def test_the_command_continues_its_own_output(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", waves())
    common = ("encode", "clip.npy", "-o", "a.nerv", "--json", "--params", "9k")
    again = ("encode", "clip.npy", "-o", "a.nerv", "--json", "--continue")
    done = run_nervkit(*again, "--bits", "4", cwd=tmp_path, code=1)
    assert "a.nerv.fit: there is no fit to continue" in done.stderr
    first = run_nervkit(*common, "--steps", "20", "--keep-fit", cwd=tmp_path, code=0)
    longer = run_nervkit(*again, "--bits", "8", "--steps", "40", cwd=tmp_path, code=0)
    psnr, more = (json.loads(done.stdout)["psnr"] for done in (first, longer))
    assert more > psnr
    coarse = run_nervkit(*again, "--bits", "4", cwd=tmp_path, code=0)
    assert json.loads(coarse.stdout)["bytes"] < json.loads(longer.stdout)["bytes"]
    done = run_nervkit(*again, "--start-from", "a.nerv", cwd=tmp_path, code=2)
    assert "leave out --start-from" in done.stderr
