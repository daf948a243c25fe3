"""Run the command line in separate processes without the two seconds of loading torch: each process
is a fork of a server that has loaded all modules and computed nothing."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.preloaded"])


def run_nervkit(
    *arguments: str | Path,
    cwd: Path | None = None,
    path: Sequence[Path] = (),
    code: int | None = None,
    stdin: str | Path = os.devnull,
) -> subprocess.CompletedProcess[str]:
    """Run `nervkit` with these arguments and a file (default: empty) on standard input. The folders
    `path` come first on Python's module path. With `code`, assert that exit code."""
    texts = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _forks.Process(target=_main, args=(texts, cwd, path, Path(stdin), *outputs))
        process.start()
        process.join()
        stdout, stderr = (output.read_text() for output in outputs)
    assert process.exitcode is not None
    assert code is None or process.exitcode == code, stderr
    return subprocess.CompletedProcess(texts, process.exitcode, stdout, stderr)


def _main(
    arguments: list[str],
    cwd: Path | None,
    path: Sequence[Path],
    stdin: Path,
    stdout: Path,
    stderr: Path,
) -> None:
    """The child's work: files replace its standard streams."""
    os.chdir(cwd or Path.cwd())
    sys.path[:0] = map(str, path)
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*map(str, path), *known]))
    for number, path in enumerate((stdin, stdout, stderr)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8") for number in (1, 2))
    sys.argv = ["nervkit", *arguments]
    from nervkit.cli import main

    main()
