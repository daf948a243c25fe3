"""Run the command line in separate processes without the two seconds of loading torch: each process
is a fork of a server that has loaded all modules and computed nothing."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.preloaded"])


def run_nervkit(
    *arguments: str | Path,
    cwd: Path | None = None,
    code: int | None = None,
    stdin: str | Path = os.devnull,
    stdout: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `nervkit` with these arguments and a file (default: empty) on standard input. With
    `code`, assert that exit code. With `stdout`, standard output goes to that file and is not in
    the result."""
    texts = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        streams = [Path(stdin), stdout or outputs[0], outputs[1]]
        process = _forks.Process(target=_main, args=(texts, cwd, *streams))
        process.start()
        process.join()
        shown, stderr = (output.read_text() if output.exists() else "" for output in outputs)
    assert process.exitcode is not None
    assert code is None or process.exitcode == code, stderr
    return subprocess.CompletedProcess(texts, process.exitcode, shown, stderr)


def _main(arguments: list[str], cwd: Path | None, stdin: Path, stdout: Path, stderr: Path) -> None:
    """The child's work: files replace its standard streams."""
    os.chdir(cwd or Path.cwd())
    for number, path in enumerate((stdin, stdout, stderr)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8")
    sys.argv = ["nervkit", *arguments]
    from nervkit.cli import main

    main()
