"""The .nerv file: its specification, and the handling of damaged or hostile files."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.container import chunks
from nervkit.container.file import NervFile, pack_file
from nervkit.container.header import Header
from nervkit.container.limits import Limits
from nervkit.container.segment import SegmentData
from nervkit.container.timing import pack_timing, unpack_timing
from nervkit.decoder import NervVideo
from nervkit.errors import (
    ChecksumError,
    FormatError,
    LimitError,
    NervError,
    SourceError,
    TruncatedError,
    VersionError,
)
from nervkit.media.timing import Timing
from tests import reference_decoder
from tests.fuzzing import TABLE_HEAD, listed
from tests.fuzzing import join as packed
from tests.fuzzing import moving as moving_frames


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .nerv file of about a kilobyte."""
    path = tmp_path_factory.mktemp("nerv") / "small.nerv"
    nervkit.encode(moving_frames(3, 9, 11), path, params=900, strides=(2, 2), steps=4)
    return path


def parts(data: bytes) -> list[tuple[bytes, bytes]]:
    return reference_decoder.read_chunks(data)


def join(pieces: list[tuple[bytes, bytes]]) -> bytes:
    """A file whose table lists these chunks."""
    return packed(listed(pieces))


def with_header(data: bytes, **changes: Any) -> bytes:
    """The file with some fields of its header or model replaced, and valid checksums."""
    pieces = []
    for kind, payload in parts(data):
        if kind in (b"HEAD", b"MODL"):
            fields = json.loads(zlib.decompress(payload))
            of_model = kind == b"MODL"
            fields |= {k: v for k, v in changes.items() if (k in ("model", "config")) == of_model}
            payload = zlib.compress(json.dumps(fields).encode())
        pieces.append((kind, payload))
    return join(pieces)


def with_row(data: bytes, *numbers: int) -> bytes:
    """The file of one segment with other numbers in the columns of its table."""
    pieces = parts(data)
    table = pieces[-2][1]
    count, _, width, columns = TABLE_HEAD.unpack_from(table)
    start = TABLE_HEAD.size + 5 * columns
    names = [name for name, _ in struct.iter_unpack("<4sB", table[TABLE_HEAD.size : start])]
    content = zlib.decompress(table[start:])[: (4 + width) * count]
    head = TABLE_HEAD.pack(count, 1, width, columns)
    head += b"".join(struct.pack("<4sB", name, 8) for name in names)
    rows = struct.pack(f"<{columns}Q", *numbers)
    return join([*pieces[:-2], (b"TABL", head + zlib.compress(content + rows)), pieces[-1]])


def decode_all(data: bytes) -> np.ndarray:
    with NervVideo(data) as video:
        video.file.checks()
        video.file.tracks()
        return video[:]


@pytest.mark.parametrize(
    ("model", "size", "options"),
    [
        ("hnerv", (20, 33), {"params": 6000, "strides": (4, 3), "prune": 0.3}),
        ("hnerv", (7, 5), {"params": 3000, "bits": 5, "embedding_bits": 11}),
        ("nerv", (24, 18), {"params": 9000, "bits": 6}),
        ("gridnerv", (21, 50), {"params": 9000, "strides": (2, 3, 2), "prune": 0.2}),
        ("gridnerv", (40, 24), {"params": 8000, "bits": 7}),
        ("gridnerv", (21, 50), {"target_size": 4000}),
        ("gridnerv", (37, 70), {"target_size": 14_000, "strides": (2, 2)}),
        ("hnerv", (20, 33), {"target_size": 3000}),
    ],
)
def test_a_decoder_written_from_the_specification_agrees(
    tmp_path: Path, model: str, size: tuple[int, int], options: dict[str, Any]
) -> None:
    path = tmp_path / "clip.nerv"
    nervkit.encode(moving_frames(4, *size), path, model=model, steps=30, fps=12, **options)
    expected = nervkit.open(path)[:].astype(int)
    found = reference_decoder.decode_frames(path.read_bytes())
    assert found.shape == expected.shape
    # float64 here, float32 there: a value near the middle of two levels may round either way.
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_variable_timing_as_specified() -> None:
    timing = Timing(np.array([-40, 0, 7, 1000], np.int64), Fraction(1, 100), 3)
    found = reference_decoder.read_times(pack_timing(timing), 4)
    assert found == pytest.approx([-0.4, 0, 0.07, 10, 10.03])
    again = unpack_timing(pack_timing(timing), 4)
    assert (again.pts == timing.pts).all()
    assert (again.time_base, again.duration) == (timing.time_base, timing.duration)


