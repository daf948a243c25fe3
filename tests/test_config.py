"""Defaults of options from `nervkit.toml`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.command import run_nervkit
from tests.test_target import waves


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "clip.npy", waves(4))
    return tmp_path


def configured(folder: Path, text: str, name: str = "nervkit.toml") -> None:
    (folder / name).write_text(text)


def test_a_file_gives_defaults_and_the_command_line_wins(folder: Path) -> None:
    configured(folder, '[encode]\nsteps = 3\nframes = "0:2"\nbits = 6\nparams = "6k"\njson = true')
    done = run_nervkit("encode", "clip.npy", "-o", "a.nerv", cwd=folder, code=0)
    report = json.loads(done.stdout)
    assert (report["steps"], report["frames"]) == (3, 2)
    assert "defaults of nervkit.toml: bits 6, frames 0:2, json True, params 6k, steps 3" in (
        done.stderr
    )
    done = run_nervkit("encode", "clip.npy", "-o", "b.nerv", "--frames", ":3", cwd=folder, code=0)
    assert json.loads(done.stdout)["frames"] == 3


def test_an_option_replaces_the_file_s_options_that_it_excludes(folder: Path) -> None:
    configured(folder, '[encode]\npreset = "slow"\nbits = 6\njson = true\nquiet = true')
    options = ("--steps", "2", "--target-size", "9000")
    done = run_nervkit("encode", "clip.npy", "-o", "a.nerv", *options, cwd=folder, code=0)
    assert json.loads(done.stdout)["steps"] == 2
    assert done.stderr == ""


def test_each_command_has_its_table(folder: Path) -> None:
    configured(folder, '[encode]\nsteps = 2\nparams = "6k"\n[decode]\ncodec = "ffv1"\n', "my.toml")
    run_nervkit("encode", "clip.npy", "-o", "a.nerv", "--config", "my.toml", cwd=folder, code=0)
    decoded = ("decode", "a.nerv", "-o", "a.mkv", "--config", "my.toml")
    assert "defaults of my.toml: codec ffv1" in run_nervkit(*decoded, cwd=folder, code=0).stderr
    configured(folder, "[bench.run]\nsteps = 2\n")
    run_nervkit("info", "a.nerv", cwd=folder, code=0)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("[encode]\nstep = 3", 2, "'step' is no option of encode; did you mean steps?"),
        ("[encod]\nsteps = 3", 2, "'encod' is no command; did you mean encode?"),
        ("steps = 3", 2, "'steps' is no table of options"),
        ("[bench]\nsteps = 3", 2, "'steps' is no table of options"),
        ("[encode]\nconfig = 'x'", 2, "'config' is no option of encode"),
        ("[encode", 1, "is not TOML"),
        ("[encode]\nsteps = 'x'", 2, "'--steps': Input should be a valid integer"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, text: str, code: int, message: str) -> None:
    configured(folder, text)
    done = run_nervkit("encode", "clip.npy", "-o", "a.nerv", cwd=folder, code=code)
    assert message in done.stderr
    assert "nervkit.toml" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_asked_for_must_be_there(folder: Path) -> None:
    done = run_nervkit("info", "a.nerv", "--config", "no.toml", cwd=folder, code=1)
    assert done.stderr == "nervkit: no.toml: No such file or directory\n"
