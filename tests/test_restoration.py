"""Denoise, inpaint, interpolate: input and output types, masks, filling, timing, and real clips."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, median_filter

import nervkit
from nervkit.bench.restoration.baselines import DENOISERS, NO_FIT, average
from nervkit.bench.restoration.damage import IMPULSES, add_noise, centre_box, five_boxes
from nervkit.errors import Interrupted, OutputError, UsageError
from nervkit.fitting.loop import Stepper
from nervkit.fitting.progress import Progress
from nervkit.media.timing import Timing
from nervkit.models.config import VideoShape
from nervkit.models.flow import optical_flow, warp
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig
from nervkit.models.hnerv import HNeRV, HNeRVConfig
from nervkit.models.nerv import NeRV, NeRVConfig
from nervkit.restoration.between import Interpolator
from nervkit.restoration.denoise import Denoiser
from nervkit.restoration.fill import CERTAIN, Membrane, fill_in
from nervkit.restoration.impulses import find_impulses, without_impulses
from nervkit.restoration.interpolate import _at_rate, _multiplied
from nervkit.restoration.masks import read_mask
from nervkit.restoration.motion import composed, warped_between
from nervkit.restoration.noise import white_variance
from nervkit.restoration.shrinkage import denoised
from nervkit.restoration.task import Fitted, RestoreReport
from nervkit.units import parse_rate

QUICK: dict[str, Any] = {"steps": 30, "params": 4000}
TASKS: dict[str, Callable[..., Any]] = {
    "denoise": nervkit.denoise,
    "inpaint": lambda x, *out, **k: nervkit.inpaint(x, None, *out, boxes=["4,6,8,5"], **k),
    "interpolate": lambda x, *out, **k: nervkit.interpolate(x, *out, factor=2, **k),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def video(frames: int = 6, height: int = 24, width: int = 32) -> np.ndarray:
    """(T, H, W, 3) uint8: drifting waves."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    waves = np.sin((x + 2 * t) / 7 + c) * np.cos((y - t) / 5)
    return np.rint(127 + 100 * waves).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> float:
    square = np.square(a.astype(float) - b)
    return float(
        10 * np.log10(255**2 / max(1e-9, (square if where is None else square[where]).mean()))
    )


# The same kind out


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "kind",
    ["uint8", "float64", "gray", "gray1", "tensor", "channels first", "half", "clip", "path"],
)
def test_the_same_kind_comes_out(task: str, kind: str, tmp_path: Path) -> None:
    frames = video()
    np.save(tmp_path / "in.npy", frames)
    source = {
        "uint8": lambda: frames,
        "float64": lambda: frames / 255,
        "gray": lambda: frames[..., 0],
        "gray1": lambda: frames[..., :1],
        "tensor": lambda: torch.from_numpy(frames),
        "channels first": lambda: torch.from_numpy(frames).permute(0, 3, 1, 2),
        "half": lambda: torch.from_numpy(frames).permute(0, 3, 1, 2).half() / 255,
        "clip": lambda: nervkit.read_clip(frames, fps=10),
        "path": lambda: tmp_path / "in.npy",
    }[kind]()
    made = TASKS[task](source, **QUICK)
    count = 12 if task == "interpolate" else 6
    if kind in ("clip", "path"):
        assert isinstance(made, nervkit.Clip)
        assert made.frames.shape == (count, *frames.shape[1:])
        assert len(made.timing) == count
        return
    assert type(made) is type(source)
    assert made.dtype == source.dtype
    assert tuple(made.shape) == (count, *source.shape[1:])
    assert not np.may_share_memory(np.asarray(made), np.asarray(source))
    if kind in ("float64", "half"):
        assert 0 <= float(made.min()) <= float(made.max()) <= 1


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_known_values_come_back_untouched(kind: type) -> None:
    frames = video()
    given = frames if kind is np.uint8 else (frames / 255 + 1e-4).clip(0, 1).astype(kind)
    mask = np.zeros((24, 32), bool)
    mask[5:12, 8:20] = True
    made = nervkit.inpaint(given, mask, **QUICK)
    assert np.array_equal(made[:, ~mask], given[:, ~mask])
    assert not np.array_equal(made[:, mask], given[:, mask])
    whole = nervkit.inpaint(given, mask, whole=True, **QUICK)
    assert not np.array_equal(whole[:, ~mask], given[:, ~mask])


def test_what_lies_in_a_hole_does_not_matter() -> None:
    frames, mask = video(), np.zeros((6, 24, 32), bool)
    mask[:, 5:12, 8:20] = True
    mask[3] = True
    other = np.where(mask[..., None], np.uint8(7), frames)
    first, second = (nervkit.inpaint(x, mask, **QUICK) for x in (frames, other))
    assert np.array_equal(first, second)


def test_neighbours_that_agree_are_taken_and_else_the_fit() -> None:
    frames = panning(3, step=4)
    fitted = Perfect(np.full_like(frames, 50))  # has only the mean, and misses all detail
    middle = np.stack([Interpolator(frames, fitted).at(0.5)])[:, :, 8:-8]
    truth = panning(3, step=2)[1:2, :, 8:-8]
    assert psnr(middle, truth) > psnr(frames[:1, :, 8:-8] / 2 + frames[1:2, :, 8:-8] / 2, truth) + 8

    rng = np.random.default_rng(0)
    unlike = np.stack([np.full((40, 50, 3), 20), np.full((40, 50, 3), 230)]).astype(np.uint8)
    between = rng.integers(0, 256, (3, 40, 50, 3)).astype(np.uint8)
    perfect = Perfect(np.stack([unlike[0], unlike[1]]))
    perfect.predict = lambda p: (between[2] if p % 1 else unlike[int(p)]).astype(np.float32)
    np.testing.assert_allclose(Interpolator(unlike, perfect).at(0.5), between[2], atol=0.01)


