"""What a collection gains over separate files: bytes and PSNR of clips in one network, with and
without the weights of earlier clips, beside the same network for each clip alone, and beside NeRV
fitted for rate and distortion to the bytes that the collection takes.

    python benchmarks/collection.py [--clips bunny,...] [--keep 0.5] [--frames 24] [--steps 400]

Some 5 minutes for three clips, on one core. Rows of another share of weights (--keep) are kept.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import ROOT, SHARED, earlier_rows, report

import nervkit
from nervkit.collection import add
from nervkit.collection.adding import AddReport
from nervkit.video.clip import Clip

CLIPS = {
    "bunny": (ROOT / "examples" / "bunny.mp4", None),
    "basketballpass": (SHARED / "basketballpass", 50),
    "blackswan": (SHARED / "davis" / "blackswan" / "frames", 25),
    "city": (SHARED / "vid4_city", 30),
}
STRIDES = (4, 4, 2)  # 3x5 cells of 160x96


def row(how: str, clip: str, size: int, psnr: float, **more: Any) -> dict[str, Any]:
    """A line of the table; of what is not asked of a kind of file, nothing."""
    empty = dict.fromkeys(("masks", "weights", "kept", "added"))
    return {"how": how, "clip": clip, "bytes": size, "psnr": round(psnr, 3)} | empty | more


def of_added(how: str, made: AddReport) -> dict[str, Any]:
    """The line of a clip in a collection. The header counts for the first one, and where a clip has
    a file to itself."""
    whole = made.bytes if made.videos == 1 else made.added_bytes
    parts = made.bytes_by_part
    return row(
        how,
        made.name,
        whole,
        made.psnr,
        masks=parts["masks"],
        weights=parts["weights"],
        kept=made.kept,
        added=made.added,
    )


def together(
    how: str, clips: dict[str, Clip], folder: Path, **options: Any
) -> Iterator[dict[str, Any]]:
    """All clips in one collection, in order."""
    path = folder / f"{how.replace(' ', '-')}.nervc"
    making = {name: options.pop(name) for name in ("params", "strides")}
    for index, (name, clip) in enumerate(clips.items()):
        made = add(path, clip, name=name, device="cpu", **options, **(making if not index else {}))
        yield of_added(how, made)


def alone(how: str, clips: dict[str, Clip], folder: Path, **options: Any) -> Iterator[dict]:
    """A collection for each clip."""
    for name, clip in clips.items():
        path = folder / f"{how.replace(' ', '-')}-{name}.nervc"
        yield of_added(how, add(path, clip, name=name, device="cpu", **options))


def nerv(clips: dict[str, Clip], folder: Path, size: int, steps: int) -> Iterator[dict[str, Any]]:
    """A .nerv file of the model `nerv` for each clip, of so many bytes."""
    for name, clip in clips.items():
        made = nervkit.encode(
            clip,
            folder / f"{name}.nerv",
            model="nerv",
            strides=STRIDES,
            target_size=size,
            steps=steps,
            device="cpu",
        )
        yield row("nerv to the same bytes", name, made.bytes, made.psnr)


def totals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each way: all bytes, and the mean PSNR of the clips."""
    ways: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for line in rows:
        ways.setdefault((line["keep"], line["how"]), []).append(line)
    return [
        {"keep": keep}
        | row(how, "all", sum(x["bytes"] for x in own), sum(x["psnr"] for x in own) / len(own))
        for (keep, how), own in ways.items()
    ]


def measured(clips: dict[str, Clip], params: int, keep: float, steps: int) -> Iterator[dict]:
    """All lines, one by one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common: dict[str, Any] = {"strides": STRIDES, "steps": steps, "keep": keep}
        first = list(together("collection", clips, folder, params=params, **common))
        yield from first
        yield from together("without reuse", clips, folder, params=params, reuse=False, **common)
        dense = common | {"keep": 1.0, "params": round(params * keep)}
        yield from alone("network alone", clips, folder, **dense)
        yield from nerv(clips, folder, sum(x["bytes"] for x in first) // len(first), steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", default="bunny,blackswan,city")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", default="160x96")
    parser.add_argument("--params", type=int, default=60_000)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=400)
    chosen = parser.parse_args()
    clips = {}
    for name in chosen.clips.split(","):
        source, fps = CLIPS[name]
        clip = nervkit.read_clip(source, fps=fps, frames=f"0:{chosen.frames}", resize=chosen.size)
        clips[name] = replace(clip, tracks=[])
    rows = [x for x in earlier_rows("collection", ["all"]) if x["keep"] != chosen.keep]
    for line in measured(clips, chosen.params, chosen.keep, chosen.steps):
        rows.append({"keep": chosen.keep} | line)
        report(
            "collection",
            [*rows, *totals(rows)],
            **{name: getattr(chosen, name) for name in ("frames", "size", "params", "steps")},
        )
