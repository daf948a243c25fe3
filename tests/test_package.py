"""The content of an installed wheel, and the files that describe the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

import nervkit
from nervkit.version import __version__

ROOT = Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def files_under(folder: Path) -> set[str]:
    """All files of a folder except Python's bytecode, as relative paths."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked wheel, built from a copy of the sources so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nervkit", source / "nervkit", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-c", BUILD, str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def distribution(installed: Path) -> Distribution:
    (folder,) = installed.glob("*.dist-info")
    return PathDistribution(folder)


def run(installed: Path, tmp_path: Path, code: str, *arguments: str) -> str:
    """Run Python with `nervkit` from the unpacked wheel and return its output."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_a_wheel_holds_every_file_of_the_package(installed: Path) -> None:
    packed = files_under(installed / "nervkit")
    assert packed == files_under(ROOT / "nervkit")
    assert {
        "py.typed",
        "bench/published.json",
        "bench/page/page.html",
        "bench/page/vendor/d3.min.js",
    } <= packed
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"nervkit"}


def test_a_wheel_says_what_it_is(distribution: Distribution) -> None:
    assert distribution.version == __version__
    assert distribution.metadata["License-Expression"] == "MIT"
    assert distribution.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    scripts = distribution.entry_points.select(group="console_scripts")
    assert [(script.name, script.value) for script in scripts] == [("nervkit", "nervkit.cli:main")]


def test_the_command_runs_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "import nervkit; print(nervkit.__file__)")
    assert Path(where.strip()) == installed / "nervkit" / "__init__.py"
    main = "from nervkit.cli import main; main()"
    assert run(installed, tmp_path, main, "--version").splitlines()[0].endswith(__version__)
    models = run(installed, tmp_path, main, "models", "--size", "32x32", "--frames", "2")
    assert {"gridnerv", "hnerv", "nerv"} <= {line.split()[0] for line in models.splitlines()}


def test_files_of_the_project_name_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(
        rf"^## (Unreleased|{re.escape(__version__)} )", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


def test_the_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^::: nervkit\.(\w+)$", page, re.M))
    assert documented - {"errors"} == set(nervkit.__all__) - {"NervError", "__version__", "open"}


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_of_pages_lead_to_files(page: Path) -> None:
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)#\s]+)", prose)
    broken = [
        link
        for link in links
        if not re.match(r"https?:", link) and not (page.parent / link).exists()
    ]
    assert not broken
