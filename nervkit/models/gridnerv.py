"""GridNeRV, nervkit's own representation: feature grids in time and space, a residual trunk at low
resolution, one PixelShuffle to the frame. docs/gridnerv.md gives the reasons.

    z_k(t) = upsample((1 - a) G_k[i] + a G_k[i + 1]),  i + a = t (K_k - 1) / (T - 1)     grids
    z_k(t) = (1 - a) G_k[i](p - a s l) + a G_k[i + 1](p + (1 - a) s r)             moved grids
    x_0 = stem(z_1(t), ..., z_n(t))
    x <- x + W_2 relu(W_1 (D * x))                                                       block
    x <- upsample(W x)  (+ W_d z_d(t), detail grids, before the last)      between the stages
    frame = sigmoid(shuffle(head(x)))

A moved grid is sampled along the motion: s is the number of frames between its knots, p are the
cells' positions, l and r are the velocities since the knot before and until the knot after, from a
grid of their own.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.models.base import MOTION, Representation
from nervkit.models.blocks import (
    cropped,
    edge_padded,
    in_patches,
    interpolated,
    principal_components,
    to_float,
    warped,
)
from nervkit.models.config import VideoShape
from nervkit.models.flow import LUMA, optical_flow
from nervkit.models.gridnerv_sizing import GridNeRVConfig, knot_count, sized, sized_for_coding
from nervkit.models.recipe import Recipe

__all__ = ["GridNeRV", "GridNeRVConfig"]

START_FRAMES, START_PATCHES = 12, 2000  # for the head's start, and patches of each frame
START_SIDE = 8  # pixels of a downsampled cell
START_DEVIATION = 0.3  # of a grid's channels
VELOCITY = 32  # the stored velocity of one stem cell per frame
FLOW_SIDE = 256  # longer side of the downsampled frames for optical flow


class GridNeRV(Representation):
    """Feature grids -> stem -> stages of residual blocks -> PixelShuffle -> frame."""

    config_type: ClassVar[type[GridNeRVConfig]] = GridNeRVConfig
    embedding_names = ("grids", "motion")
    recipes: ClassVar = {
        "native": Recipe(
            loss="log_mse",
            lr=1e-2,
            batch=2,
            epochs=300,
            betas=(0.8, 0.99),
            matrix_lr=0.04,
            embedding_lr=0.03,
            warmup=0.02,
            decay="linear",
            # The outer knots have frames on one side only.
            repeated=(0, 0, 1, -2, -1, -1),
        ),
    }
    config: GridNeRVConfig

    def __init__(self, config: GridNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.grid = config.stem_size(shape)
        self.grids = nn.ParameterList(
            torch.randn(size).mul_(0.05 if scale else 0)
            for size, scale in zip(config.grid_shapes(shape), config.grid_scales, strict=True)
        )
        stem_channels, detail_channels = config.channels()
        self.stem = nn.Conv2d(stem_channels, config.widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, config.expansion) for _ in range(depth)))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.reductions = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(config.widths, config.widths[1:], strict=False)
        )
        if detail_channels:
            self.details = nn.Conv2d(detail_channels, config.widths[-1], 1, bias=False)
        self.head = nn.Conv2d(config.widths[-1], 3 * config.strides[-1] ** 2, 3, padding=1)
        if (motion := config.motion_shape(shape)) is not None:
            self.motion = nn.Parameter(torch.zeros(motion))

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> GridNeRVConfig:
        """See Representation.configure and `gridnerv_sizing`."""
        return sized(cls.config_type, shape, parameters, options)

    @classmethod
    def configure_coded(
        cls, shape: VideoShape, tensor_bytes: int, parameters: int | None = None, **options: Any
    ) -> GridNeRVConfig:
        """See Representation.configure_coded. More of the values are in grids, which are moved."""
        return sized_for_coding(cls.config_type, shape, tensor_bytes, parameters, options)

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. Between frames, the grids are interpolated linearly."""
        frames = F.pixel_shuffle(self._patches(t), self.config.strides[-1])
        return torch.sigmoid(cropped(frames, self.shape.height, self.shape.width).float())

    def fit_values(self, t: Tensor, frames: Tensor) -> Tensor:
        """See Representation.fit_values. The values before the PixelShuffle, channels last: forward
        and backward through the loss take half the time there on a CPU."""
        patch = self.config.strides[-1]
        rows, columns = (math.ceil(side / patch) for side in frames.shape[-2:])
        patches = cropped(self._patches(t), rows, columns).permute(0, 2, 3, 1)
        return torch.sigmoid(patches.float())

    @property
    def value_patch(self) -> int:
        """See Representation.value_patch: the last stride."""
        return self.config.strides[-1]

    def arranged(self, values: Tensor) -> Tensor:
        """See Representation.arranged: (B, rows, columns, 3 * last stride^2)."""
        return in_patches(values, self.value_patch)

    def _patches(self, t: Tensor) -> Tensor:
        """Compute (B, 3 * last stride^2, h, w): the frames before PixelShuffle, crop and
        sigmoid."""
        t = t.clamp(0, self.shape.frames - 1)
        velocities = self._velocities(t) if self.config.moved_rate else None
        features: list[Tensor] = []
        details: list[Tensor] = []
        rates, scales = self.config.grid_rates, self.config.grid_scales
        for grid, rate, scale in zip(self.grids, rates, scales, strict=True):
            along = velocities if rate and rate == self.config.moved_rate else None
            (features if scale else details).append(self._sample(grid, t, scale, along))
        x = self.stem(torch.cat(features, 1))
        x = self.stages[0](x)
        last = self.stages[-1]
        for reduction, stage, stride in zip(
            self.reductions, self.stages[1:], self.config.strides, strict=False
        ):
            x = F.interpolate(reduction(x), scale_factor=stride, mode="bilinear")
            if stage is last and details:
                x = x + self.details(torch.cat(details, 1))
            x = stage(x)
        return self.head(x)

    def _sample(self, grid: Tensor, t: Tensor, scale: int, velocities: Tensor | None) -> Tensor:
        """Sample (B, C, h, w) features at positions `t`: linear in time, bilinear in space, along
        the velocities (see `_velocities`) if given."""
        size = self.grid if scale else self.config.grid_size(0, self.shape)
        position = t * self._knots_per_frame(grid)
        if velocities is not None and len(grid) > 1:
            return self._sample_moved(grid, position, size, velocities)
        x = interpolated(grid, position)
        if x.shape[2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear")
        return x

    def _knots_per_frame(self, values: Tensor) -> float:
        return (len(values) - 1) / max(1, self.shape.frames - 1)

    def _velocities(self, t: Tensor) -> Tensor:
        """Return (B, 4, h, w): x and y of the velocity since the knot before `t`, then until the
        knot after; VELOCITY is one stem cell per frame."""
        position = t * self._knots_per_frame(self.motion)
        mean, difference = interpolated(self.motion, position).chunk(2, 1)
        return torch.cat([mean - difference, mean + difference], 1)

    def _sample_moved(
        self, grid: Tensor, position: Tensor, size: tuple[int, int], velocities: Tensor
    ) -> Tensor:
        """Interpolate a grid at `position` (B,) between its knots, along the velocities."""
        before = position.floor().long().clamp(max=len(grid) - 2)
        share = (position - before).to(grid.dtype).view(-1, 1, 1, 1)
        cells = size[0] / self.grid[0] / VELOCITY / self._knots_per_frame(grid)
        flow = cells * F.interpolate(velocities, size=size, mode="bilinear")
        earlier = warped(grid[before], -share * flow[:, :2])
        later = warped(grid[before + 1], (1 - share) * flow[:, 2:])
        return torch.lerp(earlier, later, share)

    @torch.no_grad()
    def start_fit(self, frames: Tensor) -> None:
        """Start from the clip's principal components: the head's columns are those of its patches,
        the grids' channels are its cells projected on theirs. Velocities are its optical flow."""
        self._start_head(frames)
        self._start_grids(frames)
        if self.config.moved_rate:
            self._start_motion(frames)

    def _start_head(self, frames: Tensor) -> None:
        patch, width = self.config.strides[-1], self.config.widths[-1]
        samples = []
        for frame in frames[:: math.ceil(len(frames) / START_FRAMES)]:
            image = edge_padded(to_float(frame), patch).clamp(0.02, 0.98).logit()
            patches = F.pixel_unshuffle(image, patch).flatten(1).T
            samples.append(patches[:: math.ceil(len(patches) / START_PATCHES)])
        count = min(width, 3 * patch**2)
        mean, directions, deviations = principal_components(torch.cat(samples), count)
        assert self.head.bias is not None
        self.head.bias.copy_(mean)
        self.head.weight.zero_()
        self.head.weight[:, :count, 1, 1] = directions * deviations

    def _start_grids(self, frames: Tensor) -> None:
        cell = math.prod(self.config.strides)
        side = min(START_SIDE, cell)
        size = (self.grid[0] * side, self.grid[1] * side)
        scales = self.config.grid_scales
        pairs = [(g, scale) for g, scale in zip(self.grids, scales, strict=True) if scale]
        sums = [grid.new_zeros(len(grid), 3 * side**2, *grid.shape[2:]) for grid, _ in pairs]
        counts = [grid.new_zeros(len(grid), 1, 1, 1) for grid, _ in pairs]
        for t, frame in enumerate(frames):
            image = F.interpolate(edge_padded(frame.float(), cell)[None], size=size, mode="area")
            for (grid, scale), total, count in zip(pairs, sums, counts, strict=True):
                knot = round(t * (len(grid) - 1) / max(1, len(frames) - 1))
                coarse = F.avg_pool2d(edge_padded(image, scale * side), scale)
                total[knot] += F.pixel_unshuffle(coarse, side)[0]
                count[knot] += 1
        for (grid, _), total, count in zip(pairs, sums, counts, strict=True):
            samples = (total / count).permute(0, 2, 3, 1)
            channels = min(grid.shape[1], samples.shape[-1])
            flat = samples.flatten(0, 2)
            mean, directions, deviations = principal_components(flat, channels)
            components = (samples - mean) @ (directions / deviations.clamp(min=1e-3))
            grid[:, :channels] = START_DEVIATION * components.permute(0, 3, 1, 2)

    def _start_motion(self, frames: Tensor) -> None:
        knots = len(self.motion)
        intervals = knot_count(self.config.moved_rate, self.shape) - 1
        if not intervals:
            return
        per_interval = (knots - 1) // intervals
        times = [round(k * (len(frames) - 1) / (knots - 1)) for k in range(knots)]
        lumas = {t: frames[t].permute(1, 2, 0).cpu().numpy() @ LUMA for t in set(times)}
        rows, columns = self.motion.shape[2:]
        cell = frames.shape[-2] / self.grid[0]

        def velocity(here: int, there: int) -> Tensor:
            """Return the velocity, at the motion knot `here`, of the flow to the knot `there`."""
            a, b = times[here], times[there]
            if a == b:
                return self.motion.new_zeros(2, rows, columns)
            flow = torch.from_numpy(optical_flow(lumas[a], lumas[b], FLOW_SIDE)).flip(0)
            pooled = F.adaptive_avg_pool2d(flow, (rows, columns)) * (VELOCITY / cell / (b - a))
            return pooled.to(self.motion)

        for k in range(knots):
            earlier = (math.ceil(k / per_interval) - 1) * per_interval
            later = (k // per_interval + 1) * per_interval
            until = velocity(k, later if later < knots else earlier)
            since = velocity(k, earlier) if earlier >= 0 and later < knots else until
            self.motion[k, :2], self.motion[k, 2:] = (until + since) / 2, (until - since) / 2

    def kinds(self) -> dict[str, str]:
        """See Representation.kinds."""
        return super().kinds() | ({"motion": MOTION} if self.config.moved_rate else {})

    def matrices(self) -> list[str]:
        """See Representation.matrices: all that mixes channels; neither depthwise convolutions nor
        grids."""
        return [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2
            and name.partition(".")[0] not in self.embedding_names
            and ".depthwise." not in name
        ]


class Block(nn.Module):
    """Depthwise 3x3 -> linear to `expansion` times the channels -> ReLU -> linear, residual.

    ConvNeXt's order (2201.03545) without its norm and scale. The linear maps run on channels last,
    as one matrix product.
    """

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        return x + self.project(F.relu(self.expand(y))).permute(0, 3, 1, 2)
