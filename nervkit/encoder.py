"""Encode a video: read it, fit its segments, write the .nerv file and report its quality."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from nervkit.assembly import (
    FinishedSegment,
    assemble,
    bytes_besides_tensors,
    check_storable,
    new_header,
)
from nervkit.choices import (
    CompressionName,
    MatrixName,
    MetricName,
    PrecisionName,
    PresetName,
    RangeName,
    RecipeName,
)
from nervkit.compression.published import Compression
from nervkit.compression.quantization import check_bits
from nervkit.container.header import Header, pack_json
from nervkit.container.header import Segment as SegmentEntry
from nervkit.container.settings import as_text
from nervkit.container.settings import setting as stored_setting
from nervkit.encoding.choice import choose_executor
from nervkit.encoding.executors import Executor
from nervkit.encoding.planning import Aim, Planner, longest_segment
from nervkit.encoding.report import EncodeReport, make_report, mean_over_segments
from nervkit.encoding.run import SegmentRun, SegmentsProgress
from nervkit.encoding.segment import SegmentJob, SegmentReport, fit_segment, settings_text
from nervkit.encoding.work import WorkFolder
from nervkit.errors import SourceError, UsageError
from nervkit.fitting.checkpoint import checkpoint_path, kept_fit_path
from nervkit.fitting.job import CheckpointOptions, FitCallbacks, never
from nervkit.fitting.options import FitOptions
from nervkit.fitting.progress import Progress
from nervkit.keywords import checked_keywords, option, setting
from nervkit.lock import locked
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.device import Device
from nervkit.models.recipe import PAPER
from nervkit.output import check_nerv_output, link_target, output_name, system_errors
from nervkit.plan import FitPlan, FixedBytes, plan_callback
from nervkit.progress import check_callback
from nervkit.start import check_start, read_start
from nervkit.target import Target
from nervkit.units import parse_interval
from nervkit.video.clip import Clip, Details
from nervkit.video.edit import Edit
from nervkit.video.ranges import frames_hash
from nervkit.video.reader import READING, Reading, ReadingOptions, VideoSource, read_clip
from nervkit.video.splitting import AUTO, Segment, Splitter, Splitting

COMPARED_SETTINGS = ("recipe", "budget", "metric", "prune", "compression", "seed")
DEFAULT_BITS = 8  # bit depth of values that are quantized after a float fit


@checked_keywords
def encode(
    source: VideoSource,
    output: str | os.PathLike[str],
    *,
    model: str = "gridnerv",
    params: str | float | None = None,
    strides: str | tuple[int, ...] | None = None,
    recipe: RecipeName = "native",
    preset: PresetName | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    metric: MetricName = "rgb",
    target_size: str | int | None = None,
    target_bpp: str | float | None = None,
    target_bitrate: str | int | None = None,
    target_psnr: str | float | None = None,
    prune: float = 0.0,
    compression: CompressionName | Compression | None = None,
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
    precision: PrecisionName = "auto",
    start: str | float | None = None,
    to: str | float | None = None,
    duration: str | float | None = None,
    frames: str | int | slice | None = None,
    crop: str | tuple[int, ...] | None = None,
    resize: str | int | tuple[int, int] | None = None,
    matrix: MatrixName | None = None,
    range: RangeName | None = None,
    stream: str | int | None = None,
    audio: bool = True,
    subtitles: bool = True,
    fps: str | float | Fraction | None = None,
    size: str | tuple[int, int] | None = None,
    pixel_format: str | None = None,
    strict: bool = False,
    allow_network: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    keep_fit: bool = False,
    checkpoint_interval: float = 60.0,
    on_clip: Callable[[Clip], None] | None = None,
    on_plan: Callable[[FitPlan], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_segments: Callable[[SegmentsProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> EncodeReport:
    """Overfit neural representations to a video and write them as a .nerv file.

    A short video is one segment, fitted in this process. A longer one is read as a stream and
    fitted segment by segment in bounded memory. The finished file is decoded before it is renamed
    into place, and the report gives the quality of that decode. While fits run, nervkit keeps a
    checkpoint beside the output (a folder for several segments). The same call resumes from it.

    How tensors are quantized depends on the options. With a target, or without any of `params`,
    `bits`, `embedding_bits`, `prune` and `compression`, a fit with the native recipe sees its
    quantizer: the loss contains the bits of the tensors (NVRC, 2409.07414, section 3.3). Any other
    fit is a float fit, quantized afterwards: to a target by sensitivity (docs/codec.md), else to
    `bits` and `embedding_bits`.

    Args:
        source: any source of `read_clip`.
        output: path of the .nerv file.
        model: a name from `model_names()`.
        params: target number of stored values (weights, biases, embeddings), such as 1.5e6 or
            "1.5M". The default follows from the target, or from the size of the video.
        strides: upsampling factors of the model's stages, such as (5, 4, 4, 2, 2). The default
            follows from the frame size.
        recipe: "native" (nervkit's) or "paper" (as published).
        preset: length of the fit: "draft", "fast" (default), "medium", "slow" or "placebo". Give at
            most one of `preset`, `epochs`, `steps` and `time`.
        epochs: length of the fit of each segment in passes over its frames. The default of the
            paper's recipe is the paper's.
        steps: length of the fit of each segment in optimizer steps.
        time: length of all fits together, in seconds, or as text, such as "90s" or "10m". The
            schedule follows the clock, so the result depends on the load of the machine and is not
            reproducible.
        metric: metric that the fit optimises: "rgb", or "yuv" for the 6:1:1 PSNR of 4:2:0 planes
            in the source's matrix and range (`nervkit.fitting.metric`).
        target_size: bytes of the whole file, tracks included, such as 500_000 or "500k". Segments
            share the bytes by the complexity of their content. Give at most one target.
        target_bpp: bits per pixel of the video, without tracks, tags and attachments.
        target_bitrate: bits per second of the whole file, tracks included, such as 200_000 or
            "200k".
        target_psnr: quality of each segment: dB of the metric, mean over frames, 10 to 60. The
            size of the network follows from the bytes that H.264 takes for that quality.
        prune: share of the weights to set to zero, followed by fine-tuning: 50 epochs after 350,
            or the same proportion of a shorter fit.
        compression: quantization and pruning as published, for any model: "nerv", "hnerv",
            "ffnerv", "hnerv-boost" or "hinerv"; "paper" for that of the model's own paper; or a
            `Compression` object (`nervkit.compression.published`). It excludes a target, `prune`,
            `bits` and `embedding_bits`.
        bits: bit depth of weights that are quantized after the fit, 2 to 12; 8 by default. Not
            with a target.
        embedding_bits: the same for embeddings.
        start_from: a .nerv file of the same frames, or the fit that `keep_fit` kept. The fit starts
            from its network, at its size, so a few steps make a file for another rate, or a better
            one. A kept fit also holds the values before their quantization. With `bits` or
            `embedding_bits` and no length, it is quantized again without further steps.
        segments: "auto" (segments begin at cuts and have at most `segment_frames` frames), "off"
            (one segment), or the number of frames of each. The default is "auto" for videos of more
            than `segment_frames` frames, and one segment for others.
        segment_frames: the most frames of a segment. The default is 250 (500 for slow presets), or
            fewer if memory is short.
        cuts: starts of segments, instead of detected cuts: a list of frame numbers or times, or a
            file of them.
        workers: number of segments to fit in parallel, each in a process with its share of the
            processors and GPUs. "auto": one for every two processors, or for every GPU.
        ray: fit segments on a Ray cluster instead: "auto", "local" or its address.
        seed: seed of the initial weights and of the order of frames.
        device: "auto", "cpu", "cuda", "cuda:N", or a torch.device.
        precision: "auto" (bfloat16 if the hardware gains from it), "float32" or "bfloat16".
        start, to, duration, frames, crop, resize, matrix, range, stream, audio, subtitles, fps,
            size, pixel_format, strict, allow_network: which frames and tracks of the source to
            encode, and how to read it, as for `read_clip`.
        overwrite: replace an existing output.
        restart: discard a checkpoint instead of resuming from it.
        keep_fit: keep the last checkpoint of a successful fit as `output`.fit, for `start_from`.
            Only with one segment.
        on_clip: called with the Clip after it is read. Only with one segment.
        on_plan: called with the FitPlan of one segment: before a fit of a given time, else after
            the first steps are timed.
        on_progress: called about once a second during the fit of one segment.
        on_segments: called about once a second during the fit of several segments, and after each.
        on_note: called with each problem that the fit recovered from, as it happens.
        stop: called before each step. Once it returns True, a checkpoint is saved and Interrupted
            is raised.

    Raises:
        UsageError: an option is invalid or excludes another, or a target cannot be met.
        SourceError: the source cannot be read.
        OutputError: the output exists, or cannot be written.
        ResourceError: memory is too small.
        ModelError: the quality of the decoded file is far below that of the fit.
        Interrupted: `stop` returned True.
    """
    encoder = Encoder.from_options(
        model=model,
        params=params,
        strides=strides,
        recipe=recipe,
        preset=preset,
        epochs=epochs,
        steps=steps,
        time=time,
        metric=metric,
        target_size=target_size,
        target_bpp=target_bpp,
        target_bitrate=target_bitrate,
        target_psnr=target_psnr,
        prune=prune,
        compression=compression,
        bits=bits,
        embedding_bits=embedding_bits,
        start_from=start_from,
        segments=segments,
        segment_frames=segment_frames,
        cuts=cuts,
        workers=workers,
        ray=ray,
        seed=seed,
        device=device,
        precision=precision,
        keep_fit=keep_fit,
        start=start,
        to=to,
        duration=duration,
        frames=frames,
        crop=crop,
        resize=resize,
        matrix=matrix,
        range=range,
        stream=stream,
        audio=audio,
        subtitles=subtitles,
        fps=fps,
        size=size,
        pixel_format=pixel_format,
        strict=strict,
        allow_network=allow_network,
    )
    return encoder.encode(
        source,
        Path(output_name(output)),
        overwrite=overwrite,
        restart=restart,
        checkpoint_interval=checkpoint_interval,
        callbacks=Callbacks(on_clip, on_plan, on_progress, on_segments, on_note, stop or never),
    )


@dataclass(frozen=True)
class Callbacks:
    """The callbacks of one encode; see `encode`."""

    on_clip: Callable[[Clip], None] | None = None
    on_plan: Callable[[FitPlan], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_segments: Callable[[SegmentsProgress], None] | None = None
    on_note: Callable[[str], None] | None = None
    stop: Callable[[], bool] = never

    def __post_init__(self) -> None:
        for name, callback in vars(self).items():
            check_callback(callback, name)

    @property
    def watch(self) -> FitCallbacks:
        """The callbacks of a fit."""
        return FitCallbacks(self.on_progress, self.on_note, self.stop)


@dataclass(frozen=True)
class Encoder:
    """Encodes any number of videos with the options of `encode`, which it checks in advance.

    Attributes:
        aim: options and target of the fits.
        start_from: the file or the kept fit to start from.
        splitting: the rule for the starts of segments.
        splitting_chosen: whether the user chose the splitting.
        length_chosen: whether the user chose the length of segments.
        executor: the executor of the fits.
        reading: the options of `read_clip`.
        keep_fit: whether to keep the fit beside the output.
    """

    aim: Aim
    start_from: str | os.PathLike[str] | None
    splitting: Splitting
    splitting_chosen: bool
    length_chosen: bool
    executor: Executor
    reading: ReadingOptions
    keep_fit: bool

    @classmethod
    def from_options(
        cls,
        *,
        target_size: str | int | None = None,
        target_bpp: str | float | None = None,
        target_bitrate: str | int | None = None,
        target_psnr: str | float | None = None,
        bits: int | None = None,
        embedding_bits: int | None = None,
        start_from: str | os.PathLike[str] | None = None,
        segments: str | int | None = None,
        segment_frames: str | int | None = None,
        cuts: str | os.PathLike[str] | Iterable[Any] | None = None,
        workers: int | str = 1,
        ray: str | None = None,
        keep_fit: bool = False,
        **others: Any,
    ) -> Self:
        """Make an encoder from the options of `encode`. `others` are those of FitOptions and of
        `read_clip`. Raises UsageError, and SourceError or FormatError if `start_from` or `cuts`
        cannot be read."""
        reading = {name: others.pop(name) for name in READING if name in others}
        Reading.from_options(**reading)
        fit = FitOptions(**others)
        target = Target.from_options(target_size, target_bpp, target_bitrate, target_psnr)
        _check_compatible(fit, target, bits, embedding_bits, start_from)
        aim = _aim(fit, target, bits, embedding_bits)
        splitting = Splitting.from_options(
            AUTO if segments is None else segments, segment_frames, cuts
        )
        if start_from is not None:
            if not isinstance(start_from, (str, os.PathLike)):
                raise UsageError(f"{option('start_from')} must be a path, not {start_from!r}")
            check_start(start_from)
        return cls(
            aim=aim,
            start_from=start_from,
            splitting=splitting,
            splitting_chosen=(segments, segment_frames, cuts) != (None, None, None),
            length_chosen=segments not in (None, AUTO) or segment_frames is not None,
            executor=choose_executor(workers, ray),
            reading=cast(ReadingOptions, reading),
            keep_fit=keep_fit,
        )

    def encode(
        self,
        source: VideoSource,
        output: Path,
        *,
        overwrite: bool = False,
        restart: bool = False,
        checkpoint_interval: float = 60.0,
        callbacks: Callbacks | None = None,
    ) -> EncodeReport:
        """Encode one video; see the function `encode`."""
        began, callbacks = clock.perf_counter(), callbacks or Callbacks()
        interval = parse_interval(checkpoint_interval)
        check_nerv_output(output, overwrite, source)
        with locked(link_target(output)):
            work = WorkFolder.beside(output, interval, restart)
            run = _EncodeRun(self, output, work, callbacks, began)
            if isinstance(source, Clip):
                return run.encode_clip(read_clip(source, **self.reading))
            reading = Reading.from_options(**self.reading)
            splitter = Splitter(source, self._bounded_splitting(source, reading), reading)
            join_up_to = None if self.splitting_chosen else splitter.splitting.most
            read = _frames_or_segments(splitter, join_up_to)
            if isinstance(read, np.ndarray):
                return run.encode_clip(Clip(frames=read, **vars(splitter.details)))
            return run.encode_segments(splitter, read)

    def from_kept_fit(self, output: Path) -> Self:
        """Return the encoder that continues the kept fit of `output`. Raises SourceError if there
        is none, and UsageError if an option excludes `start_from`."""
        kept = kept_fit_path(output)
        options = self.aim.options
        _check_compatible(options, self.aim.target, None, None, kept)
        if not kept.is_file():
            raise SourceError(
                f"{kept}: there is no fit to continue; encode with {setting('keep_fit', True)} "
                "first"
            )
        check_start(kept)
        return replace(self, start_from=kept, keep_fit=True)

    def differing_settings(self, header: Header) -> list[str]:
        """Return the settings of a finished file, such as "seed 3", that differ from those of this
        encoder. Targets and sizes of networks are not compared: they may depend on the source."""
        options, stored = self.aim.options, header.encoder.get("settings", "")
        ours = {name: str(options.settings()[name]) for name in COMPARED_SETTINGS}
        theirs = {name: stored_setting(stored, name) for name in COMPARED_SETTINGS}
        models = {segment.model for segment in header.segments} - {options.model}
        return [
            *(f"model {model}" for model in sorted(models)),
            *(
                f"{name} {value}"
                for name, value in theirs.items()
                if value is not None and value != ours[name]
            ),
            *_differing_edit(header.edit, Reading.from_options(**self.reading).edit),
        ]

    def _bounded_splitting(self, source: VideoSource, reading: Reading) -> Splitting:
        """Return the splitting of a source. Free memory bounds the length of its segments, unless
        the user chose it."""
        if self.length_chosen:
            return self.splitting
        preset, slots = self.aim.options.preset, self.executor.slots
        most = longest_segment(source, reading, preset, slots)
        return replace(self.splitting, most=most)


def _differing_edit(stored: dict[str, Any], edit: Edit) -> Iterator[str]:
    """Yield the options of reading in a file's header that differ from those of `edit`. A header
    has the resulting size and number of frames, so sides that follow the aspect ratio, and the time
    of the end, are not compared."""
    chosen, names = edit.to_dict(), ["start", "crop", "matrix", "range"]
    if edit.to is None:
        names.append("frames")
    if edit.resize is None or min(edit.resize) > 0:
        names.append("resize")
    for name in names:
        if stored.get(name) != chosen.get(name):
            yield f"{name} {stored[name]}" if name in stored else f"no {name}"


def _check_compatible(
    fit: FitOptions,
    target: Target | None,
    bits: int | None,
    embedding_bits: int | None,
    start_from: str | os.PathLike[str] | None,
) -> None:
    """Raise UsageError if two options exclude each other."""
    bits_given = (bits, embedding_bits) != (None, None)
    if target is not None and target.psnr is not None and fit.recipe == PAPER:
        raise UsageError(
            f"{option('target_psnr')} needs a fit through the quantizer: "
            f"leave out {setting('recipe', PAPER)}"
        )
    if target is not None and bits_given:
        raise UsageError(
            f"{option('bits')} and {option('embedding_bits')} exclude a target: choose one"
        )
    if fit.compression_data is not None and target is not None:
        raise UsageError(f"{option('compression')} excludes a target: choose one")
    if fit.compression_data is not None and bits_given:
        raise UsageError(
            f"{option('compression')} sets the bits: "
            f"leave out {option('bits')} and {option('embedding_bits')}"
        )
    if start_from is not None and (fit.params, fit.strides) != (None, None):
        raise UsageError(
            f"{option('start_from')} sets the network's size: "
            f"leave out {option('params')} and {option('strides')}"
        )


def _aim(
    fit: FitOptions, target: Target | None, bits: int | None, embedding_bits: int | None
) -> Aim:
    """Return the aim of the fits: whether they run in float, and the bit depths afterwards."""
    published = fit.compression_data
    given = any(option is not None for option in (fit.params, bits, embedding_bits))
    float_fit = given or bool(fit.stages) or published is not None or fit.recipe == PAPER
    if published is not None:
        depths = published.bits, published.embedding_bits
    else:
        depths = (
            DEFAULT_BITS if bits is None else bits,
            DEFAULT_BITS if embedding_bits is None else embedding_bits,
        )
    weights, embeddings = depths
    depths = check_bits(weights), check_bits(embeddings, "embedding_bits")
    return Aim(fit, depths, target, float_fit)


def _frames_or_segments(
    splitter: Splitter, join_up_to: int | None
) -> np.ndarray | Iterator[Segment]:
    """Return the frames of a source that is one segment, or the segments of any other source.
    Segments with `join_up_to` frames or less in total count as one."""
    expected = splitter.expected_frames
    if join_up_to is not None and expected is not None and expected <= join_up_to:
        splitter.splitting = Splitting()
    segments = iter(splitter)
    buffered = [next(segments)]
    for segment in segments:
        buffered.append(segment)
        if join_up_to is None or sum(len(s.frames) for s in buffered) > join_up_to:
            return chain(buffered, segments)
    return np.concatenate([s.frames for s in buffered]) if buffered[1:] else buffered[0].frames


@dataclass(frozen=True)
class _EncodeRun:
    """One encode of one source: as one segment or as several."""

    encoder: Encoder
    output: Path
    work: WorkFolder
    callbacks: Callbacks
    began: float

    @property
    def aim(self) -> Aim:
        return self.encoder.aim

    def encode_clip(self, clip: Clip) -> EncodeReport:
        """Encode a clip as one segment."""
        shape = VideoShape(*clip.shape[:3])
        check_storable(shape.width, shape.height, clip)
        if self.callbacks.on_clip is not None:
            self.callbacks.on_clip(clip)
        job = self._job(clip, shape)
        keep = CheckpointOptions(
            checkpoint_path(self.output), self.work.interval, self.work.restart
        )
        content, report = fit_segment(job, keep, self._watch(clip, job))
        part = FinishedSegment(content, np.array(report.samples, np.uint8))
        size = shape.width, shape.height
        written = self._write(clip, size, [part], [report], settings_text(job))
        if self.encoder.keep_fit:
            with system_errors(kept_fit_path(self.output)):
                keep.path.replace(kept_fit_path(self.output))
        else:
            keep.path.unlink(missing_ok=True)
        return written

    def _job(self, clip: Clip, shape: VideoShape) -> SegmentJob:
        """Return the job of a clip that is one segment."""
        aim, start = self.aim, None
        fingerprint = frames_hash(clip.frames)
        if self.encoder.start_from is not None:
            name = aim.options.model
            start = read_start(self.encoder.start_from, name, shape, fingerprint)
        if aim.shares_bytes:
            options = replace(aim.options, coded_bytes=self._tensor_bytes(clip, 1, shape))
        else:
            options = aim.options_for(clip.frames)
        return SegmentJob(
            index=0,
            first=0,
            shape=shape,
            frames=clip.frames,
            fingerprint=fingerprint,
            options=options,
            bits=aim.bits,
            colour=clip.colour,
            user_target=aim.target is not None,
            start=start,
        )

    def _watch(self, clip: Clip, job: SegmentJob) -> FitCallbacks:
        """Return the callbacks of a fit, including one that reports its plan."""
        if self.callbacks.on_plan is None:
            return self.callbacks.watch
        fixed = partial(_fixed_bytes, clip, job.options, job.shape)
        on_outlook = plan_callback(job.options, job.shape, fixed, job.bits, self.callbacks.on_plan)
        return replace(self.callbacks.watch, on_outlook=on_outlook)

    def encode_segments(self, splitter: Splitter, segments: Iterator[Segment]) -> EncodeReport:
        """Encode a video of several segments."""
        if self.encoder.start_from is not None:
            raise UsageError(
                f"{option('start_from')} needs a video of one segment: use "
                f"{setting('segments', 'off')}"
            )
        if self.encoder.keep_fit:
            raise UsageError(
                f"{option('keep_fit')} needs a video of one segment: use "
                f"{setting('segments', 'off')}"
            )

        def tensor_bytes(count: int, shape: VideoShape) -> int:
            return self._tensor_bytes(splitter.details, count, shape)

        executor, stop = self.encoder.executor, self.callbacks.stop
        planner = Planner(
            *(splitter, segments, self.aim, self.work),
            *(executor.remote, executor.slots, stop),
        )
        on_note = self.callbacks.on_note or (lambda note: None)
        run = SegmentRun(planner, self.work, executor, self.callbacks.on_segments, on_note, stop)
        reports = run.fit(tensor_bytes)
        details = splitter.details
        for note in details.notes:
            on_note(note)
        check_storable(*splitter.size, details)
        parts = self.work.parts(reports)
        written = self._write(details, splitter.size, parts, reports, self._settings())
        self.work.remove()
        return written

    def _tensor_bytes(self, details: Details, count: int, shape: VideoShape) -> int:
        """Return the bytes that the target leaves for the tensors of `count` segments. Raises
        UsageError if they are too few."""
        assert self.aim.target is not None
        options = self.aim.options
        fixed = _fixed_bytes(details, options, shape, options.model_type.configure(shape), count)
        start, end = details.timing.seconds
        return self.aim.target.tensor_bytes(shape.pixels, end - start, fixed.whole, fixed.video)

    def _settings(self) -> str:
        """Return the settings of an encode in several segments as the text in a file's header."""
        aim, settings = self.aim, self.aim.options.settings()
        if aim.target is not None:
            settings |= {"target": str(aim.target)}
        elif aim.float_fit:
            settings |= {"bits": aim.bits[0], "embedding_bits": aim.bits[1]}
        return as_text(settings)

    def _write(
        self,
        details: Details,
        size: tuple[int, int],
        parts: Sequence[FinishedSegment],
        reports: Sequence[SegmentReport],
        settings: str,
    ) -> EncodeReport:
        """Write the file of finished segments with frames of `size` (width, height), and return its
        report."""
        header, quality = new_header(*size, details, settings), mean_over_segments(reports)
        notes = assemble(self.output, header, details, parts, quality, self.callbacks.stop)
        if (on_note := self.callbacks.on_note) is not None:
            for note in notes:
                on_note(note)
        options, began = self.aim.options, self.began
        return make_report(
            self.output, details, size, reports, quality, options, settings, notes, began
        )


def _fixed_bytes(
    details: Details, options: FitOptions, shape: VideoShape, config: ModelConfig, count: int = 1
) -> FixedBytes:
    """Return the bytes of a file besides its tensors, for `count` segments. Each segment counts a
    model configuration of its own."""
    lengths = np.diff(np.linspace(0, shape.frames, count + 1).astype(int)).tolist()
    segments = (
        SegmentEntry(length, options.model, config.to_dict(), 1 + index)
        for index, length in enumerate(lengths)
    )
    header = new_header(shape.width, shape.height, details, str(options.settings()))
    header = header.of_segments(segments)
    models = (count - 1) * len(pack_json(config.to_dict()))
    fixed = bytes_besides_tensors(header, details.timing, details.tracks, details.extras, psnr=0.0)
    return FixedBytes(fixed.whole + models, fixed.video + models)
