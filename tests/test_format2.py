"""Features of format 2: many segments, streams, parts that later versions add."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.compression.coded import MatrixData, compress_coded
from nervkit.compression.methods import decompress_segment
from nervkit.compression.quantization import quantize
from nervkit.compression.tensors import compress_tensors
from nervkit.container import chunks, format2
from nervkit.container.file import NervFile, pack_file
from nervkit.container.header import Segment
from nervkit.container.limits import Limits
from nervkit.container.segment import ADAPTIVE, CONTEXTS, Section, SegmentData
from nervkit.container.table import HEAD, Table
from nervkit.container.timing import pack_timing
from nervkit.container.track import pack_track
from nervkit.container.trackindex import unpack_tracks
from nervkit.errors import FormatError, LimitError, TruncatedError
from nervkit.media.timing import Timing
from nervkit.networks import segment_blueprint
from nervkit.video.reader import read_clip
from nervkit.video.tracks import track_packets
from tests import reference_decoder
from tests.fuzzing import after, join, listed, moving, with_sound_and_text
from tests.segmented import Watched, header

pytestmark = pytest.mark.usefixtures("one_thread")

MANY = 10_000
Pieces = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of one size, of different models, strides and methods."""
    folder = tmp_path_factory.mktemp("halves")
    options: list[dict[str, Any]] = [
        {"params": 2500, "strides": (2, 2)},
        {"target_size": 3000, "strides": (2, 3)},
        {"model": "hnerv", "params": 3000},
    ]
    for index, more in enumerate(options):
        path = folder / f"{index}.nerv"
        nervkit.encode(moving(4, 12, 16), path, steps=10, device="cpu", **more)
    return sorted(folder.glob("*.nerv"))


@pytest.fixture(scope="module")
def whole(halves: list[Path]) -> bytes:
    """A file of both halves: five segments of three models."""
    return together([NervFile(halves[i]) for i in (0, 1, 2, 0, 1)])


def together(files: Sequence[NervFile]) -> bytes:
    segments = tuple(file.header.segments[0] for file in files)
    header = replace(files[0].header, segments=segments)
    timing = Timing(np.arange(header.frames), Fraction(1, 25), 1)
    return pack_file(header, timing, [file.segment(0) for file in files])


def pieces_of(data: bytes) -> Pieces:
    return reference_decoder.read_chunks(data)


def test_segments_differ_in_model_strides_and_method(whole: bytes, halves: list[Path]) -> None:
    expected = np.concatenate([nervkit.open(halves[i])[:] for i in (0, 1, 2, 0, 1)])
    with nervkit.open(whole) as video:
        assert (video[:] == expected).all()
        assert (video[13] == expected[13]).all()
        methods = [video.file.segment(i).sections[0].method for i in range(5)]
        assert methods == [ADAPTIVE, CONTEXTS, ADAPTIVE, ADAPTIVE, CONTEXTS]
        kinds = [chunk.type for chunk in video.file.chunks]
        assert kinds.count(b"MODL") == 3
    found = reference_decoder.decode_frames(whole).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_many_segments_open_by_head_and_table_alone() -> None:
    file = io.BytesIO()
    writer = format2.Writer(file, header())
    data = SegmentData.of((ADAPTIVE, 3, bytes(500)))
    for index in range(MANY):
        config = {"width": 8 + index % 3}
        writer.segment(Segment(20 + index % 2, "gridnerv", config, 300 + index), data)
        if index % 100 == 0:
            writer.part(b"nEWS", bytes(1000))  # such as sound between pictures
    frames = MANY * 20 + MANY // 2
    timing = Timing(np.arange(frames), Fraction(1, 25), 1)
    writer.part(chunks.TIMING, pack_timing(timing))
    writer.finish()
    watched = Watched(file.getvalue())
    size = len(file.getvalue())
    with pytest.raises(LimitError, match="different networks"):
        format2.read_contents(watched, size)
    assert sum(stop - start for start, stop in watched.spans) < 0.01 * size


