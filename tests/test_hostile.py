"""Hostile .nerv files give a one-line error or frames, quickly and in little memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

import nervkit
from nervkit.container import chunks, track
from nervkit.container.extras import unpack_extras
from nervkit.container.fields import printable
from nervkit.container.file import Checks, NervFile, sample_indices
from nervkit.container.limits import BUDGETS, Limits
from nervkit.container.timing import pack_timing, unpack_timing
from nervkit.container.track import pack_track, unpack_track
from nervkit.errors import FormatError, LimitError, NervError, ResourceError, UsageError
from nervkit.fitting.options import FitOptions
from nervkit.keywords import command_names
from nervkit.media.extras import Attachment, Chapter, Extras
from nervkit.media.timing import Timing
from nervkit.media.track import UNKNOWN, Track
from nervkit.models.complexity import blueprint
from nervkit.models.config import VideoShape
from nervkit.models.device import memory_errors
from nervkit.video.tracks import open_carrier, track_packets
from tests import fuzzing, reference_decoder
from tests.command import run_nervkit
from tests.conftest import ROOT, beside

#: what is wrong in each of the files beside the checkout; those that are not here are harmless
REFUSED = {
    "bomb_4kish": "Limits(pixels=",
    "bomb_compute": "Limits(pixels=",
    "bomb_compute_hnerv": "Limits(values=",
    "bomb_compute_small": "Limits(pixels=",
    "bomb_pixels": "Limits(pixels=",
    "bomb_slow": "Limits(macs_per_frame=",
    "bomb_symbols": "Limits(values=",
    "bomb_values_const": "Limits(values=",
    "chk_after_track": "out of place",
    "colour_list": "colour rgb_matrix",
    "edit_crop_big": "invalid crop",
    "edit_frames": "invalid frames",
    "edit_matrix_list": "invalid matrix",
    "edit_resize_bad": "invalid resize",
    "edit_start_1_0": "invalid start",
    "edit_start_huge": "invalid start",
    "embd_chk_embd": "does not follow",
    "encoder_empty": "encoder lacks a field",
    "encoder_surrogate": "not valid Unicode",
    "end_payload": "must be empty",
    "ffconcat_rel": "cannot be read",
    "ffconcat_steal": "sizes are out of range",
    "nend_in_middle": "follow the end mark",
    "psnr_big": "quality that is out of range",
    "psnr_inf": "quality that is out of range",
    "sar_2_31": "sample_aspect_ratio",
    "sdp": "cannot be read",
    "time_den_max": "31 bits",
    "time_first_max": "68 years",
    "time_first_min": "68 years",
    "time_slow": "31 bits",
    "track_bomb_count2_26": "sizes are out of range",
    "track_dts_back": "run backwards",
    "track_dur_max": "68 years",
    "track_empty_data": "sizes are out of range",
    "track_lang_esc": "unprintable characters",
    "track_lang_long": "at most 64 characters",
    "track_lang_surrogate": "not valid Unicode",
    "track_pts_max": "68 years",
    "track_pts_min": "68 years",
    "track_tb_huge": "time base",
    "track_tb_neg": "time base",
    "track_video_kind": "cannot be read",
    "track_zero": "sizes are out of range",
}

#: times that a file can hold, and not every movie
REFUSED_BY_SOME_MOVIES = ("time_dur_max", "time_vfr_max")


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    return fuzzing.seeds()


def altered(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """The file with the payload of its first chunk of a kind replaced, and valid checksums."""
    pieces = reference_decoder.read_chunks(data)
    place = [k for k, _ in pieces].index(kind)
    return fuzzing.join(fuzzing.listed(fuzzing.put(pieces, place, payload)))


def payload_of(data: bytes, kind: bytes) -> bytes:
    return dict(reference_decoder.read_chunks(data))[kind]


def with_header(data: bytes, **changes: Any) -> bytes:
    fields = json.loads(zlib.decompress(payload_of(data, b"HEAD"))) | changes
    return altered(data, b"HEAD", zlib.compress(json.dumps(fields).encode()))


def test_the_hostile_files(tmp_path: Path) -> None:
    """Every reader gets all of them, in a process of 3 GB of address space."""
    script = """
