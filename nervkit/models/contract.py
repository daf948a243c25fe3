"""What a model must have, checked when it is registered and not after hours of a fit."""

from __future__ import annotations

import dataclasses
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor

from nervkit.container.header import MODEL_NAME
from nervkit.errors import ModelError, UsageError
from nervkit.models.base import Representation, TooFewParametersError
from nervkit.models.blocks import in_patches, to_float
from nervkit.models.complexity import blueprint
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.recipe import NATIVE, Recipe

TRIAL = VideoShape(frames=5, height=48, width=64)  # a model is built for such a video
TRIAL_PARAMETERS = 20_000


def check_model(name: str, model: Any) -> None:
    """Raise ModelError, in one line, where `model` is not a model that can be fitted, stored under
    `name`, and decoded again."""
    if not MODEL_NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} cannot be a model's name: a to z, then up to 31 of a to z, 0 to 9, _ and -"
        )

    def refuse(what: str) -> ModelError:
        return ModelError(f"the model {name!r} cannot be used: {what}")

    if not (isinstance(model, type) and issubclass(model, Representation)):
        raise refuse("it is not a subclass of nervkit.models.base.Representation")
    for method in ("configure", "forward"):
        if getattr_static(model, method) is getattr_static(Representation, method):
            raise refuse(f"it has no method {method}")
    for reason in (*_about_recipes(model), *_about_names(model), *_about_fields(model)):
        raise refuse(reason)
    try:
        reason = _trial(model)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise refuse(f"a trial with a small video failed ({reason})") from error
    if reason is not None:
        raise refuse(reason)


def _about_recipes(model: type[Representation]) -> list[str]:
    recipes = getattr(model, "recipes", None)
    if not isinstance(recipes, dict) or NATIVE not in recipes:
        return [f"recipes must be a dict with one called {NATIVE!r}"]
    return [
        f"the recipe {name!r} is not a Recipe"
        for name, recipe in recipes.items()
        if not isinstance(recipe, Recipe)
    ]


def _about_names(model: type[Representation]) -> list[str]:
    return [
        f"{attribute} must be a tuple of names"
        for attribute in ("embedding_names", "fit_only")
        if not isinstance(value := getattr(model, attribute), tuple)
        or not all(isinstance(name, str) for name in value)
    ]


def _about_fields(model: type[Representation]) -> list[str]:
    config_type = getattr(model, "config_type", None)
    if not (isinstance(config_type, type) and issubclass(config_type, ModelConfig)):
        return ["config_type must be a subclass of ModelConfig"]
    if "__dataclass_fields__" not in vars(config_type):
        return [f"{config_type.__name__} must be a dataclass: @dataclass(frozen=True)"]
    return [
        f"{config_type.__name__}.{spec.name}: {reason}"
        for spec in dataclasses.fields(config_type)
        if (reason := config_type.unclear(spec)) is not None
    ]


def _trial(model: type[Representation]) -> str | None:
    """Why a model for a small video cannot be fitted or decoded; None where it can, or where it
    cannot be made so small."""
    try:
        try:
            config = model.configure(TRIAL, TRIAL_PARAMETERS)
        except TooFewParametersError as error:
            config = model.configure(TRIAL, error.least)
    except UsageError:
        return None
    if not isinstance(config, model.config_type):
        return f"configure must give a {model.config_type.__name__}"
    if model.config_type.from_dict(config.to_dict()) != config:
        return "its configuration does not survive to_dict and from_dict"
    return _not_sized(model, config) or _not_decoded(model, config) or _not_fitted(model, config)


def _not_sized(model: type[Representation], config: ModelConfig) -> str | None:
    """Why a header cannot say what the model takes."""
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
    # A configuration may be without some of the embeddings.
    if not any(hasattr(skeleton, name) for name in model.embedding_names):
        missing += model.embedding_names
    if missing:
        return f"it has no part called {missing[0]!r}"
    if not any(p.requires_grad for p in skeleton.parameters()):
        return "it has no parameters to fit"
    return None


def _not_decoded(model: type[Representation], config: ModelConfig) -> str | None:
    """Why what is stored does not give the same frames again."""
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


def _not_fitted(model: type[Representation], config: ModelConfig) -> str | None:
    """Why a step of a fit cannot be made."""
    with torch.random.fork_rng(devices=[]):
        network = model(config, TRIAL).train()
        frames = torch.randint(0, 256, (TRIAL.frames, 3, TRIAL.height, TRIAL.width)).byte()
        network.start_fit(frames)
        positions = torch.tensor([1.0, 2.0])
        output, target = network.fit_values(positions, frames[1:3]), network.arranged(frames[1:3])
        if output.shape != target.shape:
            return (
                f"fit_values gives {tuple(output.shape)} and arranged {tuple(target.shape)}: they "
                "must have one arrangement"
            )
        side = network.value_patch
        if side is not None and not torch.equal(target, in_patches(frames[1:3], side)):
            return f"value_patch says patches of {side}, and arranged gives another arrangement"
        outputs = network.fit_outputs(positions, frames[1:3], False)
        if len(outputs) != len(network.output_weights):
            return f"fit_outputs gives {len(outputs)}, output_weights {len(network.output_weights)}"
        (output - to_float(target)).square().mean().backward()
        network.eval()
        with torch.no_grad():
            network.finish_fit(to_float(part) for part in frames.split(1))
    parameters = dict(network.named_parameters())
    for name in network.matrices():
        if name not in parameters or parameters[name].ndim < 2:
            return f"matrices names {name!r}, which is no parameter with two dimensions or more"
    return None
