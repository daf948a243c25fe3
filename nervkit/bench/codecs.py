"""Codecs of a sweep: how one rate point is encoded by a command, decoded and timed."""

from __future__ import annotations

import json
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from nervkit.bench.anchors import (
    ANCHORS,
    PROFILES,
    FFmpeg,
    Frames,
    decode_arguments,
    decoded_planes,
)
from nervkit.bench.machine import versions
from nervkit.bench.process import Runner
from nervkit.bench.records import Record
from nervkit.bench.reference import Reference
from nervkit.compression.quantization import check_bits
from nervkit.container.file import NO_VIDEO
from nervkit.decoder import NervVideo
from nervkit.errors import UsageError
from nervkit.fitting.budget import BUDGET_OPTIONS, PRESETS
from nervkit.fitting.metric import METRICS, RGB
from nervkit.fitting.options import FitOptions
from nervkit.models.complexity import decode_macs
from nervkit.models.config import VideoShape
from nervkit.models.recipe import NATIVE, PAPER
from nervkit.models.registry import load_model, model_names
from nervkit.output import replacing
from nervkit.video.planes import Planes

#: (H, W, 3) uint8 RGB and the 4:2:0 planes of each frame, in order
Decoded: TypeAlias = Iterator[tuple[npt.NDArray[np.uint8], Planes]]
#: an anchor's quantizer value, or a neural codec's rate as text
Rate = TypeVar("Rate", int, str)

#: default rates of a neural codec, in bits per pixel
DEFAULT_BPP = (0.015, 0.03, 0.06, 0.12, 0.24)
#: the smallest useful file: tensors besides a header, and a check per frame
MIN_BYTES, MIN_FRAME_BYTES = 6_000, 30
PARAMS, TARGET_BPP = "params", "target_bpp"  # units of the neural codecs' rates
#: length of a fit that starts from the file of the next higher rate, as a share of a full fit
WARM_START_LENGTH = 0.5


@dataclass(frozen=True)
class NeuralOptions:
    """How the neural codecs are fitted.

    Attributes:
        device, seed: of the fits.
        options: other options of `nervkit encode`, by name.
        metric: what the fits optimise and the run is judged by, "rgb" or "yuv".
        rate: the unit of the rates: TARGET_BPP, or PARAMS (stored values, quantized after the fit).
        separate: whether every rate has a full fit.

    Raises:
        UsageError: an unknown metric.
    """

    device: str = "cpu"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    metric: str = RGB
    rate: str = TARGET_BPP
    separate: bool = False

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            known = ", ".join(METRICS)
            raise UsageError(f"unknown metric {self.metric!r}; choose from: {known}")


class Codec(ABC, Generic[Rate]):
    """A codec with all settings but the rate.

    Attributes:
        name: the codec's name in records and tables.
        profile: its settings, as text.
        kind: "neural" or "anchor".
        suffix: file suffix of its bitstreams.
        device: where a neural codec computes.
        seed: of a neural codec's fits; None for anchors.
        metric: what a neural codec's fits optimise; None for anchors.
    """

    name: str
    profile: str
    kind: str
    suffix: str
    device: str = "cpu"
    seed: int | None = None
    metric: str | None = None

    @abstractmethod
    def setting(self, rate: Rate) -> dict[str, Rate]:
        """Return the rate as an option and its value."""

    @abstractmethod
    def inputs(self, reference: Reference, rate: Rate) -> dict[str, Any]:
        """Return everything that determines a point's bitstream, as JSON-ready values."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of the software that makes the bitstream."""

    @abstractmethod
    def encode(self, reference: Reference, rate: Rate, output: Path, resume: bool) -> Record:
        """Write the bitstream and return the facts of the point record that the encode determines.

        Args:
            resume: whether an earlier encode of the same point was interrupted.

        Raises:
            NervError: the encode failed.
            Interrupted: by Ctrl-C or the runner.
        """

    @abstractmethod
    def decode(self, reference: Reference, path: Path) -> tuple[Record, Decoded]:
        """Decode the bitstream twice, to memory and to a y4m file. Return the facts of the point
        record that the decode determines, and the frames."""

    def point(self, rate: Rate) -> str:
        """Return the rate point's name, such as crf27."""
        ((option, value),) = self.setting(rate).items()
        if option == PARAMS:
            return str(value)
        return f"{value}bpp" if option == TARGET_BPP else f"{option}{value}"


