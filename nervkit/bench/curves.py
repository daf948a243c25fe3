"""What a run folder holds: its records, the curves through them, and the BD table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

from nervkit.bench.published import published_curves
from nervkit.errors import SourceError
from nervkit.metrics.bd import BD, NoOverlapError, bd_psnr, bd_rate

FORMAT = 1
METHODS = ("pchip", "akima")
#: a delta over less of the curves than this is marked wherever it is shown
THIN_OVERLAP = 0.5


class Metric(NamedTuple):
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
#: why a delta is refused where one of the curves lacks the metric
NOT_MEASURED = "not measured"
#: the PSNR that a run is judged by, for what its neural codecs are fitted for
PSNR_OF = {"rgb": "psnr_rgb", "yuv": "psnr_yuv"}
BD_METRICS = ("psnr_rgb", "psnr_yuv", "ms_ssim", "vmaf")

_SOURCE_KEYS = {
    "clip": str,
    "path": str,
    "colour": dict,
    "viewer_frames": list,
    "frames": int,
    "width": int,
    "height": int,
    "fps": (int, float),
}
_POINT_KEYS = {
    "clip": str,
    "codec": str,
    "profile": str,
    "point": str,
    "measures": dict,
    "bytes": int,
    "bpp": (int, float),
    "kbps": (int, float),
}
_SHOWN = (
    *("clip", "codec", "kind", "profile", "point", "bytes", "bytes_by_part", "bpp", "kbps"),
    *("measures", "encode_seconds", "encode_fps", "decode_seconds", "decode_write_seconds"),
    *("decode_fps", "peak_memory", "device_memory", "alone", "macs_per_pixel", "parameters"),
    *("device", "metric"),
)


@dataclass(frozen=True)
class Point:
    """One measured file: its record, and where that lies."""

    path: Path
    record: dict[str, Any]

    @property
    def series(self) -> tuple[str, str]:
        """Codec and profile: points that share both are one curve."""
        return self.record["codec"], self.record["profile"]

    def frame(self, index: int) -> Path:
        """Where the viewer's frame `index` is stored."""
        return self.path.with_suffix("") / f"{index:05}.png"


@dataclass(frozen=True)
class Curve:
    """The points of one codec with one profile on one clip, from the lowest rate up. `label` is
    the codec's name, with the profile where the run holds several of that codec."""

    label: str
    codec: str
    profile: str
    kind: str
    points: tuple[Point, ...]

    def rated(self, metric: str) -> list[tuple[float, float]]:
        """(bpp, quality) of the points for which `metric` is defined."""
        pairs = ((p.record["bpp"], p.record["measures"].get(metric)) for p in self.points)
        return [(rate, quality) for rate, quality in pairs if quality is not None]

    def frontier(self, metric: str) -> list[tuple[float, float]]:
        """The (bpp, quality) pairs that no other point beats: at a rate as low, a quality as
        high. Encoders at the end of their range give points that nobody would choose, and a curve
        through those has no Bjøntegaard delta."""
        pairs: list[tuple[float, float]] = []
        for rate, quality in sorted(self.rated(metric), key=lambda pair: (pair[0], -pair[1])):
            if not pairs or quality > pairs[-1][1]:
                pairs.append((rate, quality))
        return pairs

    def beaten(self) -> list[str]:
        """The points that are not on the frontier of every BD metric, a line each."""
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
    """A curve from a paper: of the clip itself, or `mean` over its dataset. `x` is bpp or
    parameters."""

    codec: str
    source: str
    note: str
    x: str
    metric: str
    points: list[list[float]]
    mean: bool


@dataclass(frozen=True)
class ClipResults:
    """All that was measured on one clip. Neural curves come first."""

    name: str
    folder: Path
    source: dict[str, Any]
    curves: tuple[Curve, ...]

    @property
    def points(self) -> list[Point]:
        return [point for curve in self.curves for point in curve.points]

    @property
    def psnr(self) -> str:
        """The PSNR that the clip is judged by, a key of METRICS."""
        return PSNR_OF[self.source.get("metric", "rgb")]

    @property
    def left_out(self) -> list[str]:
        """Points that enter no Bjøntegaard delta, and why."""
        return [line for curve in self.curves for line in curve.beaten()]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Of all its curves, computed once: tables, report and summary show the same."""
        return list(compare(self))

    def source_frame(self, index: int) -> Path:
        return self.folder / "source" / f"{index:05}.png"


@dataclass(frozen=True)
class Run:
    folder: Path
    clips: tuple[ClipResults, ...]

    @property
    def labels(self) -> list[str]:
        """Of all curves, neural ones first; a curve keeps its place here on every clip."""
        kinds = {c.label: c.kind for clip in self.clips for c in clip.curves}
        return sorted(kinds, key=lambda label: (kinds[label] != "neural", label))

    @property
    def psnr(self) -> str:
        """The PSNR that all clips are judged by, a key of METRICS; of RGB where they differ."""
        (own, *others) = {clip.psnr for clip in self.clips}
        return PSNR_OF["rgb"] if others else own

    @property
    def comparisons(self) -> list[Comparison]:
        """Of all clips."""
        return [c for clip in self.clips for c in clip.comparisons]


@dataclass(frozen=True)
class Delta:
    """A Bjontegaard delta: its value over the curves' overlap, or why it was refused."""

    value: float | None = None
    overlap: float | None = None
    interval: tuple[float, float] | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Comparison:
    """`rate` in percent of the anchor's bytes at equal quality, `quality` in the metric's unit at
    equal bytes."""

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
    """A comparison over clips; `clips` hold both curves, though not all may have a delta."""

    anchor: str
    test: str
    metric: str
    method: str
    clips: int
    rate: Mean
    quality: Mean


