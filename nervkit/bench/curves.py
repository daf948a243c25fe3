"""The results of a run folder: points, curves and Bjøntegaard deltas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

from nervkit.bench.published import published_curves
from nervkit.bench.records import SOURCE_NAME, Kind, Record, has_kind, load_record, point_paths
from nervkit.errors import SourceError
from nervkit.metrics.bd import BD, NoOverlapError, bd_psnr, bd_rate

METHODS = ("pchip", "akima")
#: a delta whose overlap is smaller than this is marked in tables and report
THIN_OVERLAP = 0.5


class Metric(NamedTuple):
    """How a metric is printed."""

    label: str
    unit: str
    digits: int


METRICS = {
    "psnr_rgb": Metric("PSNR RGB", "dB", 2),
    "psnr_rgb_mse": Metric("PSNR of mean MSE", "dB", 2),
    "psnr_yuv": Metric("PSNR YUV", "dB", 2),
    "psnr_y": Metric("PSNR Y", "dB", 2),
    "ssim": Metric("SSIM", "", 4),
    "ms_ssim": Metric("MS-SSIM", "", 4),
    "vmaf": Metric("VMAF", "", 2),
}
#: the reason for refusing a delta if one of the curves lacks the metric
NOT_MEASURED = "not measured"
#: the PSNR that a run is judged by, by the metric that its neural codecs are fitted for
PSNR_OF = {"rgb": "psnr_rgb", "yuv": "psnr_yuv"}
BD_METRICS = ("psnr_rgb", "psnr_yuv", "ms_ssim", "vmaf")

_SOURCE_KEYS: dict[str, Kind] = {
    "clip": str,
    "path": str,
    "colour": dict,
    "viewer_frames": list,
    "frames": int,
    "width": int,
    "height": int,
    "fps": (int, float),
}
_POINT_KEYS: dict[str, Kind] = {
    "clip": str,
    "codec": str,
    "profile": str,
    "point": str,
    "measures": dict,
    "bytes": int,
    "bpp": (int, float),
    "kbps": (int, float),
}
#: keys of a point record that `summary` has
_SUMMARY_KEYS = (
    *("clip", "codec", "kind", "profile", "point", "bytes", "bytes_by_part", "bpp", "kbps"),
    *("measures", "encode_seconds", "encode_fps", "decode_seconds", "decode_write_seconds"),
    *("decode_fps", "peak_memory", "device_memory", "alone", "macs_per_pixel", "parameters"),
    *("device", "metric"),
)


@dataclass(frozen=True)
class Point:
    """One measured file: its record, and the record's path."""

    path: Path
    record: Record

    @property
    def series(self) -> tuple[str, str]:
        """Codec and profile. Points that share both form a curve."""
        return self.record["codec"], self.record["profile"]

    def frame(self, index: int) -> Path:
        """Return the path of the stored viewer frame `index`."""
        return self.path.with_suffix("") / f"{index:05}.png"


@dataclass(frozen=True)
class Curve:
    """The points of one codec with one profile on one clip, by ascending rate. `label` is the
    codec's name, with the profile if the run has several profiles of that codec."""

    label: str
    codec: str
    profile: str
    kind: str
    points: tuple[Point, ...]

    def rated(self, metric: str) -> list[tuple[float, float]]:
        """Return (bpp, quality) of the points that have `metric`."""
        pairs = ((p.record["bpp"], p.record["measures"].get(metric)) for p in self.points)
        return [(rate, quality) for rate, quality in pairs if quality is not None]

    def frontier(self, metric: str) -> list[tuple[float, float]]:
        """Return the Pareto-optimal (bpp, quality) pairs. At the ends of their range, encoders
        make dominated points, and a curve through those has no Bjøntegaard delta."""
        pairs: list[tuple[float, float]] = []
        for rate, quality in sorted(self.rated(metric), key=lambda pair: (pair[0], -pair[1])):
            if not pairs or quality > pairs[-1][1]:
                pairs.append((rate, quality))
        return pairs

    def dominated(self) -> list[str]:
        """Return a line for each point that is off the frontier of some BD metric."""
        lines = []
        for point in self.points:
            metrics = [
                METRICS[metric].label
                for metric in BD_METRICS
                if point.record["measures"].get(metric) is not None
                and (point.record["bpp"], point.record["measures"][metric])
                not in self.frontier(metric)
            ]
            if metrics:
                name, labels = point.record["point"], ", ".join(metrics)
                lines.append(f"{self.label} {name}: another point is better and smaller ({labels})")
        return lines


@dataclass(frozen=True)
class Published:
    """A curve from a paper: of the clip, or with `mean` over its dataset. `x` names the horizontal
    axis, bpp or parameters."""

    codec: str
    source: str
    note: str
    x: str
    metric: str
    points: list[list[float]]
    mean: bool


