"""Signal handling: Ctrl-C, SIGTERM and SIGHUP end a command within a second, without half-written
files.

Python runs signal handlers in the main thread between two bytecodes, and one call of torch or
ffmpeg may take minutes. But Python's C code writes the signal number to a pipe at once. A thread
that reads this pipe ends the process if the main thread does not.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from enum import Enum
from types import FrameType
from typing import NoReturn, Self

from nervkit.cli.console import complain, say
from nervkit.errors import Interrupted
from nervkit.output import remove_temporary

CLEANUP_SECONDS = 0.7  # for the main thread to clean up
EXIT_CODE = 130


class SignalResponse(Enum):
    """The response to a signal."""

    END = "the command cleans up and ends"
    ASK = "the first signal asks the command to write a checkpoint and end; the second ends it"
    PASS = "each signal raises KeyboardInterrupt; the command waits for its child processes"


class Interruption:
    """A context manager that handles the signals.

    Attributes:
        manner: the response to the next signal.
        received: whether a signal was received.
    """

    def __init__(self) -> None:
        self.manner = SignalResponse.END
        self.received = False

    def __enter__(self) -> Self:
        self.manner, self.received = SignalResponse.END, False
        self._ending = threading.Lock()
        numbers = [signal.SIGINT, signal.SIGTERM]
        # Shells start background jobs of scripts with SIGINT ignored; handle it anyway. An ignored
        # SIGHUP comes from nohup and stays ignored.
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        self._read, self._write = os.pipe()
        if os.name != "nt":
            os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def request_checkpoint(self) -> None:
        """Set the response to ASK: the command polls `received` and writes a checkpoint."""
        self.manner = SignalResponse.ASK

    def end(self, message: str) -> NoReturn:
        """Print a message and end the process at once, without waiting for threads: torch would
        abort if Python shut down while it computes."""
        self._ending.acquire()  # never released: only one thread may end the process
        remove_temporary()
        detach_closed_terminal()
        with suppress(OSError):  # the reader of a pipe may have ended as well
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
            complain(message)
            sys.stdout.flush()
        os._exit(EXIT_CODE)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal in the main thread, as soon as Python gets there."""
        first, self.received = not self.received, True
        detach_closed_terminal()
        if self.manner is SignalResponse.PASS or (self.manner is SignalResponse.END and first):
            raise KeyboardInterrupt
        if self.manner is SignalResponse.ASK and first:
            say("stopping; interrupt again to end at once")

    def _watch(self) -> None:
        """Wait for signals in a thread, and end the process if the main thread does not."""
        came = 0
        while received := os.read(self._read, 64):
            came += sum(number in self._before for number in received)
            if came and self.manner is SignalResponse.END:
                time.sleep(CLEANUP_SECONDS)
                self.end("nervkit: interrupted")
            if came > 1 and self.manner is SignalResponse.ASK:
                self.end("nervkit: interrupted")


def detach_closed_terminal() -> None:
    """Redirect output for a closed terminal to the null device: an error of `print` must not keep a
    fit from writing its checkpoint."""
    for descriptor in (1, 2):
        with suppress(OSError):
            device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            if device and not os.isatty(descriptor):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)


#: signal handling of the running command
interruption = Interruption()


def with_resume_hint(error: Interrupted) -> Interrupted:
    """Return the error with advice to rerun the command, if it can resume."""
    advice = "; run the same command again to resume" if error.resumable else ""
    return Interrupted(f"{error}{advice}", resumable=error.resumable)
