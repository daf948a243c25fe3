"""The start of a fit from the network of an earlier one, in a file or a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from nervkit.compression.coded import CodedTensor
from nervkit.fitting.checkpoint import Saved
from nervkit.fitting.coding import Codec
from nervkit.fitting.phases import FIT
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig


class Start(Protocol):
    """A network of the same model and shape as the fit that starts from it."""

    @property
    def config(self) -> ModelConfig:
        """The model's configuration; the fit has the same."""

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the values' SHA-256."""

    def apply(self, model: Representation) -> None:
        """Load the values into a model of this configuration. Raises SourceError if they do not
        fit it."""

    def apply_coding(self, codec: Codec) -> None:
        """Load step sizes, scales and contexts into the coders of such a model, if present."""


@dataclass(frozen=True)
class StoredStart:
    """The network of a .nerv file.

    Attributes:
        config: the model's configuration.
        tensors: all stored tensors, float32, by name.
        coded: the tensors that the file codes with step sizes, scales and contexts of their own.
    """

    config: ModelConfig
    tensors: Mapping[str, np.ndarray]
    coded: Mapping[str, CodedTensor] = field(default_factory=dict)

    def apply(self, model: Representation) -> None:
        """See Start."""
        device = next(model.parameters()).device
        tensors = {name: torch.from_numpy(array) for name, array in self.tensors.items()}
        model.load_stored({name: tensor.to(device) for name, tensor in tensors.items()})

    def apply_coding(self, codec: Codec) -> None:
        """See Start."""
        codec.start_from(self.coded)

    @property
    def fingerprint(self) -> str:
        """See Start."""
        return _digest(self.tensors.values())


@dataclass(frozen=True)
class KeptFit:
    """The last checkpoint of a finished fit: values before quantization, parts of the model that
    only help fitting, and the state of the quantizer.

    Attributes:
        config: the model's configuration.
        saved: the content of the checkpoint.
    """

    config: ModelConfig
    saved: Saved

    def apply(self, model: Representation) -> None:
        """See Start."""
        self.finished().restore(model, [])

    def apply_coding(self, codec: Codec) -> None:
        """See Start. The weight of the rate is left out, as it belongs to the earlier target."""
        kept = self._part("1.coders.")
        shapes = {name: tuple(tensor.shape) for name, tensor in codec.coders.state_dict().items()}
        if {name: array.shape for name, array in kept.items()} == shapes:
            codec.coders.load_state_dict({n: torch.from_numpy(a) for n, a in kept.items()})

    @property
    def coded(self) -> bool:
        """Whether the fit had a quantizer."""
        return bool(self._part("1."))

    def finished(self) -> Saved:
        """Return the checkpoint as one at the end of a fit without a quantizer."""
        prefix = "0." if self.coded else ""
        arrays = {f"model/{name}": array for name, array in self._part(prefix).items()}
        arrays["random"] = self.saved.arrays["random"]
        position = replace(self.saved.position, phase=FIT)
        return replace(self.saved, position=position, arrays=arrays, scalars={})

    @property
    def fingerprint(self) -> str:
        """See Start."""
        return _digest(self.saved.arrays[name] for name in sorted(self.saved.arrays))

    def _part(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the arrays of the fit's module whose names begin with `prefix`, without it: "0."
        for the model and "1." for the quantizer, if the fit has one."""
        start = f"model/{prefix}"
        arrays = self.saved.arrays.items()
        return {name.removeprefix(start): array for name, array in arrays if name.startswith(start)}


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