def test_frames_that_exist_are_not_interpolated() -> None:
    fine = np.random.default_rng(1).random((4, 24, 32, 3)).astype(np.float32)
    assert np.array_equal(nervkit.interpolate(fine, factor=2, **QUICK)[::2], fine)
    frames = video()
    made = nervkit.interpolate(frames, factor=3, **QUICK)
    assert np.array_equal(made[::3], frames)
    assert np.array_equal(made[-2:], frames[[-1, -1]])  # nothing follows the last one


# Masks


def test_a_mask_has_many_forms(tmp_path: Path) -> None:
    mask = np.zeros((4, 10, 14), bool)
    mask[:, 2:5, 3:9] = True
    still, moving = mask[0], mask.copy()
    moving[2, 7:, :2] = True
    (tmp_path / "masks").mkdir()
    for t, picture in enumerate(moving):
        iio.imwrite(tmp_path / "masks" / f"{t:03d}.png", picture.astype(np.uint8))  # 0 and 1
    iio.imwrite(tmp_path / "still.png", still * np.uint8(128))
    big = still.repeat(2, 0).repeat(2, 1)
    iio.imwrite(tmp_path / "big.png", big * np.uint8(255))
    shape, resize = (4, 10, 14), {"resize": "14x10"}

    def read(given: Any, boxes: tuple[str, ...] = (), **reading: Any) -> np.ndarray:
        return read_mask(given, boxes, shape, reading)

    for given in (still, still[None], torch.from_numpy(still), str(tmp_path / "still.png")):
        assert np.array_equal(read(given), mask)
    assert np.array_equal(read(tmp_path / "big.png", **resize), mask)
    half = torch.from_numpy(moving).bfloat16()
    for given in (moving, moving[:, None], moving[..., None] * 255.0, half, tmp_path / "masks"):
        assert np.array_equal(read(given), moving)
    assert np.array_equal(read(str(tmp_path / "masks" / "%03d.png")), moving)
    for given in (moving, moving.astype(np.uint8), moving * 255.0):
        np.save(tmp_path / "moving.npy", given)
        assert np.array_equal(read(tmp_path / "moving.npy"), moving)
    np.save(tmp_path / "still.npy", still)
    assert np.array_equal(read(tmp_path / "still.npy"), mask)
    assert np.array_equal(read(None, ("3,2,6,3",)), mask)
    assert np.array_equal(read(None, ("3,2,6,3", "0,7,2,9@2:3")), moving)
    whole = mask.copy()
    whole[1:3] = True
    assert np.array_equal(read(still, ("@1:3",)), whole)


def test_a_pixel_of_which_any_part_is_unknown_is_unknown(tmp_path: Path) -> None:
    mask = np.zeros((20, 28), np.uint8)
    mask[3, 5] = mask[10, 10:12] = 1
    iio.imwrite(tmp_path / "mask.png", mask)
    found = read_mask(tmp_path / "mask.png", (), (2, 10, 14), {"resize": "14x10"})
    assert np.argwhere(found[1]).tolist() == [[1, 2], [5, 5]]
    iio.imwrite(tmp_path / "mask.jpg", np.pad(np.full((8, 8), 255, np.uint8), 20), quality=60)
    lossy = read_mask(tmp_path / "mask.jpg", (), (1, 48, 48), {})
    assert lossy.sum() == pytest.approx(64, abs=6)
    assert iio.imread(tmp_path / "mask.jpg").astype(bool).sum() > 100


def test_masks_are_trimmed_with_the_video(tmp_path: Path) -> None:
    count = 40
    mask = np.zeros((count, 16, 24), bool)
    mask[np.arange(count), np.arange(count) % 16] = True
    (tmp_path / "masks").mkdir()
    for t, picture in enumerate(mask):
        iio.imwrite(tmp_path / "masks" / f"{t}.png", picture * np.uint8(255))
    np.save(tmp_path / "masks.npy", mask)
    frames = np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), np.uint8)
    clip = nervkit.read_clip(frames, fps=50)
    nervkit.encode(clip, tmp_path / "a.nerv", **QUICK)
    nervkit.decode(tmp_path / "a.nerv", tmp_path / "a.mkv", codec="ffv1")
    for part in ({"start": 0.4, "frames": "2:7"}, {"start": 0.4}, {"frames": "22:"}):
        read = nervkit.read_clip(tmp_path / "a.mkv", **part)
        first = 22 if "frames" in part else 20
        assert read.skipped == first
        for given in (tmp_path / "masks", tmp_path / "masks.npy"):
            found = read_mask(given, (), read.shape[:3], part, read.skipped)
            assert np.array_equal(found, mask[first : first + len(read.frames)])


def test_a_movie_of_masks_is_cut_at_half(tmp_path: Path, ffmpeg: Callable[..., bytes]) -> None:
    mask = np.zeros((5, 48, 64), bool)
    for t in range(5):
        mask[t, 10:30, 8 + 4 * t : 28 + 4 * t] = True
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "64x48", "-i", "-", "-crf", "20"]
    ffmpeg(*raw, tmp_path / "mask.mp4", stdin=(mask * np.uint8(255)).tobytes())
    found = read_mask(tmp_path / "mask.mp4", (), mask.shape, {})
    assert (found != mask).mean() < 0.005


