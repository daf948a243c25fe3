"""The sweep: all rate points of all codecs on all clips, each measured once and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nervkit.bench.anchors import FFmpeg
from nervkit.bench.codecs import (
    PARAMS,
    AnchorCodec,
    Codec,
    NeuralCodec,
    NeuralOptions,
    choose_codecs,
)
from nervkit.bench.curves import PSNR_OF
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.points import measure_point, stream_path
from nervkit.bench.process import Runner
from nervkit.bench.records import read_record, write_record
from nervkit.bench.reference import planes_path, prepare, save_viewer_frames
from nervkit.errors import Interrupted, NervError, OutputError, SourceError, UsageError
from nervkit.target import Target
from nervkit.units import parse_bpp, parse_count

SERVED = 0.25  # of a rate, at least, is one whose fit starts from its file
LEAST_POINTS = 4  # on a curve, where the codec's range allows


class SweepLog:
    """What a sweep says as it goes, and what is kept of that.

    Attributes:
        notes: what could not be measured, or does not overlap, a line each.
        measured: whether any point was, or was there already.
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        """`tell` is given each line."""
        self.tell, self.notes, self.measured = tell, [], False

    def note(self, line: str) -> None:
        """Tell a note, and keep it."""
        self.notes.append(line)
        self.tell(f"note: {line}")


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep measures.

    Attributes:
        codecs: names of anchors and models; "hnerv:paper" and "x264:paper" choose how.
        profile: of the anchors, "strong" or "paper".
        interval: frames between keyframes at the most; None: the profile's own.
        sizes: rates of the neural codecs, as `fit.rate` says; empty: by the clip's size.
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
    sizes: list[str] = field(default_factory=list)
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
        NervError: nothing could be measured.
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
    for size in options.sizes:
        if options.fit.rate == PARAMS:
            parse_count(size)
        else:
            Target.of(None, parse_bpp(size))
    _check_rates(options, anchors)
    log = SweepLog(tell)
    beside: list[Future[None]] = []
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        try:
            for spec in clips:
                # Each clip holds its frames: no more are open than are being worked on.
                for earlier in beside[: max(0, len(beside) - options.jobs + 1)]:
                    earlier.result()
                try:
                    bench = ClipBench(spec, output, options, ffmpeg, log)
                except SourceError as error:
                    log.note(f"{spec.name}: left out: {error}")
                    continue
                bench.measure_neural(neural)
                if options.jobs:
                    beside.append(pool.submit(bench.measure_anchors, anchors))
                else:
                    bench.measure_anchors(anchors)
            for task in beside:
                task.result()
        except BaseException:
            if any(not task.done() for task in beside):
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
            raise
        finally:
            for spec in clips:
                planes_path(output / spec.name).unlink(missing_ok=True)
    if not log.measured:
        raise NervError(f"{output}: nothing of what was asked for could be measured")
    return log.notes


class ClipBench:
    """The points of one clip. Its planes are on disk until `measure_anchors` has ended."""

    def __init__(
        self,
        spec: ClipSpec,
        output: Path,
        options: SweepOptions,
        ffmpeg: FFmpeg,
        log: SweepLog,
    ) -> None:
        self.options, self.ffmpeg, self.log = options, ffmpeg, log
        self.folder = output / spec.name
        with _disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.reference = prepare(spec, self.folder, options.viewer_frames)
        record = self.reference.record | {"metric": options.fit.metric}
        self._psnr = PSNR_OF[options.fit.metric]
        before = read_record(self.folder / "source.json")
        if before is not None and before.get("sha256") != record["sha256"]:
            raise UsageError(
                f"{self.folder}: holds points of other frames ({before.get('path')}, "
                f"{before.get('edit')}); give another --out, or delete that folder"
            )
        for note in record["notes"]:
            log.tell(f"{spec.name}: note: {note}")
        save_viewer_frames(self.folder / "source", self.reference.clip.frames, record)
        write_record(self.folder / "source.json", record)

    def measure_neural(self, codecs: Sequence[NeuralCodec]) -> None:
        """Every size of every neural codec. Where one fit serves several, larger sizes come first:
        a whole fit, then short ones that each start from the file before, down to SERVED of its
        size, below which another network is better."""
        for codec in codecs:
            sizes = self.options.sizes or codec.default_sizes(self.reference)
            if not codec.one_fit:
                for size in sizes:
                    self._attempt(codec, size)
                continue
            current, whole = codec, math.inf
            for size in sorted(sizes, key=float, reverse=True):
                if float(size) < SERVED * whole or current is codec:
                    current, whole = codec, float(size)
                record = self._attempt(current, size)
                current = codec
                if record is not None:
                    stream = stream_path(self.folder, codec, size)
                    current = codec.starting_from(stream, record["inputs"], self.reference)

    def measure_anchors(self, codecs: Sequence[AnchorCodec]) -> None:
        """Every anchor, at the rates given, else at those whose quality encloses that of the
        folder's neural codecs, else at its default ones."""
        qualities = self._neural_qualities()
        for codec in codecs:
            rates = self.options.rates.get(codec.base)
            if rates is None and qualities:
                self._enclose(codec, min(qualities), max(qualities))
                continue
            for rate in rates or codec.anchor.ladder:
                self._attempt(codec, rate)
        self.reference.planes.path.unlink()

    def _neural_qualities(self) -> list[float]:
        records = [read_record(path) for path in self.folder.glob("*.json")]
        neural = [r for r in records if r is not None and r.get("kind") == "neural"]
        return [record["measures"][self._psnr] for record in neural]

    def _enclose(self, codec: AnchorCodec, low: float, high: float) -> None:
        """Measure rungs until the qualities reach from `low` to `high` dB."""
        rungs = codec.anchor.rungs()
        known: dict[int, float] = {}

        def quality(index: int) -> float:
            if index not in known:
                record = self._attempt(codec, rungs[index])
                known[index] = record["measures"][self._psnr] if record else float("nan")
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
            with _disk(self.folder):
                record, kept = measure_point(
                    codec, rate, self.reference, self.folder, self.ffmpeg, not self.options.jobs
                )
        except (Interrupted, OutputError):
            raise
        except NervError as error:
            self._note(codec, f"{codec.point(rate)} failed: {error}")
            return None
        self.log.measured = True
        how = "kept" if kept else f"{record['encode_seconds']:.1f} s"
        self.log.tell(
            f"{record['clip']}  {record['codec']} {record['point']}  {record['bytes']:,} bytes  "
            f"{record['bpp']:.4f} bpp  {record['measures'][self._psnr]:.2f} dB  ({how})"
        )
        return record

    def _note(self, codec: Codec, text: str) -> None:
        self.log.note(f"{self.reference.spec.name}: {codec.name} {text}")


def _check_rates(options: SweepOptions, anchors: Sequence[AnchorCodec]) -> None:
    for name, rates in options.rates.items():
        codec = next((codec for codec in anchors if codec.base == name), None)
        if codec is None:
            raise UsageError(f"rates are given for {name!r}, which is no anchor of this run")
        low, high = codec.anchor.limits
        if not rates or not all(low <= rate <= high for rate in rates):
            raise UsageError(f"{name}: {codec.anchor.quantizer} must lie in {low} to {high}")


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """What the system refuses below `folder` becomes an OutputError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NervError):
            raise
        where = error.filename or folder
        raise OutputError(f"{where}: cannot be written ({error.strerror or error})") from error
