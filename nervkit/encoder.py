"""video -> .nerv"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from nervkit.assembly import (
    FinishedSegment,
    assemble,
    bytes_besides_tensors,
    check_storable,
    header_of,
)
from nervkit.compression.published import Compression
from nervkit.compression.quantization import check_bits
from nervkit.container.file import NervFile
from nervkit.container.header import Segment as SegmentEntry
from nervkit.container.header import pack_json
from nervkit.container.settings import as_text
from nervkit.encoding.choice import executor_of
from nervkit.encoding.executors import Executor
from nervkit.encoding.planning import Aim, Planner, longest_segment
from nervkit.encoding.report import EncodeReport, quality_of_all, report_of
from nervkit.encoding.run import SegmentRun, SegmentsProgress
from nervkit.encoding.segment import SegmentJob, SegmentReport, fit_segment, settings_text
from nervkit.encoding.work import WorkFolder
from nervkit.errors import UsageError
from nervkit.fitting.checkpoint import checkpoint_path
from nervkit.fitting.job import CheckpointOptions, Watch
from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Progress
from nervkit.keywords import check_keywords
from nervkit.lock import locked
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import Device
from nervkit.models.recipe import PAPER
from nervkit.output import check_nerv_output, linked
from nervkit.plan import FitPlan, FixedBytes, planner
from nervkit.start import read_start
from nervkit.target import Target
from nervkit.video.clip import Clip, Details
from nervkit.video.ranges import fingerprint_of
from nervkit.video.reader import READING, Reading, ReadingOptions, VideoSource, read_clip
from nervkit.video.splitting import AUTO, Segment, Splitter, Splitting

DEFAULT_BITS = 8  # of values that are quantized after a fit in float


def encode(
    source: VideoSource,
    output: str | os.PathLike[str],
    *,
    model: str = "gridnerv",
    params: str | float | None = None,
    strides: str | tuple[int, ...] | None = None,
    recipe: str = "native",
    preset: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    metric: str = "rgb",
    target_size: str | int | None = None,
    target_bpp: float | None = None,
    target_bitrate: str | int | None = None,
    target_psnr: float | None = None,
    prune: float = 0.0,
    compression: str | Compression | None = None,
    bits: int | None = None,
    embedding_bits: int | None = None,
    start_from: str | os.PathLike[str] | None = None,
    segments: str | int | None = None,
    segment_frames: str | int | None = None,
    cuts: str | os.PathLike[str] | Iterable[Any] | None = None,
    workers: int | str = 1,
    ray: str | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    restart: bool = False,
    checkpoint_interval: float = 60.0,
    on_clip: Callable[[Clip], None] | None = None,
    on_plan: Callable[[FitPlan], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_segments: Callable[[SegmentsProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    **reading: Unpack[ReadingOptions],
) -> EncodeReport:
    """Overfit neural representations to a video, and write them as a .nerv file.

    A short video is one segment, fitted in this process. A longer one is read as a stream and
    fitted segment by segment in bounded memory. The finished file is decoded before it is renamed
    into place, and the report gives the quality of that decode. While fits run, a checkpoint lies
    beside the output (a folder, where there are several segments). The same call resumes from it.

    How tensors are quantized depends on the options. With a target, or without any of `params`,
    `bits`, `embedding_bits`, `prune` and `compression`, a fit with the native recipe sees its
    quantizer: the loss contains the bits of the tensors (NVRC, 2409.07414, section 3.3). Any other
    fit is in float and is quantized afterwards: to a target by sensitivity (docs/codec.md), else to
    `bits` and `embedding_bits`.

    Args:
        source: whatever `read_clip` takes.
        output: path of the .nerv file.
        model: a name from `model_names()`.
        params: number of stored values to aim at (weights, biases, embeddings), such as 1.5e6 or
            "1.5M". By default it follows from the target, or from the size of the video.
        strides: upsampling factors of the model's stages, such as (5, 4, 4, 2, 2). By default they
            follow from the frame size.
        recipe: "native" (nervkit's) or "paper" (as published).
        preset: length of the fit: "draft", "fast" (default), "medium", "slow" or "placebo". Give at
            most one of `preset`, `epochs`, `steps` and `time`.
        epochs: length of the fit of each segment in passes over its frames. The default of the
            paper's recipe is the paper's.
        steps: length of the fit of each segment in optimizer steps.
        time: length of all fits together, in seconds, or as text, such as "90s" or "10m". The
            schedule follows the clock, so the result depends on the load of the machine and is not
            reproducible.
        metric: what the fit optimises: "rgb", or "yuv" for the 6:1:1 PSNR of 4:2:0 planes, which
            are made with the source's matrix and range (`nervkit.fitting.metric`).
        target_size: bytes of the whole file, tracks included, such as 500_000 or "500k". Segments
            share the bytes by the complexity of their content. Give at most one target.
        target_bpp: bits per pixel of the video, without tracks, tags and attachments.
        target_bitrate: bits per second of the whole file, tracks included, such as 200_000 or
            "200k".
        target_psnr: quality of each segment: dB of the metric, mean over frames, 10 to 60. The
            size of the network follows from what H.264 takes for that quality.
        prune: share of the weights that is set to zero, followed by fine-tuning: 50 epochs after
            350, or the same part of a shorter fit.
        compression: quantization and pruning as published, for any model: "nerv", "hnerv",
            "ffnerv", "hnerv-boost" or "hinerv"; "paper" for that of the model's own paper; or a
            `Compression` object (`nervkit.compression.published`). It excludes a target, `prune`,
            `bits` and `embedding_bits`.
        bits: precision of weights that are quantized after the fit, 2 to 12; 8 by default. Not
            with a target.
        embedding_bits: the same for embeddings.
        start_from: a .nerv file of the same frames. The fit begins with its network, at its size,
            so a few steps make a file for another rate, or a better one.
        segments: "auto" (segments begin at cuts and have at most `segment_frames` frames), "off"
            (one segment), or the number of frames of each. The default is "auto" for videos of more
            than `segment_frames` frames, and one segment for others.
        segment_frames: the most frames of a segment. By default 250, or as many as fit into memory.
        cuts: where segments begin, instead of detected cuts: a list of frame numbers or times, or a
            file of them.
        workers: number of segments that are fitted at once, each in a process with its share of the
            processors and GPUs. "auto": one for every two processors, or for every GPU.
        ray: fit segments on a Ray cluster instead: "auto", "local" or its address.
        seed: seed of the initial weights and of the order of frames.
        device: "auto", "cpu", "cuda", "cuda:N", or a torch.device.
        precision: "auto" (bfloat16 where the hardware gains from it), "float32" or "bfloat16".
        overwrite: replace an existing output.
        restart: discard a checkpoint instead of resuming from it.
        on_clip: called with the Clip after it is read. Only with one segment.
        on_plan: called with the FitPlan of one segment: before a fit of a given time, else after
            the first steps were timed.
        on_progress: called about once a second during the fit of one segment.
        on_segments: called about once a second during the fit of several segments, and after each.
        on_note: called with each problem that the fit recovered from, as it happens.
        stop: called before each step. Once it returns True, a checkpoint is saved and Interrupted
            is raised.
        **reading: options of `read_clip`.

    Raises:
        UsageError: an option is not understood or does not fit, or a target cannot be met.
        SourceError: the source cannot be read.
        OutputError: the output exists, or cannot be written.
        ResourceError: the work would not fit into memory.
        ModelError: the decoded file shows much less than the fit.
        Interrupted: `stop` returned True.
    """
    began = clock.perf_counter()
    check_keywords(encode, reading, READING)
    output = Path(output)
    options = FitOptions(
        model=model,
        params=params,
        strides=strides,
        recipe=recipe,
        preset=preset,
        epochs=epochs,
        steps=steps,
        time=time,
        metric=metric,
        prune=prune,
        compression=compression,
        seed=seed,
        device=device,
        precision=precision,
    )
    target = Target.of(target_size, target_bpp, target_bitrate, target_psnr)
    if target_psnr is not None and recipe == PAPER:
        raise UsageError("target-psnr needs a fit through the quantizer: leave out --recipe paper")
    if target is not None and (bits, embedding_bits) != (None, None):
        raise UsageError("--bits and --embedding-bits are for a file without a target: choose one")
    named = options.compressing
    if named is not None and target is not None:
        raise UsageError("--compression is for a file without a target: choose one")
    if named is not None and (bits, embedding_bits) != (None, None):
        raise UsageError("--compression has bits of its own: leave out --bits and --embedding-bits")
    if start_from is not None and (params, strides) != (None, None):
        raise UsageError("--start-from has the network's size: leave out --params and --strides")
    values_or_bits = any(option is not None for option in (params, bits, embedding_bits))
    in_float = values_or_bits or bool(options.stages) or named is not None or recipe == PAPER
    chosen = [DEFAULT_BITS if count is None else count for count in (bits, embedding_bits)]
    widths = (chosen[0], chosen[1]) if named is None else (named.bits, named.embedding_bits)
    for width, name in zip(widths, ("bits", "embedding-bits"), strict=True):
        check_bits(width, name)
    executor = executor_of(workers, ray)
    asked = (segments, segment_frames, cuts) != (None, None, None)
    segments = AUTO if segments is None else segments
    splitting = Splitting.from_options(segments, segment_frames, cuts)
    check_nerv_output(output, overwrite, source)
    if start_from is not None:
        NervFile(start_from).close()  # found wrong before the source is read
    aim = Aim(options, widths, target, in_float)
    watch = Watch(on_progress, on_note, stop)
    with locked(linked(output)):
        work = WorkFolder.beside(output, checkpoint_interval, restart)
        run = _Encode(output, aim, start_from, work, watch, began)
        if isinstance(source, Clip):
            return run.of_one(read_clip(source, **reading), on_clip, on_plan)
        how = Reading.from_options(**reading)
        if segments == AUTO and segment_frames is None:
            most = longest_segment(source, how, preset, executor.slots)
            splitting = replace(splitting, most=most)
        splitter = Splitter(source, splitting, how)
        frames, rest = _begun(splitter, None if asked else splitting.most)
        if rest is None:
            clip = Clip(frames=frames, **vars(splitter.details))
            return run.of_one(clip, on_clip, on_plan)
        return run.of_several(splitter, rest, executor, on_segments)


def _begun(
    splitter: Splitter, joined: int | None
) -> tuple[np.ndarray, None] | tuple[None, Iterator[Segment]]:
    """The frames of a source that is one segment, or all segments of another. Where several have
    no more than `joined` frames together, they are one."""
    expected = splitter.expected_frames
    if joined is not None and expected is not None and expected <= joined:
        splitter.splitting = Splitting()
    segments = iter(splitter)
    first = [next(segments)]
    for segment in segments:
        first.append(segment)
        if joined is None or sum(len(s.frames) for s in first) > joined:
            return None, chain(first, segments)
    return np.concatenate([s.frames for s in first]) if first[1:] else first[0].frames, None


@dataclass(frozen=True)
class _Encode:
    """One call of `encode`, with what does not depend on the source's length."""

    output: Path
    aim: Aim
    start_from: str | Path | None
    work: WorkFolder
    watch: Watch
    began: float

    def of_one(
        self,
        clip: Clip,
        on_clip: Callable[[Clip], None] | None,
        on_plan: Callable[[FitPlan], None] | None,
    ) -> EncodeReport:
        """A clip as one segment."""
        shape, aim = VideoShape(*clip.shape[:3]), self.aim
        check_storable(shape.width, shape.height, clip)
        if on_clip is not None:
            on_clip(clip)
        start = None
        if self.start_from is not None:
            start = read_start(self.start_from, aim.options.model, shape)
        if aim.shared_bytes:
            options = replace(aim.options, coded_bytes=self._tensor_bytes(clip, 1, shape))
        else:
            options = aim.alone(clip.frames)
        watch = self.watch
        if on_plan is not None:
            counted = partial(_fixed_bytes, clip, options, shape)
            told = planner(options, shape, counted, aim.bits, on_plan)
            watch = replace(watch, on_outlook=told)
        keep = CheckpointOptions(
            checkpoint_path(self.output), self.work.interval, self.work.restart
        )
        job = SegmentJob(
            index=0,
            first=0,
            shape=shape,
            frames=clip.frames,
            fingerprint=fingerprint_of(clip.frames),
            options=options,
            bits=aim.bits,
            colour=clip.colour,
            asked=aim.target is not None,
            start=start,
        )
        content, report = fit_segment(job, keep, watch)
        part = FinishedSegment(content, np.array(report.samples, np.uint8))
        size = shape.width, shape.height
        made = self._written(clip, size, [part], [report], settings_text(job))
        keep.path.unlink(missing_ok=True)
        return made

    def of_several(
        self,
        splitter: Splitter,
        segments: Iterator[Segment],
        executor: Executor,
        on_segments: Callable[[SegmentsProgress], None] | None,
    ) -> EncodeReport:
        """A video of several segments."""
        aim = self.aim
        if self.start_from is not None:
            raise UsageError("--start-from is for a video of one segment: use --segments off")

        def tensor_bytes(count: int, shape: VideoShape) -> int:
            return self._tensor_bytes(splitter.details, count, shape)

        planned = Planner(
            *(splitter, segments, aim, self.work),
            *(executor.remote, executor.slots, self.watch.stop),
        )
        on_note = self.watch.on_note or (lambda note: None)
        run = SegmentRun(planned, self.work, executor, on_segments, on_note, self.watch.stop)
        reports = run.fit(tensor_bytes)
        details = splitter.details
        for note in details.notes:
            on_note(note)
        check_storable(*splitter.size, details)
        parts = self.work.parts(reports)
        made = self._written(details, splitter.size, parts, reports, self._settings())
        self.work.remove()
        return made

    def _tensor_bytes(self, details: Details, count: int, shape: VideoShape) -> int:
        """What the target leaves for the tensors of a video of `count` segments. Raises
        UsageError."""
        assert self.aim.target is not None
        options = self.aim.options
        fixed = _fixed_bytes(details, options, shape, options.model_type.configure(shape), count)
        start, end = details.timing.seconds
        return self.aim.target.tensor_bytes(shape.pixels, end - start, fixed.whole, fixed.video)

    def _settings(self) -> str:
        """How all segments are encoded, as a file's header says it."""
        aim, settings = self.aim, self.aim.options.settings()
        if aim.target is not None:
            settings |= {"target": str(aim.target)}
        elif aim.in_float:
            settings |= {"bits": aim.bits[0], "embedding_bits": aim.bits[1]}
        return as_text(settings)

    def _written(
        self,
        details: Details,
        size: tuple[int, int],
        parts: Sequence[FinishedSegment],
        reports: Sequence[SegmentReport],
        settings: str,
    ) -> EncodeReport:
        """The file of finished segments, of frames of `size` (width, height), and what it shows."""
        header, quality = header_of(*size, details, settings), quality_of_all(reports)
        notes = assemble(self.output, header, details, parts, quality, self.watch.stop)
        for note in notes if self.watch.on_note is not None else ():
            self.watch.on_note(note)
        facts = self.aim.options, settings, notes, self.began
        return report_of(self.output, details, size, reports, quality, *facts)


def _fixed_bytes(
    details: Details, options: FitOptions, shape: VideoShape, config: ModelConfig, count: int = 1
) -> FixedBytes:
    """The bytes of a video's file besides the tensors, of `count` segments, each of which has a
    configuration of its own."""
    lengths = np.diff(np.linspace(0, shape.frames, count + 1).astype(int)).tolist()
    segments = (
        SegmentEntry(length, options.model, config.to_dict(), 1 + index)
        for index, length in enumerate(lengths)
    )
    header = header_of(shape.width, shape.height, details, str(options.settings()))
    header = header.of_segments(segments)
    models = (count - 1) * len(pack_json(config.to_dict()))
    fixed = bytes_besides_tensors(header, details.timing, details.tracks, details.extras, psnr=0.0)
    return FixedBytes(fixed.whole + models, fixed.video + models)
