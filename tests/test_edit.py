"""The kept part of a source: options, crop, resize, pixel aspect ratio."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nervkit.errors import FormatError, UsageError
from nervkit.units import parse_frames, parse_resize, parse_seconds, parse_size
from nervkit.video.edit import Crop, Edit, parse_span
from nervkit.video.reader import changed_options, read_clip


@pytest.fixture
def noise() -> np.ndarray:
    """A frame in which no two regions look alike."""
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def test_crop_in_the_centre_and_at_a_place(noise: np.ndarray) -> None:
    centred = Edit(crop=Crop.parse("31x20")).shape(noise)
    assert np.array_equal(centred, noise[20:40, 29:60])
    placed = Edit(crop=Crop.parse("30x20+60+40")).shape(noise)  # touches both edges
    assert np.array_equal(placed, noise[40:60, 60:90])


@pytest.mark.parametrize("text", ["91x10", "10x61", "30x20+61+0", "30x20+0+41"])
def test_a_crop_that_does_not_fit_is_refused(noise: np.ndarray, text: str) -> None:
    with pytest.raises(UsageError, match="does not fit into the 90x60"):
        Edit(crop=Crop.parse(text)).shape(noise)


@pytest.mark.parametrize(
    "text", ["", "5", "0x5", "5x0", "00x5", "-5x5", "5x5+1", "5x5-1-1", "axb", "5.5x5"]
)
def test_a_crop_must_be_well_formed(text: str) -> None:
    with pytest.raises(UsageError, match="crop must be"):
        Crop.parse(text)


@pytest.mark.parametrize("down, across", [(2, 2), (3, 1), (4, 3), (60, 90), (5, 9)])
def test_reduction_by_whole_factors_is_the_exact_mean(
    noise: np.ndarray, down: int, across: int
) -> None:
    small = Edit(resize=(90 // across, 60 // down)).shape(noise)
    sums = np.zeros(small.shape, np.int64)
    for row in range(down):
        for column in range(across):
            sums += noise[row::down, column::across]
    pixels = down * across
    assert small.dtype == np.uint8
    assert np.array_equal(small, (2 * sums + pixels) // (2 * pixels))  # rounded half up


def test_crop_comes_before_resize(noise: np.ndarray) -> None:
    both = Edit(crop=Crop.parse("40x20+10+30"), resize=(20, 10)).shape(noise)
    assert np.array_equal(both, Edit(resize=(20, 10)).shape(noise[30:50, 10:50]))


def test_other_reductions_are_antialiased() -> None:
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    small = Edit(resize=(40, 27)).shape(stripes)
    # Bilinear or nearest sampling gives stripes of full swing.
    assert small.shape == (27, 40, 3)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 16


def test_enlarging_keeps_a_ramp_in_place() -> None:
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 20, 0).repeat(3, 2)
    large = Edit(resize=(150, 50)).shape(ramp)
    places = (np.arange(150) + 0.5) / 2.5 - 0.5  # pixel centres
    wanted = places * 4
    assert np.abs(large[25, 8:-8, 0] - wanted[8:-8]).max() <= 1


@pytest.mark.parametrize("before", [Fraction(1), Fraction(4, 3), Fraction(64, 45)])
@pytest.mark.parametrize("crop", [None, "200x300"])
@pytest.mark.parametrize("resize", [None, "160x90", "333x97"])
def test_the_picture_keeps_its_shape_on_the_screen(
    before: Fraction, crop: str | None, resize: str | None
) -> None:
    edit = Edit.from_options(crop=crop, resize=resize)
    width, height = (200, 300) if crop else (720, 576)
    after = edit.sample_aspect_ratio(before, 720, 576)
    new_width, new_height = edit.resize or (width, height)
    shown = after * Fraction(new_width, new_height)
    assert float(shown) == pytest.approx(float(before * Fraction(width, height)), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": "1:30.5"},
        {"start": "1/3"},
        {"frames": "2:"},
        {"frames": ":7"},
        {"frames": slice(3, 9)},
        {"crop": "10x20", "resize": (30, 40)},
        {"crop": "10x20+3+4"},
        {"matrix": "bt709", "range": "full"},
    ],
)
def test_edits_survive_the_header(options: dict[str, Any]) -> None:
    edit = Edit.from_options(**options)
    stored = json.loads(json.dumps(edit.to_dict()))
    assert set(stored) == set(options)
    assert Edit.from_dict(stored) == edit


@pytest.mark.parametrize(
    "values",
    [
        {"start": "1/0"},
        {"start": None, "zoom": 2},
        {"frames": 5.5},
        {"frames": [1, 2]},
        {"crop": 7},
        {"resize": 7.5},
        {"resize": [1, 2, 3]},
        {"resize": "0x4"},
        {"start": "x" * 4096},
    ],
)
def test_a_damaged_header_edit_is_a_format_error(values: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="edit is invalid"):
        Edit.from_dict(values)


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("90", 90),
        (90, 90),
        (0.1, Fraction(1, 10)),
        ("90s", 90),
        ("1.5m", 90),
        ("2h", 7200),
        ("1001/30000", Fraction(1001, 30000)),
        ("01:30", 90),
        ("1:00:00.25", Fraction(14401, 4)),
    ],
)
def test_seconds(text: str | float, seconds: Fraction) -> None:
    assert parse_seconds(text, "start") == seconds


@pytest.mark.parametrize("text", ["", "-1", "1d", "1:", ":5", "nan", "1e3", "1/0", "1/00", "a"])
def test_bad_seconds(text: str) -> None:
    with pytest.raises(UsageError, match="start must be a time"):
        parse_seconds(text, "start")


@pytest.mark.parametrize(
    "frames, span",
    [
        (None, (0, None)),
        ("2:5", (2, 5)),
        (":5", (0, 5)),
        ("5:", (5, None)),
        (slice(2, 5), (2, 5)),
        (slice(None, None, 1), (0, None)),
        ("0", (0, 1)),
        ("5", (5, 6)),
        (7, (7, 8)),
    ],
)
def test_frames(frames: str | slice | None, span: tuple[int, int | None]) -> None:
    assert parse_frames(frames) == span


@pytest.mark.parametrize(
    "frames",
    ["", "5.0", "-1", -1, "5:5", "5:2", "-1:4", "a:b", "1:2:3", slice(0, 4, 2), slice(-3, None)],
)
def test_bad_frames(frames: str | slice) -> None:
    with pytest.raises(UsageError, match="frames must be a range"):
        parse_frames(frames)


@pytest.mark.parametrize(
    "given, span",
    [
        ((None, None, None), (0, None)),
        (("1:00", None, None), (60, None)),
        ((2, "2.5", None), (2, Fraction(5, 2))),
        ((None, 3, None), (0, 3)),
        (("1m", None, "1.5s"), (60, Fraction(123, 2))),
    ],
)
def test_spans(given: tuple[Any, Any, Any], span: tuple[Any, Any]) -> None:
    assert parse_span(*given) == span


@pytest.mark.parametrize(
    "given, problem",
    [
        ((None, 3, 3), "to and duration both"),
        ((3, 3, None), "to 3 must be later than start, 3 s"),
        ((None, 0, None), "to 0 must be later"),
        ((3, None, 0), "duration must be more than 0"),
        ((None, "soon", None), "to must be a time"),
        ((None, None, "-1"), "duration must be a time"),
    ],
)
def test_bad_spans(given: tuple[Any, Any, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_span(*given)


def test_the_part_before_a_time_has_frames_and_sound_of_that_time(bunny: Any) -> None:
    whole = read_clip(bunny, frames=":12", resize=64)
    part = read_clip(bunny, start=0.1, to="0.4", resize=64)
    # At 25 fps, frames 3 to 9 are shown from 0.12 to 0.36 s.
    assert np.array_equal(part.frames, whole.frames[3:10])
    assert (part.timing.pts[0], part.timing.seconds[1]) == (0, Fraction(7, 25))
    assert part.edit == {"start": "1/10", "frames": "0:7", "resize": "64x36"}
    assert part.audio
    # What is stored finds the same again, and so does a duration.
    again = read_clip(bunny, **Edit.from_dict(part.edit).to_dict())
    silent = read_clip(bunny, start=0.1, duration=0.3, resize=(64, 36), audio=False)
    assert np.array_equal(again.frames, part.frames)
    assert np.array_equal(silent.frames, part.frames)
    assert not silent.tracks
    second = read_clip(bunny, start=0.1, to=0.4, frames=1, resize=64)
    assert np.array_equal(second.frames, whole.frames[4:5])


def test_only_what_differs_from_the_default_counts_as_given() -> None:
    defaults = {"audio": True, "subtitles": True, "strict": False, "fps": None}
    assert changed_options(defaults) == []
    assert changed_options({**defaults, "subtitles": False, "start": 0}) == ["start", "subtitles"]
    clip = read_clip(np.zeros((2, 4, 6, 3), np.uint8), fps=25)
    assert read_clip(clip, **defaults) is clip
    with pytest.raises(UsageError, match="audio does not apply"):
        read_clip(clip, audio=False)


@pytest.mark.parametrize(
    "text, before, after",
    [
        ("640x360", (1280, 721), (640, 360)),
        ("640:360", (1280, 721), (640, 360)),
        ((640, -1), (1280, 720), (640, 360)),
        ("640", (1280, 720), (640, 360)),
        (640, (1280, 718), (640, 360)),  # exactly 359, which is as far from 358
        ("640x-1", (1280, 718), (640, 359)),
        ("640:-2", (1280, 716), (640, 358)),
        ("-1x90", (161, 121), (120, 90)),  # 119.75
        ("-2:7", (3, 1000), (2, 7)),  # no side vanishes
        ("-1:7", (3, 1000), (1, 7)),
    ],
)
def test_a_side_may_follow(text: Any, before: tuple[int, int], after: tuple[int, int]) -> None:
    edit = Edit(resize=parse_resize(text))
    assert edit.resized(*before) == after
    assert edit.settled(*before).resize == after
    width, height = before
    assert edit.shape(np.zeros((height, width, 3), np.uint8)).shape == (after[1], after[0], 3)
    ratio = edit.sample_aspect_ratio(Fraction(1), *before)
    assert ratio * Fraction(*after) == pytest.approx(Fraction(*before), rel=1e-3)


def test_a_side_follows_what_the_crop_left() -> None:
    edit = Edit.from_options(crop="300x100", resize="60")
    assert edit.settled(1280, 720).resize == (60, 20)
    luma, u, v = edit.shape_planes(
        [np.zeros(shape, np.uint8) for shape in ((720, 1280), (360, 640), (360, 640))]
    )
    assert (luma.shape, u.shape, v.shape) == ((20, 60), (10, 30), (10, 30))


def test_a_side_that_follows_too_far() -> None:
    with pytest.raises(UsageError, match="10x9000 would become 640x576000"):
        Edit.from_options(resize=640).resized(10, 9000)


@pytest.mark.parametrize(
    "size", ["", "0", "640x", "x360", "-1x-1", "-2:-1", "640x-3", "640x0", "16385", (640,) * 3, 6.5]
)
def test_bad_sizes_to_resize_to(size: Any) -> None:
    with pytest.raises(UsageError, match="resize must be WxH"):
        parse_resize(size)


def test_sizes() -> None:
    assert parse_size("161x121", "size") == (161, 121)
    assert parse_size("16384X1", "size") == (16384, 1)
    assert parse_size("161:121", "size") == (161, 121)
    assert parse_size((3, 4), "size") == (3, 4)


@pytest.mark.parametrize("size", ["", "5", "0x5", "16385x5", "5x5x5", "-5x5", (5.0, 4), (1,), 5])
def test_bad_sizes(size: Any) -> None:
    with pytest.raises(UsageError, match="size must be WxH"):
        parse_size(size, "size")
