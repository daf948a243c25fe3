"""Datasets by name: find their clips below a folder, with the crops that papers use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from nervkit.errors import SourceError, UsageError
from nervkit.video.images import EXTENSIONS, natural


@dataclass(frozen=True)
class ClipSpec:
    """One clip to measure on.

    Attributes:
        name: short, unique in the run, and safe as a file name.
        path: the clip's file or folder.
        dataset: the dataset with its variant, such as "uvg@hnerv"; None for other clips.
        options: options of `read_clip`, as text or bool.
    """

    name: str
    path: Path
    dataset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """The clips of a dataset that were found, and the names of the missing sequences."""

    name: str
    clips: list[ClipSpec]
    missing: list[str]


@dataclass(frozen=True)
class Sequence:
    """A sequence of a fixed list: prefixes of its file or folder name, its frames and its fps."""

    names: tuple[str, ...]
    frames: int
    fps: int


#: names and variants, with their options of `read_clip`; crops are centred. Sources:
#: HNeRV's README (Bunny) and issue 4 (crops to 1:2), DNeRV's configuration (DAVIS at 1920x960),
#: NeRV's README and the scripts of Boosting-NeRV (whole frames)
VARIANTS: dict[str, dict[str, str]] = {
    "bunny": {},
    "bunny@nerv": {},
    "bunny@hnerv": {"crop": "1280x640"},
    "bunny@hnerv-boost": {},
    "uvg": {},
    "uvg@hnerv": {"crop": "1920x960"},
    "mcl-jcv": {},
    "davis": {},
    "davis@hnerv": {"crop": "1920x960"},
    "davis@hnerv-boost": {},
    "folder": {},
}

# Lengths and rates of UVG and MCL-JCV are from microsoft/DCVC, test_cfg/all_yuv420.json. UVG calls
# the download ReadySetGo and the file in it ReadySteadyGo.
LISTED_SIZE = (1920, 1080)
LISTED: dict[str, dict[str, Sequence]] = {
    "uvg": {
        "beauty": Sequence(("Beauty",), 600, 120),
        "bosphorus": Sequence(("Bosphorus",), 600, 120),
        "honeybee": Sequence(("HoneyBee",), 600, 120),
        "jockey": Sequence(("Jockey",), 600, 120),
        "readysetgo": Sequence(("ReadySetGo", "ReadySteadyGo"), 600, 120),
        "shakendry": Sequence(("ShakeNDry",), 300, 120),
        "yachtride": Sequence(("YachtRide",), 600, 120),
    },
    "mcl-jcv": {
        f"videosrc{number:02}": Sequence((f"videoSRC{number:02}",), 5 * fps, fps)
        for fps, numbers in {
            24: (17, 21, 22, 23, 24, 25, 29),
            25: (5, 6, 7, 8, 9, 18, 20),
            30: (1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 19, 26, 27, 28, 30),
        }.items()
        for number in numbers
    },
}
LISTED_SUFFIXES = (".yuv", ".y4m", ".mp4")

BUNNY_MOVIES = ("bigbuckbunny.mp4", "bunny.mp4")
BUNNY_FRAMES = 132

DAVIS_FOLDERS = {"davis": ("480p",)}
DAVIS_FULL = ("1080p", "Full-Resolution")  # in DAVIS 2016 and 2017
# The validation sequences of DAVIS 2016, as in Boosting-NeRV's scripts.
DAVIS_VALIDATION = (
    *("blackswan", "bmx-trees", "breakdance", "camel", "car-roundabout"),
    *("car-shadow", "cows", "dance-twirl", "dog", "drift-chicane"),
    *("drift-straight", "goat", "horsejump-high", "kite-surf", "libby"),
    *("motocross-jump", "paragliding-launch", "parkour", "scooter-black", "soapbox"),
)

FOLDER_SUFFIXES = (
    *(".yuv", ".y4m", ".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v"),
    *(".mpg", ".mpeg", ".ts", ".ogv", ".wmv", ".flv"),
)


def dataset_clips(name: str, root: Path) -> Dataset:
    """Find the clips of a dataset below `root`, in the dataset's standard order.

    Args:
        name: one of VARIANTS.
        root: a folder; for `bunny` also the file itself.

    Raises:
        UsageError: an unknown dataset.
        SourceError: no clip was found, or a raw file has the wrong size.
    """
    if name not in VARIANTS:
        raise UsageError(f"unknown dataset {name!r}; choose from: {', '.join(VARIANTS)}")
    base = name.partition("@")[0]
    find, looked_for = _FINDERS[base]
    if not root.exists():
        raise SourceError(f"{root}: no such file or folder")
    if not root.is_dir() and base != "bunny":
        raise SourceError(f"{root}: is a file; {base} needs a folder of clips")
    clips, missing = find(name, root)
    if not clips:
        raise SourceError(f"{root}: holds no clip of {base}; looked for {looked_for}")
    return Dataset(name, clips, missing)


def unique_name(stem: str, taken: Iterable[str]) -> str:
    """Make a clip's name from a file's: safe as a file name, and not among `taken`."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "clip"
    name, count = base, 1
    while name.lower() in {other.lower() for other in taken}:
        count += 1
        name = f"{base}-{count}"
    return name


#: clips, and names of missing sequences
Found: TypeAlias = tuple[list[ClipSpec], list[str]]