def test_ten_thousand_segments(whole: bytes) -> None:
    """Opening reads a hundredth of the file, and finds any segment at once."""
    with NervFile(whole) as one:
        file = io.BytesIO()
        writer = format2.Writer(file, one.header)
        for index in range(MANY):
            place = index % 5
            data = one.segment(place)
            writer.segment(one.header.segments[place], replace(data, records=((b"nAME", b"x"),)))
        timing = Timing(np.arange(4 * MANY), Fraction(1, 25), 1)
        writer.part(chunks.TIMING, pack_timing(timing))
        writer.finish()
        size = len(file.getvalue())
        watched = Watched(file.getvalue())
        contents = format2.read_contents(watched, size)
        assert sum(stop - start for start, stop in watched.spans) < 0.005 * size
        assert len(contents.header.segments) == MANY
        watched.spans.clear()
        found = format2.read_segment(watched, contents, 7777)
        assert found.sections == one.segment(7777 % 5).sections
        [chunk] = contents.segments[7777]
        assert watched.spans == [(chunk.offset - 12, chunk.end)]
        expected = nervkit.open(whole)[:]
    with nervkit.open(file.getvalue()) as video:
        assert len(video) == 4 * MANY
        for frame in (0, 12_345, 39_999):
            assert (video[frame] == expected[frame % 20]).all()


def test_a_file_is_written_as_a_stream(whole: bytes) -> None:
    """The writer writes nothing twice and keeps no part that it has written."""

    class Forward(io.BytesIO):
        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

    file = Forward()
    with NervFile(whole) as one:
        writer = format2.Writer(file, one.header)
        writer.part(chunks.TIMING, pack_timing(one.timing))
        for index, segment in enumerate(one.header.segments):
            writer.segment(segment, one.segment(index))
        writer.finish()
    assert file.getvalue() == whole


def test_a_file_cut_short_says_which_segments_are_whole(whole: bytes) -> None:
    with NervFile(whole) as file:
        ends = [chunk.end for chunk in file.chunks if chunk.type == b"SEGM"]
        table = file.chunks[-2].offset
    for cut in (ends[0] - 1, ends[0], ends[2] - 1, ends[2], ends[2] + 1, table, len(whole) - 1):
        count = sum(end <= cut for end in ends)
        first = "segment 0" if count == 1 else f"segments 0 to {count - 1}"
        verb = "is" if count == 1 else "are"
        wanted = rf"{first} \(frames 0 to {4 * count - 1}\) {verb} intact; use salvage=True"
        with pytest.raises(TruncatedError, match=wanted if count else "no segment is intact$"):
            NervFile(whole[:cut])
    damaged = bytearray(whole[: ends[3]])
    damaged[ends[1] + 50] ^= 1  # the model of segment 2
    with pytest.raises(FormatError, match=r"3 of the first 4 segments are intact; use "):
        NervFile(bytes(damaged))
    with pytest.raises(FormatError, match=r"segments 0 to 2 "):  # a crash left zeros
        NervFile(whole[: ends[2]] + bytes(4096))


def with_json(pieces: Pieces, kind: bytes, path: tuple[str, ...], name: str) -> Pieces:
    """The bytes with a field added to an object in the JSON of a chunk."""
    place = [k for k, _ in pieces].index(kind)
    fields = json.loads(zlib.decompress(pieces[place][1]))
    at = fields
    for step in path:
        at = at[step]
    at[name] = [1, {"a": None}]
    payload = zlib.compress(json.dumps(fields).encode())
    return [*pieces[:place], (kind, payload), *pieces[place + 1 :]]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (b"HEAD", ()),
        (b"HEAD", ("colour",)),
        (b"HEAD", ("edit",)),
        (b"HEAD", ("encoder",)),
        (b"MODL", ()),
    ],
)
def test_fields_that_are_not_known(whole: bytes, kind: bytes, path: tuple[str, ...]) -> None:
    pieces = pieces_of(whole)
    for name in ("later", "_later", "1", "Ünlike"):
        with nervkit.open(join(listed(with_json(pieces, kind, path, name)))) as video:
            assert video[-1].shape == (12, 16, 3)
    with pytest.raises(FormatError, match=r"field Later is required and unknown.*newer nervkit"):
        nervkit.open(join(listed(with_json(pieces, kind, path, "Later"))))


