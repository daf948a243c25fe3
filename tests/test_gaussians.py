"""Gaussians: rasteriser, motion, initialization of a fit, and uses of a file."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.integrate import solve_ivp
from scipy.interpolate import BSpline
from torch import Tensor

import nervkit
from nervkit.errors import OutputError, UsageError
from nervkit.fitting.loop import Stepper, fit
from nervkit.media.timing import Timing
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.gaussians import RIGIDITY, Gaussians, GaussiansConfig, quantiles
from nervkit.models.motion import Camera, similarity_of, spline_basis
from nervkit.models.sizing import TooFewParametersError
from nervkit.models.splatting import FLOOR, conics, splat
from nervkit.renderer import paced

from .command import run_nervkit as run

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = VideoShape(5, 48, 64)


def one_gaussian(
    centre: tuple[float, float], sigmas: tuple[float, float], angle: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Centre (1, 1, 2) and conic of a Gaussian, in float64."""
    double = {"dtype": torch.float64}
    conic = conics(torch.tensor([[sigmas]], **double), torch.tensor([[angle]], **double))
    return torch.tensor([[centre]], **double), conic


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(3, height, width) in [0, 1]: blobs a few pixels wide, in all directions."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, height // 4, width // 4, generator=generator)
    return F.interpolate(noise, (height, width), mode="bicubic")[0].clamp(0, 1)


def panned(step: tuple[int, int], frames: int = 5) -> Tensor:
    """(frames, 3, 48, 64) uint8: a still whose content moves by `step` (x, y) a frame."""
    x, y = step
    whole = picture(48 + 4 * frames * abs(y), 64 + 4 * frames * abs(x))
    top, left = 2 * frames * abs(y), 2 * frames * abs(x)
    views = [
        whole[:, top - y * t : top - y * t + 48, left - x * t : left - x * t + 64]
        for t in range(frames)
    ]
    return torch.stack(views).mul(255).round().byte()


def turned(angle: float, frames: int = 5) -> Tensor:
    """(frames, 3, 48, 64) uint8: a still that rotates by `angle` a frame about the middle, x
    towards y."""
    whole = picture(96, 128)[None]
    y, x = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(64) - 31.5, indexing="ij")
    views = []
    for t in range(frames):
        c, s = math.cos(angle * t), math.sin(angle * t)
        places = torch.stack([(c * x + s * y) / 64, (c * y - s * x) / 48], -1)
        views.append(F.grid_sample(whole, places[None], align_corners=False)[0])
    return torch.stack(views).mul(255).round().byte()


def started(frames: Tensor, parameters: int = 12_000) -> Gaussians:
    """A model initialized from a clip, not fitted."""
    shape = VideoShape(len(frames), *frames.shape[2:])
    torch.manual_seed(0)
    model = Gaussians(Gaussians.configure(shape, parameters), shape)
    model.start_fit(frames)
    return model


