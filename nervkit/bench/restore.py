"""A run of restorations over clips, kept as one JSON record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np

from nervkit.bench.machine import machine, versions
from nervkit.output import replacing
from nervkit.restoration.evaluate import DAMAGES, Score, evaluate, parse_damage
from nervkit.restoration.published import PUBLISHED
from nervkit.video.reader import read_clip

if TYPE_CHECKING:
    from nervkit.bench.datasets import ClipSpec

RECORD = "restore.json"


def bench_restore(
    clips: Sequence[ClipSpec],
    out: Path,
    damages: Sequence[str],
    fit: dict[str, Any],
    *,
    mask: str | None = None,
    baselines: bool = True,
    picture: int | None = None,
    on_score: Callable[[str, Score], None] = lambda clip, score: None,
) -> dict[str, Any]:
    """Evaluate restorations of clips; see `evaluate`. What a run folder has already, for the same
    clip, damage and fit, is kept.

    Args:
        clips: what to damage and repair.
        out: the run folder; its restore.json is written after each damage.
        damages: as `evaluate` takes them; none: the papers'.
        fit: options of the fit.
        mask: for the damage "mask".
        baselines: whether the classical methods are scored too.
        picture: a frame of which every method's result is kept as a PNG.
        on_score: called with the clip's name and each score, new or kept.

    Returns:
        The record, JSON-ready.
    """
    damages = damages or DAMAGES
    for damage in damages:
        parse_damage(damage)
    out.mkdir(parents=True, exist_ok=True)
    path = out / RECORD
    earlier = json.loads(path.read_text())["runs"] if path.exists() else []
    record: dict[str, Any] = {
        "machine": machine(fit.get("device", "cpu")),
        "versions": versions(),
        "runs": earlier,
        "published": [asdict(figure) for figure in PUBLISHED],
    }
    for spec in clips:
        clip = None
        for damage in damages:
            told = {"clip": spec.name, "damage": damage, "reading": spec.options, "fit": fit}
            told |= {"baselines": baselines, **({"mask": mask} if damage == "mask" else {})}
            kept = [run for run in record["runs"] if {k: run.get(k) for k in told} == told]
            if kept:
                for row in kept[0]["scores"]:
                    on_score(spec.name, Score(**row))
                continue
            clip = clip or read_clip(spec.path, **spec.options)

            def keep(method: str, frames: np.ndarray, where: str = f"{spec.name}-{damage}") -> None:
                if picture is not None and picture < len(frames):
                    name = f"{where}-{method}.png".replace(":", "-").replace(" ", "-")
                    iio.imwrite(out / name, frames[picture])

            scores = evaluate(
                clip.frames,
                damage,
                mask=mask,
                baselines=baselines,
                on_score=lambda score, name=spec.name: on_score(name, score),
                on_frames=keep,
                **fit,
            )
            run = told | {"frames": list(clip.shape), "scores": [s.to_dict() for s in scores]}
            record["runs"].append(run)
            with replacing(path) as partial:
                partial.write_text(json.dumps(record, indent=1) + "\n")
    return record