def with_column(pieces: Pieces, name: bytes) -> Pieces:
    table = pieces[-2][1]
    count, segments, width, columns = HEAD.unpack_from(table)
    start = HEAD.size + 5 * columns
    head = HEAD.pack(count, segments, width, columns + 1) + table[HEAD.size : start]
    content = zlib.decompress(table[start:]) + bytes(8 * segments)
    payload = head + struct.pack("<4sB", name, 8) + zlib.compress(content)
    return [*pieces[:-2], (b"TABL", payload), pieces[-1]]


def test_columns_and_chunks_that_are_not_known(whole: bytes) -> None:
    pieces = pieces_of(whole)
    with nervkit.open(join(listed(with_column(pieces, b"lATE")))) as video:
        assert len(video) == 20
    assert len(reference_decoder.decode_frames(join(listed(with_column(pieces, b"lATE"))))) == 20
    with pytest.raises(FormatError, match=r"column LATE is required and unknown.*newer nervkit"):
        NervFile(join(listed(with_column(pieces, b"LATE"))))
    for name in (b"FRMS", b"    "):
        with pytest.raises(FormatError, match="a duplicate column, or one without a valid name"):
            NervFile(join(listed(with_column(pieces, name))))
    later = [*pieces[:3], (b"lATE", b"any"), *pieces[3:]]
    with nervkit.open(join(listed(later))) as video:
        assert len(video) == 20
        video.file.check_all()
    with pytest.raises(FormatError, match=r"chunk LATE is required and unknown.*newer nervkit"):
        NervFile(join(listed([*pieces[:3], (b"LATE", b"any"), *pieces[3:]])))


def test_records_that_are_not_known(halves: list[Path]) -> None:
    with NervFile(halves[0]) as file:
        segment, data, timing = file.header.segments[0], file.segment(0), file.timing
        for name, refused in ((b"lATE", False), (b"LATE", True)):
            more = replace(data, records=((b"eXTR", b""), (name, bytes(300))))
            packed = pack_file(file.header, timing, [more])
            assert SegmentData.unpack(data.pack(4, 0))[2] == data
            if refused:
                with pytest.raises(FormatError, match="record LATE is required and unknown"):
                    nervkit.open(packed)[0]
            else:
                assert (nervkit.open(packed)[:] == nervkit.open(halves[0])[:]).all()
                assert len(reference_decoder.decode_frames(packed)) == segment.frames


def test_a_method_that_is_not_known(halves: list[Path]) -> None:
    with NervFile(halves[0]) as file:
        data = file.segment(0)
        first, *rest = data.sections
        other = replace(data, sections=(Section(77, first.data), *rest))
        packed = pack_file(file.header, file.timing, [other])
    with pytest.raises(FormatError, match=r"method 77, .* does not know: install a newer"):
        nervkit.open(packed)[0]


