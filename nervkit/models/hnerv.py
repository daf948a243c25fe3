"""HNeRV: A Hybrid Neural Representation for Videos (Chen et al., CVPR 2023, arXiv 2304.02633)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervkit.models.base import Representation
from nervkit.models.blocks import UpBlock, cropped, edge_padded, interpolated, to_unit
from nervkit.models.config import ModelConfig, VideoShape, bounded
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import choose_strides, largest_within

ENCODER_WIDTH = 64

# 5,4,4,2,2 (640x1280), 5,4,3,2,2 (480x960), 5,4,4,3,2 (960x1920) and 5,4,2,2 (160x320) are
# published; the others continue the pattern, for a grid of about 2 rows at every frame size.
STRIDES = (
    (2,),
    (2, 2),
    (4, 2),
    (5, 2),
    (4, 2, 2),
    (5, 2, 2),
    (4, 3, 2),
    (5, 3, 2),
    (5, 4, 2),
    (5, 3, 2, 2),
    (5, 4, 2, 2),
    (5, 4, 3, 2),
    (5, 4, 2, 2, 2),
    (5, 4, 3, 3),
    (5, 4, 3, 2, 2),
    (5, 4, 4, 2, 2),
    (5, 4, 3, 3, 2),
    (5, 4, 4, 3, 2),
    (5, 4, 4, 3, 3),
    (5, 4, 4, 3, 4),
)


@dataclass(frozen=True)
class HNeRVConfig(ModelConfig):
    """HNeRV's shape (sections 3.2 and 4.1)."""

    strides: tuple[int, ...] = bounded(1, 8, (5, 4, 4, 2, 2))
    width: int = bounded(1, 4096, 68)  # channels after the 1x1 stem; each stage divides it
    embedding_channels: int = bounded(1, 256, 16)
    reduction: float = bounded(1, 4, 1.2)  # width of a stage over the width of the next
    min_width: int = bounded(1, 1024, 12)
    max_kernel: int = bounded(1, 9, 5)  # stage i has kernel min(1 + 2i, max_kernel)

    def stages(self) -> list[tuple[int, int, int, int]]:
        """Return (channels in, channels out, stride, kernel) of every stage."""
        rows, width = [], self.width
        for index, stride in enumerate(self.strides):
            out = max(round(width / self.reduction), self.min_width)
            rows.append((width, out, stride, min(1 + 2 * index, self.max_kernel)))
            width = out
        return rows


