"""The network of a segment: what it costs, how it is rebuilt from its tensors, what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nervkit.compression.methods import decompress_segment
from nervkit.container.fields import printable
from nervkit.container.file import NervFile
from nervkit.container.header import Header, Segment
from nervkit.container.segment import SegmentData
from nervkit.errors import FormatError, ResourceError, UsageError
from nervkit.models.base import Representation
from nervkit.models.complexity import Blueprint, blueprint
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import reproducible
from nervkit.models.registry import load_model
from nervkit.video.memory import available_memory, human_bytes


def check_budget(file: NervFile, segments: Sequence[Segment]) -> None:
    """Raise LimitError where decoding these segments takes more than the file's limits allow,
    ResourceError where it takes more memory than is free. Costs are computed from the header,
    before anything of their size is allocated."""
    # Of segments that share a configuration, which is one object then, one stands for all.
    keys = [(s.model, id(s.config), s.frames, s.values) for s in segments]
    distinct = dict(zip(keys, segments, strict=True))
    plans = {key: drawn(file.header, segment) for key, segment in distinct.items()}
    memory = max(plan.memory for plan in plans.values())
    macs = sum(s.frames * plans[key].macs for key, s in zip(keys, segments, strict=True))
    file.limits.check("values", max(plan.values for plan in plans.values()), file.size)
    file.limits.check("memory", memory, file.size)
    file.limits.check("macs_per_frame", max(plan.macs for plan in plans.values()), file.size)
    file.limits.check("macs_per_file", macs, file.size)
    if memory > (free := available_memory()):
        raise ResourceError(
            f"{file.name}: decoding takes {human_bytes(memory)} of memory, "
            f"{human_bytes(free)} are free"
        )


def drawn(header: Header, segment: Segment) -> Blueprint:
    """The blueprint of a segment's model. Raises FormatError where it cannot be."""
    model = described(header, segment)
    try:
        plan = blueprint(*model)
    except Exception as error:  # a model that others bring may raise anything
        reason = printable(" ".join(str(error).split()))
        raise FormatError(f"the model's configuration is impossible: {reason}") from error
    if segment.values not in (None, plan.values):
        raise FormatError(
            f"the header declares {segment.values} values, the model has {plan.values}"
        )
    return plan


def with_values(header: Header) -> Header:
    """The header of a salvaged file with the numbers of values that it lacks, by its models. Raises
    FormatError."""
    if all(segment.values is not None for segment in header.segments):
        return header
    counted = (replace(s, values=drawn(header, s).values) for s in header.segments)
    return header.of_segments(counted)


def described(
    header: Header, segment: Segment
) -> tuple[type[Representation], ModelConfig, VideoShape]:
    """The model of a segment, its configuration and what it reproduces. Raises FormatError."""
    try:
        model_type = load_model(segment.model)
    except UsageError as error:
        raise FormatError(
            f"the file needs the model {segment.model!r}, which is not installed; install the "
            "package that brings it (`nervkit models` lists what there is)"
        ) from error
    try:
        config = model_type.config_type.from_dict(segment.config)
        return model_type, config, VideoShape(segment.frames, header.height, header.width)
    except UsageError as error:
        raise FormatError(f"the model's configuration is impossible: {error}") from error


def rebuild(header: Header, index: int, data: SegmentData) -> Representation:
    """The model of a segment with its stored tensors, ready to decode on the CPU. Raises
    FormatError."""
    segment = header.segments[index]
    model = unfilled(header, segment)
    fill(model, drawn(header, segment), data)
    return model


def unfilled(header: Header, segment: Segment) -> Representation:
    """The model of a segment as its constructor makes it, on the CPU: the part of `rebuild` that
    draws random numbers, from torch's one state. Raises FormatError."""
    drawn(header, segment)
    model_type, config, shape = described(header, segment)
    return model_type.for_decoding(config, shape)


def fill(
    model: Representation,
    plan: Blueprint,
    data: SegmentData,
    on_block: Callable[[], None] = lambda: None,
) -> None:
    """Decode the stored tensors into a model of that plan: the longer part of `rebuild`;
    `on_block` as of `rangecoder.Decoder`. Raises FormatError."""
    arrays = decompress_segment(data, plan.weights | plan.embeddings, on_block)
    model.load_stored({name: torch.from_numpy(array) for name, array in arrays.items()})


def render(model: Representation, positions: Sequence[float]) -> np.ndarray:
    """The (B, H, W, 3) uint8 frames at positions. One frame on a CPU, float32, is the reference
    decode; CUDA computes in float16."""
    return _shown(model, positions).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def render_tensor(model: Representation, positions: Sequence[float]) -> Tensor:
    """The same frames as (B, 3, H, W) uint8 on the model's device, to compute with in any way."""
    return _shown(model, positions).clone(memory_format=torch.contiguous_format)


@torch.inference_mode()
def _shown(model: Representation, positions: Sequence[float]) -> Tensor:
    """(B, 3, H, W) uint8, of any memory format."""
    device = next(model.parameters()).device
    half = torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")
    with reproducible(device), half:
        frames = model(torch.tensor(positions, dtype=torch.float32, device=device))
    return frames.float().mul(255).round_().clamp_(0, 255).byte()
