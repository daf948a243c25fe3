"""Reading of any input into a Clip."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias, TypedDict, TypeGuard

import numpy as np

from nervkit.choices import MatrixName, RangeName
from nervkit.errors import SourceError, UsageError
from nervkit.keywords import checked_keywords, option, setting
from nervkit.output import is_pipe
from nervkit.units import parse_rate, parse_size
from nervkit.video.arrays import FrameSource, as_array
from nervkit.video.clip import Clip
from nervkit.video.collector import Collector
from nervkit.video.colour import check_colour_options
from nervkit.video.edit import Edit
from nervkit.video.images import (
    EXTENSIONS,
    ArraySource,
    ImageSource,
    image_source,
    images_in,
    images_like,
    is_pattern,
)
from nervkit.video.opening import URL, Target, can_seek
from nervkit.video.selection import Selection
from nervkit.video.source import Picture, Source
from nervkit.video.streams import DEFAULT_FPS, StreamSource, fps_unused

FileSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
VideoSource: TypeAlias = "FileSource | FrameSource | Clip"

RAW_NAME = re.compile(r"_(\d+)x(\d+)(?:_(\d+(?:\.\d+)?)(?:fps|hz)?)?(?=[_.]|$)", re.IGNORECASE)


class UntimedOptions(TypedDict, total=False):
    """ReadingOptions without the frame rate."""

    start: str | float | None
    to: str | float | None
    duration: str | float | None
    frames: str | int | slice | None
    crop: str | tuple[int, ...] | None
    resize: str | int | tuple[int, int] | None
    matrix: MatrixName | None
    range: RangeName | None
    stream: str | int | None
    audio: bool
    subtitles: bool
    size: str | tuple[int, int] | None
    pixel_format: str | None
    strict: bool
    allow_network: bool


class ReadingOptions(UntimedOptions, total=False):
    """The options that other functions pass on to `read_clip`."""

    fps: str | float | Fraction | None


READING = tuple(ReadingOptions.__annotations__)


@dataclass(frozen=True)
class Reading:
    """The parsed options of `read_clip`, picklable."""

    edit: Edit = field(default_factory=Edit)
    fps: Fraction | None = None
    size: str | tuple[int, int] | None = None
    pixel_format: str | None = None
    strict: bool = False
    allow_network: bool = False

    @classmethod
    def from_options(
        cls,
        *,
        fps: str | float | Fraction | None = None,
        size: str | tuple[int, int] | None = None,
        pixel_format: str | None = None,
        strict: bool = False,
        allow_network: bool = False,
        **edit: Any,
    ) -> Self:
        """Parse the options of `read_clip`. Raises UsageError."""
        check_colour_options(edit.get("matrix"), edit.get("range"))
        return cls(
            edit=Edit.from_options(**edit),
            fps=None if fps is None else parse_rate(fps),
            size=None if size is None else parse_size(size, option("size")),
            pixel_format=pixel_format,
            strict=strict,
            allow_network=allow_network,
        )

    def open(self, source: Any) -> Source:
        """Open a source; see `read_clip`."""
        return open_source(
            source,
            self.edit,
            fps=self.fps,
            size=self.size,
            pixel_format=self.pixel_format,
            allow_network=self.allow_network,
        )


@checked_keywords
def read_clip(
    source: VideoSource,
    *,
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
    on_picture: Callable[[Picture], None] | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Clip:
    """Read a video into memory as 8-bit RGB.

    Args:
        source: a path to anything that PyAV opens (also a FIFO or /dev/stdin), to an image, to a
            folder of images, a pattern such as "frames/%05d.png", a .npy file or raw .yuv; "-"
            for standard input; the bytes of a video file, or a binary file object (a seekable one
            is read from its beginning; it stays open); frames in memory: an array or tensor on any
            device, (T, H, W, 3), (T, 3, H, W) or (T, H, W), uint8 or float in [0, 1], or a list of
            frames; or a Clip, which is returned unchanged. A string that names an existing file is
            always a path.
        start: drop frames before this time: seconds, "1.5m" or "MM:SS".
        to: drop frames at or after this time.
        duration: length of the clip from `start`, instead of `to`.
        frames: "a:b", a slice or the index of one frame, counted from `start`.
        crop: "WxH" or (w, h), centred, or "WxH+X+Y" or (w, h, x, y), in pixels, after rotation.
        resize: "WxH" or (width, height), after the crop. A side of -1 keeps the aspect ratio, -2
            does so and is even; a width alone (640) means 640x-2.
        matrix: colour matrix, overrides the stream's.
        range: colour range, overrides the stream's.
        stream: index of the video stream, from 0. The default is ffmpeg's choice.
        audio, subtitles: whether to keep these tracks.
        fps: frame rate of images, arrays and raw video; 25 by default.
        size: "WxH" of raw .yuv, if its name does not have it.
        pixel_format: pixel format of raw .yuv, if its name does not have it.
        strict: refuse damaged input. By default the intact frames are kept.
        allow_network: also open URLs (https://...), and playlists with the files they refer to.
        on_picture: called with every kept Picture, before crop and resize.
        on_progress: called with (frames read, total frames); the total is None if it is unknown
            before the end.

    Raises:
        SourceError: the source is missing, empty, damaged beyond use, or has mixed frame sizes.
        UsageError: an option is invalid or does not fit the source; the source is a single frame.
        ResourceError: the frames do not fit into memory.
    """
    options: ReadingOptions = {
        "start": start,
        "to": to,
        "duration": duration,
        "frames": frames,
        "crop": crop,
        "resize": resize,
        "matrix": matrix,
        "range": range,
        "stream": stream,
        "audio": audio,
        "subtitles": subtitles,
        "fps": fps,
        "size": size,
        "pixel_format": pixel_format,
        "strict": strict,
        "allow_network": allow_network,
    }
    if isinstance(source, Clip):
        if given := changed_options(options):
            raise UsageError(
                f"{option(given[0])} does not apply to a Clip, which is used unchanged"
            )
        return source
    reading = Reading.from_options(**options)
    selection = Selection(reading.open(source), reading.edit)
    if on_progress is not None:
        on_picture = _counting(on_picture, selection.source.count(), on_progress)
    return Collector(selection, on_picture).collect(reading.strict)


def changed_options(reading: Mapping[str, Any]) -> list[str]:
    """Return the sorted names of the options of `read_clip` that differ from their defaults."""
    on = ("audio", "subtitles")
    return sorted(k for k, v in reading.items() if v is not None and v is not (k in on))


def open_source(
    source: VideoSource,
    edit: Edit,
    *,
    fps: str | float | Fraction | None = None,
    size: str | tuple[int, int] | None = None,
    pixel_format: str | None = None,
    allow_network: bool = False,
) -> Source:
    """Open any supported input; see `read_clip`."""
    rate = None if fps is None else parse_rate(fps)
    if not isinstance(source, (str, os.PathLike)):
        if isinstance(source, (bytes, bytearray, memoryview)) or _is_file_object(source):
            return _open_object(Target.of_object(source), edit, rate, size, pixel_format)
        return ArraySource(as_array(source), "array", rate or DEFAULT_FPS)
    name, path = os.fspath(source), Path(source)
    if not name:
        raise UsageError("the source name is empty")
    if name != "-" and not exists(name):
        return _open_absent(name, edit, rate, allow_network)
    if path.is_dir():
        return _default_rate(ImageSource(images_in(path), name, rate or DEFAULT_FPS), rate)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _default_rate(ArraySource(open_array(path), name, rate or DEFAULT_FPS), rate)
    target = _target(name, allow_network)
    if suffix == ".yuv" or (target.path is None and size is not None):
        return _open_raw(target, edit, rate, size, pixel_format)
    _check_not_raw(target, size, pixel_format)
    if suffix in EXTENSIONS and target.path is not None:
        image = image_source(path, name, rate or DEFAULT_FPS)
        if isinstance(image, ImageSource):
            return _default_rate(image, rate)
        if image is not None:
            if rate is not None:
                image.note(fps_unused())
            return image
    return StreamSource(target, edit, rate)


def _open_object(
    target: Target,
    edit: Edit,
    rate: Fraction | None,
    size: str | tuple[int, int] | None,
    pixel_format: str | None,
) -> Source:
    """Open bytes or a file object: raw video if `size` is given, else a video file."""
    if size is not None:
        return _open_raw(target, edit, rate, size, pixel_format)
    _check_not_raw(target, size, pixel_format)
    return StreamSource(target, edit, rate)


def _counting(
    on_picture: Callable[[Picture], None] | None,
    total: int | None,
    on_progress: Callable[[int, int | None], None],
) -> Callable[[Picture], None]:
    """Wrap the callback so that it also reports the number of pictures."""
    counter = count(1)

    def counted(picture: Picture) -> None:
        if on_picture is not None:
            on_picture(picture)
        on_progress(next(counter), total)

    return counted


def _check_not_raw(
    target: Target, size: str | tuple[int, int] | None, pixel_format: str | None
) -> None:
    for name, value in (("size", size), ("pixel_format", pixel_format)):
        if value is not None:
            raise UsageError(f"{option(name)} is for raw .yuv input, and {target.name} is not raw")


def is_single_use(source: VideoSource) -> bool:
    """Whether a source can be opened only once: standard input, a pipe, or a file object that
    cannot seek."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) == "-" or is_pipe(Path(source))
    return _is_file_object(source) and not can_seek(source)


def _is_file_object(source: object) -> TypeGuard[BinaryIO]:
    return hasattr(source, "read")


def exists(name: str) -> bool:
    """Whether a file, folder or pipe has this name; False for a name that no file can have."""
    try:
        return Path(name).exists()
    except OSError:  # the name is too long, or its folder is not accessible
        return False


def title_of(name: str | os.PathLike[str]) -> str:
    """Return a title for a source: its file or folder name, or for a generic name such as images/
    or %05d.png that of the parent folder."""
    path = Path(name)
    generic = "%" in path.name or path.name.lower() in ("frames", "images")
    return path.absolute().parent.name if generic else path.stem


def _open_absent(name: str, edit: Edit, rate: Fraction | None, allow_network: bool) -> Source:
    """Open a name that is no existing file or folder: a pattern or a URL. Raises SourceError."""
    if URL.match(name):
        if allow_network:
            return StreamSource(Target(name, url=name, allow_network=True), edit, rate)
        raise SourceError(f"{name}: to open a URL, set {setting('allow_network', True)}")
    if is_pattern(name):
        return _default_rate(ImageSource(images_like(name), name, rate or DEFAULT_FPS), rate)
    raise SourceError(f"{name}: no such file or folder")


def _target(name: str, allow_network: bool) -> Target:
    """Return the target for a regular file or a pipe. Raises SourceError."""
    if name == "-":
        if sys.stdin is None:
            raise SourceError("standard input is closed")
        return Target("standard input", pipe=sys.stdin.buffer)
    path = Path(name)
    if path.is_file():
        if path.stat().st_size == 0:
            raise SourceError(f"{name}: the file is empty")
        return Target(name, path=path, allow_network=allow_network)
    try:
        return Target(name, pipe=path.open("rb"))
    except OSError as error:
        raise SourceError(f"{name}: cannot be read ({error.strerror or error})") from error


def open_array(path: str | Path) -> np.ndarray:
    """Memory-map the array in a .npy file, of any shape and type. Raises SourceError."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path}: not a readable .npy array ({error})") from error


def _open_raw(
    target: Target,
    edit: Edit,
    rate: Fraction | None,
    size: str | tuple[int, int] | None,
    pixel_format: str | None,
) -> Source:
    stem = Path(target.name).stem
    named = RAW_NAME.search(stem)
    if size is None and named is None:
        raise UsageError(
            f"{target.name}: raw video has no header; name it like name_WxH_FPS.yuv, "
            f"or set {option('size')} (WxH), {option('fps')} and {option('pixel_format')}"
        )
    if size is None and named is not None:
        size = f"{named[1]}x{named[2]}"
    width, height = parse_size(size or "", option("size"))
    rate = rate or (parse_rate(named[3]) if named and named[3] else None)
    format = pixel_format or raw_format(stem)
    options = {"video_size": f"{width}x{height}", "pixel_format": format}
    options["framerate"] = str(rate or DEFAULT_FPS)
    raw = StreamSource(replace(target, format="rawvideo", options=options), edit, rate)
    source = _default_rate(raw, rate)
    if pixel_format is None:
        source.note(
            f"raw video has no header; nervkit assumes {width}x{height}, {format} "
            f"(set {option('pixel_format')} to change it)"
        )
    return source


def raw_format(stem: str) -> str:
    """Return the pixel format that a raw file's name implies; by default 4:2:0 with 8 bits."""
    chroma = next(
        (c for c in ("444", "422", "420") if re.search(rf"(?<!\d){c}(?!\d)", stem)), "420"
    )
    depth = re.search(r"(?<!\d)(10|12|16)[-_ ]?bits?", stem, re.IGNORECASE)
    return f"yuv{chroma}p" + (f"{depth[1]}le" if depth else "")


def _default_rate(source: Source, rate: Fraction | None) -> Source:
    if rate is None:
        source.note(
            f"the source has no frame rate; nervkit assumes {DEFAULT_FPS} fps "
            f"(set {option('fps')} to change it)"
        )
    return source
