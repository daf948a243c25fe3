"""nervkit.encode and nervkit.open: a correct file, or no file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

import nervkit
from nervkit import assembly
from nervkit.container import chunks
from nervkit.errors import (
    FormatError,
    Interrupted,
    NervError,
    OutputError,
    SourceError,
    UsageError,
)
from nervkit.models import registry
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig, VideoShape
from nervkit.models.gridnerv import GridNeRV
from nervkit.models.hnerv import HNeRV
from nervkit.models.recipe import Recipe
from nervkit.models.registry import model_names
from nervkit.models.sizing import TooFewParametersError, default_parameters
from nervkit.units import parse_count, parse_strides

FRAMES, HEIGHT, WIDTH = 6, 24, 32


pytestmark = pytest.mark.usefixtures("one_thread")


def movie() -> np.ndarray:
    """(T, H, W, 3) uint8: drifting waves."""
    t, y, x, c = np.ogrid[:FRAMES, :HEIGHT, :WIDTH, :3]
    waves = np.sin((x + 3 * t) / 7 + c) * np.cos((y - t) / 5)
    return np.rint(127 + 100 * waves).astype(np.uint8)


def encode(output: Path, source: Any = None, **options: Any) -> nervkit.EncodeReport:
    settings = {"steps": 20, "precision": "float32"}
    return nervkit.encode(movie() if source is None else source, output, **settings | options)


Encoded = tuple[Path, nervkit.EncodeReport]


@pytest.fixture(scope="module", params=["gridnerv", "hnerv", "nerv"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    """A finished file and its report."""
    output = tmp_path_factory.mktemp("encoded") / "a.nerv"
    return output, encode(output, model=request.param)


@pytest.fixture
def video(encoded: Encoded) -> Iterator[nervkit.NervVideo]:
    """The file, open."""
    with nervkit.open(encoded[0]) as opened:
        yield opened


# The report


def test_the_report_agrees_with_the_file_on_disk(encoded: Encoded) -> None:
    output, report = encoded
    assert report.output == str(output)
    assert (report.frames, report.width, report.height) == (FRAMES, WIDTH, HEIGHT)
    assert report.bytes == output.stat().st_size
    assert sum(report.bytes_by_part.values()) == report.bytes
    assert report.bytes_by_part["tracks"] == 0
    assert report.bpp == 8 * report.bytes / (FRAMES * HEIGHT * WIDTH)
    assert report.steps == 20
    assert 0 < report.fit_seconds < report.seconds
    assert report.settings == nervkit.open(output).header.encoder["settings"]
    settings = report.settings.split(", ")
    assert {"recipe native", "budget 20 steps", "seed 0"} <= set(settings)
    assert any(setting.startswith("coded_bytes ") for setting in settings)


def test_the_report_counts_what_travels(encoded: Encoded) -> None:
    output, report = encoded
    with nervkit.open(output) as video:
        count = sum(tensor.numel() for tensor in video.model.state_dict().values())
        data = video.file.segment(0)
        assert video.model.config.to_dict() == report.config
        assert video.header.segments[0].model == report.model
    assert report.parameters == count
    assert report.bits_per_parameter == 8 * data.size / count
    framing = len(chunks.pack_chunk(b"SEGM", data.pack(FRAMES, 0))) - data.size
    assert report.bytes_by_part["tensors"] == data.size + framing
    assert framing < 50


def test_the_report_shows_what_a_decoder_shows(encoded: Encoded) -> None:
    output, report = encoded
    frames = nervkit.open(output)[:]
    error = ((frames.astype(float) - movie()) ** 2).mean(axis=(1, 2, 3))
    assert report.psnr == pytest.approx(np.mean(10 * np.log10(255**2 / error)), abs=1e-9)
    similarities = [
        structural_similarity(
            a,
            b,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(movie(), frames, strict=True)
    ]
    assert report.ssim == pytest.approx(np.mean(similarities), abs=1e-9)
    checks = nervkit.open(output).file.checks()
    assert checks is not None
    assert (checks.psnr, checks.ssim) == pytest.approx((report.psnr, report.ssim), rel=1e-6)


def test_more_bits_are_more_bytes_and_less_loss(tmp_path: Path) -> None:
    encode(tmp_path / "fit.nerv", steps=150, bits=8, keep_fit=True)
    start = tmp_path / "fit.nerv.fit"
    options: dict[str, Any] = {"steps": None, "start_from": start, "overwrite": True}
    reports = [encode(tmp_path / "a.nerv", bits=bits, **options) for bits in (3, 6, 12)]
    assert [r.bytes for r in reports] == sorted({r.bytes for r in reports})
    assert [r.psnr for r in reports] == sorted({r.psnr for r in reports})
    finer = nervkit.open(tmp_path / "a.nerv").file.segment(0).sections
    encode(tmp_path / "a.nerv", bits=12, embedding_bits=2, **options)
    coarse = nervkit.open(tmp_path / "a.nerv").file.segment(0).sections
    assert coarse[0] == finer[0]
    assert len(coarse[1].data) < len(finer[1].data) / 2


def test_small_frames_have_no_ssim(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv", movie()[:2, :7, :5])
    assert report.ssim is None
    assert nervkit.open(tmp_path / "a.nerv").shape == (2, 7, 5, 3)


# Decoding


def test_frames_are_the_same_however_they_are_asked_for(video: nervkit.NervVideo) -> None:
    whole = video[:]
    assert whole.shape == video.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert whole.dtype == np.uint8
    assert len(video) == FRAMES
    assert np.array_equal(np.stack(list(video)), whole)
    for index in range(-FRAMES, FRAMES):
        assert np.array_equal(video[index], whole[index])
    for span in (slice(2, 5), slice(-2, None), slice(None, None, -2), slice(4, 2), slice(3, 99)):
        assert np.array_equal(video[span], whole[span])
    assert np.array_equal(np.stack(list(video.frames(1, 4))), whole[1:4])
    for index in (FRAMES, -FRAMES - 1):
        with pytest.raises(IndexError):
            video[index]


def test_bytes_decode_like_the_file(encoded: Encoded, video: nervkit.NervVideo) -> None:
    again = nervkit.open(encoded[0].read_bytes())
    assert np.array_equal(again[:], video[:])
    assert again.fps == video.fps == 25


def test_the_model_is_a_plain_module(video: nervkit.NervVideo) -> None:
    model = video.model
    assert isinstance(model, nn.Module)
    assert not model.training
    with torch.inference_mode():
        frames = model(torch.tensor([3.0, 3.5]))
    assert frames.shape == (2, 3, HEIGHT, WIDTH)
    assert 0 <= frames.min() <= frames.max() <= 1
    third = frames[0].permute(1, 2, 0).mul(255).round().numpy()
    assert np.abs(third - video[3]).max() <= 1  # a batch may round the last bit otherwise
    assert not torch.equal(frames[0], frames[1])


def test_the_decoder_has_no_encoder(encoded: Encoded, video: nervkit.NervVideo) -> None:
    names = set(video.model.state_dict())
    assert not [name for name in names if name.startswith("encoder")]
    assert ("embedding" in names) == (encoded[1].model == "hnerv")


def test_imageio_reads_the_file(encoded: Encoded, video: nervkit.NervVideo) -> None:
    output = encoded[0]
    assert np.array_equal(iio.imread(output), video[:])
    assert np.array_equal(iio.imread(output, index=2), video[2])
    assert np.array_equal(np.stack(list(iio.imiter(output))), video[:])
    whole, one = iio.improps(output), iio.improps(output, index=0)
    assert (whole.shape, whole.dtype) == (video.shape, np.uint8)
    assert (whole.n_images, whole.is_batch) == (FRAMES, True)
    assert (one.shape, one.is_batch) == (video.shape[1:], False)
    meta = iio.immeta(output)
    assert (meta["fps"], meta["model"]) == (25, encoded[1].model)
    assert meta["duration"] == pytest.approx(FRAMES / 25)


def test_imageio_refuses_what_is_no_nerv_file(tmp_path: Path) -> None:
    (tmp_path / "a.nerv").write_bytes(b"not a video")
    with pytest.raises(OSError, match=r"a\.nerv"):
        iio.imread(tmp_path / "a.nerv")


def test_a_missing_file_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.nerv: No such file"):
        nervkit.open(tmp_path / "a.nerv")


# Sources


@pytest.mark.parametrize(
    "convert",
    [
        torch.from_numpy,
        np.asfortranarray,
        lambda frames: frames.astype(np.float32) / 255,
        lambda frames: torch.from_numpy(frames).double() / 255,
        lambda frames: nervkit.read_clip(frames),
    ],
    ids=["tensor", "fortran", "floats", "float-tensor", "clip"],
)
def test_arrays_tensors_and_clips_make_the_same_file(convert: Any, tmp_path: Path) -> None:
    encode(tmp_path / "a.nerv")
    encode(tmp_path / "b.nerv", convert(movie()))
    assert np.array_equal(
        nervkit.open(tmp_path / "b.nerv")[:], nervkit.open(tmp_path / "a.nerv")[:]
    )


def test_a_file_is_read_and_edited(bunny: Path, tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv", bunny, frames="2:5", resize="32x18", steps=5)
    assert (report.frames, report.width, report.height) == (3, 32, 18)
    clip = nervkit.read_clip(bunny, frames="2:5", resize="32x18")
    error = ((nervkit.open(tmp_path / "a.nerv")[:].astype(float) - clip.frames) ** 2).mean(
        (1, 2, 3)
    )
    assert report.psnr == pytest.approx(np.mean(10 * np.log10(255**2 / error)), abs=1e-9)


def test_the_clip_is_shown_once_it_is_read(tmp_path: Path) -> None:
    clips: list[nervkit.Clip] = []
    encode(tmp_path / "a.nerv", on_clip=clips.append)
    (clip,) = clips
    assert np.array_equal(clip.frames, movie())


class Flat(Representation):
    """A third party's model: one colour per frame and no embeddings."""

    config_type = ModelConfig
    recipes = {"native": Recipe("mse", 0.1, 2, 10)}  # noqa: RUF012

    def __init__(self, config: ModelConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.colour = nn.Parameter(torch.zeros(shape.frames, 3))

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> ModelConfig:
        return ModelConfig(**options)

    def forward(self, t: Tensor) -> Tensor:
        colour = self.colour[t.round().long()].sigmoid()
        return colour[:, :, None, None].expand(-1, -1, self.shape.height, self.shape.width)


def test_a_third_partys_model_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("flat", f"{__name__}:Flat", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    report = encode(tmp_path / "a.nerv", model="flat", steps=200)
    assert report.parameters == 3 * FRAMES
    with nervkit.open(tmp_path / "a.nerv") as video:
        assert len(video.file.segment(0).sections) == 1
        assert isinstance(video.model, Flat)
        expected = movie().mean(axis=(1, 2))
        assert np.abs(video[:].mean(axis=(1, 2)) - expected).max() < 3
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    assert nervkit.info(tmp_path / "a.nerv")["model"] == "flat"
    with pytest.raises(FormatError, match="needs the model 'flat', which is not installed"):
        nervkit.open(tmp_path / "a.nerv")


# Sizes


def test_the_size_asked_for_is_the_size_made(tmp_path: Path) -> None:
    report = encode(tmp_path / "a.nerv", params="30k", strides="2,2,2")
    shape = VideoShape(FRAMES, HEIGHT, WIDTH)
    config = GridNeRV.configure(shape, 30_000, strides=(2, 2, 2))
    assert report.config == config.to_dict()
    assert report.parameters == pytest.approx(30_000, rel=0.05)


def test_a_default_that_is_too_small_gives_way_to_the_least(tmp_path: Path) -> None:
    clip = np.zeros((40, 1, 200, 3), np.uint8)
    shape = VideoShape(40, 1, 200)
    with pytest.raises(TooFewParametersError) as caught:
        HNeRV.configure(shape, default_parameters(shape))
    report = encode(tmp_path / "a.nerv", clip, steps=1, model="hnerv")
    assert report.config == HNeRV.configure(shape, caught.value.least).to_dict()
    with pytest.raises(UsageError, match="20,000 parameters are too few"):
        encode(tmp_path / "b.nerv", clip, steps=1, params="20k", model="hnerv")
    assert not (tmp_path / "b.nerv").exists()


def test_the_default_size_is_the_papers_for_its_clip() -> None:
    assert default_parameters(VideoShape(132, 720, 1280)) == 750_000
    half = default_parameters(VideoShape(66, 720, 1280))
    assert 375_000 < half < 750_000  # less video, more bits a pixel
    for sides in [(1, 1, 1), (2, 3, 4), (6, 24, 32), (5, 100, 100)]:
        shape = VideoShape(*sides)
        assert 1 <= default_parameters(shape) <= max(1, 3 * shape.pixels / 4)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.5M", 1_500_000),
        ("350k", 350_000),
        ("0.35m", 350_000),
        ("20K", 20_000),
        (" 5000 ", 5000),
        (1.5e6, 1_500_000),
        (750_000, 750_000),
        ("3e6", 3_000_000),
    ],
)
def test_counts_of_parameters(text: str | float, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "many", "1.5G", "-3", "0", "1e10", "nan", "1,5M", "M", None])
def test_impossible_counts_are_usage_errors(text: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(f"not {text!r}")):
        parse_count(text)


