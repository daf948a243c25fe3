"""The tables that `nervkit bench` prints, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nervkit.bench.curves import (
    BD_METRICS,
    METRICS,
    NOT_MEASURED,
    THIN_OVERLAP,
    ClipResults,
    Comparison,
    Delta,
    Mean,
    Point,
    Run,
    mean_comparisons,
)

NOTHING = "–"
PARTS = ("", "_inside", "_outside")  # suffixes of the values of a restoration's score
_POINT_METRICS = ("psnr_rgb", "psnr_yuv", "ssim", "ms_ssim", "vmaf")


def print_tables(run: Run, console: Console) -> None:
    """Print points, Bjøntegaard deltas and costs of every clip, and the mean deltas."""
    for clip in run.clips:
        print_points(clip, console)
        print_bd(clip, clip.comparisons, console)
        print_costs(clip, console)
    print_mean_bd(run, console)


def print_points(clip: ClipResults, console: Console) -> None:
    """Print the rate and quality of every point."""
    source = clip.source
    table = _table(
        f"{clip.name}: {source['frames']} frames of {source['width']}x{source['height']}",
        ["codec", "point"],
        ["bpp", "kbit/s", *(METRICS[m].label for m in _POINT_METRICS)],
    )
    for label, point in _rows(clip):
        record = point.record
        measures = [_number(record["measures"].get(m), METRICS[m].digits) for m in _POINT_METRICS]
        rates = f"{record['bpp']:.4f}", f"{record['kbps']:.1f}"
        table.add_row(label, escape(record["point"]), *rates, *measures)
    console.print(table)


def print_bd(clip: ClipResults, comparisons: list[Comparison], console: Console) -> None:
    """Print BD-rate by PCHIP for every metric, BD-PSNR for the clip's own metric, and the reasons
    for refused deltas and left-out points."""
    if not comparisons:
        return
    table = _bd_table(f"{clip.name}: BD-rate, PCHIP (overlap)", clip.psnr)
    refused: list[str] = []
    for (anchor, test), pair in groupby(comparisons, key=lambda c: (c.anchor, c.test)):
        of = {c.metric: c for c in pair if c.method == "pchip"}
        refused += [
            f"{test} / {anchor}, {METRICS[m].label}: {of[m].rate.refused}"
            for m in BD_METRICS
            if of[m].rate.refused not in (None, NOT_MEASURED)
        ]
        cells = [_percent(of[m].rate) for m in BD_METRICS]
        quality = of[clip.psnr].quality.value
        bd_psnr = NOTHING if quality is None else f"{quality:+.2f} dB"
        table.add_row(escape(anchor), escape(test), *cells, bd_psnr)
    console.print(table)
    for line in refused + [f"left out: {line}" for line in clip.left_out]:
        console.print(f"  {NOTHING} {line}", style="dim", markup=False, highlight=False)
    _print_thin(console, [c.rate.overlap for c in comparisons if c.method == "pchip"])


def print_restorations(record: dict[str, Any], console: Console) -> None:
    """Print a table for each clip and damage, and the papers' figures."""
    for run in record["runs"]:
        frames, height, width, _ = run["frames"]
        table = _table(
            f"{run['clip']}, {run['damage']}: {frames} frames of {width}x{height}",
            ["method"],
            ["PSNR [dB]", "SSIM", "in holes", "SSIM", "outside", "SSIM", "seconds"],
        )
        for score in run["scores"]:
            parts = [score[f"{name}{part}"] for part in PARTS for name in ("psnr", "ssim")]
            cells = [
                _number(value, digits) for value, digits in zip(parts, (2, 4) * 3, strict=True)
            ]
            table.add_row(escape(score["method"]), *cells, f"{score['seconds']:.1f}")
        console.print(table)
    table = _table(
        "Published results (other clips, sizes and noise)", ["damage", "method"], ["PSNR [dB]"]
    )
    for figure in record["published"]:
        what = f"{figure['task']}, {figure['what']}"
        table.add_row(escape(what), escape(figure["method"]), f"{figure['psnr']:.2f}")
    console.print(table)
    for source in dict.fromkeys(figure["source"] for figure in record["published"]):
        console.print(f"  {source}", style="dim", markup=False, highlight=False)


