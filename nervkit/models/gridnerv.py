"""GridNeRV, nervkit's own representation: feature grids in time and space, a residual trunk that
stays at low resolution, one PixelShuffle to the frame. docs/gridnerv.md says why.

    z_k(t) = upsample((1 - a) G_k[i] + a G_k[i + 1]),  i + a = t (K_k - 1) / (T - 1)     grids
    z_k(t) = (1 - a) G_k[i](p - a s l) + a G_k[i + 1](p + (1 - a) s r)             moved grids
    x_0 = stem(z_1(t), ..., z_n(t))
    x <- x + W_2 relu(W_1 (D * x))                                                       block
    x <- upsample(W x)  (+ W_d z_d(t), detail grids, before the last)      between the stages
    frame = sigmoid(shuffle(head(x)))

A moved grid is sampled where its content at the positions p was s a frames ago, and will be: s is
the frames between its knots, l and r are the velocities since and until them, a grid of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.errors import UsageError
from nervkit.models.base import MOTION, Representation
from nervkit.models.blocks import (
    between,
    cropped,
    displaced,
    edge_padded,
    in_patches,
    principal_components,
    to_float,
)
from nervkit.models.config import ModelConfig, VideoShape, added, bounded
from nervkit.models.flow import LUMA, optical_flow
from nervkit.models.gridnerv_sizing import MOTION_RATE, STILL, sized, sized_for_coding
from nervkit.models.recipe import Recipe

START_FRAMES, START_PATCHES = 12, 2000  # that the head starts from, and from each of those
START_SIDE = 8  # pixels of a cell, once reduced
START_DEVIATION = 0.3  # of a grid's channels
VELOCITY = 32  # a velocity of so much is one cell of the stem in a frame
FLOW_SIDE = 256  # pixels of the reduced frames that optical flow is estimated from


@dataclass(frozen=True)
class GridNeRVConfig(ModelConfig):
    """GridNeRV's shape. Stage i has widths[i] channels and depths[i] blocks, and is followed by
    an upsampling of strides[i]; grid k has grid_channels[k] channels, one knot in grid_rates[k]
    frames (0: one for the whole clip) and one value in grid_scales[k] cells of the stem, or, where
    that is 0, one for each cell of the last stage (a detail grid). Grids with a knot in moved_rate
    frames are moved (0: none), by velocities with a knot in motion_rate frames and a value in
    motion_scale cells of the stem."""

    strides: tuple[int, ...] = bounded(1, 16, (2, 4))
    widths: tuple[int, ...] = bounded(1, 2048, (48, 48))
    depths: tuple[int, ...] = bounded(0, 16, (2, 4))
    expansion: int = bounded(1, 8, 3)
    grid_rates: tuple[int, ...] = bounded(0, 1 << 20, STILL.rates)
    grid_scales: tuple[int, ...] = bounded(0, 64, STILL.scales)
    grid_channels: tuple[int, ...] = bounded(1, 1024, STILL.channels)
    moved_rate: int = added(bounded(0, 1 << 20, 0))
    motion_rate: int = added(bounded(1, 1 << 20, MOTION_RATE))
    motion_scale: int = added(bounded(1, 64, 2))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "widths", "depths")
        self._same_length("grid_rates", "grid_scales", "grid_channels")
        if 0 in self.grid_scales and len(self.strides) == 1:
            raise UsageError("grid_scales of 0 need two stages or more")
        if not any(self.grid_scales):
            raise UsageError("grid_scales must not all be 0")


class GridNeRV(Representation):
    """Feature grids -> stem -> stages of residual blocks -> PixelShuffle -> frame."""

    config_type = GridNeRVConfig
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

    def __init__(self, config: GridNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        cell = math.prod(config.strides)
        self.grid = math.ceil(shape.height / cell), math.ceil(shape.width / cell)
        self.zoom = cell // config.strides[-1]  # of the last stage's cells to the stem's
        self.grids = nn.ParameterList(
            torch.randn(self._knots(rate), channels, *self._size(scale)).mul_(0.05 if scale else 0)
            for rate, scale, channels in self._specifications()
        )
        channels = [0, 0]  # of detail grids, and of all others
        for scale, count in zip(config.grid_scales, config.grid_channels, strict=True):
            channels[scale > 0] += count
        self.stem = nn.Conv2d(channels[1], config.widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, config.expansion) for _ in range(depth)))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.reductions = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(config.widths, config.widths[1:], strict=False)
        )
        if channels[0]:
            self.details = nn.Conv2d(channels[0], config.widths[-1], 1, bias=False)
        self.head = nn.Conv2d(config.widths[-1], 3 * config.strides[-1] ** 2, 3, padding=1)
        if config.moved_rate:
            spans = self._knots(config.moved_rate) - 1
            per_span = math.ceil(config.moved_rate / config.motion_rate)
            size = self._size(config.motion_scale)
            self.motion = nn.Parameter(torch.zeros(spans * per_span + 1, 4, *size))

    def _specifications(self) -> Iterator[tuple[int, int, int]]:
        """Rate, scale and channels of each grid."""
        config = self.config
        return zip(config.grid_rates, config.grid_scales, config.grid_channels, strict=True)

    def _size(self, scale: int) -> tuple[int, ...]:
        """Rows and columns of a grid."""
        if scale == 0:
            return tuple(side * self.zoom for side in self.grid)
        return tuple(math.ceil(side / scale) for side in self.grid)

    def _knots(self, rate: int) -> int:
        last = self.shape.frames - 1
        return math.ceil(last / rate) + 1 if rate and last else 1

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> GridNeRVConfig:
        """See Representation.configure. `gridnerv_sizing` chooses."""
        return sized(cls, shape, parameters, options)

    @classmethod
    def configure_coded(
        cls, shape: VideoShape, tensor_bytes: int, parameters: int | None = None, **options: Any
    ) -> GridNeRVConfig:
        """See Representation.configure_coded. More of the values are in grids, which are moved."""
        return sized_for_coding(cls, shape, tensor_bytes, parameters, options)

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. Between frames, the grids are interpolated linearly."""
        frames = F.pixel_shuffle(self._patches(t), self.config.strides[-1])
        return torch.sigmoid(cropped(frames, self.shape.height, self.shape.width).float())

    def fit_values(self, t: Tensor, frames: Tensor) -> Tensor:
        """See Representation.fit_values. Before the PixelShuffle, on channels last: there both
        ways through the loss take half the time on a CPU."""
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
        """(B, 3 * last stride^2, h, w): the frames before PixelShuffle, crop and sigmoid."""
        t = t.clamp(0, self.shape.frames - 1)
        velocities = self._velocities(t) if self.config.moved_rate else None
        features: list[Tensor] = []
        details: list[Tensor] = []
        for grid, (rate, scale, _) in zip(self.grids, self._specifications(), strict=True):
            moved = velocities if rate and rate == self.config.moved_rate else None
            (features if scale else details).append(self._sample(grid, t, scale, moved))
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
        """(B, C, h, w) features at positions `t`: linear in time, bilinear in space, along the
        velocities (see `_velocities`) where there are some."""
        size = self.grid if scale else self._size(0)
        position = t * self._per_frame(grid)
        if velocities is not None and len(grid) > 1:
            return self._follow(grid, position, size, velocities)
        x = between(grid, position)
        if x.shape[2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear")
        return x

    def _per_frame(self, values: Tensor) -> float:
        """Knots in a frame's time."""
        return (len(values) - 1) / max(1, self.shape.frames - 1)

    def _velocities(self, t: Tensor) -> Tensor:
        """(B, 4, h, w): x and y of what content has moved in a frame since the knot before `t`, and
        of what it moves until the one after, in VELOCITY cells of the stem."""
        mean, difference = between(self.motion, t * self._per_frame(self.motion)).chunk(2, 1)
        return torch.cat([mean - difference, mean + difference], 1)

    def _follow(
        self, grid: Tensor, position: Tensor, size: tuple[int, ...], velocities: Tensor
    ) -> Tensor:
        """A grid between its knots at `position` (B,), along the velocities."""
        before = position.floor().long().clamp(max=len(grid) - 2)
        share = (position - before).to(grid.dtype).view(-1, 1, 1, 1)
        cells = size[0] / self.grid[0] / VELOCITY / self._per_frame(grid)
        shifts = cells * F.interpolate(velocities, size=size, mode="bilinear")
        earlier = displaced(grid[before], -share * shifts[:, :2])
        later = displaced(grid[before + 1], (1 - share) * shifts[:, 2:])
        return torch.lerp(earlier, later, share)

    @torch.no_grad()
    def start_fit(self, frames: Tensor) -> None:
        """Start from the clip's principal components: the head's columns are those of its
        patches, the grids' channels are its cells along theirs. Velocities are its optical flow."""
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
        spans = self._knots(self.config.moved_rate) - 1
        if not spans:
            return
        per_span = (knots - 1) // spans
        places = [round(k * (len(frames) - 1) / (knots - 1)) for k in range(knots)]
        lumas = {t: frames[t].permute(1, 2, 0).cpu().numpy() @ LUMA for t in set(places)}
        size, cell = self.motion.shape[2:], frames.shape[-2] / self.grid[0]

        def velocity(here: int, there: int) -> Tensor:
            """Of content at the knot `here` of motion, on its way from there or to there."""
            a, b = places[here], places[there]
            if a == b:
                return self.motion.new_zeros(2, *size)
            flow = torch.from_numpy(optical_flow(lumas[a], lumas[b], FLOW_SIDE)).flip(0)
            pooled = F.adaptive_avg_pool2d(flow, size) * (VELOCITY / cell / (b - a))
            return pooled.to(self.motion)

        for k in range(knots):
            earlier, later = (
                (math.ceil(k / per_span) - 1) * per_span,
                (k // per_span + 1) * per_span,
            )
            until = velocity(k, later if later < knots else earlier)
            since = velocity(k, earlier) if earlier >= 0 and later < knots else until
            self.motion[k, :2], self.motion[k, 2:] = (until + since) / 2, (until - since) / 2

    def kinds(self) -> dict[str, str]:
        """See Representation.kinds."""
        return super().kinds() | ({"motion": MOTION} if self.config.moved_rate else {})

    def matrices(self) -> list[str]:
        """All that mixes channels; not the depthwise convolutions, nor the grids."""
        return [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2
            and name.partition(".")[0] not in self.embedding_names
            and ".depthwise." not in name
        ]


class Block(nn.Module):
    """Depthwise 3x3 -> linear to `expansion` times the channels -> ReLU -> linear, residual.

    ConvNeXt's order (2201.03545) without its norm and scale. The linear maps work on channels
    last, where they are one matrix product.
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
