"""A .nerv file, or a kept fit, -> what a fit begins from."""

from __future__ import annotations

import os
from pathlib import Path

from nervkit.compression.methods import coded_tensors, decompress_segment
from nervkit.container.file import NervFile
from nervkit.decoder import NervVideo
from nervkit.errors import SourceError, UsageError
from nervkit.fitting.checkpoint import read_checkpoint
from nervkit.fitting.start import KeptFit, Start, StoredStart
from nervkit.models.config import VideoShape
from nervkit.models.registry import load_model
from nervkit.networks import described, drawn

KEPT_FIT = b"PK"  # the first bytes of a checkpoint, which is a zip archive
REMEDY = "make one with keep-fit"


def check_start(path: str | os.PathLike[str]) -> None:
    """Raise SourceError or FormatError if there is no .nerv file and no kept fit at `path`."""
    if _is_kept_fit(path):
        read_checkpoint(Path(path), REMEDY)
    else:
        NervFile(path).close()


def read_start(
    path: str | os.PathLike[str], model: str, shape: VideoShape, fingerprint: str
) -> Start:
    """The network of a file of one segment or of a kept fit, to fit `model` to a video of `shape`
    whose frames have this `fingerprint`.

    Raises SourceError, FormatError, and UsageError where the file is of another model or shape, or
    the fit of other frames.
    """
    if _is_kept_fit(path):
        return _kept_fit(Path(path), model, fingerprint)
    return _stored(path, model, shape)


def _is_kept_fit(path: str | os.PathLike[str]) -> bool:
    place = Path(path)
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(len(KEPT_FIT)) == KEPT_FIT


def _kept_fit(path: Path, model: str, fingerprint: str) -> KeptFit:
    identity, saved = read_checkpoint(path, REMEDY)
    if identity.get("model") != model:
        raise UsageError(
            f"{path}: a fit of {model} cannot start from one of {identity.get('model')}"
        )
    if identity.get("frames") != fingerprint:
        raise UsageError(f"{path}: holds the fit of other frames; give the same video and options")
    model_type = load_model(model)
    try:
        config = model_type.config_type.from_dict(identity["config"])
    except (KeyError, UsageError) as error:
        raise SourceError(f"{path}: not a readable checkpoint; {REMEDY}") from error
    return KeptFit(config, saved)


def _stored(path: str | os.PathLike[str], model: str, shape: VideoShape) -> StoredStart:
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
                f"{path}: a fit of {model} cannot start from a file, which has no {missing}; "
                "keep a fit with keep-fit, and start from that"
            )
        plan, data = drawn(header, segment), video.file.segment(0)
        shapes = plan.weights | plan.embeddings
        coded = coded_tensors(data, shapes)
        if coded.keys() == shapes.keys():
            tensors = {name: coded[name].dequantize() for name in shapes}
        else:
            tensors = decompress_segment(data, shapes)
        return StoredStart(config, tensors, coded)


def _in_words(model: str, shape: VideoShape) -> str:
    return f"{model} for {shape.frames} frames of {shape.width}x{shape.height}"
