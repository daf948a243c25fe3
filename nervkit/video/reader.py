"""Any input to a Clip in memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nervkit.container.timing import Timing
from nervkit.container.track import Track
from nervkit.errors import ResourceError, SourceError, UsageError
from nervkit.video.clip import Clip
from nervkit.video.colour import check_colour_options
from nervkit.video.edit import Edit, parse_size
from nervkit.video.images import ArraySource, ImageSource, images_in, images_like
from nervkit.video.memory import available_memory, human_bytes
from nervkit.video.source import Picture, Source
from nervkit.video.streams import StreamSource
from nervkit.video.tracks import store_track

DEFAULT_FPS = Fraction(25)
RAW_NAME = re.compile(r"_(\d+)x(\d+)(?:_(\d+(?:\.\d+)?)(?:fps|hz)?)?(?=[_.]|$)", re.IGNORECASE)
MEMORY_SHARE = 0.8  # of the free memory may hold frames; the rest is the fit's


def read_clip(
    source: Any,
    *,
    start: str | float | None = None,
    frames: str | slice | None = None,
    crop: str | None = None,
    resize: str | tuple[int, int] | None = None,
    matrix: str | None = None,
    range: str | None = None,
    fps: str | float | Fraction | None = None,
    size: str | tuple[int, int] | None = None,
    pixel_format: str | None = None,
    strict: bool = False,
    on_picture: Callable[[Picture], None] | None = None,
) -> Clip:
    """Read a video into memory as 8-bit RGB.

    Args:
        source: a path to anything that PyAV opens, to a folder of images, a pattern such as
            "frames/%05d.png", a .npy file or raw .yuv; "-" for standard input; an array or
            tensor of frames: (T, H, W, 3) or (T, H, W), uint8 or float in [0, 1]; tensors also
            (T, 3, H, W).
        start: skip what is shown earlier than this; seconds, "1.5m" or "MM:SS".
        frames: "a:b" or a slice, counted from `start`.
        crop: "WxH" (centred) or "WxH+X+Y", after rotation.
        resize: "WxH" or (width, height), after the crop.
        matrix, range: override the stream's colour matrix and range.
        fps: rate of images, arrays and raw video that do not say (25 otherwise).
        size, pixel_format: of raw .yuv, where its name does not say.
        strict: refuse damaged input instead of keeping what is whole.
        on_picture: called with every Picture that is kept, before `edit` shapes it.

    Raises:
        SourceError: missing, empty, damaged beyond use, of mixed sizes.
        UsageError: an option is not understood, or does not fit the source.
        ResourceError: the frames would not fit into memory.
    """
    check_colour_options(matrix, range)
    edit = Edit.from_options(start, frames, crop, resize, matrix, range)
    opened = open_source(source, edit, fps=fps, size=size, pixel_format=pixel_format)
    return _Collector(opened, edit, on_picture).collect(strict)


def clip_of(source: Any, **reading: Any) -> Clip:
    """A Clip as it is; of anything else what `read_clip` reads. Raises UsageError where options of
    reading are given with a Clip."""
    if not isinstance(source, Clip):
        return read_clip(source, **reading)
    given = sorted(name for name, value in reading.items() if value not in (None, False))
    if given:
        raise UsageError(f"a Clip is taken as it is: {given[0]} does not apply")
    return source


def open_source(
    source: Any,
    edit: Edit,
    *,
    fps: str | float | Fraction | None = None,
    size: str | tuple[int, int] | None = None,
    pixel_format: str | None = None,
) -> Source:
    """The Source for any accepted input; see `read_clip`."""
    rate = None if fps is None else parse_rate(fps)
    if not isinstance(source, (str, Path)):
        return ArraySource(as_array(source), "array", rate or DEFAULT_FPS)
    name, path = str(source), Path(source)
    if name == "-":
        return StreamSource(sys.stdin.buffer, "standard input", edit)
    if "%" in name and not path.exists():
        return _default_rate(ImageSource(images_like(name), name, rate or DEFAULT_FPS), rate)
    if not path.exists():
        raise SourceError(f"{name}: no such file or folder")
    if path.is_dir():
        return _default_rate(ImageSource(images_in(path), name, rate or DEFAULT_FPS), rate)
    if path.suffix.lower() == ".npy":
        return _default_rate(ArraySource(open_array(path), name, rate or DEFAULT_FPS), rate)
    if path.stat().st_size == 0:
        raise SourceError(f"{name}: the file is empty")
    if path.suffix.lower() == ".yuv":
        return _open_raw(path, edit, rate, size, pixel_format)
    for option, value in (("--size", size), ("--pixel-format", pixel_format)):
        if value is not None:
            raise UsageError(f"{option} is for raw .yuv input; {name} says it itself")
    opened = StreamSource(name, name, edit)
    if rate is not None:
        opened.note("the file has timestamps of its own: --fps is not used")
    return opened


def open_array(path: str | Path) -> np.ndarray:
    """The array in a .npy file, of any shape and type, not yet in memory. Raises SourceError."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path}: not a readable .npy array ({error})") from error


