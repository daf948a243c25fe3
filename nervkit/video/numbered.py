"""Output of frames as numbered image files in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
from PIL import Image

from nervkit.errors import OutputError, SourceError, UsageError
from nervkit.keywords import either
from nervkit.output import check_place, filling, helper_path, link_target, system_errors
from nervkit.video.images import images_in, images_like

IMAGE_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")
NUMBER = re.compile(r"%(0?)(\d{0,2})d")


def save_image(frame: np.ndarray, path: Path) -> None:
    """Write an (H, W, 3) uint8 frame in the image format of the suffix."""
    Image.fromarray(frame).save(path)


@dataclass(frozen=True)
class Numbered:
    """Numbered images in `folder`, named by `pattern`, a file name with one number such as
    %05d.png. `whole`: the user named the folder, not a pattern."""

    folder: Path
    pattern: str
    whole: bool = False

    @classmethod
    def named(cls, output: str) -> Numbered | None:
        """Parse an output name; None if it names a single file. Raises UsageError for an invalid
        pattern."""
        path = Path(output)
        if output.endswith("/") or path.is_dir():
            return cls(link_target(path), "%05d.png", whole=True)
        if path.suffix and path.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        if NUMBER.search(path.name) is None:
            return cls(link_target(path), "%05d.png", whole=True) if not path.suffix else None
        if not path.suffix or len(NUMBER.findall(path.name)) > 1:
            raise UsageError(
                f"{path.name}: a pattern needs exactly one number and a known suffix, such as "
                f"%05d.png ({', '.join(IMAGE_SUFFIXES)})"
            )
        return cls(path.parent, path.name)

    @property
    def place(self) -> Path:
        """The path beside which helper files (lock, partial output) go: in the folder if it
        exists."""
        return self.folder / self.pattern if self.folder.is_dir() else self.folder

    def name(self, index: int) -> str:
        """Return the file name of a frame."""
        return NUMBER.sub(
            lambda found: str(index).rjust(int(found[2] or 0), found[1] or " "), self.pattern
        )

    def is_name(self, name: str) -> bool:
        """Whether this is the file name of some frame."""
        before, after = (re.escape(part) for part in NUMBER.split(self.pattern)[::3])
        found = re.fullmatch(rf"{before} *(\d+){after}", name)
        return found is not None and name == self.name(int(found[1]))

    def existing(self) -> list[Path]:
        """Return the existing files that have the name of a frame."""
        return sorted(path for path in self._inside() if self.is_name(path.name))

    def _inside(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def check(self, overwrite: bool, source: object = None) -> None:
        """Raise, before any work, if the images cannot be written or would replace those of the
        source; without `overwrite`, if they would replace any."""
        with system_errors(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise OutputError(f"{self.folder}: exists already and is not a folder")
            if not self.whole and not self.folder.is_dir():
                raise OutputError(
                    f"{self.folder}: no such folder for the output; "
                    f"create it first: mkdir -p {quote(str(self.folder))}"
                )
            check_place(self.place)
            self._check_source(source)
            taken = self.existing()
            if self.whole and any(path.name[0] != "." for path in self._inside()):
                taken = [self.folder]
            if taken and not overwrite:
                raise OutputError(
                    f"{taken[0]}: exists already; use {either('-y', 'overwrite=True')} to "
                    "replace it"
                )

    def _check_source(self, source: object) -> None:
        if not isinstance(source, (str, os.PathLike)) or not self.folder.is_dir():
            return
        path = Path(source)
        if self.whole and path.is_dir() and path.samefile(self.folder):
            raise UsageError(f"{self.folder}: input and output are the same folder")
        try:
            files = images_in(path) if path.is_dir() else images_like(os.fspath(source))
        except SourceError:
            return  # no images; reading the source reports any error
        read = {file.resolve() for file in files}
        for file in self.existing():
            if file.resolve() in read:
                raise UsageError(f"{file}: input and output are the same file")

    def write(self, frames: Iterable[np.ndarray], count: int) -> list[str]:
        """Write `count` frames, (H, W, 3) uint8 each. Return a note on older images that remain."""
        written = {self.name(index) for index in range(count)}
        older = [path.name for path in self.existing() if path.name not in written]
        with filling(self.folder, helper_path(self.place, "partial"), self.is_name) as folder:
            for index, frame in enumerate(frames):
                path = folder / self.name(index)
                with system_errors(self.folder / path.name):
                    save_image(frame, path)
        if not older:
            return []
        return [f"{self.folder}: {len(older)} older images remain, such as {older[0]}"]
