"""Damages, classical methods and scores of `nervkit bench restore`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nervkit.bench.datasets import ClipSpec
from nervkit.bench.restoration.baselines import (
    DENOISERS,
    INPAINTERS,
    INTERPOLATORS,
    NO_FIT,
    average,
)
from nervkit.bench.restoration.damage import add_noise, five_boxes
from nervkit.bench.restoration.evaluate import evaluate, score
from nervkit.bench.restoration.run import bench_restore
from nervkit.errors import UsageError
from tests.command import run_nervkit

FIT: dict[str, Any] = {"steps": 3, "params": 4000}


def drifting(frames: int = 9, height: int = 48, width: int = 64) -> np.ndarray:
    """(T, H, W, 3) uint8: a smooth pattern that moves two pixels a frame."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    waves = np.sin((x + 2 * t) / 4 + c) + np.cos(y / 3 + (x + 2 * t) / 9)
    return np.rint(127 + 55 * waves).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))


@pytest.mark.parametrize("name", DENOISERS)
def test_every_denoiser_takes_noise_away(name: str) -> None:
    clean = np.repeat(drifting()[:1], 5, axis=0)
    impulses = "median" in name
    noisy = add_noise(clean, *(("salt-pepper", 0.02) if impulses else ("gaussian", 25)))
    made = DENOISERS[name](noisy)
    assert made.shape == clean.shape
    assert made.dtype == np.uint8
    assert psnr(made, clean) > psnr(noisy, clean) + 1


@pytest.mark.parametrize("name", INPAINTERS)
def test_every_inpainter_fills_holes_only(name: str) -> None:
    clean = np.repeat(drifting()[:1], 5, axis=0)
    holes = np.zeros(clean.shape[:3], bool)
    holes[:, 10:16, 20:30] = True
    if name == "temporal median":
        holes[3] = False
    masked = np.where(holes[..., None], np.uint8(0), clean)
    made = INPAINTERS[name](masked, holes)
    assert np.array_equal(made[~holes], clean[~holes])
    assert psnr(made[holes], clean[holes]) > psnr(masked[holes], clean[holes]) + 8


def test_the_average_and_ffmpegs_motion_compensation() -> None:
    frames = drifting(13)
    even, between = frames[::2], frames[1:-1:2]
    made = {name: method(even) for name, method in INTERPOLATORS.items()}
    for frames_made in made.values():
        assert frames_made.shape == between.shape
    assert abs(average(even)[0].astype(float) - (even[0] / 2 + even[1] / 2)).max() <= 0.5
    for by_motion in ("minterpolate", NO_FIT):
        pairs = zip(made[by_motion], average(even), between, strict=True)
        assert all(psnr(a, truth) > psnr(b, truth) for a, b, truth in pairs)


def test_scores_are_those_of_the_parts() -> None:
    clean = drifting(3)
    made = add_noise(clean, "gaussian", 10)
    holes = np.broadcast_to(five_boxes(48, 64, 8), clean.shape[:3])
    found = score("boxes:8", "x", clean, made, holes, 1.0)
    pairs = list(zip(clean, made, strict=True))
    assert found.psnr == pytest.approx(
        np.mean([peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs])
    )
    inside = [peak_signal_noise_ratio(a[holes[0]], b[holes[0]], data_range=255) for a, b in pairs]
    assert found.psnr_inside == pytest.approx(np.mean(inside))
    outside = [
        peak_signal_noise_ratio(a[~holes[0]], b[~holes[0]], data_range=255) for a, b in pairs
    ]
    assert found.psnr_outside == pytest.approx(np.mean(outside))
    maps = [
        structural_similarity(
            *(a, b),
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1]
        for a, b in pairs
    ]
    assert found.ssim_inside == pytest.approx(np.mean([m[holes[0]].mean() for m in maps]))
    assert score("gaussian:10", "x", clean, made, None, 1.0).psnr_inside is None


def test_each_damage_is_scored_beside_the_classical_methods() -> None:
    clean = drifting(5)
    methods = {
        "gaussian:25": ["damaged", "nervkit", *DENOISERS],
        "boxes:8": ["damaged", "nervkit", *INPAINTERS],
        "odd-even": ["nervkit", *INTERPOLATORS],
    }
    for damage, expected in methods.items():
        scores = evaluate(clean, damage, **FIT)
        assert [s.method for s in scores] == expected
        assert all(s.damage == damage and 5 < s.psnr <= 100 for s in scores)
        assert all((s.psnr_inside is None) == (damage != "boxes:8") for s in scores)
    assert [s.method for s in evaluate(clean, "black:0.01", baselines=False, **FIT)] == [
        "damaged",
        "nervkit",
    ]


def test_interpolation_is_scored_on_frames_that_lay_between() -> None:
    clean = drifting(6)  # frame 5 lies after the last even one
    seen: dict[str, np.ndarray] = {}
    scores = evaluate(clean, "odd-even", on_frames=seen.__setitem__, **FIT)
    assert np.array_equal(seen["clean"], clean[1:5:2])
    assert np.array_equal(seen["average"], average(clean[::2]))
    assert seen["nervkit"].shape == (2, 48, 64, 3)
    assert scores[1].psnr == pytest.approx(
        np.mean([psnr(a, b) for a, b in zip(seen["average"], clean[1:5:2], strict=True)]), abs=1e-4
    )