@pytest.fixture(scope="module")
def pan() -> Gaussians:
    """A model after some steps of fitting to content that moves by (3, -1) a frame."""
    frames = panned((3, -1))
    model = started(frames)
    fit(Stepper(model, frames, Gaussians.recipes["native"]), 30)
    return model


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of that content."""
    path = tmp_path_factory.mktemp("gaussians") / "pan.nerv"
    frames = panned((3, -1)).permute(0, 2, 3, 1).numpy()
    nervkit.encode(frames, path, model="gaussians", params=12_000, steps=30, device="cpu")
    return path


# The rasteriser


def test_one_gaussian_is_its_closed_form() -> None:
    centre, sigmas, angle = (20.3, 11.8), (3.0, 1.2), 0.7
    colour = torch.tensor([[0.5, -0.25, 1.0]]).double()
    shown = splat(*one_gaussian(centre, sigmas, angle), colour, 9.0, (24, 40), (24, 40))
    y, x = np.mgrid[:24, :40] + 0.5
    dx, dy = x - centre[0], y - centre[1]
    along = math.cos(angle) * dx + math.sin(angle) * dy
    across = math.cos(angle) * dy - math.sin(angle) * dx
    weight = np.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))
    weight = np.maximum(weight - math.exp(-4.5), 0) / (1 - math.exp(-4.5))
    expected = colour[0].numpy()[:, None, None] * weight
    np.testing.assert_allclose(shown[0].numpy(), expected, atol=1e-12)
    assert math.exp(-4.5) == FLOOR


def test_a_grid_of_another_density_samples_the_same_field() -> None:
    gaussian = one_gaussian((20.3, 11.8), (3.0, 1.2), 0.7)
    colour = torch.ones(1, 1).double()
    plain = splat(*gaussian, colour, 9.0, (24, 40), (24, 40))
    triple = splat(*gaussian, colour, 9.0, (72, 120), (24, 40))
    torch.testing.assert_close(triple[..., 1::3, 1::3], plain, atol=1e-12, rtol=0)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(3)
    centres = (torch.rand(2, 4, 2).double() * 12).requires_grad_()
    sigmas = (torch.rand(2, 4, 2).double() + 0.7).requires_grad_()
    angles = torch.rand(2, 4).double().requires_grad_()
    colours = torch.randn(4, 3).double().requires_grad_()

    def shown(centres: Tensor, sigmas: Tensor, angles: Tensor, colours: Tensor) -> Tensor:
        return splat(centres, conics(sigmas, angles), colours, 5.1, (9, 12), (9, 12)).square()

    assert torch.autograd.gradcheck(shown, (centres, sigmas, angles, colours))


@pytest.mark.parametrize("x", [-30.0, -9.02, -0.01, 0.0, 19.999, 29.0, 400.0])
def test_a_window_holds_a_gaussian_wherever_it_is(x: float) -> None:
    """A larger window adds nothing, and a step across a cell border changes little."""
    colour = torch.ones(1, 1).double()
    sigmas = (3.0, 2.9)
    narrow, wide, beside = (
        splat(*one_gaussian((place, 7.5), sigmas, 0.4), colour, reach, (16, 20), (16, 20))
        for place, reach in ((x, 9.0), (x, 30.0), (x + 1e-4, 9.0))
    )
    torch.testing.assert_close(narrow, wide, atol=1e-12, rtol=0)
    assert (narrow - beside).abs().max() < 1e-3
    assert (narrow.max() > 0) == (-9 < x < 29)


def test_the_order_of_gaussians_does_not_matter() -> None:
    torch.manual_seed(0)
    centres, colours = torch.rand(1, 50, 2) * 30, torch.randn(50, 3)
    sigmas, angles = torch.rand(1, 50, 2) + 0.5, torch.rand(1, 50)
    order = torch.randperm(50)
    one = splat(centres, conics(sigmas, angles), colours, 4.5, (30, 30), (30, 30))
    other = splat(
        centres[:, order],
        conics(sigmas[:, order], angles[:, order]),
        colours[order],
        4.5,
        (30, 30),
        (30, 30),
    )
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


# Motion


def test_splines_are_those_of_scipy() -> None:
    t = torch.tensor([0.0, 0.3, 4.0, 5.5, 9.999, 10.0]).double()
    knots = np.concatenate([[0] * 3, np.arange(6), [5] * 3])
    expected = BSpline.design_matrix(t.numpy() / 2, knots, 3).toarray()
    np.testing.assert_allclose(spline_basis(t, 11, 8).numpy(), expected, atol=1e-12)
    inner = spline_basis(torch.tensor([6.0]).double(), 13, 9)  # at a knot far from the ends
    np.testing.assert_allclose(inner[0, 3:6], [1 / 6, 4 / 6, 1 / 6], atol=1e-12)


def test_the_camera_solves_its_equation() -> None:
    torch.manual_seed(0)
    camera = Camera(9, 48, 64, 16).double()
    torch.nn.init.normal_(camera.pose.weight)
    torch.nn.init.normal_(camera.start)
    with torch.no_grad():

        def slope(tau: float, h: np.ndarray) -> np.ndarray:
            x = torch.cat([torch.from_numpy(h), torch.tensor([tau]).double()])
            return camera.outer(torch.tanh(camera.inner(x))).numpy()

        times = np.array([0.0, 2.5, 8.0])
        solved = solve_ivp(slope, (0, 1), camera.start.numpy(), t_eval=times / 8, rtol=1e-10)
        expected = camera.pose(torch.from_numpy(solved.y.T))
        torch.testing.assert_close(camera(torch.from_numpy(times)), expected, atol=1e-4, rtol=0)


def test_what_the_camera_shows_comes_from_where_it_says() -> None:
    camera = Camera(5, 48, 64, 8).double()
    poses = torch.tensor([[0.1, -0.2, 0.3, 0.5], [0.0, 0.0, 0.0, math.pi / 2]]).double()
    points = torch.rand(2, 7, 2).double() * 60
    back = camera.to_scene(poses, camera.to_screen(poses, points))
    torch.testing.assert_close(back, points)
    # A quarter of a turn about the centre (32, 24), x towards y.
    shown = camera.to_screen(poses[1:], torch.tensor([[[42.0, 24.0]]]).double())
    torch.testing.assert_close(shown, torch.tensor([[[32.0, 34.0]]]).double())


def test_a_similarity_is_found_among_outliers() -> None:
    a, b = complex(1.02, 0.03), complex(-2.0, 1.5)
    y, x = np.mgrid[:40, :60] + 0.5
    moved = a * (x + 1j * y) + b
    flow = torch.from_numpy(np.stack([moved.real - x, moved.imag - y])).float()
    flow[:, 5:25, 10:40] += 6.0  # a quarter goes its own way
    found = [complex(part) for part in similarity_of(flow)]
    assert abs(found[0] - a) < 1e-3
    assert abs(found[1] - b) < 0.05


def test_a_pan_is_the_cameras(pan: Gaussians) -> None:
    with torch.no_grad():
        ends = torch.tensor([0.0, 4.0])
        poses = pan.camera(ends)
        shift = 48 * (poses[1] - poses[0])[:2]
        own = pan.scene_places(0, ends)
    assert torch.dist(shift, torch.tensor([12.0, -4.0])) < 0.1 * math.hypot(12, 4)
    assert (own[1] - own[0]).norm(dim=-1).mean() < 0.1 * math.hypot(12, 4)


# The model


@pytest.mark.parametrize("shape", [SHAPE, VideoShape(1, 9, 7), VideoShape(3, 33, 130)])
def test_sizes_are_as_asked(shape: VideoShape) -> None:
    config = Gaussians.configure(shape, 6_000)
    count = count_stored(Gaussians.skeleton(config, shape))
    assert count <= 6_000
    if config.rows < shape.height:
        aspect = shape.width / shape.height
        more = Gaussians.configure(shape, rows=config.rows + 1)
        assert more.columns == round((config.rows + 1) * aspect)
        assert count_stored(Gaussians.skeleton(more, shape)) > 6_000
    with pytest.raises(TooFewParametersError):
        Gaussians.configure(shape, 100)


def test_values_are_counted_exactly() -> None:
    config = GaussiansConfig(
        rows=6, columns=9, levels=2, knots=5, shape_degree=2, camera_width=4, background=(2, 3)
    )
    gaussians = 6 * 9 + 3 * 5
    camera = 8 + (9 * 4 + 4) + (4 * 8 + 8) + (8 * 4 + 4)
    expected = gaussians * (2 + 2 * 5 + 3 * 3 + 3) + 3 * 2 * 3 + camera
    assert count_stored(Gaussians.skeleton(config, SHAPE)) == expected


def test_twice_the_size_averages_to_the_size() -> None:
    torch.manual_seed(0)
    model = Gaussians(Gaussians.configure(SHAPE, 12_000), SHAPE)
    with torch.no_grad():
        for colours in model.colours:
            colours.normal_(std=0.1)
        model.background.fill_(0.5)
        t = torch.tensor([1.5])
        plain, double = model(t), model.render(t, (96, 128))
    assert double.shape == (1, 3, 96, 128)
    assert plain.std() > 0.05
    assert (F.avg_pool2d(double, 2) - plain).abs().mean() < 0.01


def test_autocast_does_not_blur_places(pan: Gaussians) -> None:
    with torch.no_grad():
        exact = pan(torch.tensor([2.0]))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(pan(torch.tensor([2.0])), exact)


def test_shares_of_a_histogram() -> None:
    edges = quantiles(torch.tensor([1.0, 0.0, 3.0]), 4)
    torch.testing.assert_close(edges, torch.tensor([0.0, 1.0, 2 + 1 / 3, 2 + 2 / 3, 3.0]))
    torch.testing.assert_close(quantiles(torch.zeros(4), 2), torch.tensor([0.0, 2.0, 4.0]))


def test_a_start_shows_more_than_the_background() -> None:
    frames = panned((3, -1))
    model = started(frames)
    targets = frames.float() / 255
    with torch.no_grad():
        shown = model(torch.arange(5.0))
        flat = F.interpolate(model.background, (48, 64), mode="bicubic")
    assert (shown - targets).square().mean() < 0.5 * (flat - targets).square().mean()
    # Detail is where Gaussians are: rows and columns of the lattice stay in order.
    places = model.scene_places(0, torch.tensor([2.0]))[0].view(*model.config.lattice(0), 2)
    assert (places[:, 1:, 0] > places[:, :-1, 0]).all()


def test_what_shows_nothing_starts_anew_where_the_error_is() -> None:
    frames = panned((0, 0))
    model = started(frames)
    with torch.no_grad():
        model.colours[0][0, :, 2, 3] = 0  # dead
        frames[:, :, 8:14, 40:46] = 255 - frames[:, :, 8:14, 40:46]  # an error
    before = model.places[0].detach().clone()
    model.after_step(198, 0.1, frames)
    assert torch.equal(model.places[0], before)  # not at every step
    twin = started(panned((0, 0)))
    twin.load_state_dict(model.state_dict())
    for each in (model, twin):
        each.after_step(199, 0.1, frames)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )
    changed = (model.places[0] != before).any(1)[0]
    assert changed[2, 3]
    assert changed.sum() <= changed.numel() // 50
    with torch.no_grad():
        shown = model.camera.to_screen(
            model.camera(torch.tensor([0.0])), model.scene_places(0, torch.tensor([0.0]))
        )[0].view(*model.config.lattice(0), 2)[2, 3]
    assert torch.dist(shown, torch.tensor([43.0, 11.0])) < 6
    assert model.colours[0][0, :, 2, 3].abs().max() > 0


def test_neighbours_are_pulled_together() -> None:
    model = Gaussians(Gaussians.configure(SHAPE, 12_000), SHAPE)
    with torch.no_grad():
        model.paths[0][1, 0, 3, 3] = 9.0
    model.after_step(0, 0.0, panned((0, 0)))
    paths = model.paths[0].detach()
    assert float(paths[1, 0, 3, 3]) == pytest.approx(9 - RIGIDITY * 8, rel=1e-5)
    assert float(paths[1, 0, 3, 4]) == pytest.approx(RIGIDITY, rel=1e-4)
    assert paths[1, 1].abs().max() == 0


# Tracks


def errors(model: Gaussians, truth: Tensor, start: Tensor) -> Tensor:
    """Distances in pixels between tracks of points `start` (N, 2) in frame 0 and the truth (N, T,
    2)."""
    times = torch.arange(float(truth.shape[1]))
    with torch.no_grad():
        found = torch.stack([model.track(tuple(p), 0.0, times) for p in start.tolist()])
    return (found - truth).norm(dim=-1)


def test_points_of_a_pan_are_followed(pan: Gaussians) -> None:
    start = torch.tensor([[12.0, 20.0], [30.5, 33.5], [40.0, 25.0]])
    truth = start[:, None] + torch.arange(5.0)[:, None] * torch.tensor([3.0, -1.0])
    found = errors(pan, truth, start)
    assert found[:, 0].max() < 1e-3  # where they are asked for
    assert found.mean() < 0.5


def test_points_of_a_turn_are_followed() -> None:
    angle = 0.05
    model = started(turned(angle))
    start = torch.tensor([[22.0, 14.0], [46.0, 30.0], [20.0, 34.0]])
    z = torch.complex(start[:, 0] - 32, start[:, 1] - 24)[:, None]
    z = z * torch.exp(1j * angle * torch.arange(5.0))
    truth = torch.stack([z.real + 32, z.imag + 24], -1)
    assert (truth[:, -1] - truth[:, 0]).norm(dim=-1).min() > 2.5
    assert errors(model, truth, start).mean() < 0.5


# Files


def test_a_file_shows_what_was_fitted(stored: Path) -> None:
    report = nervkit.verify(stored)
    assert report.frames == 5
    assert nervkit.info(stored)["model"] == "gaussians"
    with nervkit.open(stored) as video:
        frames = video[:]
        assert np.array_equal(video[3], frames[3])
        truth = panned((3, -1)).permute(0, 2, 3, 1).numpy()
        assert np.square(frames.astype(float) - truth).mean() < 0.25 * truth.var()


def test_a_fit_goes_through_the_quantizer(tmp_path: Path) -> None:
    frames = panned((1, 0)).permute(0, 2, 3, 1).numpy()
    target = 4_000
    nervkit.encode(
        frames, tmp_path / "a.nerv", model="gaussians", target_size=target, steps=8, device="cpu"
    )
    assert (tmp_path / "a.nerv").stat().st_size < 1.1 * target
    nervkit.verify(tmp_path / "a.nerv")


def test_times_of_another_speed_are_exact() -> None:
    timing = Timing(np.array([5, 7, 11]), Fraction(1, 30), 3)
    slow, places = paced(timing, Fraction(1, 2))
    assert places == [0, Fraction(1, 2), 1, Fraction(3, 2), 2]
    shown = [Fraction(int(p)) * slow.time_base for p in slow.pts - slow.pts[0]]
    assert shown == [Fraction(n, 30) for n in (0, 2, 4, 8, 12)]
    assert slow.duration * slow.time_base == Fraction(3, 30)
    fast, places = paced(timing, Fraction(3, 2))
    assert places == [0, Fraction(3, 2)]
    assert (fast.pts[1] - fast.pts[0]) * fast.time_base == Fraction(4 * 2, 3 * 30)


def test_a_file_is_shown_larger_slower_and_at_rest(stored: Path, tmp_path: Path) -> None:
    report = nervkit.render(stored, tmp_path / "a.npy", size="96x72", speed="1/2", stabilise=True)
    frames = np.load(tmp_path / "a.npy").astype(float)
    assert frames.shape == (9, 72, 96, 3)
    assert (report.frames, report.width, report.height) == (9, 96, 72)
    with nervkit.open(stored) as video:
        moving = video[:].astype(float)
    # What is left of 3 pixels a frame.
    rest = np.abs(frames[8] - frames[0])[8:-8, 20:-20].mean()
    assert rest < 0.3 * np.abs(moving[4] - moving[0]).mean()


def test_a_frame_of_its_own_size_and_speed_is_the_decoded_one(stored: Path, tmp_path: Path) -> None:
    nervkit.render(stored, tmp_path / "a.npy", speed=2)
    nervkit.render(stored, tmp_path / "b.npy", size="64x48")
    with nervkit.open(stored) as video:
        assert np.array_equal(np.load(tmp_path / "a.npy"), video[::2])
        assert np.array_equal(np.load(tmp_path / "b.npy"), video[:])
    nervkit.render(stored, tmp_path / "c.npy", size="32x24")
    assert np.load(tmp_path / "c.npy").shape == (5, 24, 32, 3)


@pytest.mark.parametrize("edit", [{}, {"colour": "ff0000"}])
def test_a_mask_is_edited_and_the_rest_stays(
    stored: Path, tmp_path: Path, edit: dict[str, str]
) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[16:34, 20:44] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    name = "recolour" if edit else "remove"
    chosen = {name: tmp_path / "mask.png", "at": 2}
    report = nervkit.render(stored, tmp_path / "a.npy", **chosen, **edit)
    edited = np.load(tmp_path / "a.npy").astype(float)
    with nervkit.open(stored) as video:
        changed = np.abs(edited - video[:]).mean(-1)
    assert report.edited > 10
    assert changed[2, 20:30, 26:38].mean() > 10
    assert changed[2, :, :6].max() < 2
    # In frame 4 it is 6 pixels further to the right, and 2 higher up.
    follows = np.zeros((48, 64), bool)
    follows[14:32, 26:50] = True
    assert changed[4][follows].mean() > 3 * changed[4][~follows].mean()
    if edit:
        inside = edited[2, 20:30, 26:38].reshape(-1, 3).mean(0)
        assert inside[0] > inside[1:].max() + 40


def test_other_models_have_one_size(stored: Path, tmp_path: Path) -> None:
    frames = panned((1, 0)).permute(0, 2, 3, 1).numpy()
    path = tmp_path / "other.nerv"
    nervkit.encode(frames, path, model="nerv", params=9_000, steps=1, device="cpu")
    nervkit.render(path, tmp_path / "slow.npy", speed=0.5)
    assert len(np.load(tmp_path / "slow.npy")) == 9
    for option in ({"size": "96x72"}, {"stabilise": True}):
        with pytest.raises(
            UsageError, match=f"other.nerv: nerv does not support {next(iter(option))}"
        ):
            nervkit.render(path, tmp_path / "x.npy", **option)
    with pytest.raises(UsageError, match="nerv stores no trajectories"):
        nervkit.tracks(path, ["1,1,0"])
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"speed": "0"}, "speed must be"),
        ({"speed": "1/0"}, "speed must be"),
        ({"size": "0x4"}, "size must be WxH"),
        ({"colour": "ff0000"}, "recolour needs a mask and colour"),
        ({"recolour": np.ones((48, 64)), "colour": "red"}, "colour must be RRGGBB"),
        ({"remove": "absent.png"}, "absent.png: no such file"),
        ({"at": 2}, "at says which frame"),
    ],
)
def test_options_are_read_before_the_file(
    tmp_path: Path, option: dict[str, object], message: str
) -> None:
    (tmp_path / "broken.nerv").write_bytes(b"no video")
    with pytest.raises(ValueError, match=message):
        nervkit.render(tmp_path / "broken.nerv", tmp_path / "a.npy", **option)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((48, 64)), "remove: the mask marks no pixel"),
        (np.ones((48, 64)), "remove: the mask marks the whole frame"),
        (np.ones((24, 64)), r"remove: .* the frame's size, 64x48, not of shape \(24, 64\)"),
    ],
)
def test_masks_that_edit_nothing_or_do_not_fit(
    stored: Path, tmp_path: Path, mask: np.ndarray, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        nervkit.render(stored, tmp_path / "a.npy", remove=mask)
    assert not (tmp_path / "a.npy").exists()


def test_tracks_are_written_and_drawn(stored: Path, tmp_path: Path) -> None:
    output, draw = tmp_path / "tracks.json", tmp_path / "drawn.npy"
    found = nervkit.tracks(stored, [(30.5, 24.5, 2), "20,30,0"], output=output, draw=draw)
    written = json.loads(output.read_text())
    assert written == json.loads(json.dumps(found.to_dict()))
    first = written["tracks"][0]
    assert first["at"] == [30.5, 24.5, 2.0]
    assert len(first["points"]) == 5
    assert first["points"][2] == [30.5, 24.5]
    with nervkit.open(stored) as video:
        changed = (np.load(draw) != video[:]).any(-1)
    for frame, (x, y) in enumerate(first["points"]):
        near = changed[frame, int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4]
        assert near.any()
    assert changed.mean() < 0.2
    with pytest.raises(OutputError, match="exists already"):
        nervkit.tracks(stored, ["1,1,0"], output=output)
    with pytest.raises(UsageError, match="the point 64,1,0 is not in 5 frames of 64x48"):
        nervkit.tracks(stored, ["64,1,0"])
    with pytest.raises(UsageError, match="a point is x,y,frame"):
        nervkit.tracks(stored, ["1;1;0"])


def test_commands_say_what_they_did(stored: Path, tmp_path: Path) -> None:
    shown = run("render", stored, "-o", "a.mp4", "--size", "96x72", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "a.mp4: 5 frames of 96x72" in shown.stderr
    found = run("tracks", stored, "--at", "30,24,0", cwd=tmp_path)
    assert len(json.loads(found.stdout)["tracks"][0]["points"]) == 5
    wrong = run("render", stored, "-o", "b.mp4", "--speed", "fast", cwd=tmp_path)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