def load_run(folder: Path) -> Run:
    """Read a run folder, or the folder of one clip. Clips that hold no points yet are left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    clips = [folder] if (folder / "source.json").exists() else sorted(folder.iterdir())
    read = [_read_clip(clip) for clip in clips if clip.is_dir()]
    measured = [(clip, source, points) for clip, source, points in read if points]
    if not measured:
        raise SourceError(f"{folder}: holds no benchmark records")
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
    """What papers report for the clip, or else for its dataset."""
    dataset = clip.source.get("dataset")
    found = []
    for curve in published_curves(dataset):
        own = curve.get("clips", {}).get(clip.name)
        # Bunny is a dataset of one clip.
        mean = own is None and dataset.partition("@")[0] != clip.name
        texts = (curve[key] for key in ("codec", "source", "note", "x", "metric"))
        found.append(Published(*texts, points=own or curve["points"], mean=mean))
    return found


def mixed_versions(run: Run) -> list[str]:
    """Curves whose points were made by different software, a line each."""
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
                f"{clip.name}: {curve.label} has points of different software ({versions})"
            )
    return lines


def compare(clip: ClipResults) -> Iterator[Comparison]:
    """Every codec against every anchor codec, by each BD metric and method."""
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
    """The mean over clips of each pair of curves that several clips hold."""
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
    """What `--json` prints: the sources, the points without their frames, the BD table."""
    return {
        "sources": [clip.source for clip in run.clips],
        "points": [
            {key: point.record.get(key) for key in _SHOWN}
            for clip in run.clips
            for point in clip.points
        ],
        "bd": [asdict(c) for c in run.comparisons],
        "bd_left_out": {clip.name: clip.left_out for clip in run.clips},
        "bd_mean": [asdict(c) for c in mean_comparisons(run.comparisons)],
    }


def _read_clip(folder: Path) -> tuple[Path, dict[str, Any], list[Point]]:
    """A clip's folder, source record and points; no points where it is another folder."""
    paths = [p for p in sorted(folder.glob("*.json")) if not p.name.startswith(".")]
    points = [p for p in paths if p.name != "source.json"]
    if not points:
        return folder, {}, []
    if len(points) == len(paths):
        raise SourceError(f"{folder}: holds point records but no source.json")
    source_path = folder / "source.json"
    source = _record(source_path, _SOURCE_KEYS)
    if not all(_is(index, int) and index >= 0 for index in source["viewer_frames"]):
        raise SourceError(f"{source_path}: damaged record: a viewer frame is not a number")
    if source.get("metric", "rgb") not in tuple(PSNR_OF):
        raise SourceError(f"{source_path}: damaged record: metric is neither rgb nor yuv")
    return folder, source, [_read_point(path, source_path, source) for path in points]


def _read_point(path: Path, source_path: Path, source: dict[str, Any]) -> Point:
    record = _record(path, _POINT_KEYS)
    if record.get("kind") not in ("neural", "anchor"):
        raise SourceError(f"{path}: damaged record: kind is neither neural nor anchor")
    if record["bytes"] <= 0 or record["bpp"] <= 0 or record["kbps"] <= 0:
        raise SourceError(f"{path}: damaged record: a rate is not positive")
    per_frame = record.get("per_frame") or {}
    if not isinstance(per_frame, dict) or not all(isinstance(v, list) for v in per_frame.values()):
        raise SourceError(f"{path}: damaged record: per_frame is not lists")
    values = chain(record["measures"].values(), *per_frame.values())
    if not all(value is None or _is(value, (int, float)) for value in values):
        raise SourceError(f"{path}: damaged record: a measure is not a number")
    for key, of in (("clip", "clip"), ("source_sha256", "sha256")):
        if record.get(key) != source.get(of):
            raise SourceError(f"{path}: was measured on another source than {source_path}")
    return Point(path, record)


def _record(path: Path, keys: dict[str, Any]) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes(), parse_constant=_not_json)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{path}: damaged record: {error}") from error
    if not isinstance(record, dict):
        raise SourceError(f"{path}: damaged record: not an object")
    if record.get("format") != FORMAT:
        raise SourceError(f"{path}: a record of format {record.get('format')}, this reads {FORMAT}")
    for key, kind in keys.items():
        if not _is(record.get(key), kind):
            raise SourceError(f"{path}: damaged record: {key} is missing or of another kind")
    return record


def _is(value: object, kind: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, kind) and not (isinstance(value, float) and not math.isfinite(value))


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _curves(points: list[Point], profiles: dict[str, set[str]]) -> tuple[Curve, ...]:
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