@pytest.mark.parametrize(
    "damage",
    [
        "rain:3",
        "gaussian",
        "planes",
        "codec:",
        "none:1",
        "centre:4",
        "boxes",
        "odd-even:2",
        "boxes:0.5",
        "boxes:0",
    ],
)
def test_unknown_damages_are_refused(damage: str) -> None:
    with pytest.raises(UsageError, match="unknown damage"):
        evaluate(drifting(3), damage, **FIT)


def test_the_command_keeps_what_it_has_and_shows_the_papers(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", drifting(5))
    command = [
        "bench",
        "restore",
        "clip.npy",
        "--out",
        "run",
        "--damage",
        "boxes:8",
        "--damage",
        "odd-even",
    ]
    command += ["--steps", "3", "--params", "4000", "--fps", "25", "--picture", "1"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return run_nervkit(*command, *more, cwd=tmp_path)

    first = run()
    assert first.returncode == 0, first.stderr
    assert "clip, boxes:8: 5 frames of 64x48" in first.stdout
    assert "34.12" in first.stdout  # as published
    record = json.loads((tmp_path / "run" / "restore.json").read_text())
    assert [r["damage"] for r in record["runs"]] == ["boxes:8", "odd-even"]
    assert record["runs"][0]["command"] == (
        "nervkit bench restore clip --out run --damage boxes:8 --fps 25 --model gridnerv "
        "--params 4000 --recipe native --steps 3 --seed 0 --device cpu --precision auto --picture 1"
    )
    picture = iio.imread(tmp_path / "run" / "clip-boxes-8-damaged.png")
    assert picture.shape == (48, 64, 3)
    again = run("--json")
    assert json.loads(again.stdout)["runs"] == record["runs"]  # seconds too: nothing ran again
    other = run("--seed", "1")
    assert other.returncode == 0, other.stderr
    assert len(json.loads((tmp_path / "run" / "restore.json").read_text())["runs"]) == 4
    np.save(tmp_path / "clip.npy", drifting(5)[:, ::-1])
    assert run().returncode == 0
    assert len(json.loads((tmp_path / "run" / "restore.json").read_text())["runs"]) == 6
    (tmp_path / "run" / "restore.json").write_text('{"runs": [{}]}')
    damaged = run()
    assert damaged.returncode == 1
    assert damaged.stderr.strip().endswith("delete it or use another --out")
    bad = run("--damage", "rain:3")
    assert bad.returncode == 2
    assert "unknown damage" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_the_commands_mask_is_resized_with_the_clip(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", drifting(5))
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 16:40] = 255
    iio.imwrite(tmp_path / "mask.png", mask)
    clip = ClipSpec("clip", tmp_path / "clip.npy", None, {"resize": "32x24"})
    record = bench_restore([clip], tmp_path / "run", ["mask"], FIT, mask=str(tmp_path / "mask.png"))
    score = record["runs"][0]["scores"][0]
    assert score["method"] == "damaged"
    assert score["psnr_outside"] == 100
    assert score["psnr_inside"] < 20


@pytest.mark.parametrize("damage", ["planes:10", "codec:20", "poisson:25", "none"])
def test_camera_noise_is_scored_beside_ffmpegs_filters(damage: str) -> None:
    clean = drifting(5, 47, 63)
    seen: dict[str, np.ndarray] = {}
    scores = {s.method: s for s in evaluate(clean, damage, on_frames=seen.__setitem__)}
    assert list(scores) == ["damaged", "nervkit", *DENOISERS]
    assert np.array_equal(seen["nervkit"], seen[NO_FIT])
    assert all(name in scores for name in ("ffmpeg nlmeans", "ffmpeg hqdn3d", "ffmpeg bm3d"))
    in_file = damage.startswith(("planes", "codec"))
    assert seen["clean"].shape == (5, *((46, 62) if in_file else (47, 63)), 3)
    if damage == "none":
        assert scores["damaged"].psnr == 100
        assert scores["nervkit"].psnr > 45
    else:
        assert scores["nervkit"].psnr > scores["damaged"].psnr + 3
    with pytest.raises(UsageError, match="0 to 100"):
        evaluate(clean, "codec:101")


def test_poisson_noise_grows_with_the_light() -> None:
    for value, expected in ((255 / 4, 10), (255 / 2, 20 / 2**0.5), (0, 0)):
        clean = np.full((2, 100, 100, 3), round(value), np.uint8)
        noise = add_noise(clean, "poisson", 20).astype(float) - clean
        assert noise.std() == pytest.approx(expected, rel=0.02, abs=0.01)


def test_a_record_says_whether_a_fit_was_made(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", drifting(3))
    clip = ClipSpec("clip", tmp_path / "clip.npy", None, {"fps": "25"})
    for fit, command in ((False, "--no-fit"), (True, "--fit --steps 3")):
        options = {"fit": fit, **({"steps": 3} if fit else {}), "device": "cpu"}
        record = bench_restore([clip], tmp_path, ["odd-even"], options, baselines=False)
        assert f"--fps 25 {command} --device cpu" in record["runs"][-1]["command"]
    assert len(record["runs"]) == 2
