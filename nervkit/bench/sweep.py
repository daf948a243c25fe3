"""The sweep: measure all rate points of all codecs on all clips, each point once."""

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
    Rate,
    choose_codecs,
)
from nervkit.bench.curves import PSNR_OF
from nervkit.bench.datasets import ClipSpec
from nervkit.bench.points import measure_point, stream_path
from nervkit.bench.process import Runner
from nervkit.bench.records import SOURCE_NAME, Record, point_paths, read_record, write_record
from nervkit.bench.reference import planes_path, prepare, save_viewer_frames
from nervkit.errors import Interrupted, NervError, OutputError, SourceError, UsageError
from nervkit.target import Target
from nervkit.units import parse_bpp, parse_count

#: the lowest rate that starts from a full fit, as a share of that fit's rate
WARM_START_RANGE = 0.25
MIN_POINTS = 4  # of an anchor's curve, if the quantizer's range allows


class SweepLog:
    """The messages of a sweep.

    Attributes:
        notes: one line for everything that could not be measured or does not overlap.
        measured: whether the run folder has at least one of the requested points.
    """

    def __init__(self, on_line: Callable[[str], None] = lambda line: None) -> None:
        """`on_line` receives each message."""
        self.on_line = on_line
        self.notes: list[str] = []
        self.measured = False

    def note(self, line: str) -> None:
        """Report a note and keep it."""
        self.notes.append(line)
        self.on_line(f"note: {line}")


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep measures.

    Attributes:
        codecs: names of anchors and models, with an optional profile, recipe or preset:
            "x264:paper", "hnerv:paper", "gridnerv:draft".
        profile: the anchors' profile, "strong" or "paper".
        interval: the longest keyframe interval of the anchors; None: the profile's own.
        sizes: rates of the neural codecs, in the unit of `fit.rate`; empty: chosen by clip.
        rates: quantizer values by anchor. For other anchors, the sweep chooses values whose
            quality range covers that of the neural codecs.
        fit: how the neural codecs are fitted.
        ffmpeg: path of the binary; None: imageio-ffmpeg's.
        jobs: number of clips whose anchors run beside the fits; 0: everything runs one after
            the other, so that times are comparable.
        viewer_frames: number of frames of each point that are stored for the report's viewer.
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
    on_line: Callable[[str], None] = lambda line: None,
    runner: Runner | None = None,
) -> list[str]:
    """Measure every codec on every clip and write the records to the run folder `output`.

    The sweep keeps points that exist and have not changed (docs/bench.md). Neural codecs come
    first, so that the anchors' rates can be chosen to cover their quality.

    Args:
        on_line: receives a line for every point.
        runner: runs the child processes; its `stop`, or Ctrl-C, ends the sweep.

    Returns:
        One note for everything that could not be measured or does not overlap.

    Raises:
        UsageError, SourceError, OutputError, Interrupted: see nervkit.errors. A codec that fails
            on a clip is only a note, and the sweep goes on.
        NervError: no point could be measured.
    """
    runner, ffmpeg, log = runner or Runner(), FFmpeg(options.ffmpeg), SweepLog(on_line)
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
    _check_sizes(options)
    _check_rates(options, anchors)
    try:
        with _AnchorPool(options.jobs, runner) as pool:
            for spec in clips:
                pool.wait_for_room()
                try:
                    bench = ClipBench(spec, output, options, ffmpeg, log)
                except SourceError as error:
                    log.note(f"{spec.name}: left out: {error}")
                    continue
                bench.measure_neural(neural)
                pool.run(bench.measure_anchors, anchors)
            pool.wait()
    finally:
        for spec in clips:
            planes_path(output / spec.name).unlink(missing_ok=True)
    if not log.measured:
        raise NervError(f"{output}: none of the requested points could be measured")
    return log.notes


class _AnchorPool:
    """Runs the anchors of up to `jobs` clips in threads; with `jobs` 0, at once in the caller's."""

    def __init__(self, jobs: int, runner: Runner) -> None:
        self._jobs, self._runner = jobs, runner
        self._pool = ThreadPoolExecutor(max(1, jobs))
        self._tasks: list[Future[None]] = []

    def __enter__(self) -> _AnchorPool:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None and any(not task.done() for task in self._tasks):
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._runner.stop()
        self._pool.shutdown()

    def wait_for_room(self) -> None:
        """Wait until another clip may be open: each holds its frames in memory."""
        for task in self._tasks[: max(0, len(self._tasks) - self._jobs + 1)]:
            task.result()

    def run(
        self, measure: Callable[[Sequence[AnchorCodec]], None], anchors: Sequence[AnchorCodec]
    ) -> None:
        """Measure a clip's anchors."""
        if self._jobs:
            self._tasks.append(self._pool.submit(measure, anchors))
        else:
            measure(anchors)

    def wait(self) -> None:
        """Wait for all clips."""
        for task in self._tasks:
            task.result()