import json, random, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import nervkit
from tests.fuzzing import opened
results = {}
for path in sorted(Path(sys.argv[1]).glob("*.nerv")):
    lines = results[path.stem] = []
    calls = [lambda: nervkit.info(path), lambda: opened(path.read_bytes())]
    calls.append(lambda: nervkit.verify(path))
    for suffix in ("mp4", "mkv", "y4m"):
        calls.append(lambda s=suffix: nervkit.decode(path, Path(sys.argv[2]) / f"{path.stem}.{s}"))
    for call in calls:
        try:
            call()
            lines.append(None)
        except nervkit.NervError as error:
            lines.append(str(error))
status = Path("/proc/self/status").read_text().splitlines()
results["memory"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps(results))
"""
    command = [sys.executable, "-c", script, str(beside("hostile")), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=600
    )
    results = json.loads(done.stdout)
    assert results.pop("memory") < 1e6  # kB
    assert set(REFUSED) <= set(results)
    for name, lines in results.items():
        errors = [line for line in lines if line is not None]
        assert all("\n" not in line and line.isprintable() for line in errors), name
        if name in REFUSED:
            assert all(REFUSED[name] in line for line in errors), (name, errors)
            assert all(lines[1:]) or "cannot be read" in REFUSED[name], (name, lines)
            assert any(lines[3:]), (name, lines)
        elif name not in REFUSED_BY_SOME_MOVIES:
            assert not errors, (name, errors)
    made = {path.name for path in tmp_path.iterdir()}
    for name, lines in results.items():
        for suffix, line in zip(("mp4", "mkv", "y4m"), lines[3:], strict=True):
            assert (f"{name}.{suffix}" in made) == (line is None)


def test_a_short_fuzz(tmp_path: Path) -> None:
    """Any outcome but frames or a NervError ends it; `python -m tests.fuzzing` runs longer."""
    tally = fuzzing.run(seed=14, start=0, stop=250, on_input=lambda index: None)
    assert tally.inputs == 250
    assert tally.outcomes["decoded"] > 10
    assert tally.outcomes["FormatError"] > 100


def test_budgets_grow_with_the_file() -> None:
    limits = Limits()
    for name, budget in BUDGETS.items():
        allowed = budget.base + budget.per_byte * 1000
        limits.check(name, allowed, size=1000)
        with pytest.raises(LimitError, match=rf"limits=nervkit\.Limits\({name}={allowed + 1}\)"):
            limits.check(name, allowed + 1, size=1000)
        with (
            command_names(),
            pytest.raises(LimitError, match=f"--limit {name.replace('_', '-')}={allowed + 1}"),
        ):
            limits.check(name, allowed + 1, size=1000)
        Limits(**{name: allowed + 1}).check(name, allowed + 1, size=0)
        with pytest.raises(LimitError):
            limits.check(name, budget.most + 1, size=1 << 60)


@pytest.mark.parametrize("model", ["gridnerv", "hnerv", "nerv"])
@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (132, 720, 1280), (600, 1080, 1920), (600, 2160, 3840), (9000, 240, 320)]
)
def test_files_as_people_make_them_stay_below(model: str, shape: tuple[int, int, int]) -> None:
    """At the default size, with half a byte per value."""
    video, options = VideoShape(*shape), FitOptions(model=model)
    plan = blueprint(options.model_type, options.configure(video), video)
    size = plan.values // 2
    declared = {"pixels": video.pixels, "values": plan.values, "memory": plan.memory}
    declared |= {"macs_per_frame": plan.macs, "macs_per_file": plan.macs * video.frames}
    for name, number in declared.items():
        assert number < 0.5 * BUDGETS[name].of(size), name


def test_limits_from_text() -> None:
    assert Limits.parse(["memory=8G", "macs-per-file=1e15"]) == Limits(
        memory=8 * 10**9, macs_per_file=10**15
    )
    for text in ("memory", "memory=", "memory=lots", "mem=8G", "memory=-1", "memory=nan"):
        with pytest.raises(UsageError, match="limit must be NAME=NUMBER"):
            Limits.parse([text])


def test_what_is_declared_is_computed_before_it_is_allocated(seeds: list[bytes]) -> None:
    """The limit that each budget names lifts the budget, and no other limit does."""
    data = seeds[0]
    with nervkit.open(data) as video:
        values, pixels = video.header.values, video.header.pixels
    low = {"pixels": pixels, "values": values, "memory": 10**5, "macs_per_frame": 10**4}
    for name, number in low.items():
        with pytest.raises(LimitError, match=rf"Limits\({name}="):
            nervkit.open(data, limits=Limits(**{name: number - 1}))
    with pytest.raises(LimitError, match="multiply-accumulates in all frames"):
        nervkit.open(data, limits=Limits(macs_per_file=10**4))


def test_memory_that_is_not_free_is_refused(
    seeds: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervkit.networks.available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"takes .* of memory, 1\.0 kB are free"):
        nervkit.open(seeds[0])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_memory_that_runs_out_is_one_line(error: Exception) -> None:
    with pytest.raises(ResourceError, match="x: memory ran out"), memory_errors("x"):
        raise error
    with pytest.raises(RuntimeError, match="sizes"), memory_errors("x"):
        raise RuntimeError("sizes do not match")


def test_an_inflated_payload_of_nothing_is_bounded() -> None:
    bomb = zlib.compress(bytes(10**6))
    for limit in (0, 1, 10**6 - 1):
        with pytest.raises(FormatError, match="longer than allowed"):
            chunks.inflate(bomb, limit, "it")
    assert len(chunks.inflate(bomb, 10**6, "it")) == 10**6


BAD_HEADERS: list[dict[str, Any]] = [
    {"sample_aspect_ratio": [1 << 31, 1]},
    {"sample_aspect_ratio": [1, 2, 3]},
    {"source": {"codec": None}},
    {"source": {"codec": ["h264"]}},
    {"source": {"width": 1 << 63}},
    {"source": {"codec": "\ud800"}},
    {"source": {"c\x1b[31m": 1}},
    {"source": {str(n): n for n in range(65)}},
    {"edit": {"Unknown": "1"}},
    {"edit": {"start": 1}},
    {"edit": {"start": "1/0"}},
    {"edit": {"frames": "5"}},
    {"edit": {"crop": "0x0"}},
    {"edit": {"matrix": "bt2021"}},
    {"encoder": {"version": "x"}},
    {"encoder": {"version": "x", "settings": None}},
    {"encoder": {"version": "x", "settings": "y", "More": "z"}},
    {"exact": 1},
    {"Needed": 1},
]


@pytest.mark.parametrize("changes", BAD_HEADERS)
def test_header_fields(seeds: list[bytes], changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        NervFile(with_header(seeds[0], **changes))


@pytest.mark.parametrize("name", ["matrix", "range", "primaries", "transfer"])
def test_colour_codes(seeds: list[bytes], name: str, tmp_path: Path) -> None:
    """Any byte is a code: a decode to a movie works or is refused in one line."""
    colour = NervFile(seeds[0]).header.colour
    for code in (-1, 256, 1.0, True, None, [1], "1"):
        with pytest.raises(FormatError, match=f"colour {name}"):
            NervFile(with_header(seeds[0], colour=colour | {name: code}))
    for code in (0, 3, 17, 18, 255):
        path = tmp_path / "coded.nerv"
        path.write_bytes(with_header(seeds[0], colour=colour | {name: code}))
        try:
            nervkit.decode(path, tmp_path / "coded.mkv", overwrite=True)
        except NervError as error:
            assert "\n" not in str(error)


def times(first: int, step: int, count: int) -> np.ndarray:
    pts = first + step * np.arange(count, dtype=np.int64)
    return np.stack([pts, pts, np.full(count, step)], axis=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "video"},
        {"carrier": "avi"},
        {"codec": "a\nb"},
        {"language": "\x1b[31m"},
        {"language": "x" * 65},
        {"title": "\ud800"},
        {"title": "x" * 1025},
        {"flags": ("loud",)},
        {"time_base": Fraction(-1, 2)},
        {"time_base": Fraction(1, 1 << 31)},
        {"time_base": Fraction(1 << 31)},
        {"times": np.zeros((0, 3), np.int64)},
        {"times": times(0, 1, 11)},
        {"times": times(1 << 61, 1, 3)},
        {"times": np.array([[-(1 << 63)] * 3])},
        {"times": times(10, -1, 3)},
        {"times": np.array([[0, 0, -1]])},
    ],
)
def test_track_fields(changes: dict[str, Any]) -> None:
    """Ten bytes hold at most ten packets; all fields come back, and no invalid one is accepted."""
    good: dict[str, Any] = {
        "kind": "audio",
        "codec": "aac",
        "language": "eng",
        "time_base": Fraction(1, 48_000),
        "times": times(-1024, 1024, 10),
        "carrier": "mp4",
        "data": bytes(10),
        "title": "Commentary\nby no one",
        "flags": ("default", "comment"),
    }
    good["times"][0, 1] = good["times"][3, 2] = UNKNOWN
    kept = Track(**good)
    assert unpack_track(pack_track(kept)) == kept
    with pytest.raises(FormatError):
        Track(**good | changes)


def test_packet_tables_are_bounded_by_the_carrier(seeds: list[bytes]) -> None:
    payload = payload_of(seeds[0], b"tRAK")
    size, times_size, count = track.HEAD.unpack_from(payload)
    rest = payload[track.HEAD.size :]
    room = len(rest) - size - times_size
    for wrong in (0, count - 1, count + 1, room, room + 1, 1 << 26, (1 << 32) - 1):
        data = altered(seeds[0], b"tRAK", track.HEAD.pack(size, times_size, wrong) + rest)
        with pytest.raises(FormatError):
            NervFile(data).tracks()


def test_tracks_add_up_against_one_budget(
    seeds: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = reference_decoder.read_chunks(seeds[0])
    place = [kind for kind, _ in pieces].index(b"tRAK")
    pieces = [*pieces[:place], *[pieces[place]] * 3, *pieces[place + 1 :]]
    many = fuzzing.join(fuzzing.listed(pieces))
    assert len(NervFile(many).tracks()) == 3
    monkeypatch.setattr("nervkit.container.file.MOST_PACKETS", 5)
    with pytest.raises(FormatError, match="number of packets in all tracks"):
        NervFile(many).tracks()


CARRIERS = {
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    b"m=audio 5004 RTP/AVP 0\n",
    "ffconcat": b"ffconcat version 1.0\nfile %s\n",
    "m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n",
    "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nfile %s\n\n",
    "text": b";FFMETADATA1\ntitle=x\n",
}


@pytest.mark.parametrize("carrier", ["mp4", "mov", "matroska", "nut"])
@pytest.mark.parametrize("kind", CARRIERS)
def test_carriers_open_nothing_else(kind: str, carrier: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    fuzzing.with_sound_and_text(tmp_path / "secret.mkv")
    secret.write_bytes((tmp_path / "secret.mkv").read_bytes())
    data = CARRIERS[kind].replace(b"%s", str(secret).encode())
    with pytest.raises(av.error.FFmpegError):
        open_carrier(data, carrier)
    stored = Track("audio", "aac", "", Fraction(1, 8000), times(0, 1, 2), carrier, data)
    with pytest.raises(FormatError, match="cannot be read"):
        track_packets(stored)


def test_a_carrier_holds_one_stream_of_the_declared_kind(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    fuzzing.with_sound_and_text(path)
    for kind in ("audio", "subtitle"):
        two = Track(
            kind, "aac", "", Fraction(1, 1000), times(0, 1, 6), "matroska", path.read_bytes()
        )
        with pytest.raises(FormatError, match="does not hold one such stream"):
            track_packets(two)


def test_an_index_that_names_bytes_again_and_again_is_refused(
    seeds: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise small files would become large packets, or many of them."""
    [stored] = NervFile(seeds[0]).tracks()
    real = open_carrier(stored.data, stored.carrier)
    packets = [packet for packet in real.demux(real.streams[0]) if packet.size]
    given = 0

    def endless(_: object) -> Iterator[av.Packet]:
        nonlocal given
        while True:
            given += 1
            yield packets[0]

    carrier = SimpleNamespace(streams=real.streams, demux=endless)
    monkeypatch.setattr("nervkit.video.tracks.open_carrier", lambda *_: carrier)
    with pytest.raises(FormatError, match="holds more"):
        track_packets(stored)
    assert given == len(packets) + 2