class AnchorCodec(Codec[int]):
    """H.264, HEVC, AV1 or VVC through ffmpeg."""

    kind = "anchor"

    def __init__(
        self, name: str, profile: str, interval: int | None, ffmpeg: FFmpeg, runner: Runner
    ) -> None:
        """Raises UsageError for an unknown profile, and MissingDependencyError if the ffmpeg binary
        lacks the encoder."""
        self.base, self.anchor = name, ANCHORS[name]
        ffmpeg.require(self.anchor)
        if profile not in self.anchor.profiles:
            known = ", ".join(self.anchor.profiles)
            raise UsageError(f"{name} has no profile {profile!r}; choose from: {known}")
        self.name = name if profile == PROFILES[0] else f"{name}-{profile}"
        self.suffix = self.anchor.suffix
        self._profile, self._interval = profile, interval
        self.profile = profile if interval is None else f"{profile}, keyframe every {interval}"
        self._ffmpeg, self._runner = ffmpeg, runner

    def setting(self, rate: int) -> dict[str, int]:
        return {self.anchor.quantizer: rate}

    def versions(self) -> dict[str, str]:
        return {"nervkit": versions()["nervkit"], "ffmpeg": self._ffmpeg.version}

    def inputs(self, reference: Reference, rate: int) -> dict[str, Any]:
        frames = replace(reference.planes, path=Path("{frames}"))
        command = self._arguments(frames, rate, "{output}")
        return {"encode": command, "planes": reference.record["anchor_input"]}

    def _arguments(self, frames: Frames, rate: int, output: str) -> list[str]:
        return self.anchor.encode_arguments(self._profile, rate, self._interval, frames, output)

    def encode(self, reference: Reference, rate: int, output: Path, resume: bool) -> Record:
        planes = reference.planes
        with replacing(output) as partial:
            arguments = self._arguments(planes, rate, str(partial))
            done = self._runner.run(self._ffmpeg.command(*arguments))
        shown = self._arguments(replace(planes, path=Path("{frames}")), rate, output.name)
        size = output.stat().st_size
        return {
            "commands": {"encode": shlex.join(["ffmpeg", *shown])},
            "file_bytes": size,
            "bytes": size,
            "bytes_by_part": {"stream": size},
            "encode_seconds": done.seconds,
            "peak_memory": {"encode": done.peak_memory},
            "device_memory": None,
            "macs_per_pixel": None,
            "parameters": None,
            "steps": None,
            "notes": [],
        }

    def decode(self, reference: Reference, path: Path) -> tuple[Record, Decoded]:
        anchor, planes = self.anchor, reference.planes
        y4m = path.with_suffix(".y4m")
        to_memory = decode_arguments(anchor, str(path), "pipe:1", "rawvideo")
        to_file = decode_arguments(anchor, str(path), str(y4m), "yuv4mpegpipe")
        shown: list[Planes] = []
        try:
            memory = self._runner.run(
                self._ffmpeg.command(*to_memory),
                read=lambda pipe: shown.extend(decoded_planes(anchor, pipe, planes)),
            )
            written = self._runner.run(self._ffmpeg.command(*to_file))
        finally:
            y4m.unlink(missing_ok=True)
        arguments = decode_arguments(anchor, path.name, y4m.name, "yuv4mpegpipe")
        facts = {
            "commands": {"decode": shlex.join(["ffmpeg", *arguments])},
            "decode_seconds": memory.seconds,
            "decode_write_seconds": written.seconds,
            "peak_memory": {"decode": max(memory.peak_memory, written.peak_memory)},
        }
        height, width = reference.clip.shape[1:3]
        colour = reference.clip.colour
        return facts, ((frame.rgb(colour, width, height), frame) for frame in shown)


