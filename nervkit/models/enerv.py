"""E-NeRV: Expedite Neural Video Representation with Disentangled Spatial-Temporal Context (Li et
al., ECCV 2022, arXiv 2207.08132)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervkit.models.base import Representation, count_stored
from nervkit.models.blocks import PositionalEncoding, UpBlock, cropped, mlp
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.nerv import STRIDES
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import choose_strides, scaled_within

FIRST_HEADS, SECOND_HEADS = 1, 8  # of the transformers before and after the time is applied


@dataclass(frozen=True)
class ENeRVConfig(ModelConfig):
    """E-NeRV's shape. The defaults are published, for Bunny at 720p."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2, 2))
    token_width: int = bounded(1, 4096, 256)  # channels of the transformers' tokens
    head_width: int = bounded(1, 1024, 64)  # channels of each attention head
    grid_channels: int = bounded(1, 1024, 196)  # channels of the grid that the tokens form
    expansion: int = bounded(1, 8, 3)  # of the grid's channels, in stage 0
    min_width: int = bounded(1, 1024, 96)  # minimum width of stages 1, 2, ...
    condition_width: int = bounded(1, 1024, 128)  # of the vector that modulates every stage
    pe_base: float = bounded(1, 4, 1.25)
    pe_levels: int = bounded(1, 128, 80)

    def stages(self) -> list[tuple[int, int, int, int]]:
        """Return (channels in, channels out, stride, kernel) of every stage."""
        return halving_stages(self.grid_channels, self.expansion, self.min_width, self.strides)


def halving_stages(
    channels: int, expansion: int, min_width: int, strides: tuple[int, ...]
) -> list[tuple[int, int, int, int]]:
    """Return (channels in, channels out, stride, kernel) of stages of 3x3 convolutions. Stage 0
    multiplies `channels` by `expansion`; later ones halve the width down to `min_width`."""
    rows, width = [], channels
    for index, stride in enumerate(strides):
        out = max(width // 2, min_width) if index else width * expansion
        rows.append((width, out, stride, 3))
        width = out
    return rows


class ENeRV(Representation):
    """Spatial tokens and a vector of time -> transformers -> grid -> up-blocks, each modulated by
    time -> frame (section 3)."""

    paper = "E-NeRV (ECCV 2022, arXiv 2207.08132)"
    config_type = ENeRVConfig
    recipes: ClassVar = {
        # The repository's configuration for Bunny: that of NeRV.
        "paper": Recipe(
            loss="fusion6",
            lr=5e-4,
            batch=1,
            epochs=300,
            betas=(0.5, 0.999),
            warmup=0.2,
            precision="float32",
        ),
        "native": Recipe(loss="mse", lr=3e-3, batch=2, epochs=300, matrix_lr=0.03, warmup=0.05),
    }

    def __init__(self, config: ENeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        self.stem = SpaceTimeStem(config, shape)
        width = config.condition_width
        self.condition = mlp(2 * config.pe_levels, width, width)
        self.modulations, self.blocks = nn.ModuleList(), nn.ModuleList()
        for index, stage in enumerate(config.stages()):
            self.modulations.append(Modulation(width, stage[0]))
            self.blocks.append(UpBlock(*stage) if index else NarrowedUpBlock(*stage))
        self.head = nn.Conv2d(config.stages()[-1][1], 3, 1)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> ENeRVConfig:
        """See Representation.configure. Smaller networks scale all widths of the published one
        alike, larger ones widen the grid; the token width takes the remaining values."""
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows=9))
        base = ENeRVConfig(**options)
        if parameters is None:
            return base
        names = ("grid_channels", "token_width", "head_width", "min_width", "condition_width")
        sizes = {name: getattr(ENeRVConfig(), name) for name in names}
        return scaled_within(
            lambda config: count_stored(cls.skeleton(config, shape)),
            base,
            parameters,
            sizes,
            remainder="token_width",
            fixed=options,
        )

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. The first frame is at time 0, the last at 1."""
        time = self.encoding(t / max(1, self.shape.frames - 1))
        x, condition = self.stem(time), self.condition(time)
        for modulation, block in zip(self.modulations, self.blocks, strict=True):
            x = block(modulation(x, condition))
        return torch.sigmoid(cropped(self.head(x), self.shape.height, self.shape.width).float())

    def matrices(self) -> list[str]:
        """See Representation.matrices: all that mixes channels, except the layers that read
        encodings and the head."""
        outer = ("stem.time.0", "stem.space.0", "condition.0", "head")
        return [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2 and not name.startswith(outer)
        ]


class SpaceTimeStem(nn.Module):
    """The disentangled stem (section 3): a transformer mixes spatial tokens, a vector of time
    multiplies them, a second transformer mixes them again, and they form the grid.

    Args of forward:
        time: (B, 2 * levels), encoded positions.

    Returns of forward:
        (B, grid channels, rows, columns).
    """

    def __init__(
        self, config: ENeRVConfig, shape: VideoShape, act: Callable[[], nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        factor = math.prod(config.strides)
        self.grid = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        encoded, width = 2 * config.pe_levels, config.token_width
        self.time = mlp(encoded, 2 * width, width, act=act)
        self.space = mlp(2 * encoded, width, act=act)
        self.first = Transformer(width, FIRST_HEADS, config.head_width)
        self.second = Transformer(width, SECOND_HEADS, config.head_width)
        self.project = mlp(width, config.grid_channels, act=act)

    def forward(self, time: Tensor) -> Tensor:
        spatial = self.first(self._spatial_tokens(time.device))  # once, however many frames
        tokens = self.second(spatial * self.time(time)[:, None])
        return self.project(tokens).mT.unflatten(2, self.grid)

    def _spatial_tokens(self, device: torch.device) -> Tensor:
        """Return (1, rows * columns, width): a token per cell, from its row and column in
        [0, 1)."""
        sides = [self.encoding(torch.arange(n, device=device) / n) for n in self.grid]
        rows, columns = sides[0][:, None], sides[1][None]
        both = torch.cat([rows.expand(*self.grid, -1), columns.expand(*self.grid, -1)], 2)
        return self.space(both.flatten(0, 1))[None]


class Transformer(nn.Module):
    """Self-attention and a feed-forward layer, each added to the (B, N, width) tokens, without
    norms (section 3)."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)
        hidden = max(1, width // 2)
        self.feed = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).unflatten(2, (3, self.heads, self.head_width))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.mT * self.head_width**-0.5, dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).flatten(2))
        return x + self.feed(x)


class Modulation(nn.Module):
    """Instance norm, then x * gamma + beta with (gamma, beta) = GELU(linear(condition)), channel by
    channel: AdaIN (section 3)."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.affine = mlp(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gamma, beta = self.affine(condition)[..., None, None].chunk(2, dim=1)
        # An instance norm that accepts grids of a single cell too.
        return F.layer_norm(x, x.shape[2:]) * gamma + beta


class NarrowedUpBlock(nn.Module):
    """3x3 conv to a quarter of the channels, times stride^2 -> PixelShuffle -> 3x3 conv ->
    activation (section 3). Far fewer values than one convolution to many channels."""

    def __init__(
        self, cin: int, cout: int, stride: int, kernel: int, act: Callable[[], nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        narrow = max(1, cin // 4)
        self.up = nn.Conv2d(cin, narrow * stride**2, kernel, padding=kernel // 2)
        self.widen = nn.Conv2d(narrow, cout, 3, padding=1)
        self.stride = stride
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.widen(F.pixel_shuffle(self.up(x), self.stride)))
