"""The work folder of an encode, beside its output: finished segments, each a .nerv file, and the
checkpoints of running fits."""

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
from nervkit.keywords import setting
from nervkit.output import LONGEST_NAME, helper_path, replacing, system_errors

SUFFIXES = (".nerv", ".json", ".npy", ".checkpoint")  # of the files in the folder


@dataclass(frozen=True)
class WorkFolder:
    """The work folder of one output.

    Attributes:
        path: the folder; the first file creates it.
        interval: seconds between checkpoints.
        restart: whether to discard earlier files.
    """

    path: Path
    interval: float
    restart: bool

    @classmethod
    def beside(cls, output: Path, interval: float, restart: bool) -> WorkFolder:
        """Return the folder of an output: its path with ".segments" appended, or a hidden short
        name if that is too long. Raises OutputError if the path is taken by something else."""
        path = output.with_name(output.name + ".segments")
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            path = helper_path(output, "segments")
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise OutputError(f"{path}: nervkit needs this path for its work folder; move it away")
        folder = cls(path, interval, restart)
        if restart:
            folder.remove()
        return folder

    def finished(self, job: SegmentJob) -> SegmentReport | None:
        """Return the report of a finished and intact segment, else None. Raises SourceError if the
        segment belongs to an encode with other options."""
        try:
            record = json.loads(self._path(job.index, ".json").read_text())
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
                f"to resume it, or set {setting('restart', True)} to discard them"
            )
        try:
            with NervFile(self._path(job.index, ".nerv"), UNLIMITED) as file:
                file.check_all()
        except (FormatError, SourceError):
            return None
        return report

    def keep(self, job: SegmentJob, content: bytes, report: SegmentReport) -> None:
        """Write a finished segment and remove its checkpoint. Raises OutputError."""
        record = {"identity": job.identity(), "report": report.to_dict()}
        self._create()
        with replacing(self._path(job.index, ".nerv")) as partial:
            _write(partial, content)
        with replacing(self._path(job.index, ".json")) as partial:
            _write(partial, json.dumps(record).encode())
        for suffix in (".checkpoint", ".npy"):
            self._path(job.index, suffix).unlink(missing_ok=True)

    def save_frames(self, index: int, frames: np.ndarray) -> Path:
        """Write a segment's frames, for a worker that cannot read them from the source. Raises
        OutputError."""
        self._create()
        path = self._path(index, ".npy")
        with system_errors(path):
            np.save(path, frames)
        return path

    def checkpoint(self, index: int) -> CheckpointOptions:
        """Return the path and the interval of a segment's checkpoint."""
        self._create()
        return CheckpointOptions(self._path(index, ".checkpoint"), self.interval)

    def parts(self, reports: list[SegmentReport]) -> list[FinishedSegment]:
        """Return the finished segments in the order of their reports."""
        return [
            FinishedSegment(self._path(report.index, ".nerv"), np.array(report.samples, np.uint8))
            for report in reports
        ]

    def remove(self) -> None:
        """Remove nervkit's files, and the folder if nothing else is in it."""
        if not self.path.is_dir():
            return
        with system_errors(self.path):
            for file in self.path.iterdir():
                if file.suffix in SUFFIXES or file.name.startswith("."):
                    file.unlink()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def _create(self) -> None:
        with system_errors(self.path):
            self.path.mkdir(exist_ok=True)

    def _path(self, index: int, suffix: str) -> Path:
        return self.path / f"{index:05d}{suffix}"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
