"""Gaussians that move: a video that can be followed, edited, slowed down and shown at any size.

After GaussianVideo (Bond et al., 2501.04782: a camera by a neural ODE, trajectories along
B-splines, coarse to fine) and Splatter a Video (Sun et al., 2406.13870: an orthographic world,
motion that starts from optical flow and stays rigid), in the plane and without an order, after
GaussianImage (2403.08551). docs/models/gaussians.md says what it is for.

    frame(t) = background + sum_i c_i exp(-1/2 d^T Sigma_i(t)^-1 d),  d = x - camera_t(mu_i(t))
    mu_i(t) = lattice_i + spacing (place_i + sum_k B_k(t) path_ik)

Levels of Gaussians, each on a lattice of twice the spacing of the finer one, are stored by lattice:
neighbours are alike, so their integers take few bits. Levels above the finest are summed at lower
resolution.
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

from nervkit.models.base import VECTOR, Representation, count_stored, largest_within
from nervkit.models.blocks import to_float
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.flow import LUMA, optical_flow
from nervkit.models.motion import DEGREE, Camera, similarity_of, spline_basis
from nervkit.models.recipe import Recipe
from nervkit.models.splatting import EXTENT, conics, splat

LARGEST = 0.7  # standard deviation, in the spacing of its level,
SMALLEST = 0.4  # and in cells of the grid that the level is summed on
FIRST_SIGMA = 0.5  # in the spacing
FIRST_SHAPE = math.log(FIRST_SIGMA / (LARGEST - FIRST_SIGMA))
OVERLAP = 2 * math.pi * FIRST_SIGMA**2  # of the weights of neighbours that begin so
FRAMES_PER_KNOT = 16
BACKGROUND_ROWS = 8
NEIGHBOURS = 8  # whose colours fill what was removed
LEAST_WEIGHT = 0.05  # of all Gaussians at a pixel, for shares of it
START_FRAMES = 9  # that colours start from
RIGIDITY = 0.005  # of the way to their neighbours' mean that paths go in an update
SEEDING_STEPS, SEEDING_UNTIL, SEEDING_FRAMES = 200, 0.6, 4
DEAD, MOST_SEEDED = 0.02, 50  # of the mean of what Gaussians show; one in so many at a time
FLOWS, FLOW_SIDE = 64, 200  # of a clip, and pixels of their longer side


@dataclass(frozen=True)
class GaussiansConfig(ModelConfig):
    """How many Gaussians, and how freely they move."""

    rows: int = bounded(1, 4096, 40)  # of the finest level's lattice
    columns: int = bounded(1, 4096, 80)
    levels: int = bounded(1, 6, 3)
    knots: int = bounded(DEGREE + 1, 1024, 12)  # control points of a trajectory
    shape_degree: int = bounded(0, 3, 1)  # of the polynomials of scales and angle in time
    camera_width: int = bounded(1, 256, 32)
    background: tuple[int, ...] = bounded(1, 256, (8, 16))  # rows and columns

    def lattice(self, level: int) -> tuple[int, int]:
        """Rows and columns of Gaussians of a level; 0 is the finest."""
        return math.ceil(self.rows / 2**level), math.ceil(self.columns / 2**level)


class Gaussians(Representation):
    """Frames as sums of Gaussians that move in the plane, with a camera."""

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

    def __init__(self, config: GaussiansConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.camera = Camera(shape.frames, shape.height, shape.width, config.camera_width)
        sizes = [config.lattice(level) for level in range(config.levels)]

        def parameters(count: int, channels: int) -> nn.ParameterList:
            return nn.ParameterList(torch.zeros(count, channels, *size) for size in sizes)

        self.places = parameters(1, 2)  # x and y from the lattice, in its spacing
        self.paths = parameters(config.knots, 2)  # control points of what is added to them
        self.shapes = parameters(config.shape_degree + 1, 3)  # two sizes, and the angle
        self.colours = parameters(1, 3)
        self.background = nn.Parameter(torch.zeros(1, 3, *config.background))
        with torch.no_grad():
            for shapes in self.shapes:
                shapes[0, :2] = FIRST_SHAPE

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> GaussiansConfig:
        """See Representation.configure. The lattice's cells are about square."""
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
        """See Representation.forward. Trajectories are smooth, so that any `t` is as good as
        another."""
        return self.render(t, (self.shape.height, self.shape.width))

    def render(
        self, t: Tensor, size: tuple[int, int], camera: bool = True, colours: Sequence[Tensor] = ()
    ) -> Tensor:
        """Frames at positions `t` (B,), of any `size` (height, width): (B, 3, H, W) in [0, 1].

        Args:
            camera: whether the camera moves; without, the scene rests.
            colours: of each level, in place of its own, (1, 3, rows, columns).
        """
        return self._sum(t, size, camera, colours).clamp(0, 1)

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        """See Representation.fit_forward. Beyond [0, 1] there is a gradient too."""
        return self._sum(t, (self.shape.height, self.shape.width))

    def _sum(
        self,
        t: Tensor,
        size: tuple[int, int],
        camera: bool = True,
        colours: Sequence[Tensor] = (),
    ) -> Tensor:
        t = t.clamp(0, self.shape.frames - 1)
        image = self.background
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
        """(B, 3, rows, columns): what coarser levels show, in any resolution, and one level more,
        in its own: `size` for the finest, half that of the video for the next, and so on."""
        shape = self.shape.height, self.shape.width
        grid = tuple(math.ceil(side / 2**level) for side in shape) if level else size
        added = self._splat(level, t, poses, colours[0].flatten(1).T, grid)
        return F.interpolate(image, size=grid, mode="bicubic") + added

    def _splat(
        self, level: int, t: Tensor, poses: Tensor, values: Tensor, grid: tuple[int, ...]
    ) -> Tensor:
        """(B, C, *grid): the Gaussians of a level with `values` (N, C) in place of colours."""
        return splat(
            self.camera.to_screen(poses, self.scene_places(level, t)),
            conics(*self.spreads(level, t, poses)),
            values,
            EXTENT * self.largest(level),
            grid,
            (self.shape.height, self.shape.width),
        )

    def spacing(self, level: int) -> tuple[float, float]:
        """Pixels between Gaussians of a level, in x and y."""
        rows, columns = self.config.lattice(level)
        return self.shape.width / columns, self.shape.height / rows

    def largest(self, level: int) -> float:
        """The largest standard deviation of a level, in pixels."""
        return max(2 * SMALLEST * 2**level, LARGEST * max(self.spacing(level)))

    def lattice(self, level: int) -> Tensor:
        """(rows * columns, 2): x and y of a level's lattice in the scene, in pixels."""
        rows, columns = self.config.lattice(level)
        width, height = self.spacing(level)
        device = self.background.device
        x = (torch.arange(columns, device=device) + 0.5) * width
        y = (torch.arange(rows, device=device) + 0.5) * height
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)

    def scene_places(self, level: int, t: Tensor) -> Tensor:
        """(B, N, 2): x and y of a level's Gaussians in the scene, in pixels."""
        basis = spline_basis(t, self.shape.frames, self.config.knots)
        paths = basis.to(self.paths[level].dtype) @ self.paths[level].flatten(1)
        moved = paths.view(len(t), 2, -1) + self.places[level].flatten(2)
        width, height = self.spacing(level)
        offsets = torch.stack([width * moved[:, 0], height * moved[:, 1]], -1)
        return self.lattice(level).to(moved.dtype) + offsets

    def spreads(self, level: int, t: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, 2) standard deviations of a level's Gaussians as they are shown, in pixels, and
        (B, N) angles."""
        shapes = self.shapes[level]
        u = (2 * t / max(1, self.shape.frames - 1) - 1).to(shapes.dtype)
        chebyshev = torch.stack([torch.ones_like(u), u, 2 * u**2 - 1, 4 * u**3 - 3 * u], 1)
        raw = chebyshev[:, : len(shapes)] @ shapes.flatten(1)
        raw = raw.view(len(t), 3, -1)
        least, most = SMALLEST * 2**level, self.largest(level)
        sigmas = (most - least) * raw[:, :2].sigmoid() + least
        sigmas = (sigmas * poses[:, 2, None, None].exp()).clamp(least, most)
        return sigmas.transpose(1, 2), raw[:, 2] + poses[:, 3, None]

    def track(self, point: tuple[float, float], t: float, times: Tensor) -> Tensor:
        """(len(times), 2): x and y, in pixels, at positions `times`, of what is at `point` at
        position `t`. In the scene it moves as the Gaussians that shape the picture there do, mean
        by how steep they are."""
        moment = times.new_tensor([t])
        pose, shown = self.camera(moment), times.new_tensor([[point]])
        start = self.camera.to_scene(pose, shown)
        count = self.config.knots
        basis = spline_basis(times, self.shape.frames, count)
        basis = basis - spline_basis(moment, self.shape.frames, count)
        total, weight = start.new_zeros(len(times), 2), start.new_zeros(())
        for level in range(self.config.levels):
            distance = shown - self.camera.to_screen(pose, self.scene_places(level, moment))
            sigmas, angle = self.spreads(level, moment, pose)
            a, b, c = conics(sigmas, angle)
            x, y = distance.unbind(-1)
            near = torch.exp(-0.5 * (a * x * x + 2 * b * x * y + c * y * y))[0]
            steep = near * self.colours[level][0].flatten(1).norm(dim=0) / sigmas[0].mean(1)
            path = self.paths[level].flatten(2) @ steep
            total = total + basis @ path * path.new_tensor(self.spacing(level))
            weight = weight + steep.sum()
        moved = total / weight.clamp(min=1e-12)
        return self.camera.to_screen(self.camera(times), start + moved[:, None])[:, 0]

    def within(self, mask: Tensor, t: float) -> list[Tensor]:
        """Of each level, which Gaussians (rows * columns,) lie mostly in a mask (H, W), True there,
        at position `t`: by the share of their weight."""
        moment = self.background.new_tensor([t])
        pose, size = self.camera(moment), (self.shape.height, self.shape.width)
        found = []
        for level in range(self.config.levels):
            places = self.camera.to_screen(pose, self.scene_places(level, moment))
            sigmas = self.spreads(level, moment, pose)[0][0].mean(1)
            # The mask's mean under a Gaussian, by five of its points.
            around = torch.tensor([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]).to(places)
            points = places[0] + around[:, None] * sigmas[:, None]
            inside = sampled(mask[None].to(places), points.flatten(0, 1), size)
            found.append(inside.view(5, -1).mean(0) > 0.5)
        return found

    def without(self, chosen: Sequence[Tensor], t: float) -> list[Tensor]:
        """The colours of all levels where those that are `chosen` (see `within`) are as the nearest
        other ones at position `t`."""
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
        """(B, 1, *size) in [0, 1]: where what was `chosen` (see `within`) is at positions `t`, as
        its share in the weight of the finest level. So a mask of one frame follows to all."""
        t = t.clamp(0, self.shape.frames - 1)
        taken = chosen[0].to(self.background)
        with full_precision(t.device):
            poses = self.camera(t) if camera else self.camera.at_rest(t)
            values = torch.stack([taken, torch.ones_like(taken)], 1)
            own, whole = self._splat(0, t, poses, values, size).split(1, 1)
        return own / whole.clamp(min=LEAST_WEIGHT)

    def kinds(self) -> dict[str, str]:
        """See Representation.kinds. An error of the camera moves everything: its matrices are
        coded as finely as vectors."""
        return super().kinds() | dict.fromkeys(self.weights(), VECTOR)

    def matrices(self) -> list[str]:
        """None: Adam for all."""
        return []

    @torch.no_grad()
    def start_fit(self, frames: Tensor) -> None:
        """Start from the clip: the camera from what moves as a whole, trajectories from the rest of
        the optical flow, places where there is detail, colours coarse to fine."""
        Start(self, frames).run()

    @torch.no_grad()
    def after_step(self, k: int, progress: float, frames: Tensor) -> None:
        """See Representation.after_step. Neighbours move alike (Splatter a Video, section 3.3:
        rigidity, here a pull to the mean of 3x3 on the lattice), and what is not seen starts anew
        where the error is largest (GaussianVideo, section 3.4)."""
        for paths in self.paths:
            mean = F.avg_pool2d(F.pad(paths, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            paths.lerp_(mean, RIGIDITY)
        if k % SEEDING_STEPS == SEEDING_STEPS - 1 and progress < SEEDING_UNTIL:
            self._seed(frames)

    def _seed(self, frames: Tensor) -> None:
        """Move the finest level's Gaussians that show next to nothing in a few frames to where the
        squared error of these is largest, on the paths of what is nearest."""
        rows, columns = self.config.lattice(0)
        size = frames.shape[-2:]
        t = torch.linspace(0, len(frames) - 1, min(SEEDING_FRAMES, len(frames))).round().long()
        t = t.to(frames.device)
        poses = self.camera(t.float())
        places = self.camera.to_screen(poses, self.scene_places(0, t.float()))
        limits = places.new_tensor([size[1], size[0]])
        seen = ((places > 0) & (places < limits)).all(-1).any(0)
        area = self.spreads(0, t.float(), poses)[0].mean(0).prod(-1)
        shown = seen * area * self.colours[0][0].flatten(1).norm(dim=0)
        least = shown.topk(rows * columns // MOST_SEEDED, largest=False).indices
        dead = least[shown[least] < DEAD * shown.mean()]
        if not len(dead) or len(dead) == rows * columns:
            return
        rest = torch.cat([to_float(frames[i]) - self(i[None].float()) for i in t])
        errors = F.adaptive_avg_pool2d(rest.square().sum(1, keepdim=True), (rows, columns))
        worst = errors.flatten().topk(len(dead)).indices
        frame, cell = worst // (rows * columns), worst % (rows * columns)
        target = self.lattice(0)[cell]
        colours = F.adaptive_avg_pool2d(rest, (rows, columns)).flatten(2)
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
            self.shapes[0][0, :2, row, column] = FIRST_SHAPE
            self.colours[0][0, :, row, column] = colours[at, :, where] / OVERLAP


class Start:
    """What Gaussians begin with, from a clip's `frames` (T, 3, H, W) uint8. The scene is the middle
    frame's screen."""

    def __init__(self, model: Gaussians, frames: Tensor) -> None:
        self.model, self.frames, self.device = model, frames, frames.device
        last = len(frames) - 1
        count = min(last, FLOWS) + 1
        self.times = torch.linspace(0, last, count).round().long()
        self.middle = count // 2
        chosen = torch.linspace(0, last, min(START_FRAMES, len(frames))).round()
        self.shown = chosen.long()  # frames that places and colours come from

    def run(self) -> None:
        model = self.model
        flows = self._flows()
        poses = self._path(flows).to(self.device)
        t = self.times.float().to(self.device)
        model.camera.follow(t, poses)
        self.poses = model.camera(self.shown.float().to(self.device))
        model.background.copy_(
            F.adaptive_avg_pool2d(self._targets().mean(0, keepdim=True), model.config.background)
        )
        weights = self._detail()
        for level in range(model.config.levels - 1, -1, -1):
            self._place(level, weights if level == 0 else (weights > 0).float())
            self._move(level, flows)
            self._colour(level)

    def _targets(self) -> Tensor:
        return to_float(self.frames[self.shown.to(self.device)])

    def _flows(self) -> list[Tensor]:
        """(2, H, W) each: how far, in x and y, what a chosen frame shows has moved until the next
        one."""
        lumas = [self.frames[t].permute(1, 2, 0).cpu().numpy() @ LUMA for t in self.times.tolist()]
        return [torch.from_numpy(optical_flow(a, b, FLOW_SIDE)).flip(0) for a, b in pairwise(lumas)]

    def _path(self, flows: list[Tensor]) -> Tensor:
        """(N, 4): poses of the camera that follow most of the flow."""
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
        """(rows, columns): how much there is to see in the scene around the frame's screen, twice
        its size and at half its resolution; 0 where the camera never looks."""
        height, width = self.frames.shape[-2:]
        rows, columns = height, width  # of half a pixel's density, in twice the size
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

    def _place(self, level: int, weights: Tensor) -> None:
        """Put the Gaussians of a level where the weights are: so that rows have equal shares, and
        the Gaussians of a row equal shares of it."""
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

    def _move(self, level: int, flows: list[Tensor]) -> None:
        """Have a level's Gaussians follow the flow, as far as the camera does not."""
        if not flows:
            return
        model = self.model
        times = self.times.float().to(self.device)
        poses = model.camera(times)
        start = model.scene_places(level, times[:1])
        shown = {self.middle: model.camera.to_screen(poses[self.middle][None], start)[0]}
        for k in range(self.middle, len(flows)):
            shown[k + 1] = shown[k] + sampled(flows[k], shown[k])
        for k in range(self.middle - 1, -1, -1):
            shown[k] = shown[k + 1] - sampled(flows[k], shown[k + 1])
        tracks = torch.stack([shown[k] for k in range(len(times))])
        moved = model.camera.to_scene(poses, tracks) - start
        moved = moved / moved.new_tensor(model.spacing(level))
        basis = spline_basis(times, model.shape.frames, model.config.knots)
        ridge = 1e-3 * torch.eye(basis.shape[1], device=self.device)
        points = torch.linalg.solve(basis.T @ basis + ridge, basis.T @ moved.flatten(1))
        points = points.view(-1, *moved.shape[1:]).transpose(1, 2)
        model.paths[level].copy_(points.reshape(model.paths[level].shape))

    def _colour(self, level: int) -> None:
        """Give a level the colours that coarser ones leave over."""
        model = self.model
        size = self.frames.shape[-2:]
        sums = torch.zeros_like(model.colours[level][0].flatten(1))
        for t, pose, frame in zip(self.shown.tolist(), self.poses, self._targets(), strict=True):
            time = torch.tensor([float(t)], device=self.device)
            image = model.background
            for coarser in range(model.config.levels - 1, level, -1):
                colours = model.colours[coarser]
                image = model.with_level(image, coarser, time, pose[None], colours, size)
            image = F.interpolate(image, size=size, mode="bicubic")
            rest = F.adaptive_avg_pool2d(frame[None] - image, model.config.lattice(level))
            places = model.camera.to_screen(pose[None], model.scene_places(level, time))[0]
            sums += sampled(rest[0], places, size).T
        colours = sums / len(self.shown) / OVERLAP
        model.colours[level].copy_(colours.view_as(model.colours[level]))


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """No autocast: half of the bits are too few for a place."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def quantiles(weights: Tensor, count: int) -> Tensor:
    """(count + 1,) places, in cells, that divide a histogram of positive `weights` into `count`
    equal shares. Where nothing weighs anything, cells count alike."""
    weights = weights if weights.sum() > 0 else torch.ones_like(weights)
    total = F.pad(weights.double().cumsum(0), (1, 0))
    wanted = torch.linspace(0, 1, count + 1, dtype=torch.float64, device=total.device) * total[-1]
    after = torch.searchsorted(total, wanted).clamp(1, len(weights))
    before = after - 1
    share = (wanted - total[before]) / (total[after] - total[before]).clamp(min=1e-12)
    return (before + share.clamp(0, 1)).float()


def sampled(field: Tensor, points: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """(N, C): a field (C, h, w) that covers `size` (height, width), by default its own, at points
    (N, 2), x and y; bilinear, the edge is repeated."""
    height, width = size or field.shape[-2:]
    field = field.to(points)
    places = 2 * points / points.new_tensor([width, height]) - 1
    found = F.grid_sample(
        field[None], places[None, None], padding_mode="border", align_corners=False
    )
    return found[0, :, 0].T