def test_every_tensor_has_its_method() -> None:
    """Methods may alternate from tensor to tensor."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(4, 6)).astype(np.float32) for name in "abcdef"}
    shapes = {name: array.shape for name, array in arrays.items()}
    whole_steps = {name: np.rint(8 * arrays[name]).astype(np.int32) for name in "bdf"}
    steps = [np.full(n, value, np.int32) for n, value in ((4, 96), (6, -12), (4, 20), (6, 0))]
    matrices = [MatrixData(values, *steps) for values in whole_steps.values()]
    adaptive = compress_tensors({name: arrays[name] for name in "ace"}, 8)
    sections = (Section(CONTEXTS, compress_coded(matrices)), Section(ADAPTIVE, adaptive))
    data = SegmentData(sections, (1, 0, 1, 0, 1, 0))
    payload = data.pack(4, 2)
    assert SegmentData.unpack(payload) == (4, 2, data)
    found = decompress_segment(data, shapes)
    segment = reference_decoder.read_segment(payload)
    again = reference_decoder.read_sections(segment, list(shapes.values()))
    assert list(found) == list(shapes)
    for (name, array), other in zip(found.items(), again, strict=True):
        assert np.array_equal(array, other)
        if name in "ace":
            assert np.array_equal(array, quantize(arrays[name], 8).dequantize())
        else:
            assert np.array_equal(array, whole_steps[name] * np.float32(2.0**-3))


@pytest.mark.parametrize("order", [(0, 0), (0, 0, 0, 0), ()])
def test_other_tensors_than_the_model_has(halves: list[Path], order: tuple[int, ...]) -> None:
    with NervFile(halves[1]) as file:
        packed = pack_file(file.header, file.timing, [replace(file.segment(0), order=order)])
    with pytest.raises(FormatError, match=r"tensors, but its model has|number of tensors"):
        nervkit.open(packed)[0]


def test_a_segment_that_differs_from_the_table(halves: list[Path]) -> None:
    pieces = pieces_of(halves[0].read_bytes())
    place = [kind for kind, _ in pieces].index(b"SEGM")
    for frames, model in ((5, 0), (4, 1)):
        payload = struct.pack("<IH", frames, model) + pieces[place][1][6:]
        changed = [*pieces[:place], (b"SEGM", payload), *pieces[place + 1 :]]
        with pytest.raises(FormatError, match="contradicts the table"):
            nervkit.open(join(listed(changed)))[0]


def test_a_table_that_does_not_fit_the_file(whole: bytes) -> None:
    pieces = pieces_of(whole)
    with NervFile(whole) as file:
        table = Table.unpack(pieces[-2][1], file.chunks[-2].offset - chunks.CHUNK_HEAD.size)
    first, second, *rest = table.chunks
    swapped = [
        replace(first, length=second.length),
        chunks.Chunk(second.type, second.offset, first.length),
        *rest,
    ]
    shorter = [replace(first, length=first.length - 1), second, *rest]
    renamed = [first, replace(second, type=b"nEWS"), *rest]
    for listed_chunks in (swapped, shorter, renamed, table.chunks[:-1], []):
        payload = replace(table, chunks=listed_chunks or [first]).pack()
        with (
            pytest.raises(FormatError),
            NervFile(join([*pieces[:-2], (b"TABL", payload), pieces[-1]])) as file,
        ):
            file.check_all()
    for place in (0, 15, 16, len(whole), (1 << 64) - 1):
        with pytest.raises(FormatError):
            NervFile(join([*pieces[:-1], (b"NEND", struct.pack("<Q", place))]))


@pytest.mark.parametrize(
    ("count", "segments", "width", "columns"),
    [(1 << 31, 5, 1, 3), (11, 1 << 31, 1, 3), (11, 5, 3, 3), (11, 5, 8, 255), (0, 5, 1, 3)],
)
def test_tables_are_bounded_by_the_file(
    whole: bytes, count: int, segments: int, width: int, columns: int
) -> None:
    pieces = pieces_of(whole)
    payload = HEAD.pack(count, segments, width, columns) + pieces[-2][1][HEAD.size :]
    with pytest.raises(FormatError):
        NervFile(join([*pieces[:-2], (b"TABL", payload), pieces[-1]]))


def test_limits_hold_for_all_segments_together(whole: bytes) -> None:
    with nervkit.open(whole) as video:
        pixels = video.header.pixels
    assert pixels == 20 * 12 * 16
    with pytest.raises(LimitError, match=r"limits=nervkit\.Limits\(pixels="):
        NervFile(whole, Limits(pixels=pixels - 1))


def test_what_a_segment_costs_is_known_before_it_is_decoded(whole: bytes, tmp_path: Path) -> None:
    with nervkit.open(whole) as video:
        costs = [
            4 * segment_blueprint(video.header, segment).macs for segment in video.header.segments
        ]
    assert costs[1] > costs[0]
    with nervkit.open(whole, limits=Limits(macs_per_file=costs[0])) as video:
        video.check(0, 4)
        assert len(video[0:4]) == 4
        for refused in (lambda: video[4], lambda: video.check(0, 5)):
            with pytest.raises(LimitError, match=r"Limits\(macs_per_file="):
                refused()
    path = tmp_path / "whole.nerv"
    path.write_bytes(whole)
    enough = Limits(macs_per_file=sum(costs))
    assert nervkit.verify(path, limits=enough).frames == 20
    less = Limits(macs_per_file=sum(costs) - 1)
    for call in (nervkit.verify, lambda *a, **o: nervkit.decode(*a, tmp_path / "a.y4m", **o)):
        with pytest.raises(LimitError, match="multiply-accumulates in all frames"):
            call(path, limits=less)
    assert not (tmp_path / "a.y4m").exists()


def test_a_file_says_that_its_pixels_are_exact(halves: list[Path], tmp_path: Path) -> None:
    with NervFile(halves[0]) as file:
        exact = pack_file(replace(file.header, exact=True), file.timing, [file.segment(0)])
        assert not nervkit.info(halves[0])["exact"]
    path = tmp_path / "exact.nerv"
    path.write_bytes(exact)
    assert nervkit.info(path)["exact"]
    assert (nervkit.open(exact)[:] == nervkit.open(halves[0])[:]).all()


def test_a_track_lies_beside_the_pictures_of_its_time(whole: bytes, tmp_path: Path) -> None:
    """Its parts form one track, which is read without the segments."""
    with_sound_and_text(tmp_path / "sound.mkv")
    [first] = read_clip(tmp_path / "sound.mkv").tracks
    second = after(first)
    file = io.BytesIO()
    with NervFile(whole) as one:
        writer = format2.Writer(file, one.header)
        for index, segment in enumerate(one.header.segments):
            writer.segment(segment, one.segment(index))
            if index in (1, 3):
                continues = 0 if index == 3 else None
                writer.part(chunks.TRACK, pack_track((first, second)[index // 2], continues))
        writer.part(chunks.TIMING, pack_timing(one.timing))
        writer.finish()
        together = pack_file(
            one.header,
            one.timing,
            [one.segment(index) for index in range(5)],
            [replace(first, later=(second,)), second],
        )
    data = bytearray(file.getvalue())
    with NervFile(file.getvalue()) as made:
        for spans in made.chunks:
            if spans.type == b"SEGM":
                data[spans.offset] ^= 1
    [track] = NervFile(bytes(data)).tracks()
    assert track == replace(first, later=(second,))
    assert (track.packets, track.size) == (2 * len(first.times), 2 * len(first.data))
    packets = track_packets(track)
    assert [p.pts for p in packets] == [*first.times[:, 0].tolist(), *second.times[:, 0].tolist()]
    assert NervFile(together).tracks() == [track, second]
    path = tmp_path / "whole.nerv"
    path.write_bytes(file.getvalue())
    assert nervkit.info(path)["tracks"][0]["packets"] == track.packets
    nervkit.decode(path, tmp_path / "whole.mkv")
    assert len(track_packets(read_clip(tmp_path / "whole.mkv").tracks[0])) == track.packets


def test_parts_that_fit_no_track(tmp_path: Path) -> None:
    with_sound_and_text(tmp_path / "sound.mkv")
    [track] = read_clip(tmp_path / "sound.mkv").tracks
    later = after(track)
    good = [pack_track(track), pack_track(later, 0), pack_track(track)]
    packets = len(track.times)
    assert [t.packets for t in unpack_tracks(dict(enumerate(good)))] == [2 * packets, packets]
    bad = [
        [pack_track(track, 0)],
        [pack_track(track), pack_track(later, 1)],
        [pack_track(track), pack_track(later, 0), pack_track(later, 1)],
        [pack_track(track), pack_track(replace(later, codec="opus"), 0)],
        [pack_track(track), pack_track(later, 0), pack_track(track, 0)],  # backwards
        [pack_track(track), pack_track(later, -1)],
    ]
    for payloads in bad:
        with pytest.raises(FormatError):
            unpack_tracks(dict(enumerate(payloads)))
