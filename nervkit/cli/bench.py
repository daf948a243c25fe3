"""nervkit bench"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from nervkit.cli import options
from nervkit.cli.console import emit, say
from nervkit.cli.interruption import SignalResponse, interruption
from nervkit.errors import Interrupted, SourceError, UsageError

if TYPE_CHECKING:
    from nervkit.bench.datasets import ClipSpec
    from nervkit.bench.restoration.evaluate import Score
    from nervkit.bench.sweep import SweepOptions

#: options of fits that are quantized afterwards
AFTER_FIT = ("bits", "embedding_bits", "prune", "compression")

Out = Annotated[
    str, typer.Option("-o", "--out", help="The run folder. Results that it has are kept.")
]


class _RunUnlessNamed(TyperGroup):
    """Makes `nervkit bench CLIP ...` short for `nervkit bench run CLIP ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


bench = options.Commands(
    cls=_RunUnlessNamed,
    help="Measure neural codecs against H.264, HEVC, AV1 and VVC, and report the results. "
    "`nervkit bench CLIP ... --out DIR` is short for `nervkit bench run`.",
    epilog="Options: nervkit bench run --help",
    no_args_is_help=True,
)


def neural_codecs(
    target_bpp: Annotated[
        str | None,
        typer.Option(help="Rates of the neural codecs in bits per pixel, such as 0.03,0.06,0.12."),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(
            help="Instead of --target-bpp: stored values, such as 50k,100k, quantized after the "
            "fit."
        ),
    ] = None,
    separate_fits: Annotated[
        bool,
        typer.Option(
            help="Make a full fit for every rate. By default only the highest rate has one; each "
            "lower rate starts from the file above it and takes half the steps."
        ),
    ] = False,
    preset: options.Preset = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    time: options.Time = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What the neural codecs optimise and all codecs are judged by: rgb, or yuv "
            "(6:1:1 PSNR of 4:2:0 planes)."
        ),
    ] = "rgb",
    bits: Annotated[int | None, typer.Option(help="Bit depth of the weights.")] = None,
    embedding_bits: Annotated[int | None, typer.Option(help="Bit depth of the embeddings.")] = None,
    prune: Annotated[float | None, typer.Option(help="Share of weights set to zero.")] = None,
    compression: Annotated[
        str | None,
        typer.Option(help="A published compression by name, or paper: each model's own."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fits.")] = 0,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    device: options.Device = "auto",
) -> None:
    """Options of the neural codecs."""


def anchors(
    profile: Annotated[
        str, typer.Option(help="Profile of the anchors: strong, or paper (medium, no B-frames).")
    ] = "strong",
    keyframes: Annotated[
        int | None,
        typer.Option(help="Longest keyframe interval of the anchors, in frames.", min=1),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Quantizer values of an anchor, such as x264=20,25,30. Repeatable."),
    ] = None,
    ffmpeg: Annotated[
        str | None, typer.Option(help="The ffmpeg binary to use instead of imageio-ffmpeg's.")
    ] = None,
) -> None:
    """Options of the anchors."""


@bench.command()
@options.with_options(neural_codecs, anchors, options.reading)
def run(
    out: Out,
    clips: Annotated[
        list[str] | None, typer.Argument(help="Clips: any input of nervkit encode.")
    ] = None,
    codecs: Annotated[
        str,
        typer.Option(
            help="Anchors and models, such as gridnerv,gridnerv:slow,hnerv:paper,x264,x265,vvenc."
        ),
    ] = "gridnerv,x264,x265,svt-av1,vvenc",
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A dataset instead of clips: uvg, mcl-jcv, davis, bunny, folder; uvg@hnerv, ..."
        ),
    ] = None,
    root: Annotated[str | None, typer.Option(help="The dataset's folder.")] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of clips whose anchors run beside the fits; times are then not "
            "comparable.",
        ),
    ] = 0,
    viewer_frames: Annotated[
        int, typer.Option(min=0, help="Frames of every point to store for the report's viewer.")
    ] = 2,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Measure codecs on clips. Existing results are kept: repeat the command to go on."""
    interruption.manner = SignalResponse.PASS
    sweep_options = _sweep_options(codecs.split(","), jobs, viewer_frames, shared)
    specs = _clips(clips or [], dataset, root, options.given_options(options.reading, shared))
    from nervkit.bench.sweep import sweep

    try:
        notes = sweep(specs, Path(out), sweep_options, say)
    except (KeyboardInterrupt, Interrupted) as error:
        raise Interrupted("stopped; run the same command again to go on") from error
    _report(Path(out), Path(out) / "report.html", None, json, notes)


@bench.command()
def report(
    folder: Annotated[str, typer.Argument(help="The run folder.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="The self-contained HTML file.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help="A plot for a paper: .png, .svg or .pdf.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metric of the plot: psnr_rgb, psnr_yuv, ssim, ms_ssim, vmaf, ...; the default is "
            "the PSNR that the run is judged by."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Print the tables of a measured run, and write its HTML report and plot."""
    from nervkit.output import check_output

    for path in (output, plot):
        if path is not None:
            check_output(Path(path), overwrite)
    page = None if output is None else Path(output)
    _report(Path(folder), page, None if plot is None else (Path(plot), metric), json, [])


@bench.command()
@options.with_options(options.fitting, options.reading)
def restore(
    out: Out,
    clips: Annotated[list[str], typer.Argument(help="Clean clips: any input of nervkit encode.")],
    damage: Annotated[
        list[str] | None,
        typer.Option(
            help="gaussian:SIGMA, poisson:SIGMA, planes:SIGMA, codec:STRENGTH, white:DENSITY, "
            "black:, salt-pepper:, random:, boxes:SIDE, centre, mask, odd-even. Repeatable; the "
            "default is several of each kind."
        ),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="The mask for --damage mask, as in nervkit inpaint.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Score classical methods too.")] = True,
    picture: Annotated[
        int | None, typer.Option(min=0, help="A frame to store as PNG from every method's result.")
    ] = None,
    fit: options.Fit = None,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Damage clean clips, restore them by nervkit and by classical methods, and score all."""
    interruption.manner = SignalResponse.PASS
    specs = _clips(clips, None, None, options.given_options(options.reading, shared))
    from rich.console import Console

    from nervkit.bench.restoration.run import bench_restore
    from nervkit.bench.tables import print_restorations

    def on_score(clip: str, score: Score) -> None:
        say(f"{clip} {score.damage} {score.method}: {score.psnr:.2f} dB ({score.seconds:.0f} s)")

    record = bench_restore(
        specs,
        Path(out),
        damage or [],
        options.given_options(options.fitting, shared) | ({} if fit is None else {"fit": fit}),
        mask=mask,
        baselines=baselines,
        picture=picture,
        on_score=on_score,
    )
    print_restorations(record, Console(stderr=json, width=None if sys.stdout.isatty() else 100))
    if json:
        emit(record)


def _sweep_options(
    codecs: list[str], jobs: int, viewer_frames: int, values: dict[str, Any]
) -> SweepOptions:
    """Check the options of `run` and return them. Raises UsageError."""
    fitting = options.given_options(neural_codecs, values)
    params, target_bpp = fitting.pop("params", None), fitting.pop("target_bpp", None)
    if params and target_bpp:
        raise UsageError("give one of --params and --target-bpp")
    after_fit = [f"--{name.replace('_', '-')}" for name in AFTER_FIT if name in fitting]
    if "compression" in fitting and len(after_fit) > 1:
        raise UsageError(f"--compression sets the quantization: leave out {after_fit[0]}")
    if after_fit and not params:
        raise UsageError(f"{after_fit[0]} needs fits that are quantized afterwards: add --params")
    rates = _rates(values["rate"] or [])
    from nervkit.bench.codecs import PARAMS, TARGET_BPP, NeuralOptions, parse_codecs
    from nervkit.bench.sweep import SweepOptions
    from nervkit.metrics.bd import library
    from nervkit.models.device import choose_device

    parse_codecs(codecs)
    library()  # fail before the sweep, not at its end
    sizes, unit = (params, PARAMS) if params else (target_bpp, TARGET_BPP)
    return SweepOptions(
        codecs=codecs,
        profile=values["profile"],
        interval=values["keyframes"],
        sizes=[part.strip() for part in sizes.split(",")] if sizes else [],
        rates=rates,
        fit=NeuralOptions(
            device=str(choose_device(fitting.pop("device"))),
            seed=fitting.pop("seed"),
            metric=fitting.pop("metric"),
            separate=fitting.pop("separate_fits", False),
            options=fitting,
            rate=unit,
        ),
        ffmpeg=values["ffmpeg"],
        jobs=jobs,
        viewer_frames=viewer_frames,
    )


def _report(
    folder: Path,
    page: Path | None,
    plot: tuple[Path, str | None] | None,
    json: bool,
    printed: list[str],
) -> None:
    """Print the tables of a run, and write its page and plot.

    Args:
        plot: the file and the metric.
        printed: notes that were printed already; only --json repeats them.
    """
    from rich.console import Console

    from nervkit.bench.curves import load_run, mixed_versions, summary
    from nervkit.bench.plot import write_plot
    from nervkit.bench.report import write_report
    from nervkit.bench.tables import print_tables

    results = load_run(folder)
    notes = mixed_versions(results)
    if page is not None:
        notes = [*notes, *write_report(results, page)]
    if plot is not None:
        write_plot(results, *plot)
    console = Console(stderr=json)
    if not console.is_terminal:
        console = Console(stderr=json, width=100)
    print_tables(results, console)
    for note in notes:
        say(f"note: {note}")
    for path in (page, plot and plot[0]):
        if path is not None:
            say(f"written: {path}")
    if json:
        emit(summary(results) | {"notes": [*printed, *notes]})


def _clips(
    paths: list[str], dataset: str | None, root: str | None, reading: dict[str, Any]
) -> list[ClipSpec]:
    """Return the clips to measure on, from paths or from a dataset."""
    from nervkit.video.reader import Reading

    Reading.from_options(**reading)  # reject invalid options before anything is read
    if bool(paths) == bool(dataset):
        raise UsageError("give clips, or --dataset NAME --root DIR")
    if dataset is not None:
        if root is None:
            raise UsageError("--dataset needs --root, the dataset's folder")
        return _dataset_clips(dataset, Path(root), reading)
    if root is not None:
        raise UsageError("--root is for --dataset")
    return _path_clips(paths, reading)


def _dataset_clips(dataset: str, root: Path, reading: dict[str, Any]) -> list[ClipSpec]:
    from nervkit.bench.datasets import ClipSpec, dataset_clips

    found = dataset_clips(dataset, root)
    if found.missing:
        say(f"note: {dataset}: missing and left out: {', '.join(found.missing)}")
    # The published curves are not valid for other frames than the dataset's.
    cut = {"start", "to", "duration", "frames", "crop", "resize"} & set(reading)
    return [
        ClipSpec(spec.name, spec.path, None if cut else spec.dataset, {**spec.options, **reading})
        for spec in found.clips
    ]


def _path_clips(paths: list[str], reading: dict[str, Any]) -> list[ClipSpec]:
    from nervkit.bench.datasets import ClipSpec, unique_name
    from nervkit.video.reader import title_of

    specs: list[ClipSpec] = []
    for path in paths:
        if path == "-":
            raise UsageError("bench reads its clips repeatedly and takes no standard input")
        name = unique_name(title_of(path), [spec.name for spec in specs])
        if "%" not in path and not Path(path).exists():
            raise SourceError(f"{path}: no such file or folder")
        specs.append(ClipSpec(name, Path(path), None, reading))
    return specs


def _rates(texts: list[str]) -> dict[str, list[int]]:
    """Parse CODEC=N,N,... options."""
    rates: dict[str, list[int]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not re.fullmatch(r"\d+(,\d+)*", values):
            raise UsageError(f"rate must be CODEC=N,N,... such as x264=20,25,30, not {text!r}")
        rates.setdefault(name, []).extend(int(value) for value in values.split(","))
    return rates
