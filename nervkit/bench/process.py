"""Child processes whose time and memory are measured, and which end with us."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import psutil

from nervkit.errors import Interrupted, NervError, SourceError

SAMPLE_SECONDS = 0.02
#: how the line begins by which nervkit says why it failed (cli/app.py)
FAILURE = re.compile(r"nervkit( [a-z]+)*: ")


@dataclass(frozen=True)
class Finished:
    """A command that ended well: what it printed (or what `read` made of it), its seconds of
    wall time, and the most memory in bytes that it held, as sampled."""

    output: Any
    seconds: float
    peak_memory: int


class Runner:
    """Runs commands, from any thread. `stop` ends all that run: politely, then at once."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        command: list[str],
        *,
        read: Callable[[IO[bytes]], Any] | None = None,
        show: bool = False,
    ) -> Finished:
        """Run to the end.

        Args:
            command: the program and its arguments.
            read: consumes standard output to its end, as it comes; otherwise it is kept whole.
            show: copies standard error to ours, line by line, but for the failure of a nervkit:
                that is in the error.

        Raises:
            NervError: the command failed; the last line of its standard error says why.
            Interrupted: by Ctrl-C or `stop`. The command was asked to end, and has ended.
        """
        with tempfile.TemporaryFile() as errors:
            began = time.perf_counter()
            child = self._start(command, subprocess.PIPE if show else errors)
            with _MemoryMeter(child) as memory, _Echo(child.stderr, errors):
                try:
                    assert child.stdout is not None
                    output = child.stdout.read() if read is None else read(child.stdout)
                    code = child.wait()
                    seconds = time.perf_counter() - began
                except KeyboardInterrupt as error:
                    self._end(child)
                    raise Interrupted("stopped") from error
                except BaseException:
                    child.kill()
                    child.wait()
                    raise
                finally:
                    with self._lock:
                        self._live.discard(child)
            if self._stopped:
                raise Interrupted("stopped")
            if code != 0:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                reason = lines[-1] if lines else f"exit code {code}"
                if failure := FAILURE.match(reason):
                    raise NervError(reason[failure.end() :])
                raise NervError(f"{Path(command[0]).name} failed: {reason}")
            return Finished(output, seconds, memory.peak)

    def stop(self) -> None:
        """Ask everything that runs to end; a second call ends it at once."""
        with self._lock:
            number = signal.SIGKILL if self._stopped else signal.SIGINT
            self._stopped = True
            for child in self._live:
                child.send_signal(number)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        self.stop()
        try:
            child.wait()
        except KeyboardInterrupt:
            self.stop()
            child.wait()

    def _start(self, command: list[str], errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Interrupted("stopped")
            try:
                # In a session of its own, Ctrl-C reaches it once: through `stop`.
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise SourceError(f"{command[0]}: cannot be run ({error.strerror})") from error
            self._live.add(child)
            return child


class _Echo:
    """Copies lines from `source`, where there is one, to a file and to our standard error, but
    for a FAILURE, which goes to the file only."""

    def __init__(self, source: IO[bytes] | None, copy: IO[bytes]) -> None:
        self._source, self._copy = source, copy
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        for line in self._source or ():
            self._copy.write(line)
            text = line.decode(errors="replace")
            if not FAILURE.match(text):
                sys.stderr.write(text)
                sys.stderr.flush()


class _MemoryMeter:
    """The most resident memory of a process, as sampled; the system's own peak of a child is
    not it, as that counts from what its parent held."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._process = psutil.Process(child.pid)
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.is_set():
            try:
                self.peak = max(self.peak, self._process.memory_info().rss)
            except psutil.Error:  # it has ended
                return
            self._done.wait(SAMPLE_SECONDS)
