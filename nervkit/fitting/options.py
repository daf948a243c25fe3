"""The options of a fit: model and size, budget, metric, compression, and where to compute."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import torch

from nervkit.compression.published import (
    COMPRESSIONS,
    Compression,
    EntropyMinimisation,
    Prune,
    Stage,
    published_name,
)
from nervkit.errors import UsageError
from nervkit.fitting.budget import Budget
from nervkit.fitting.metric import RGB, loss_of
from nervkit.keywords import option
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import Device, choose_device, choose_precision
from nervkit.models.recipe import PAPER
from nervkit.models.registry import load_model
from nervkit.models.sizing import (
    BITS_AFTER_FIT,
    configure_or_smallest,
    default_parameters,
    parameters_for_bytes,
)
from nervkit.units import parse_count, parse_seconds, parse_seed, parse_strides


@dataclass(frozen=True)
class FitOptions:
    """The options of a fit; see `nervkit.encode`. Raises UsageError on invalid values."""

    model: str = "gridnerv"
    params: str | float | None = None
    strides: str | tuple[int, ...] | None = None
    recipe: str = "native"
    preset: str | None = None
    epochs: float | None = None
    steps: int | None = None
    time: str | float | None = None
    metric: str = RGB
    prune: float = 0.0
    compression: str | Compression | None = None
    coded_bytes: int | None = None
    coded_psnr: float | None = None
    seed: int = 0
    device: Device = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(self.device))  # JSON-ready
        if self.compression is not None and self.prune:
            raise UsageError(
                f"{option('compression')} prunes by itself: leave out {option('prune')}"
            )
        for name in ("prune", "compression"):
            if self.coded_bytes is not None and getattr(self, name):
                raise UsageError(f"{option(name)} is for a fit without a target: choose one")
        if not isinstance(self.model, str):
            raise UsageError(f"{option('model')} must be a name, not {self.model!r}")
        object.__setattr__(self, "seed", parse_seed(self.seed))
        if not isinstance(self.prune, Real):
            raise UsageError(f"{option('prune')} must be a number, not {self.prune!r}")
        object.__setattr__(self, "prune", float(self.prune))
        if self.recipe not in self.model_type.recipes:
            known = ", ".join(self.model_type.recipes)
            raise UsageError(
                f"unknown recipe {self.recipe!r} for {self.model}; choose from: {known}"
            )
        config_fields = {field.name for field in fields(self.model_type.config_type)}
        if self.strides is not None and "strides" not in config_fields:
            raise UsageError(f"{self.model} has no strides: leave out {option('strides')}")
        recipe = self.model_type.recipes[self.recipe]
        loss_of(self.metric, recipe, f"the recipe {self.recipe} of {self.model}")
        _ = self.stages, self.budget, self.configuration  # raise UsageError
        choose_precision(self.precision, choose_device(self.device))

    @property
    def model_type(self) -> type[Representation]:
        """The class of the model."""
        return load_model(self.model)

    @property
    def budget(self) -> Budget:
        """The length of all phases together: the user's choice, else the paper's with its recipe,
        else the default preset."""
        seconds = None if self.time is None else float(parse_seconds(self.time, option("time")))
        given = (self.preset, self.epochs, self.steps, seconds)
        if self.recipe == PAPER and all(amount is None for amount in given):
            own = sum(stage.epochs for stage in self.stages)
            return Budget(epochs=self.model_type.recipes[PAPER].epochs + own)
        return Budget.choose(*given)

    @property
    def compression_name(self) -> str | None:
        """The name of the compression, if any; its repr for a Compression of one's own."""
        if self.compression is None:
            return None
        if isinstance(self.compression, Compression):
            return str(self.compression)
        recipe = self.model_type.recipes.get(PAPER)
        published = None if recipe is None else recipe.compression
        return published_name(self.compression, self.model, published)

    @property
    def compression_data(self) -> Compression | None:
        """The compression as data, if any."""
        if isinstance(self.compression, Compression):
            return self.compression
        name = self.compression_name
        return None if name is None else COMPRESSIONS[name]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the compression, or of pruning alone."""
        if (compression := self.compression_data) is not None:
            return compression.stages
        return (Prune(self.prune),) if self.prune != 0 else ()

    @property
    def pruned_share(self) -> float:
        """The share of the weights that are pruned."""
        return next((stage.share for stage in self.stages if isinstance(stage, Prune)), 0.0)

    @property
    def most_bits(self) -> float:
        """The bits per value that a stage limits; infinite without such a stage."""
        aims = (s.target_bits for s in self.stages if isinstance(s, EntropyMinimisation))
        return next(aims, math.inf)

    @property
    def through_quantizer(self) -> bool:
        """Whether the fit has its quantizer in the loop. A paper's recipe is fitted in float and
        quantized to its target afterwards."""
        return self.coded_bytes is not None and self.recipe != PAPER

    @property
    def quantizes_again(self) -> bool:
        """Whether a fit that starts from a finished one has no steps: it is in float, and the user
        gives no length."""
        lengths = (self.preset, self.epochs, self.steps, self.time)
        return lengths == (None,) * 4 and self.coded_bytes is None and not self.stages

    @property
    def configuration(self) -> tuple[int | None, dict[str, Any]]:
        """The number of parameters, if given, and the given fields of the model's configuration."""
        options = {} if self.strides is None else {"strides": parse_strides(self.strides)}
        return None if self.params is None else parse_count(self.params), options

    def steps_for(self, shape: VideoShape) -> int | None:
        """Return the number of steps for a video of this shape; None in a fit by the clock."""
        budget, recipe = self.budget, self.model_type.recipes[self.recipe]
        batch = min(recipe.batch, shape.frames)
        if budget.seconds is not None:
            return None
        pixels = batch * shape.height * shape.width
        return budget.total_steps(math.ceil(len(recipe.epoch(shape.frames)) / batch), pixels)

    def configure(self, shape: VideoShape) -> ModelConfig:
        """Return the model's configuration for these options and a video of this shape."""
        parameters, options = self.configuration
        model, size = self.model_type, self.coded_bytes

        def configure(count: int | None) -> ModelConfig:
            if size is not None and self.through_quantizer:
                return model.configure_coded(shape, size, count, **options)
            return model.configure(shape, count, **options)

        if parameters is not None:
            return configure(parameters)
        if size is None:
            return configure_or_smallest(configure, default_parameters(shape))
        after_fit = None if self.through_quantizer else parameters_for_bytes(size, BITS_AFTER_FIT)
        return configure_or_smallest(configure, after_fit)

    def settings(self) -> dict[str, Any]:
        """Return all that the fit depends on besides model and frames, JSON-ready."""
        name = self.compression_name
        return {
            "recipe": self.recipe,
            "budget": str(self.budget),
            "metric": self.metric,
            "prune": self.prune,
            # Commas separate settings.
            "compression": name and name.replace(", ", " "),
            "coded_bytes": self.coded_bytes,
            "coded_psnr": self.coded_psnr,
            "seed": self.seed,
            "device": choose_device(self.device).type,
            "precision": self.precision,
            "torch": torch.__version__,
        }