@pytest.mark.parametrize(
    ("mask", "boxes", "message"),
    [
        (None, [], "give mask, or boxes such as"),
        (None, ["1,2,3"], "a box must be x,y,w,h"),
        (None, [""], "a box must be x,y,w,h"),
        (None, ["32,0,5,5"], "box 32,0,5,5 lies outside the 6 frames of 32x24"),
        (None, ["0,0,0,5"], "lies outside the 6 frames"),
        (None, ["1,1,2,2@6:8"], "lies outside the 6 frames"),
        (None, ["0,0,32,24"], "selects every pixel of every frame"),
        (np.zeros((24, 32)), [], "the mask is empty"),
        (np.ones((24, 30)), [], "the mask is 30x24, the video 6 frames of 32x24"),
        (np.ones((5, 24, 32)), [], "5 frames of 32x24"),
        (np.ones(3), [], "must be"),
        ([[True]], [], "a mask must be a path, an array or a tensor, not list"),
    ],
)
def test_a_bad_mask_is_refused(mask: Any, boxes: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.inpaint(video(), mask, boxes=boxes, **QUICK)


# Filling


def test_a_membrane_continues_a_plane_and_solves_laplace() -> None:
    y, x = np.mgrid[:20, :30]
    plane = np.stack([2 * x + 3 * y, x - y, 5 + 0 * x], axis=2).astype(np.float32)
    hole = np.zeros((20, 30), bool)
    hole[4:15, 6:22] = True
    hole[10, 25] = True
    spoiled = np.where(hole[..., None], -99, plane)
    np.testing.assert_allclose(Membrane(hole).fill(spoiled), plane, atol=1e-3)

    rng = np.random.default_rng(0)
    edge = np.zeros((20, 30), bool)
    edge[:5, 20:] = True  # in the frame's corner
    filled = Membrane(edge).fill(rng.random((20, 30, 1)))
    padded = np.pad(filled[..., 0], 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    np.testing.assert_allclose(filled[edge, 0], around[edge] / 4, atol=1e-5)


def test_pixels_are_filled_from_other_times() -> None:
    frames = np.zeros((6, 24, 32, 3), np.uint8)
    frames += (10 * np.arange(6, dtype=np.uint8))[:, None, None, None]
    unknown = np.zeros((6, 24, 32), bool)
    unknown[2:4, 11:13, 11:13] = True  # between known times
    unknown[:2, 2, 2] = True  # before the first
    unknown[4:, 13, 23] = True  # after the last
    spoiled = np.where(unknown[..., None], np.uint8(255), frames)
    filled, trust = fill_in(spoiled, unknown)
    assert np.abs(filled.astype(int) - frames).max() <= 3
    assert np.array_equal(filled[~unknown], frames[~unknown])
    assert (trust[~unknown] == CERTAIN).all()
    # What lies before the first frame that knows it and after the last gets darker or brighter.
    assert 0 < trust[0, 2, 2] < trust[1, 2, 2] < trust[2, 11, 11] < CERTAIN


def panning(frames: int = 10, step: float = 3) -> np.ndarray:
    """(T, H, W, 3) uint8: a camera that pans over a rough ground."""
    rng = np.random.default_rng(5)
    ground = gaussian_filter(rng.normal(0, 1, (64, 140, 3)), (1.5, 1.5, 0))
    ground = np.rint(127 + 40 * ground / ground.std()).clip(0, 255).astype(np.uint8)
    starts = (round(step * t) for t in range(frames))
    return np.stack([ground[:, start : start + 96] for start in starts])


def test_what_is_found_wrongly_is_not_trusted() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 48, 64, 3)).astype(np.uint8)  # nothing comes again
    unknown = np.zeros(frames.shape[:3], bool)
    for t in range(8):
        unknown[t, 16:28, 6 + 6 * t : 18 + 6 * t] = True
    filled, trust = fill_in(np.where(unknown[..., None], np.uint8(0), frames), unknown)
    assert trust[unknown].mean() < 0.5 * CERTAIN
    smooth = np.stack([Membrane(hole).fill(f) for f, hole in zip(frames, unknown, strict=True)])
    assert psnr(filled, frames, unknown) > psnr(smooth, frames, unknown) - 0.5


def test_holes_that_cover_a_frame_together_keep_its_motion() -> None:
    frames = video(6, 48, 64)
    unknown = np.zeros(frames.shape[:3], bool)
    unknown[::2, ::2] = unknown[1::2, 1::2] = True  # as interlaced fields
    filled, _ = fill_in(np.where(unknown[..., None], np.uint8(0), frames), unknown)
    still = np.where(unknown[..., None], np.roll(frames, -1, axis=0), frames)
    inner = np.zeros_like(unknown)
    inner[1:-1, 4:-4, 4:-4] = unknown[1:-1, 4:-4, 4:-4]
    assert psnr(filled, frames, inner) > psnr(still, frames, inner) + 6
    with pytest.raises(ValueError, match="around the hole"):
        Membrane(np.ones((3, 4), bool))


