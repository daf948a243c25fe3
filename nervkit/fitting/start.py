"""What a fit begins from: the network of an earlier fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from nervkit.compression.coded import Data
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig


@dataclass(frozen=True)
class Start:
    """A network of the same model and shape, as a file holds it.

    Attributes:
        config: the model's configuration, which the fit has too.
        tensors: all that travel, float32, by name.
        coded: those that were fitted or quantized with steps of their own, with these.
    """

    config: ModelConfig
    tensors: Mapping[str, np.ndarray]
    coded: Mapping[str, Data] = field(default_factory=dict)

    def apply(self, model: Representation) -> None:
        """Give the tensors to a model of this configuration."""
        device = next(model.parameters()).device
        tensors = {name: torch.from_numpy(array) for name, array in self.tensors.items()}
        model.load_stored({name: tensor.to(device) for name, tensor in tensors.items()})

    @property
    def fingerprint(self) -> str:
        """Identifies the tensors: 16 digits of a SHA-256."""
        digest = hashlib.sha256()
        for array in self.tensors.values():
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]
