"""PSNR, SSIM, MS-SSIM and VMAF of 8-bit frames, and deltas between curves."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from scipy.integrate import quad
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator
from skimage.metrics import mean_squared_error as skimage_mse
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure as torchmetrics_ms_ssim,
)
from torchmetrics.functional.image import structural_similarity_index_measure

from nervkit.errors import MissingDependencyError, NervError, UsageError
from nervkit.fitting.losses import ssim as ssim_loss
from nervkit.metrics import (
    Quality,
    mean_quality,
    mean_squared_error,
    ms_ssim,
    psnr,
    psnr_from_mse,
    psnr_yuv,
    ssim,
)
from nervkit.metrics.bd import BD, NoOverlapError, bd_psnr, bd_rate
from nervkit.metrics.msssim import WEIGHTS
from nervkit.metrics.quality import IDENTICAL
from nervkit.metrics.vmaf import VMAF_MODEL, vmaf

Ffmpeg = Callable[..., bytes]

# 4:2:0 planes: the source, and the source through x264
WIDTH, HEIGHT, FRAMES = 320, 160, 8
CRFS = (20, 35, 50)
RAW = ("-f", "rawvideo", "-pix_fmt", "yuv420p")
SIZED = (*RAW, "-s", f"{WIDTH}x{HEIGHT}")


def pair(height: int = 20, width: int = 30, noise: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A frame and a noisy copy."""
    generator = np.random.default_rng(0)
    y, x, c = np.ogrid[:height, :width, :3]
    frame = np.rint(127 + 100 * np.sin(x / 5 + c) * np.cos(y / 4)).astype(np.uint8)
    noisy = frame + generator.integers(-noise, noise + 1, frame.shape)
    return frame, noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, bunny: Path, ffmpeg: Ffmpeg) -> Path:
    """A raw yuv420p file of the example clip, small."""
    path = tmp_path_factory.mktemp("planes") / "source.yuv"
    scaled = ("-frames:v", FRAMES, "-vf", f"scale={WIDTH}:{HEIGHT}")
    ffmpeg("-ss", 2, "-i", bunny, *scaled, *RAW, path)
    return path


@pytest.fixture(scope="module")
def coded(source: Path, ffmpeg: Ffmpeg) -> dict[int, Path]:
    """`source` through x264 at each CRF, in files whose names a filter would misparse."""
    paths = {}
    for crf in CRFS:
        stream, paths[crf] = source.with_name("x.h264"), source.with_name(f"it's {crf}:[a].yuv")
        ffmpeg(*SIZED, "-i", source, "-c:v", "libx264", "-crf", crf, "-threads", 1, stream)
        ffmpeg("-i", stream, *RAW, paths[crf])
    return paths


@pytest.fixture(scope="module")
def binary() -> str:
    return imageio_ffmpeg.get_ffmpeg_exe()


