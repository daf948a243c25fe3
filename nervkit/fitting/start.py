"""The start of a fit from the network of an earlier one."""

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
    """A network of the same model and shape, as a file stores it.

    Attributes:
        config: the model's configuration; the fit has the same.
        tensors: all stored tensors, float32, by name.
        coded: the tensors that the file codes with step sizes, scales and contexts of their own.
    """

    config: ModelConfig
    tensors: Mapping[str, np.ndarray]
    coded: Mapping[str, Data] = field(default_factory=dict)

    def apply(self, model: Representation) -> None:
        """Load the tensors into a model of this configuration."""
        device = next(model.parameters()).device
        tensors = {name: torch.from_numpy(array) for name, array in self.tensors.items()}
        model.load_stored({name: tensor.to(device) for name, tensor in tensors.items()})

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the tensors' SHA-256."""
        digest = hashlib.sha256()
        for array in self.tensors.values():
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]
