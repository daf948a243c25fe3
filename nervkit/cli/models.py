"""nervkit models"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import emit

if TYPE_CHECKING:
    from nervkit.models.config import VideoShape
    from nervkit.models.registry import ModelInfo


def models(
    size: Annotated[str, typer.Option(help="Frame size of the video, such as 640x360.")] = (
        "1280x720"
    ),
    frames: Annotated[int, typer.Option(min=1, help="Number of frames of the video.")] = 132,
    params: Annotated[
        str, typer.Option(help="Target number of stored values, such as 350k or 1.5M.")
    ] = "1.5M",
    json: options.Json = False,
) -> None:
    """List all models, built-in and from plugins, with their costs.

    The costs are stored values and multiply-accumulates (MACs) per pixel, for a video of the given
    size and length.
    """
    from nervkit.models.config import VideoShape
    from nervkit.models.registry import list_models
    from nervkit.units import parse_count, parse_size

    width, height = parse_size(size, "--size")
    shape, wanted = VideoShape(frames, height, width), parse_count(params)
    found = [asdict(info) | _costs(info, shape, wanted) for info in list_models()]
    if json:
        emit({"models": found})
        return
    typer.echo(f"{'model':<14}{'values':>11}{'MAC/pixel':>11}  recipes; published in")
    for row in found:
        if row["error"] is not None:
            typer.echo(f"{row['name']:<14}{row['source']}, {row['target']}: {row['error']}")
            continue
        published = row["paper"] or f"{row['source']}, {row['target']}"
        recipes = ", ".join(row["recipes"])
        if row["compression"] is not None:
            recipes += f" (compression {row['compression']})"
        costs = f"{row['values']:>11,}{row['macs_per_pixel']:>11,.0f}"
        typer.echo(f"{row['name']:<14}{costs}  {recipes}; {published}")


def _costs(info: ModelInfo, shape: VideoShape, parameters: int) -> dict[str, Any]:
    """Return the costs of a model with about `parameters` values, or with its fewest."""
    from nervkit.models.complexity import blueprint
    from nervkit.models.registry import load_model
    from nervkit.models.sizing import configure_or_smallest

    if info.error is not None:
        return {"values": None, "macs_per_pixel": None}
    model_type = load_model(info.name)
    config = configure_or_smallest(partial(model_type.configure, shape), parameters)
    plan = blueprint(model_type, config, shape)
    return {"values": plan.values, "macs_per_pixel": plan.macs / (shape.height * shape.width)}