def _listed(name: str, root: Path) -> Found:
    """Find the sequences of a fixed list, each a file or an image folder, in `root` or one folder
    deeper."""
    there = [*_entries(root), *(p for f in _entries(root) if f.is_dir() for p in _entries(f))]
    clips, missing = [], []
    for clip, sequence in sorted(LISTED[name.partition("@")[0]].items()):
        path = _choose(sequence, there)
        if path is None:
            missing.append(sequence.names[0])
            continue
        options = {}
        if path.is_dir():
            options["fps"] = str(sequence.fps)
        elif path.suffix.lower() == ".yuv":
            _check_length(path, sequence)
            options = {"size": "{}x{}".format(*LISTED_SIZE), "fps": str(sequence.fps)}
            options["pixel_format"] = "yuv420p"
        clips.append(ClipSpec(clip, path, name, options | VARIANTS[name]))
    return clips, missing


def _choose(sequence: Sequence, paths: list[Path]) -> Path | None:
    """Choose the sequence among `paths`; prefer names with the frame size, then raw over coded."""
    kinds = (*LISTED_SUFFIXES, "")
    names = tuple(name.lower() for name in sequence.names)
    found = [
        path
        for path in paths
        if path.name.lower().startswith(names)
        and (_has_images(path) if path.is_dir() else path.suffix.lower() in LISTED_SUFFIXES)
    ]

    def preference(path: Path) -> tuple[bool, int]:
        kind = "" if path.is_dir() else path.suffix.lower()
        return "{}x{}".format(*LISTED_SIZE) not in path.name, kinds.index(kind)

    return min(found, key=preference, default=None)


def _check_length(path: Path, sequence: Sequence) -> None:
    """Raise SourceError if a raw file is shorter or longer than its sequence."""
    width, height = LISTED_SIZE
    expected, size = sequence.frames * width * height * 3 // 2, path.stat().st_size
    if size != expected:
        raise SourceError(
            f"{path}: {size} bytes, but {sequence.frames} frames of {width}x{height} in 8-bit "
            f"4:2:0 are {expected}; unpack or download it again, or use --dataset folder"
        )


def _davis(name: str, root: Path) -> Found:
    resolutions = DAVIS_FOLDERS.get(name, DAVIS_FULL)
    places = [*(root / "JPEGImages" / resolution for resolution in resolutions), root]
    found = next(filter(None, map(_davis_sequences, places)), {})
    wanted = DAVIS_VALIDATION if name == "davis@hnerv-boost" else tuple(found)
    clips = [
        ClipSpec(sequence, found[sequence], name, dict(VARIANTS[name]))
        for sequence in wanted
        if sequence in found
    ]
    return clips, [sequence for sequence in wanted if sequence not in found]


def _davis_sequences(folder: Path) -> dict[str, Path]:
    """Return each sequence's image folder, which may be a subfolder `frames` beside the masks."""
    found = {}
    for entry in _entries(folder):
        images = next((p for p in (entry, entry / "frames") if _has_images(p)), None)
        if images is not None:
            found[entry.name] = images
    return found


def _bunny(name: str, root: Path) -> Found:
    movies = [root] if root.is_file() else [root / movie for movie in BUNNY_MOVIES]
    path, options = next((movie for movie in movies if movie.is_file()), None), {}
    if path is None:
        path = next(filter(_has_images, (root, root / "bunny")), None)
        if path is None:
            return [], []
        count = sum(map(_is_image, path.iterdir()))
        if count != BUNNY_FRAMES:
            raise SourceError(
                f"{path}: {count} images, but the clip of the papers has {BUNNY_FRAMES} frames"
            )
        options["fps"] = "25"
    return [ClipSpec("bunny", path, name, options | VARIANTS[name])], []


def _folder(name: str, root: Path) -> Found:
    clips: list[ClipSpec] = []
    for path in _entries(root):
        if path.is_dir():
            stem, fits = path.name, _has_images(path)
        else:
            stem, fits = path.stem, path.suffix.lower() in FOLDER_SUFFIXES
        if not fits:
            continue
        if path.is_file() and path.suffix.lower() == ".yuv":
            _check_whole_frames(path)
        clips.append(ClipSpec(unique_name(stem, (clip.name for clip in clips)), path))
    return clips, []


def _check_whole_frames(path: Path) -> None:
    """Raise SourceError if a raw file is no multiple of the frame size in its name."""
    import av

    from nervkit.video.reader import RAW_NAME, raw_format

    named = RAW_NAME.search(path.stem)
    if named is None:
        return
    width, height, format = int(named[1]), int(named[2]), raw_format(path.stem)
    planes = av.VideoFormat(format, width, height).components
    frame = sum(plane.width * plane.height * -(-plane.bits // 8) for plane in planes)
    size = path.stat().st_size
    if size == 0 or size % frame:
        raise SourceError(
            f"{path}: {size} bytes are no multiple of a {width}x{height} {format} frame ({frame} "
            "bytes each); copy it again, or correct the size in its name"
        )


def _entries(folder: Path) -> list[Path]:
    """Return the visible entries of a folder in natural order; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural)


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(map(_is_image, folder.iterdir()))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()


#: the function that finds a dataset, and what it looks for
_FINDERS: dict[str, tuple[Callable[[str, Path], Found], str]] = {
    "bunny": (_bunny, f"{', '.join(BUNNY_MOVIES)} or the {BUNNY_FRAMES} frames as images"),
    "uvg": (_listed, "Beauty*.yuv, Bosphorus*.yuv, ... (.y4m, .mp4 or folders of images)"),
    "mcl-jcv": (_listed, "videoSRC01*.yuv, videoSRC02*.yuv, ... (.y4m, .mp4 or image folders)"),
    "davis": (
        _davis,
        f"JPEGImages/480p/<sequence>/ (variants: {' or '.join(DAVIS_FULL)}) and <sequence>/",
    ),
    "folder": (_folder, f"folders of images and files that end in {', '.join(FOLDER_SUFFIXES)}"),
}
