"""What every representation is: a module from frame positions to frames, and how it is sized."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nervkit.errors import FormatError, UsageError
from nervkit.models.blocks import to_float
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import Recipe

#: kinds of stored tensors: what mixes channels, what is so but touches every value (depthwise
#: kernels), content by time and place, where it moves, biases
MATRIX, SENSITIVE, GRID, MOTION, VECTOR = "matrix", "sensitive", "grid", "motion", "vector"


SEEDED = Lock()  # torch has one random state for all threads


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Random numbers inside follow from `seed`, on the CPU and on `device`. Afterwards all random
    states are what they were."""
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(gpus, device_type="cuda"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs too
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


CODED_BITS = 2.2  # of a value, about, in a fit through a quantizer
MOST_CHANNELS = 1024  # of a network that is scaled to a size


class Representation(nn.Module):
    """A video as a network: `model(t)` gives the frames at positions `t`.

    A subclass is one file and one registry line. It sets `config_type`, `recipes` ("native", and
    "paper" for a published model), `embedding_names` and `fit_only`, and implements `configure`,
    `forward`, and, where fitting needs the frames themselves, `start_fit`, `fit_forward` and
    `finish_fit`; `after_step`, for what a fit does besides following gradients; `fit_values`,
    `arranged` and `value_patch` where a loss can be had more cheaply than on whole frames;
    `fit_outputs` where it compares more than the frames that are shown; `neighbours` and `forget`
    where a frame is made of others.
    """

    #: where it was published: name, venue and year, arXiv number
    paper: ClassVar[str] = ""
    config_type: ClassVar[type[ModelConfig]]
    recipes: ClassVar[dict[str, Recipe]]
    #: names of tensors, or lists of them, that hold content by time; coded separately from weights
    embedding_names: ClassVar[tuple[str, ...]] = ()
    #: names of child modules that help fitting and never travel
    fit_only: ClassVar[tuple[str, ...]] = ()
    #: coders of further kinds of tensors, or in place of nervkit's: for each kind a class like
    #: fitting.coders.TensorCoder, and the step that it starts with
    codings: ClassVar[Mapping[str, tuple[type, float]]] = MappingProxyType({})
    #: the weight in the loss of each of `fit_outputs`
    output_weights: ClassVar[tuple[float, ...]] = (1.0,)

    #: what a fit makes of embeddings that come from frames, by name; a fit sets and clears it
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
        """A configuration for `shape` with about `parameters` stored values.

        `options` fix fields of the configuration. Raises UsageError when no configuration fits,
        TooFewParametersError when only a larger one does.
        """

    @classmethod
    def configure_coded(
        cls, shape: VideoShape, tensor_bytes: int, parameters: int | None = None, **options: Any
    ) -> ModelConfig:
        """A configuration for `shape` that is fitted through its quantizer, to take about
        `tensor_bytes`; with `parameters` stored values where that is given. Otherwise as
        `configure`."""
        return cls.configure(shape, parameters or round(8 * tensor_bytes / CODED_BITS), **options)

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """Frames at positions `t`.

        Args:
            t: (B,) float, in frame units from 0 to frames - 1; may be fractional.

        Returns:
            (B, 3, H, W) RGB in [0, 1].
        """

    def start_fit(self, frames: Tensor) -> None:
        """Called once before fitting with the clip's frames, (T, 3, H, W) uint8: a start that
        depends on them."""

    def fit_forward(self, t: Tensor, frames: Tensor) -> Tensor:
        """Frames at integer positions `t` while fitting; `frames` (B, 3, H, W) are the targets."""
        return self(t)

    def after_step(self, k: int, progress: float, frames: Tensor) -> None:
        """Called after the k-th update of a fit, at `progress` in [0, 1), with the clip's frames as
        of `start_fit`: what a fit does besides following gradients. It may change parameters in
        place, by what it is given and they are, and by nothing else: so a fit goes on from a
        checkpoint as if it had not stopped."""

    def fit_values(self, t: Tensor, frames: Tensor) -> Tensor:
        """The values of `fit_forward`, float32, in the arrangement in which a loss that compares
        value by value costs least: that of `arranged`. `frames` are (B, 3, H, W) uint8."""
        return self.fit_forward(t, to_float(frames)).float()

    def fit_outputs(self, t: Tensor, frames: Tensor, by_value: bool) -> tuple[Tensor, ...]:
        """All that the loss of a step compares with the targets, float32, in one arrangement: first
        what is shown, which is `fit_values` where the loss goes `by_value`, else `fit_forward`; and
        then what else a model is fitted by. `frames` are (B, 3, H, W) uint8."""
        if by_value:
            return (self.fit_values(t, frames),)
        return (self.fit_forward(t, to_float(frames)).float(),)

    def arranged(self, values: Tensor) -> Tensor:
        """(B, 3, H, W) values of any kind, in the arrangement of `fit_values`."""
        return values

    @property
    def value_patch(self) -> int | None:
        """The side of the square patches in which `fit_values` and `arranged` give values, as
        `blocks.in_patches` does; None: in another arrangement."""
        return None

    def finish_fit(self, frames: Iterable[Tensor]) -> None:
        """Called once after fitting with the clip's frames, in order, in batches as above."""

    @property
    def neighbours(self) -> tuple[int, ...]:
        """Which other frames a frame is made of, by their distances in frames. Where frames are
        read in order, what is computed of each of them is computed once."""
        return ()

    def forget(self) -> None:
        """Let go of what is kept from frame to frame while decoding; frames stay the same."""

    def embedded(self, name: str, values: Tensor) -> Tensor:
        """Embeddings (B, ...) of the stored tensor `name` that a model makes of frames while it is
        fitted, as the fit's quantizer has them. `fit_forward` and `finish_fit` go on with these."""
        return values if self.quantize_embedding is None else self.quantize_embedding(name, values)

    def matrices(self) -> Iterable[str]:
        """Names of parameters that a matrix optimizer (Muon) may drive: inner conv and linear."""
        inner = [
            name
            for name, p in self.named_parameters()
            if p.ndim >= 2 and name.partition(".")[0] not in self.fit_only + self.embedding_names
        ]
        return inner[1:-1]

    def stored(self) -> dict[str, Tensor]:
        """Every tensor that travels, in the order of the file: weights, then embeddings. These are
        all parameters and persistent buffers but those of `fit_only`."""
        tensors = self.weights()
        tensors.update(self.embeddings())
        return tensors

    def weights(self) -> dict[str, Tensor]:
        """The network's own tensors that travel, by name, in a fixed order."""
        skip = self.fit_only + self.embedding_names
        state = self.state_dict()
        return {k: v for k, v in state.items() if k.partition(".")[0] not in skip}

    def embeddings(self) -> dict[str, Tensor]:
        """The per-frame tensors that travel, by name."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if k.partition(".")[0] in self.embedding_names}

    def kinds(self) -> dict[str, str]:
        """The kind of every tensor that travels, by which it is coded: GRID for embeddings of four
        axes (time, channels, rows, columns), SENSITIVE for depthwise kernels, MATRIX, VECTOR."""
        kinds = {name: MATRIX if p.ndim > 1 else VECTOR for name, p in self.weights().items()}
        kinds |= {
            k: SENSITIVE for k, p in self.weights().items() if p.ndim == 4 and p.shape[1] == 1
        }
        embeddings = self.embeddings().items()
        return kinds | {name: GRID if p.ndim == 4 else MATRIX for name, p in embeddings}

    def load_stored(self, tensors: dict[str, Tensor]) -> None:
        """Set every travelling tensor, from `stored()` of a model with the same configuration.
        Raises FormatError where these are not exactly its own."""
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
        self.load_state_dict(tensors, strict=False)  # what only helps fitting stays

    @classmethod
    def skeleton(cls, config: ModelConfig, shape: VideoShape) -> Self:
        """The model without memory: shapes and counts only (torch's meta device)."""
        with torch.device("meta"):
            return cls(config, shape)

    @classmethod
    def for_decoding(cls, config: ModelConfig, shape: VideoShape, seed: int = 0) -> Self:
        """The model as a decoder needs it: as its constructor makes it, without what only helps
        fitting. What is not stored stays the constructor's. Random states are left alone."""
        with SEEDED, seeded(seed):
            model = cls(config, shape)
        for name in cls.fit_only:
            delattr(model, name)
        # Convolutions on channels last take 0.6 of the time on a CPU, in float32 too.
        return model.to(memory_format=torch.channels_last).eval()


def count_stored(model: Representation) -> int:
    """How many numbers travel: weights, biases and embeddings."""
    return sum(tensor.numel() for tensor in model.stored().values())


class TooFewParametersError(UsageError):
    """A model cannot be as small as asked for; `least` is the smallest count that it can have."""

    def __init__(self, wanted: float, least: float) -> None:
        self.least = math.ceil(least)
        super().__init__(
            f"{int(wanted):,} parameters are too few: this model needs at least {self.least:,} "
            "for a clip of this size and length"
        )


def largest_within(count: Callable[[int], float], target: float, low: int, high: int) -> int:
    """The largest n in [low, high] with count(n) <= target, for a count that grows with n.

    Raises TooFewParametersError where there is none.
    """
    if count(low) > target:
        raise TooFewParametersError(target, count(low))
    while low < high:
        middle = (low + high + 1) // 2
        if count(middle) <= target:
            low = middle
        else:
            high = middle - 1
    return low


def scaled_within(
    model: type[Representation],
    base: ModelConfig,
    shape: VideoShape,
    parameters: int,
    sizes: Mapping[str, int],
    *,
    rest: str | None = None,
    fixed: Collection[str] = (),
) -> Any:
    """`base` scaled to at most `parameters` stored values: the largest that there is.

    `sizes` are fields of a published network. Smaller networks have all of them scaled alike, in a
    larger one only the first grows; the field `rest` takes up what is left, to at most twice its
    value. Fields that are `fixed` stay; where the first is, all do. Raises TooFewParametersError
    where even fields of 1 are too large.
    """
    channels = next(iter(sizes))
    if channels in fixed:
        return base

    def scaled(eighths: int) -> ModelConfig:  # of a channel
        share = min(1.0, eighths / 8 / sizes[channels])
        fields = {name: share * size for name, size in sizes.items() if name not in fixed}
        fields[channels] = eighths / 8
        return replace(base, **{name: max(1, round(size)) for name, size in fields.items()})

    def count(config: ModelConfig) -> int:
        return count_stored(model.skeleton(config, shape))

    most = 8 * MOST_CHANNELS
    config = scaled(largest_within(lambda n: count(scaled(n)), parameters, low=1, high=most))
    if rest is None or rest in fixed:
        return config
    width = getattr(config, rest)
    widest = largest_within(
        lambda n: count(replace(config, **{rest: n})), parameters, low=width, high=2 * width
    )
    return replace(config, **{rest: widest})
