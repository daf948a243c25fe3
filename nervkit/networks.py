"""The network of a segment: its cost, its reconstruction from stored tensors, its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
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
    """Check the cost of decoding these segments, computed from the header before anything of its
    size is allocated. Raises LimitError if it exceeds the file's limits, ResourceError if it needs
    more memory than is free."""
    # Segments with the same configuration, which is one object then, cost the same.
    keys = [(s.model, id(s.config), s.frames, s.values) for s in segments]
    distinct = dict(zip(keys, segments, strict=True))
    plans = {key: segment_blueprint(file.header, segment) for key, segment in distinct.items()}
    memory = max(plan.memory for plan in plans.values())
    macs = sum(s.frames * plans[key].macs for key, s in zip(keys, segments, strict=True))
    file.limits.check("values", max(plan.values for plan in plans.values()), file.size)
    file.limits.check("memory", memory, file.size)
    file.limits.check("macs_per_frame", max(plan.macs for plan in plans.values()), file.size)
    file.limits.check("macs_per_file", macs, file.size)
    if memory > (free := available_memory()):
        raise ResourceError(
            f"{file.name}: decoding takes {human_bytes(memory)} of memory, "
            f"{human_bytes(free)} are free; close other programs"
        )


def segment_blueprint(header: Header, segment: Segment) -> Blueprint:
    """Return the blueprint of a segment's model. Raises FormatError if the configuration is
    impossible or the header's number of values is wrong."""
    model = segment_model(header, segment)
    try:
        plan = blueprint(*model)
    except Exception as error:  # a third party's model may raise anything
        reason = printable(" ".join(str(error).split()))
        raise FormatError(f"the model's configuration is impossible: {reason}") from error
    if segment.values not in (None, plan.values):
        raise FormatError(
            f"the header declares {segment.values} values, the model has {plan.values}"
        )
    return plan


def with_values(header: Header) -> Header:
    """Return the header of a salvaged file with the missing numbers of values, computed by its
    models. Raises FormatError."""
    if all(segment.values is not None for segment in header.segments):
        return header
    counted = (replace(s, values=segment_blueprint(header, s).values) for s in header.segments)
    return header.of_segments(counted)


def segment_model(
    header: Header, segment: Segment
) -> tuple[type[Representation], ModelConfig, VideoShape]:
    """Return a segment's model class, its configuration and the shape of its video. Raises
    FormatError."""
    try:
        model_type = load_model(segment.model)
    except UsageError as error:
        raise FormatError(
            f"the file needs the model {segment.model!r}, which is not installed; install the "
            "package that provides it (`nervkit models` lists the installed ones)"
        ) from error
    try:
        config = model_type.config_type.from_dict(segment.config)
        return model_type, config, VideoShape(segment.frames, header.height, header.width)
    except UsageError as error:
        raise FormatError(f"the model's configuration is impossible: {error}") from error


def rebuild(header: Header, index: int, data: SegmentData) -> Representation:
    """Rebuild a segment's model from its stored tensors, ready to decode on the CPU. Raises
    FormatError."""
    segment = header.segments[index]
    model = construct(header, segment)
    load_tensors(model, segment_blueprint(header, segment), data)
    return model


def construct(header: Header, segment: Segment) -> Representation:
    """Construct a segment's model on the CPU, without its tensors. This is the part of `rebuild`
    that draws random numbers, from torch's global state. Raises FormatError."""
    segment_blueprint(header, segment)
    model_type, config, shape = segment_model(header, segment)
    return model_type.for_decoding(config, shape)


def load_tensors(
    model: Representation,
    plan: Blueprint,
    data: SegmentData,
    on_block: Callable[[], None] = lambda: None,
) -> None:
    """Decode the stored tensors into a model with the blueprint `plan`: the longer part of
    `rebuild`. `on_block` as in `rangecoder.Decoder`. Raises FormatError."""
    arrays = decompress_segment(data, plan.weights | plan.embeddings, on_block)
    model.load_stored({name: torch.from_numpy(array) for name, array in arrays.items()})


def render(model: Representation, positions: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Decode the frames at `positions`, (B, H, W, 3) uint8. The reference decode is one frame at a
    time on a CPU, in float32; CUDA computes in float16."""
    return _decoded(model, positions).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def render_tensor(model: Representation, positions: Sequence[float]) -> Tensor:
    """Decode the frames at `positions`, (B, 3, H, W) uint8 on the model's device, as a tensor that
    autograd accepts."""
    return _decoded(model, positions).clone(memory_format=torch.contiguous_format)


@torch.inference_mode()
def _decoded(model: Representation, positions: Sequence[float]) -> Tensor:
    """Decode (B, 3, H, W) uint8 frames in any memory format."""
    device = next(model.parameters()).device
    half = torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")
    with reproducible(device), half:
        frames = model(torch.tensor(positions, dtype=torch.float32, device=device))
    return frames.float().mul(255).round_().clamp_(0, 255).byte()
