"""The rate-distortion plot for a paper: one panel for each clip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nervkit.bench.curves import METRICS, ClipResults, Run, published
from nervkit.errors import MissingDependencyError, UsageError
from nervkit.output import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's colours are distinguishable with any colour vision, and in print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^DvPX"
_PANEL = (3.5, 2.8)  # inches: a column of a paper


def write_plot(run: Run, output: Path, metric: str | None = None) -> None:
    """Draw quality over bpp, on a logarithmic axis, to a .png, .svg or .pdf file. Published curves
    are dashed.

    Args:
        metric: a key of METRICS; None: the PSNR that the run is judged by.

    Raises:
        UsageError: an unknown suffix or metric.
        MissingDependencyError: matplotlib is not installed.
    """
    metric = metric or run.psnr
    output = Path(output)
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output}: unknown plot format; use one of {', '.join(SUFFIXES)}")
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}; choose from: {', '.join(METRICS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install nervkit[bench]") from error

    columns = min(3, math.ceil(math.sqrt(len(run.clips))))
    rows = math.ceil(len(run.clips) / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    styles = {
        label: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, label in enumerate(run.labels)
    }
    for axes, clip in zip(panels, run.clips, strict=False):
        _draw(axes, clip, metric, styles)
    for axes in panels[len(run.clips) :]:
        axes.set_visible(False)
    drawn = {line.get_label(): line for axes in panels for line in axes.lines}
    figure.legend(
        handles=list(drawn.values()),
        loc="outside lower center",
        ncols=2 * columns,
        fontsize=7,
        frameon=False,
    )
    with replacing(output) as partial:
        figure.savefig(partial, dpi=200)


def _draw(axes: Axes, clip: ClipResults, metric: str, styles: dict[str, Any]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for curve in clip.curves:
        points = curve.rated(metric)
        if points:
            lines = 1.8 if curve.kind == "neural" else 1.0
            drawn = {"linewidth": lines, "markersize": 4.5, **styles[curve.label]}
            axes.plot(*zip(*points, strict=True), label=_text(curve.label), **drawn)
    for index, paper in enumerate(published(clip)):
        if paper.x == "bpp" and paper.metric == metric and not paper.mean:
            axes.plot(
                *zip(*paper.points, strict=True),
                label=_text(f"{paper.codec}, published"),
                color="0.45",
                linestyle="--",
                linewidth=1.0,
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                markerfacecolor="none",
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(_text(clip.name), fontsize=9)
    axes.set_xlabel("bpp", fontsize=8)
    shown = METRICS[metric]
    axes.set_ylabel(f"{shown.label} [{shown.unit}]" if shown.unit else shown.label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _text(name: str) -> str:
    """Escape dollar signs, which start mathematics in matplotlib."""
    return name.replace("$", r"\$")
