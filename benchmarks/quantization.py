"""Loss of quantization after a fit: uniform bit depth against step sizes by sensitivity, at equal
bytes and at equal loss.

    python benchmarks/quantization.py [MODEL ...]

Bunny at 320x160, a short fit of each model. Bytes are those of the coded payloads. Takes about 5
minutes per model on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import fitted, quality, report, small_bunny

from nervkit.compression.coded import decompress_coded
from nervkit.compression.tensors import compress_tensors, decompress_tensors
from nervkit.fitting.posttraining import Quantizer, compress_to_error, compress_to_size
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.models.base import Representation, count_stored
from nervkit.models.registry import load_model
from nervkit.video.clip import Clip

PARAMS, STEPS = 180_000, 400
BITS = (8, 7, 6, 5, 4)
TRIES = 4  # of the search for an equal loss

Arrays = dict[str, np.ndarray]


def uniform(network: Representation, bits: int) -> tuple[int, Arrays]:
    """Quantize all values to `bits`. Return the bytes and the decoded tensors."""
    size, decoded = 0, {}
    for group in filter(None, (network.weights(), network.embeddings())):
        arrays = {k: v.float().contiguous().numpy() for k, v in group.items()}
        data = compress_tensors(arrays, bits)
        size += len(data)
        decoded |= decompress_tensors(data, {k: v.shape for k, v in arrays.items()})
    return size, decoded


def rows_of(model: str, clip: Clip) -> list[dict[str, Any]]:
    """Return the rows of one model."""
    network, _ = fitted(clip, model, PARAMS, load_model(model).recipes["native"], STEPS)
    stored = {name: value.clone() for name, value in network.stored().items()}
    shapes = {name: tuple(value.shape) for name, value in stored.items()}
    derivatives, before = mean_squared_derivatives(network), quality(network, clip)

    def row(way: str, size: int, decoded: Arrays) -> dict[str, Any]:
        network.load_stored({k: torch.from_numpy(v) for k, v in decoded.items()})
        after = quality(network, clip)
        network.load_stored(stored)
        return {
            "model": model,
            "steps": way,
            "bytes": size,
            "bits/value": 8 * size / count_stored(network),
            "psnr": after,
            "loss": before - after,
        }

    def by_sensitivity(
        way: str, compress: Callable[..., list[bytes]], aim: float
    ) -> dict[str, Any]:
        payload = compress([Quantizer(network, derivatives)], aim)[0]
        return row(f"by sensitivity, {way}", len(payload), decompress_coded(payload, shapes))

    def at_loss(loss: float) -> dict[str, Any]:
        """Search for the error target that comes nearest to `loss`."""
        wanted = 10 ** (loss / 10) - 1
        error, tried = 10 ** (-before / 10) * wanted, []
        for _ in range(TRIES):
            tried.append(by_sensitivity("equal loss", compress_to_error, error))
            error *= wanted / max(10 ** (tried[-1]["loss"] / 10) - 1, 0.1 * wanted)
        return min(tried, key=lambda made: abs(made["loss"] - loss))

    rows = [row("none", 4 * count_stored(network), {k: v.numpy() for k, v in stored.items()})]
    for bits in BITS:
        rows.append(row(f"{bits} bits", *uniform(network, bits)))
        size, loss = rows[-1]["bytes"], rows[-1]["loss"]
        rows += [by_sensitivity("equal bytes", compress_to_size, size), at_loss(loss)]
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["gridnerv", "hnerv"])
    rows = []
    for name in parser.parse_args().models:
        rows += rows_of(name, small_bunny())
        report("quantization", rows, parameters=PARAMS, fit_steps=STEPS)