class ClipBench:
    """The points of one clip. Its raw planes stay on disk until `measure_anchors` returns."""

    def __init__(
        self,
        spec: ClipSpec,
        output: Path,
        options: SweepOptions,
        ffmpeg: FFmpeg,
        log: SweepLog,
    ) -> None:
        """Read the clip and write its source record.

        Raises:
            UsageError: the folder holds points of other frames.
            SourceError, OutputError: see nervkit.errors.
        """
        self.options, self.ffmpeg, self.log = options, ffmpeg, log
        self.folder = output / spec.name
        with _output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.reference = prepare(spec, self.folder, options.viewer_frames)
        record = self.reference.record | {"metric": options.fit.metric}
        self._psnr = PSNR_OF[options.fit.metric]
        before = read_record(self.folder / SOURCE_NAME)
        if before is not None and before.get("sha256") != record["sha256"]:
            raise UsageError(
                f"{self.folder}: holds points of other frames ({before.get('path')}, "
                f"{before.get('edit')}); give another --out, or delete that folder"
            )
        for note in record["notes"]:
            log.on_line(f"{spec.name}: note: {note}")
        save_viewer_frames(self.folder / "source", self.reference.clip.frames, record)
        write_record(self.folder / SOURCE_NAME, record)

    def measure_neural(self, codecs: Sequence[NeuralCodec]) -> None:
        """Measure every rate of every neural codec."""
        for codec in codecs:
            sizes = self.options.sizes or codec.default_sizes(self.reference)
            if codec.warm_starts:
                self._measure_descending(codec, sizes)
            else:
                for size in sizes:
                    self._measure(codec, size)

    def _measure_descending(self, codec: NeuralCodec, sizes: Sequence[str]) -> None:
        """Measure rates from the highest down: one full fit, then short fits that each start from
        the previous file. Below WARM_START_RANGE of the full fit's rate, a smaller network is
        better, and a new full fit begins."""
        current, full_rate = codec, math.inf
        for size in sorted(sizes, key=float, reverse=True):
            if float(size) < WARM_START_RANGE * full_rate or current is codec:
                current, full_rate = codec, float(size)
            record = self._measure(current, size)
            current = codec
            if record is not None:
                stream = stream_path(self.folder, codec, size)
                current = codec.starting_from(stream, record["inputs"], self.reference)

    def measure_anchors(self, codecs: Sequence[AnchorCodec]) -> None:
        """Measure every anchor at the given rates, else at rates that cover the quality of the
        folder's neural codecs, else at its default rates."""
        qualities = self._neural_qualities()
        for codec in codecs:
            rates = self.options.rates.get(codec.base)
            if rates is None and qualities:
                self._cover(codec, min(qualities), max(qualities))
                continue
            for rate in rates or codec.anchor.ladder:
                self._measure(codec, rate)
        self.reference.planes.path.unlink()

    def _neural_qualities(self) -> list[float]:
        records = [read_record(path) for path in point_paths(self.folder)]
        neural = [r for r in records if r is not None and r.get("kind") == "neural"]
        return [record["measures"][self._psnr] for record in neural]

    def _cover(self, codec: AnchorCodec, low: float, high: float) -> None:
        """Measure quantizer values until their PSNR covers `low` to `high` dB."""
        rungs = codec.anchor.rungs()
        known: dict[int, float] = {}

        def quality(index: int) -> float:
            if index not in known:
                record = self._measure(codec, rungs[index])
                known[index] = record["measures"][self._psnr] if record else math.nan
            return known[index]

        best = worst = rungs.index(codec.anchor.ladder[len(codec.anchor.ladder) // 2])
        while quality(worst) > low and worst + 1 < len(rungs):
            worst += 1
        while quality(best) < high and best > 0:
            best -= 1
        while len(known) < min(MIN_POINTS, len(rungs)):
            best, worst = (best, worst + 1) if worst + 1 < len(rungs) else (best - 1, worst)
            quality(best)
            quality(worst)
        reached = [value for value in known.values() if not math.isnan(value)]
        if not reached or min(reached) > low or max(reached) < high:
            span = f"{min(reached):.2f} to {max(reached):.2f} dB" if reached else "nothing"
            self._note(codec, f"reaches {span}, the neural codecs {low:.2f} to {high:.2f} dB")

    def _measure(self, codec: Codec[Rate], rate: Rate) -> Record | None:
        """Return the point's record, or None, with a note, if the codec fails on this clip."""
        try:
            with _output_errors(self.folder):
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
        self.log.on_line(
            f"{record['clip']}  {record['codec']} {record['point']}  {record['bytes']:,} bytes  "
            f"{record['bpp']:.4f} bpp  {record['measures'][self._psnr]:.2f} dB  ({how})"
        )
        return record

    def _note(self, codec: Codec[Any], text: str) -> None:
        self.log.note(f"{self.reference.spec.name}: {codec.name} {text}")


def _check_sizes(options: SweepOptions) -> None:
    for size in options.sizes:
        if options.fit.rate == PARAMS:
            parse_count(size)
        else:
            Target.from_options(None, parse_bpp(size))


def _check_rates(options: SweepOptions, anchors: Sequence[AnchorCodec]) -> None:
    for name, rates in options.rates.items():
        codec = next((codec for codec in anchors if codec.base == name), None)
        if codec is None:
            raise UsageError(f"rate: {name!r} is no anchor of this run; add it to --codecs")
        low, high = codec.anchor.limits
        if not rates or not all(low <= rate <= high for rate in rates):
            raise UsageError(f"{name}: {codec.anchor.quantizer} must lie in {low} to {high}")


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError below `folder` into an OutputError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NervError):
            raise
        where = error.filename or folder
        raise OutputError(f"{where}: cannot be written ({error.strerror or error})") from error
