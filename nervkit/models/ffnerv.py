"""FFNeRV: Flow-Guided Frame-Wise Neural Representations for Videos (Lee et al., ACM Multimedia
2023, arXiv 2212.12294).

    z(t) = ((1 - a) G_k[i] + a G_k[i + 1], i + a = t K_k / T, for each grid k)                grids
    I(t), f(t), w(t), b(t) = blocks and heads of z(t)      independent frame, flows, weights, blend
    A(t) = sum_n softmax(w(t))_n I(t + n) displaced by f_n(t)                      aggregated frame
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

from nervkit.models.base import (
    Representation,
    TooFewParametersError,
    count_stored,
    largest_within,
)
from nervkit.models.blocks import UpBlock, between, choose_strides, cropped, displaced, to_unit
from nervkit.models.config import ModelConfig, VideoShape, bounded, chosen
from nervkit.models.nerv import STRIDES
from nervkit.models.recipe import Recipe

FULL, COMPACT = "full", "compact"
GROUPS = 8  # of a compact block's 3x3 convolution
MOST_GRIDS = 0.5  # of all values are in grids, at most, where a size is chosen
#: of both published configurations: what all sizes follow from, and frames per knot of each grid
SIZES = {
    FULL: {"grid_channels": 156, "expansion": 1, "min_width": 96},
    COMPACT: {"grid_channels": 48, "expansion": 8, "min_width": 24},
}
RATES = {FULL: (8, 4, 2, 1), COMPACT: (2, 1)}


@dataclass(frozen=True)
class FFNeRVConfig(ModelConfig):
    """FFNeRV's shape (sections 3.1 to 3.4). Defaults are those of the representation of a 720p
    video. The grids share `grid_channels` as evenly as they can; grid k has grid_knots[k] knots."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 2, 2, 2, 2))
    grid_knots: tuple[int, ...] = bounded(1, 1 << 20, (64, 128, 256, 512))
    grid_channels: int = bounded(1, 4096, 156)
    expansion: int = bounded(1, 16, 1)  # width of stage 0 over grid_channels
    min_width: int = bounded(1, 1024, 96)  # narrowest width of stages 1, 2, ...
    convolution: str = chosen(FULL, COMPACT, default=FULL)  # of stages 1, 2, ...
    neighbours: tuple[int, ...] = bounded(-16, 16, (-2, -1, 1, 2))

    def channels(self) -> list[int]:
        """Of each grid."""
        grids = len(self.grid_knots)
        return [(self.grid_channels + k) // grids for k in reversed(range(grids))]

    def stages(self) -> list[tuple[int, int, int]]:
        """(channels in, channels out, stride) of every stage."""
        rows, width = [], self.grid_channels
        for index, stride in enumerate(self.strides):
            out = max(width // 2, self.min_width) if index else width * self.expansion
            rows.append((width, out, stride))
            width = out
        return rows


class Parts(NamedTuple):
    """What blocks and heads make of a position, (B, ...) each.

    Attributes:
        independent: (B, 3, H, W) the frame without its neighbours, in [0, 1].
        flows: (B, 3 * neighbours, h, w), of lower resolution: x and y of how far each neighbour's
            content is away, in cells of h x w, then the logits of their weights.
        share: (B, 1, H, W) of the independent frame in the final one.
    """

    independent: Tensor
    flows: Tensor
    share: Tensor


class FFNeRV(Representation):
    """Temporal grids -> up-blocks -> independent frame and flows; the frame is blended with its
    neighbours' independent frames, moved along the flows (fig. 2)."""

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
        # Flows come from two stages before the last, at a quarter of the frame's resolution.
        self.flow_stage = max(0, len(stages) - 3)
        flow_width, width = stages[self.flow_stage][1], stages[-1][1]
        self.flow_head = nn.Conv2d(flow_width, 3 * len(config.neighbours), 1)
        self.head = nn.Conv2d(width, 3 + 2, 1)
        self.buffer = FrameBuffer()
        self._kept = Kept([], {})

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> FFNeRVConfig:
        """See Representation.configure. The published configurations, or where a count is given,
        those narrowed or widened, with grids of a knot in 8, 4, 2 and 1 frames (compact: 2 and 1);
        more where grids would take more than half of the values."""
        convolution = options.get("convolution", FULL)
        sizes = SIZES.get(convolution, {})  # an unknown one is refused below
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows=9))
        if convolution == COMPACT:
            sizes = {"grid_knots": _knots(shape, RATES[COMPACT]), **sizes}
        base = FFNeRVConfig(**(sizes | options))
        if parameters is None:
            return base

        slower = 1
        while True:
            knots = _knots(shape, RATES[convolution], slower)
            knots = options.get("grid_knots", knots)
            last = "grid_knots" in options or max(knots) == 1
            try:
                config = cls._within(parameters, shape, replace(base, grid_knots=knots), options)
                model = cls.skeleton(config, shape)
                grids = sum(grid.numel() for grid in model.grids)
                if last or grids <= MOST_GRIDS * count_stored(model):
                    return config
            except TooFewParametersError:
                if last:
                    raise
            slower *= 2

    @classmethod
    def _within(
        cls, parameters: int, shape: VideoShape, base: FFNeRVConfig, options: dict[str, Any]
    ) -> FFNeRVConfig:
        """`base` with as many channels as `parameters` allow; sizes above the published ones widen
        the grids, smaller ones narrow grids and floor together."""
        whole = base.grid_channels

        def scaled(channels: int, min_width: int | None = None) -> FFNeRVConfig:
            floor = max(1, round(base.min_width * min(1.0, channels / whole)))
            found = {"grid_channels": channels, "min_width": min_width or floor}
            return replace(base, **{k: v for k, v in found.items() if k not in options})

        def count(config: FFNeRVConfig) -> int:
            return count_stored(cls.skeleton(config, shape))

        channels = largest_within(lambda n: count(scaled(n)), parameters, low=1, high=1024)
        config = scaled(channels)
        if channels >= whole:
            return config
        # One channel more is a large step for a small model: the floor takes up the rest.
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
        neighbours are as far away as from a frame. Those beyond the clip are black (section 3.3).

        Without gradients, one frame is computed at a time, and what neighbours share is kept for
        the next one: the bits are the same in any order.
        """
        t = t.clamp(0, self.shape.frames - 1)
        if not (self.training or torch.is_grad_enabled() or t.is_meta):
            return torch.cat([self._decoded(position, t) for position in t.tolist()])
        others = [
            self._parts(p.clamp(0, self.shape.frames - 1)).independent for p in self._places(t)
        ]
        return self._shown(t, self._parts(t), others)[0]

    def _decoded(self, position: float, like: Tensor) -> Tensor:
        """(1, 3, H, W): one frame, from what is kept of the last one. All that it used is kept."""
        key, last = self._key(), self.shape.frames - 1
        kept = self._kept.parts if _same(self._kept.key, key) else {}
        inside = [p for n in (0, *self.neighbours) if 0 <= (p := position + n) <= last]
        parts = {p: kept.get(p) or self._parts(like.new_tensor([p])) for p in inside}
        self._kept = Kept(key, parts)
        own = parts[position]
        black = torch.zeros_like(own.independent)
        others = [
            parts[p].independent if (p := position + n) in parts else black for n in self.neighbours
        ]
        return self._shown(like.new_tensor([position]), own, others)[0]

    def _key(self) -> list[tuple[Tensor, int | None]]:
        """What parts are computed from: the tensors, and how often each was changed."""
        return [(p, None if p.is_inference() else p._version) for p in self.parameters()]

    def forget(self) -> None:
        """See Representation.forget."""
        self._kept = Kept([], {})

    def _places(self, t: Tensor) -> list[Tensor]:
        """Positions of the neighbours of frames at `t`."""
        return [t + n for n in self.neighbours]

    def _parts(self, t: Tensor) -> Parts:
        """Blocks and heads at positions within the clip (sections 3.1 and 3.2)."""
        share = t.double() / self.shape.frames
        x = torch.cat([between(grid, share * len(grid)) for grid in self.grids], 1)
        flows = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.flow_stage:
                flows = self.flow_head(x).float()
        out = cropped(self.head(x).float(), self.shape.height, self.shape.width)
        frame, first, second = out.split([3, 1, 1], 1)
        return Parts(to_unit(frame), flows, torch.sigmoid(first - second))  # softmax of the two

    def _shown(
        self, t: Tensor, own: Parts, others: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The final, the aggregated and the independent frame of each position; `others` are the
        neighbours' independent frames, (B, 3, H, W) each, which count as black beyond the clip."""
        count, size = len(self.neighbours), (self.shape.height, self.shape.width)
        scale = math.prod(self.config.strides[self.flow_stage + 1 :])
        flows, logits = own.flows.split([2 * count, count], 1)
        # A flow counts cells of its own resolution.
        flows = scale * F.interpolate(flows, scale_factor=scale, mode="bilinear")
        logits = F.interpolate(logits, scale_factor=scale, mode="nearest")
        weights = cropped(logits, *size).softmax(1)
        aggregated = torch.zeros_like(own.independent)
        moves = cropped(flows, *size).split(2, 1)
        for index, (place, other, move) in enumerate(
            zip(self._places(t), others, moves, strict=True)
        ):
            inside = (place >= 0) & (place <= self.shape.frames - 1)
            weight = weights[:, index : index + 1] * inside[:, None, None, None]
            aggregated = aggregated + weight * displaced(other, move)
        final = torch.lerp(aggregated, own.independent, own.share)
        return final, aggregated, own.independent

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        return self._fitted(t)[0]

    def fit_outputs(self, t: Tensor, frames: Tensor, by_value: bool) -> tuple[Tensor, ...]:
        """See Representation.fit_outputs: the final, the aggregated and the independent frames."""
        return self._fitted(t)

    def _fitted(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `_shown`, with the neighbours as the fit last made them (section 3.3); where there are
        gradients, these frames take their places among them."""
        own, index = self._parts(t), t.long()
        if torch.is_grad_enabled():
            self.buffer.keep(index, own.independent)
        last = self.shape.frames - 1
        others = [self.buffer.at((index + n).clamp(0, last)) for n in self.neighbours]
        return self._shown(t, own, others)

    def train(self, mode: bool = True) -> FFNeRV:
        """While fitting, the independent frames of all positions are in a buffer, which is filled
        here where it is empty."""
        super().train(mode)
        self.forget()
        if not hasattr(self, "buffer"):  # a decoder's
            return self
        if not mode:
            self.buffer.clear()
        elif not len(self.buffer.frames):
            with torch.no_grad():
                device = self.head.weight.device
                positions = torch.arange(float(self.shape.frames), device=device)
                self.buffer.fill(self._parts(t).independent for t in positions.split(1))
        return self

    def matrices(self) -> list[str]:
        """The convolutions of the blocks, but for those in groups."""
        return [
            name
            for name, p in self.blocks.named_parameters(prefix="blocks")
            if p.ndim == 4 and ".grouped." not in name
        ]


class Kept(NamedTuple):
    """The parts of a frame and its neighbours, by position, and what they were computed from."""

    key: list[tuple[Tensor, int | None]]
    parts: dict[float, Parts]


def _same(kept: list[tuple[Tensor, int | None]], key: list[tuple[Tensor, int | None]]) -> bool:
    """Whether these are the same tensors, unchanged, as far as that can be told."""
    return len(kept) == len(key) and all(
        a is b and before == now is not None
        for (a, before), (b, now) in zip(kept, key, strict=True)
    )


def _knots(shape: VideoShape, rates: tuple[int, ...], slower: int = 1) -> tuple[int, ...]:
    """Knots of grids with one in `rates` frames, or in `slower` times as many."""
    return tuple(math.ceil(shape.frames / (rate * slower)) for rate in rates)


class CompactUpBlock(nn.Module):
    """3x3 convolution in 8 groups (fewer where the widths do not divide) to cout * stride^2
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
    """Frames as a fit last made them, (T, 3, H, W) in 8 bits, or none; no gradients pass.

    They are part of the fit's state, so that a fit that is resumed ends the same.
    """

    frames: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frames", torch.empty(0, dtype=torch.uint8))

    def fill(self, frames: Iterable[Tensor]) -> None:
        """Take all frames of a clip, (1, 3, H, W) in [0, 1] each."""
        self.frames = torch.cat([_to_bytes(frame) for frame in frames])

    def clear(self) -> None:
        """Keep none."""
        self.frames = self.frames.new_empty(0)

    def keep(self, index: Tensor, frames: Tensor) -> None:
        """Put (B, 3, H, W) frames in [0, 1] at the places `index` (B,)."""
        self.frames[index] = _to_bytes(frames)

    def at(self, index: Tensor) -> Tensor:
        """(B, 3, H, W) frames in [0, 1]."""
        return self.frames[index].float() / 255

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Whatever number of frames there is."""
        saved = state.get(f"{prefix}frames")
        if saved is not None and saved.shape != self.frames.shape:
            self.frames = self.frames.new_empty(saved.shape)
        super()._load_from_state_dict(state, prefix, *rest)


def _to_bytes(frames: Tensor) -> Tensor:
    return frames.detach().mul(255).round().byte()
