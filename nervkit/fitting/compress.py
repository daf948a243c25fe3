"""Compression of a fitted network to the coded tensors of a segment."""

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
from nervkit.fitting.quantizers import FitQuantizer, StageQuantizer
from nervkit.fitting.reconstruction import ReconstructionPSNR
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.models.base import Representation
from nervkit.video.colour import Colour


class Compressed(NamedTuple):
    """The coded tensors of a segment, and their bits by the accounting of the compression's paper;
    None if no paper defines one."""

    data: SegmentData
    published_bits: float | None = None


def compress_network(
    network: Representation,
    codec: FitQuantizer | None,
    options: FitOptions,
    frames: np.ndarray,
    colour: Colour,
    bits: tuple[int, int],
    exactly: bool,
    stop: Callable[[], bool],
) -> Compressed:
    """Quantize and code all stored tensors, and move the network to the CPU.

    A network that was fitted through a `codec` is coded for the codec's target, or with the
    integers of the last step of a published compression; its tensors become the quantized ones of
    the last step. A network that was fitted in float is quantized by sensitivity to
    `options.coded_bytes`, or without a target to `bits` bits of weights and of embeddings.

    Args:
        network: fitted to `frames` (T, H, W, 3) uint8 of a `colour`, on the device of the fit.
        exactly: whether a size must be met as closely as possible.
        stop: called regularly; once it returns True, Interrupted is raised.
    """
    if isinstance(codec, Codec):
        return _compress_through(codec, network, options, frames, colour, exactly, stop)
    if options.coded_bytes is not None:
        return _compress_to_bytes(network, options.coded_bytes, stop)
    return _compress_to_bits(network, codec, options, bits)


def _compress_through(
    codec: Codec,
    network: Representation,
    options: FitOptions,
    frames: np.ndarray,
    colour: Colour,
    exactly: bool,
    stop: Callable[[], bool],
) -> Compressed:
    """Code the tensors that `codec` quantized in the fit."""
    count, psnr_of = len(network.stored()), None
    if options.coded_psnr is not None:
        psnr_of = ReconstructionPSNR(network, frames, options.metric, colour, stop)
    payload = codec.compress(network, psnr_of, exactly)
    network.load_stored(codec.rounded(network))
    network.cpu()
    return Compressed(SegmentData.of((CONTEXTS, count, payload)))


def _compress_to_bytes(network: Representation, size: int, stop: Callable[[], bool]) -> Compressed:
    """Quantize by sensitivity to about `size` bytes."""

    def on_progress(done: int, total: int) -> None:
        if stop():
            raise Interrupted("stopped while the fit was quantized", resumable=True)

    derivatives = mean_squared_derivatives(network, on_progress=on_progress)
    quantizer = Quantizer(network.cpu(), derivatives)
    payload = compress_to_size([quantizer], size)[0]
    return Compressed(SegmentData.of((CONTEXTS, len(network.stored()), payload)))


def _compress_to_bits(
    network: Representation,
    codec: FitQuantizer | None,
    options: FitOptions,
    bits: tuple[int, int],
) -> Compressed:
    """Quantize all that the fit has not quantized, to `bits` bits of weights and of embeddings."""
    fitted = codec.quantized(network) if isinstance(codec, StageQuantizer) else {}
    network.cpu()
    masks = alive(network) if options.pruned_share else {}
    exact = {name: torch.from_numpy(q.dequantize()) for name, q in fitted.items()}
    network.load_stored(network.stored() | exact)
    quantized: dict[str, Quantized] = {}
    sections = []
    for tensors, width in zip((network.weights(), network.embeddings()), bits, strict=True):
        rest = {name: tensor for name, tensor in tensors.items() if name not in fitted}
        after_fit = quantize_tensors(_arrays(rest), width)
        own = {name: fitted[name] if name in fitted else after_fit[name] for name in tensors}
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
    """Return the bits of the `quantized` tensors by the accounting of the compression's paper; None
    if no paper defines one. `masks` are 0 where weights were pruned."""
    compression, embeddings = options.compression_data, network.embeddings()
    if compression is None or compression.accounting is None:
        return None
    tensors = []
    for name, tensor in quantized.items():
        mask = masks[name].numpy() != 0 if name in masks else np.ones(tensor.values.shape, bool)
        tensors.append(Accounted(tensor, mask, embedding=name in embeddings))
    return compression.accounting.bits(tensors)


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {k: v.detach().float().cpu().contiguous().numpy() for k, v in tensors.items()}
