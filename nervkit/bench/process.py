"""Child processes: their time and memory are measured, and they end with this process."""

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
#: prefix of the error line of a nervkit command (cli/app.py)
FAILURE = re.compile(r"nervkit( [a-z]+)*: ")


@dataclass(frozen=True)
class Finished:
    """A command that succeeded: its standard output (or the result of `read`), its wall time in
    seconds, and its peak resident memory in bytes, as sampled."""

    output: Any
    seconds: float
    peak_memory: int


class Runner:
    """Runs commands, from any thread. `stop` ends all of them: first with SIGINT, then SIGKILL."""

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
        """Run a command to its end.

        Args:
            command: the program and its arguments.
            read: consumes standard output as a stream, to its end; None: the output is collected.
            show: copies standard error to ours, line by line, except the error line of a nervkit
                command, which becomes the exception's message.

        Raises:
            NervError: the command failed; the message is the last line of its standard error.
            SourceError: the program cannot be started.
            Interrupted: Ctrl-C or `stop`; the command has ended.
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
        """Interrupt all running commands; a second call kills them."""
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
                # In a session of its own, the child gets Ctrl-C once: through `stop`.
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
    """Copies lines from `source`, if any, to a file and to our standard error. A line that matches
    FAILURE goes to the file only."""

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
    """Samples the resident memory of a process and keeps the peak. The system's own peak of a
    child is no substitute: it starts at its parent's memory."""

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
            except psutil.Error:  # the process has ended
                return
            self._done.wait(SAMPLE_SECONDS)
