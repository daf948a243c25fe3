"""The sweep: all rate points of all codecs on all clips, each measured once and kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nervkit.bench.anchors import FFmpeg
from nervkit.bench.codecs import (
    AnchorCodec,
    Codec,
    Decoded,
    NeuralCodec,
    NeuralOptions,
    choose_codecs,
)
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.machine import machine, versions
from nervkit.bench.measure import Measures, measure
from nervkit.bench.process import Runner
from nervkit.bench.reference import Reference, prepare, save_viewer_frames
from nervkit.errors import Interrupted, NervError, OutputError, UsageError
from nervkit.metrics.vmaf import VMAF_MODEL
from nervkit.output import replacing

RECORD_FORMAT = 1
#: sizes of a neural codec where none are given, as shares of nervkit's default for the clip
DEFAULT_SIZES = (0.25, 0.5, 1.0, 2.0)
LEAST_POINTS = 4  # on a curve, where the codec's range allows


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep measures.

    Attributes:
        codecs: names of anchors and models; "hnerv:paper" and "x264:paper" choose how.
        profile: of the anchors, "strong" or "paper".
        interval: frames between keyframes at the most; None: the profile's own.
        params: sizes of the neural codecs; empty: by the clip's size.
        rates: quantizer values by anchor; where there are none, they are chosen so that the
            anchor's qualities enclose those of the neural codecs.
        fit: how the neural codecs are fitted.
        ffmpeg: the binary; None: imageio-ffmpeg's.
        jobs: anchors that are measured beside the fits, at once; 0: one after the other, so
            that times are comparable.
        viewer_frames: how many frames of each point are kept for the report's viewer.
    """

    codecs: list[str]
    profile: str = "strong"
    interval: int | None = None
    params: list[str] = field(default_factory=list)
    rates: dict[str, list[int]] = field(default_factory=dict)
    fit: NeuralOptions = field(default_factory=NeuralOptions)
    ffmpeg: str | None = None
    jobs: int = 0
    viewer_frames: int = 2


def sweep(
    clips: Sequence[ClipSpec],
    output: Path,
    options: SweepOptions,
    tell: Callable[[str], None] = lambda line: None,
    runner: Runner | None = None,
) -> list[str]:
    """Measure every codec on every clip, into the run folder `output` (docs/bench.md).

    Points that are there and have not changed are kept. Neural codecs come first, so that the
    anchors' rates can be chosen to meet their quality.

    Args:
        tell: is given a line for every point.
        runner: of the child processes; `stop` on it, or Ctrl-C, ends the sweep.

    Returns:
        What could not be measured, or does not overlap, a line each.

    Raises:
        UsageError, SourceError, OutputError, Interrupted: see nervkit.errors. Codecs that fail
        on a clip are notes instead, and the rest goes on.
    """
    runner = runner or Runner()
    ffmpeg = FFmpeg(options.ffmpeg)
    codecs = choose_codecs(
        options.codecs,
        profile=options.profile,
        interval=options.interval,
        ffmpeg=ffmpeg,
        fit=options.fit,
        runner=runner,
    )
    anchors = [codec for codec in codecs if isinstance(codec, AnchorCodec)]
    neural = [codec for codec in codecs if isinstance(codec, NeuralCodec)]
    _check_rates(options, anchors)
    notes: list[str] = []
    beside: list[Future[None]] = []
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        try:
            for spec in clips:
                bench = ClipBench(spec, output, options, ffmpeg, tell, notes)
                bench.measure_neural(neural)
                if not options.jobs:
                    bench.measure_anchors(anchors)
                    continue
                # No more than these: each holds the frames of a clip.
                for earlier in beside[: -options.jobs]:
                    earlier.result()
                beside.append(pool.submit(bench.measure_anchors, anchors))
            for task in beside:
                task.result()
        except BaseException:
            if any(not task.done() for task in beside):
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
            raise
    return notes


