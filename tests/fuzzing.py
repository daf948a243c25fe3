"""Mutate real .nerv files and pass them to every reader of files.

The seeds hold every model and chunk kind. Mutated files get valid checksums.

    python -m tests.fuzzing --count 100000 --seed 0
    python -m tests.fuzzing --count 1000000 --deep 0.1   # decodes a tenth of the files that open
    python -m tests.fuzzing --one 0:1234          # that input alone, with its traceback
    python -m tests.fuzzing --atheris DIR         # guided by coverage, if atheris is installed

Seed and index name an input and reproduce it. A finding is any outcome but frames or a NervError: a
traceback, a hang, a killed process, a leftover file.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

import nervkit
from nervkit.container import chunks
from nervkit.container.file import NervFile, pack_file
from nervkit.container.header import Header
from nervkit.container.track import HEAD as TRACK_HEAD
from nervkit.errors import NervError
from nervkit.media.extras import Attachment, Chapter, Extras
from nervkit.media.timing import Timing
from nervkit.media.track import UNKNOWN, Track
from nervkit.video.clip import Clip
from nervkit.video.reader import read_clip
from nervkit.video.tracks import track_packets
from tests.reference_decoder import read_chunks

ADDRESS_SPACE = 3 << 30
HANG_SECONDS = 30
FORMAT1 = Path(__file__).parent / "corpus" / "format1"
BATCH = 5_000  # inputs of one process, which is measured as a whole
Pieces = list[tuple[bytes, bytes]]


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """(frames, height, width, 3) uint8 with some structure."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    planes = [128 + 100 * np.sin((x + 3 * t) / 5), 255 * y / height, 90 + 10 * t + x]
    return np.stack(planes, axis=3).clip(0, 255).astype(np.uint8)


def with_sound_and_text(path: Path) -> None:
    """A Matroska file of a few frames with audio and a subtitle."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 16, 12, "bgr0"
        sound = output.add_stream("aac", rate=8000)
        for picture in moving(4, 12, 16):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        tone.sample_rate = 8000
        output.mux(sound.encode(tone))
        output.mux([*video.encode(None), *sound.encode(None)])


def after(stored: Track) -> Track:
    """The same packets appended to themselves."""
    times = stored.times.copy()
    times[:, :2] += np.where(times[:, :2] == UNKNOWN, 0, times[-1, 0] + 1)
    return replace(stored, times=times)


@cache
def seeds() -> list[bytes]:
    """The files that mutations start from."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = place / "source.mkv"
        with_sound_and_text(source)
        whole = read_clip(source)
        extras = Extras(
            {"title": "a title", "timecode": "01:00:00:00"},
            (Chapter(Fraction(0), Fraction(1, 5), "one"), Chapter(Fraction(1, 5), Fraction(2, 5))),
            (Attachment("font.ttf", "font/ttf", b"\0\1\0\0" * 20),),
        )
        marked = [replace(t, title="a track", flags=("default", "forced")) for t in whole.tracks]
        wide = Timing(np.array([0, 40, 80, 1 << 33], np.int64), Fraction(1, 10**9), 40)
        uneven = Timing(np.array([5, 9, 30, 31], np.int64), Fraction(1001, 30_000), 7)
        clips = {
            "gridnerv": replace(whole, extras=extras, tracks=marked),
            "hnerv": Clip(whole.frames, wide, extras=replace(extras, attachments=())),
            "nerv": Clip(whole.frames, uneven, tracks=whole.tracks),
        }
        data = []
        for model, clip in clips.items():
            path = place / f"{model}.nerv"
            nervkit.encode(clip, path, model=model, params=3000, steps=2)
            data.append(path.read_bytes())
        nervkit.encode(whole.frames, place / "target.nerv", target_size=3000, steps=2)
        files = [NervFile(one) for one in data]
        both = {**vars(files[0].header), "segments": tuple(f.header.segments[0] for f in files[:2])}
        timing = Timing(np.arange(8), Fraction(1, 10), 1)
        [sound] = whole.tracks
        sound = replace(sound, later=(after(sound),))
        data.append(pack_file(Header(**both), timing, [f.segment(0) for f in files[:2]], [sound]))
        data.append((place / "target.nerv").read_bytes())
    old = ("gridnerv-sound", "hnerv-target", "nerv-variable", "two-segments")
    return data + [(FORMAT1 / f"{name}.nerv").read_bytes() for name in old]