def planes(path: Path) -> list[list[np.ndarray]]:
    """[y, u, v] of every frame of a raw yuv420p file."""
    size = WIDTH * HEIGHT
    frames = np.fromfile(path, np.uint8).reshape(-1, size * 3 // 2)
    return [np.split(frame, [size, size * 5 // 4]) for frame in frames]


def run_filter(text: str, first: Path, second: Path) -> None:
    """Run a filter on two raw files, in their folder."""
    inputs = [*SIZED, "-i", first, *SIZED, "-i", second]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", *inputs, "-lavfi", text, "-f", "null", "-"]
    subprocess.run(command, cwd=first.parent, capture_output=True, check=True)


def test_psnr_of_known_errors() -> None:
    black = np.zeros((4, 6, 3), np.uint8)
    assert psnr(black, black + np.uint8(255)) == 0
    assert psnr(black, black + np.uint8(1)) == pytest.approx(48.1308036)
    one = black.copy()
    one[0, 0, 0] = 72  # the only one of 72 samples
    assert psnr(black, one) == pytest.approx(10 * np.log10(255**2 / 72))


def test_psnr_has_no_sign_and_no_wrap() -> None:
    frame, noisy = pair(noise=200)
    error = np.mean((frame.astype(float) - noisy.astype(float)) ** 2)
    assert psnr(frame, noisy) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-12)
    assert psnr(noisy, frame) == psnr(frame, noisy)


def test_identical_frames_have_a_finite_psnr() -> None:
    frame, _ = pair()
    assert psnr(frame, frame.copy()) == IDENTICAL == 100
    large = np.zeros((2160, 3840, 3), np.uint8)
    other = large.copy()
    other[7, 7, 0] = 1  # the smallest error at 4K is still distinguished
    assert psnr(large, other) > IDENTICAL


def test_ssim_is_wangs() -> None:
    frame, noisy = pair()
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(line, line)[..., None] / line.sum() ** 2
    local = []
    for i in range(frame.shape[0] - 10):
        for j in range(frame.shape[1] - 10):
            a, b = (z[i : i + 11, j : j + 11].astype(float) for z in (frame, noisy))
            mean_a, mean_b = (window * a).sum((0, 1)), (window * b).sum((0, 1))
            var_a, var_b = (
                (window * (z - m) ** 2).sum((0, 1)) for z, m in ((a, mean_a), (b, mean_b))
            )
            covariance = (window * (a - mean_a) * (b - mean_b)).sum((0, 1))
            local.append(
                (2 * mean_a * mean_b + 2.55**2)
                / (mean_a**2 + mean_b**2 + 2.55**2)
                * (2 * covariance + 7.65**2)
                / (var_a + var_b + 7.65**2)
            )
    assert ssim(frame, noisy) == pytest.approx(np.mean(local), abs=1e-10)


def test_ssim_is_what_the_loss_raises() -> None:
    frame, noisy = pair()
    x, y = (torch.from_numpy(z).permute(2, 0, 1)[None].double() / 255 for z in (frame, noisy))
    assert ssim(frame, noisy) == pytest.approx(float(ssim_loss(x, y)), abs=1e-10)


def test_ssim_of_identical_frames_is_one() -> None:
    frame, _ = pair()
    assert ssim(frame, frame.copy()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(10, 30), (30, 10), (1, 1)])
def test_ssim_needs_eleven_pixels(height: int, width: int) -> None:
    assert ssim(*pair(height, width)) is None


def test_ssim_fits_eleven_pixels() -> None:
    frame, noisy = pair(11, 11)
    value = ssim(frame, noisy)
    assert value is not None
    assert 0 < value < 1


def test_the_mean_is_over_frames() -> None:
    assert mean_quality([Quality(30, 0.5), Quality(40, 1.0)]) == Quality(35, 0.75)
    assert mean_quality([Quality(30, None), Quality(50, None)]) == Quality(40, None)


# PSNR of a mean error, and of planes


def test_psnr_is_of_the_mean_squared_error() -> None:
    frame, noisy = pair()
    error = mean_squared_error(frame, noisy)
    assert error == pytest.approx(skimage_mse(frame, noisy), rel=1e-12)
    assert psnr_from_mse(error) == psnr(frame, noisy)
    assert psnr_from_mse(error) == pytest.approx(skimage_psnr(frame, noisy), abs=1e-10)
    assert psnr_from_mse(0) == IDENTICAL


def test_psnr_yuv_weighs_six_to_one_to_one() -> None:
    assert psnr_yuv(40, 32, 48) == 40
    assert psnr_yuv(32, 40, 48) == pytest.approx(35)


@pytest.mark.parametrize("crf", [35, None])
def test_plane_psnr_is_ffmpegs(source: Path, coded: dict[int, Path], crf: int | None) -> None:
    other = coded[crf] if crf else source
    run_filter("psnr=stats_file=psnr.log", other, source)
    lines = source.with_name("psnr.log").read_text().splitlines()
    assert len(lines) == FRAMES
    for line, frame, other_frame in zip(lines, planes(source), planes(other), strict=True):
        ffmpegs = dict(word.split(":") for word in line.split())
        for name, a, b in zip("yuv", frame, other_frame, strict=True):
            rounded = pytest.approx(float(ffmpegs[f"mse_{name}"]), abs=0.0051)
            assert mean_squared_error(a, b) == rounded
            decibels = float(ffmpegs[f"psnr_{name}"])  # inf where the planes are equal
            assert psnr(a, b) == pytest.approx(min(decibels, IDENTICAL), abs=0.0051)


# MS-SSIM


def degrade_noise(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 15, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def degrade_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=10)
    return Image.open(file)


DEGRADATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "noise": degrade_noise,
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "jpeg": degrade_jpeg,
    "negative": lambda image: Image.eval(image, lambda value: 255 - value),
}


@pytest.fixture(scope="module")
def frame(bunny: Path, ffmpeg: Ffmpeg) -> np.ndarray:
    """(720, 1280, 3): a frame from the middle of the example clip."""
    raw = ["-frames:v", 1, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return np.frombuffer(ffmpeg("-ss", 2, "-i", bunny, *raw), np.uint8).reshape(720, 1280, 3)


def batch(image: np.ndarray) -> torch.Tensor:
    """(1, C, H, W) float64."""
    return torch.tensor(image).permute(2, 0, 1)[None].double()


def valid_ms_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """MS-SSIM of one channel from torchmetrics' SSIM at each scale, only where the window fits.

    Its own MS-SSIM reflects the frame's edges at the coarsest scale, and drops odd rows.
    """
    value = 1.0
    ssim_of = structural_similarity_index_measure
    for exponent in WEIGHTS[:-1]:
        _, contrast = ssim_of(x, y, data_range=255.0, return_contrast_sensitivity=True)
        value *= max(float(contrast.mean()), 0) ** exponent
        odd = 0, x.shape[-1] % 2, 0, x.shape[-2] % 2
        x, y = (F.avg_pool2d(F.pad(z, odd, mode="replicate"), 2) for z in (x, y))
    _, full = ssim_of(x, y, data_range=255.0, return_full_image=True)
    return value * max(float(full[..., 5:-5, 5:-5].mean()), 0) ** WEIGHTS[-1]


# Even at every scale, odd at every scale.
@pytest.mark.parametrize(("height", "width"), [(192, 256), (161, 193)])
@pytest.mark.parametrize("name", DEGRADATIONS)
def test_ms_ssim_is_torchmetrics(frame: np.ndarray, name: str, height: int, width: int) -> None:
    reference = frame[200 : 200 + height, 500 : 500 + width]
    degraded = np.asarray(DEGRADATIONS[name](Image.fromarray(reference)))
    x, y = batch(reference), batch(degraded)
    expected = [valid_ms_ssim(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]
    assert ms_ssim(reference, degraded) == pytest.approx(np.mean(expected), abs=1e-9)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_ms_ssim_is_close_to_torchmetrics_own(frame: np.ndarray, name: str) -> None:
    reference = frame[80:, :640:2][::2]
    degraded = np.asarray(DEGRADATIONS[name](Image.fromarray(reference)))
    own = torchmetrics_ms_ssim(batch(reference), batch(degraded), data_range=255.0)
    assert ms_ssim(reference, degraded) == pytest.approx(float(own), abs=0.003)


def test_ms_ssim_of_identical_frames_is_one(frame: np.ndarray) -> None:
    assert ms_ssim(frame, frame.copy()) == 1


def test_ms_ssim_needs_more_than_160_pixels(frame: np.ndarray) -> None:
    assert ms_ssim(frame[:160], frame[:160]) is None
    assert ms_ssim(frame[:, :160], frame[:, :160]) is None
    assert ms_ssim(frame[:161, :161], frame[:161, :161]) == 1


# VMAF


def test_vmaf_is_libvmafs(source: Path, coded: dict[int, Path], binary: str) -> None:
    filters = f"libvmaf=model=version={VMAF_MODEL}:log_fmt=json:log_path=log.json"
    run_filter(filters, coded[35], source)
    log = json.loads(source.with_name("log.json").read_text())
    scores = vmaf(source, coded[35], WIDTH, HEIGHT, binary)
    assert scores == [frame["metrics"]["vmaf"] for frame in log["frames"]]
    assert len(scores) == FRAMES
    assert np.mean(scores) == pytest.approx(log["pooled_metrics"]["vmaf"]["mean"], abs=1e-5)


def test_vmaf_falls_with_the_quality(source: Path, coded: dict[int, Path], binary: str) -> None:
    means = [np.mean(vmaf(source, coded[crf], WIDTH, HEIGHT, binary)) for crf in CRFS]
    assert np.mean(vmaf(source, source, WIDTH, HEIGHT, binary)) > max(95, means[0])
    assert means[0] > 80 > means[1] > 30 > means[2]
    # A sharper copy gains, a blurred one loses: the reference is the first file.
    assert np.mean(vmaf(coded[50], source, WIDTH, HEIGHT, binary)) > means[2] + 10


def test_vmaf_accepts_paths_of_here(
    source: Path, coded: dict[int, Path], binary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    Path("ffmpeg").symlink_to(binary)
    names = Path(source.name), Path(coded[20].name)
    scores = vmaf(*names, WIDTH, HEIGHT, "./ffmpeg")
    assert scores == vmaf(source, coded[20], WIDTH, HEIGHT, binary)


def test_vmaf_of_tiny_frames_is_undefined(tmp_path: Path, binary: str) -> None:
    path = tmp_path / "tiny.yuv"
    path.write_bytes(bytes(2 * 64 * 16 * 3 // 2))
    assert vmaf(path, path, 64, 16, binary) == [None, None]


def test_vmaf_refuses_files_of_other_sizes(source: Path, tmp_path: Path, binary: str) -> None:
    short, ragged = tmp_path / "short.yuv", tmp_path / "ragged.yuv"
    content = source.read_bytes()
    short.write_bytes(content[: len(content) // 2])
    ragged.write_bytes(content[:-1])
    with pytest.raises(UsageError, match=f"holds {FRAMES} frames, .* {FRAMES // 2}$"):
        vmaf(source, short, WIDTH, HEIGHT, binary)
    with pytest.raises(UsageError, match="complete 320x160 yuv420p frames"):
        vmaf(source, ragged, WIDTH, HEIGHT, binary)
    with pytest.raises(UsageError, match="no such file"):
        vmaf(source, tmp_path / "none.yuv", WIDTH, HEIGHT, binary)
    with pytest.raises(UsageError, match="even width and height"):
        vmaf(source, source, WIDTH, HEIGHT - 1, binary)


def test_vmaf_needs_libvmaf(source: Path, tmp_path: Path) -> None:
    plain = tmp_path / "ffmpeg"
    plain.write_text("#!/bin/sh\necho ' TSC null V->V Pass the source unchanged.'\n")
    plain.chmod(0o755)
    with pytest.raises(MissingDependencyError, match="has no libvmaf"):
        vmaf(source, source, WIDTH, HEIGHT, str(plain))
    with pytest.raises(MissingDependencyError, match="no such program"):
        vmaf(source, source, WIDTH, HEIGHT, str(tmp_path / "none"))


def test_vmaf_says_why_ffmpeg_failed(
    source: Path, binary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervkit.metrics.vmaf.VMAF_MODEL", "vmaf_none")
    with pytest.raises(NervError, match=r"^cannot measure VMAF: .+ reports: .+$"):
        vmaf(source, source, WIDTH, HEIGHT, binary)


# Bjøntegaard deltas

X264 = [(103.0, 31.2), (220.0, 34.1), (488.0, 37.0), (1130.0, 39.6), (2400.0, 41.7)]
X265 = [(1900.0, 41.9), (75.0, 30.9), (340.0, 36.8), (890.0, 39.9)]
INTERPOLATORS = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}


def mean_gap(method: str, anchor: np.ndarray, test: np.ndarray) -> tuple[float, float, float]:
    """The mean of test - anchor over the shared abscissae, and the ends of these; (x, y) rows."""
    curves = [INTERPOLATORS[method](*curve[curve[:, 0].argsort()].T) for curve in (anchor, test)]
    low = max(curve[:, 0].min() for curve in (anchor, test))
    high = min(curve[:, 0].max() for curve in (anchor, test))
    between = [x for x in sorted({*anchor[:, 0], *test[:, 0]}) if low < x < high]
    area, _ = quad(lambda x: float(curves[1](x) - curves[0](x)), low, high, points=between)
    return area / (high - low), low, high


@pytest.mark.parametrize("method", INTERPOLATORS)
def test_bd_rate_is_the_integral_over_quality(method: str) -> None:
    flipped = [np.array([(quality, np.log10(rate)) for rate, quality in c]) for c in (X264, X265)]
    gap, low, high = mean_gap(method, *flipped)
    bd = bd_rate(X264, X265, method)
    assert bd.value == pytest.approx(100 * (10**gap - 1), abs=1e-6)
    assert bd.interval == (low, high) == (31.2, 41.7)
    assert bd.overlap == pytest.approx((41.7 - 31.2) / (41.9 - 30.9))


@pytest.mark.parametrize("method", INTERPOLATORS)
def test_bd_psnr_is_the_integral_over_log_rate(method: str) -> None:
    logs = [np.array([(np.log10(rate), quality) for rate, quality in c]) for c in (X264, X265)]
    gap, _, _ = mean_gap(method, *logs)
    bd = bd_psnr(X264, X265, method)
    assert bd.value == pytest.approx(gap, abs=1e-8)
    assert bd.interval == (103, 1900)
    assert bd.overlap == pytest.approx(np.log(1900 / 103) / np.log(2400 / 75))


@pytest.mark.parametrize("method", INTERPOLATORS)
def test_bd_of_a_constant_factor_and_offset(method: str) -> None:
    saved = bd_rate(X264, [(0.8 * rate, quality) for rate, quality in X264], method)
    assert saved == BD(pytest.approx(-20), 1, (31.2, 41.7))
    raised = bd_psnr(X264, [(rate, quality + 1.5) for rate, quality in X264], method)
    assert raised == BD(pytest.approx(1.5), 1, (103, 2400))
    assert bd_rate(X264, X264, method).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("delta", [bd_rate, bd_psnr])
def test_bd_depends_on_no_order_and_warns_of_nothing(
    delta: Callable[..., BD], recwarn: pytest.WarningsRecorder
) -> None:
    assert delta(X264[::-1], np.array(X265)) == delta(X264, sorted(X265))
    small = delta(X264, [(2000, 41.0), (9000, 47.0), (20000, 49.0)])
    assert 0 < small.overlap < 0.1
    assert not recwarn.list


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (bd_rate, "share no quality: the anchor's is 31.2 to 41.7, the test's 41.7 to 44"),
        (bd_psnr, "share no rate: the anchor's is 103 to 2400, the test's 2400 to 5000"),
    ],
)
def test_bd_needs_an_overlap(delta: Callable[..., BD], message: str) -> None:
    with pytest.raises(NoOverlapError, match=message):
        delta(X264, [(2400, 41.7), (5000, 44)])


@pytest.mark.parametrize("delta", [bd_rate, bd_psnr])
def test_bd_needs_curves(delta: Callable[..., BD]) -> None:
    with pytest.raises(NoOverlapError, match="test curve has 1 points; it needs at least 2"):
        delta(X264, X264[:1])
    with pytest.raises(NoOverlapError, match="anchor curve has 2 points; it needs at least 3"):
        delta(X264[:2], X264, "akima")
    with pytest.raises(NoOverlapError, match="test curve does not rise: 35 at rate 200, 34 at"):
        delta(X264, [(300, 34), (200, 35), (900, 39)])
    with pytest.raises(NoOverlapError, match="anchor curve does not rise"):
        delta([(200, 35), (200, 36)], X264)
    with pytest.raises(NoOverlapError, match="anchor curve does not rise"):
        delta([(200, 35), (300, 35)], X264)
    with pytest.raises(UsageError, match="test curve has a point"):
        delta(X264, [(0, 35), (300, 36)])
    with pytest.raises(UsageError, match="test curve has a point"):
        delta(X264, [(100, 35), (300, float("nan"))])
    with pytest.raises(UsageError, match="pchip, akima, not 'cubic'"):
        delta(X264, X265, "cubic")


def test_bd_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install nervkit\[bench\]"):
        bd_rate(X264, X265)


def test_importing_the_metrics_waits_for_nothing_heavy() -> None:
    heavy = "{'torch', 'scipy', 'skimage', 'matplotlib', 'bjontegaard'}"
    modules = "nervkit.metrics, nervkit.metrics.bd, nervkit.metrics.vmaf"
    code = f"import sys, {modules}; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
