"""Gain of a collection over separate files: bytes and PSNR of clips in one network, with and
without reuse of earlier clips' weights, against the same network for each clip alone, and against
NeRV and GridNeRV in rate-distortion fits to the collection's bytes. GridNeRV is also measured with
a shared network: that of the first clip's file, with grids for each later clip.

    python benchmarks/collection.py [--clips bunny,...] [--keep 0.5] [--frames 24] [--steps 400]

Takes about 5 minutes for three clips on one core. Rows of other shares of weights (--keep) are
kept.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import ROOT, SHARED, earlier_rows, quality, report
from torch import Tensor

import nervkit
from nervkit.collection import add
from nervkit.collection.adding import AddReport
from nervkit.fitting.coding import Codec
from nervkit.fitting.loop import Stepper, fit
from nervkit.models.config import VideoShape
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig
from nervkit.video.clip import Clip

CLIPS = {
    "bunny": (ROOT / "examples" / "bunny.mp4", None),
    "basketballpass": (SHARED / "basketballpass", 50),
    "blackswan": (SHARED / "davis" / "blackswan" / "frames", 25),
    "city": (SHARED / "vid4_city", 30),
}
STRIDES = (4, 4, 2)  # 3x5 cells of 160x96


def row(how: str, clip: str, size: int, psnr: float, **more: Any) -> dict[str, Any]:
    """Return a row of the table; values that a kind of file lacks are None."""
    empty = dict.fromkeys(("masks", "weights", "kept", "added"))
    return {"how": how, "clip": clip, "bytes": size, "psnr": round(psnr, 3)} | empty | more


def of_added(how: str, made: AddReport) -> dict[str, Any]:
    """Return the row of a clip in a collection. The header counts for the first clip, and for a
    clip with a file of its own."""
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
    """Yield the rows of all clips in one collection, in order."""
    path = folder / f"{how.replace(' ', '-')}.nervc"
    making = {name: options.pop(name) for name in ("params", "strides")}
    for index, (name, clip) in enumerate(clips.items()):
        made = add(path, clip, name=name, device="cpu", **options, **(making if not index else {}))
        yield of_added(how, made)


def alone(how: str, clips: dict[str, Clip], folder: Path, **options: Any) -> Iterator[dict]:
    """Yield the rows of one collection per clip."""
    for name, clip in clips.items():
        path = folder / f"{how.replace(' ', '-')}-{name}.nervc"
        yield of_added(how, add(path, clip, name=name, device="cpu", **options))


def files(
    model: str, clips: dict[str, Clip], folder: Path, size: int, steps: int, **options: Any
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one .nerv file of `size` bytes per clip."""
    for name, clip in clips.items():
        path = folder / f"{model}-{name}.nerv"
        length = {"target_size": size, "steps": steps, "device": "cpu"}
        made = nervkit.encode(clip, path, model=model, **length, **options)
        yield row(f"{model} to the same bytes", name, made.bytes, made.psnr)


class Grids(GridNeRV):
    """GridNeRV with fixed weights: only its grids are fitted and stored."""

    def weights(self) -> dict[str, Tensor]:
        return {}

    def matrices(self) -> list[str]:
        return []


def sharing(clips: dict[str, Clip], folder: Path, size: int, steps: int) -> Iterator[dict]:
    """Yield the rows of the first clip's file, and of later clips' grids of `size` bytes for its
    network."""
    how, recipe = "gridnerv, shared network", Grids.recipes["native"]
    (first, *later), path = clips, folder / "gridnerv-shared.nerv"
    made = nervkit.encode(clips[first], path, target_size=size, steps=steps, device="cpu")
    yield row(how, first, made.bytes, made.psnr)
    with nervkit.open(path) as video:
        config, trained = video.segments[0].config, video.model.state_dict()
    for name in later:
        clip = clips[name]
        torch.manual_seed(0)
        network = Grids(GridNeRVConfig.from_dict(config), VideoShape(*clip.shape[:3]))
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        network.start_fit(frames)
        own = network.embeddings()
        network.load_state_dict({k: v for k, v in trained.items() if k not in own}, strict=False)
        for key, parameter in network.named_parameters():
            parameter.requires_grad_(key in own)
        codec = Codec(network, 8 * size)
        fit(Stepper(network, frames, recipe, codec=codec), steps)
        payload = codec.compress(network, None, True)
        network.load_stored(codec.rounded(network))
        yield row(how, name, len(payload), quality(network, clip))


def totals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per method: the bytes of all clips, and their mean PSNR."""
    ways: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for line in rows:
        ways.setdefault((line["keep"], line["how"]), []).append(line)
    return [
        {"keep": keep}
        | row(how, "all", sum(x["bytes"] for x in own), sum(x["psnr"] for x in own) / len(own))
        for (keep, how), own in ways.items()
    ]


def measured(clips: dict[str, Clip], params: int, keep: float, steps: int) -> Iterator[dict]:
    """Yield all rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common: dict[str, Any] = {"strides": STRIDES, "steps": steps, "keep": keep}
        first = list(together("collection", clips, folder, params=params, **common))
        yield from first
        yield from together("without reuse", clips, folder, params=params, reuse=False, **common)
        dense = common | {"keep": 1.0, "params": round(params * keep)}
        yield from alone("network alone", clips, folder, **dense)
        share = sum(x["bytes"] for x in first) // len(first)
        yield from files("nerv", clips, folder, share, steps, strides=STRIDES)
        yield from files("gridnerv", clips, folder, share, steps)
        yield from sharing(clips, folder, share, steps)


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