@dataclass(frozen=True)
class ClipResults:
    """All measurements on one clip. Neural curves come first."""

    name: str
    folder: Path
    source: Record
    curves: tuple[Curve, ...]

    @property
    def points(self) -> list[Point]:
        """The points of all curves."""
        return [point for curve in self.curves for point in curve.points]

    @property
    def psnr(self) -> str:
        """The PSNR that the clip is judged by, a key of METRICS."""
        return PSNR_OF[self.source.get("metric", "rgb")]

    @property
    def left_out(self) -> list[str]:
        """One line for each point that enters no Bjøntegaard delta."""
        return [line for curve in self.curves for line in curve.dominated()]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The deltas of all pairs of curves, computed once for tables, report and summary."""
        return list(compare(self))

    def source_frame(self, index: int) -> Path:
        """Return the path of the stored source frame `index`."""
        return self.folder / "source" / f"{index:05}.png"


@dataclass(frozen=True)
class Run:
    """The results of a run folder."""

    folder: Path
    clips: tuple[ClipResults, ...]

    @property
    def labels(self) -> list[str]:
        """The labels of all curves, neural ones first. The order is the same for every clip."""
        kinds = {c.label: c.kind for clip in self.clips for c in clip.curves}
        return sorted(kinds, key=lambda label: (kinds[label] != "neural", label))

    @property
    def psnr(self) -> str:
        """The PSNR that all clips are judged by, a key of METRICS; that of RGB if they differ."""
        (own, *others) = {clip.psnr for clip in self.clips}
        return PSNR_OF["rgb"] if others else own

    @property
    def comparisons(self) -> list[Comparison]:
        """The deltas of all clips."""
        return [c for clip in self.clips for c in clip.comparisons]


@dataclass(frozen=True)
class Delta:
    """A Bjøntegaard delta: its value over the curves' overlap, or the reason for refusing it."""

    value: float | None = None
    overlap: float | None = None
    interval: tuple[float, float] | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The deltas of one pair of curves: `rate` in percent of the anchor's bytes at equal quality,
    `quality` in the metric's unit at equal bytes."""

    clip: str
    anchor: str
    test: str
    metric: str
    method: str
    rate: Delta
    quality: Delta


@dataclass(frozen=True)
class Mean:
    """The plain mean of `clips` per-clip deltas, and the smallest overlap among them."""

    value: float | None
    overlap: float | None
    clips: int


@dataclass(frozen=True)
class MeanComparison:
    """The mean deltas of one pair of curves. `clips` counts the clips that have both curves; some
    may have no delta."""

    anchor: str
    test: str
    metric: str
    method: str
    clips: int
    rate: Mean
    quality: Mean


def load_run(folder: Path) -> Run:
    """Read a run folder, or the folder of one clip. Clips without points are left out.

    Raises:
        SourceError: the folder is missing or has no records, or a record is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    clips = [folder] if (folder / SOURCE_NAME).exists() else sorted(folder.iterdir())
    read = [_read_clip(clip) for clip in clips if clip.is_dir()]
    measured = [(clip, source, points) for clip, source, points in read if points]
    if not measured:
        raise SourceError(f"{folder}: holds no benchmark records; give the --out folder of a run")
    profiles: dict[str, set[str]] = {}
    for _, _, points in measured:
        for point in points:
            codec, profile = point.series
            profiles.setdefault(codec, set()).add(profile)
    return Run(
        folder,
        tuple(
            ClipResults(source["clip"], clip, source, _curves(points, profiles))
            for clip, source, points in measured
        ),
    )


def published(clip: ClipResults) -> list[Published]:
    """Return the published curves of the clip, or of its dataset."""
    dataset: str | None = clip.source.get("dataset")
    if dataset is None:
        return []
    found = []
    for curve in published_curves(dataset):
        own = curve.get("clips", {}).get(clip.name)
        # Bunny is a dataset of one clip.
        mean = own is None and dataset.partition("@")[0] != clip.name
        found.append(
            Published(
                codec=curve["codec"],
                source=curve["source"],
                note=curve["note"],
                x=curve["x"],
                metric=curve["metric"],
                points=own or curve["points"],
                mean=mean,
            )
        )
    return found


def mixed_versions(run: Run) -> list[str]:
    """Return a line for each curve whose points were made by different software versions."""
    lines = []
    for clip, curve in ((c, curve) for c in run.clips for curve in c.curves):
        seen: dict[str, set[str]] = {}
        for point in curve.points:
            for name, version in (point.record.get("versions") or {}).items():
                seen.setdefault(name, set()).add(version)
        differing = [f"{name} {', '.join(sorted(of))}" for name, of in seen.items() if len(of) > 1]
        if differing:
            versions = "; ".join(differing)
            lines.append(
                f"{clip.name}: {curve.label} mixes points of different software ({versions})"
            )
    return lines


def compare(clip: ClipResults) -> Iterator[Comparison]:
    """Yield the deltas of every codec against every anchor, by each BD metric and method."""
    anchors = [curve for curve in clip.curves if curve.kind == "anchor"]
    for anchor, test in product(anchors, clip.curves):
        if test is anchor:
            continue
        for metric, method in product(BD_METRICS, METHODS):
            curves = anchor.frontier(metric), test.frontier(metric)
            yield Comparison(
                *(clip.name, anchor.label, test.label, metric, method),
                rate=_delta(bd_rate, *curves, method),
                quality=_delta(bd_psnr, *curves, method),
            )


def mean_comparisons(comparisons: list[Comparison]) -> list[MeanComparison]:
    """Return the mean deltas of each pair of curves that several clips have."""
    groups: dict[tuple[str, str, str, str], list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault((c.anchor, c.test, c.metric, c.method), []).append(c)
    return [
        MeanComparison(
            *key,
            clips=len(group),
            rate=_mean([c.rate for c in group]),
            quality=_mean([c.quality for c in group]),
        )
        for key, group in groups.items()
        if len(group) > 1
    ]


def summary(run: Run) -> dict[str, Any]:
    """Return the object that `--json` prints: sources, points without per-frame values, deltas."""
    return {
        "sources": [clip.source for clip in run.clips],
        "points": [
            {key: point.record.get(key) for key in _SUMMARY_KEYS}
            for clip in run.clips
            for point in clip.points
        ],
        "bd": [asdict(c) for c in run.comparisons],
        "bd_left_out": {clip.name: clip.left_out for clip in run.clips},
        "bd_mean": [asdict(c) for c in mean_comparisons(run.comparisons)],
    }


def _read_clip(folder: Path) -> tuple[Path, Record, list[Point]]:
    """Return the folder, its source record and its points; no points if it is no clip's folder."""
    paths, source_path = point_paths(folder), folder / SOURCE_NAME
    if not paths:
        return folder, {}, []
    if not source_path.exists():
        raise SourceError(f"{folder}: holds point records but no source.json")
    source = load_record(source_path, _SOURCE_KEYS)
    if not all(has_kind(index, int) and index >= 0 for index in source["viewer_frames"]):
        raise SourceError(f"{source_path}: damaged record: a viewer frame is not an index")
    if source.get("metric", "rgb") not in tuple(PSNR_OF):
        raise SourceError(f"{source_path}: damaged record: metric is neither rgb nor yuv")
    return folder, source, [_read_point(path, source_path, source) for path in paths]