def _open_raw(
    path: Path,
    edit: Edit,
    rate: Fraction | None,
    size: str | tuple[int, int] | None,
    pixel_format: str | None,
) -> Source:
    named = RAW_NAME.search(path.stem)
    if size is None and named is None:
        raise UsageError(
            f"{path}: raw video says neither size nor rate; name it like name_WxH_FPS.yuv, "
            "or give --size WxH, --fps and --pixel-format"
        )
    width, height = parse_size(size or f"{named[1]}x{named[2]}", "size")  # type: ignore[index]
    rate = rate or (parse_rate(named[3]) if named and named[3] else None)
    format = pixel_format or raw_format(path.stem)
    options = {"video_size": f"{width}x{height}", "pixel_format": format}
    options["framerate"] = str(rate or DEFAULT_FPS)
    source = _default_rate(StreamSource(str(path), str(path), edit, "rawvideo", options), rate)
    if pixel_format is None:
        source.note(f"raw video: taken as {width}x{height}, {format} (--pixel-format to change)")
    return source


def raw_format(stem: str) -> str:
    """The pixel format that a raw file's name tells: 4:2:0, 8 bits where it is silent."""
    chroma = next(
        (c for c in ("444", "422", "420") if re.search(rf"(?<!\d){c}(?!\d)", stem)), "420"
    )
    depth = re.search(r"(?<!\d)(10|12|16)[-_ ]?bits?", stem, re.IGNORECASE)
    return f"yuv{chroma}p" + (f"{depth[1]}le" if depth else "")


def parse_rate(fps: str | float | Fraction) -> Fraction:
    """Frames a second from 25, "59.94" or "30000/1001". Raises UsageError."""
    try:
        rate = Fraction(str(fps)).limit_denominator(10_000)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 100_000:
        raise UsageError(
            "fps must be a positive number (up to 100000) or a fraction such as 30000/1001, "
            f"not {fps!r}"
        )
    return rate


def _default_rate(source: Any, rate: Fraction | None) -> Any:
    if rate is None:
        source.note(f"no frame rate is given: taken as {DEFAULT_FPS} fps (--fps to change)")
    return source


def as_array(source: Any) -> np.ndarray:
    """An array, or a tensor with channels first or last, as an array with channels last."""
    if type(source).__module__.partition(".")[0] == "torch":
        first, source = channels_first(source), source.detach().cpu()
        if source.is_floating_point() and source.element_size() < 4:
            source = source.float()  # numpy has no bfloat16
        return (source.permute(0, 2, 3, 1) if first else source).numpy()
    if not isinstance(source, np.ndarray):
        raise UsageError(
            f"cannot read frames from {type(source).__name__}; give a path or an array"
        )
    return source


def channels_first(tensor: Any) -> bool:
    """Whether a tensor of frames is (T, C, H, W)."""
    return tensor.ndim == 4 and tensor.shape[1] in (1, 3) and tensor.shape[3] not in (1, 3)