def test_constant_timing_takes_no_room() -> None:
    timing = Timing(np.arange(0, 132 * 512, 512), Fraction(1, 12800), 512)
    assert len(pack_timing(timing)) == 21
    assert reference_decoder.read_times(pack_timing(timing), 132)[-1] == pytest.approx(5.28)


def test_timing_of_a_part_keeps_durations() -> None:
    timing = Timing(np.array([0, 10, 50, 60], np.int64), Fraction(1, 10), 7)
    assert timing[1:3].seconds == (1, 6)
    assert timing[2:4].seconds == (5, Fraction(67, 10))


def test_two_segments_decode_as_one_video(tmp_path: Path) -> None:
    clip = moving_frames(7, 12, 16)
    halves = []
    for index, frames in enumerate((clip[:4], clip[4:])):
        path = tmp_path / f"{index}.nerv"
        nervkit.encode(frames, path, params=2500, strides=(2, 2), steps=10, seed=index)
        halves.append(NervVideo(path))
    first, second = halves
    header = Header(
        **{**vars(first.header), "segments": first.header.segments + second.header.segments}
    )
    timing = Timing(np.arange(7), Fraction(1, 25), 1)
    whole = NervVideo(pack_file(header, timing, [first.file.segment(0), second.file.segment(0)]))
    assert len(whole) == 7
    assert (whole[:] == np.concatenate([first[:], second[:]])).all()
    assert (whole[4] == second[0]).all()
    assert (whole[-1] == second[2]).all()
    with pytest.raises(NervError, match="several segments"):
        _ = whole.model
    whole._batch = 3  # as on CUDA: batches end where segments do
    assert np.abs(whole[:].astype(int) - np.concatenate([first[:], second[:]])).max() <= 1
    assert (whole[5] == second[1]).all()


def test_every_truncation_is_refused(small: Path) -> None:
    data = small.read_bytes()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            NervFile(data[:length])