def _read_point(path: Path, source_path: Path, source: Record) -> Point:
    record = load_record(path, _POINT_KEYS)
    if record.get("kind") not in ("neural", "anchor"):
        raise SourceError(f"{path}: damaged record: kind is neither neural nor anchor")
    if record["bytes"] <= 0 or record["bpp"] <= 0 or record["kbps"] <= 0:
        raise SourceError(f"{path}: damaged record: a rate is not positive")
    per_frame = record.get("per_frame") or {}
    if not isinstance(per_frame, dict) or not all(isinstance(v, list) for v in per_frame.values()):
        raise SourceError(f"{path}: damaged record: a value of per_frame is not a list")
    values = chain(record["measures"].values(), *per_frame.values())
    if not all(value is None or has_kind(value, (int, float)) for value in values):
        raise SourceError(f"{path}: damaged record: a measure is not a number")
    for key, of in (("clip", "clip"), ("source_sha256", "sha256")):
        if record.get(key) != source.get(of):
            raise SourceError(f"{path}: was measured on another source than {source_path}")
    return Point(path, record)


def _curves(points: list[Point], profiles: dict[str, set[str]]) -> tuple[Curve, ...]:
    """Group points into curves. `profiles` has all profiles of each codec in the run."""
    series: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda p: p.record["bpp"]):
        series.setdefault(point.series, []).append(point)
    curves = [
        Curve(
            label=codec if len(profiles[codec]) == 1 else f"{codec} ({profile})",
            codec=codec,
            profile=profile,
            kind=of[0].record["kind"],
            points=tuple(of),
        )
        for (codec, profile), of in series.items()
    ]
    return tuple(sorted(curves, key=lambda c: (c.kind != "neural", c.label)))


def _delta(
    function: Callable[..., BD],
    anchor: list[tuple[float, float]],
    test: list[tuple[float, float]],
    method: str,
) -> Delta:
    """Compute a delta by `function`, or return why there is none."""
    if not anchor or not test:
        return Delta(refused=NOT_MEASURED)
    try:
        found = function(anchor, test, method)
    except NoOverlapError as error:
        return Delta(refused=str(error))
    if not math.isfinite(found.value):
        return Delta(refused="the curves are too far apart for a number")
    return Delta(found.value, found.overlap, found.interval)


def _mean(deltas: list[Delta]) -> Mean:
    values = [d.value for d in deltas if d.value is not None]
    if not values:
        return Mean(None, None, 0)
    overlap = min(d.overlap for d in deltas if d.overlap is not None)
    return Mean(sum(values) / len(values), overlap, len(values))
