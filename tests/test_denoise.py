"""Denoising of camera and codec noise: noise of planes, of any colour and brightness; and the
choice whether to fit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

import nervkit
from nervkit.bench.restoration.baselines import DENOISERS, NO_FIT
from nervkit.bench.restoration.damage import add_noise, noisy_file
from nervkit.errors import NervError, UsageError
from nervkit.fitting.budget import Budget
from nervkit.fitting.options import FitOptions
from nervkit.models.flow import optical_flow
from nervkit.restoration.channels import (
    OpponentSpace,
    Yuv420Space,
    colour_space_of,
    has_subsampled_chroma,
)
from nervkit.restoration.denoise import Denoiser
from nervkit.restoration.impulses import reappearing
from nervkit.restoration.motion import warped_between
from nervkit.restoration.noise import (
    CENTRES,
    Noise,
    is_static_under_noise,
    median_noise,
    noise_of_pair,
    noise_of_plane,
)
from nervkit.restoration.shrinkage import SIDE, block_spectra
from nervkit.video.colour import Colour
from nervkit.video.planes import Planes
from tests.command import run_nervkit

FLAT = np.zeros((2, 96, 128), np.float32)
FIT: dict[str, Any] = {"steps": 10, "params": 4000}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def city(request: pytest.FixtureRequest) -> np.ndarray:
    """(9, 144, 176, 3) uint8 of a real clip."""
    clips = request.getfixturevalue("clips")
    return nervkit.read_clip(clips / "vid4_city", fps=30, frames=":9", resize="176x144").frames


def ground(height: int = 96, width: int = 128) -> np.ndarray:
    """(H, W) float32, 0 to 255: rough, and bright on the right."""
    rng = np.random.default_rng(7)
    rough = gaussian_filter(rng.normal(0, 1, (height, width)), 2)
    slope = np.linspace(20, 235, width)
    return (slope + 12 * rough / rough.std()).clip(5, 250).astype(np.float32)


def moving(frames: int = 6) -> np.ndarray:
    """(T, 96, 128, 3) uint8: coloured waves that drift by a pixel and a half a frame."""
    t, y, x, c = np.ogrid[:frames, :96, :128, :3]
    waves = np.sin((x + 1.5 * t) / 9 + c) * np.cos((y - t) / 7)
    return np.rint(127 + 80 * waves).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))


# How strong noise is


@pytest.mark.parametrize("coarse", [0.0, 1.0])
@pytest.mark.parametrize("step", [(0, 0), (1.4, -2.3)])
def test_the_power_of_noise_is_found_at_each_frequency(
    coarse: float, step: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (2, 96, 128)).astype(np.float32)
    if coarse:
        noise = gaussian_filter(noise, (0, coarse, coarse))
    clean = ground()
    other = shift(clean, step, order=3, mode="nearest").astype(np.float32)
    flow = FLAT + np.array(step, np.float32)[:, None, None]
    found = noise_of_pair(clean + noise[0], other + noise[1], flow, clean + noise[0], clean)
    assert found is not None
    true = block_spectra(noise).square().mean(dim=(0, 2, 3)).numpy()
    low, high = ([k for k in range(SIDE**2) if part(k)] for part in (_is_low, _is_high))
    assert found.power[low].mean() == pytest.approx(true[low].mean(), rel=0.25)
    assert found.power[high].mean() == pytest.approx(true[high].mean(), rel=0.2, abs=0.5)
    assert (true[high].mean() < 0.1 * true[low].mean()) == bool(coarse)


def _is_low(frequency: int) -> bool:
    return max(divmod(frequency, SIDE)) < 3


def _is_high(frequency: int) -> bool:
    return min(divmod(frequency, SIDE)) >= 5


def test_one_plane_tells_no_more_than_white_noise() -> None:
    rng = np.random.default_rng(0)
    clean = ground()
    found = noise_of_plane(clean + rng.normal(0, 10, clean.shape).astype(np.float32), clean)
    assert found.power.mean() == pytest.approx(100, rel=0.15)
    assert noise_of_plane(clean, clean).power.mean() < 4


def test_noise_that_grows_with_the_light_is_found_so() -> None:
    rng = np.random.default_rng(0)
    clean = ground(192, 256)
    deviation = 20 * np.sqrt(clean / 255)
    noisy = [clean + rng.normal(0, 1, clean.shape).astype(np.float32) * deviation for _ in "ab"]
    still = np.zeros((2, *clean.shape), np.float32)
    found = median_noise([noise_of_pair(*noisy, still, noisy[0], clean)])
    variance = found.power.mean() * np.interp([40, 128, 220], CENTRES, found.levels)
    np.testing.assert_allclose(variance, 400 * np.array([40, 128, 220]) / 255, rtol=0.3)


def test_a_copy_and_a_cut_say_nothing_about_noise() -> None:
    rng = np.random.default_rng(0)
    clean = ground()
    noisy = [clean + rng.normal(0, 10, clean.shape).astype(np.float32) for _ in range(4)]
    assert noise_of_pair(noisy[0], noisy[0], FLAT, noisy[0], clean) is None
    pairs = [noise_of_pair(noisy[k], noisy[k + 1], FLAT, noisy[k], clean) for k in range(3)]
    cut = noise_of_pair(noisy[0], 255 - noisy[1][::-1], FLAT, noisy[0], clean)
    for noises in (pairs, [*pairs, cut]):
        assert median_noise(noises).power.mean() == pytest.approx(100, rel=0.15)
    assert median_noise([]).power.max() == 0
    tiny = np.zeros((5, 6), np.float32)
    assert noise_of_pair(tiny, tiny + 1, np.zeros((2, 5, 6), np.float32), tiny, tiny) is None


def test_levels_of_brightness_that_are_not_seen_are_those_beside() -> None:
    levels = np.full(8, np.nan)
    levels[[2, 5]] = 0.5, 2.0
    made = median_noise([Noise(np.ones(SIDE**2), levels)]).levels
    np.testing.assert_allclose(made, [0.5, 0.5, 0.5, 1, 1.5, 2, 2, 2])


# The planes of a movie


@pytest.mark.parametrize("damage", ["planes:10", "codec:12", "codec:30"])
def test_the_noise_of_movies_is_taken_away(damage: str, city: np.ndarray, tmp_path: Path) -> None:
    kind, amount = damage.split(":")
    path, clean = noisy_file(city, kind, float(amount), tmp_path)
    noisy = nervkit.read_clip(path).frames
    made = nervkit.denoise(path)
    assert isinstance(made, nervkit.Clip)
    classical = [method for name, method in DENOISERS.items() if name != NO_FIT]
    best = max(psnr(method(noisy, path), clean) for method in classical)
    assert psnr(made.frames, clean) > best + 1
    # RGB has lost what it could not show; resized, chroma is no longer by halves.
    assert psnr(nervkit.denoise(noisy), clean) > max(best, psnr(made.frames, clean) - 1.5)
    small = nervkit.read_clip(path, resize="120x100").frames
    truth = np.stack([_resized(frame) for frame in clean])
    resized = nervkit.denoise(path, resize="120x100").frames
    assert psnr(resized, truth) > psnr(small, truth) + 3


def _resized(frame: np.ndarray) -> np.ndarray:
    return nervkit.read_clip(frame[None], resize="120x100").frames[0]


@pytest.mark.parametrize("size", [(96, 128), (95, 127)])
@pytest.mark.parametrize("crop", [None, "60x50+2+4", "61x51+3+5"])
def test_an_undamaged_movie_comes_back(
    size: tuple[int, int], crop: str | None, tmp_path: Path
) -> None:
    clean = moving()[:, : size[0], : size[1]]
    with_sound = tmp_path / "in.mkv"
    nervkit.encode(clean, tmp_path / "a.nerv", steps=1, params=4000)
    nervkit.decode(tmp_path / "a.nerv", with_sound, codec="ffv1")
    before = nervkit.read_clip(with_sound, crop=crop)
    after = nervkit.denoise(with_sound, crop=crop)
    assert psnr(after.frames, before.frames) > 50


def test_the_own_planes_are_worked_on(tmp_path: Path) -> None:
    path, clean = noisy_file(moving(), "planes", 20, tmp_path)
    noisy = nervkit.read_clip(path)
    planes: list[Planes] = []
    nervkit.read_clip(path, on_picture=lambda p: planes.append(Planes.from_luma(*p.planes())))
    expected = list(Denoiser(noisy.frames, None, planes, noisy.colour).frames())
    assert np.array_equal(nervkit.denoise(path).frames, expected)
    from_rgb = list(Denoiser(noisy.frames).frames())
    assert psnr(np.stack(expected), clean) > psnr(np.stack(from_rgb), clean)


def test_chroma_by_halves_is_seen_in_rgb() -> None:
    frames = moving(3)
    colour = Colour()
    halved = np.stack([Planes.from_rgb(frame, colour).rgb(colour, 128, 96) for frame in frames])
    assert has_subsampled_chroma(halved)
    assert has_subsampled_chroma(halved[:, :95, :127])
    assert isinstance(colour_space_of(halved, None, colour), Yuv420Space)
    for other in (frames, halved[:, 1:, 1:], np.repeat(frames[..., :1], 3, axis=3), 0 * frames):
        assert not has_subsampled_chroma(other)
        assert isinstance(colour_space_of(other, None, colour), OpponentSpace)
    assert not has_subsampled_chroma(frames[:, :1, :1])


@pytest.mark.parametrize("clip", ["city", "bmx-trees", "blackswan", "bunny", "basketballpass"])
def test_undamaged_clips_come_back(clip: str, clips: Path, bunny: Path) -> None:
    source = {
        "city": clips / "vid4_city",
        "bmx-trees": clips / "davis" / "bmx-trees" / "frames",
        "blackswan": clips / "davis" / "blackswan" / "frames",
        "bunny": bunny,
        "basketballpass": clips / "basketballpass",
    }[clip]
    size = {"bunny": "320x180", "city": "352x288"}.get(clip, "426x240")
    frames = nervkit.read_clip(source, frames="2:7", resize=size).frames
    assert psnr(nervkit.denoise(frames, fit=False), frames) >= 45


@pytest.mark.parametrize("sigma", [2, 5, 15])
def test_gray_noise_is_taken_away_where_it_is_seen(sigma: int) -> None:
    still = np.repeat(ground()[None, ..., None], 5, axis=0).repeat(3, axis=3).astype(np.uint8)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, sigma, still.shape[:3])[..., None]
    noisy = (still + noise).round().clip(0, 255).astype(np.uint8)
    gain = psnr(nervkit.denoise(noisy), still) - psnr(noisy, still)
    assert gain == 0 if sigma == 2 else gain > 5


# Impulses


def test_what_returns_along_the_motion_is_no_impulse() -> None:
    rng = np.random.default_rng(0)
    frame = np.full((30, 40, 3), 90, np.uint8)
    frame[10, 12] = frame[20, 25] = 200
    flow = np.zeros((2, 30, 40), np.float32)
    flow[1] = 3
    beside = [(np.roll(frame, 3, axis=1), flow), (np.roll(frame, -3, axis=1), -flow)]
    beside[0][0][20] = 90  # one of them is in one frame only
    hit = (frame != 90).any(axis=2)
    around = np.full_like(frame, 90)
    assert np.argwhere(reappearing(frame, hit, around, beside)).tolist() == [[10, 12]]
    assert not reappearing(frame, hit, around, beside[:1]).any()
    assert not reappearing(frame, rng.random((30, 40)) < 0.1, around, beside).any()


# Whether a fit is made


def report_of(task: str, tmp_path: Path, source: Any = None, **options: Any) -> Any:
    frames = moving(4)[:, :48, :64] if source is None else source
    output = tmp_path / f"{task}.npy"
    if task == "denoise":
        return nervkit.denoise(frames, output, overwrite=True, **options)
    if task == "inpaint":
        return nervkit.inpaint(frames, None, output, boxes=["4,6,8,5"], overwrite=True, **options)
    return nervkit.interpolate(frames, output, factor=2, overwrite=True, **options)


@pytest.mark.parametrize("task", ["denoise", "inpaint", "interpolate"])
def test_a_fit_is_made_where_it_is_asked_for(task: str, tmp_path: Path) -> None:
    asked = report_of(task, tmp_path, fit=True, steps=5)
    implied = report_of(task, tmp_path, steps=5)
    assert (asked.steps, asked.model) == (implied.steps, implied.model) == (5, "gridnerv")
    without = report_of(task, tmp_path, fit=False)
    assert (without.steps, without.model, without.parameters) == (0, None, 0)
    assert not list(tmp_path.glob("*checkpoint*"))
    with pytest.raises(UsageError, match=r"^steps needs a fit: leave it or fit=False out"):
        report_of(task, tmp_path, fit=False, steps=5)


def test_a_fit_is_made_by_default_where_it_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervkit.fitting.options.FitOptions.budget", _short_budget())
    clean = moving(4)
    noisy, hit = add_noise(clean, "gaussian", 20), add_noise(clean, "salt-pepper", 0.02)
    assert report_of("interpolate", tmp_path).model is None
    assert report_of("denoise", tmp_path, clean).model is None
    assert report_of("denoise", tmp_path, noisy).model is None
    notes: list[str] = []
    report = report_of("denoise", tmp_path, hit, on_note=notes.append)
    assert report.model == "gridnerv"
    assert "impulses on about 2.0% of all pixels: nervkit makes a fit" in notes[0]
    assert notes[0] in report.notes
    assert report_of("denoise", tmp_path, hit, fit=False).model is None
    assert report_of("inpaint", tmp_path).model == "gridnerv"


@pytest.mark.parametrize(
    ("deviation", "shift", "frames", "static"),
    [(25, 0, 16, True), (25, 3, 16, False), (5, 0, 16, False), (25, 0, 15, False)],
)
def test_a_static_camera_is_seen_under_strong_noise(
    deviation: int, shift: int, frames: int, static: bool
) -> None:
    clean = np.stack([np.roll(moving(1)[0], shift * t, axis=1) for t in range(frames)])
    assert is_static_under_noise(add_noise(clean, "gaussian", deviation)) == static


def test_strong_noise_before_a_static_camera_gets_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervkit.fitting.options.FitOptions.budget", _short_budget())
    clean = moving(1)[:, :24, :32].repeat(16, axis=0)
    report = report_of("denoise", tmp_path, add_noise(clean, "gaussian", 25))
    assert report.model == "gridnerv"
    assert any("with a static camera: nervkit makes a fit" in note for note in report.notes)


def test_a_fit_without_a_length_is_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[str] = []

    def short(self: FitOptions) -> Budget:
        lengths.append(str(Budget.choose(self.preset, self.epochs, self.steps)))
        return Budget(steps=2)

    monkeypatch.setattr("nervkit.fitting.options.FitOptions.budget", property(short))
    for options, length in (({"fit": True}, "draft"), ({"preset": "slow"}, "slow")):
        report_of("interpolate", tmp_path, **options)
        assert length in lengths[-1]


def _short_budget() -> Any:
    return property(lambda self: Budget(steps=5))


def test_without_a_fit_frames_between_are_the_mean_along_the_motion() -> None:
    frames = moving(3)
    made = nervkit.interpolate(frames, factor=2)
    expected = warped_between(frames[0], frames[1], optical_flow(frames[0], frames[1]), 0.5)
    assert np.abs(made[1] - expected.clip(0, 255)).max() <= 0.501
    missing = nervkit.inpaint(frames, boxes=["@1:2"], fit=False)
    assert np.array_equal(missing[[0, 2]], frames[[0, 2]])
    assert psnr(missing[1], frames[1]) > psnr(frames[0], frames[1]) + 3


def test_without_a_fit_holes_are_filled_too() -> None:
    frames = moving(4)
    hole = np.zeros((96, 128), bool)
    hole[20:40, 30:60] = True
    made = nervkit.inpaint(np.where(hole[..., None], np.uint8(0), frames), hole, fit=False)
    assert np.array_equal(made[:, ~hole], frames[:, ~hole])
    assert psnr(made[:, hole], frames[:, hole]) > 20
    with pytest.raises(UsageError, match=r"^whole needs a fit: leave it or fit=False out"):
        nervkit.inpaint(frames, hole, whole=True, fit=False)


def test_a_fitted_file_is_not_fitted_again(tmp_path: Path) -> None:
    path = tmp_path / "in.nerv"
    nervkit.encode(moving(4), path, **FIT)
    with pytest.raises(UsageError, match="fit does not apply"):
        nervkit.interpolate(path, factor=2, fit=True)
    stored = nervkit.interpolate(path, factor=2)
    assert np.array_equal(nervkit.interpolate(path, factor=2, fit=False).frames, stored.frames)


def test_the_command_says_that_no_fit_was_made(
    tmp_path: Path, ffmpeg: Callable[..., bytes]
) -> None:
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "25", "-i", "-"]
    source = tmp_path / "in.mp4"
    ffmpeg(*raw, "-vf", "noise=alls=20:allf=t", source, stdin=moving(4)[:, :48, :64].tobytes())

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return run_nervkit("denoise", source, "-o", tmp_path / "out.mkv", *more)

    plain = run("--json")
    assert plain.returncode == 0, plain.stderr
    report = json.loads(plain.stdout)
    assert (report["model"], report["steps"], report["fit_seconds"]) == (None, 0, 0)
    assert "no fit, " in plain.stderr
    fitted = run("-y", "--fit", "--steps", "3")
    assert fitted.returncode == 0, fitted.stderr
    assert "3 steps" in fitted.stderr
    both = run("-y", "--no-fit", "--steps", "3")
    assert both.returncode == 2
    assert "--steps needs a fit: leave it or --no-fit out" in both.stderr


# Damages


def test_movies_are_made_noisy_on_their_planes(tmp_path: Path) -> None:
    frames = np.broadcast_to(np.array([90, 120, 140], np.uint8), (3, 97, 129, 3))
    for kind, amount, expected in (("planes", 10, 10), ("codec", 30, 16.5)):
        path, clean = noisy_file(frames, kind, amount, tmp_path)
        assert clean.shape == (3, 96, 128, 3)
        planes: list[list[np.ndarray]] = []
        nervkit.read_clip(path, on_picture=lambda p, seen=planes: seen.append(p.planes()))
        for plane in zip(*planes, strict=True):
            assert np.std(plane) == pytest.approx(expected, rel=0.05)
            first, second = (p - np.mean(p) for p in np.stack(plane[:2]).astype(float))
            assert abs((first * second).mean()) < 0.05 * expected**2  # new in every frame
    with pytest.raises(UsageError, match="0 to 100"):
        noisy_file(frames, "codec", 200, tmp_path)


def test_ffmpegs_failures_are_one_line() -> None:
    from nervkit.bench.restoration.ffmpeg import run_ffmpeg

    with pytest.raises(NervError, match=r"^ffmpeg failed: .+$"):
        run_ffmpeg(["-i", "/nowhere/at/all.mp4", "-f", "null", "-"])
