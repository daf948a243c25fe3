"""HiNeRV: Video Compression with Hierarchical Encoding-based Neural Representation (Kwan et al.,
NeurIPS 2023, arXiv 2306.09818).

    x_0 = stem(base grids at t)
    y = upsample(norm(x)) + W (local grids at t, row mod s, column mod s)         between the stages
    x <- (x +) W_2 gelu(W_1 norm(D * x))                                                       block
    frame = sigmoid(W x)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.models.base import Representation, count_stored
from nervkit.models.blocks import interpolated
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import TooFewParametersError, choose_strides, largest_within

# 5,2,2,2 at 720p and 5,3,2,2 at 1080p are published; the others continue the pattern, for a grid of
# about 18 rows at every frame size.
STRIDES = (
    (2, 2),
    (3, 2),
    (2, 2, 2),
    (5, 2),
    (3, 2, 2),
    (5, 3),
    (2, 2, 2, 2),
    (5, 2, 2),
    (3, 2, 2, 2),
    (5, 3, 2),
    (5, 2, 2, 2),
    (5, 3, 2, 2),
    (5, 4, 2, 2),
    (5, 4, 3, 2),
    (5, 4, 3, 3),
)
DEPTH, EXPANSION = 3, 4  # of all stages except the last, which has 1 and 1
BASE_RATE = 3.3  # frames per knot of the base grids
GRID_SHARE = 0.18  # of all values, as published
MAX_GRID_SHARE = 0.3  # grids get fewer knots if their smallest channel count takes more
MIN_WIDTH = 4  # of a stage: LayerNorm needs several channels
BASE_LEVELS, LOCAL_LEVELS = 2, 3
INIT_RANGE = 1e-3  # of the grids


@dataclass(frozen=True)
class HiNeRVConfig(ModelConfig):
    """HiNeRV's shape (section 3.2). Stage i has width / 2^i channels and depths[i] blocks. Level l
    of the base grids has base_knots / 2^l knots and base_channels * 2^l channels; level l of stage
    i's local grids has local_knots / 2^l and local_channels / 2^i * 2^l. The defaults are HiNeRV-S
    for 132 frames of 720p."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2))
    width: int = bounded(MIN_WIDTH, 4096, 280)
    depths: tuple[int, ...] = bounded(1, 16, (3, 3, 3, 1))
    expansions: tuple[int, ...] = bounded(1, 8, (4, 4, 4, 1))
    base_knots: int = bounded(1, 1 << 20, 40)
    base_channels: int = bounded(1, 256, 8)
    local_knots: int = bounded(1, 1 << 20, 132)
    local_channels: int = bounded(1, 256, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "depths", "expansions")

    def widths(self) -> list[int]:
        """Return the width of every stage."""
        return [max(self.width >> i, MIN_WIDTH) for i in range(len(self.strides))]


class Span(NamedTuple):
    """A half-open range of rows or columns."""

    start: int
    stop: int

    def of(self, outer: Span) -> slice:
        """Return the slice of these rows within `outer`."""
        return slice(self.start - outer.start, self.stop - outer.start)

    def wider(self, by: int, size: int) -> Span:
        """Extend the span by `by` rows on both sides, within [0, size)."""
        return Span(max(0, self.start - by), min(size, self.stop + by))


