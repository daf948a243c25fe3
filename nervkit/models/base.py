"""The base class of every representation: a module that maps frame positions to frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nervkit.errors import FormatError
from nervkit.models.blocks import to_float
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import CODED_BITS, parameters_for_bytes

#: kinds of stored tensors: weights that mix channels; depthwise kernels, where an error touches
#: every value; feature grids in time and space; velocities; biases
MATRIX, SENSITIVE, GRID, MOTION, VECTOR = "matrix", "sensitive", "grid", "motion", "vector"

SEEDED = Lock()  # torch has one random state for all threads


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's random numbers inside, on the CPU and on `device`, and restore all random states
    afterwards."""
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(gpus, device_type="cuda"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs too
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


class Representation(nn.Module):
    """A video as a network: `model(t)` gives the frames at positions `t`.

    A subclass is one file and one line in the registry. It sets `config_type`, `recipes` ("native",
    and "paper" for a published model), `embedding_names` and `fit_only`, and implements `configure`
    and `forward`. Optional methods:

    - `start_fit`, `fit_forward`, `finish_fit`: fitting needs the frames themselves;
    - `after_step`: a fit does more than follow gradients;
    - `fit_values`, `arranged`, `value_patch`: a loss is cheaper in another layout than in frames;
    - `fit_outputs`: the loss compares more than the decoded frames;
    - `neighbours`, `forget`: a frame depends on other frames.
    """

    #: the publication: name, venue and year, arXiv number
    paper: ClassVar[str] = ""
    config_type: ClassVar[type[ModelConfig]]
    recipes: ClassVar[dict[str, Recipe]]
    #: names of tensors, or lists of them, with content by time; coded separately from the weights
    embedding_names: ClassVar[tuple[str, ...]] = ()
    #: names of child modules that only fitting needs; they are not stored
    fit_only: ClassVar[tuple[str, ...]] = ()
    #: coders of further kinds of tensors, or replacements of nervkit's: per kind a class like
    #: fitting.coders.TensorCoder, and its initial quantization step
    codings: ClassVar[Mapping[str, tuple[type, float]]] = MappingProxyType({})
    #: the weight in the loss of each of `fit_outputs`
    output_weights: ClassVar[tuple[float, ...]] = (1.0,)

    #: the fit's quantizer of embeddings that an encoder computes, by name; a fit sets and clears it
    quantize_embedding: Callable[[str, Tensor], Tensor] | None = None

    def __init__(self, config: ModelConfig, shape: VideoShape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape

    @classmethod
    @abstractmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> ModelConfig:
        """Return a configuration for `shape` with about `parameters` stored values.

        `options` fix fields of the configuration. Raises UsageError if no configuration fits,
        TooFewParametersError if only a larger one does.
        """

    @classmethod
    def configure_coded(
        cls, shape: VideoShape, tensor_bytes: int, parameters: int | None = None, **options: Any
    ) -> ModelConfig:
        """Return a configuration for a fit through the quantizer to about `tensor_bytes`, with
        `parameters` stored values if given. Otherwise as `configure`."""
        parameters = parameters or parameters_for_bytes(tensor_bytes, CODED_BITS)
        return cls.configure(shape, parameters, **options)

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """Compute the frames at positions `t`.

        Args:
            t: (B,) float, in frame units from 0 to frames - 1; may be fractional.

        Returns:
            (B, 3, H, W) RGB in [0, 1].
        """

    def start_fit(self, frames: Tensor) -> None:
        """Initialise from the clip's frames, (T, 3, H, W) uint8. Called once, before fitting."""

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        """Compute the frames at integer positions `t` while fitting; `frames` (B, 3, H, W) are the
        targets."""
        return self(t)

    def after_step(self, k: int, progress: float, frames: Tensor) -> None:
        """Change parameters in place after the k-th update, at `progress` in [0, 1). `frames` are
        those of `start_fit`. Changes may depend on the arguments and the parameters only, so that a
        fit resumes from a checkpoint exactly."""

    def fit_values(self, t: Tensor, frames: Tensor) -> Tensor:
        """Compute the values of `fit_forward`, float32, in the layout of `arranged`: the one where
        an element-wise loss is cheapest. `frames` are (B, 3, H, W) uint8."""
        return self.fit_forward(t, to_float(frames)).float()

    def fit_outputs(self, t: Tensor, frames: Tensor, by_value: bool) -> tuple[Tensor, ...]:
        """Compute all outputs that the loss of a step compares with the targets, float32, in one
        layout. The first are the decoded frames: `fit_values` for a loss `by_value`, else
        `fit_forward`. `frames` are (B, 3, H, W) uint8."""
        if by_value:
            return (self.fit_values(t, frames),)
        return (self.fit_forward(t, to_float(frames)).float(),)

    def arranged(self, values: Tensor) -> Tensor:
        """Rearrange (B, 3, H, W) values of any dtype into the layout of `fit_values`."""
        return values

    @property
    def value_patch(self) -> int | None:
        """Side of the square patches of `fit_values` and `arranged`, as in `blocks.in_patches`;
        None for another layout."""
        return None

    def finish_fit(self, frames: Iterable[Tensor]) -> None:
        """Store what depends on the frames. Called once, after fitting, with the clip's frames in
        order, in float batches (B, 3, H, W)."""

    @property
    def neighbours(self) -> tuple[int, ...]:
        """Offsets, in frames, of the other frames that a frame depends on. If frames are decoded in
        order, the network computes each of them once."""
        return ()

    def forget(self) -> None:
        """Drop what decoding caches from frame to frame; the frames stay the same."""

    def embedded(self, name: str, values: Tensor) -> Tensor:
        """Quantize embeddings (B, ...) of the stored tensor `name` that an encoder computed from
        frames, if the fit has a quantizer. `fit_forward` and `finish_fit` must use the result."""
        return values if self.quantize_embedding is None else self.quantize_embedding(name, values)

    def matrices(self) -> Iterable[str]:
        """Return the names of the parameters for a matrix optimizer (Muon): inner convolutions and
        linear layers."""
        inner = [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2 and name.partition(".")[0] not in self.fit_only + self.embedding_names
        ]
        return inner[1:-1]

    def stored(self) -> dict[str, Tensor]:
        """Return every stored tensor in the order of the file: weights, then embeddings. These are
        all parameters and persistent buffers except those of `fit_only`."""
        tensors = self.weights()
        tensors.update(self.embeddings())
        return tensors

    def weights(self) -> dict[str, Tensor]:
        """Return the stored tensors of the network itself, by name, in a fixed order."""
        skip = self.fit_only + self.embedding_names
        state = self.state_dict()
        return {k: v for k, v in state.items() if k.partition(".")[0] not in skip}

    def embeddings(self) -> dict[str, Tensor]:
        """Return the stored tensors with content by time, by name."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if k.partition(".")[0] in self.embedding_names}

    def kinds(self) -> dict[str, str]:
        """Return the kind of every stored tensor, which decides its coder: GRID for embeddings of
        four axes (time, channels, rows, columns), SENSITIVE for depthwise kernels, MATRIX,
        VECTOR."""
        kinds = {name: MATRIX if p.ndim > 1 else VECTOR for name, p in self.weights().items()}
        kinds |= {
            k: SENSITIVE for k, p in self.weights().items() if p.ndim == 4 and p.shape[1] == 1
        }
        embeddings = self.embeddings().items()
        return kinds | {name: GRID if p.ndim == 4 else MATRIX for name, p in embeddings}

    def load_stored(self, tensors: dict[str, Tensor]) -> None:
        """Set every stored tensor, from `stored()` of a model with the same configuration. Raises
        FormatError if names or shapes differ."""
        own = self.stored()
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != {name: tensor.shape for name, tensor in own.items()}:
            differing = sorted(
                name
                for name in own.keys() | tensors.keys()
                if name not in own or shapes.get(name) != own[name].shape
            )
            raise FormatError(
                f"the tensors are not those of {type(self).__name__}: {', '.join(differing)}"
            )
        self.load_state_dict(tensors, strict=False)  # modules of `fit_only` are not stored

    @classmethod
    def skeleton(cls, config: ModelConfig, shape: VideoShape) -> Self:
        """Build the model on torch's meta device: shapes and counts, no memory."""
        with torch.device("meta"):
            return cls(config, shape)

    @classmethod
    def for_decoding(cls, config: ModelConfig, shape: VideoShape, seed: int = 0) -> Self:
        """Build the model for decoding, without `fit_only`. Tensors that are not stored are the
        constructor's. Random states stay as they are."""
        with SEEDED, seeded(seed):
            model = cls(config, shape)
        for name in cls.fit_only:
            delattr(model, name)
        # Convolutions on channels last take 0.6 of the time on a CPU, in float32 too. torch's
        # annotations lack the keyword.
        return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def count_stored(model: Representation) -> int:
    """Return the number of stored values: weights, biases and embeddings."""
    return sum(tensor.numel() for tensor in model.stored().values())
