"""Moving Gaussians: a video that supports tracking, editing, slow motion and any frame size.

After GaussianVideo (Bond et al., 2501.04782: a camera by a neural ODE, trajectories along
B-splines, coarse to fine) and Splatter a Video (Sun et al., 2406.13870: an orthographic world,
motion initialised from optical flow and kept rigid), but in the plane and order-free, after
GaussianImage (2403.08551). docs/models/gaussians.md describes uses and limits.

    frame(t) = background + sum_i c_i exp(-1/2 d^T Sigma_i(t)^-1 d),  d = x - camera_t(mu_i(t))
    mu_i(t) = lattice_i + spacing (place_i + sum_k B_k(t) path_ik)

Each level of Gaussians has a lattice of twice the spacing of the finer one, and its values are
stored in lattice order: neighbours are alike, so their integers take few bits. Levels above the
finest are summed at lower resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.models.base import VECTOR, Representation, count_stored
from nervkit.models.blocks import to_float
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.flow import LUMA, optical_flow
from nervkit.models.motion import DEGREE, Camera, similarity_of, spline_basis
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import largest_within
from nervkit.models.splatting import EXTENT, conics, splat

MAX_SIGMA = 0.7  # standard deviation, in spacings of the level
MIN_SIGMA = 0.4  # standard deviation, in cells of the grid that the level is summed on
INITIAL_SIGMA = 0.5  # in spacings
INITIAL_SHAPE = math.log(INITIAL_SIGMA / (MAX_SIGMA - INITIAL_SIGMA))
OVERLAP = 2 * math.pi * INITIAL_SIGMA**2  # sum of the initial weights at a pixel
FRAMES_PER_KNOT = 16
BACKGROUND_ROWS = 8
NEIGHBOURS = 8  # nearest Gaussians whose colours fill a removed one
MIN_WEIGHT = 0.05  # of all Gaussians at a pixel, as a divisor
START_FRAMES = 9  # for the initial colours
RIGIDITY = 0.005  # step of paths towards their neighbours' mean, per update
SEEDING_STEPS, SEEDING_UNTIL, SEEDING_FRAMES = 200, 0.6, 4
INVISIBLE = 0.02  # visibility, relative to the mean, below which a Gaussian moves
MAX_SEEDED = 50  # at most 1 / MAX_SEEDED of the Gaussians move at a time
MAX_FLOWS, FLOW_SIDE = 64, 200  # of a clip; longer side in pixels


@dataclass(frozen=True)
class GaussiansConfig(ModelConfig):
    """The number of Gaussians and their degrees of freedom."""

    rows: int = bounded(1, 4096, 40)  # of the finest level's lattice
    columns: int = bounded(1, 4096, 80)
    levels: int = bounded(1, 6, 3)
    knots: int = bounded(DEGREE + 1, 1024, 12)  # control points of a trajectory
    shape_degree: int = bounded(0, 3, 1)  # of the polynomials of scales and angle in time
    camera_width: int = bounded(1, 256, 32)
    background: tuple[int, ...] = bounded(1, 256, (8, 16))  # rows and columns

    def lattice(self, level: int) -> tuple[int, int]:
        """Return rows and columns of a level's Gaussians; level 0 is the finest."""
        return math.ceil(self.rows / 2**level), math.ceil(self.columns / 2**level)


