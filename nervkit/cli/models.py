"""nervkit models"""

from __future__ import annotations

from dataclasses import asdict

import typer

from nervkit.cli import options
from nervkit.cli.console import emit


def models(json: options.Json = False) -> None:
    """List all models, nervkit's own and those that packages bring."""
    from nervkit.models.registry import list_models

    found = list_models()
    if json:
        emit({"models": [asdict(info) for info in found]})
        return
    for info in found:
        details = f"recipes {', '.join(info.recipes)}" if info.error is None else info.error
        typer.echo(f"{info.name:<14}{info.source}, {info.target}: {details}")
