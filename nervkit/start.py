"""A .nerv file -> what a fit begins from."""

from __future__ import annotations

from pathlib import Path

from nervkit.compression.methods import coded_tensors, decompress_segment
from nervkit.decoder import NervVideo
from nervkit.errors import UsageError
from nervkit.fitting.start import Start
from nervkit.models.config import VideoShape
from nervkit.networks import described, drawn


def read_start(path: str | Path, model: str, shape: VideoShape) -> Start:
    """The network of a file of one segment, for the fit of a model to a video.

    Raises SourceError, FormatError, and UsageError where the file is of another model or shape.
    """
    with NervVideo(path) as video, video.file.naming():
        header = video.header
        segment = header.segments[0]
        found = _in_words(segment.model, VideoShape(*video.shape[:3]))
        if len(header.segments) > 1:
            found = f"{len(header.segments)} segments"
        if found != (wanted := _in_words(model, shape)):
            raise UsageError(f"{path}: a fit of {wanted} cannot start from {found}")
        model_type, config, _ = described(header, segment)
        if model_type.fit_only:
            missing = ", ".join(model_type.fit_only)
            raise UsageError(
                f"{path}: a fit of {model} cannot start from a file, which has no {missing}"
            )
        plan, data = drawn(header, segment), video.file.segment(0)
        shapes = plan.weights | plan.embeddings
        coded = coded_tensors(data, shapes)
        if coded.keys() == shapes.keys():
            tensors = {name: coded[name].dequantize() for name in shapes}
        else:
            tensors = decompress_segment(data, shapes)
        return Start(config, tensors, coded)


def _in_words(model: str, shape: VideoShape) -> str:
    return f"{model} for {shape.frames} frames of {shape.width}x{shape.height}"
