"""HNeRV, NeRV and E-NeRV with a conditional decoder: Boosting Neural Representations for Videos
with a Conditional Decoder (Zhang et al., CVPR 2024, arXiv 2402.18152).

The shared part comes first: every block is a convolution, a PixelShuffle and a sine, then a
residual block whose features time scales and shifts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from nervkit.models.base import Representation, count_stored
from nervkit.models.blocks import PositionalEncoding, Sine, UpBlock, cropped, mlp, to_unit
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.enerv import ENeRVConfig, NarrowedUpBlock, SpaceTimeStem, halving_stages
from nervkit.models.hnerv import STRIDES as LONG_STRIDES
from nervkit.models.hnerv import HNeRVConfig, Hybrid
from nervkit.models.nerv import STRIDES
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import choose_strides, scaled_within

PUBLISHED = "Boosting-NeRV (CVPR 2024, arXiv 2402.18152)"
NATIVE = Recipe(loss="mse", lr=3e-3, batch=2, epochs=300, matrix_lr=0.03, warmup=0.05)


def paper_recipe(lr: float) -> Recipe:
    """Return the repository's recipe for Bunny: Adan, batch 1, 10% warm-up, cosine, 300 epochs, and
    the loss with high frequencies. The learning rate differs between the models."""
    return Recipe(
        loss="fusion10_freq",
        lr=lr,
        batch=1,
        epochs=300,
        optimizer="adan",
        precision="float32",
        compression="hnerv-boost",
    )


def with_strides(shape: VideoShape, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, by default with NeRV's strides for the frame size and the paper's depths,
    two blocks in each of the last three stages."""
    strides = options.get("strides") or choose_strides(STRIDES, shape.height, shape.width, rows=9)
    depths = tuple(2 if left <= 3 else 1 for left in range(len(strides), 0, -1))
    return {"strides": strides, "depths": depths} | options


def condition_of_time(levels: int, width: int) -> nn.Sequential:
    """Return an MLP from encoded positions (B, 2 * levels) to the decoder's condition
    (B, width)."""
    return mlp(2 * levels, 2 * width, width, act=Sine)


def convolutions(model: Representation) -> list[str]:
    """Return the names of the convolutions of a model's blocks."""
    return [n for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 4]


class ScaleAndShift(nn.Module):
    """x * (1 + scale) + shift per channel, each from its own MLP of the condition: the
    temporal-aware affine transform (section 3), which is SFT (1804.02815) of a vector.

    Args of forward:
        x: (B, channels, h, w).
        condition: (B, condition).
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = (
            nn.Sequential(
                nn.Linear(condition, condition), nn.ReLU(), nn.Linear(condition, channels)
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = (f(condition)[..., None, None] for f in (self.scale, self.shift))
        return x * (1 + scale) + shift


class ConditionedResidual(nn.Module):
    """x + conv3x3(affine(GELU(conv3x3(affine(x))))): the residual block of section 3."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.first, self.second = (ScaleAndShift(condition, channels) for _ in range(2))
        self.inner, self.outer = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = F.gelu(self.inner(self.first(x, condition)))
        return x + self.outer(self.second(y, condition))


