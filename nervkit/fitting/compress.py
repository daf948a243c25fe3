"""A fitted network -> the coded tensors of a segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.accounting import Accounted
from nervkit.compression.pruning import alive
from nervkit.compression.quantization import Quantized
from nervkit.compression.tensors import compress_quantized, quantize_tensors
from nervkit.container.segment import ADAPTIVE, CONTEXTS, SegmentData
from nervkit.errors import Interrupted
from nervkit.fitting.coding import Codec
from nervkit.fitting.options import FitOptions
from nervkit.fitting.posttraining import Quantizer, compress_to_size
from nervkit.fitting.quantizing import Quantizing, StageQuantizing
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.fitting.shown import ShownQuality
from nervkit.models.base import Representation
from nervkit.video.colour import Colour


class Compressed(NamedTuple):
    """The coded tensors of a segment, and how many bits the accounting of the paper counts that the
    compression is from; None where there is none."""

    data: SegmentData
    published_bits: float | None = None


def compress_network(
    network: Representation,
    codec: Quantizing | None,
    options: FitOptions,
    frames: np.ndarray,
    colour: Colour,
    bits: tuple[int, int],
    exactly: bool,
    stop: Callable[[], bool],
) -> Compressed:
    """Quantize and code all tensors that travel. The network is moved to the CPU.

    What was fitted through a quantizer, its `codec`, takes the bytes or shows the PSNR that it was
    fitted for, or holds the integers of the last step of a published compression; the network
    becomes what the fit saw in the end. What was fitted in float is quantized by sensitivity to
    `options.coded_bytes`, or without a target to `bits` bits of weights and of embeddings.

    Args:
        network: fitted to `frames` (T, H, W, 3) uint8 of a `colour`, on the device that it was
            fitted on.
        exactly: whether a size is to be met as exactly as can be.
        stop: asked now and then; once True, Interrupted is raised.
    """

    def measured(done: int, total: int) -> None:
        if stop():
            raise Interrupted("stopped while the fit was quantized", resumable=True)

    count = len(network.stored())
    if isinstance(codec, Codec):
        shown = None
        if options.coded_psnr is not None:
            shown = ShownQuality(network, frames, options.metric, colour, stop)
        payload = codec.compress(network, shown, exactly)
        network.load_stored(codec.rounded(network))
        network.cpu()
        return Compressed(SegmentData.of((CONTEXTS, count, payload)))
    if options.coded_bytes is not None:
        derivatives = mean_squared_derivatives(network, on_progress=measured)
        quantizer = Quantizer(network.cpu(), derivatives)
        payload = compress_to_size([quantizer], options.coded_bytes)[0]
        return Compressed(SegmentData.of((CONTEXTS, count, payload)))
    seen = codec.quantized(network) if isinstance(codec, StageQuantizing) else {}
    network.cpu()
    masks = alive(network) if options.pruned_share else {}
    exact = {name: torch.from_numpy(q.dequantize()) for name, q in seen.items()}
    network.load_stored(network.stored() | exact)
    quantized: dict[str, Quantized] = {}
    sections = []
    for tensors, width in zip((network.weights(), network.embeddings()), bits, strict=True):
        rest = quantize_tensors(_arrays({k: v for k, v in tensors.items() if k not in seen}), width)
        own = {name: seen[name] if name in seen else rest[name] for name in tensors}
        if own:
            sections.append((ADAPTIVE, len(own), compress_quantized(list(own.values()))))
        quantized |= own
    published = _published_bits(options, network, quantized, masks)
    return Compressed(SegmentData.of(*sections), published)


def _published_bits(
    options: FitOptions,
    network: Representation,
    quantized: dict[str, Quantized],
    masks: dict[str, Tensor],
) -> float | None:
    """What the paper of a compression counts for the `quantized` tensors of a network, of which
    `masks` say where they were not pruned; None where there is no such paper."""
    compression, embeddings = options.compressing, network.embeddings()
    if compression is None or compression.accounting is None:
        return None
    tensors = []
    for name, tensor in quantized.items():
        mask = masks[name].numpy() != 0 if name in masks else np.ones(tensor.values.shape, bool)
        tensors.append(Accounted(tensor, mask, embedding=name in embeddings))
    return compression.accounting.bits(tensors)


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {k: v.detach().float().cpu().contiguous().numpy() for k, v in tensors.items()}
