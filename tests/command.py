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
    stdout: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `nervkit` with these arguments and a file (default: empty) on standard input. The folders
    `path` come first on Python's module path. With `code`, assert that exit code. With `stdout`,
    standard output goes to that file or named pipe, and is not in the result."""
    texts = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        printed, errors = (Path(folder) / name for name in ("stdout", "stderr"))
        streams = [Path(stdin), stdout or printed, errors]
        process = _forks.Process(target=_main, args=(texts, cwd, path, *streams))
        process.start()
        process.join()
        shown, stderr = (file.read_text() if file.exists() else "" for file in (printed, errors))
    assert process.exitcode is not None
    assert code is None or process.exitcode == code, stderr
    return subprocess.CompletedProcess(texts, process.exitcode, shown, stderr)


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
    for number, file in enumerate((stdin, stdout, stderr)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(file, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8")
    sys.argv = ["nervkit", *arguments]
    from nervkit.cli import main

    main()
