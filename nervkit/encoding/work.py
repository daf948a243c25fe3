"""The folder beside an output in which its segments lie while an encode runs: finished ones, each a
file of its own, and the checkpoints of those in work."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nervkit.assembly import FinishedSegment
from nervkit.container.file import NervFile
from nervkit.container.limits import UNLIMITED
from nervkit.encoding.segment import SegmentJob, SegmentReport
from nervkit.errors import FormatError, OutputError, SourceError
from nervkit.fitting.job import CheckpointOptions
from nervkit.output import LONGEST_NAME, helper, replacing, system_errors

SUFFIXES = (".nerv", ".json", ".npy", ".checkpoint")  # of what lies there


@dataclass(frozen=True)
class WorkFolder:
    """Where the segments of one output lie.

    Attributes:
        path: the folder; it is made when something is put there.
        interval: seconds between checkpoints.
        restart: whether what lies there is discarded.
    """

    path: Path
    interval: float
    restart: bool

    @classmethod
    def beside(cls, output: Path, interval: float, restart: bool) -> WorkFolder:
        """That of an output, in plain sight. Raises OutputError where something else stands in its
        place."""
        path = output.with_name(output.name + ".segments")
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            path = helper(output, "segments")
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise OutputError(f"{path}: is where nervkit keeps a folder; move it away")
        folder = cls(path, interval, restart)
        if restart:
            folder.remove()
        return folder

    def finished(self, job: SegmentJob) -> SegmentReport | None:
        """The report of a segment that is there whole; None where it is not. Raises SourceError
        where it is of another encode."""
        try:
            record = json.loads(self._place(job.index, ".json").read_text())
            report = SegmentReport(**record["report"])
            identity: dict[str, Any] = record["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        wanted = json.loads(json.dumps(job.identity()))
        if identity != wanted:
            differing = sorted(k for k in identity | wanted if identity.get(k) != wanted.get(k))
            changes = ", ".join(f"{k}: {identity.get(k)} -> {wanted.get(k)}" for k in differing)
            raise SourceError(
                f"{self.path}: holds segments of another encode ({changes}); repeat that command "
                "to go on with it, or use --restart to discard it"
            )
        try:
            with NervFile(self._place(job.index, ".nerv"), UNLIMITED) as file:
                file.check_all()
        except (FormatError, SourceError):
            return None
        return report

    def keep(self, job: SegmentJob, content: bytes, report: SegmentReport) -> None:
        """Put a finished segment there. Raises OutputError."""
        record = {"identity": job.identity(), "report": report.to_dict()}
        self._make()
        with replacing(self._place(job.index, ".nerv")) as partial:
            _write(partial, content)
        with replacing(self._place(job.index, ".json")) as partial:
            _write(partial, json.dumps(record).encode())
        for suffix in (".checkpoint", ".npy"):
            self._place(job.index, suffix).unlink(missing_ok=True)

    def frames(self, index: int, frames: np.ndarray) -> Path:
        """Put a segment's frames there, for a worker that cannot read them from the source. Raises
        OutputError."""
        self._make()
        path = self._place(index, ".npy")
        with system_errors(path):
            np.save(path, frames)
        return path

    def checkpoint(self, index: int) -> CheckpointOptions:
        """Where the checkpoint of a segment lies."""
        self._make()
        return CheckpointOptions(self._place(index, ".checkpoint"), self.interval)

    def parts(self, reports: list[SegmentReport]) -> list[FinishedSegment]:
        """The finished segments, in order."""
        return [
            FinishedSegment(self._place(report.index, ".nerv"), np.array(report.samples, np.uint8))
            for report in reports
        ]

    def remove(self) -> None:
        """Remove what nervkit has put there, and the folder where it is empty then."""
        if not self.path.is_dir():
            return
        with system_errors(self.path):
            for file in self.path.iterdir():
                if file.suffix in SUFFIXES or file.name.startswith("."):
                    file.unlink()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def _make(self) -> None:
        with system_errors(self.path):
            self.path.mkdir(exist_ok=True)

    def _place(self, index: int, suffix: str) -> Path:
        return self.path / f"{index:05d}{suffix}"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