def test_a_hole_is_filled_along_the_motion_around_it() -> None:
    frames, unknown = panning(), np.zeros((10, 64, 96), bool)
    unknown[:, 24:36, 40:52] = True
    spoiled = np.where(unknown[..., None], np.uint8(0), frames)
    filled, trust = fill_in(spoiled, unknown)
    smooth = np.stack([Membrane(unknown[0]).fill(f) for f in spoiled])
    sure = unknown & (trust > 0.7 * CERTAIN)
    assert sure[4:6].sum() > 0.9 * unknown[4:6].sum()
    assert psnr(filled, frames, sure) > psnr(smooth, frames, sure) + 6
    still = np.repeat(spoiled[:1], 10, axis=0)
    assert (fill_in(still, unknown)[1][unknown] < 0.2 * CERTAIN).mean() > 0.9  # seen nowhere


@pytest.mark.parametrize("shape", [(64, 96), (90, 501), (300, 820)])
def test_the_motion_of_a_pan_is_found(shape: tuple[int, int]) -> None:
    height, width = shape
    rng = np.random.default_rng(0)
    ground = gaussian_filter(rng.normal(0, 1, (height + 8, width + 8, 3)), (4, 4, 0))
    ground = (127 + 40 * ground / ground.std()).clip(0, 255)
    first, second = ground[4 : 4 + height, 2 : 2 + width], ground[6 : 6 + height, 5 : 5 + width]
    flow = optical_flow(first, second)
    assert flow.shape == (2, height, width)
    inner = flow[:, 10:-10, 10:-10].reshape(2, -1)
    np.testing.assert_allclose(np.median(inner, axis=1), [-2, -3], atol=0.3)
    moved_back = warp(second, flow)
    assert psnr(moved_back[10:-10, 10:-10], first[10:-10, 10:-10]) > 30
    half = warped_between(first, second, flow, 0.5)
    expected = warp(first, np.full((2, height, width), [[[1]], [[1.5]]], np.float32))
    assert psnr(half[10:-10, 10:-10], expected[10:-10, 10:-10]) > 28


def test_a_whip_pan_is_found() -> None:
    rng = np.random.default_rng(0)
    ground = gaussian_filter(rng.normal(0, 1, (130, 260, 3)), (2, 2, 0))
    ground = (127 + 40 * ground / ground.std()).clip(0, 255)
    first, second = ground[:120, :200], ground[7:127, 41:241]
    inner = optical_flow(first, second)[:, 20:-20, 60:-20].reshape(2, -1)
    np.testing.assert_allclose(np.median(inner, axis=1), [-7, -41], atol=0.3)
    assert (np.abs(inner - [[-7], [-41]]) < 1).mean() > 0.9


def test_a_large_thing_that_moves_is_no_pan() -> None:
    rng = np.random.default_rng(0)
    ground, thing = (gaussian_filter(rng.normal(0, 60, (120, 200, 3)), (2, 2, 0)) for _ in "ab")
    first, second = 127 + 3 * ground, 127 + 3 * ground
    first[30:100, 40:150] = 127 + 6 * thing[30:100, 40:150]
    second[30:100, 46:156] = 127 + 6 * thing[30:100, 40:150]
    flow = optical_flow(first, second)
    assert np.abs(np.median(flow[:, :20].reshape(2, -1), axis=1)).max() < 0.5
    assert np.median(flow[1, 45:85, 60:130]) == pytest.approx(6, abs=0.5)


def test_flows_are_joined() -> None:
    shape = (2, 12, 16)
    first, second = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    first[1] = 3
    second[0] = np.arange(16)
    both = composed(first, second)
    np.testing.assert_allclose(both[1], 3)
    np.testing.assert_allclose(both[0, :, :10], np.tile(np.arange(3, 13), (12, 1)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 1300), (1, 40)])
@pytest.mark.parametrize("task", TASKS)
def test_the_smallest_frames_are_repaired_too(task: str, shape: tuple[int, int]) -> None:
    frames = np.full((4, *shape, 3), 90, np.uint8)
    if task == "inpaint":
        made = nervkit.inpaint(frames, boxes=["@1:2", "@3:"], steps=2)
    else:
        made = TASKS[task](frames, steps=2)
    assert made.shape[1:] == frames.shape[1:]


