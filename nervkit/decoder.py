""".nerv -> frames."""

from __future__ import annotations

import operator
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import takewhile
from math import ceil
from typing import Any, Generic, Literal, TypeVar, overload

import av
import numpy as np
import torch
from torch import Tensor

from nervkit.container.file import NervFile
from nervkit.container.header import Header
from nervkit.container.limits import Limits
from nervkit.container.source import NervSource
from nervkit.errors import UsageError
from nervkit.media.checks import MOST_SECONDS
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.models.base import Representation
from nervkit.models.device import Device, choose_device, memory_errors
from nervkit.networks import check_budget, render, render_tensor, with_values
from nervkit.segments import KEPT_BYTES, Networks, Segments
from nervkit.units import parse_seconds
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.movies import MovieOptions
from nervkit.video.preview import preview_places, strip_html
from nervkit.video.sound import check_sound_destination, is_sound, write_sound
from nervkit.video.stream import Stream
from nervkit.video.tracks import packets_within
from nervkit.video.writer import check_destination, write_video

LATEST = Fraction(2 * MOST_SECONDS)  # later than anything in a file
AHEAD = 4  # frames that are computed before they are asked for
CUDA_BATCH = 4  # frames that a GPU computes at once
NUMPY, TORCH = "numpy", "torch"  # what frames are given as

Frame = TypeVar("Frame", np.ndarray, Tensor)