class _Collector:
    """Gathers the wanted pictures of a source into one array."""

    def __init__(
        self, source: Source, edit: Edit, on_picture: Callable[[Picture], None] | None
    ) -> None:
        self.source, self.edit, self.on_picture = source, edit, on_picture
        self.frames = np.empty((0, 0, 0, 3), np.uint8)
        self.pts: list[int] = []
        self.passed = 0  # pictures seen in all
        self.skipped = 0  # of those, before the first that is kept
        self.after: int | None = None  # when the first picture past the end is shown
        self.last_duration: int | None = None
        self.repaired = 0

    def collect(self, strict: bool) -> Clip:
        self._take_pictures()
        source, edit = self.source, self.edit
        if source.damage and strict:
            raise SourceError(f"{source.name}: {source.damage}; --strict refuses it")
        if not self.pts:
            raise SourceError(self._why_empty())
        if source.damage:
            source.note(source.damage)
        if self.repaired:
            source.note(f"{self.repaired} frames had missing or repeated timestamps: spaced anew")
        ratio = edit.sample_aspect_ratio(source.sample_aspect_ratio, *self.full_size)
        timing = self._timing()
        first, last = timing.seconds
        tracks = self._tracks(first, last)
        if edit.trims:
            timing = Timing(timing.pts - timing.pts[0], timing.time_base, timing.duration)
        return Clip(
            frames=self.frames[: len(self.pts)],
            timing=timing,
            sample_aspect_ratio=ratio,
            colour=source.colour,
            tracks=tracks,
            source=source.description,
            edit=edit.to_dict(),
            skipped=self.skipped,
            notes=source.notes,
        )

    def _take_pictures(self) -> None:
        source, edit = self.source, self.edit
        origin = previous = None
        index = -1  # counted from `start`
        for picture in source.pictures():
            pts = previous = self._increasing(picture, previous)
            origin = pts if origin is None else origin
            self.passed += 1
            late = (pts - origin) * source.time_base >= edit.start
            index += late
            if not late or index < edit.first:
                self.skipped += 1
                continue
            if edit.stop is not None and index >= edit.stop:
                self.after = pts
                break
            self._keep(picture.rgb())
            if self.on_picture is not None:
                self.on_picture(picture)
            self.pts.append(pts)
            self.last_duration = picture.duration
        if self.after is not None:
            source.skip_rest()

    def _increasing(self, picture: Picture, previous: int | None) -> int:
        """The picture's pts, or where it is missing or not increasing the next that fits."""
        if picture.pts is not None and (previous is None or picture.pts > previous):
            return picture.pts
        self.repaired += 1
        return 0 if previous is None else previous + (picture.duration or 1)

    def _keep(self, rgb: np.ndarray) -> None:
        self.full_size = rgb.shape[1], rgb.shape[0]
        frame = self.edit.shape(rgb)
        kept = len(self.pts)
        if kept == 0:
            total = self.source.count()
            ahead = 1 if total is None else max(1, total - self.passed + 1)
            if self.edit.stop is not None:
                ahead = min(ahead, self.edit.stop - self.edit.first)
            self._reserve(ahead, frame.shape)
        elif frame.shape != self.frames.shape[1:]:
            height, width = self.frames.shape[1:3]
            raise SourceError(
                f"{self.source.name}: frame {self.passed - 1} has "
                f"{frame.shape[1]}x{frame.shape[0]} pixels, "
                f"the first one {width}x{height}; all must have one size (--resize WxH makes them)"
            )
        elif kept == len(self.frames):
            self._reserve(2 * kept, frame.shape)
        self.frames[kept] = frame

    def _reserve(self, count: int, shape: tuple[int, ...]) -> None:
        need, have = count * int(np.prod(shape)), available_memory()
        if need > MEMORY_SHARE * have:
            fits = int(MEMORY_SHARE * have / np.prod(shape))
            raise ResourceError(
                f"{self.source.name}: {count} frames of {shape[1]}x{shape[0]} take "
                f"{human_bytes(need)}, {human_bytes(have)} of memory are free; "
                f"keep fewer (--frames 0:{fits}) or smaller ones (--resize, --crop)"
            )
        grown = np.empty((count, *shape), np.uint8)
        grown[: len(self.frames)] = self.frames.reshape(-1, *shape)
        self.frames = grown

    def _timing(self) -> Timing:
        pts = np.array(self.pts, np.int64)
        if self.after is not None:
            duration = self.after - self.pts[-1]
        elif self.last_duration:
            duration = self.last_duration
        elif len(pts) > 1:
            duration = int(pts[-1] - pts[-2])
        else:
            duration = round(1 / (DEFAULT_FPS * self.source.time_base))
        return Timing(pts, self.source.time_base, max(1, duration))

    def _tracks(self, first: Fraction, last: Fraction) -> list[Track]:
        tracks = []
        for packets in self.source.side_packets():
            kind = packets[0].stream.type
            codec = packets[0].stream.codec_context.codec.canonical_name
            origin = Fraction(0)
            if self.edit.trims:
                origin = first
                packets = [p for p in packets if _starts_within(p, first, last)]
            track = store_track(packets, origin) if packets else None
            if track is not None:
                tracks.append(track)
            elif packets:
                self.source.note(f"the {kind} track ({codec}) cannot be stored: left out")
        return tracks

    def _why_empty(self) -> str:
        name, edit = self.source.name, self.edit.to_dict()
        if self.passed == 0:
            damage = f" ({self.source.damage})" if self.source.damage else ""
            return f"{name}: no frame can be decoded{damage}"
        chosen = ", ".join(f"--{k} {edit[k]}" for k in ("start", "frames") if k in edit)
        return f"{name}: {chosen} selects nothing: the source has {self.passed} frames"


def _starts_within(packet: Any, first: Fraction, last: Fraction) -> bool:
    time = packet.pts if packet.pts is not None else packet.dts
    return time is not None and first <= time * Fraction(packet.time_base) < last
