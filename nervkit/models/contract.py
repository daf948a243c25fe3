"""Checks of a model's interface, at registration rather than after hours of a fit."""

from __future__ import annotations

import dataclasses
from functools import partial
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor

from nervkit.container.header import MODEL_NAME
from nervkit.errors import ModelError, UsageError
from nervkit.models.base import Representation
from nervkit.models.blocks import in_patches, to_float
from nervkit.models.complexity import blueprint
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import NATIVE, Recipe
from nervkit.models.sizing import configure_or_smallest

TRIAL = VideoShape(frames=5, height=48, width=64)  # the video that a model is tried with
TRIAL_PARAMETERS = 20_000


def check_model(name: str, model: Any) -> None:
    """Check that `model` can be fitted, stored under `name` and decoded. Raises ModelError, in one
    line, otherwise."""
    if not MODEL_NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} cannot be a model's name: use a to z, then up to 31 of a to z, 0 to 9, _, -"
        )

    def refusal(reason: str) -> ModelError:
        return ModelError(f"the model {name!r} cannot be used: {reason}")

    if not (isinstance(model, type) and issubclass(model, Representation)):
        raise refusal("it is not a subclass of nervkit.models.base.Representation")
    for method in ("configure", "forward"):
        if getattr_static(model, method) is getattr_static(Representation, method):
            raise refusal(f"it has no method {method}")
    for reason in (*_recipe_faults(model), *_name_faults(model), *_config_faults(model)):
        raise refusal(reason)
    try:
        fault = _trial_fault(model)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise refusal(f"a trial with a small video failed ({reason})") from error
    if fault is not None:
        raise refusal(fault)


def _recipe_faults(model: type[Representation]) -> list[str]:
    recipes = getattr(model, "recipes", None)
    if not isinstance(recipes, dict) or NATIVE not in recipes:
        return [f"recipes must be a dict with one called {NATIVE!r}"]
    return [
        f"the recipe {name!r} is not a Recipe"
        for name, recipe in recipes.items()
        if not isinstance(recipe, Recipe)
    ]


def _name_faults(model: type[Representation]) -> list[str]:
    return [
        f"{attribute} must be a tuple of names"
        for attribute in ("embedding_names", "fit_only")
        if not isinstance(value := getattr(model, attribute), tuple)
        or not all(isinstance(name, str) for name in value)
    ]


def _config_faults(model: type[Representation]) -> list[str]:
    config_type = getattr(model, "config_type", None)
    if not (isinstance(config_type, type) and issubclass(config_type, ModelConfig)):
        return ["config_type must be a subclass of ModelConfig"]
    if "__dataclass_fields__" not in vars(config_type):
        return [f"{config_type.__name__} must be a dataclass: @dataclass(frozen=True)"]
    return [
        f"{config_type.__name__}.{spec.name}: {reason}"
        for spec in dataclasses.fields(config_type)
        if (reason := config_type.field_fault(spec)) is not None
    ]


def _trial_fault(model: type[Representation]) -> str | None:
    """Return why a model for a small video cannot be fitted or decoded; None if it can, or if the
    model has no configuration for such a video."""
    try:
        config = configure_or_smallest(partial(model.configure, TRIAL), TRIAL_PARAMETERS)
    except UsageError:
        return None
    if not isinstance(config, model.config_type):
        return f"configure must return a {model.config_type.__name__}"
    if model.config_type.from_dict(config.to_dict()) != config:
        return "its configuration does not survive to_dict and from_dict"
    return (
        _sizing_fault(model, config) or _decoding_fault(model, config) or _fit_fault(model, config)
    )


def _sizing_fault(model: type[Representation], config: ModelConfig) -> str | None:
    """Return why the cost of the model cannot be computed from a header; None if it can."""
    try:
        skeleton = model.skeleton(config, TRIAL)
        for name, tensor in skeleton.stored().items():
            if not isinstance(tensor, Tensor) or tensor.is_complex():
                return f"{name} is not a tensor of real numbers, and cannot be stored"
        blueprint(model, config, TRIAL)
    except Exception as error:  # noqa: BLE001 - as in check_model
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"it must be built, and called, without memory, on torch's meta device ({reason})"
    missing = [name for name in model.fit_only if not hasattr(skeleton, name)]
    # A configuration may lack some of the embeddings.
    if not any(hasattr(skeleton, name) for name in model.embedding_names):
        missing += model.embedding_names
    if missing:
        return f"it has no attribute {missing[0]!r}, which fit_only or embedding_names names"
    if not any(p.requires_grad for p in skeleton.parameters()):
        return "it has no parameters to fit"
    return None


def _decoding_fault(model: type[Representation], config: ModelConfig) -> str | None:
    """Return why the stored tensors do not reproduce the frames; None if they do."""
    built, again = (model.for_decoding(config, TRIAL, seed) for seed in (0, 1))
    again.load_stored(built.stored())
    for name, buffer in built.named_buffers():
        if not torch.equal(buffer, again.get_buffer(name)):
            return f"the buffer {name} is random and not stored; register it with persistent=True"
    with torch.inference_mode():
        frames, same = (each(torch.tensor([1.0])) for each in (built, again))
    wanted = (1, 3, TRIAL.height, TRIAL.width)
    if tuple(frames.shape) != wanted or not frames.is_floating_point():
        return f"a frame must be floats of shape {wanted}, not {tuple(frames.shape)}"
    if not (frames.isfinite().all() and frames.min() >= 0 and frames.max() <= 1):
        return "the values of a frame must lie in 0 to 1: end forward with a sigmoid, or clamp"
    if not torch.allclose(frames, same, atol=1e-3):
        return "two models with the same stored tensors show other frames: some state is not stored"
    return None


def _fit_fault(model: type[Representation], config: ModelConfig) -> str | None:
    """Return why a step of a fit is impossible; None if it is possible."""
    with torch.random.fork_rng(devices=[]):
        network = model(config, TRIAL).train()
        frames = torch.randint(0, 256, (TRIAL.frames, 3, TRIAL.height, TRIAL.width)).byte()
        network.start_fit(frames)
        positions = torch.tensor([1.0, 2.0])
        output, target = network.fit_values(positions, frames[1:3]), network.arranged(frames[1:3])
        if output.shape != target.shape:
            return (
                f"fit_values gives {tuple(output.shape)} and arranged {tuple(target.shape)}: they "
                "must have one layout"
            )
        side = network.value_patch
        if side is not None and not torch.equal(target, in_patches(frames[1:3], side)):
            return f"value_patch says patches of {side}, and arranged gives another layout"
        outputs = network.fit_outputs(positions, frames[1:3], False)
        if len(outputs) != len(network.output_weights):
            return f"fit_outputs gives {len(outputs)}, output_weights {len(network.output_weights)}"
        torch.autograd.backward((output - to_float(target)).square().mean())
        network.eval()
        with torch.no_grad():
            network.finish_fit(to_float(frame[None]) for frame in frames)
    parameters = dict(network.named_parameters())
    for name in network.matrices():
        if name not in parameters or parameters[name].ndim < 2:
            return f"matrices names {name!r}, which is not a parameter of two dimensions or more"
    return None