class NervVideo(Generic[Frame]):
    """An open .nerv file as a sequence of frames.

    `len(video)`, `video[3]` (H, W, 3), `video[10:20]` (10, H, W, 3), `video[[1, 5, 9]]`
    (3, H, W, 3) and iteration give uint8 RGB. `frame_at` and `frames_in` do by time. Any frame
    costs one evaluation of its segment's network. The networks used last are cached, and during
    sequential reading the next segment's network is loaded ahead. On a CPU, frames are computed one
    at a time in float32, so a frame does not depend on which others are decoded. CUDA computes in
    float16, several frames at once where several are asked for: samples may differ slightly from
    the CPU's. Threads may share a video, and so may forked processes. It can be pickled: the
    process that unpickles it opens the file again, by its absolute path or from its bytes.

    Args:
        source: a path, the bytes of a file, a binary file object that can seek, or an open
            NervFile. The latter two stay open.
        device: "cpu" (the reference), "cuda", "auto" or a torch.device.
        output: "numpy", or "torch" for uint8 tensors on the device, of the same values: (3, H, W)
            of a frame and (T, 3, H, W) of several.
        limits: what decoding may take. The default grows with the size of the file.
        salvage: read the whole segments of a file that is cut short.
        keep_bytes: memory for cached networks, in bytes. At least one network is cached.

    Raises:
        SourceError: no such file, or an object that cannot seek.
        FormatError: not a valid .nerv file. The checksum of a segment is verified when a frame of
            it is first decoded; `file.check_all()` verifies all.
        LimitError: decoding takes more than `limits` allow.
        ResourceError: decoding takes more memory than is free. The first segment is checked for
            both on opening, each other one when it is first decoded, and any of them by `check`.
    """

    @overload
    def __init__(
        self: NervVideo[np.ndarray],
        source: NervSource | NervFile,
        *,
        device: Device = "cpu",
        output: Literal["numpy"] = "numpy",
        limits: Limits | None = None,
        salvage: bool = False,
        keep_bytes: int = KEPT_BYTES,
    ) -> None: ...
    @overload
    def __init__(
        self: NervVideo[Tensor],
        source: NervSource | NervFile,
        *,
        device: Device = "cpu",
        output: Literal["torch"],
        limits: Limits | None = None,
        salvage: bool = False,
        keep_bytes: int = KEPT_BYTES,
    ) -> None: ...
    def __init__(
        self,
        source: NervSource | NervFile,
        *,
        device: Device = "cpu",
        output: str = NUMPY,
        limits: Limits | None = None,
        salvage: bool = False,
        keep_bytes: int = KEPT_BYTES,
    ) -> None:
        if output not in (NUMPY, TORCH):
            raise UsageError(f"unknown output {output!r}; choose from: {NUMPY}, {TORCH}")
        self.output = output
        self._device = choose_device(device)
        self._keep_bytes, self._salvage = keep_bytes, salvage
        self._batch = CUDA_BATCH if self._device.type == "cuda" else 1
        self._owns_file = not isinstance(source, NervFile)
        self.file = NervFile(source, limits, salvage=salvage) if self._owns_file else source
        try:
            with self.file.naming():
                check_budget(self.file, self.file.header.segments[:1])
                header = with_values(self.file.header)
        except BaseException:
            self._close_file()
            raise
        self.header: Header = header  # all that the file says of itself
        self._networks = Networks(self.file, header, self._device, keep_bytes)
        self.segments = Segments(self.file, header, self._networks)
        self._next = 0  # the frame after the last that was read

    @property
    def timing(self) -> Timing:
        """When each frame is shown."""
        return self.file.timing

    @property
    def fps(self) -> Fraction:
        """The mean frame rate."""
        return self.timing.fps

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3), and with output "torch" (T, 3, H, W)."""
        height, width = self.header.height, self.header.width
        if self.output == TORCH:
            return (len(self), 3, height, width)
        return (len(self), height, width, 3)

    @property
    def tracks(self) -> list[Track]:
        """Audio and subtitles."""
        return self.file.tracks()

    def packets(
        self, track: int = 0, start: str | float | None = None, to: str | float | None = None
    ) -> Iterator[av.Packet]:
        """The packets of one of `tracks`, to decode or to copy. No segment is read.

        Sound that is stored in several parts is read part by part: each when its first packet is
        asked for, and only those that hold something of the time from `start` to `to`.

        Args:
            track: index of the file's track, from 0.
            start: give the sound that begins at this time of the file's time line or later, and of
                subtitles what is shown then: seconds, "1.5m", "MM:SS" or "HH:MM:SS".
            to: and that begins before this time. Without `start` and `to`: all.

        Returns:
            Packets with their exact times on the file's time line, all of one `stream`, whose
            `codec_context` decodes them one after the other, as `packet.decode()` does.

        Raises:
            IndexError: no such track.
            UsageError: a time that is not understood.
            FormatError: a part is damaged.
        """
        window = None
        if (start, to) != (None, None):
            after = parse_seconds(0 if start is None else start, "start")
            window = after, LATEST if to is None else parse_seconds(to, "to")
        first = None
        with self.file.naming():
            for part in self.file.track_parts(track, window):
                for packet in packets_within(part, window):
                    first = first or packet
                    packet.stream = first.stream
                    yield packet

    @property
    def model(self) -> Representation:
        """The network, a plain nn.Module: model(t) for t (B,) float gives (B, 3, H, W) in [0, 1].

        Raises UsageError where the file has more than one segment; see `segments`.
        """
        if len(self.segments) > 1:
            raise UsageError(
                f"{self.file.name}: has several segments, each with a network of its own: use "
                "video.segments[i].model"
            )
        return self.segments[0].model

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) one by one, (H, W, 3) uint8, or as `output` says."""
        return self._decoded(range(start, len(self) if stop is None else stop))

    def frame_at(self, seconds: float) -> Frame:
        """The frame that is shown at a time: the last one that begins no later, as torchcodec's
        `get_frame_played_at`. Raises IndexError before the first frame, and from the end of the
        last one on."""
        return self[self.timing.index_at(seconds)]

    def frames_in(self, start: float, stop: float) -> Frame:
        """The frames that are shown from `start` on and before `stop`, in seconds, as torchcodec's
        `get_frames_played_in_range`: the one that is shown at `start`, and all that begin later and
        before `stop`. Raises UsageError unless the first frame's begin <= start <= stop <= the last
        one's end."""
        return self._gathered(self.timing.indices_in(start, stop))

    def _decoded(self, positions: Sequence[int]) -> Iterator[Frame]:
        """Frames at positions that there are, one by one."""
        done, in_order = 0, len(positions) > 0 and positions[0] == self._next > 0
        ascending = isinstance(positions, range) and positions.step > 0
        while done < len(positions):
            index = self.segments.index_at(positions[done])
            first, after = self.segments.span(index)
            here = takewhile(
                lambda position, first=first, after=after: first <= position < after,
                positions[done : done + self._batch],
            )
            places = [position - first for position in here]
            network = self._networks.get(index)
            done, self._next = done + len(places), first + places[-1] + 1
            with memory_errors(self.file.name):
                shown = (render_tensor if self.output == TORCH else render)(network, places)
            # After the frame, which it would slow down: it goes on while the frame is used.
            goes_on = in_order or (ascending and positions[-1] >= after)
            if goes_on and index + 1 < len(self.segments):
                self._networks.prepare(index + 1)
            yield from shown

    def _gathered(self, positions: Sequence[int]) -> Frame:
        """The same frames together."""
        shape = (len(positions), *self.shape[1:])
        if self.output == TORCH:
            result = torch.empty(shape, dtype=torch.uint8, device=self._device)
        else:
            result = np.empty(shape, np.uint8)
        for row, frame in enumerate(self._decoded(positions)):
            result[row] = frame
        return result

    def check(self, start: int, stop: int) -> None:
        """Verify what decoding frames [start, stop) needs before any is decoded: the checksums of
        their segments, and what all together cost. Raises ChecksumError, LimitError,
        ResourceError."""
        first, after = self.segments.index_at(start), self.segments.index_at(stop - 1) + 1
        self.file.check_segments(first, after)
        with self.file.naming():
            check_budget(self.file, self.header.segments[first:after])

    def __len__(self) -> int:
        return self.segments.frames

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | Tensor) -> Frame:
        if isinstance(index, slice):
            return self._gathered(range(*index.indices(len(self))))
        if isinstance(index, (list, range)) or getattr(index, "ndim", 0) == 1:
            listed = index if isinstance(index, (list, range)) else index.tolist()
            return self._gathered([self._position(one) for one in listed])
        return next(self._decoded([self._position(index)]))

    def _position(self, index: Any) -> int:
        """Which frame an index means, of which negative ones count from the end."""
        try:
            if isinstance(index, bool):
                raise TypeError("a mask chooses nothing here")
            index = operator.index(index)
        except TypeError as error:
            raise TypeError(
                f"a frame's index is a whole number, a slice or a list of numbers, not {index!r}"
            ) from error
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return position

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "device": self._device,
            "output": self.output,
            "limits": self.file.limits,
            "salvage": self._salvage,
            "keep_bytes": self._keep_bytes,
        }
        return _reopened, (self.file.elsewhere if self._owns_file else self.file, options)

    def close(self) -> None:
        """Close the file. Frames can no longer be decoded."""
        self._networks.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._owns_file:
            self.file.close()

    def __enter__(self) -> NervVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        size, rate = f"{self.header.width}x{self.header.height}", f"{float(self.fps):.3g} fps"
        models = ", ".join(sorted({segment.model for segment in self.header.segments}))
        return f"NervVideo({len(self)} frames of {size}, {rate}, {models})"

    def _repr_html_(self) -> str:
        frames = self[preview_places(len(self))]
        if self.output == TORCH:
            frames = frames.permute(0, 2, 3, 1).cpu().numpy()
        return strip_html(repr(self), frames)