class Hybrid(Representation):
    """Stored embedding of a frame -> decoder -> frame. While fitting, a ConvNeXt encoder computes
    the embeddings; it is not stored (section 3.1). Subclasses implement the decoder."""

    embedding_names = ("embedding",)
    fit_only = ("encoder",)
    config: HNeRVConfig
    embedding: Tensor
    encoder: Encoder

    def __init__(self, config: HNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        factor = math.prod(config.strides)
        grid = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        self.encoder = Encoder(config.strides, config.embedding_channels)
        self.register_buffer(
            "embedding", torch.zeros(shape.frames, config.embedding_channels, *grid)
        )

    @abstractmethod
    def decode(self, embedding: Tensor, t: Tensor) -> Tensor:
        """Decode (B, C, h, w) embeddings at positions `t` (B,) to (B, 3, H, W) frames in [0, 1]."""

    def encode(self, frames: Tensor) -> Tensor:
        """Encode (B, 3, H, W) frames, padded by repeating their edge, to (B, C, h, w)
        embeddings."""
        embedding = self.encoder(edge_padded(frames, math.prod(self.config.strides)))
        return self.embedded("embedding", embedding)

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward. Between frames, embeddings are interpolated linearly."""
        t = t.clamp(0, self.shape.frames - 1)
        return self.decode(interpolated(self.embedding, t), t)

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        """See Representation.fit_forward. Embeddings come from the encoder."""
        return self.decode(self.encode(frames), t)

    def finish_fit(self, frames: Iterable[Tensor]) -> None:
        """See Representation.finish_fit. Stores the embeddings of all frames."""
        start = 0
        for batch in frames:
            self.embedding[start : start + len(batch)] = self.encode(batch).float()
            start += len(batch)


class HNeRV(Hybrid):
    """Embedding -> 1x1 stem -> up-blocks -> frame (section 3.2)."""

    paper = "HNeRV (CVPR 2023, arXiv 2304.02633)"
    config_type = HNeRVConfig
    recipes: ClassVar = {
        # Section 4.1: Adam (0.9, 0.999), 1e-3, batch 2, 10% warm-up, cosine, MSE, 300 epochs.
        "paper": Recipe(
            loss="mse", lr=1e-3, batch=2, epochs=300, precision="float32", compression="hnerv"
        ),
        # Muon on the decoder's convolutions. At 3e-3, on larger frames, Adam drives the encoder to
        # a constant output, and the fit ends at the mean frame.
        "native": Recipe(loss="mse", lr=1e-3, batch=2, epochs=300, matrix_lr=0.03, warmup=0.05),
    }

    def __init__(self, config: HNeRVConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        stages = config.stages()
        self.stem = nn.Conv2d(config.embedding_channels, config.width, 1)
        self.blocks = nn.Sequential(*(UpBlock(*stage) for stage in stages))
        self.head = nn.Conv2d(stages[-1][1], 3, 3, padding=1)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> HNeRVConfig:
        """See Representation.configure. The width is the largest within `parameters`, counted as in
        the paper's code with real-valued stage widths; unlike there, the minimum width, the biases
        and the head count too. Models too small for the published minimum width of 12 get a smaller
        one."""
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows=2))
        base = HNeRVConfig(**options)
        if parameters is None or "width" in options:
            return base

        def count(width: int, min_width: int) -> float:
            return real_count(replace(base, width=width, min_width=min_width), shape)

        floor = base.min_width
        if "min_width" not in options:
            floor = next((n for n in range(floor, 1, -1) if count(n, n) <= parameters), 1)
        width = largest_within(lambda n: count(n, floor), parameters, low=1, high=4096)
        return replace(base, width=width, min_width=floor)

    def decode(self, embedding: Tensor, t: Tensor) -> Tensor:
        """See Hybrid.decode. A frame depends on its embedding only, not on `t`."""
        x = self.blocks(F.gelu(self.stem(embedding)))
        return to_unit(cropped(self.head(x), self.shape.height, self.shape.width))

    def matrices(self) -> list[str]:
        """See Representation.matrices: the convolutions of the blocks."""
        return [f"blocks.{index}.conv.weight" for index in range(len(self.blocks))]


def real_count(config: HNeRVConfig, shape: VideoShape) -> float:
    """Return the stored values with real-valued instead of rounded stage widths. This count is
    monotonic in `config.width`, as a search needs."""
    factor = math.prod(config.strides)
    cells = math.ceil(shape.height / factor) * math.ceil(shape.width / factor)
    total: float = shape.frames * config.embedding_channels * cells
    total += (config.embedding_channels + 1) * config.width
    cin: float = config.width
    for index, stride in enumerate(config.strides):
        cout = max(cin / config.reduction, config.min_width)
        kernel = min(1 + 2 * index, config.max_kernel)
        total += (cin * kernel**2 + 1) * cout * stride**2
        cin = cout
    return total + 3 * (9 * cin + 1)


class Encoder(nn.Sequential):
    """ConvNeXt (2201.03545) with one block per stage; the strides are the decoder's."""

    def __init__(self, strides: tuple[int, ...], channels: int) -> None:
        super().__init__()
        cin = 3
        for index, stride in enumerate(strides):
            last = index == len(strides) - 1
            cout = channels if last else ENCODER_WIDTH
            down = nn.Conv2d(cin, cout, stride, stride=stride)
            # ConvNeXt normalises after the first downsampling and before the later ones.
            norm = ChannelNorm(cout) if index == 0 else ChannelNorm(cin)
            self.extend([down, norm] if index == 0 else [norm, down])
            self.append(ConvNeXtBlock(cout))
            cin = cout
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 -> LayerNorm -> 1x1 to 4C -> GELU -> 1x1 to C, layer scale, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.project = nn.Conv2d(4 * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + self.scale * y
