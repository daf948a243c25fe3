"""SIREN for videos (Sitzmann et al., NeurIPS 2020, arXiv 2006.09661), an example of a third party's
model: one network maps the position of a pixel in space and time to its colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nervkit.models import ModelConfig, Recipe, Representation, VideoShape, bounded
from nervkit.models.base import count_stored
from nervkit.models.sizing import largest_within


@dataclass(frozen=True)
class SirenConfig(ModelConfig):
    """SIREN's shape, as stored in a file. Reading a file checks every field's bounds."""

    width: int = bounded(1, 4096, 64)  # channels of the hidden layers
    depth: int = bounded(1, 16, 3)  # hidden layers
    frequency: float = bounded(0.1, 1000, 30)  # omega_0 of section 3.2


class Siren(Representation):
    """(x, y, t) -> sine layers -> RGB (section 3)."""

    paper = "SIREN (NeurIPS 2020, arXiv 2006.09661)"
    config: SirenConfig
    config_type = SirenConfig
    recipes: ClassVar = {
        # Supplement, section 4.2: Adam, 1e-4, mean squared error.
        "paper": Recipe(loss="mse", lr=1e-4, batch=1, epochs=300, precision="float32"),
        "native": Recipe(loss="log_mse", lr=2e-3, batch=2, epochs=300),
    }

    def __init__(self, config: SirenConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        sizes = [3] + [config.width] * (config.depth + 1)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(config.width, 3)
        # Section 3.2: activations have the same distribution in all layers.
        for index, layer in enumerate(layers):
            bound = 1 / 3 if index == 0 else math.sqrt(6 / config.width) / config.frequency
            nn.init.uniform_(layer.weight, -bound, bound)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> SirenConfig:
        """See Representation.configure: the widest network within `parameters` stored values."""
        if parameters is None or "width" in options:
            return SirenConfig(**options)

        def count(width: int) -> int:
            return count_stored(cls.skeleton(SirenConfig(width=width, **options), shape))

        width = largest_within(count, parameters, low=1, high=4096)
        return SirenConfig(width=width, **options)

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward: (B,) positions to (B, 3, H, W) frames in [0, 1]."""
        rows, columns = (
            torch.linspace(-1, 1, side, device=t.device)
            for side in (self.shape.height, self.shape.width)
        )
        times = 2 * t / max(1, self.shape.frames - 1) - 1
        x = torch.stack(torch.meshgrid(times, rows, columns, indexing="ij"), dim=-1)
        for layer in self.layers:
            x = torch.sin(self.config.frequency * layer(x))
        return torch.sigmoid(self.head(x)).permute(0, 3, 1, 2)
