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
from nervkit.cli.interruption import Manner, interruption
from nervkit.errors import Interrupted, SourceError, UsageError

if TYPE_CHECKING:
    from nervkit.bench.datasets import ClipSpec
    from nervkit.bench.restoration.evaluate import Score

#: options of fits that are quantized afterwards
AFTER_FIT = ("bits", "embedding_bits", "prune", "compression")


class _RunUnlessNamed(TyperGroup):
    """`nervkit bench CLIP ...` is `nervkit bench run CLIP ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


bench = options.Commands(
    cls=_RunUnlessNamed,
    help="Measure neural codecs against H.264, HEVC, AV1 and VVC, and report it. "
    "`nervkit bench CLIP ... --out DIR` is short for `nervkit bench run`.",
    no_args_is_help=True,
)


@bench.command()
@options.with_options(options.reading)
def run(
    clips: Annotated[
        list[str] | None, typer.Argument(help="What to measure on: any input of nervkit encode.")
    ] = None,
    out: Annotated[
        str, typer.Option("-o", "--out", help="The run folder; what is there is kept.")
    ] = ...,  # type: ignore[assignment]
    codecs: Annotated[
        str,
        typer.Option(
            help="Anchors and models, such as gridnerv,gridnerv:slow,hnerv:paper,x264,x265,vvenc."
        ),
    ] = "gridnerv,x264,x265,svt-av1,vvenc",
    dataset: Annotated[
        str | None,
        typer.Option(help="Instead of clips: uvg, mcl-jcv, davis, bunny, folder; uvg@hnerv, ..."),
    ] = None,
    root: Annotated[str | None, typer.Option(help="Where the dataset lies.")] = None,
    profile: Annotated[
        str, typer.Option(help="Of the anchors: strong, or paper (medium, no B-frames).")
    ] = "strong",
    keyframes: Annotated[
        int | None, typer.Option(help="Anchors: a keyframe at least every so many frames.", min=1)
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="An anchor's rate points, such as x264=20,25,30. Repeatable."),
    ] = None,
    target_bpp: Annotated[
        str | None,
        typer.Option(help="Bits per pixel of the neural codecs, such as 0.03,0.06,0.12."),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(help="Instead: their stored values, such as 50k,100k, quantized after fits."),
    ] = None,
    separate_fits: Annotated[
        bool,
        typer.Option(
            help="A whole fit for every rate. Otherwise the highest has one, and each other starts "
            "from the file above it, in half of the steps."
        ),
    ] = False,
    preset: options.Preset = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    time: options.Time = None,
    metric: Annotated[
        str,
        typer.Option(
            help="What the neural codecs are fitted for, and all are judged by: rgb, or yuv "
            "(6:1:1 PSNR of 4:2:0 planes)."
        ),
    ] = "rgb",
    bits: Annotated[int | None, typer.Option(help="Bits of a weight.")] = None,
    embedding_bits: Annotated[int | None, typer.Option(help="Bits of an embedding value.")] = None,
    prune: Annotated[float | None, typer.Option(help="Share of weights set to zero.")] = None,
    compression: Annotated[
        str | None,
        typer.Option(help="Compression as published, by name, or paper: each model's own."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the fits.")] = 0,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    device: options.Device = "auto",
    jobs: Annotated[
        int, typer.Option(min=0, help="Clips whose anchors run beside the fits (spoils times).")
    ] = 0,
    ffmpeg: Annotated[
        str | None, typer.Option(help="The ffmpeg binary, instead of imageio-ffmpeg's.")
    ] = None,
    viewer_frames: Annotated[
        int, typer.Option(min=0, help="Frames of every point that the report can show.")
    ] = 2,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Measure codecs on clips. What is measured already is kept: run it again to go on."""
    interruption.manner = Manner.PASS
    fitting = {
        "preset": preset,
        "epochs": epochs,
        "steps": steps,
        "time": time,
        "bits": bits,
        "embedding_bits": embedding_bits,
        "prune": prune,
        "compression": compression,
        "precision": precision,
    }
    if params and target_bpp:
        raise UsageError("give one of --params and --target-bpp")
    after_fit = [name for name in AFTER_FIT if fitting[name] is not None]
    if compression is not None and len(after_fit) > 1:
        flag = after_fit[0].replace("_", "-")
        raise UsageError(f"--compression says how values are quantized: leave out --{flag}")
    if after_fit and not params:
        flag = after_fit[0].replace("_", "-")
        raise UsageError(f"--{flag} is for fits that are quantized afterwards: give --params too")
    rates = _rates(rate or [])
    specs = _clips(clips or [], dataset, root, options.chosen(options.reading, shared))
    from nervkit.bench.codecs import PARAMS, TARGET_BPP, NeuralOptions
    from nervkit.bench.sweep import SweepOptions, sweep
    from nervkit.metrics.bd import library
    from nervkit.models.device import choose_device

    sizes, rates_are = (params, PARAMS) if params else (target_bpp, TARGET_BPP)
    library()  # needed at the end: better missed now
    sweep_options = SweepOptions(
        codecs=codecs.split(","),
        profile=profile,
        interval=keyframes,
        sizes=[part.strip() for part in sizes.split(",")] if sizes else [],
        rates=rates,
        fit=NeuralOptions(
            str(choose_device(device)), seed, _given(fitting), metric, rates_are, separate_fits
        ),
        ffmpeg=ffmpeg,
        jobs=jobs,
        viewer_frames=viewer_frames,
    )
    try:
        notes = sweep(specs, Path(out), sweep_options, say)
    except (KeyboardInterrupt, Interrupted) as error:
        raise Interrupted("stopped; run the same command again to go on") from error
    _report(Path(out), Path(out) / "report.html", None, json, notes)


