"""A benchmark of restoration over clips, kept as one JSON record."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import imageio.v3 as iio

from nervkit.bench.machine import machine, versions
from nervkit.bench.records import Record, read_record, write_record
from nervkit.bench.restoration.evaluate import DAMAGES, Frames, Score, evaluate, parse_damage
from nervkit.bench.restoration.published import PUBLISHED
from nervkit.errors import SourceError, UsageError
from nervkit.models.device import choose_device
from nervkit.restoration.masks import read_mask
from nervkit.video.ranges import frames_hash
from nervkit.video.reader import read_clip

if TYPE_CHECKING:
    from nervkit.bench.datasets import ClipSpec
    from nervkit.video.reader import ReadingOptions

RECORD_NAME = "restore.json"


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
) -> Record:
    """Evaluate restoration on clips; see `evaluate`. Runs that the folder has already for the same
    clip, damage, fit and versions are kept.

    Args:
        clips: clean clips to damage and restore.
        out: the run folder; its restore.json is written after each damage.
        damages: as `evaluate` takes them; empty: the papers'.
        fit: options of the fit, and `fit`, whether to make one.
        mask: for the damage "mask", and only then, as `inpaint` takes it.
        baselines: whether to score the baselines too.
        picture: a frame to store as PNG from every method's result.
        on_score: receives the clip's name and each score, new or kept.

    Returns:
        The record, JSON-ready.

    Raises:
        UsageError: an unknown damage or device, or a mask without its damage.
        SourceError: a clip or restore.json cannot be read.
    """
    damages = damages or DAMAGES
    for damage in damages:
        parse_damage(damage)
    if (mask is None) == ("mask" in damages):
        raise UsageError("give the damage mask and a mask together, or neither")
    device = str(choose_device(fit.get("device", "auto")))
    out.mkdir(parents=True, exist_ok=True)
    path = out / RECORD_NAME
    record: Record = {"runs": _earlier(path), "published": [asdict(p) for p in PUBLISHED]}
    shared: Record = {"fit": fit | {"device": device}, "baselines": baselines}
    shared |= {"picture": picture, "versions": versions()}
    for spec in clips:
        clip = read_clip(spec.path, **spec.options)
        content = frames_hash(clip.frames)
        holes = None
        if "mask" in damages:
            reading = cast("ReadingOptions", spec.options)
            holes = read_mask(mask, (), clip.shape[:3], reading, clip.skipped)
        for damage in damages:
            identity: Record = {"clip": spec.name, "content": content, "reading": spec.options}
            identity |= {"damage": damage, **shared}
            if damage == "mask" and holes is not None:
                identity["mask"] = frames_hash(holes)
            if kept := _find(record["runs"], identity):
                for row in kept["scores"]:
                    on_score(spec.name, Score(**row))
                continue
            scores = evaluate(
                clip.frames,
                damage,
                mask=holes,
                baselines=baselines,
                on_score=partial(on_score, spec.name),
                on_frames=partial(_save_picture, out, f"{spec.name}-{damage}", picture),
                **fit,
            )
            run = identity | {"frames": list(clip.shape), "scores": [s.to_dict() for s in scores]}
            run |= {"command": _command(identity, mask), "machine": machine(device)}
            record["runs"].append(run)
            write_record(path, record)
    return record


def _find(runs: list[Record], identity: Record) -> Record | None:
    """Return the run with all values of `identity`, if there is one."""
    return next((run for run in runs if {k: run.get(k) for k in identity} == identity), None)


def _save_picture(out: Path, run: str, picture: int | None, method: str, frames: Frames) -> None:
    """Store frame `picture` of a method's result, if it has one."""
    if picture is not None and picture < len(frames):
        name = re.sub(r"[^\w.]+", "-", f"{run}-{method}")
        iio.imwrite(out / f"{name}.png", frames[picture])


def _command(identity: Record, mask: Any) -> str:
    """Return the command that repeats a run, with the clip's name in place of its path."""
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


def _earlier(path: Path) -> list[Record]:
    """Return the runs of the record at `path`; none if the file is missing. Raises SourceError."""
    if not path.exists():
        return []
    try:
        runs: list[Record] = (read_record(path) or {})["runs"]
        for run in runs:
            [Score(**row) for row in run["scores"]]
    except (KeyError, TypeError) as error:
        raise SourceError(f"{path}: damaged record; delete it or use another --out") from error
    return runs