def test_frames_are_moved_by_whole_pixels_exactly() -> None:
    frame = video(1)[0]
    flow = np.zeros((2, 24, 32), np.float32)
    flow[0], flow[1] = 2, -3
    expected = frame[np.minimum(np.arange(24) + 2, 23)][:, np.maximum(np.arange(32) - 3, 0)]
    np.testing.assert_allclose(warp(frame, flow), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (GridNeRV, GridNeRVConfig(strides=(2, 4), widths=(10, 8), depths=(1, 1))),
        (HNeRV, HNeRVConfig(strides=(4, 2), width=12)),
        (NeRV, NeRVConfig(strides=(2, 2), stem_width=16, grid_channels=4, min_width=8)),
    ],
)
@pytest.mark.parametrize("weights", ["half", "none"])
def test_unknown_values_pull_at_nothing(model: Any, config: Any, weights: str) -> None:
    """Their content does not change a step."""
    frames = torch.from_numpy(video(4, 22, 30)).permute(0, 3, 1, 2)
    known = torch.full((4, 1, 22, 30), 255, dtype=torch.uint8)
    known[:, :, 4:12, 9:20] = 0
    if weights == "none":
        known[1] = 0
    spoiled = torch.where(known == 0, 255 - frames, frames)
    results = []
    for given in (frames, spoiled):
        torch.manual_seed(0)
        network = model(config, VideoShape(4, 22, 30))
        stepper = Stepper(network, given, model.recipes["native"], known=known, precision="float32")
        if model is HNeRV:  # its encoder sees the frames: the loss alone is of interest
            stepper.model.fit_forward = lambda t, f, n=network: n.decode(
                n.encode(frames[:2] / 255), t
            )
        for k in range(3):
            stepper.step(k, 3)
        results.append([p.detach().clone() for p in network.parameters()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


# Noise


@pytest.mark.parametrize("kind", IMPULSES)
def test_impulses_hit_their_share_of_pixels(kind: str) -> None:
    clean = np.full((20, 60, 80, 3), 90, np.uint8)
    noisy = add_noise(clean, kind, 0.05, seed=3)
    hit = (noisy != clean).any(axis=3)
    assert hit.mean() == pytest.approx(0.05, abs=0.004)
    values = np.unique(noisy[hit])
    expected = {"white": [255], "black": [0], "salt-pepper": [0, 255]}.get(kind)
    assert expected is None or values.tolist() == expected
    assert kind != "random" or len(values) > 200
    assert np.array_equal(noisy, add_noise(clean, kind, 0.05, seed=3))
    assert not np.array_equal(noisy, add_noise(clean, kind, 0.05, seed=4))


def test_gaussian_noise_has_its_deviation() -> None:
    clean = np.full((4, 100, 100, 3), 127, np.uint8)
    noise = add_noise(clean, "gaussian", 25).astype(float) - 127
    assert noise.std() == pytest.approx(25, rel=0.01)
    assert abs(noise.mean()) < 0.3
    assert abs((noise[..., 0] * noise[..., 1]).mean()) < 10  # each sample by itself


def test_the_papers_masks() -> None:
    boxes = five_boxes(640, 1280)
    assert boxes.sum() == 5 * 50 * 50
    assert boxes[320 - 25 : 320 + 25, 640 - 25 : 640 + 25].all()
    assert boxes[160 - 25 : 160 + 25, 320 - 25 : 320 + 25].all()
    centre = centre_box(640, 1280)
    assert centre.sum() == 160 * 320
    assert centre[240:400, 480:800].all()


@pytest.mark.parametrize("sigma", [2.0, 10.0, 40.0])
def test_the_noise_of_a_residual_is_found_among_its_detail(sigma: float) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, sigma, (3, 80, 100))
    smooth = video(3, 80, 100)[..., 0].astype(float) - 127
    for plane in noise + smooth:
        assert np.sqrt(white_variance(plane.astype(np.float32))) == pytest.approx(sigma, rel=0.12)


class Perfect(Fitted):
    """A fit that has found the clean frames."""

    def __init__(self, clean: np.ndarray) -> None:
        self.clean = clean

    def predict(self, place: float) -> np.ndarray:
        return self.clean[int(place)].astype(np.float32)


def test_white_noise_around_a_good_fit_is_taken_away() -> None:
    clean = video(5, 60, 80)
    denoiser = Denoiser(add_noise(clean, "gaussian", 25), Perfect(clean))
    made = np.stack(list(denoiser.frames()))
    assert psnr(made, clean) > 37
    assert denoiser.details()["noise_deviation"] == pytest.approx(25, rel=0.1)
    assert denoiser.details()["impulse_share"] < 1e-3


def test_detail_that_a_fit_misses_is_kept_where_there_is_no_noise() -> None:
    clean = video(5, 60, 80)
    coarse = np.full_like(clean, 127)
    made = np.stack(list(Denoiser(clean, Perfect(coarse)).frames()))
    assert psnr(made, clean) > 40


@pytest.mark.parametrize("kind", IMPULSES)
def test_impulses_are_found_and_other_pixels_kept(kind: str) -> None:
    clean = video(5, 60, 80)
    noisy = add_noise(clean, kind, 0.01)
    denoiser = Denoiser(noisy, Perfect(clean // 2 + 60))  # a fit that is off by up to 60
    made = np.stack(list(denoiser.frames()))
    assert psnr(made, clean) > psnr(noisy, clean) + 8
    assert psnr(made, clean, (noisy == clean).all(axis=3)) > 40
    assert denoiser.details()["impulse_share"] == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize(("density", "share"), [(0.05, 0.97), (0.1, 0.99), (0.2, 0.99)])
def test_impulses_that_hide_each_other_are_found(
    density: float, share: float, city: np.ndarray
) -> None:
    noisy = add_noise(city[:3], "salt-pepper", density)
    changed = (noisy != city[:3]).any(axis=3)
    coarse = gaussian_filter(without_impulses(noisy).astype(np.float32), (0, 1.5, 1.5, 0))
    hits = np.stack([find_impulses(noisy[t] - coarse[t], noisy, t)[0] for t in range(3)])
    assert hits[changed].mean() > share
    assert hits[~changed].mean() < 0.6 * density
    made = np.stack(list(Denoiser(noisy, Perfect(coarse)).frames()))
    median = median_filter(noisy, (3, 3, 3, 1))
    assert psnr(made, city[:3]) > psnr(median, city[:3]) + 2


def test_a_fit_sees_no_impulses() -> None:
    clean = video(4, 60, 80)
    noisy = add_noise(clean, "white", 0.1)
    calm = without_impulses(noisy)
    assert psnr(calm, clean) > psnr(noisy, clean) + 20
    assert (calm == noisy).mean() > 0.8


def drawn(kind: str, speed: int) -> np.ndarray:
    """(7, 60, 90, 3) uint8: fine detail that moves by `speed` pixels a frame."""
    frames = np.full((7, 60, 90, 3), 60, np.uint8)
    for t, frame in enumerate(frames):
        if kind == "lines":
            frame[:, (speed * t) % 4 :: 4] = 85
        elif kind == "one line":
            frame[:, 20 + speed * t] = 85
        else:
            frame[20:40, 20 + speed * t : 50 + speed * t] = 120
    return frames


@pytest.mark.parametrize("speed", [0, 1, 3])
@pytest.mark.parametrize("kind", ["lines", "one line", "box"])
def test_fine_detail_is_not_taken_for_impulses(kind: str, speed: int) -> None:
    frames = drawn(kind, speed)
    if (kind, speed) != ("one line", 3):  # too fast: it has two neighbours only
        assert np.array_equal(without_impulses(frames), frames)
    noisy = frames.copy()
    noisy[3, 10, 71] = 255
    assert (without_impulses(noisy)[3, 10, 71] < 90).all()


def test_few_pixels_of_a_clean_clip_are_taken_for_impulses(city: np.ndarray) -> None:
    assert (without_impulses(city) != city).any(axis=3).mean() < 0.002


def test_detail_that_stays_is_not_taken_for_noise(city: np.ndarray) -> None:
    still = np.repeat(city[:1], 5, axis=0)
    denoiser = Denoiser(still, Perfect(gaussian_filter(still, (0, 2, 2, 0))))
    made = np.stack(list(denoiser.frames()))
    assert denoiser.details()["noise_deviation"] < 0.5
    assert psnr(made, still) > 50
    noisy = add_noise(still, "gaussian", 10)
    denoiser = Denoiser(noisy, Perfect(gaussian_filter(still, (0, 2, 2, 0))))
    list(denoiser.frames())
    assert denoiser.details()["noise_deviation"] == pytest.approx(10, rel=0.1)


def test_each_frame_is_asked_for_once() -> None:
    asked: list[float] = []

    class Asked(Perfect):
        def predict(self, place: float) -> np.ndarray:
            asked.append(place)
            return super().predict(place)

    clean = video(9, 20, 30)
    list(Denoiser(clean, Asked(clean)).frames())
    assert sorted(asked) == list(range(9))


def test_a_cut_does_no_harm() -> None:
    clean = np.concatenate([video(4, 60, 80), 255 - video(4, 60, 80)[:, ::-1, ::-1]])
    noisy = add_noise(clean, "gaussian", 20)
    guess = Perfect(np.full_like(clean, 127))
    beside = list(Denoiser(noisy, guess).frames())[4]
    alone = next(Denoiser(noisy[4:5], guess).frames())
    assert psnr(beside, clean[4]) > psnr(alone, clean[4])


def test_other_frames_help_along_their_motion() -> None:
    still = np.random.default_rng(1).integers(0, 256, (20, 60, 3), np.uint8)
    scene = np.kron(still, np.ones((6, 6, 1), np.uint8)).astype(np.uint8)
    pan = np.stack([scene[10:100, 9 * t : 9 * t + 140] for t in range(5)])
    noisy = add_noise(pan, "gaussian", 20)
    together = list(Denoiser(noisy, Perfect(np.full_like(pan, 127))).frames())[2]
    alone = next(Denoiser(noisy[2:3], Perfect(np.full_like(pan, 127))).frames())
    assert psnr(together, pan[2]) > psnr(alone, pan[2]) + 1.5


def test_shrinking_leaves_frames_without_noise_alone() -> None:
    frames = video(3, 31, 42)[..., 0].astype(np.float32)
    for which in range(3):
        made = denoised(frames, None, torch.zeros(1, 1, 1), which)
        np.testing.assert_allclose(made, frames[which], atol=0.01)


def test_shrinking_adds_up_what_frames_share() -> None:
    rng = np.random.default_rng(0)
    scene = np.repeat(video(1, 64, 64).astype(np.float32), 5, axis=0)
    noisy = scene + rng.normal(0, 20, scene.shape).astype(np.float32)
    noise = torch.full((1, 1, 1), 400.0)
    for which in (0, 3):
        left = [
            np.mean(
                [
                    np.square(denoised(x[..., c], None, noise, y) - scene[0, ..., c]).mean()
                    for c in range(3)
                ]
            )
            for x, y in ((noisy[which : which + 1], 0), (noisy, which))
        ]
        assert left[1] < left[0] / 2 < 200 / 2


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_are_cleaned_too(frames: int) -> None:
    clean = video(frames, 40, 50)
    made = list(Denoiser(add_noise(clean, "gaussian", 20), Perfect(clean)).frames())
    assert len(made) == frames
    assert psnr(np.stack(made), clean) > 34


# Timing


def test_a_factor_divides_every_frames_time() -> None:
    timing = Timing(np.array([5, 9, 15]), Fraction(1, 100), 8)
    dense, places = _multiplied(timing, 2)
    assert [int(p) * dense.time_base for p in dense.pts] == [
        Fraction(x, 100) for x in (5, 7, 9, 12, 15, 19)
    ]
    assert dense.seconds == timing.seconds
    assert places.tolist() == [0, 0.5, 1, 1.5, 2, 2]


@pytest.mark.parametrize(("fps", "count"), [("60", 30), ("30000/1001", 15), (100, 50)])
def test_a_rate_is_laid_over_the_same_time(fps: Any, count: int) -> None:
    clip = nervkit.Clip(video(10), Timing(np.arange(10) * 512, Fraction(1, 10240), 512))
    dense, places = _at_rate(clip.timing, parse_rate(fps))
    assert dense.constant
    assert dense.fps == Fraction(fps)
    assert len(dense) == count
    seconds = np.arange(count) / float(Fraction(fps))
    np.testing.assert_allclose(places, np.minimum(seconds * 20, 9), atol=1e-6)
    if fps == 100:
        assert places[::5].tolist() == list(range(10))


def test_units_of_time_fit_into_any_container() -> None:
    clip = nervkit.Clip(video(4), Timing(126_011 + np.arange(4) * 3003, Fraction(1, 90_000), 3003))
    dense, _ = _at_rate(clip.timing, parse_rate("59.94006"))
    assert dense.time_base.denominator < 1 << 31
    assert abs(dense.seconds[0] - Fraction(126_011, 90_000)) < Fraction(1, 50_000)


def test_a_rate_may_begin_late() -> None:
    clip = nervkit.Clip(video(4), Timing(np.arange(4) * 40 + 7, Fraction(1, 1000), 40))
    dense, places = _at_rate(clip.timing, parse_rate(50))
    assert dense.seconds[0] == Fraction(7, 1000)
    assert dense.fps == 50
    np.testing.assert_allclose(places, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either factor or fps"),
        ({"factor": 2, "fps": 60}, "give either factor or fps"),
        ({"factor": 1}, "factor must be an integer, 2 or more"),
        ({"factor": 2.5}, "factor must be an integer, 2 or more"),
        ({"fps": 25}, "above the source's 25"),
        ({"fps": "fast"}, "positive number"),
        ({"fps": 1e9}, "up to 100000"),
        ({"factor": 1_000_000}, "6,000,000 frames; at most"),
    ],
)
def test_bad_rates_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.interpolate(video(), **options, **QUICK)


@pytest.mark.parametrize("model", ["gridnerv", "hnerv", "nerv"])
def test_a_fitted_file_is_interpolated_without_a_fit(model: str, tmp_path: Path) -> None:
    path = tmp_path / "in.nerv"
    nervkit.encode(video(), path, model=model, steps=20)
    with nervkit.open(path) as stored:
        made = nervkit.interpolate(str(path), factor=2)
        assert np.array_equal(made.frames[::2], stored[:])
        fitted = Fitted(stored.model, model)
        expected = Interpolator(stored[:], fitted).at(1.5)
        assert np.abs(made.frames[3] - expected.clip(0, 255)).max() <= 0.501
    report = nervkit.interpolate(path, tmp_path / "out.mkv", fps=60)
    assert (report.steps, report.model) == (0, model)

    for option in ({"steps": 5}, {"resize": "16x12"}, {"params": 5000}):
        with pytest.raises(UsageError, match=f"{next(iter(option))} does not apply"):
            nervkit.interpolate(path, factor=2, **option)


def test_a_fitted_file_may_be_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.nerv"
    nervkit.encode(video(), path, model="hnerv", steps=5)
    expected = nervkit.interpolate(path, factor=2)
    assert len(expected.frames) == 12
    data = path.read_bytes()
    with path.open("rb") as file, nervkit.open(data) as opened:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file, opened):
            made = nervkit.interpolate(source, factor=2)
            assert np.array_equal(made.frames, expected.frames)
            assert made.timing == expected.timing
    with pytest.raises(UsageError, match="these bytes: source_fps does not apply"):
        nervkit.interpolate(data, factor=2, source_fps=10)


# Outputs


@pytest.mark.parametrize("task", TASKS)
def test_sound_and_times_are_kept(task: str, clips: Path, tmp_path: Path) -> None:
    source = clips / "robust" / "moviepy_fire2.mp4"  # variable rate, rotated, with sound
    options = {"resize": "64x36", "frames": ":12", "steps": 5}
    output = tmp_path / "out.mkv"
    report = TASKS[task](source, output, **options)
    assert isinstance(report, RestoreReport)
    before = nervkit.read_clip(source, resize="64x36", frames=":12")
    after = nervkit.read_clip(output)
    assert report.frames == len(after.frames)
    assert [track.codec for track in after.audio] == [track.codec for track in before.audio]
    step = 2 if task == "interpolate" else 1
    times = [float(p * after.time_base) for p in after.pts[::step]]
    np.testing.assert_allclose(times, [float(p * before.time_base) for p in before.pts], atol=2e-3)
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_stopped_restoration_goes_on_to_the_same_end(tmp_path: Path) -> None:
    frames, output = video(), tmp_path / "out.npy"
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        nervkit.denoise(frames, output, stop=lambda: next(calls) >= 10, **QUICK)
    assert not output.exists()
    assert (tmp_path / "out.npy.checkpoint").exists()
    resumed = nervkit.denoise(frames, output, **QUICK)
    assert resumed.steps == 30
    assert np.array_equal(np.load(output), nervkit.denoise(frames, **QUICK))
    with pytest.raises(OutputError, match="exists already"):
        nervkit.denoise(frames, output, **QUICK)


def test_a_search_is_followed_and_may_be_stopped(tmp_path: Path) -> None:
    parts: list[tuple[int, int]] = []
    nervkit.inpaint(video(), boxes=["4,6,8,5@1:4"], on_search=lambda *p: parts.append(p), **QUICK)
    assert parts == [(k + 1, 13) for k in range(13)]  # ten flows, three frames
    nervkit.denoise(video(), on_search=lambda *p: parts.append(p), **QUICK)
    assert parts[13:] == [(k + 1, 6) for k in range(6)]
    parts = parts[:13]

    def stopped() -> bool:
        return len(parts) >= 15

    with pytest.raises(Interrupted, match="before the fit"):
        nervkit.inpaint(
            *(video(), None, tmp_path / "a.npy"),
            boxes=["4,6,8,5"],
            on_search=lambda *p: parts.append(p),
            stop=stopped,
            **QUICK,
        )
    assert len(parts) == 15
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        ("denoise", {"fit": False}, [("denoise", 6)]),
        ("denoise", QUICK, [("search", 6), ("fit", 30), ("denoise", 6)]),
        ("inpaint", {"fit": False}, [("search", 16), ("inpaint", 6)]),
        ("interpolate", {}, [("interpolate", 12)]),
    ],
)
@pytest.mark.parametrize("written", [False, True])
def test_progress_is_reported_with_and_without_a_fit(
    task: str, options: dict[str, Any], expected: list[Any], written: bool, tmp_path: Path
) -> None:
    """Each phase ends with its last step. The parts of a search and frames come one by one."""
    reports: list[Progress] = []
    output = [tmp_path / "out.npy"] if written else []
    TASKS[task](video(), *output, on_progress=reports.append, **options)
    phases = [(phase, [p for p in reports if p.phase == phase]) for phase, _ in expected]
    assert [p for _, of in phases for p in of] == reports
    assert [(phase, of[-1].steps) for phase, of in phases] == expected
    for phase, of in phases:
        assert of[-1].step == of[-1].steps
        assert of[-1].seconds_left == 0
        if phase != "fit":
            assert [p.step for p in of] == list(range(1, of[-1].steps + 1))