@pytest.mark.parametrize(
    ("pts", "base", "duration"),
    [
        ([0, 40, 80, 8_080_000_000, 8_120_000_000], Fraction(1, 10**9), 40_000_000),
        ([0, 1], Fraction(1 << 30), 1),
        ([0, 1 << 40], Fraction(1, 1 << 20), 1 << 40),
        ([-(1 << 31), 0, 1 << 31], Fraction(1, 2), 5),
        ([7], Fraction(1001, 30_000), 1 << 33),
        (list(range(0, 132 * 512, 512)), Fraction(1, 12_800), 512),
    ],
)
def test_times_come_back_exactly(pts: list[int], base: Fraction, duration: int) -> None:
    timing = Timing(np.array(pts, np.int64), base, duration)
    assert unpack_timing(pack_timing(timing), len(pts)) == timing
    seconds = [float(p * base) for p in [*pts, pts[-1] + duration]]
    assert reference_decoder.read_times(pack_timing(timing), len(pts)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("pts", "base", "duration"),
    [
        ([0, 0], Fraction(1), 1),
        ([1, 0], Fraction(1), 1),
        ([0, 1], Fraction(1), 0),
        ([0, 1 << 32], Fraction(1), 1),
        ([-(1 << 32), 0], Fraction(1), 1),
        ([0], Fraction(1, 1 << 31), 1),
        ([0], Fraction(0), 1),
        ([], Fraction(1), 1),
    ],
)
def test_times_that_cannot_be_are_refused(pts: list[int], base: Fraction, duration: int) -> None:
    with pytest.raises(FormatError):
        Timing(np.array(pts, np.int64), base, duration)