class ClipBench:
    """The points of one clip. Its planes are on disk until `measure_anchors` has ended."""

    def __init__(
        self,
        spec: ClipSpec,
        output: Path,
        options: SweepOptions,
        ffmpeg: FFmpeg,
        tell: Callable[[str], None],
        notes: list[str],
    ) -> None:
        self.options, self.ffmpeg, self.tell, self.notes = options, ffmpeg, tell, notes
        self.folder = output / spec.name
        _make_folder(self.folder)
        self.reference = prepare(spec, self.folder, options.viewer_frames)
        for note in self.reference.record["notes"]:
            tell(f"{spec.name}: note: {note}")
        _write_json(self.folder / "source.json", self.reference.record)
        self._qualities: list[float] = []

    def measure_neural(self, codecs: Sequence[NeuralCodec]) -> None:
        """Every size of every neural codec."""
        for codec in codecs:
            for size in self.options.params or _default_sizes(self.reference):
                record = self._attempt(codec, size)
                if record is not None:
                    self._qualities.append(record["measures"]["psnr_rgb"])

    def measure_anchors(self, codecs: Sequence[AnchorCodec]) -> None:
        """Every anchor, at the rates given, else at those whose quality encloses that of the
        neural codecs, else at its usual ones."""
        for codec in codecs:
            rates = self.options.rates.get(codec.base)
            if rates is None and self._qualities:
                self._enclose(codec, min(self._qualities), max(self._qualities))
                continue
            for rate in rates or codec.anchor.ladder:
                self._attempt(codec, rate)
        self.reference.planes.path.unlink()

    def _enclose(self, codec: AnchorCodec, low: float, high: float) -> None:
        """Measure rungs until the qualities reach from `low` to `high` dB."""
        rungs = codec.anchor.rungs()
        known: dict[int, float] = {}

        def quality(index: int) -> float:
            if index not in known:
                record = self._attempt(codec, rungs[index])
                known[index] = record["measures"]["psnr_rgb"] if record else float("nan")
            return known[index]

        best = worst = rungs.index(codec.anchor.ladder[len(codec.anchor.ladder) // 2])
        while quality(worst) > low and worst + 1 < len(rungs):
            worst += 1
        while quality(best) < high and best > 0:
            best -= 1
        while len(known) < min(LEAST_POINTS, len(rungs)):
            best, worst = (best, worst + 1) if worst + 1 < len(rungs) else (best - 1, worst)
            quality(best)
            quality(worst)
        reached = [value for value in known.values() if value == value]
        if not reached or min(reached) > low or max(reached) < high:
            span = f"{min(reached):.2f} to {max(reached):.2f} dB" if reached else "nothing"
            self._note(codec, f"reaches {span}, the neural codecs {low:.2f} to {high:.2f} dB")

    def _attempt(self, codec: Codec, rate: Any) -> dict[str, Any] | None:
        """The point's record; None, with a note, where the codec fails on this clip."""
        try:
            return self._point(codec, rate)
        except (Interrupted, OutputError):
            raise
        except NervError as error:
            self._note(codec, f"{codec.point(rate)} failed: {error}")
            return None

    def _note(self, codec: Codec, text: str) -> None:
        line = f"{self.reference.spec.name}: {codec.name} {text}"
        self.notes.append(line)
        self.tell(f"note: {line}")

    def _point(self, codec: Codec, rate: Any) -> dict[str, Any]:
        name = f"{codec.name}-{codec.point(rate)}"
        path = self.folder / f"{name}.json"
        stream = self.folder / f"{name}{codec.suffix}"
        inputs = self._inputs(codec, rate)
        kept = _read_record(path)
        if kept is not None and kept["inputs"] == inputs and stream.is_file():
            self._tell_point(kept, "kept")
            return kept
        encoded = codec.encode(self.reference, rate, stream)
        decode_facts, decoded = codec.decode(self.reference, stream)
        shots: dict[int, Any] = {}
        measures = measure(
            self.reference, self._watched(decoded, shots), self.folder, self.ffmpeg.path
        )
        save_viewer_frames(self.folder / name, shots, shots)
        record = self._record(codec, rate, encoded, decode_facts, measures) | {"inputs": inputs}
        _write_json(path, record)
        self._tell_point(record, f"{record['encode_seconds']:.1f} s")
        return record

    def _watched(self, decoded: Decoded, shots: dict[int, Any]) -> Decoded:
        for index, pair in enumerate(decoded):
            if index in self.reference.viewer_frames:
                shots[index] = pair[0]
            yield pair

    def _inputs(self, codec: Codec, rate: Any) -> str:
        """A hash of everything that determines a point's bitstream and its measures."""
        values = {
            "format": RECORD_FORMAT,
            "source": self.reference.record["sha256"],
            "codec": codec.inputs(self.reference, rate),
            "versions": codec.versions(),
            "measured with": self.ffmpeg.version,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def _record(
        self,
        codec: Codec,
        rate: Any,
        encoded: dict[str, Any],
        decoded: dict[str, Any],
        measures: Measures,
    ) -> dict[str, Any]:
        source = self.reference.record
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
            "alone": not self.options.jobs,
            "seed": codec.seed,
            "device": codec.device,
            "machine": machine(codec.device),
            "versions": versions() | {"ffmpeg": self.ffmpeg.version},
            "source_sha256": source["sha256"],
            "matrix": source["colour"]["matrix"],
            "range": source["colour"]["range"],
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _tell_point(self, record: dict[str, Any], how: str) -> None:
        measured = record["measures"]
        self.tell(
            f"{record['clip']}  {record['codec']} {record['point']}  {record['bytes']:,} bytes  "
            f"{record['bpp']:.4f} bpp  {measured['psnr_rgb']:.2f} dB  ({how})"
        )


def _default_sizes(reference: Reference) -> list[str]:
    from nervkit.encoder import default_parameters
    from nervkit.models.config import VideoShape

    count = default_parameters(VideoShape(*reference.clip.shape[:3]))
    return [f"{round(share * count / 1000)}k" for share in DEFAULT_SIZES]


def _check_rates(options: SweepOptions, anchors: Sequence[AnchorCodec]) -> None:
    for name, rates in options.rates.items():
        codec = next((codec for codec in anchors if codec.base == name), None)
        if codec is None:
            raise UsageError(f"rates are given for {name!r}, which is no anchor of this run")
        low, high = codec.anchor.limits
        if not rates or not all(low <= rate <= high for rate in rates):
            raise UsageError(f"{name}: {codec.anchor.quantizer} must lie in {low} to {high}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error


def _write_json(path: Path, record: dict[str, Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def _read_record(path: Path) -> dict[str, Any] | None:
    """A point's record; None where there is none that is whole."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "inputs" in record else None