def test_every_flipped_bit_is_refused(small: Path) -> None:
    data = bytearray(small.read_bytes())
    for position in range(8 * len(data)):
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(FormatError), NervFile(bytes(data)) as file:
            file.check_all()
        data[position // 8] ^= 1 << position % 8


def test_flips_with_right_checksums_never_crash(small: Path) -> None:
    """Without the protection of checksums, a flip gives a typed error or frames of the declared
    size."""
    pieces = parts(small.read_bytes())
    random = np.random.default_rng(0)
    decoded = 0
    for index, (kind, payload) in enumerate(pieces[:-1]):
        for position in random.choice(8 * len(payload), min(150, 8 * len(payload)), replace=False):
            changed = bytearray(payload)
            changed[position // 8] ^= 1 << position % 8
            data = join([*pieces[:index], (kind, bytes(changed)), *pieces[index + 1 :]])
            try:
                assert decode_all(data).shape == (3, 9, 11, 3)
                decoded += 1
            except FormatError:
                pass
    assert decoded > 100  # flipped weights are other weights


def test_other_versions(small: Path) -> None:
    body = small.read_bytes()[chunks.PREAMBLE.size :]

    def preamble(major: int, minor: int) -> bytes:
        start = chunks.SIGNATURE + struct.pack("<HH", major, minor)
        return start + struct.pack("<I", zlib.crc32(start))

    with pytest.raises(VersionError, match=r"version 3\.0.*reads 1\.x and 2\.x.*newer nervkit"):
        NervFile(preamble(3, 0) + body)
    assert NervFile(preamble(2, 7) + body).header.frames == 3
    with pytest.raises(FormatError):
        NervFile(preamble(1, 2) + body)


@pytest.mark.parametrize("data", [b"", b"\x89", b"not a video at all", b"\x89PNG\r\n\x1a\n" * 9])
def test_other_files_are_no_nerv_files(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"not a \.nerv file"):
        NervFile(data)


def test_trailing_bytes(small: Path) -> None:
    with pytest.raises(FormatError, match="5 bytes follow"):
        NervFile(small.read_bytes() + b"extra")


def test_order_and_number_of_chunks(small: Path) -> None:
    head, time, model, segment, checks, samples, table, end = pieces = parts(small.read_bytes())
    assert [kind for kind, _ in pieces] == [
        *(b"HEAD", b"TIME", b"MODL", b"SEGM", b"cHCK", b"cSMP", b"TABL", b"NEND")
    ]
    wrong = {
        "no header": [time, model, segment, table, end],
        "header second": [time, head, model, segment, table, end],
        "header twice": [head, time, head, model, segment, table, end],
        "no timing": [head, model, segment, table, end],
        "timing twice": [head, time, time, model, segment, table, end],
        "no segment": [head, time, model, table, end],
        "more segments": [head, time, model, segment, segment, table, end],
        "no model": [head, time, segment, table, end],
        "model after its segment": [head, time, segment, model, table, end],
        "checks twice": [head, time, model, segment, checks, checks, table, end],
        "samples without checks": [head, time, model, segment, samples, table, end],
        "end in the middle": [head, time, model, end, segment, table, end],
        "end with bytes": [head, time, model, segment, table, (b"NEND", bytes(9))],
        "table twice": [head, time, model, segment, table, table, end],
        "unknown after the table": [head, time, model, segment, table, (b"nEWS", b""), end],
        "unknown and critical": [head, time, model, segment, (b"NEWS", b"?"), table, end],
        "of format 1": [head, time, model, segment, (b"TNSR", b""), table, end],
    }
    for name, pieces in wrong.items():
        with pytest.raises(FormatError):
            NervFile(join(pieces))
            pytest.fail(name)
    allowed = join([head, (b"nEWS", b"?"), samples, checks, model, segment, time, table, end])
    assert decode_all(allowed).shape == (3, 9, 11, 3)
    for cut in ([head, time, model, segment], [head, time, model, segment, table]):
        with pytest.raises(TruncatedError):
            NervFile(packed(cut))


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 1 << 31},
        {"height": 0},
        {"width": -3},
        {"width": 11.0},
        {"width": True},
        {"width": "11"},
        {"sample_aspect_ratio": [1, 0]},
        {"sample_aspect_ratio": 1},
        {"colour": []},
        {"model": "../../etc/passwd"},
        {"model": "os"},
        {"model": 7},
        {"config": {}},
        {"config": {"strides": [2, 2]}},
        {"edit": {"frames": [[1]]}},
        {"Surprise": 1},
    ],
)
def test_impossible_headers(small: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        decode_all(with_header(small.read_bytes(), **changes))


@pytest.mark.parametrize(
    ("frames", "model", "values"),
    [(0, 0, None), (4, 0, None), (1 << 63, 0, None), (3, 1, None), (3, 0, 899), (3, 0, 1 << 40)],
)
def test_impossible_rows(small: Path, frames: int, model: int, values: int | None) -> None:
    with NervFile(small) as file:
        right = file.header.values
    assert decode_all(with_row(small.read_bytes(), 3, 0, right)).shape == (3, 9, 11, 3)
    with pytest.raises(FormatError):
        decode_all(with_row(small.read_bytes(), frames, model, right if values is None else values))


@pytest.mark.parametrize(
    "config",
    [
        {"width": 1 << 30},
        {"width": 4096, "embedding_channels": 256, "strides": [8] * 8},
        {"strides": [8] * 8},
        {"strides": [2] * 9},
        {"strides": [0, 2]},
        {"strides": [2.0, 2]},
        {"reduction": float("1e308")},
        {"reduction": 0.5},
        {"max_kernel": 1000},
        {"min_width": 1024},
        {"width": None},
    ],
)
def test_configuration_bombs_allocate_nothing(small: Path, config: dict[str, Any]) -> None:
    data = small.read_bytes()
    changed = NervFile(data).header.segments[0].config | config
    tracemalloc.start()
    with pytest.raises(FormatError):
        decode_all(with_header(data, config=changed))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


def test_a_large_frame_is_checked_against_the_working_memory(small: Path) -> None:
    """A legal size and few parameters, but activations beyond the limit."""
    data = with_header(small.read_bytes(), width=11, height=9)
    with (
        pytest.raises(LimitError, match=r"takes [\d,]+ bytes of memory.*nervkit\.Limits\(memory="),
        NervVideo(data, limits=Limits(memory=1000)),
    ):
        pass


def test_decompression_bombs(small: Path) -> None:
    pieces = parts(small.read_bytes())
    bomb = zlib.compress(b" " * 100_000_000, 9)
    tracemalloc.start()
    for place, kind in enumerate((b"HEAD", b"TIME", b"MODL")):
        assert pieces[place][0] == kind
        payload = pieces[place][1][:20] + b"\x01" + bomb if kind == b"TIME" else bomb
        data = join([*pieces[:place], (kind, payload), *pieces[place + 1 :]])
        with pytest.raises(FormatError, match="longer than allowed"):
            _ = NervFile(data).timing
    table = pieces[-2][1][:25] + bomb
    with pytest.raises(FormatError, match="longer than allowed"):
        NervFile(packed([*pieces[:-2], (b"TABL", table), pieces[-1]]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


def test_deep_json_is_refused(small: Path) -> None:
    _, *rest = parts(small.read_bytes())
    deep = zlib.compress(b"[" * 60_000)
    with pytest.raises(FormatError, match="not valid JSON"):
        NervFile(join([(b"HEAD", deep), *rest]))


def test_a_chunk_that_is_longer_than_the_table_says_is_refused(small: Path) -> None:
    data = bytearray(small.read_bytes())
    struct.pack_into("<Q", data, chunks.PREAMBLE.size + 4, 1 << 62)
    with pytest.raises(ChecksumError):
        NervFile(bytes(data))


def test_tampered_segments(small: Path) -> None:
    pieces = parts(small.read_bytes())
    payload = pieces[3][1]
    for changed in (b"", payload[:5], payload[:-4], payload + bytes(8), payload[:-1]):
        with pytest.raises(FormatError):
            decode_all(join([*pieces[:3], (b"SEGM", changed), *pieces[4:]]))


def test_errors_name_the_file(small: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.nerv"
    data = bytearray(small.read_bytes())
    data[-50] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(ChecksumError, match=r"damaged\.nerv: chunk TABL"):
        nervkit.open(damaged)
    with pytest.raises(SourceError, match=r"missing\.nerv: No such file"):
        nervkit.open(tmp_path / "missing.nerv")


def test_damage_is_found_where_it_is_read(small: Path, tmp_path: Path) -> None:
    """The header of a file with damaged weights stays readable."""
    with NervFile(small) as file:
        chunk = next(c for c in file.chunks if c.type == chunks.SEGMENT)
    data = bytearray(small.read_bytes())
    data[chunk.offset + 100] ^= 1
    damaged = tmp_path / "damaged.nerv"
    damaged.write_bytes(data)
    assert nervkit.info(damaged)["frames"] == 3
    with nervkit.open(damaged) as video:
        with pytest.raises(ChecksumError, match=r"damaged\.nerv: chunk SEGM"):
            _ = video[0]
        with pytest.raises(ChecksumError, match=r"damaged\.nerv: chunk SEGM"):
            video.file.check_all()
    with pytest.raises(ChecksumError):
        nervkit.verify(damaged)
    with pytest.raises(ChecksumError):
        nervkit.decode(damaged, tmp_path / "out.y4m")
    assert not (tmp_path / "out.y4m").exists()


def test_parts_add_up(small: Path) -> None:
    with NervFile(small) as file:
        assert sum(file.bytes_by_part.values()) == small.stat().st_size
        assert file.bpp == 8 * small.stat().st_size / (3 * 9 * 11)
        assert isinstance(file.segment(0), SegmentData)