class HiNeRV(Representation):
    """Base grids -> stem -> stages of upsampling, local grids and ConvNeXt blocks -> frame."""

    paper = "HiNeRV (NeurIPS 2023, arXiv 2306.09818)"
    config_type = HiNeRVConfig
    embedding_names = ("base", "local")
    recipes: ClassVar = {
        # Section 4.1 and the authors' configuration: Adam, 2e-3, as many pixels per step as a frame
        # has, 30 of 300 epochs of warm-up from 2e-5, cosine, 0.7 L1 + 0.3 (1 - MS-SSIM of 5x5).
        "paper": Recipe(
            loss="fusion10_5x5",
            lr=2e-3,
            batch=1,
            epochs=300,
            warmup=0.1,
            warmup_from=0.01,
            most_norm=1.0,
            precision="float32",
            compression="hinerv",
        ),
        "native": Recipe(
            loss="log_mse",
            lr=3e-3,
            batch=2,
            epochs=300,
            matrix_lr=0.05,
            embedding_lr=0.01,
            warmup=0.05,
        ),
    }
    config: HiNeRVConfig

    def __init__(self, config: HiNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        factor = math.prod(config.strides)
        self.size = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        self.base = nn.ParameterList(
            _grid(config.base_knots, config.base_channels, level, self.size)
            for level in range(BASE_LEVELS)
        )
        # One list for all stages: LOCAL_LEVELS consecutive grids belong to one stage.
        self.local = nn.ParameterList(
            _grid(config.local_knots, max(1, config.local_channels >> stage), level, (side, side))
            for stage, side in enumerate(config.strides)
            for level in range(LOCAL_LEVELS)
        )
        cin = config.width
        self.stem = nn.Conv2d(sum(g.shape[1] for g in self.base), cin, 3, padding=1)
        self.stages = nn.ModuleList()
        for index, width in enumerate(config.widths()):
            grids = sum(grid.shape[1] for grid in self._local(index))
            depth, expansion = config.depths[index], config.expansions[index]
            self.stages.append(Stage(grids, cin, width, config.strides[index], depth, expansion))
            cin = width
        self.head = nn.Linear(cin, 3)
        for layer in (self.stem, self.head):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> HiNeRVConfig:
        """See Representation.configure. As published, grids take about 18% of the values, with a
        knot in 3.3 frames (base) or in each frame (local); fewer knots if these take too much."""
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows=18))
        stages = max(1, len(options["strides"]))
        options.setdefault("depths", (*(DEPTH,) * (stages - 1), 1))
        options.setdefault("expansions", (*(EXPANSION,) * (stages - 1), 1))
        spacing = 1
        while True:
            knots = {
                "base_knots": math.ceil(shape.frames / BASE_RATE / spacing),
                "local_knots": math.ceil(shape.frames / spacing),
            }
            if parameters is None:
                return HiNeRVConfig(**(knots | options))
            last = spacing >= shape.frames
            try:
                return cls._within(parameters, shape, knots | options, last)
            except TooFewParametersError:
                if last:
                    raise
            spacing *= 2

    @classmethod
    def _within(
        cls, parameters: int, shape: VideoShape, options: dict[str, Any], last: bool
    ) -> HiNeRVConfig:
        """Return the largest width within `parameters`, with GRID_SHARE of them in grids. Raises
        TooFewParametersError if even the smallest grids exceed MAX_GRID_SHARE, unless this is the
        `last` try; or if no width fits."""
        least = HiNeRVConfig(**({"base_channels": 1, "local_channels": 2} | options))
        single = sum(grid.numel() for grid in cls.skeleton(least, shape).embeddings().values())
        if single > MAX_GRID_SHARE * parameters and not last:
            raise TooFewParametersError(parameters, single / MAX_GRID_SHARE)
        channels = min(128, max(1, round(GRID_SHARE * parameters / single)))
        while True:
            sizes = {"base_channels": channels, "local_channels": 2 * channels}
            base = HiNeRVConfig(**(sizes | options))
            if "width" in options:
                return base
            count = partial(cls._count, base, shape)
            try:
                width = largest_within(count, parameters, low=MIN_WIDTH, high=4096)
            except TooFewParametersError:
                if channels == 1:
                    raise
                channels //= 2
            else:
                return replace(base, width=width)

    @classmethod
    def _count(cls, base: HiNeRVConfig, shape: VideoShape, width: int) -> int:
        return count_stored(cls.skeleton(replace(base, width=width), shape))

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. Between frames, grids are interpolated linearly."""
        return self.patch(t, Span(0, self.shape.height), Span(0, self.shape.width))

    def patch(self, t: Tensor, rows: Span, columns: Span) -> Tensor:
        """Compute a patch of the frames at positions `t`, (B, 3, rows, columns) (section 3.3).

        Each stage also computes the margin that its convolutions reach, and no cells beyond the
        frame, where they see zeros. So the patch equals that of the full frame, up to rounding.
        """
        t = t.clamp(0, self.shape.frames - 1).double()
        spans = zip(
            self._spans(rows, self.size[0]), self._spans(columns, self.size[1]), strict=True
        )
        x = self.stem(torch.cat([self._at(grid, t) for grid in self.base], 1))
        have = Span(0, self.size[0]), Span(0, self.size[1])
        for index, (stage, (down, across)) in enumerate(zip(self.stages, spans, strict=True)):
            x = x[..., down.source.of(have[0]), across.source.of(have[1])]
            local = torch.cat([self._at(grid, t) for grid in self._local(index)], 1)
            have = down.inside, across.inside
            x = stage(x, local, down.taken, across.taken)
        x = self.head(x[..., rows.of(have[0]), columns.of(have[1])].permute(0, 2, 3, 1))
        return torch.sigmoid(x.permute(0, 3, 1, 2).float())

    def _at(self, grid: Tensor, t: Tensor) -> Tensor:
        """Interpolate a grid at positions `t`, linearly between the centres of its knots."""
        knots = len(grid)
        position = (t + 0.5) * (knots / self.shape.frames) - 0.5
        return interpolated(grid, position.clamp(0, knots - 1))

    def _local(self, stage: int) -> list[nn.Parameter]:
        """Return the levels of a stage's local grids."""
        return list(self.local)[LOCAL_LEVELS * stage : LOCAL_LEVELS * (stage + 1)]

    def _spans(self, needed: Span, cells: int) -> list[StageSpans]:
        """Return, for each stage, the rows (or columns) that the `needed` ones of the frame depend
        on; `cells` is the number of rows of the stem."""
        spans = []
        sizes = [cells * math.prod(self.config.strides[:i]) for i in range(len(self.stages) + 1)]
        for index, (stride, depth) in reversed(
            list(enumerate(zip(self.config.strides, self.config.depths, strict=True)))
        ):
            inside = needed.wider(depth, sizes[index + 1])
            # Row o of the output is at (o + 1/2) / stride - 1/2 of the input, between two rows.
            first = (2 * inside.start + 1 - stride) // (2 * stride)
            last = (2 * inside.stop - 1 - stride) // (2 * stride)
            needed = Span(max(0, first), min(sizes[index], last + 2))
            spans.append(StageSpans(needed, inside, stride))
        return spans[::-1]

    def matrices(self) -> list[str]:
        """See Representation.matrices: the linear maps of the blocks."""
        return [
            name
            for name, p in self.stages.named_parameters(prefix="stages")
            if p.ndim == 2 and ".blocks." in name
        ]


