"""Read the start of a fit: the network of a .nerv file or of a kept fit."""

from __future__ import annotations

import os
from pathlib import Path

from nervkit.compression.methods import coded_tensors, decompress_segment
from nervkit.container.file import NervFile
from nervkit.decoder import NervVideo
from nervkit.errors import SourceError, UsageError
from nervkit.fitting.checkpoint import read_checkpoint
from nervkit.fitting.start import KeptFit, Start, StoredStart
from nervkit.keywords import setting
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model
from nervkit.networks import segment_blueprint, segment_model

KEPT_FIT_MAGIC = b"PK"  # a kept fit is a checkpoint, which is a zip archive


def _remedy() -> str:
    return f"make one with {setting('keep_fit', True)}"


def check_start(path: str | os.PathLike[str]) -> None:
    """Raise SourceError or FormatError if `path` is neither a .nerv file nor a kept fit."""
    if _is_kept_fit(path):
        read_checkpoint(Path(path), _remedy())
    else:
        NervFile(path).close()


def read_start(
    path: str | os.PathLike[str], model: str, shape: VideoShape, fingerprint: str
) -> Start:
    """Read the network of a kept fit, or of a .nerv file with one segment.

    Args:
        path: the file.
        model: name of the model to fit.
        shape: shape of the video to fit.
        fingerprint: hash of its frames.

    Raises SourceError or FormatError if the file cannot be read, UsageError if it has another model
    or shape, or if a kept fit has other frames.
    """
    if _is_kept_fit(path):
        return _read_kept_fit(Path(path), model, fingerprint)
    return _read_nerv(path, model, shape)


def _is_kept_fit(path: str | os.PathLike[str]) -> bool:
    place = Path(path)
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(len(KEPT_FIT_MAGIC)) == KEPT_FIT_MAGIC


def _read_kept_fit(path: Path, model: str, fingerprint: str) -> KeptFit:
    identity, saved = read_checkpoint(path, _remedy())
    if identity.get("model") != model:
        raise UsageError(
            f"{path}: a fit of {model} cannot start from one of {identity.get('model')}"
        )
    if identity.get("frames") != fingerprint:
        raise UsageError(f"{path}: is a fit of other frames; give the same video and options")
    model_type = load_model(model)
    try:
        config = model_type.config_type.from_dict(identity["config"])
    except (KeyError, UsageError) as error:
        raise SourceError(f"{path}: not a readable checkpoint; {_remedy()}") from error
    return KeptFit(config, saved)


def _read_nerv(path: str | os.PathLike[str], model: str, shape: VideoShape) -> StoredStart:
    with NervVideo(path) as video, video.file.naming():
        header = video.header
        segment = header.segments[0]
        found = _describe(segment.model, VideoShape(*video.shape[:3]))
        if len(header.segments) > 1:
            found = f"{len(header.segments)} segments"
        if found != (wanted := _describe(model, shape)):
            raise UsageError(f"{path}: a fit of {wanted} cannot start from {found}")
        model_type, config, _ = segment_model(header, segment)
        if model_type.fit_only:
            missing = ", ".join(model_type.fit_only)
            raise UsageError(
                f"{path}: a fit of {model} cannot start from a .nerv file, which has no {missing}; "
                f"keep a fit with {setting('keep_fit', True)}, and start from that"
            )
        plan, data = segment_blueprint(header, segment), video.file.segment(0)
        shapes = plan.weights | plan.embeddings
        coded = coded_tensors(data, shapes)
        if coded.keys() == shapes.keys():
            tensors = {name: coded[name].dequantize() for name in shapes}
        else:
            tensors = decompress_segment(data, shapes)
        return StoredStart(config, tensors, coded)


def _describe(model: str, shape: VideoShape) -> str:
    return f"{model} for {shape.frames} frames of {shape.width}x{shape.height}"
