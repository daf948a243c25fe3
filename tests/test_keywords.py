"""Names of options in messages: those of the nervkit command, or those of Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import nervkit
from nervkit.errors import OutputError
from nervkit.keywords import command_names, is_command, option, setting
from tests.command import run_nervkit


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
