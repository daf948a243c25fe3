"""FFNeRV: Flow-Guided Frame-Wise Neural Representations for Videos (Lee et al., ACM Multimedia
2023, arXiv 2212.12294).

    z(t) = ((1 - a) G_k[i] + a G_k[i + 1], i + a = t K_k / T, for each grid k)                grids
    I(t), f(t), w(t), b(t) = blocks and heads of z(t)      independent frame, flows, weights, blend
    A(t) = sum_n softmax(w(t))_n I(t + n) warped by f_n(t)                         aggregated frame
    frame = softmax(b(t))_0 I(t) + softmax(b(t))_1 A(t)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.models.base import Representation, count_stored
from nervkit.models.blocks import UpBlock, cropped, interpolated, to_unit, warped
from nervkit.models.config import ModelConfig, VideoShape, bounded, chosen
from nervkit.models.nerv import STRIDES
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import TooFewParametersError, choose_strides, largest_within

FULL, COMPACT = "full", "compact"
GROUPS = 8  # of a compact block's 3x3 convolution
MAX_GRID_SHARE = 0.5  # of all values, at most, for grids of a chosen size
#: the two published configurations that sizes are scaled from, and frames per knot of each grid
SIZES: dict[str, dict[str, Any]] = {
    FULL: {"grid_channels": 156, "expansion": 1, "min_width": 96},
    COMPACT: {"grid_channels": 48, "expansion": 8, "min_width": 24},
}
RATES = {FULL: (8, 4, 2, 1), COMPACT: (2, 1)}


@dataclass(frozen=True)
class FFNeRVConfig(ModelConfig):
    """FFNeRV's shape (sections 3.1 to 3.4). The defaults represent a 720p video. The grids share
    `grid_channels` as evenly as possible; grid k has grid_knots[k] knots."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2, 2))
    grid_knots: tuple[int, ...] = bounded(1, 1 << 20, (64, 128, 256, 512))
    grid_channels: int = bounded(1, 4096, 156)
    expansion: int = bounded(1, 16, 1)  # width of stage 0 over grid_channels
    min_width: int = bounded(1, 1024, 96)  # minimum width of stages 1, 2, ...
    convolution: str = chosen(FULL, COMPACT, default=FULL)  # of stages 1, 2, ...
    neighbours: tuple[int, ...] = bounded(-16, 16, (-2, -1, 1, 2))

    def channels(self) -> list[int]:
        """Return the channels of each grid."""
        grids = len(self.grid_knots)
        return [(self.grid_channels + k) // grids for k in reversed(range(grids))]

    def stages(self) -> list[tuple[int, int, int]]:
        """Return (channels in, channels out, stride) of every stage."""
        rows, width = [], self.grid_channels
        for index, stride in enumerate(self.strides):
            out = max(width // 2, self.min_width) if index else width * self.expansion
            rows.append((width, out, stride))
            width = out
        return rows


class Parts(NamedTuple):
    """The outputs of blocks and heads at a position, (B, ...) each.

    Attributes:
        independent: (B, 3, H, W) the independent frame, in [0, 1].
        flows: (B, 3 * neighbours, h, w) at lower resolution: x and y of the flow to each neighbour,
            in cells of h x w, then the logits of the neighbours' weights.
        share: (B, 1, H, W) blending weight of the independent frame.
    """

    independent: Tensor
    flows: Tensor
    share: Tensor


class FFNeRV(Representation):
    """Temporal grids -> up-blocks -> independent frame and flows. The final frame blends it with
    the neighbours' independent frames, warped along the flows (fig. 2)."""

    paper = "FFNeRV (ACM MM 2023, arXiv 2212.12294)"
    config_type = FFNeRVConfig
    embedding_names = ("grids",)
    fit_only = ("buffer",)
    output_weights = (1.0, 0.1, 0.1)  # final, aggregated, independent frame (section 3.5)
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
            compression="ffnerv",
        ),
        "native": Recipe(
            loss="log_mse",
            lr=1e-2,
            batch=2,
            epochs=300,
            matrix_lr=0.05,
            embedding_lr=0.03,
            warmup=0.05,
        ),
    }
    config: FFNeRVConfig

    def __init__(self, config: FFNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        factor = math.prod(config.strides)
        size = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        self.grids = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(knots, channels, *size))
            for knots, channels in zip(config.grid_knots, config.channels(), strict=True)
            if channels
        )
        self.blocks = nn.ModuleList()
        for index, (cin, cout, stride) in enumerate(stages := config.stages()):
            if index and config.convolution == COMPACT:
                self.blocks.append(CompactUpBlock(cin, cout, stride))
            else:
                self.blocks.append(UpBlock(cin, cout, stride, kernel=3))
        # The flow head follows the third stage from the end, at a quarter of the resolution.
        self.flow_stage = max(0, len(stages) - 3)
        flow_width, width = stages[self.flow_stage][1], stages[-1][1]
        self.flow_head = nn.Conv2d(flow_width, 3 * len(config.neighbours), 1)
        self.head = nn.Conv2d(width, 3 + 2, 1)
        self.buffer = FrameBuffer()
        self._cache = Cache([], {})

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> FFNeRVConfig:
        """See Representation.configure. A published configuration, scaled to `parameters` if given,
        with grids of a knot in 8, 4, 2 and 1 frames (compact: 2 and 1). Knots are further apart if
        grids would take more than half of the values."""
        convolution = options.get("convolution", FULL)
        sizes = SIZES.get(convolution, {})  # the configuration refuses an unknown one
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows=9))
        if convolution == COMPACT:
            sizes = {"grid_knots": _knots(shape, RATES[COMPACT]), **sizes}
        base = FFNeRVConfig(**(sizes | options))
        if parameters is None:
            return base

        spacing = 1
        while True:
            knots = _knots(shape, RATES[convolution], spacing)
            knots = options.get("grid_knots", knots)
            last = "grid_knots" in options or max(knots) == 1
            try:
                config = cls._within(parameters, shape, replace(base, grid_knots=knots), options)
                model = cls.skeleton(config, shape)
                grids = sum(grid.numel() for grid in model.grids)
                if last or grids <= MAX_GRID_SHARE * count_stored(model):
                    return config
            except TooFewParametersError:
                if last:
                    raise
            spacing *= 2

    @classmethod
    def _within(
        cls, parameters: int, shape: VideoShape, base: FFNeRVConfig, options: dict[str, Any]
    ) -> FFNeRVConfig:
        """Return `base` with as many channels as `parameters` allow. Sizes above the published ones
        widen the grids, smaller ones scale down grids and minimum width together."""
        published = base.grid_channels

        def scaled(channels: int, min_width: int | None = None) -> FFNeRVConfig:
            floor = max(1, round(base.min_width * min(1.0, channels / published)))
            sizes: dict[str, Any] = {"grid_channels": channels, "min_width": min_width or floor}
            return replace(base, **{k: v for k, v in sizes.items() if k not in options})

        def count(config: FFNeRVConfig) -> int:
            return count_stored(cls.skeleton(config, shape))

        channels = largest_within(lambda n: count(scaled(n)), parameters, low=1, high=1024)
        config = scaled(channels)
        if channels >= published:
            return config
        # One channel more is a large step for a small model: the minimum width takes the rest.
        floor = largest_within(
            lambda n: count(scaled(channels, n)),
            parameters,
            low=config.min_width,
            high=max(config.min_width, base.min_width),
        )
        return scaled(channels, floor)

    @property
    def neighbours(self) -> tuple[int, ...]:
        """See Representation.neighbours."""
        return self.config.neighbours

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. Between frames, grids are interpolated linearly, and the
        neighbours keep their distance. Neighbours beyond the clip are black (section 3.3).

        Without gradients, frames are computed one at a time, and independent frames are cached for
        the next one; the bits are the same in any order.
        """
        t = t.clamp(0, self.shape.frames - 1)
        if not (self.training or torch.is_grad_enabled() or t.is_meta):
            return torch.cat([self._decoded(position, t) for position in t.tolist()])
        others = [
            self._parts(p.clamp(0, self.shape.frames - 1)).independent
            for p in self._neighbour_positions(t)
        ]
        return self._blended(t, self._parts(t), others)[0]

    def _decoded(self, position: float, like: Tensor) -> Tensor:
        """Decode one frame, (1, 3, H, W), with the parts cached by the last one; cache its own."""
        key, last = self._key(), self.shape.frames - 1
        cached = self._cache.parts if _unchanged(self._cache.key, key) else {}
        inside = [p for n in (0, *self.neighbours) if 0 <= (p := position + n) <= last]
        parts = {p: cached.get(p) or self._parts(like.new_tensor([p])) for p in inside}
        self._cache = Cache(key, parts)
        own = parts[position]
        black = torch.zeros_like(own.independent)
        others = [
            parts[p].independent if (p := position + n) in parts else black for n in self.neighbours
        ]
        return self._blended(like.new_tensor([position]), own, others)[0]

    def _key(self) -> list[tuple[Tensor, int | None]]:
        """Return the cache's key: the parameters and their version counters."""
        return [(p, None if p.is_inference() else p._version) for p in self.parameters()]

    def forget(self) -> None:
        """See Representation.forget."""
        self._cache = Cache([], {})

    def _neighbour_positions(self, t: Tensor) -> list[Tensor]:
        return [t + n for n in self.neighbours]

    def _parts(self, t: Tensor) -> Parts:
        """Compute blocks and heads at positions within the clip (sections 3.1 and 3.2)."""
        share = t.double() / self.shape.frames
        x = torch.cat([interpolated(grid, share * len(grid)) for grid in self.grids], 1)
        flows = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.flow_stage:
                flows = self.flow_head(x).float()
        out = cropped(self.head(x).float(), self.shape.height, self.shape.width)
        frame, first, second = torch.split(out, [3, 1, 1], 1)
        return Parts(to_unit(frame), flows, torch.sigmoid(first - second))  # softmax of the two

    def _blended(
        self, t: Tensor, own: Parts, others: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the final, the aggregated and the independent frame at each position. `others` are
        the neighbours' independent frames, (B, 3, H, W) each; beyond the clip they count as
        black."""
        count, size = len(self.neighbours), (self.shape.height, self.shape.width)
        scale = math.prod(self.config.strides[self.flow_stage + 1 :])
        flows, logits = torch.split(own.flows, [2 * count, count], 1)
        # Flows are in cells of their own resolution.
        flows = scale * F.interpolate(flows, scale_factor=scale, mode="bilinear")
        logits = F.interpolate(logits, scale_factor=scale, mode="nearest")
        weights = cropped(logits, *size).softmax(1)
        aggregated = torch.zeros_like(own.independent)
        neighbours = zip(
            self._neighbour_positions(t),
            others,
            torch.split(cropped(flows, *size), 2, 1),
            strict=True,
        )
        for index, (position, other, flow) in enumerate(neighbours):
            inside = (position >= 0) & (position <= self.shape.frames - 1)
            weight = weights[:, index : index + 1] * inside[:, None, None, None]
            aggregated = aggregated + weight * warped(other, flow)
        final = torch.lerp(aggregated, own.independent, own.share)
        return final, aggregated, own.independent

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        """See Representation.fit_forward. The final frames."""
        return self._fitted(t)[0]

    def fit_outputs(self, t: Tensor, frames: Tensor, by_value: bool) -> tuple[Tensor, ...]:
        """See Representation.fit_outputs: the final, the aggregated and the independent frames."""
        return self._fitted(t)

    def _fitted(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `_blended`, with the neighbours from the buffer (section 3.3). With gradients enabled,
        this step's independent frames replace theirs in the buffer."""
        own, index = self._parts(t), t.long()
        if torch.is_grad_enabled():
            self.buffer.keep(index, own.independent)
        last = self.shape.frames - 1
        others = [self.buffer.at((index + n).clamp(0, last)) for n in self.neighbours]
        return self._blended(t, own, others)

    def train(self, mode: bool = True) -> FFNeRV:
        """Switch the mode. Training fills the buffer with the independent frames of all positions
        if it is empty; evaluation clears it."""
        super().train(mode)
        self.forget()
        if not hasattr(self, "buffer"):  # a decoder
            return self
        if not mode:
            self.buffer.clear()
        elif not len(self.buffer.frames):
            with torch.no_grad():
                device = self.head.weight.device
                positions = torch.arange(float(self.shape.frames), device=device)
                self.buffer.fill(self._parts(t[None]).independent for t in positions)
        return self

    def matrices(self) -> list[str]:
        """See Representation.matrices: the convolutions of the blocks, except grouped ones."""
        return [
            name
            for name, p in self.blocks.named_parameters(prefix="blocks")
            if p.ndim == 4 and ".grouped." not in name
        ]


class Cache(NamedTuple):
    """The parts of a frame and its neighbours, by position, and the tensors they depend on."""

    key: list[tuple[Tensor, int | None]]
    parts: dict[float, Parts]


def _unchanged(
    cached: list[tuple[Tensor, int | None]], key: list[tuple[Tensor, int | None]]
) -> bool:
    """Return whether the keys hold the same tensors, unchanged; inference tensors have no version
    and count as changed."""
    return len(cached) == len(key) and all(
        a is b and before == now is not None
        for (a, before), (b, now) in zip(cached, key, strict=True)
    )


def _knots(shape: VideoShape, rates: tuple[int, ...], spacing: int = 1) -> tuple[int, ...]:
    """Return the knots of grids with one per `rates` frames, times `spacing`."""
    return tuple(math.ceil(shape.frames / (rate * spacing)) for rate in rates)


class CompactUpBlock(nn.Module):
    """3x3 convolution in 8 groups (fewer if they do not divide the widths) to cout * stride^2
    channels -> 1x1 convolution -> PixelShuffle -> GELU (section 3.4)."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        wide = cout * stride**2
        groups = math.gcd(GROUPS, cin, wide)
        self.grouped = nn.Conv2d(cin, wide, 3, padding=1, groups=groups)
        self.mixing = nn.Conv2d(wide, wide, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(F.pixel_shuffle(self.mixing(self.grouped(x)), self.stride))


class FrameBuffer(nn.Module):
    """The fit's latest independent frames, (T, 3, H, W) in 8 bits without gradients; or none.

    They are part of the fit's state, so that a resumed fit ends the same.
    """

    frames: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frames", torch.empty(0, dtype=torch.uint8))

    def fill(self, frames: Iterable[Tensor]) -> None:
        """Set all frames of a clip, (1, 3, H, W) in [0, 1] each."""
        self.frames = torch.cat([_to_bytes(frame) for frame in frames])

    def clear(self) -> None:
        """Drop all frames."""
        self.frames = self.frames.new_empty(0)

    def keep(self, index: Tensor, frames: Tensor) -> None:
        """Set the frames at `index` (B,) to (B, 3, H, W) in [0, 1]."""
        self.frames[index] = _to_bytes(frames)

    def at(self, index: Tensor) -> Tensor:
        """Return the frames at `index` (B,), (B, 3, H, W) in [0, 1]."""
        return self.frames[index].float() / 255

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load any number of frames."""
        saved = state.get(f"{prefix}frames")
        if saved is not None and saved.shape != self.frames.shape:
            self.frames = self.frames.new_empty(saved.shape)
        super()._load_from_state_dict(state, prefix, *rest)


def _to_bytes(frames: Tensor) -> Tensor:
    return frames.detach().mul(255).round().byte()
