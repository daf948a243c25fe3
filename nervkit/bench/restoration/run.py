"""A run of restorations over clips, kept as one JSON record."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np

from nervkit.bench.machine import machine, versions
from nervkit.bench.records import read_record, write_record
from nervkit.bench.restoration.evaluate import DAMAGES, Score, evaluate, parse_damage
from nervkit.bench.restoration.published import PUBLISHED
from nervkit.errors import SourceError, UsageError
from nervkit.models.device import choose_device
from nervkit.restoration.masks import read_mask
from nervkit.video.ranges import fingerprint_of
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
    mask: Any = None,
    baselines: bool = True,
    picture: int | None = None,
    on_score: Callable[[str, Score], None] = lambda clip, score: None,
) -> dict[str, Any]:
    """Evaluate restorations of clips; see `evaluate`. What a run folder has already, for the same
    clip, damage, fit and versions, is kept.

    Args:
        clips: what to damage and repair.
        out: the run folder; its restore.json is written after each damage.
        damages: as `evaluate` takes them; none: the papers'.
        fit: options of the fit, and `fit`, whether to make one.
        mask: for the damage "mask", and only then, as `inpaint` takes it.
        baselines: whether the classical methods are scored too.
        picture: a frame of which every method's result is kept as a PNG.
        on_score: called with the clip's name and each score, new or kept.

    Returns:
        The record, JSON-ready.
    """
    damages = damages or DAMAGES
    for damage in damages:
        parse_damage(damage)
    if (mask is None) == ("mask" in damages):
        raise UsageError("the damage mask and a mask are given together")
    out.mkdir(parents=True, exist_ok=True)
    path = out / RECORD
    record: dict[str, Any] = {
        "runs": _earlier(path),
        "published": [asdict(figure) for figure in PUBLISHED],
    }
    device = str(choose_device(fit.get("device", "auto")))
    made_on, made_with = {"machine": machine(device)}, versions()
    for spec in clips:
        clip = read_clip(spec.path, **spec.options)
        content = fingerprint_of(clip.frames)
        holes = None
        if "mask" in damages:
            holes = read_mask(mask, (), clip.shape[:3], spec.options, clip.skipped)
        for damage in damages:
            identity = {"clip": spec.name, "content": content, "reading": spec.options}
            identity |= {"damage": damage, "fit": fit | {"device": device}, "baselines": baselines}
            identity |= {"picture": picture, "versions": made_with}
            if damage == "mask":
                identity["mask"] = fingerprint_of(holes)
            kept = [run for run in record["runs"] if {k: run.get(k) for k in identity} == identity]
            if kept:
                for row in kept[0]["scores"]:
                    on_score(spec.name, Score(**row))
                continue

            def keep(method: str, frames: np.ndarray, where: str = f"{spec.name}-{damage}") -> None:
                if picture is not None and picture < len(frames):
                    name = re.sub(r"[^\w.]+", "-", f"{where}-{method}")
                    iio.imwrite(out / f"{name}.png", frames[picture])

            scores = evaluate(
                clip.frames,
                damage,
                mask=holes,
                baselines=baselines,
                on_score=lambda score, name=spec.name: on_score(name, score),
                on_frames=keep,
                **fit,
            )
            run = identity | {"frames": list(clip.shape), "scores": [s.to_dict() for s in scores]}
            run |= {"command": _command(identity, mask), **made_on}
            record["runs"].append(run)
            write_record(path, record)
    return record


def _command(identity: dict[str, Any], mask: Any) -> str:
    """The command that makes a run again, with the clip's name for its path."""
    options = {"damage": identity["damage"], **identity["reading"], **identity["fit"]}
    if "mask" in identity:
        options["mask"] = mask if isinstance(mask, (str, Path)) else "MASKS"
    words = ["nervkit", "bench", "restore", identity["clip"], "--out", "run"]
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    if identity["picture"] is not None:
        words += ["--picture", str(identity["picture"])]
    return shlex.join(words + ["--no-baselines"] * (not identity["baselines"]))


def _earlier(path: Path) -> list[dict[str, Any]]:
    """The runs of a record; none where there is no record. Raises SourceError."""
    if not path.exists():
        return []
    try:
        runs = (read_record(path) or {})["runs"]
        for run in runs:
            [Score(**row) for row in run["scores"]]
    except (KeyError, TypeError) as error:
        raise SourceError(f"{path}: not a readable record; delete it or use another --out") from (
            error
        )
    return runs
