"""The registry of representations. Importing it imports no model and no torch.

A built-in model is one line in BUILT_IN. A third party registers a model through the entry point
group "nervkit.models" (name = "package.module:Class"), a notebook through `register_model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar, overload

from nervkit.errors import ModelError, UsageError
from nervkit.models.recipe import PAPER

if TYPE_CHECKING:
    from nervkit.models.base import Representation

Model = TypeVar("Model", bound="type[Representation]")

BUILT_IN = {
    "enerv": "nervkit.models.enerv:ENeRV",
    "enerv-boost": "nervkit.models.boost:ENeRVBoost",
    "ffnerv": "nervkit.models.ffnerv:FFNeRV",
    "gaussians": "nervkit.models.gaussians:Gaussians",
    "gridnerv": "nervkit.models.gridnerv:GridNeRV",
    "hinerv": "nervkit.models.hinerv:HiNeRV",
    "hnerv": "nervkit.models.hnerv:HNeRV",
    "hnerv-boost": "nervkit.models.boost:HNeRVBoost",
    "nerv": "nervkit.models.nerv:NeRV",
    "nerv-boost": "nervkit.models.boost:NeRVBoost",
}
ENTRY_POINT_GROUP = "nervkit.models"

_registered: dict[str, type[Representation]] = {}
_checked: dict[EntryPoint, type[Representation]] = {}


@dataclass(frozen=True)
class ModelInfo:
    """A known model. `source` is "built in", "registered", or the name and version of the
    distribution that provides it; `paper` is the publication, `compression` the name of the
    compression published with it; `error` says why the model cannot be used."""

    name: str
    source: str
    target: str  # module:Class
    recipes: tuple[str, ...] = ()
    error: str | None = None
    paper: str = ""
    compression: str | None = None


def model_names() -> list[str]:
    """Return the names of all models that `encode` accepts: built-in, installed, registered."""
    return sorted({*BUILT_IN, *_registered, *_installed()})


def load_model(name: str) -> type[Representation]:
    """Return the Representation class called `name`. Raises UsageError, which lists the names, if
    there is none, and ModelError if it cannot be used."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    if name in _registered:
        return _registered[name]
    point = _installed().get(name)
    if point is None:
        raise UsageError(f"unknown model {name!r}; choose from: {', '.join(model_names())}")
    if point not in _checked:
        _checked[point] = _loaded(point)
    return _checked[point]


@overload
def register_model(model: Model, *, name: str | None = None) -> Model: ...
@overload
def register_model(model: None = None, *, name: str | None = None) -> Callable[[Model], Model]: ...
def register_model(
    model: Model | None = None, *, name: str | None = None
) -> Model | Callable[[Model], Model]:
    """Register a Representation in this process under `name`, by default its class's name in lower
    case.

    Also a decorator. Replaces a model registered before under the same name. Raises ModelError, in
    one line, if the class fails the checks of `nervkit.models.contract` or the name is taken by
    another model.
    """
    if model is None:
        return lambda decorated: register_model(decorated, name=name)
    from nervkit.models.contract import check_model

    name = getattr(model, "__name__", str(model)).lower() if name is None else name
    if name in BUILT_IN or name in _installed():
        raise ModelError(f"{name!r} is the name of another model; pass name=...")
    check_model(name, model)
    _registered[name] = model
    return model


def list_models() -> list[ModelInfo]:
    """Return all models, sorted by name. Loads them, and thus torch."""
    models = [ModelInfo(name, "built in", target) for name, target in BUILT_IN.items()]
    for name, model in _registered.items():
        models.append(ModelInfo(name, "registered", f"{model.__module__}:{model.__qualname__}"))
    installed = _installed()
    for point in entry_points(group=ENTRY_POINT_GROUP):
        shadowed = point.name not in installed or installed[point.name] != point
        error = "another model has this name" if shadowed else None
        models.append(ModelInfo(point.name, _source(point), point.value, error=error))
    return sorted(map(_completed, models), key=lambda info: info.name)


def _completed(info: ModelInfo) -> ModelInfo:
    """Add what the model's class says; `error` if it cannot be loaded."""
    if info.error is not None:
        return info
    try:
        model = load_model(info.name)
    except ModelError as error:
        return replace(info, error=str(error))
    published = model.recipes.get(PAPER)
    return replace(
        info,
        recipes=tuple(model.recipes),
        paper=model.paper,
        compression=None if published is None else published.compression,
    )


def _installed() -> dict[str, EntryPoint]:
    """Return the entry points by name. The first of a name counts; none replaces a built-in."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in BUILT_IN:
            points.setdefault(point.name, point)
    return points


def _loaded(point: EntryPoint) -> type[Representation]:
    from nervkit.models.contract import check_model

    try:
        model = point.load()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"the model {point.name!r} of {_source(point)} cannot be loaded ({reason})"
        ) from error
    try:
        check_model(point.name, model)
    except ModelError as error:
        raise ModelError(f"{_source(point)}: {error}") from error
    return model


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