def print_mean_bd(run: Run, console: Console) -> None:
    """Print the mean deltas of each pair of curves that several clips have."""
    means = [m for m in mean_comparisons(run.comparisons) if m.method == "pchip"]
    if not means:
        return
    table = _bd_table("Mean over clips: BD-rate, PCHIP (clips with a delta)", run.psnr)
    for (anchor, test), pair in groupby(means, key=lambda m: (m.anchor, m.test)):
        of = {m.metric: m for m in pair}
        cells = [_mean_percent(of[m].rate, of[m].clips) for m in BD_METRICS]
        quality = of[run.psnr].quality.value
        bd_psnr = NOTHING if quality is None else f"{quality:+.2f} dB"
        table.add_row(escape(anchor), escape(test), *cells, bd_psnr)
    console.print(table)
    _print_thin(console, [m.rate.overlap for m in means])


def print_costs(clip: ClipResults, console: Console) -> None:
    """Print times, memory and MACs; `*` marks times of a shared machine."""
    table = _table(
        f"{clip.name}: cost",
        ["codec", "point", "device"],
        ["encode s", "encode fps", "decode fps", "peak MB enc", "dec", "MAC/pixel"],
    )
    shared = False
    for label, point in _rows(clip):
        record = point.record
        mark = "" if record.get("alone") else "*"
        shared = shared or bool(mark)
        memory = record.get("peak_memory") or {}
        table.add_row(
            label,
            escape(record["point"]),
            record.get("device") or NOTHING,
            *(
                _number(record.get(key), 1) + mark
                for key in ("encode_seconds", "encode_fps", "decode_fps")
            ),
            *(_megabytes(memory.get(key)) for key in ("encode", "decode")),
            _number(record.get("macs_per_pixel"), 0),
        )
    console.print(table)
    if shared:
        console.print("  * measured on a shared machine: times are not comparable", style="dim")


def _table(title: str, texts: list[str], numbers: list[str]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _bd_table(title: str, psnr: str) -> Table:
    """Return a table with BD-PSNR of the metric `psnr` in the last column."""
    columns = [METRICS[m].label for m in BD_METRICS]
    title = f"{title}; BD-{METRICS[psnr].label}"
    return _table(title, ["anchor", "codec"], [*columns, "BD-PSNR"])


def _rows(clip: ClipResults) -> Iterator[tuple[str, Point]]:
    """Yield points with their curve's label, which only the first point of a curve has."""
    for curve in clip.curves:
        for index, point in enumerate(curve.points):
            yield (escape(curve.label) if index == 0 else ""), point


def _number(value: Any, digits: int) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def _megabytes(count: int | None) -> str:
    return NOTHING if count is None else f"{count / 1e6:,.0f}"


def _percent(delta: Delta) -> str:
    if delta.value is None or delta.overlap is None:
        return NOTHING
    return f"{_signed(delta.value)} ({delta.overlap:.2f}){_thin(delta.overlap)}"


def _mean_percent(mean: Mean, clips: int) -> str:
    if mean.value is None or mean.overlap is None:
        return NOTHING
    return f"{_signed(mean.value)} ({mean.clips}/{clips}){_thin(mean.overlap)}"


def _signed(percent: float) -> str:
    return f"{percent:+.{1 if abs(percent) < 100 else 0}f}%"


def _thin(overlap: float) -> str:
    return "?" if overlap < THIN_OVERLAP else ""


def _print_thin(console: Console, overlaps: list[float | None]) -> None:
    if any(overlap is not None and overlap < THIN_OVERLAP for overlap in overlaps):
        note = f"  ? the curves share less than {THIN_OVERLAP:.0%} of their quality range"
        console.print(note, style="dim", highlight=False)