def test_wide_steps_do_not_wrap() -> None:
    head = struct.pack("<IIqIB", 1, 10**9, 0, 0, 2)
    for steps in ([1, (1 << 64) - 1], [1 << 63, 1], [(1 << 62) - 1] * 2, [1, 0]):
        rows = np.array(steps, np.uint64).tobytes()
        with pytest.raises(FormatError):
            unpack_timing(head + zlib.compress(rows), len(steps))


def test_extras_come_back(seeds: list[bytes]) -> None:
    found = NervFile(seeds[0]).extras()
    assert found.tags == {"title": "a title", "timecode": "01:00:00:00"}
    assert [c.title for c in found.chapters] == ["one", ""]
    assert found.chapters[1].end == Fraction(2, 5)
    [attached] = found.attachments
    assert (attached.name, attached.media_type, len(attached.data)) == ("font.ttf", "font/ttf", 80)
    [sound] = NervFile(seeds[0]).tracks()
    assert (sound.title, sound.flags) == ("a track", ("default", "forced"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chapter(Fraction(2), Fraction(1)),
        lambda: Chapter(Fraction(1, 1 << 31), Fraction(1)),
        lambda: Chapter(Fraction(0), Fraction(1), "x" * 1025),
        lambda: Attachment("a\x1b", "", b""),
        lambda: Attachment("a", "b" * 129, b""),
        lambda: Extras({"": "x" * 4097}),
        lambda: Extras({"x": "\ud800"}),
        lambda: Extras({str(n): "" for n in range(257)}),
        lambda: Extras({}, (Chapter(Fraction(0), Fraction(1)),) * 4097),
        lambda: Extras({}, (), (Attachment("a", "", bytes(1 << 25)),) * 3),
        lambda: unpack_extras(zlib.compress(b'{"tags":[],"chapters":[]}'), []),
        lambda: unpack_extras(zlib.compress(b'{"tags":{},"chapters":[[0,1,1]]}'), []),
        lambda: unpack_extras(zlib.compress(b'{"tags":{},"chapters":[[0,0,1,1,""]]}'), []),
        lambda: unpack_extras(zlib.compress(b'{"tags":{"a":1},"chapters":[]}'), []),
        lambda: unpack_extras(None, [b"\xff\xff\xff\xff"]),
        lambda: unpack_extras(None, [b"\x01\x00\x00\x00\xff"]),
    ],
)
def test_extras_that_cannot_be(make: Any) -> None:
    with pytest.raises(FormatError):
        make()