class NeuralCodec(Codec[str]):
    """A model through `nervkit encode` and `nervkit decode`, each in a process of its own."""

    kind = "neural"
    suffix = ".nerv"

    def __init__(
        self,
        model: str,
        recipe: str,
        fit: NeuralOptions,
        runner: Runner,
        preset: str | None = None,
    ) -> None:
        """Check the options of the fits.

        Args:
            preset: how long to fit, instead of a budget among the options of `fit`.

        Raises:
            UsageError: an invalid or contradictory option.
        """
        suffixes = [recipe] * (recipe != NATIVE)
        if preset is not None:
            if given := [k for k in BUDGET_OPTIONS if k in fit.options]:
                raise UsageError(f"{model}:{preset} sets how long to fit: leave out --{given[0]}")
            suffixes.append(preset)
            fit = replace(fit, options={**fit.options, "preset": preset})
        self.name = "-".join([model, *suffixes, *[fit.metric] * (fit.metric != RGB)])
        bits = {k: v for k, v in fit.options.items() if k in ("bits", "embedding_bits")}
        for option, value in bits.items():
            check_bits(value, option.replace("_", "-"))
        chosen = {k: v for k, v in fit.options.items() if k not in bits}
        options = FitOptions(
            model,
            recipe=recipe,
            metric=fit.metric,
            seed=fit.seed,
            device=fit.device,
            **chosen,
        )
        self.model, self.model_type, self.recipe = model, options.model_type, recipe
        self._fit, self._runner, self._fit_options = fit, runner, options
        self._earlier: tuple[Path, str] | None = None
        #: whether fits of lower rates may start from the file of a higher rate
        self.warm_starts = not (
            fit.separate or fit.rate != TARGET_BPP or recipe == PAPER or self.model_type.fit_only
        )
        other = {k: v for k, v in fit.options.items() if k not in BUDGET_OPTIONS}
        parts = [
            recipe,
            str(options.budget),
            *([f"metric {fit.metric}"] if fit.metric != RGB else []),
            f"seed {fit.seed}",
            *(f"{k} {v}" for k, v in other.items()),
        ]
        if self.warm_starts:
            parts.append(f"lower rates start from higher ones, in {WARM_START_LENGTH:.0%} of that")
        self.profile = ", ".join(parts)
        self.device, self.seed, self.metric = fit.device, fit.seed, fit.metric

    def starting_from(self, stream: Path, inputs: str, reference: Reference) -> NeuralCodec:
        """Return the same codec for a lower rate: its fits start from the bitstream `stream` and
        take WARM_START_LENGTH of a full fit. `inputs` is the hash in that bitstream's record."""
        steps = self._fit_options.steps_for(VideoShape(*reference.clip.shape[:3]))
        seconds = self._fit_options.budget.seconds
        if steps is None:
            assert seconds is not None, "a fit without a number of steps has a time budget"
            length = {"time": f"{WARM_START_LENGTH * seconds:g}"}
        else:
            length = {"steps": str(max(1, round(WARM_START_LENGTH * steps)))}
        kept = {k: v for k, v in self._fit.options.items() if k not in BUDGET_OPTIONS}
        codec = copy(self)
        codec._fit = replace(self._fit, options=kept | length)
        codec._earlier = stream, inputs
        return codec

    def default_sizes(self, reference: Reference) -> list[str]:
        """Return DEFAULT_BPP, raised to the smallest useful rate of the clip."""
        shape = VideoShape(*reference.clip.shape[:3])
        least = 8 * (MIN_BYTES + MIN_FRAME_BYTES * shape.frames) / shape.pixels
        return list(dict.fromkeys(f"{max(least, bpp):.3g}" for bpp in DEFAULT_BPP))

    def setting(self, rate: str) -> dict[str, str]:
        return {self._fit.rate: rate}

    def versions(self) -> dict[str, str]:
        return versions()

    def inputs(self, reference: Reference, rate: str) -> dict[str, Any]:
        started = {"start_from": self._earlier[1]} if self._earlier else {}
        return {"encode": self._options(reference, rate), "device": self.device} | started

    def _options(self, reference: Reference, rate: str) -> list[str]:
        chosen = {
            "model": self.model,
            "recipe": self.recipe,
            self._fit.rate: rate,
            "seed": str(self.seed),
            "device": self.device,
            **({"metric": self.metric} if self.metric != RGB else {}),
            **self._fit.options,
            **reference.spec.options,
        }
        return [part for name, value in chosen.items() for part in (_flag(name), str(value))]

    def encode(self, reference: Reference, rate: str, output: Path, resume: bool) -> Record:
        options = self._options(reference, rate)
        source = str(reference.spec.path)
        command = ["encode", source, "-o", str(output), *options, "--json", "-y"]
        if self._earlier is not None:
            command += ["--start-from", str(self._earlier[0])]
            options += ["--start-from", self._earlier[0].name]
        done = self._runner.run(_nervkit(command + ["--restart"] * (not resume)), show=True)
        report = json.loads(done.output)
        resumed = report["earlier_seconds"] > 0
        parts = {k: n for k, n in report["bytes_by_part"].items() if k not in NO_VIDEO}
        return {
            "commands": {
                "encode": shlex.join(["nervkit", "encode", source, "-o", output.name, *options])
            },
            "file_bytes": report["bytes"],
            "bytes": sum(parts.values()),
            "bytes_by_part": parts,
            "encode_seconds": report["seconds"] + report["earlier_seconds"],
            "peak_memory": {"encode": done.peak_memory},
            "device_memory": report["device_memory"],
            "macs_per_pixel": _macs_per_pixel(report),
            "parameters": report["parameters"],
            "steps": report["steps"],
            "notes": ["the fit was resumed; its time covers all sessions"] if resumed else [],
        }

    def decode(self, reference: Reference, path: Path) -> tuple[Record, Decoded]:
        with NervVideo(path, device=self.device) as video:
            _ = video[0]  # not timed: loads libraries and chooses kernels
        began = time.perf_counter()
        with NervVideo(path, device=self.device) as video:
            frames = video[:]
        seconds = time.perf_counter() - began
        y4m = path.with_suffix(".y4m")
        command = ["decode", str(path), "-o", str(y4m), "--device", self.device, "--json", "-y"]
        try:
            written = self._runner.run(_nervkit(command))
        finally:
            y4m.unlink(missing_ok=True)
        facts = {
            "commands": {
                "decode": shlex.join(
                    ["nervkit", "decode", path.name, "-o", y4m.name, "--device", self.device]
                )
            },
            "decode_seconds": seconds,
            "decode_write_seconds": written.seconds,
            "peak_memory": {"decode": written.peak_memory},
        }
        colour = reference.clip.colour
        return facts, ((frame, Planes.from_rgb(frame, colour)) for frame in frames)


