"""The phases of a fit: the fit itself, then a phase for each stage of a compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nervkit.compression.published import Prune, Quantization
from nervkit.fitting.budget import LEAST_SECONDS, Length, Seconds, Steps
from nervkit.fitting.options import FitOptions
from nervkit.models.config import VideoShape
from nervkit.models.recipe import Recipe

FIT = "fit"  # name of the phase that every fit has


@dataclass(frozen=True)
class Phase:
    """A part of a fit, with optimizers of its own.

    Attributes:
        name: in checkpoints and progress.
        epochs: as published; phases share the budget in proportion to their epochs.
        recipe: loss, optimizers and schedule.
        prune: the pruning at the start of the phase, if any.
        quantization: the quantization in the fit, if any.
        pruned: whether this phase or an earlier one prunes weights.
    """

    name: str
    epochs: int
    recipe: Recipe
    prune: Prune | None = None
    quantization: Quantization | None = None
    pruned: bool = False


def phases_of(options: FitOptions) -> list[Phase]:
    """Return the phases of a fit, in order. A stage without epochs of its own applies from the
    start. A quantization applies until the next one."""
    recipe = options.model_type.recipes[options.recipe]
    phase = Phase(FIT, recipe.epochs, recipe)
    phases = [phase]
    for stage in options.stages:
        prune = stage if isinstance(stage, Prune) else None
        quantization = phase.quantization if isinstance(stage, Prune) else stage
        pruned = phase.pruned or prune is not None
        if not stage.epochs:
            phase = phases[0] = replace(phase, quantization=quantization)
            continue
        slower = recipe.slower(stage.rate)
        phase = Phase(stage.phase, stage.epochs, slower, prune, quantization, pruned)
        phases.append(phase)
    return phases


def phase_lengths(
    phases: Sequence[Phase], options: FitOptions, shape: VideoShape, spent: float
) -> list[Length]:
    """Divide the budget of a fit among its phases, in proportion to their epochs.

    Args:
        phases: of `phases_of(options)`.
        options: of the fit.
        shape: of the video.
        spent: seconds that the start of the fit took from a time budget.
    """
    budget, all_epochs = options.budget, sum(phase.epochs for phase in phases)
    shares = [phase.epochs / all_epochs for phase in phases]
    if budget.seconds is not None:
        times = [share * budget.seconds for share in shares]
        times[0] = max(LEAST_SECONDS, times[0] - spent)
        return [Seconds(seconds) for seconds in times]
    total = options.steps_for(shape)
    assert total is not None, "a fit without a time budget has a number of steps"
    later = [max(1, round(share * total)) for share in shares[1:]]
    return [Steps(steps) for steps in (max(1, total - sum(later)), *later)]