def test_sample_places_as_specified() -> None:
    for frame in (0, 1, 131, (1 << 20) - 1):
        for count in (3, 297, 3 * (1 << 28)):
            found = sample_indices(frame, count)
            assert found.tolist() == reference_decoder.sample_places(frame, count)
            assert 0 <= found.min() <= found.max() < count


def test_verify_tells_rounding_from_damage(
    seeds: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checked.nerv"
    path.write_bytes(seeds[0])
    report = nervkit.verify(path)
    assert (report.identical, report.wrong, report.largest_difference) == (4, 0, 0)

    from nervkit import decoder

    def changed(by: int) -> None:
        exact = decoder._ARRAYS.render

        def render(*arguments: Any) -> np.ndarray:
            return (exact(*arguments).astype(int) + by).clip(0, 255).astype(np.uint8)

        monkeypatch.setattr(decoder, "_ARRAYS", replace(decoder._ARRAYS, render=render))

    changed(by=1)
    report = nervkit.verify(path)
    assert (report.identical, report.wrong, report.largest_difference) == (0, 0, None)
    assert any("rounds some samples" in note for note in report.notes)
    changed(by=1)  # one more
    assert nervkit.verify(path).wrong == 4
    monkeypatch.undo()

    pieces = [p for p in reference_decoder.read_chunks(seeds[0]) if p[0] != b"cSMP"]
    checks = Checks.unpack(dict(pieces)[b"cHCK"], None, 4)
    old = Checks(checks.psnr, checks.ssim, checks.crcs ^ np.array([0, 1, 0, 0], np.uint32))
    kept = fuzzing.join(fuzzing.listed(pieces))
    path.write_bytes(altered(kept, b"cHCK", old.pack()))
    report = nervkit.verify(path)
    assert (report.identical, report.wrong) == (3, 1)
    assert any("no samples" in note for note in report.notes)
    done = run_nervkit("verify", path, code=1)
    assert "1 of 4 frames differ from the encoder's" in done.stderr.splitlines()[-1]


def test_verify_finds_other_weights(seeds: list[bytes], tmp_path: Path) -> None:
    """The file has the frame checks of one file and the weights of another."""
    with NervFile(seeds[1]) as file:
        header, segment = file.header, file.segment(0)
    other = tmp_path / "other.nerv"
    frames = fuzzing.moving(4, 12, 16)[::-1]
    nervkit.encode(frames, other, model="hnerv", params=3000, steps=30, seed=3)
    with NervFile(other) as file:
        assert file.header.segments == header.segments
        assert file.segment(0) != segment
        swapped = altered(seeds[1], b"SEGM", file.segment(0).pack(4, 0))
    other.write_bytes(swapped)
    assert nervkit.verify(other).wrong == 4


def test_text_is_shown_in_one_short_line() -> None:
    assert printable("plain é 漢") == "plain é 漢"
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    assert printable("\u202egnp.exe") == "\\u202egnp.exe"
    assert len(printable("\0" * 1000)) == 120


def test_info_escapes_what_a_file_says(seeds: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "loud.nerv"
    loud = {"version": "nervkit \x1b]0;title\x07", "settings": "a\r\nb" * 900}
    path.write_bytes(with_header(seeds[0], encoder=loud, source={"codec": "\x9b2J"}))
    done = run_nervkit("info", path, code=0)
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert max(map(len, done.stdout.splitlines())) < 1100


def test_a_file_from_a_pipe(seeds: list[bytes]) -> None:
    command = [sys.executable, "-m", "nervkit", "info", "/dev/stdin", "--json"]
    done = subprocess.run(command, input=seeds[0], capture_output=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout)["frames"] == 4


def test_chapters_beside_times_in_nanoseconds(seeds: list[bytes], tmp_path: Path) -> None:
    """The fuzzer found this: MP4's own chapter track was taken for a track of the file."""
    path = tmp_path / "wide.nerv"
    path.write_bytes(seeds[1])
    assert len(NervFile(path).extras().chapters) == 2
    report = nervkit.decode(path, tmp_path / "wide.mp4")
    assert report.frames == 4


def test_memory_that_runs_out_anywhere_is_one_line() -> None:
    script = """
import sys
import nervkit.summary
def refuse(*arguments, **options):
    raise MemoryError
nervkit.summary.info = refuse
sys.argv = ["nervkit", "info", "any.nerv"]
from nervkit.cli import main
main()
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "nervkit: memory ran out; close other programs, or use a smaller or shorter video"
    ]


def test_what_a_limit_refuses_an_option_lifts(seeds: list[bytes], tmp_path: Path) -> None:
    """In every command that decodes."""
    path = tmp_path / "small.nerv"
    path.write_bytes(seeds[0])
    outputs = (f"-o {tmp_path}/a.mkv", f"--factor 2 -o {tmp_path}/b.mkv")
    for command in ("info", "verify", f"decode {outputs[0]}", f"interpolate {outputs[1]}"):
        name, *rest = command.split()
        for limit, code in (("values=10", 1), ("values=1e6", 0), ("values=x", 2)):
            done = run_nervkit(name, path, *rest, "--limit", limit, code=code)
            if code == 1:
                assert "--limit values=" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["info {}", "info {} --json", "decode {} -o -"])
def test_standard_output_on_a_full_disk_is_one_line(
    seeds: list[bytes], tmp_path: Path, words: str
) -> None:
    path, full = tmp_path / "small.nerv", Path("/dev/full")
    path.write_bytes(seeds[0])
    arguments = words.format(path).split()
    stderr = run_nervkit(*arguments, stdout=full, code=1).stderr
    assert stderr.splitlines()[-1].startswith("nervkit: standard output: cannot be used: No")
    assert "Traceback" not in stderr
    if words == "info {}":  # Python itself flushes at the end of a process that is no fork
        command = [sys.executable, "-m", "nervkit", *arguments]
        with full.open("wb") as stdout:
            done = subprocess.run(
                command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
            )
        assert (done.returncode, done.stderr) == (1, stderr)


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.nerv"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="is a pipe"):
        nervkit.encode(fuzzing.moving(2, 8, 8), pipe, steps=1, overwrite=True)
    assert pipe.is_fifo()