def _macs_per_pixel(report: dict[str, Any]) -> float:
    """Return the decoder's MACs per pixel, from the report of an encode."""
    model_type = load_model(report["model"])
    shape = VideoShape(report["frames"], report["height"], report["width"])
    macs = decode_macs(model_type, model_type.config_type.from_dict(report["config"]), shape)
    return macs / (shape.height * shape.width)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _nervkit(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "nervkit", *arguments]


class CodecName(NamedTuple):
    """A codec as a user names it: an anchor or a model, and after a colon how it is driven."""

    base: str
    variant: str  # a profile, recipe or preset; "" for the default


def parse_codecs(names: Sequence[str]) -> list[CodecName]:
    """Parse names such as "x264", "x264:paper", "hnerv:paper" or "gridnerv:draft".

    Raises:
        UsageError: an unknown codec, profile, recipe or preset.
    """
    parsed = []
    for name in names:
        base, _, variant = name.strip().partition(":")
        if base in ANCHORS:
            known, what = list(ANCHORS[base].profiles), "profile"
        elif base in model_names():
            known, what = [*load_model(base).recipes, *PRESETS], "recipe or preset"
        else:
            all_names = ", ".join([*model_names(), *ANCHORS])
            raise UsageError(f"unknown codec {base!r}; choose from: {all_names}")
        if variant and variant not in known:
            raise UsageError(
                f"unknown {what} {variant!r} for {base}; choose from: {', '.join(known)}"
            )
        parsed.append(CodecName(base, variant))
    return parsed


def choose_codecs(
    names: Sequence[str],
    *,
    profile: str,
    interval: int | None,
    ffmpeg: FFmpeg,
    fit: NeuralOptions,
    runner: Runner,
) -> list[AnchorCodec | NeuralCodec]:
    """Return the codecs of a sweep from their names (see `parse_codecs`).

    Raises:
        UsageError: an unknown or repeated name, or an invalid option.
        MissingDependencyError: the ffmpeg binary lacks an encoder.
    """
    codecs: list[AnchorCodec | NeuralCodec] = []
    for base, variant in parse_codecs(names):
        if base in ANCHORS:
            codecs.append(AnchorCodec(base, variant or profile, interval, ffmpeg, runner))
        elif variant in PRESETS:
            codecs.append(NeuralCodec(base, NATIVE, fit, runner, variant))
        else:
            codecs.append(NeuralCodec(base, variant or NATIVE, fit, runner))
    if len({codec.name for codec in codecs}) < len(codecs):
        raise UsageError(f"codecs: one is named twice: {', '.join(names)}")
    return codecs