TABLE_HEAD, COLUMN_BYTES = struct.Struct("<IIBB"), 5  # docs/format.md, section 11


def join(pieces: Pieces, major: int | None = None) -> bytes:
    """A file of any chunks, with valid checksums; of format 1 if no chunk is of format 2."""
    ours = {chunks.MODEL, chunks.SEGMENT, chunks.TABLE}
    major = major or (2 if ours & {kind for kind, _ in pieces} else 1)
    start = chunks.SIGNATURE + struct.pack("<HH", major, 0)
    packed = [chunks.pack_chunk(*piece) for piece in pieces]
    return b"".join([start, chunks.CRC.pack(zlib.crc32(start)), *packed])


def listed(pieces: Pieces) -> Pieces:
    """The same chunks; the last table lists the chunks before it, and the end mark gives its
    position."""
    tables = [i for i, (kind, _) in enumerate(pieces) if kind == chunks.TABLE]
    if not tables:
        return pieces
    before = pieces[: tables[-1]]
    lengths = [len(payload) for _, payload in before]
    try:
        payload = pieces[tables[-1]][1]
        count, segments, width, columns = TABLE_HEAD.unpack_from(payload)
        start = TABLE_HEAD.size + COLUMN_BYTES * columns
        rows = zlib.decompress(payload[start:])[(4 + width) * count :]
    except (struct.error, zlib.error):
        return pieces
    content = b"".join(kind[:4] for kind, _ in before) + np.array(lengths, "<u8").tobytes() + rows
    head = TABLE_HEAD.pack(len(before), segments, 8, columns)
    table = head + payload[TABLE_HEAD.size : start] + zlib.compress(content)
    place = chunks.PREAMBLE.size + sum(lengths) + chunks.FRAMING * len(lengths)
    after = [
        (kind, struct.pack("<Q", place) if (kind, len(payload)) == (chunks.END, 8) else payload)
        for kind, payload in pieces[tables[-1] + 1 :]
    ]
    return [*before, (chunks.TABLE, table), *after]


NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 255, 256, 1 << 15, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 32),
    *((1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 10**400, 0.5, -0.0, 1e308, -1e308, 1e-320),
    *("", "a", "0", "1/0", "0/1", "999999999999999999/1", "1:0", ":", "0:", "1x1", "0x0"),
    *("99999x99999", "\x1b[31mred", "\0", "\ud800", "\u202e", "é" * 5000, "../../x", "file:x"),
    *([], [0], [1, 2], [1] * 9, [[1]], {}, {"a": 1}, [None], ["x"], [-1, -1], [1 << 40, 1]),
]
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
EDGES += [(1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def mutated(seed: int, index: int) -> bytes:
    """The input with that name."""
    rng = random.Random(f"{seed}:{index}")
    pieces = read_chunks(rng.choice(seeds()))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        pieces = rng.choice(MUTATIONS)(rng, pieces)
    data = join(pieces if rng.random() < 0.05 else listed(pieces))
    if rng.random() < 0.01:  # the framing itself
        data = altered(rng, data)
    return data


def altered(rng: random.Random, data: bytes) -> bytes:
    """Change bytes without regard to their meaning."""
    changed = bytearray(data)
    if not changed:
        return b"\0"
    place = rng.randrange(len(changed))
    match rng.randrange(5):
        case 0:
            changed[place] ^= 1 << rng.randrange(8)
        case 1:
            changed[place] = rng.choice(EDGES) & 0xFF
        case 2:
            size = rng.choice((1, 2, 4, 8))
            changed[place : place + size] = (rng.choice(EDGES) % (1 << 8 * size)).to_bytes(
                size, rng.choice(("little", "big"))
            )
        case 3:
            del changed[place : place + rng.choice((1, 4, 100, 1 << 20))]
        case 4:
            start = rng.randrange(len(changed))
            changed[place:place] = changed[start : start + rng.choice((1, 4, 50, 1000))]
    return bytes(changed)


def json_altered(rng: random.Random, content: bytes) -> bytes:
    """JSON with one value, at any depth, replaced, removed or added."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return altered(rng, content)
    at = value
    while isinstance(at, (dict, list)) and at:
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not isinstance(at[key], (dict, list)) or not at[key] or rng.random() < 0.3:
            action = rng.randrange(10)
            if action == 0:
                del at[key]
            elif action == 1 and isinstance(at, dict):
                at[rng.choice(("", "new", "a\nb", "x" * 1000))] = rng.choice(NASTY)
            elif action == 2 and isinstance(at[key], int):
                at[key] += rng.choice((-1, 1, 100, 1 << 20))
            else:
                at[key] = rng.choice(NASTY)
            break
        at = at[key]
    return json.dumps(value).encode()


def chosen(rng: random.Random, pieces: Pieces, kinds: tuple[bytes, ...] = ()) -> int:
    """The position of a random chunk, of one of `kinds` if the file has one."""
    places = [i for i, (kind, _) in enumerate(pieces) if kind in kinds]
    return rng.choice(places or range(len(pieces)))


def put(pieces: Pieces, place: int, payload: bytes) -> Pieces:
    return [*pieces[:place], (pieces[place][0], payload), *pieces[place + 1 :]]


def change_json(rng: random.Random, pieces: Pieces) -> Pieces:
    place = chosen(rng, pieces, (chunks.HEADER, chunks.MODEL, chunks.DESCRIPTION))
    with contextlib.suppress(zlib.error):
        content = json_altered(rng, zlib.decompress(pieces[place][1]))
        return put(pieces, place, zlib.compress(content))
    return pieces


def change_track(rng: random.Random, pieces: Pieces) -> Pieces:
    """Change a track's description, times, counts or carrier; its sizes may stay valid or not."""
    place = chosen(rng, pieces, (chunks.TRACK,))
    payload = pieces[place][1]
    if pieces[place][0] != chunks.TRACK or len(payload) < TRACK_HEAD.size:
        return put(pieces, place, altered(rng, payload))
    size, times_size, count = TRACK_HEAD.unpack_from(payload)
    start = TRACK_HEAD.size
    description, times = payload[start : start + size], payload[start + size :][:times_size]
    carrier = payload[start + size + times_size :]
    match rng.randrange(4):
        case 0:
            description = json_altered(rng, description)
        case 1:
            with contextlib.suppress(zlib.error):
                times = zlib.compress(altered(rng, zlib.decompress(times)))
        case 2:
            for _ in range(rng.choice((1, 4, 20))):
                carrier = altered(rng, carrier)
        case 3:
            count = max(0, min((1 << 32) - 1, rng.choice((*EDGES[:12], count + 1, count - 1))))
    head = TRACK_HEAD.pack(len(description), len(times), count)
    return put(pieces, place, head + description + times + carrier)


def change_index(rng: random.Random, pieces: Pieces) -> Pieces:
    """Change what the track index states."""
    place = chosen(rng, pieces, (chunks.TRACK_INDEX,))
    with contextlib.suppress(zlib.error):
        content = altered(rng, zlib.decompress(pieces[place][1]))
        return put(pieces, place, zlib.compress(content))
    return pieces


def change_times(rng: random.Random, pieces: Pieces) -> Pieces:
    place = chosen(rng, pieces, (chunks.TIMING,))
    payload = pieces[place][1]
    if rng.random() < 0.5 or len(payload) <= 21:
        return put(pieces, place, altered(rng, payload))
    with contextlib.suppress(zlib.error):
        steps = altered(rng, zlib.decompress(payload[21:]))
        return put(pieces, place, payload[:21] + zlib.compress(steps))
    return pieces


def change_bytes(rng: random.Random, pieces: Pieces) -> Pieces:
    place = chosen(rng, pieces)
    return put(pieces, place, altered(rng, pieces[place][1]))


def change_table(rng: random.Random, pieces: Pieces) -> Pieces:
    """Change a count, a column's name or width in the table, or one of its numbers."""
    place = chosen(rng, pieces, (chunks.TABLE,))
    payload = pieces[place][1]
    start = TABLE_HEAD.size + COLUMN_BYTES * (payload[9] if len(payload) > 9 else 0)
    if rng.random() < 0.5:
        return put(pieces, place, altered(rng, payload[:start]) + payload[start:])
    with contextlib.suppress(zlib.error):
        content = altered(rng, zlib.decompress(payload[start:]))
        return put(pieces, place, payload[:start] + zlib.compress(content))
    return pieces


def change_tensors(rng: random.Random, pieces: Pieces) -> Pieces:
    place = chosen(rng, pieces, (chunks.SEGMENT, b"WGTS", b"EMBD", b"TNSR"))
    payload = bytearray(pieces[place][1])
    if len(payload) > 20:  # a field of the segment's, or of a descriptor
        at = rng.randrange(22 + 11 * max(1, min(20, len(payload) // 22)))
        struct.pack_into("<h", payload, min(at, len(payload) - 2), rng.choice(EDGES[:9]) - 32768)
    return put(pieces, place, bytes(payload))


def change_order(rng: random.Random, pieces: Pieces) -> Pieces:
    pieces = list(pieces)
    place, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    match rng.randrange(6):
        case 0:
            pieces[place], pieces[other] = pieces[other], pieces[place]
        case 1:
            pieces.insert(other, pieces[place])
        case 2:
            del pieces[place]
        case 3:
            kinds = (b"nEWS", b"NEWS", b"cHCK", b"tRAK", b"aTCH", b"mETA", b"MODL", b"    ")
            kind = rng.choice(kinds)
            pieces.insert(place, (kind, rng.randbytes(rng.choice((0, 1, 100)))))
        case 4:
            donor = read_chunks(rng.choice(seeds()))
            pieces[place] = rng.choice(donor)
        case 5:
            pieces[place] = (pieces[place][0], b"")
    return pieces or [(chunks.END, b"")]


MUTATIONS: list[Callable[[random.Random, Pieces], Pieces]] = [
    *(change_json, change_json, change_track, change_track, change_index, change_times),
    *(change_bytes, change_tensors, change_order, change_table),
]


def gauntlet(data: bytes, folder: Path, rng: random.Random, deep: float = 1.0) -> str:
    """Pass a file to every reader. Return "decoded" or the name of the NervError; any other
    exception propagates. `deep` is the share of the files that open whose frames are decoded."""
    path = folder / "input.nerv"
    path.write_bytes(data)
    deeper = rng.random() < deep
    outcomes = [attempt(lambda: nervkit.info(path)), attempt(lambda: opened(data, deeper))]
    # What cannot be opened fails in the others at the same place: a few are tried all the same.
    if (outcomes[1] == "decoded" and deeper) or rng.random() < 0.02 * deep:
        output = folder / f"output{rng.choice(('.mkv', '.mp4', '.y4m', '.npy', '.mka', '.m4a'))}"
        outcomes.append(attempt(lambda: nervkit.verify(path)))
        outcomes.append(attempt(lambda: nervkit.decode(path, output)))
        output.unlink(missing_ok=True)
    short = data[: rng.randrange(len(data) + 1)]
    attempt(lambda: opened(short, deeper, salvage=True))
    if left := {p.name for p in folder.iterdir()} - {path.name}:
        raise AssertionError(f"left over: {left}")
    return next((name for name in outcomes if name != "decoded"), "decoded")


def attempt(call: Callable[[], Any]) -> str:
    try:
        call()
    except NervError as error:
        assert "\n" not in str(error), f"more than one line: {error!r}"
        assert str(error).isprintable(), f"control characters: {error!r}"
        return type(error).__name__
    return "decoded"


def opened(data: bytes, deeper: bool = True, salvage: bool = False) -> None:
    """Read all parts of a file, and with `deeper` its first and last frame."""
    with nervkit.open(data, salvage=salvage) as video:
        assert len(video.timing) == len(video)
        video.file.extras(), video.file.checks()
        with video.file.naming():
            for number, stored in enumerate(video.tracks):
                track_packets(stored)
                assert all(p.size for p in video.packets(number, 0.1, 0.3))
        if deeper:
            assert video[0].shape == video[-1].shape == video.shape[1:]


@dataclass
class Tally:
    """The findings of a run."""

    inputs: int = 0
    slowest: float = 0.0
    slowest_input: str = ""
    most_memory: int = 0
    outcomes: Counter[str] | None = None


def run(
    seed: int, start: int, stop: int, on_input: Callable[[int], None], deep: float = 1.0
) -> Tally:
    """Run the inputs [start, stop) in this process. Re-raise a finding with the name of its
    input."""
    tally = Tally(outcomes=Counter())
    seeds()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(start, stop):
            on_input(index)
            began = time.perf_counter()
            try:
                outcome = gauntlet(mutated(seed, index), Path(folder), random.Random(index), deep)
            except Exception as error:
                error.add_note(f"input {seed}:{index}")
                raise
            seconds = time.perf_counter() - began
            tally.outcomes[outcome] += 1
            tally.inputs += 1
            if seconds > tally.slowest:
                tally.slowest, tally.slowest_input = seconds, f"{seed}:{index}"
    # Not ru_maxrss, which a child has from its parent.
    status = Path("/proc/self/status").read_text().splitlines()
    tally.most_memory = next(1024 * int(s.split()[1]) for s in status if s.startswith("VmHWM"))
    return tally


def worker(seed: int, start: int, stop: int, deep: float) -> None:
    """Run one process of a long run, with limits and a watchdog; print the tally as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    av.logging.set_level(None)

    def on_input(index: int) -> None:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        progress.seek(0)
        progress.write(f"{index:<12}")
        progress.flush()

    with Path(os.environ["FUZZ_PROGRESS"]).open("w") as progress:
        tally = run(seed, start, stop, on_input, deep)
    print(json.dumps(vars(tally)))


def long_run(seed: int, count: int, first: int, deep: float) -> Iterator[str]:
    """Run batches in separate processes and yield lines. A finding ends its batch, not the run."""
    total = Tally(outcomes=Counter())
    index, end = first, first + count
    findings: list[str] = []
    progress = Path(tempfile.mkstemp()[1])
    while index < end:
        stop = min(end, index + BATCH)
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzzing", "--deep", str(deep)]
        command += ["--worker", f"{seed}:{index}:{stop}"]
        environment = {**os.environ, "FUZZ_PROGRESS": str(progress)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode == 0:
            part = json.loads(done.stdout)
            total.inputs += part["inputs"]
            total.outcomes.update(part["outcomes"])
            total.most_memory = max(total.most_memory, part["most_memory"])
            if part["slowest"] > total.slowest:
                total.slowest, total.slowest_input = part["slowest"], part["slowest_input"]
            index = stop
        else:
            failed = int(progress.read_text() or index)
            errors = done.stderr.strip().splitlines()[-12:]
            findings.append(f"{seed}:{failed} exit {done.returncode}: " + " | ".join(errors))
            yield f"FINDING {findings[-1]}"
            total.inputs += failed + 1 - index
            index = failed + 1
        yield (
            f"{total.inputs:,} inputs, {len(findings)} findings, slowest {total.slowest:.1f} s "
            f"({total.slowest_input}), most memory {total.most_memory / 1e6:.0f} MB, "
            f"{dict(total.outcomes)}"
        )
    progress.unlink()


def guided(corpus: Path) -> None:
    """Fuzz with libFuzzer through atheris: it mutates payloads, packed again with valid
    checksums."""
    import atheris

    atheris.instrument_all()
    for index, data in enumerate(seeds()):
        (corpus / f"seed{index}").write_bytes(data)
    folder = Path(tempfile.mkdtemp())

    def one(data: bytes) -> None:
        with contextlib.suppress(AssertionError, struct.error, IndexError):
            data = join(listed(read_chunks(data)))
        gauntlet(data, folder, random.Random(0))

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        try:
            pieces = read_chunks(data)
        except (AssertionError, struct.error, IndexError):
            return rng.choice(seeds())
        place = rng.randrange(len(pieces))
        if rng.random() < 0.5:
            return join(listed(put(pieces, place, atheris.Mutate(pieces[place][1], size))))
        return join(listed(rng.choice(MUTATIONS)(rng, pieces)))

    atheris.Setup([sys.argv[0], str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deep", type=float, default=1.0, metavar="SHARE")
    parser.add_argument("--one", metavar="SEED:INDEX")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--atheris", metavar="DIR", type=Path)
    chosen = parser.parse_args()
    if chosen.worker:
        worker(*map(int, chosen.worker.split(":")), chosen.deep)
    elif chosen.one:
        seed, index = map(int, chosen.one.split(":"))
        with tempfile.TemporaryDirectory() as folder:
            print(gauntlet(mutated(seed, index), Path(folder), random.Random(index)))
    elif chosen.atheris:
        guided(chosen.atheris)
    else:
        for line in long_run(chosen.seed, chosen.count, chosen.first, chosen.deep):
            print(line, flush=True)


if __name__ == "__main__":
    main()
