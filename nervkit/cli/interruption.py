"""How Ctrl-C, SIGTERM and SIGHUP end a command: within a second, with nothing half-written.

Python runs a signal's handler between two steps of the main thread, and one call of torch or ffmpeg
may take minutes. Python's C code writes the signal's number to a pipe at once, though, so a thread
that reads the pipe ends the process where the main thread does not get to it.
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

CLEANING_SECONDS = 0.7  # that the main thread has to clean up
EXIT_CODE = 130


class Manner(Enum):
    """What a signal does."""

    END = "the command ends, and cleans up"
    ASK = "the command is asked to end, as a fit has a checkpoint to write; the next ends it"
    PASS = "each is a KeyboardInterrupt; the command ends its child processes, in their time"


class Interruption:
    """Handles the signals while it is entered.

    Attributes:
        manner: what signals do from now on.
        came: whether one has come.
    """

    def __init__(self) -> None:
        self.manner = Manner.END
        self.came = False

    def __enter__(self) -> Self:
        self.manner, self.came = Manner.END, False
        self._ending = threading.Lock()
        numbers = [signal.SIGINT, signal.SIGTERM]
        # A script's background jobs start with Ctrl-C ignored, which is not meant for us; nohup is.
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

    def ask(self) -> None:
        """From now on the command looks at `came`, and keeps what it has."""
        self.manner = Manner.ASK

    def end(self, message: str) -> NoReturn:
        """Leave the process at once, with a line for people. Nobody waits for threads: torch may be
        in the middle of a frame, and would abort if Python ended around it."""
        self._ending.acquire()  # never given back: only one thread ends a process
        remove_temporary()
        let_go_of_lost_terminal()
        with suppress(OSError):  # whoever read what we write may have gone as well
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
            complain(message)
            sys.stdout.flush()
        os._exit(EXIT_CODE)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, once it gets to it."""
        first, self.came = not self.came, True
        let_go_of_lost_terminal()
        if self.manner is Manner.PASS or (self.manner is Manner.END and first):
            raise KeyboardInterrupt
        if self.manner is Manner.ASK and first:
            say("stopping: a checkpoint is written; once more ends at once")

    def _watch(self) -> None:
        """In a thread of its own, as soon as a signal comes."""
        came = 0
        while received := os.read(self._read, 64):
            came += sum(number in self._before for number in received)
            if came and self.manner is Manner.END:
                time.sleep(CLEANING_SECONDS)
                self.end("nervkit: interrupted")
            if came > 1 and self.manner is Manner.ASK:
                self.end("nervkit: interrupted")


def let_go_of_lost_terminal() -> None:
    """Write to nowhere what would go to a terminal that was closed, which is an error: a fit has a
    checkpoint to write then."""
    for descriptor in (1, 2):
        with suppress(OSError):
            device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            if device and not os.isatty(descriptor):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)


#: that of the running command
interruption = Interruption()


def going_on(error: Interrupted) -> Interrupted:
    """The error, with what to do where there is something to go on from."""
    advice = "; run the same command again to go on" if error.resumable else ""
    return Interrupted(f"{error}{advice}", resumable=error.resumable)