@bench.command()
def report(
    folder: Annotated[str, typer.Argument(help="The run folder.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="The HTML file, self-contained.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help="A plot for a paper: .png, .svg or .pdf.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Of the plot: psnr_rgb, psnr_yuv, ssim, ms_ssim, vmaf, ...; by default the PSNR "
            "that the run was judged by."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Make the tables, the HTML report and the plot of a run that was measured."""
    from nervkit.output import check_output

    for path in (output, plot):
        if path is not None:
            check_output(Path(path), overwrite)
    page = None if output is None else Path(output)
    _report(Path(folder), page, None if plot is None else (Path(plot), metric), json, [])


@bench.command()
@options.with_options(options.fitting, options.reading)
def restore(
    clips: Annotated[list[str], typer.Argument(help="Clean clips: any input of nervkit encode.")],
    out: Annotated[
        str, typer.Option("-o", "--out", help="The run folder; what is there is kept.")
    ] = ...,  # type: ignore[assignment]
    damage: Annotated[
        list[str] | None,
        typer.Option(
            help="gaussian:SIGMA, poisson:, planes:, codec:STRENGTH, white:DENSITY, black:, "
            "salt-pepper:, random:, boxes:SIDE, centre, mask, odd-even. Repeatable; some of each "
            "kind by default."
        ),
    ] = None,
    mask: Annotated[str | None, typer.Option(help="For --damage mask; as in inpaint.")] = None,
    baselines: Annotated[bool, typer.Option(help="Classical methods beside.")] = True,
    picture: Annotated[
        int | None, typer.Option(min=0, help="A frame to keep of every method, as a PNG.")
    ] = None,
    fit: options.Fit = None,
    json: options.Json = False,
    **shared: Any,
) -> None:
    """Damage clean clips, repair them with nervkit and with classical methods, and score all."""
    interruption.manner = Manner.PASS
    specs = _clips(clips, None, None, options.chosen(options.reading, shared))
    from rich.console import Console

    from nervkit.bench.restoration.run import bench_restore
    from nervkit.bench.tables import print_restorations

    def on_score(clip: str, score: Score) -> None:
        say(f"{clip} {score.damage} {score.method}: {score.psnr:.2f} dB ({score.seconds:.0f} s)")

    record = bench_restore(
        specs,
        Path(out),
        damage or [],
        options.chosen(options.fitting, shared) | ({} if fit is None else {"fit": fit}),
        mask=mask,
        baselines=baselines,
        picture=picture,
        on_score=on_score,
    )
    print_restorations(record, Console(stderr=json, width=None if sys.stdout.isatty() else 100))
    if json:
        emit(record)


def _report(
    folder: Path,
    page: Path | None,
    plot: tuple[Path, str | None] | None,
    json: bool,
    told: list[str],
) -> None:
    """Show a run, and write its page and its plot. `told` are notes that were shown already."""
    from rich.console import Console

    from nervkit.bench.curves import load_run, mixed_versions, summary
    from nervkit.bench.plot import write_plot
    from nervkit.bench.report import write_report
    from nervkit.bench.tables import print_tables

    run_data = load_run(folder)
    notes = mixed_versions(run_data)
    if page is not None:
        notes = [*notes, *write_report(run_data, page)]
    if plot is not None:
        write_plot(run_data, *plot)
    console = Console(stderr=json)
    if not console.is_terminal:
        console = Console(stderr=json, width=100)
    print_tables(run_data, console)
    for note in notes:
        say(f"note: {note}")
    for path in (page, plot and plot[0]):
        if path is not None:
            say(f"written: {path}")
    if json:
        emit(summary(run_data) | {"notes": [*told, *notes]})


def _clips(
    paths: list[str], dataset: str | None, root: str | None, reading: dict[str, str]
) -> list[ClipSpec]:
    """What to measure on, from paths or from a dataset."""
    from nervkit.bench.datasets import ClipSpec, dataset_clips, unique_name
    from nervkit.video.reader import Reading, title_of

    Reading.from_options(**reading)  # found wrong before anything is read
    if bool(paths) == bool(dataset):
        raise UsageError("give clips, or --dataset NAME --root DIR")
    if dataset is not None:
        if root is None:
            raise UsageError("--dataset needs --root, the folder where it lies")
        found = dataset_clips(dataset, Path(root))
        if found.missing:
            say(f"note: {dataset}: not there, left out: {', '.join(found.missing)}")
        # Other frames than the dataset's are not what its published curves are of.
        cut = {"start", "to", "duration", "frames", "crop", "resize"} & set(reading)
        return [
            ClipSpec(
                spec.name,
                spec.path,
                None if cut else spec.dataset,
                {**spec.options, **reading},
            )
            for spec in found.clips
        ]
    if root is not None:
        raise UsageError("--root is for --dataset")
    specs: list[ClipSpec] = []
    for path in paths:
        if path == "-":
            raise UsageError("bench reads its clips more than once: standard input cannot be one")
        name = unique_name(title_of(path), [spec.name for spec in specs])
        if "%" not in path and not Path(path).exists():
            raise SourceError(f"{path}: no such file or folder")
        specs.append(ClipSpec(name, Path(path), None, reading))
    return specs


def _rates(texts: list[str]) -> dict[str, list[int]]:
    rates: dict[str, list[int]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not re.fullmatch(r"\d+(,\d+)*", values):
            raise UsageError(f"rate must be CODEC=N,N,... such as x264=20,25,30, not {text!r}")
        rates.setdefault(name, []).extend(int(value) for value in values.split(","))
    return rates


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