class StageSpans(NamedTuple):
    """The rows of a stage's input that it needs (`source`), the rows of its output that its blocks
    compute (`inside`), and its stride."""

    source: Span
    inside: Span
    stride: int

    @property
    def taken(self) -> slice:
        """The rows of the blocks within the upsampled input."""
        upsampled = Span(self.stride * self.source.start, self.stride * self.source.stop)
        return self.inside.of(upsampled)


class Stage(nn.Module):
    """Norm -> bilinear upsampling -> plus local grids -> blocks, of which the first changes the
    width (fig. 2)."""

    def __init__(
        self, grids: int, cin: int, cout: int, stride: int, depth: int, expansion: int
    ) -> None:
        """`grids`: channels of the local grids."""
        super().__init__()
        self.stride = stride
        self.encoding = nn.Linear(grids, cin)
        widths = [cin, *[cout] * (depth - 1)]
        self.blocks = nn.Sequential(*(Block(width, cout, expansion * cout) for width in widths))
        nn.init.zeros_(self.encoding.bias)

    def forward(self, x: Tensor, local: Tensor, rows: slice, columns: slice) -> Tensor:
        """Compute (B, cout, ...) at `rows` and `columns` of the upsampled `x` (B, cin, h, w).
        `local` (B, grids, stride, stride) is the same in every cell of `x`."""
        x = _normed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.interpolate(x, scale_factor=self.stride, mode="bilinear")
        encoded = self.encoding(local.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        cells = torch.unflatten(torch.unflatten(x, 3, (-1, self.stride)), 2, (-1, self.stride))
        x = (cells + encoded[:, :, None, :, None]).flatten(4).flatten(2, 3)
        return self.blocks(x[..., rows, columns])


class Block(nn.Module):
    """Depthwise 3x3 -> norm -> linear to `hidden` channels -> GELU -> linear; residual if the width
    stays. ConvNeXt's order (2201.03545), without biases, scale and shift."""

    def __init__(self, cin: int, cout: int, hidden: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(cin, cin, 3, padding=1, groups=cin, bias=False)
        self.expand = nn.Linear(cin, hidden, bias=False)
        self.project = nn.Linear(hidden, cout, bias=False)
        self.residual = cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = _normed(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(F.gelu(self.expand(y))).permute(0, 3, 1, 2)
        return x + y if self.residual else y


def _normed(x: Tensor) -> Tensor:
    """Apply LayerNorm over the last axis, without scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _grid(knots: int, channels: int, level: int, size: tuple[int, int]) -> nn.Parameter:
    """Return the grid of a level, which has half the knots and twice the channels of the one
    before."""
    shape = max(1, knots >> level), channels << level, *size
    return nn.Parameter(torch.empty(shape).uniform_(-INIT_RANGE, INIT_RANGE))
