"""One rate point: measured in two stages that are each done once, and kept as a JSON record."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from nervkit.bench.anchors import FFmpeg
from nervkit.bench.codecs import Codec, Decoded
from nervkit.bench.machine import commit, machine, versions
from nervkit.bench.measure import Measures, measure
from nervkit.bench.records import read_record, write_record
from nervkit.bench.reference import Reference, save_viewer_frames
from nervkit.metrics.vmaf import VMAF_MODEL

RECORD_FORMAT = 1
ENCODE_FACTS = (
    *("commands", "file_bytes", "bytes", "bytes_by_part", "encode_seconds", "peak_memory"),
    *("device_memory", "macs_per_pixel", "parameters", "steps", "notes", "alone"),
)


def measure_point(
    codec: Codec,
    rate: Any,
    reference: Reference,
    folder: Path,
    ffmpeg: FFmpeg,
    alone: bool,
) -> tuple[dict[str, Any], bool]:
    """The record of a point (docs/bench.md), and whether it was there already.

    The bitstream is made again only where what determines it has changed; it is decoded and
    measured again where what measures it has. Between the two, and while an encode is
    interrupted, a file with the suffix .state says what is there.
    """
    name = f"{codec.name}-{codec.point(rate)}"
    path, state = folder / f"{name}.json", folder / f"{name}.state"
    stream = stream_path(folder, codec, rate)
    inputs = _hash(
        {
            "format": RECORD_FORMAT,
            "source": reference.record["sha256"],
            "codec": codec.inputs(reference, rate),
            "versions": codec.versions(),
        }
    )
    measured = _hash({"ffmpeg": ffmpeg.version, "viewer": reference.viewer_frames})
    record = read_record(path)
    made = _made(record, inputs, stream) or _made(read_record(state), inputs, stream)
    if record is not None and made and record.get("measured") == measured:
        return record, True
    if made is None:
        begun = read_record(state)
        path.unlink(missing_ok=True)
        write_record(state, {"inputs": inputs})
        resume = begun is not None and begun.get("inputs") == inputs
        made = codec.encode(reference, rate, stream, resume) | {"alone": alone}
        write_record(state, {"inputs": inputs, **made})
    decode_facts, decoded = codec.decode(reference, stream)
    shots: dict[int, Any] = {}
    measures = measure(reference, _watched(decoded, reference, shots), folder, ffmpeg.path)
    save_viewer_frames(folder / name, shots, reference.record)
    record = _record(codec, rate, reference, made, decode_facts, measures)
    record |= {
        "versions": versions() | {"ffmpeg": ffmpeg.version},
        "commit": commit(),
        "inputs": inputs,
        "measured": measured,
    }
    write_record(path, record)
    state.unlink(missing_ok=True)
    return record, False


def stream_path(folder: Path, codec: Codec, rate: Any) -> Path:
    """Where the bitstream of a point lies."""
    return folder / f"{codec.name}-{codec.point(rate)}{codec.suffix}"


def _made(record: dict[str, Any] | None, inputs: str, stream: Path) -> dict[str, Any] | None:
    """The facts of the encode in a record or state; None where it is of another bitstream than
    the one that is there."""
    if record is None or record.get("inputs") != inputs or not stream.is_file():
        return None
    if record.get("file_bytes") != stream.stat().st_size:
        return None
    return {key: record[key] for key in ENCODE_FACTS}


def _watched(decoded: Decoded, reference: Reference, shots: dict[int, Any]) -> Decoded:
    for index, pair in enumerate(decoded):
        if index in reference.viewer_frames:
            shots[index] = pair[0]
        yield pair


def _record(
    codec: Codec,
    rate: Any,
    reference: Reference,
    encoded: dict[str, Any],
    decoded: dict[str, Any],
    measures: Measures,
) -> dict[str, Any]:
    source = reference.record
    count, bits = source["frames"], 8 * encoded["bytes"]
    facts = encoded | decoded
    for key in ("commands", "peak_memory"):
        facts[key] = encoded[key] | decoded[key]
    return {
        "format": RECORD_FORMAT,
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