class Gaussians(Representation):
    """Frames as sums of Gaussians that move in the plane, seen by a camera."""

    paper = "after GaussianVideo (2025, arXiv 2501.04782), in the plane"
    config_type = GaussiansConfig
    embedding_names = ("places", "paths", "shapes", "colours", "background")
    recipes: ClassVar = {
        "native": Recipe(
            loss="log_mse",
            lr=1e-3,
            batch=2,
            epochs=300,
            embedding_lr=5e-2,
            decay="linear",
            warmup=0.05,
            precision="float32",
        ),
    }
    config: GaussiansConfig

    def __init__(self, config: GaussiansConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.camera = Camera(shape.frames, shape.height, shape.width, config.camera_width)
        sizes = [config.lattice(level) for level in range(config.levels)]

        def parameters(count: int, channels: int) -> nn.ParameterList:
            return nn.ParameterList(torch.zeros(count, channels, *size) for size in sizes)

        self.places = parameters(1, 2)  # x and y relative to the lattice, in spacings
        self.paths = parameters(config.knots, 2)  # control points of offsets to the places
        self.shapes = parameters(config.shape_degree + 1, 3)  # two sizes and the angle
        self.colours = parameters(1, 3)
        self.background = nn.Parameter(torch.zeros(1, 3, *config.background))
        with torch.no_grad():
            for shapes in self.shapes:
                shapes[0, :2] = INITIAL_SHAPE

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> GaussiansConfig:
        """See Representation.configure. The lattice has about square cells."""
        knots = min(1024, max(DEGREE + 1, math.ceil(shape.frames / FRAMES_PER_KNOT) + DEGREE))
        aspect = shape.width / shape.height
        options.setdefault("knots", knots)
        columns = min(256, max(1, round(BACKGROUND_ROWS * aspect)))
        options.setdefault("background", (BACKGROUND_ROWS, columns))

        def of_rows(rows: int) -> GaussiansConfig:
            columns = min(4096, max(1, round(rows * aspect)))
            return GaussiansConfig(**{"rows": rows, "columns": columns} | options)

        if parameters is None or "rows" in options:
            return of_rows(options.get("rows", 40))
        most = min(4096, shape.height)
        rows = largest_within(
            lambda n: count_stored(cls.skeleton(of_rows(n), shape)), parameters, low=1, high=most
        )
        return of_rows(rows)

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. Trajectories are smooth, so `t` may be any real number."""
        return self.render(t, (self.shape.height, self.shape.width))

    def render(
        self, t: Tensor, size: tuple[int, int], camera: bool = True, colours: Sequence[Tensor] = ()
    ) -> Tensor:
        """Render frames at positions `t` (B,) in any `size` (height, width).

        Returns (B, 3, H, W) in [0, 1].

        Args:
            camera: whether the camera moves; False stabilises the scene.
            colours: replacements of each level's colours, (1, 3, rows, columns).
        """
        return self._sum(t, size, camera, colours).clamp(0, 1)

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        """See Representation.fit_forward. Not clamped, so that values beyond [0, 1] have
        gradients."""
        return self._sum(t, (self.shape.height, self.shape.width))

    def _sum(
        self,
        t: Tensor,
        size: tuple[int, int],
        camera: bool = True,
        colours: Sequence[Tensor] = (),
    ) -> Tensor:
        t = t.clamp(0, self.shape.frames - 1)
        image: Tensor = self.background
        with full_precision(image.device):
            poses = self.camera(t) if camera else self.camera.at_rest(t)
            for level in range(self.config.levels - 1, -1, -1):
                own = self.colours[level] if not colours else colours[level]
                image = self.with_level(image, level, t, poses, own, size)
        return image

    def with_level(
        self,
        image: Tensor,
        level: int,
        t: Tensor,
        poses: Tensor,
        colours: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Upsample the sum of the coarser levels and add one level: (B, 3, rows, columns). The
        resolution is `size` for the finest level, half of the video's for the next, and so on."""
        grid = size
        if level:
            height, width = self.shape.height, self.shape.width
            grid = math.ceil(height / 2**level), math.ceil(width / 2**level)
        added = self._splat(level, t, poses, colours[0].flatten(1).T, grid)
        return F.interpolate(image, size=grid, mode="bicubic") + added

    def _splat(
        self, level: int, t: Tensor, poses: Tensor, values: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Render a level's Gaussians with `values` (N, C) as colours: (B, C, *grid)."""
        return splat(
            self.camera.to_screen(poses, self.scene_places(level, t)),
            conics(*self.spreads(level, t, poses)),
            values,
            EXTENT * self.largest(level),
            grid,
            (self.shape.height, self.shape.width),
        )

    def spacing(self, level: int) -> tuple[float, float]:
        """Return the pixels between a level's Gaussians, in x and y."""
        rows, columns = self.config.lattice(level)
        return self.shape.width / columns, self.shape.height / rows

    def largest(self, level: int) -> float:
        """Return the largest standard deviation of a level, in pixels."""
        return max(2 * MIN_SIGMA * 2**level, MAX_SIGMA * max(self.spacing(level)))

    def lattice(self, level: int) -> Tensor:
        """Return (rows * columns, 2): x and y of a level's lattice in the scene, in pixels."""
        rows, columns = self.config.lattice(level)
        width, height = self.spacing(level)
        device = self.background.device
        x = (torch.arange(columns, device=device) + 0.5) * width
        y = (torch.arange(rows, device=device) + 0.5) * height
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)

    def scene_places(self, level: int, t: Tensor) -> Tensor:
        """Return (B, N, 2): x and y of a level's Gaussians in the scene, in pixels."""
        basis = spline_basis(t, self.shape.frames, self.config.knots)
        paths = basis.to(self.paths[level].dtype) @ self.paths[level].flatten(1)
        places = paths.view(len(t), 2, -1) + self.places[level].flatten(2)
        width, height = self.spacing(level)
        offsets = torch.stack([width * places[:, 0], height * places[:, 1]], -1)
        return self.lattice(level).to(places.dtype) + offsets

    def spreads(self, level: int, t: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the standard deviations of a level's Gaussians on the screen, (B, N, 2) in pixels,
        and their angles, (B, N)."""
        shapes = self.shapes[level]
        u = (2 * t / max(1, self.shape.frames - 1) - 1).to(shapes.dtype)
        chebyshev = torch.stack([torch.ones_like(u), u, 2 * u**2 - 1, 4 * u**3 - 3 * u], 1)
        raw = chebyshev[:, : len(shapes)] @ shapes.flatten(1)
        raw = raw.view(len(t), 3, -1)
        low, high = MIN_SIGMA * 2**level, self.largest(level)
        sigmas = (high - low) * raw[:, :2].sigmoid() + low
        sigmas = (sigmas * poses[:, 2, None, None].exp()).clamp(low, high)
        return sigmas.transpose(1, 2), raw[:, 2] + poses[:, 3, None]

    def track(self, point: tuple[float, float], t: float, times: Tensor) -> Tensor:
        """Track the content at `point` at position `t`: return its x and y in pixels at positions
        `times`, (len(times), 2). In the scene it moves with the Gaussians there, averaged by their
        gradients."""
        moment = times.new_tensor([t])
        pose, on_screen = self.camera(moment), times.new_tensor([[point]])
        start = self.camera.to_scene(pose, on_screen)
        count = self.config.knots
        basis = spline_basis(times, self.shape.frames, count)
        basis = basis - spline_basis(moment, self.shape.frames, count)
        total, weight = start.new_zeros(len(times), 2), start.new_zeros(())
        for level in range(self.config.levels):
            distance = on_screen - self.camera.to_screen(pose, self.scene_places(level, moment))
            sigmas, angle = self.spreads(level, moment, pose)
            a, b, c = conics(sigmas, angle)
            x, y = distance.unbind(-1)
            near = torch.exp(-0.5 * (a * x * x + 2 * b * x * y + c * y * y))[0]
            slope = near * self.colours[level][0].flatten(1).norm(dim=0) / sigmas[0].mean(1)
            path = self.paths[level].flatten(2) @ slope
            total = total + basis @ path * path.new_tensor(self.spacing(level))
            weight = weight + slope.sum()
        displacement = total / weight.clamp(min=1e-12)
        return self.camera.to_screen(self.camera(times), start + displacement[:, None])[:, 0]

    def within(self, mask: Tensor, t: float) -> list[Tensor]:
        """Select the Gaussians of which most of the weight lies in a mask (H, W) at position `t`.
        Returns booleans (rows * columns,) for each level."""
        moment = self.background.new_tensor([t])
        pose, size = self.camera(moment), (self.shape.height, self.shape.width)
        selected = []
        for level in range(self.config.levels):
            places = self.camera.to_screen(pose, self.scene_places(level, moment))
            sigmas = self.spreads(level, moment, pose)[0][0].mean(1)
            # The mask's mean under a Gaussian, from five samples.
            around = torch.tensor([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]).to(places)
            points = places[0] + around[:, None] * sigmas[:, None]
            inside = sampled(mask[None].to(places), points.flatten(0, 1), size)
            selected.append(inside.view(5, -1).mean(0) > 0.5)
        return selected

    def without(self, chosen: Sequence[Tensor], t: float) -> list[Tensor]:
        """Return the colours of all levels, with the `chosen` Gaussians (see `within`) filled from
        the nearest others at position `t`."""
        moment = self.background.new_tensor([t])
        filled = []
        for level, gone in enumerate(chosen):
            colours = self.colours[level].flatten(2).clone()
            if gone.any() and not gone.all():
                places = self.scene_places(level, moment)[0]
                distances = torch.cdist(places[gone], places[~gone])
                count = min(NEIGHBOURS, distances.shape[1])
                near = distances.topk(count, largest=False).indices
                colours[0][:, gone] = colours[0][:, ~gone][:, near].mean(2)
            filled.append(colours.view_as(self.colours[level]))
        return filled

    def carried(
        self, chosen: Sequence[Tensor], t: Tensor, size: tuple[int, int], camera: bool = True
    ) -> Tensor:
        """Propagate a mask to positions `t`: return the share of the `chosen` Gaussians (see
        `within`) in the weight of the finest level, (B, 1, *size) in [0, 1]."""
        t = t.clamp(0, self.shape.frames - 1)
        selected = chosen[0].to(self.background)
        with full_precision(t.device):
            poses = self.camera(t) if camera else self.camera.at_rest(t)
            values = torch.stack([selected, torch.ones_like(selected)], 1)
            own, total = torch.split(self._splat(0, t, poses, values, size), 1, 1)
        return own / total.clamp(min=MIN_WEIGHT)

    def kinds(self) -> dict[str, str]:
        """See Representation.kinds. An error of the camera shifts the whole frame, so its matrices
        are coded as finely as vectors."""
        return super().kinds() | dict.fromkeys(self.weights(), VECTOR)

    def matrices(self) -> list[str]:
        """See Representation.matrices: none; Adam optimises everything."""
        return []

    @torch.no_grad()
    def start_fit(self, frames: Tensor) -> None:
        """See Representation.start_fit. The camera follows the global motion, trajectories the
        residual optical flow; places go where the detail is, colours coarse to fine."""
        Initialiser(self, frames).run()

    @torch.no_grad()
    def after_step(self, k: int, progress: float, frames: Tensor) -> None:
        """See Representation.after_step. Keeps motion rigid (Splatter a Video, section 3.3; here a
        pull to the mean of 3x3 on the lattice), and moves invisible Gaussians to the largest errors
        (GaussianVideo, section 3.4)."""
        for paths in self.paths:
            mean = F.avg_pool2d(F.pad(paths, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            paths.lerp_(mean, RIGIDITY)
        if k % SEEDING_STEPS == SEEDING_STEPS - 1 and progress < SEEDING_UNTIL:
            self._seed(frames)

    def _seed(self, frames: Tensor) -> None:
        """Move the finest level's Gaussians that are invisible in a few frames to the cells with
        the largest squared error, with the path of the nearest other Gaussian."""
        rows, columns = self.config.lattice(0)
        size = frames.shape[-2:]
        t = torch.linspace(0, len(frames) - 1, min(SEEDING_FRAMES, len(frames))).round().long()
        t = t.to(frames.device)
        poses = self.camera(t.float())
        places = self.camera.to_screen(poses, self.scene_places(0, t.float()))
        limits = places.new_tensor([size[1], size[0]])
        on_screen = ((places > 0) & (places < limits)).all(-1).any(0)
        area = self.spreads(0, t.float(), poses)[0].mean(0).prod(-1)
        visibility = on_screen * area * self.colours[0][0].flatten(1).norm(dim=0)
        least = visibility.topk(rows * columns // MAX_SEEDED, largest=False).indices
        dead = least[visibility[least] < INVISIBLE * visibility.mean()]
        if not len(dead) or len(dead) == rows * columns:
            return
        residual = torch.cat([to_float(frames[i]) - self(i[None].float()) for i in t])
        errors = F.adaptive_avg_pool2d(residual.square().sum(1, keepdim=True), (rows, columns))
        worst = errors.flatten().topk(len(dead)).indices
        frame, cell = worst // (rows * columns), worst % (rows * columns)
        target = self.lattice(0)[cell]
        colours = F.adaptive_avg_pool2d(residual, (rows, columns)).flatten(2)
        alive = torch.ones(rows * columns, dtype=torch.bool, device=frames.device)
        alive[dead] = False
        alive = alive.nonzero()[:, 0]
        basis = spline_basis(t.float(), self.shape.frames, self.config.knots)
        spacing = target.new_tensor(self.spacing(0))
        for index, at, where, pixel in zip(dead, frame, cell, target, strict=True):
            nearest = alive[(places[at, alive] - pixel).square().sum(1).argmin()]
            row, column = index // columns, index % columns
            paths = self.paths[0]
            paths[:, :, row, column] = paths[:, :, nearest // columns, nearest % columns]
            scene = self.camera.to_scene(poses[at][None], pixel[None, None])[0, 0]
            offset = (scene - self.lattice(0)[index]) / spacing
            self.places[0][0, :, row, column] = offset - basis[at] @ paths[:, :, row, column]
            self.shapes[0][:, :, row, column] = 0
            self.shapes[0][0, :2, row, column] = INITIAL_SHAPE
            self.colours[0][0, :, row, column] = colours[at, :, where] / OVERLAP


class Initialiser:
    """Initialises Gaussians from a clip's `frames` (T, 3, H, W) uint8. Scene coordinates are those
    of the middle frame's screen."""

    def __init__(self, model: Gaussians, frames: Tensor) -> None:
        self.model, self.frames, self.device = model, frames, frames.device
        last = len(frames) - 1
        count = min(last, MAX_FLOWS) + 1
        self.times = torch.linspace(0, last, count).round().long()
        self.middle = count // 2
        samples = torch.linspace(0, last, min(START_FRAMES, len(frames))).round()
        self.samples = samples.long()  # the frames for places and colours

    def run(self) -> None:
        """Set all parameters of the model."""
        model = self.model
        flows = self._flows()
        poses = self._camera_path(flows).to(self.device)
        t = self.times.float().to(self.device)
        model.camera.follow(t, poses)
        self.poses = model.camera(self.samples.float().to(self.device))
        rows, columns = model.config.background
        mean = self._targets().mean(0, keepdim=True)
        model.background.copy_(F.adaptive_avg_pool2d(mean, (rows, columns)))
        weights = self._detail()
        for level in range(model.config.levels - 1, -1, -1):
            self._set_places(level, weights if level == 0 else (weights > 0).float())
            self._set_paths(level, flows)
            self._set_colours(level)

    def _targets(self) -> Tensor:
        return to_float(self.frames[self.samples.to(self.device)])

    def _flows(self) -> list[Tensor]:
        """Return the optical flow from each frame of `times` to the next, (2, H, W) in x and y."""
        lumas = [self.frames[t].permute(1, 2, 0).cpu().numpy() @ LUMA for t in self.times.tolist()]
        return [torch.from_numpy(optical_flow(a, b, FLOW_SIDE)).flip(0) for a, b in pairwise(lumas)]

    def _camera_path(self, flows: list[Tensor]) -> Tensor:
        """Return poses of the camera, (N, 4), that follow most of the flow."""
        steps = [similarity_of(flow) for flow in flows]
        poses = [torch.tensor([1 + 0j, 0j])]  # z -> a z + b about the middle frame
        for a, b in steps[self.middle :]:
            poses.append(torch.stack([a * poses[-1][0], a * poses[-1][1] + b]))
        for a, b in reversed(steps[: self.middle]):
            poses.insert(0, torch.stack([poses[0][0] / a, (poses[0][1] - b) / a]))
        a, b = torch.stack(poses).unbind(1)
        height, width = self.frames.shape[-2:]
        centre = complex(width / 2, height / 2)
        shift = (b + (a - 1) * centre) / height
        return torch.stack([shift.real, shift.imag, a.abs().log(), a.angle()], 1).float()

    def _detail(self) -> Tensor:
        """Return the amount of detail in the scene, (rows, columns): twice the size of the screen
        at half its resolution; 0 outside the camera's view."""
        height, width = self.frames.shape[-2:]
        rows, columns = height, width  # twice the size at half the resolution
        total, count = (torch.zeros(rows * columns, device=self.device) for _ in range(2))
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = (torch.stack([x, y], -1).flatten(0, 1) + 0.5).to(self.device)
        for frame, pose in zip(self._targets(), self.poses, strict=True):
            luma = torch.einsum("chw,c->hw", frame, frame.new_tensor(LUMA))
            slopes = [
                s.abs() for s in torch.gradient(F.pad(luma[None], (1, 1, 1, 1), "replicate")[0])
            ]
            detail = (slopes[0] + slopes[1])[1:-1, 1:-1].flatten()
            scene = self.model.camera.to_scene(pose[None], pixels[None])[0]
            column = ((scene[:, 0] + width / 2) / 2).long().clamp(0, columns - 1)
            row = ((scene[:, 1] + height / 2) / 2).long().clamp(0, rows - 1)
            total.index_add_(0, row * columns + column, detail)
            count.index_add_(0, row * columns + column, torch.ones_like(detail))
        mean = total / count.clamp(min=1)
        floor = 0.5 * total.sum() / count.sum() + 1e-3
        return torch.where(count > 0, mean + floor, 0).view(rows, columns)

    def _set_places(self, level: int, weights: Tensor) -> None:
        """Place a level's Gaussians by the weights: rows have equal shares, and the Gaussians of a
        row equal shares of it."""
        model = self.model
        rows, columns = model.config.lattice(level)
        height, width = self.frames.shape[-2:]
        bounds = quantiles(weights.sum(1), rows)
        places = torch.zeros(rows, columns, 2, device=self.device)
        for row in range(rows):
            low, high = float(bounds[row]), float(bounds[row + 1])
            band = weights[int(low) : max(int(low) + 1, math.ceil(high))].sum(0)
            edges = quantiles(band, columns)
            places[row, :, 0] = edges[:-1].add(edges[1:])  # times 2 pixels, over 2
            places[row, :, 1] = low + high
        places = places - places.new_tensor([width / 2, height / 2])
        offsets = (places.flatten(0, 1) - model.lattice(level)) / places.new_tensor(
            model.spacing(level)
        )
        model.places[level].copy_(offsets.T.view_as(model.places[level]))

    def _set_paths(self, level: int, flows: list[Tensor]) -> None:
        """Fit a level's paths to the flow that the camera does not explain."""
        if not flows:
            return
        model = self.model
        times = self.times.float().to(self.device)
        poses = model.camera(times)
        start = model.scene_places(level, times[:1])
        on_screen = {self.middle: model.camera.to_screen(poses[self.middle][None], start)[0]}
        for k in range(self.middle, len(flows)):
            on_screen[k + 1] = on_screen[k] + sampled(flows[k], on_screen[k])
        for k in range(self.middle - 1, -1, -1):
            on_screen[k] = on_screen[k + 1] - sampled(flows[k], on_screen[k + 1])
        tracks = torch.stack([on_screen[k] for k in range(len(times))])
        offsets = model.camera.to_scene(poses, tracks) - start
        offsets = offsets / offsets.new_tensor(model.spacing(level))
        basis = spline_basis(times, model.shape.frames, model.config.knots)
        ridge = 1e-3 * torch.eye(basis.shape[1], device=self.device)
        points = torch.linalg.solve(basis.T @ basis + ridge, basis.T @ offsets.flatten(1))
        points = points.view(-1, *offsets.shape[1:]).transpose(1, 2)
        model.paths[level].copy_(points.reshape(model.paths[level].shape))

    def _set_colours(self, level: int) -> None:
        """Set a level's colours to the residual of the coarser ones."""
        model = self.model
        height, width = self.frames.shape[-2:]
        size = height, width
        sums = torch.zeros_like(model.colours[level][0].flatten(1))
        for t, pose, frame in zip(self.samples.tolist(), self.poses, self._targets(), strict=True):
            time = torch.tensor([float(t)], device=self.device)
            image: Tensor = model.background
            for coarser in range(model.config.levels - 1, level, -1):
                colours = model.colours[coarser]
                image = model.with_level(image, coarser, time, pose[None], colours, size)
            image = F.interpolate(image, size=size, mode="bicubic")
            residual = F.adaptive_avg_pool2d(frame[None] - image, model.config.lattice(level))
            places = model.camera.to_screen(pose[None], model.scene_places(level, time))[0]
            sums += sampled(residual[0], places, size).T
        colours = sums / len(self.samples) / OVERLAP
        model.colours[level].copy_(colours.view_as(model.colours[level]))


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast: 16 bits are too few for places."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def quantiles(weights: Tensor, count: int) -> Tensor:
    """Return (count + 1,) bounds, in cells, that divide a histogram of `weights` >= 0 into `count`
    equal shares. If all weights are 0, cells count alike."""
    weights = weights if weights.sum() > 0 else torch.ones_like(weights)
    total = F.pad(weights.double().cumsum(0), (1, 0))
    wanted = torch.linspace(0, 1, count + 1, dtype=torch.float64, device=total.device) * total[-1]
    after = torch.searchsorted(total, wanted).clamp(1, len(weights))
    before = after - 1
    share = (wanted - total[before]) / (total[after] - total[before]).clamp(min=1e-12)
    return (before + share.clamp(0, 1)).float()


def sampled(field: Tensor, points: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Sample a field (C, h, w) that covers `size` (height, width), by default its own, at points
    (N, 2), x and y; returns (N, C), bilinear; beyond the edge, the edge is repeated."""
    height, width = size or field.shape[-2:]
    field = field.to(points)
    places = 2 * points / points.new_tensor([width, height]) - 1
    samples = F.grid_sample(
        field[None], places[None, None], padding_mode="border", align_corners=False
    )
    return samples[0, :, 0].T