def test_strides_are_text_or_numbers() -> None:
    assert parse_strides("5,4, 2") == parse_strides([5, 4, 2]) == (5, 4, 2)
    for bad in ("5,,2", "5;2", "a", "-1,2", "2.5", "", (2.5, 2)):
        with pytest.raises(UsageError, match="strides must be whole numbers"):
            parse_strides(bad)


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "hnrev"}, f"unknown model 'hnrev'; choose from: {', '.join(model_names())}"),
        ({"recipe": "secret"}, "unknown recipe 'secret' for gridnerv; choose from: native"),
        ({"steps": None, "preset": "quick"}, "unknown preset 'quick'; choose from: draft"),
        ({"epochs": 3}, "epochs and steps"),
        ({"steps": None, "epochs": "3"}, "epochs must be a positive number"),
        ({"steps": 2.5}, "steps must be a positive whole number"),
        ({"steps": "x"}, "steps must be a positive whole number"),
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"bits": 1}, "bits must"),
        ({"bits": 8.0}, "bits must"),
        ({"embedding_bits": 13}, "embedding_bits must"),
        ({"prune": 1.0}, "prune must lie in"),
        ({"prune": float("nan")}, "prune must lie in"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"params": "lots"}, "params must be a number"),
        ({"params": 50}, "50 parameters are too few: this model needs at least"),
        ({"strides": "17"}, "strides must lie in 1 to 16"),
        ({"strides": "2,2,2,2,2,2,2,2,2"}, "1 to 8 numbers"),
    ],
)
def test_bad_options_are_usage_errors(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        encode(tmp_path / "a.nerv", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_replaced_only_when_asked(tmp_path: Path) -> None:
    output = tmp_path / "a.nerv"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        encode(output)
    assert output.read_bytes() == b"precious"
    report = encode(output, overwrite=True)
    assert output.stat().st_size == report.bytes


def test_input_and_output_may_not_be_one_file(tmp_path: Path) -> None:
    output, link = tmp_path / "a.nerv", tmp_path / "b.nerv"
    output.write_bytes(b"precious")
    link.symlink_to(output)
    for source in (output, str(output), link):
        with pytest.raises(UsageError, match="the same file"):
            encode(output, source, overwrite=True)
    assert output.read_bytes() == b"precious"


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.nerv"):
        encode(tmp_path / "a.mp4")
    with pytest.raises(OutputError, match="no such folder"):
        encode(tmp_path / "nowhere" / "a.nerv")
    (tmp_path / "d.nerv").mkdir()
    with pytest.raises(OutputError, match="folder"):
        encode(tmp_path / "d.nerv", overwrite=True)


# Failures


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_leaves_no_part_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> float:
        raise OSError(28, "No space left on device")

    output = tmp_path / "a.nerv"
    output.write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "write_file", full)
        with pytest.raises(OutputError, match=r"a\.nerv: cannot be written: No space left"):
            encode(output, overwrite=True)
    assert names(tmp_path) == ["a.nerv", "a.nerv.checkpoint"]
    assert output.read_bytes() == b"precious"
    asked: list[None] = []
    encode(output, overwrite=True, stop=lambda: asked.append(None) is not None)
    assert len(asked) < FRAMES + 5  # the fit was kept: only the check was left to do
    assert names(tmp_path) == ["a.nerv"]


def test_a_file_that_reads_back_otherwise_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = assembly.write_file

    def forgetful(file: Any, header: Any, timing: Any, segments: Any, *rest: Any) -> None:
        ((segment, data),) = segments
        first, *others = data.sections
        longer = replace(first, data=first.data + bytes(4))
        data = replace(data, sections=(longer, *others))
        write(file, header, timing, [(segment, data)], *rest)

    monkeypatch.setattr(assembly, "write_file", forgetful)
    with pytest.raises(NervError, match="reads back differently than written"):
        encode(tmp_path / "a.nerv")
    assert names(tmp_path) == ["a.nerv.checkpoint"]


@pytest.mark.parametrize("calls", [0, 7, 20, 23])
def test_stopping_leaves_a_checkpoint_only(calls: int, tmp_path: Path) -> None:
    left = iter(range(calls))
    with pytest.raises(Interrupted):
        encode(tmp_path / "a.nerv", stop=lambda: next(left, None) is None)
    assert names(tmp_path) == ["a.nerv.checkpoint"]


def test_an_error_in_the_fit_leaves_nothing(tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    def broken(_: Any) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):
        encode(tmp_path / "a.nerv", on_progress=broken)
    assert names(tmp_path) == []