def test_another_masks_checkpoint_is_refused(tmp_path: Path) -> None:
    frames, output = video(), tmp_path / "out.npy"
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        nervkit.inpaint(
            frames, None, output, boxes=["1,1,5,5"], stop=lambda: next(calls) >= 22, **QUICK
        )
    with pytest.raises(nervkit.NervError, match="a checkpoint of another"):
        nervkit.inpaint(frames, None, output, boxes=["1,1,6,5"], **QUICK)


def test_a_clip_is_taken_as_it_is(tmp_path: Path) -> None:
    clip = nervkit.read_clip(video())
    with pytest.raises(UsageError, match="crop does not apply to a Clip"):
        nervkit.denoise(clip, crop="16x16", **QUICK)
    with pytest.raises(UsageError, match="start does not apply"):
        nervkit.encode(clip, tmp_path / "a.nerv", start=1, **QUICK)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="no option 'strength'"):
        nervkit.denoise(video(), strength=3)


# Real clips


@pytest.fixture(scope="module")
def city(request: pytest.FixtureRequest) -> np.ndarray:
    clips = request.getfixturevalue("clips")
    clip = nervkit.read_clip(clips / "vid4_city", fps=30, frames=":12", resize="176x144")
    return clip.frames


def test_a_real_clip_loses_its_noise(city: np.ndarray) -> None:
    noisy = add_noise(city, "gaussian", 25)
    made = nervkit.denoise(noisy, steps=150)
    classical = [method for name, method in DENOISERS.items() if name != NO_FIT]
    assert psnr(made, city) > max(psnr(method(noisy), city) for method in classical) + 2


