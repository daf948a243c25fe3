"""NeRV: Neural Representations for Videos (Chen et al., NeurIPS 2021, arXiv 2110.13903)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from nervkit.models.base import Representation, count_stored
from nervkit.models.blocks import PositionalEncoding, UpBlock, cropped, to_unit
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import choose_strides, largest_within

# 5,2,2,2,2 at 720p and 5,3,2,2,2 at 1080p are published; the others continue the pattern, for a
# grid of about 9 rows at every frame size.
STRIDES = (
    (2,),
    (3,),
    (2, 2),
    (5,),
    (3, 2),
    (2, 2, 2),
    (5, 2),
    (3, 2, 2),
    (5, 3),
    (5, 2, 2),
    (3, 2, 2, 2),
    (5, 3, 2),
    (5, 2, 2, 2),
    (5, 3, 2, 2),
    (5, 2, 2, 2, 2),
    (5, 3, 2, 2, 2),
    (5, 4, 2, 2, 2),
    (5, 4, 3, 2, 2),
)


@dataclass(frozen=True)
class NeRVConfig(ModelConfig):
    """NeRV's shape. The defaults are NeRV-S (table 1 and appendix), with the repository's PE."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2, 2))
    stem_width: int = bounded(1, 4096, 512)  # hidden width of the stem's MLP
    grid_channels: int = bounded(1, 1024, 26)  # channels of the grid, the stem's output
    min_width: int = bounded(1, 1024, 96)  # minimum width of stages 1, 2, ...
    pe_base: float = bounded(1, 4, 1.25)
    pe_levels: int = bounded(1, 128, 40)


class NeRV(Representation):
    """Frame index -> positional encoding -> MLP -> grid -> up-blocks -> frame (section 3.1)."""

    paper = "NeRV (NeurIPS 2021, arXiv 2110.13903)"
    config_type = NeRVConfig
    recipes: ClassVar = {
        # Section 4.1: Adam (0.5, 0.999), 5e-4, batch 1, 20% warm-up, cosine, 0.7 L1 + 0.3 (1-SSIM).
        "paper": Recipe(
            loss="fusion6",
            lr=5e-4,
            batch=1,
            epochs=300,
            betas=(0.5, 0.999),
            warmup=0.2,
            precision="float32",
            compression="nerv",
        ),
        "native": Recipe(loss="mse", lr=3e-3, batch=2, epochs=300, matrix_lr=0.03, warmup=0.05),
    }
    config: NeRVConfig

    def __init__(self, config: NeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        factor = math.prod(config.strides)
        self.grid = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        width = config.grid_channels
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        self.stem = nn.Sequential(
            nn.Linear(2 * config.pe_levels, config.stem_width),
            nn.GELU(),
            nn.Linear(config.stem_width, math.prod(self.grid) * width),
            nn.GELU(),
        )
        self.blocks = nn.Sequential()
        for stage, stride in enumerate(config.strides):
            # Stage 0 keeps the grid's width, later ones halve it down to the minimum.
            out = config.grid_channels if stage == 0 else max(width // 2, config.min_width)
            self.blocks.append(UpBlock(width, out, stride, kernel=3))
            width = out
        self.head = nn.Conv2d(width, 3, 1)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> NeRVConfig:
        """See Representation.configure. Sizes above NeRV-S widen the grid, as S, M and L do;
        smaller ones scale down grid, stem and minimum width together."""
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows=9))
        base = NeRVConfig(**options)
        if parameters is None:
            return base

        def scaled(channels: int, stem_width: int | None = None) -> NeRVConfig:
            share = min(1.0, channels / 26)
            sizes: dict[str, Any] = {
                "grid_channels": channels,
                "stem_width": stem_width or max(1, round(512 * share)),
                "min_width": max(1, round(96 * share)),
            }
            return replace(base, **{k: v for k, v in sizes.items() if k not in options})

        def count(config: NeRVConfig) -> int:
            return count_stored(cls.skeleton(config, shape))

        channels = largest_within(lambda n: count(scaled(n)), parameters, low=1, high=1024)
        least = scaled(channels).stem_width
        if channels >= 26 or "stem_width" in options:
            return scaled(channels)
        # One channel more is a large step for a small model: the stem takes the remaining values.
        width = largest_within(
            lambda n: count(scaled(channels, n)), parameters, low=least, high=512
        )
        return scaled(channels, width)

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward."""
        x = self.stem(self.encoding(t / self.shape.frames))
        x = self.blocks(x.unflatten(1, (self.config.grid_channels, *self.grid)))
        return to_unit(cropped(self.head(x), self.shape.height, self.shape.width))
