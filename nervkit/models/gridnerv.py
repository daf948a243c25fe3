"""GridNeRV, nervkit's own representation: feature grids in time and space, a residual trunk that
stays at low resolution, one PixelShuffle to the frame. docs/gridnerv.md says why.

    z_k(t) = upsample((1 - a) G_k[i] + a G_k[i + 1]),  i + a = t (K_k - 1) / (T - 1)     grids
    x_0 = stem(z_1(t), ..., z_n(t))
    x <- x + W_2 relu(W_1 (D * x))                                                       block
    x <- upsample(W x)                                                     between the stages
    frame = sigmoid(shuffle(head(x)))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.models.base import Representation, count_stored, largest_within
from nervkit.models.blocks import (
    between,
    choose_strides,
    cropped,
    edge_padded,
    in_patches,
    principal_components,
    to_float,
)
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.recipe import Recipe

# The last stride is the PixelShuffle's. It sets the cost: nothing but the frame itself is ever
# computed at a higher resolution than 1 / last stride.
STRIDES = (
    (1,),
    (2,),
    (4,),
    (2, 2),
    (2, 3),
    (2, 4),
    (2, 5),
    (3, 4),
    (2, 2, 4),
    (4, 5),
    (2, 3, 4),
    (2, 2, 8),
    (2, 3, 6),
    (2, 2, 10),
    (2, 3, 8),
    (2, 4, 8),
    (3, 3, 8),
    (2, 4, 12),
)
GRID_ROWS = 20
TRUNK_WIDTH = 24  # of the last stage, times sqrt(last stride): there is most of the work
GRID_RATES, GRID_CHANNELS = (2, 4, 12, 0), (2, 2, 4, 4)
GRID_WIDTH = 48  # of a trunk with so many channels in the grids; they grow with it
GRID_SHARE = 0.5  # of all values, at most: a longer clip gets fewer knots in time,
SLOWER = tuple(2**i for i in range(8))  # by one of these factors

START_FRAMES, START_PATCHES = 12, 2000  # that the head starts from, and from each of those
START_SIDE = 8  # pixels of a cell, once reduced
START_DEVIATION = 0.3  # of a grid's channels


@dataclass(frozen=True)
class GridNeRVConfig(ModelConfig):
    """GridNeRV's shape. Stage i has widths[i] channels and depths[i] blocks, and is followed by
    an upsampling of strides[i]; grid k has grid_channels[k] channels, one knot in grid_rates[k]
    frames (0: one for the whole clip) and one value in grid_scales[k] cells of the stem."""

    strides: tuple[int, ...] = bounded(1, 16, (2, 4))
    widths: tuple[int, ...] = bounded(1, 2048, (48, 48))
    depths: tuple[int, ...] = bounded(0, 16, (2, 4))
    expansion: int = bounded(1, 8, 3)
    grid_rates: tuple[int, ...] = bounded(0, 1 << 20, GRID_RATES)
    grid_scales: tuple[int, ...] = bounded(1, 64, (4, 2, 1, 1))
    grid_channels: tuple[int, ...] = bounded(1, 1024, GRID_CHANNELS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "widths", "depths")
        self._same_length("grid_rates", "grid_scales", "grid_channels")


class GridNeRV(Representation):
    """Feature grids -> stem -> stages of residual blocks -> PixelShuffle -> frame."""

    config_type = GridNeRVConfig
    embedding_names = ("grids",)
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
        ),
    }

    def __init__(self, config: GridNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        cell = math.prod(config.strides)
        self.grid = math.ceil(shape.height / cell), math.ceil(shape.width / cell)
        self.grids = nn.ParameterList(
            torch.randn(
                self._knots(rate), channels, *(math.ceil(side / scale) for side in self.grid)
            ).mul_(0.05)
            for rate, scale, channels in zip(
                config.grid_rates, config.grid_scales, config.grid_channels, strict=True
            )
        )
        self.stem = nn.Conv2d(sum(config.grid_channels), config.widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, config.expansion) for _ in range(depth)))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.reductions = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in zip(config.widths, config.widths[1:], strict=False)
        )
        self.head = nn.Conv2d(config.widths[-1], 3 * config.strides[-1] ** 2, 3, padding=1)

    def _knots(self, rate: int) -> int:
        last = self.shape.frames - 1
        return math.ceil(last / rate) + 1 if rate and last else 1

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> GridNeRVConfig:
        """See Representation.configure. The last stage has at most 24 sqrt(last stride) channels,
        which bounds the work per pixel; what else there is goes into the earlier stages and the
        grids' channels."""
        strides = options.setdefault(
            "strides", choose_strides(STRIDES, shape.height, shape.width, rows=GRID_ROWS)
        )
        earlier, trunk = len(strides) - 1, round(TRUNK_WIDTH * math.sqrt(strides[-1]))

        def sized(width: int, slower: int, more: int = 0) -> GridNeRVConfig:
            channels = [max(1, round(n * width / GRID_WIDTH)) for n in GRID_CHANNELS]
            sizes = {
                "widths": (*(width,) * earlier, min(width, trunk)),
                "depths": (*(2,) * earlier, 4),
                "grid_rates": tuple(rate * slower for rate in GRID_RATES),
                "grid_channels": (*channels[:-1], channels[-1] + more),
            }
            return GridNeRVConfig(**(sizes | options))

        def count(config: GridNeRVConfig) -> int:
            return count_stored(cls.skeleton(config, shape))

        if parameters is None:
            return sized(trunk, slower=1)
        for slower in SLOWER:
            if count(sized(1, slower)) > parameters and slower != SLOWER[-1]:
                continue
            width = largest_within(
                lambda n, s=slower: count(sized(n, s)), parameters, low=1, high=1024
            )
            config = sized(width, slower)
            grids = cls.skeleton(config, shape).embeddings().values()
            if sum(grid.numel() for grid in grids) <= GRID_SHARE * parameters:
                break
        # One channel more everywhere is a large step: the constant grid takes up the rest.
        more = largest_within(lambda n: count(sized(width, slower, n)), parameters, low=0, high=256)
        return sized(width, slower, more)

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
        features = [self._sample(grid, t) for grid in self.grids]
        x = self.stem(torch.cat(features, 1))
        x = self.stages[0](x)
        for reduction, stage, stride in zip(
            self.reductions, self.stages[1:], self.config.strides, strict=False
        ):
            x = stage(F.interpolate(reduction(x), scale_factor=stride, mode="bilinear"))
        return self.head(x)

    def _sample(self, grid: Tensor, t: Tensor) -> Tensor:
        """(B, C, h, w) features at positions `t`: linear in time, bilinear in space."""
        x = between(grid, t * ((len(grid) - 1) / max(1, self.shape.frames - 1)))
        if x.shape[2:] != self.grid:
            x = F.interpolate(x, size=self.grid, mode="bilinear")
        return x

    @torch.no_grad()
    def start_fit(self, frames: Tensor) -> None:
        """Start from the clip's principal components: the head's columns are those of its
        patches, the grids' channels are its cells along theirs."""
        self._start_head(frames)
        self._start_grids(frames)

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
        pairs = list(zip(self.grids, self.config.grid_scales, strict=True))
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

    def matrices(self) -> list[str]:
        """All that mixes channels; not the depthwise convolutions, nor the grids."""
        return [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2 and not name.startswith("grids.") and ".depthwise." not in name
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