def _reopened(source: NervSource | NervFile, options: dict[str, Any]) -> NervVideo:
    """The video that another process had open."""
    return NervVideo(source, **options)


def computed_ahead(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same frames, computed in a thread of their own while the earlier ones are used."""
    worker = ThreadPoolExecutor(1)
    try:
        pending = deque(worker.submit(next, frames, None) for _ in range(AHEAD))
        while (frame := pending.popleft().result()) is not None:
            pending.append(worker.submit(next, frames, None))
            yield frame
    finally:
        worker.shutdown(wait=False, cancel_futures=True)  # a frame may take minutes


@dataclass(frozen=True)
class DecodeReport:
    """What a decode did. `seconds` is the wall time from opening to the output in place; `psnr` and
    `ssim` are those that the encoder measured, of the whole file.
    """

    output: str
    frames: int
    width: int
    height: int
    fps: float
    model: str
    parameters: int
    bytes: int
    bpp: float
    psnr: float | None
    ssim: float | None
    seconds: float
    frames_per_second: float
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


def decode(
    source: NervSource,
    output: str | os.PathLike[str],
    *,
    frames: str | int | slice | None = None,
    start: str | float | None = None,
    to: str | float | None = None,
    duration: str | float | None = None,
    resize: str | int | tuple[int, int] | None = None,
    audio: bool = True,
    subtitles: bool = True,
    salvage: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    overwrite: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DecodeReport:
    """Decode a .nerv file to a movie, y4m, images or an array, or copy its sound alone. The name
    of the output says which.

    Args:
        source: a .nerv file, as for `NervVideo`.
        output: .mp4, .mkv, .mov, .webm, .y4m, .npy, a folder, a pattern such as "f/%05d.png", or
            "-" for y4m on standard output; .png, .jpg, .webp or .tiff for one frame (`frames=5`).
            .m4a and .mka take the sound: only the parts that are written are read, and no frame
            is decoded.
        frames: "a:b", a slice, or the number of one frame: decode only these frames, from the
            segments that contain them.
        start: leave out frames shown before this time of the file's time line: seconds, "1.5m",
            "MM:SS" or "HH:MM:SS". Sound, subtitles and chapters are cut to the same part.
        to: leave out frames shown at this time or later.
        duration: how long after `start` the part ends, in place of `to`.
        resize: size of the output, as for `read_clip`.
        audio, subtitles: whether to copy these tracks.
        salvage: decode the whole segments of a file that is cut short. `notes` say what is lost.
        codec: x264, x265, vp9, av1 (visually lossless by default), ffv1 or x264rgb (lossless), or
            as ffmpeg calls them: h264, libx264, hevc, ...
        crf: quality of a lossy codec; lower is better.
        pixel_format: of a movie or y4m, such as "yuv444p".
        overwrite: replace an existing output.
        device: as for `NervVideo`.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, frames in all).

    Raises:
        FormatError: the source is not a valid .nerv file.
        SourceError: as for `NervVideo`; so are LimitError and ResourceError.
        OutputError: the output exists, or cannot be written.
        UsageError: an option is not understood or does not fit, or nothing is selected.
    """
    start_time = time.perf_counter()
    output = os.fspath(output)
    options = MovieOptions(codec, crf, pixel_format)
    edit = Edit.from_options(
        start, to, duration, frames, resize=resize, audio=audio, subtitles=subtitles
    )
    if frames is not None and (start, to, duration) != (None, None, None):
        raise UsageError("frames and a part by time are two ways to choose; give one")
    if is_sound(output):
        if resize is not None or not audio:
            raise UsageError(f"{output}: holds the sound alone; leave out --resize and --no-audio")
        check_sound_destination(output, options, overwrite, source)
        with NervFile(source, limits, salvage=salvage) as file:
            return _copy_sound(file, output, _part(file.timing, edit), start_time)
    single = edit.stop == edit.first + 1
    check_destination(output, options, overwrite, source, single)
    with NervVideo(source, device=device, limits=limits, salvage=salvage) as video:
        first, stop = _part(video.timing, edit)
        video.check(first, stop)
        timing, window = _cut(video.file, first, stop)
        header, checks = video.header, video.file.checks()
        width, height = edit.resized(header.width, header.height)
        ratio = edit.sample_aspect_ratio(header.sample_aspect_ratio, header.width, header.height)

        def pictures() -> Iterator[np.ndarray]:
            for done, frame in enumerate(computed_ahead(video.frames(first, stop)), start=1):
                yield edit.shape(frame)
                if on_progress is not None:
                    on_progress(done, stop - first)

        stream = Stream(
            frames=pictures(),
            width=width,
            height=height,
            timing=timing,
            sample_aspect_ratio=ratio,
            colour=Colour.from_dict(header.colour),
            tracks=tuple(t for t in video.file.tracks(window) if edit.keeps(t.kind)),
            extras=video.file.extras(),
            window=window,
        )
        with video.file.naming():
            notes = video.file.notes + write_video(output, stream, options)
        seconds = time.perf_counter() - start_time
        return DecodeReport(
            output=output,
            frames=stop - first,
            width=width,
            height=height,
            fps=float(timing.fps),
            model=header.segments[0].model,
            parameters=header.values,
            bytes=video.file.size,
            bpp=video.file.bpp,
            psnr=checks.psnr if checks else None,
            ssim=checks.ssim if checks else None,
            seconds=seconds,
            frames_per_second=(stop - first) / seconds,
            notes=notes,
        )


def _copy_sound(
    file: NervFile, output: str, part: tuple[int, int], start_time: float
) -> DecodeReport:
    """Copy the sound that goes with the frames [first, stop)."""
    header = file.header
    timing, window = _cut(file, *part)
    stream = Stream(
        frames=(),
        width=header.width,
        height=header.height,
        timing=timing,
        tracks=tuple(file.tracks(window)),
        extras=file.extras(),
        window=window,
    )
    with file.naming():
        notes = file.notes + write_sound(output, stream)
    return DecodeReport(
        output=output,
        frames=0,
        width=header.width,
        height=header.height,
        fps=float(timing.fps),
        model=header.segments[0].model,
        parameters=header.values,
        bytes=file.size,
        bpp=file.bpp,
        psnr=None,
        ssim=None,
        seconds=time.perf_counter() - start_time,
        frames_per_second=0.0,
        notes=notes,
    )


def _cut(file: NervFile, first: int, stop: int) -> tuple[Timing, tuple[Fraction, Fraction] | None]:
    """The timing of frames [first, stop), moved to 0, and the seconds that they are cut from. Of
    the whole video, its own timing, and None."""
    timing = file.timing[first:stop]
    if (first, stop) == (0, file.header.frames) and not file.notes:
        return timing, None
    return Timing(timing.pts - timing.pts[0], timing.time_base, timing.duration), timing.seconds


def _part(timing: Timing, edit: Edit) -> tuple[int, int]:
    """The frames [first, stop) that a decode is of, by their numbers or by their times. Raises
    UsageError where there are none."""
    count = len(timing)
    if (edit.start, edit.to) == (0, None):
        stop = count if edit.stop is None else min(edit.stop, count)
        if edit.first >= stop:
            chosen = edit.to_dict()["frames"]
            raise UsageError(f"frames {chosen} selects nothing: there are {count} frames")
        return edit.first, stop
    ended = timing.seconds[1]
    if edit.start >= ended:
        raise UsageError(
            f"start {float(edit.start):g} is beyond the end: the video ends at {float(ended):g} s"
        )
    before = ended if edit.to is None else edit.to
    first, stop = (
        int(np.searchsorted(timing.pts, ceil(min(time, ended) / timing.time_base)))
        for time in (edit.start, before)
    )
    if first >= stop:
        raise UsageError(f"no frame begins from {float(edit.start):g} s to {float(before):g} s")
    return first, stop