class BoostedBlock(nn.Module):
    """The block `up`, with a sine activation, then the conditioned residual (section 3)."""

    def __init__(self, up: nn.Module, condition: int, channels: int) -> None:
        super().__init__()
        self.up = up
        self.residual = ConditionedResidual(condition, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.residual(self.up(x), condition)


class BoostedBlocks(nn.ModuleList):
    """The blocks of all stages: `depth` in each, of which the first upsamples. Those of stage 0
    have the type `first`."""

    def __init__(
        self,
        stages: Iterable[tuple[int, int, int, int]],
        depths: tuple[int, ...],
        condition: int,
        first: type[UpBlock | NarrowedUpBlock] = UpBlock,
    ) -> None:
        super().__init__()
        kind: type[nn.Module] = first
        for (cin, cout, stride, kernel), depth in zip(stages, depths, strict=True):
            self.append(BoostedBlock(kind(cin, cout, stride, kernel, Sine), condition, cout))
            for _ in range(depth - 1):
                self.append(BoostedBlock(kind(cout, cout, 1, kernel, Sine), condition, cout))
            kind = UpBlock

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


@dataclass(frozen=True)
class HNeRVBoostConfig(HNeRVConfig):
    """HNeRV-Boost's shape. The defaults have 1.5 million values, for Bunny at 720p."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2, 2))
    width: int = bounded(1, 4096, 86)
    max_kernel: int = bounded(1, 9, 3)
    depths: tuple[int, ...] = bounded(1, 16, (1, 1, 2, 2, 2))  # blocks of each stage
    condition_width: int = bounded(1, 1024, 32)  # of the vector of time
    pe_base: float = bounded(1, 4, 1.25)
    pe_levels: int = bounded(1, 128, 80)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "depths")


def hybrid_strides(shape: VideoShape, parameters: int | None, channels: int) -> tuple[int, ...]:
    """Return strides for a grid of about 9 rows, as published; of 4 or 2 rows if the embeddings
    would take more than half of the parameters."""
    for rows in (9, 4, 2):
        strides = choose_strides(STRIDES + LONG_STRIDES, shape.height, shape.width, rows)
        factor = math.prod(strides)
        cells = math.ceil(shape.height / factor) * math.ceil(shape.width / factor)
        if parameters is None or 2 * shape.frames * cells * channels <= parameters:
            break
    return strides


class HNeRVBoost(Hybrid):
    """HNeRV's embeddings -> 1x1 stem -> conditioned blocks -> frame."""

    paper = PUBLISHED
    config_type = HNeRVBoostConfig
    # HNeRV's learning rate: as there, fits with 3e-3 end lower.
    recipes: ClassVar = {"paper": paper_recipe(3e-3), "native": replace(NATIVE, lr=1e-3)}
    config: HNeRVBoostConfig

    def __init__(self, config: HNeRVBoostConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        self.condition = condition_of_time(config.pe_levels, config.condition_width)
        stem = (config.embedding_channels, config.width, 1, 1)
        stages = config.stages()
        self.blocks = BoostedBlocks([stem, *stages], (1, *config.depths), config.condition_width)
        self.head = nn.Conv2d(stages[-1][1], 3, 3, padding=1)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> HNeRVBoostConfig:
        """See Representation.configure. The width sets the size; below that of the smallest
        published network, the minimum width and the condition shrink with it. If embeddings would
        take more than half of the values, their grid is coarser than the published 9 rows."""
        channels = options.get("embedding_channels", HNeRVBoostConfig.embedding_channels)
        options.setdefault("strides", hybrid_strides(shape, parameters, channels))
        base = HNeRVBoostConfig(**with_strides(shape, options))
        if parameters is None:
            return base
        sizes = {"width": 50, "min_width": 12, "condition_width": 32}
        return scaled_within(
            lambda config: count_stored(cls.skeleton(config, shape)),
            base,
            parameters,
            sizes,
            fixed=options,
        )

    def decode(self, embedding: Tensor, t: Tensor) -> Tensor:
        """See Hybrid.decode."""
        condition = self.condition(self.encoding((t + 1) / self.shape.frames))
        x = self.blocks(embedding, condition)
        return to_unit(cropped(self.head(x), self.shape.height, self.shape.width))

    def matrices(self) -> list[str]:
        """See Representation.matrices: the convolutions of the blocks."""
        return convolutions(self)


@dataclass(frozen=True)
class NeRVBoostConfig(ModelConfig):
    """NeRV-Boost's shape. The defaults have 1.5 million values, for Bunny at 720p."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2, 2))
    depths: tuple[int, ...] = bounded(1, 16, (1, 1, 2, 2, 2))  # blocks of each stage
    stem_width: int = bounded(1, 4096, 256)  # hidden width of the stem's MLP
    grid_channels: int = bounded(1, 1024, 30)  # channels of the grid, the stem's output
    min_width: int = bounded(1, 1024, 12)  # minimum width of stages 1, 2, ...
    condition_width: int = bounded(1, 1024, 32)  # of the vector of time
    pe_base: float = bounded(1, 4, 1.25)
    pe_levels: int = bounded(1, 128, 80)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "depths")

    def stages(self) -> list[tuple[int, int, int, int]]:
        """Return (channels in, channels out, stride, kernel) of every stage."""
        return halving_stages(self.grid_channels, 1, self.min_width, self.strides)


class NeRVBoost(Representation):
    """Time -> positional encoding -> MLP -> grid -> conditioned blocks -> frame."""

    paper = PUBLISHED
    config_type = NeRVBoostConfig
    recipes: ClassVar = {"paper": paper_recipe(3e-3), "native": NATIVE}
    config: NeRVBoostConfig

    def __init__(self, config: NeRVBoostConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        factor = math.prod(config.strides)
        self.grid = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        cells = math.prod(self.grid) * config.grid_channels
        self.stem = mlp(2 * config.pe_levels, config.stem_width, cells, act=Sine)
        self.condition = condition_of_time(config.pe_levels, config.condition_width)
        self.blocks = BoostedBlocks(config.stages(), config.depths, config.condition_width)
        self.head = nn.Conv2d(config.stages()[-1][1], 3, 1)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> NeRVBoostConfig:
        """See Representation.configure. The grid's channels set the size, and the stem's width
        takes the remaining values; below the smallest published network all widths shrink."""
        base = NeRVBoostConfig(**with_strides(shape, options))
        if parameters is None:
            return base
        sizes = {"grid_channels": 15, "stem_width": 256, "min_width": 12, "condition_width": 32}
        return scaled_within(
            lambda config: count_stored(cls.skeleton(config, shape)),
            base,
            parameters,
            sizes,
            remainder="stem_width",
            fixed=options,
        )

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. The first frame is at time 1 / T, the last at 1."""
        time = self.encoding((t + 1) / self.shape.frames)
        grid = self.stem(time).unflatten(1, (self.config.grid_channels, *self.grid))
        x = self.blocks(grid, self.condition(time))
        return to_unit(cropped(self.head(x), self.shape.height, self.shape.width))

    def matrices(self) -> list[str]:
        """See Representation.matrices: the convolutions of the blocks, and the stem's output
        layer."""
        return ["stem.2.weight", *convolutions(self)]


@dataclass(frozen=True)
class ENeRVBoostConfig(ENeRVConfig):
    """E-NeRV-Boost's shape. The defaults have 1.5 million values, for Bunny at 720p."""

    token_width: int = bounded(1, 4096, 128)
    grid_channels: int = bounded(1, 1024, 44)
    min_width: int = bounded(1, 1024, 12)
    condition_width: int = bounded(1, 1024, 32)
    depths: tuple[int, ...] = bounded(1, 16, (1, 1, 2, 2, 2))  # blocks of each stage

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "depths")


class ENeRVBoost(Representation):
    """E-NeRV's stem -> conditioned blocks, which replace its modulation -> frame."""

    paper = PUBLISHED
    config_type = ENeRVBoostConfig
    recipes: ClassVar = {"paper": paper_recipe(1.5e-3), "native": NATIVE}
    config: ENeRVBoostConfig

    def __init__(self, config: ENeRVBoostConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        width = config.condition_width
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        self.stem = SpaceTimeStem(config, shape, Sine)
        self.condition = condition_of_time(config.pe_levels, width)
        self.blocks = BoostedBlocks(config.stages(), config.depths, width, NarrowedUpBlock)
        self.head = nn.Conv2d(config.stages()[-1][1], 3, 1)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> ENeRVBoostConfig:
        """See Representation.configure. The grid's channels set the size, and the token width takes
        the remaining values; below the smallest published network all widths shrink."""
        base = ENeRVBoostConfig(**with_strides(shape, options))
        if parameters is None:
            return base
        sizes = {
            "grid_channels": 21,
            "token_width": 128,
            "head_width": 64,
            "min_width": 12,
            "condition_width": 32,
        }
        return scaled_within(
            lambda config: count_stored(cls.skeleton(config, shape)),
            base,
            parameters,
            sizes,
            remainder="token_width",
            fixed=options,
        )

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. The first frame is at time 1 / T, the last at 1."""
        time = self.encoding((t + 1) / self.shape.frames)
        x = self.blocks(self.stem(time), self.condition(time))
        return to_unit(cropped(self.head(x), self.shape.height, self.shape.width))

    def matrices(self) -> list[str]:
        """See Representation.matrices: the convolutions of the blocks, and the stem except the
        layers that read encodings."""
        stem = [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2
            and name.startswith("stem.")
            and not name.startswith(("stem.time.0", "stem.space.0"))
        ]
        return stem + convolutions(self)