def test_a_real_clip_is_interpolated_along_its_motion(clips: Path) -> None:
    frames = nervkit.read_clip(
        clips / "davis" / "blackswan" / "frames", fps=25, frames=":11", resize="214x120"
    ).frames
    made = nervkit.interpolate(frames[::2], factor=2, steps=60)[1:10:2]
    assert psnr(made, frames[1::2]) > psnr(average(frames[::2]), frames[1::2]) + 5


def test_a_real_clip_gets_its_holes_filled(city: np.ndarray) -> None:
    hole = centre_box(*city.shape[1:3])
    masked = np.where(hole[..., None], np.uint8(0), city)
    made = nervkit.inpaint(masked, hole, steps=100)
    where = np.broadcast_to(hole, city.shape[:3])
    assert psnr(made, city, where) > psnr(masked, city, where) + 8


def test_a_missing_frame_has_its_time() -> None:
    x = np.arange(96)[None, None, :, None]
    at = np.array([0, 1, 2, 6])[:, None, None, None]  # when each frame is shown
    shape = (4, 48, 96, 3)
    frames = np.broadcast_to(127 + 100 * np.sin((x - 1.5 * at) / 8), shape).round()
    clip = nervkit.Clip(
        frames.astype(np.uint8), Timing(at.ravel().astype(np.int64), Fraction(1, 10), 1)
    )
    made = nervkit.inpaint(clip, boxes=["@2:3"], steps=60, params=20_000).frames[2]
    # At a quarter of the way from 1 to 6, and not halfway.
    halfway = 127 + 100 * np.sin((x - 1.5 * 3.5) / 8)[0]
    error = np.abs(made - frames[2])[:, 10:-10].mean()
    assert error < 0.5 * np.abs(halfway - frames[2])[:, 10:-10].mean()


def test_missing_frames_lie_between_their_neighbours(city: np.ndarray) -> None:
    made = nervkit.inpaint(city, boxes=["@5:6"], steps=100)
    nearest = min(psnr(city[5], city[t]) for t in (4, 6))
    assert psnr(made[5], city[5]) > nearest + 1
