"""One rate point: encode, then decode and measure, each done once and kept as a JSON record."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nervkit.bench.anchors import FFmpeg
from nervkit.bench.codecs import Codec, Decoded, Rate
from nervkit.bench.machine import commit, machine, versions
from nervkit.bench.measure import Measures, measure
from nervkit.bench.records import FORMAT, Record, read_record, write_record
from nervkit.bench.reference import Reference, save_viewer_frames
from nervkit.metrics.vmaf import VMAF_MODEL

#: keys of a point record that the encode determines
ENCODE_FACTS = (
    *("commands", "file_bytes", "bytes", "bytes_by_part", "encode_seconds", "peak_memory"),
    *("device_memory", "macs_per_pixel", "parameters", "steps", "notes", "alone"),
)


def measure_point(
    codec: Codec[Rate],
    rate: Rate,
    reference: Reference,
    folder: Path,
    ffmpeg: FFmpeg,
    alone: bool,
) -> tuple[Record, bool]:
    """Return the record of a point (docs/bench.md), and whether it existed already.

    The codec encodes again only if an input of the bitstream has changed; nervkit decodes and
    measures again only if an input of the measurement has. A file with the suffix .state keeps
    the facts of an encode that is interrupted or not measured yet. `alone` says whether the
    point has the machine to itself.
    """
    name = f"{codec.name}-{codec.point(rate)}"
    path, state = folder / f"{name}.json", folder / f"{name}.state"
    stream = stream_path(folder, codec, rate)
    inputs = _hash(
        {
            "format": FORMAT,
            "source": reference.record["sha256"],
            "codec": codec.inputs(reference, rate),
            "versions": codec.versions(),
        }
    )
    measured = _hash({"ffmpeg": ffmpeg.version, "viewer": reference.viewer_frames})
    record = read_record(path)
    encoded = _encode_facts(record, inputs, stream)
    encoded = encoded or _encode_facts(read_record(state), inputs, stream)
    if record is not None and encoded and record.get("measured") == measured:
        return record, True
    if encoded is None:
        begun = read_record(state)
        path.unlink(missing_ok=True)
        write_record(state, {"inputs": inputs})
        resume = begun is not None and begun.get("inputs") == inputs
        encoded = codec.encode(reference, rate, stream, resume) | {"alone": alone}
        write_record(state, {"inputs": inputs, **encoded})
    decode_facts, decoded = codec.decode(reference, stream)
    viewer: dict[int, npt.NDArray[np.uint8]] = {}
    measures = measure(reference, _keeping(decoded, reference, viewer), folder, ffmpeg.path)
    save_viewer_frames(folder / name, viewer, reference.record)
    record = _record(codec, rate, reference, encoded, decode_facts, measures)
    record |= {
        "versions": versions() | {"ffmpeg": ffmpeg.version},
        "commit": commit(),
        "inputs": inputs,
        "measured": measured,
    }
    write_record(path, record)
    state.unlink(missing_ok=True)
    return record, False


def stream_path(folder: Path, codec: Codec[Rate], rate: Rate) -> Path:
    """Return the path of a point's bitstream."""
    return folder / f"{codec.name}-{codec.point(rate)}{codec.suffix}"


def _encode_facts(record: Record | None, inputs: str, stream: Path) -> Record | None:
    """Return the ENCODE_FACTS of a record or state, or None if they describe another bitstream
    than `stream`."""
    if record is None or record.get("inputs") != inputs or not stream.is_file():
        return None
    if record.get("file_bytes") != stream.stat().st_size:
        return None
    return {key: record[key] for key in ENCODE_FACTS}


def _keeping(
    decoded: Decoded, reference: Reference, viewer: dict[int, npt.NDArray[np.uint8]]
) -> Decoded:
    """Pass the decoded frames on, and keep the viewer's in `viewer`."""
    for index, (frame, planes) in enumerate(decoded):
        if index in reference.viewer_frames:
            viewer[index] = frame
        yield frame, planes


def _record(
    codec: Codec[Rate],
    rate: Rate,
    reference: Reference,
    encoded: Record,
    decoded: Record,
    measures: Measures,
) -> Record:
    source = reference.record
    count, bits = source["frames"], 8 * encoded["bytes"]
    facts = encoded | decoded
    for key in ("commands", "peak_memory"):
        facts[key] = encoded[key] | decoded[key]
    return {
        "format": FORMAT,
        "clip": source["clip"],
        "codec": codec.name,
        "kind": codec.kind,
        "profile": codec.profile,
        "point": codec.point(rate),
        "setting": codec.setting(rate),
        **{key: source[key] for key in ("frames", "width", "height", "fps")},
        "bpp": bits / (count * source["width"] * source["height"]),
        "kbps": bits * source["fps"] / count / 1000,
        "measures": measures.means,
        "per_frame": measures.per_frame,
        "vmaf_model": VMAF_MODEL,
        **facts,
        "encode_fps": count / encoded["encode_seconds"],
        "decode_fps": count / decoded["decode_seconds"],
        "seed": codec.seed,
        "metric": codec.metric,
        "device": codec.device,
        "machine": machine(codec.device),
        "source_sha256": source["sha256"],
        "matrix": source["colour"]["matrix"],
        "range": source["colour"]["range"],
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
