"""Names of options in messages: those of the nervkit command, or those of Python."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_args

import pytest

import nervkit
from nervkit import choices
from nervkit.collection.adding import add
from nervkit.compression.published import COMPRESSIONS, PAPER
from nervkit.container.header import MATRICES, RANGES
from nervkit.errors import OptionError, OutputError
from nervkit.fitting.budget import PRESETS
from nervkit.keywords import command_names, is_command, option, setting
from nervkit.video.movies import CODECS, OTHER_NAMES
from nervkit.video.reader import READING, read_clip
from tests.command import run_nervkit

RESTORATIONS = (nervkit.denoise, nervkit.inpaint, nervkit.interpolate)


def test_names_follow_the_interface() -> None:
    assert option("target_size") == option("target-size") == "target_size"
    assert setting("fit", False) == "fit=False"
    assert setting("segments", "off") == "segments='off'"
    with command_names():
        assert is_command()
        assert option("target_size") == "--target-size"
        assert setting("restart", True) == "--restart"
        assert setting("fit", False) == "--no-fit"
        assert setting("frames", 5) == "--frames 5"
        with command_names(False):
            assert option("fps") == "fps"
    assert not is_command()


@pytest.mark.parametrize("function", [nervkit.encode, nervkit.verify, add, *RESTORATIONS])
def test_signatures_name_every_option(function: Callable[..., Any]) -> None:
    shown, described = signature(function).parameters, signature(read_clip).parameters
    assert not any(p.kind is Parameter.VAR_KEYWORD for p in shown.values())
    own = {"fps"} if function is nervkit.interpolate else set()
    for name in {*READING} - own:
        assert shown[name].kind is Parameter.KEYWORD_ONLY
        assert (shown[name].default, shown[name].annotation) == (
            described[name].default,
            described[name].annotation,
        )


@pytest.mark.parametrize("function", RESTORATIONS)
def test_restorations_show_the_defaults_of_encode(function: Callable[..., Any]) -> None:
    shown, encode = signature(function).parameters, signature(nervkit.encode).parameters
    for name in ("model", "recipe", "seed", "device", "precision", "overwrite", "restart"):
        assert shown[name].default == encode[name].default
    assert shown["checkpoint_interval"].default == encode["checkpoint_interval"].default
    assert shown["stop"].default is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nervkit.encode("a", "b", FPS=5), r"encode\(\) .*'FPS'; .*'fps'\?"),
        (lambda: nervkit.write("a", "b", xyz=3), r"write\(\) has no option 'xyz'$"),
        (lambda: nervkit.info("a", limts=1), r"info\(\) .*'limits'\?"),
        (lambda: nervkit.Collection("a", devce=1), r"Collection\(\) .*'device'\?"),
        (lambda: nervkit.encode("a", "b", codec="x264"), r"has no option 'codec'$"),
    ],
)
def test_unknown_options_come_with_the_nearest_known(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        call()


def test_literal_types_list_what_options_take() -> None:
    assert set(get_args(choices.PresetName)) == {*PRESETS}
    assert set(get_args(choices.CompressionName)) == {*COMPRESSIONS, PAPER}
    assert set(get_args(choices.MatrixName)) == {*MATRICES}
    assert set(get_args(choices.RangeName)) == {*RANGES}
    encoders = {codec.encoder for codec in CODECS.values()}
    assert set(get_args(choices.CodecName)) == {*CODECS, *OTHER_NAMES, *encoders}


def test_a_missing_folder_comes_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "in.y4m").write_bytes(b"YUV4MPEG2 W4 H4 F5:1\nFRAME\n" + bytes(24))
    output = tmp_path / "a b" / "out.mkv"
    with pytest.raises(OutputError, match=r"create it first: mkdir -p '.*a b'$"):
        nervkit.denoise(tmp_path / "in.y4m", output)


def test_notes_and_results_of_a_command(tmp_path: Path) -> None:
    (tmp_path / "in.y4m").write_bytes(b"YUV4MPEG2 W16 H16 F5:1\n" + (b"FRAME\n" + bytes(384)) * 3)
    command = ("inpaint", "in.y4m", "-o", "out.npy", "--box", "2,2,4,4", "--no-fit")
    shown = run_nervkit(*command, cwd=tmp_path, code=0).stderr
    assert "(set --matrix and --range to change it)" in shown
    assert "6.2% of the pixels were unknown; 0% of these were found in other frames" in shown
    assert "missing" not in shown
    again = run_nervkit(*command, cwd=tmp_path, code=1).stderr
    assert "out.npy: exists already; use -y to replace it" in again
