"""Collections: added videos, unchanged earlier videos, and refused input."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nervkit
from nervkit import collection
from nervkit.collection.session import MaskedNetwork, fit_video
from nervkit.compression.masked import QuantizedValues, SharedWeights, pack_integers, read_integers
from nervkit.container import chunks
from nervkit.container.collection import (
    MASKS,
    VIDEO,
    WEIGHTS,
    CollectionFile,
    Network,
    pack_entry,
    write_grown,
)
from nervkit.errors import (
    ChecksumError,
    FormatError,
    Interrupted,
    LimitError,
    NervError,
    OutputError,
    TruncatedError,
    UsageError,
)
from nervkit.fitting.budget import Budget
from nervkit.lock import locked
from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.pfnr import ALONE, NONE, PAPER, PFNR, FourierOperator, PFNRConfig
from nervkit.video.clip import Clip
from tests.command import run_nervkit
from tests.reference_collection import decode_collection

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH = 40, 64
MORE: dict[str, Any] = {"device": "cpu", "steps": 8}
MAKING = {"params": 6000} | MORE
RUN = [sys.executable, "-c", "from nervkit.cli import main; main()"]


def waves(k: int, frames: int = 4, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    """Drifting coloured waves, different for each `k`, at uneven times."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    picture = np.sin((x + 2 * t) / (4 + k) + c) * np.cos((y - t) / (3 + k))
    pts = np.array([0, 3, 7, 8, 14, 15][:frames])
    return Clip(
        np.rint(127 + 90 * picture).astype(np.uint8), timing=Timing(pts, Fraction(1, 30), 2)
    )


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes], list[np.ndarray]]:
    """A collection of three videos of 4, 5 and 3 frames; its bytes after each; and the frames of
    each video when it was added."""
    path = tmp_path_factory.mktemp("collection") / "movies.nervc"
    files, frames = [], []
    for k, count in enumerate((4, 5, 3)):
        collection.add(path, waves(k, count), name=f"waves {k}", **(MORE if k else MAKING))
        files.append(path.read_bytes())
        with nervkit.Collection(path) as opened:
            frames.append(opened[f"waves {k}"][:])
    return path, files, frames


def test_earlier_videos_stay_bit_by_bit(
    grown: tuple[Path, list[bytes], list[np.ndarray]],
) -> None:
    path, files, frames = grown
    with nervkit.Collection(path) as opened:
        assert opened.names == ["waves 0", "waves 1", "waves 2"]
        for video, before in zip(opened, frames, strict=True):
            np.testing.assert_array_equal(video[:], before)
    end = len(chunks.pack_chunk(chunks.END, b""))
    for before, after in pairwise(files):
        assert after.startswith(before[:-end])


def test_a_second_decoder_shows_the_same(
    grown: tuple[Path, list[bytes], list[np.ndarray]], tmp_path: Path
) -> None:
    _, files, frames = grown
    found = decode_collection(files[-1])
    assert [*found] == ["waves 0", "waves 1", "waves 2"]
    alone = tmp_path / "a.nervc"
    collection.add(alone, waves(0), name="a", fourier="alone", **MAKING)
    with nervkit.Collection(alone) as opened:
        pairs = [*zip(found.values(), frames, strict=True)]
        pairs += [(decode_collection(alone.read_bytes())["a"], opened["a"][:])]
    for theirs, ours in pairs:
        difference = np.abs(theirs.astype(int) - ours)
        assert difference.max() <= 1
        assert np.mean(difference != 0) < 0.01


def test_any_frame_of_any_video(grown: tuple[Path, list[bytes], list[np.ndarray]]) -> None:
    path, _, frames = grown
    with nervkit.Collection(path.read_bytes()) as opened:
        video = opened["waves 1"]
        assert (len(video), video.shape) == (5, (5, HEIGHT, WIDTH, 3))
        np.testing.assert_array_equal(video[-1], frames[1][4])
        np.testing.assert_array_equal(video[1:5:2], frames[1][1:5:2])
        assert video[3:3].shape == (0, HEIGHT, WIDTH, 3)
        assert video.timing == waves(1, 5).timing
        with pytest.raises(IndexError):
            video[5]
        with pytest.raises(UsageError, match="no video 'other'; choose from: waves 0, waves 1"):
            opened["other"]


def test_a_video_is_more_like_its_source_than_the_other_is(tmp_path: Path) -> None:
    path, sources = tmp_path / "a.nervc", [waves(0).frames, 255 - waves(0).frames // 2]
    made = [
        collection.add(
            path, source, name=str(k), fps=25, **(MORE if k else MAKING) | {"steps": 120}
        )
        for k, source in enumerate(sources)
    ]
    with nervkit.Collection(path) as opened:
        for k, video in enumerate(opened):
            errors = [np.square(video[:].astype(float) - source).mean() for source in sources]
            assert errors[k] < 0.7 * errors[1 - k]
            of_frames = np.square(video[:].astype(float) - sources[k]).mean(axis=(1, 2, 3))
            assert made[k].psnr == pytest.approx((10 * np.log10(255**2 / of_frames)).mean())


def test_bytes_are_those_of_the_parts(grown: tuple[Path, list[bytes], list[np.ndarray]]) -> None:
    path, files, _ = grown
    values = collection.contents(path)
    assert values["bytes"] == len(files[-1])
    videos = values["videos"]
    assert values["bytes"] == values["header_bytes"] + sum(v["bytes"] for v in videos)
    for video, before, after in zip(videos[1:], files, files[1:], strict=False):
        assert video["bytes"] == sum(video["bytes_by_part"].values()) == len(after) - len(before)
    assert values["free"] == values["weights"] - sum(v["added"] for v in videos)
    with nervkit.Collection(path) as opened:
        weights = opened.weights()
        assert (weights.count, weights.free) == (values["weights"], values["free"])


def test_the_counts_of_a_report_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nervc"
    first = collection.add(path, waves(0), name="a", **MAKING)
    second = collection.add(path, waves(1), name="b", keep=0.25, **MORE)
    assert (first.reused, first.videos, second.videos) == (0, 1, 2)
    assert second.kept == second.reused + second.added <= round(0.26 * second.weights)
    assert second.free == second.weights - first.added - second.added
    assert (second.bytes, second.added_bytes) == (
        path.stat().st_size,
        second.bytes - first.bytes,
    )
    assert second.bpp == 8 * second.added_bytes / (4 * HEIGHT * WIDTH)


def test_verify_says_that_all_frames_are_the_same(
    grown: tuple[Path, list[bytes], list[np.ndarray]],
) -> None:
    seen: list[tuple[int, int]] = []
    report = collection.verify(grown[0], on_progress=lambda *done: seen.append(done))
    assert [(v.name, v.frames, v.identical, v.wrong) for v in report.videos] == [
        ("waves 0", 4, 4, 0),
        ("waves 1", 5, 5, 0),
        ("waves 2", 3, 3, 0),
    ]
    assert seen == [(n, 12) for n in range(1, 13)]


def test_extract_writes_what_the_video_shows(
    grown: tuple[Path, list[bytes], list[np.ndarray]], tmp_path: Path
) -> None:
    path, files, frames = grown
    report = collection.extract(path, "waves 1", tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), frames[1])
    assert (report.frames, report.bytes) == (5, len(files[1]) - len(files[0]))
    collection.extract(path, "waves 1", tmp_path / "a.mkv", codec="ffv1")
    movie = nervkit.read_clip(tmp_path / "a.mkv")
    np.testing.assert_array_equal(movie.frames, frames[1])
    times = [float(t * movie.time_base) for t in movie.pts]
    assert times == pytest.approx([0, 3 / 30, 7 / 30, 8 / 30, 14 / 30], abs=1e-3)
    with pytest.raises(OutputError, match="exists already"):
        collection.extract(path, "waves 0", tmp_path / "a.mkv")


def test_what_a_collection_refuses(
    grown: tuple[Path, list[bytes], list[np.ndarray]], tmp_path: Path
) -> None:
    path, files, _ = grown
    for message, arguments, options in (
        ("has a video 'waves 1' already", (path, waves(4)), {"name": "waves 1"}),
        ("give resize='64x40'", (path, waves(4, height=38)), {"name": "x"}),
        ("leave out strides", (path, waves(4)), {"name": "x", "strides": "2,2"}),
        ("leave out params", (path, waves(4)), {"name": "x", "params": "10k"}),
        ("must end in .nervc", (tmp_path / "a.nerv", waves(4)), {"name": "x"}),
        ("needs a name", (path, waves(4)), {}),
        ("keep must lie in", (path, waves(4)), {"name": "x", "keep": 0}),
        ("bits must be", (path, waves(4)), {"name": "x", "bits": 1}),
        ("unknown recipe", (path, waves(4)), {"name": "x", "recipe": "new"}),
        ("unprintable characters", (path, waves(4)), {"name": "a\nb"}),
        ("parameters are too few", (tmp_path / "a.nervc", waves(4)), {"name": "x", "params": 9}),
        ("fourier must be one of", (tmp_path / "a.nervc", waves(4)), {"name": "x", "fourier": "y"}),
    ):
        with pytest.raises(UsageError, match=message):
            collection.add(*arguments, **{**MORE, **options})
    with locked(path), pytest.raises(OutputError, match="another run"):
        collection.add(path, waves(4), name="x", **MORE)
    assert path.read_bytes() == files[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == []


def test_frames_are_brought_to_size_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.nervc"
    collection.add(path, waves(0), name="a", **MAKING)
    large = waves(1, height=80, width=128).frames
    report = collection.add(path, large, name="b", resize="64x40", fps=25, **MORE)
    assert (report.width, report.height, report.fps) == (64, 40, 25)


def test_what_is_no_picture_is_left_out_with_a_note(tmp_path: Path) -> None:
    clip = replace(waves(0), extras=Extras(tags={"title": "Waves"}), notes=["read somehow"])
    report = collection.add(tmp_path / "a.nervc", clip, name="a", **MAKING)
    assert report.notes == ["read somehow", "a collection stores pictures only: dropped tags"]


def test_a_full_network_says_so_and_reuses(tmp_path: Path) -> None:
    path = tmp_path / "a.nervc"
    first = collection.add(path, waves(0), name="a", keep=1.0, bits=12, **MAKING)
    second = collection.add(path, waves(1), name="b", **MORE)
    assert first.free < 0.02 * first.weights
    assert second.added <= first.free
    assert [n for n in second.notes if "reuses those of earlier videos" in n]
    assert not [n for n in first.notes if "reuses" in n]


def test_without_free_weights_only_the_head_is_new() -> None:
    shape, config = VideoShape(4, HEIGHT, WIDTH), PFNR.configure(VideoShape(4, HEIGHT, WIDTH), 6000)
    weights = of_config(config, shape)
    rng = np.random.default_rng(0)
    for name, used in weights.used.items():
        used[...] = True
        weights.values[name] = rng.normal(0, 0.1, used.shape).astype(np.float32)
    fitted = fitted_to(waves(0), replace(config, video=1), weights)
    assert sum(len(integers.values) for integers in fitted.added.values()) == 0
    assert all(fitted.masks[name].any() for name in weights.used)
    assert {*fitted.head} == {"head.weight", "head.bias"}


def test_an_interrupted_add_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.nervc"
    asked = iter([False] * 5 + [True] * 9)
    with pytest.raises(Interrupted, match="stopped at step 5"):
        collection.add(path, waves(0), name="a", stop=lambda: next(asked), **MAKING)
    assert [*tmp_path.iterdir()] == []
    collection.add(path, waves(0), name="a", **MAKING)
    before = path.read_bytes()
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > MORE["steps"]  # once the fit is done and frames are checked

    with pytest.raises(Interrupted, match="while the video was checked"):
        collection.add(path, waves(1), name="b", stop=stop, **MORE)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nervc"]


def test_ctrl_c_ends_an_add_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nervc"
    collection.add(path, waves(0), name="a", **MAKING)
    before = path.read_bytes()
    np.save(tmp_path / "b.npy", waves(1).frames)
    command = [*RUN, "collection", "add", path, tmp_path / "b.npy", "--steps", "1000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "4 frames of 64x40" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].splitlines()[-1] == "nervkit: interrupted"
    assert process.returncode == 130
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nervc", "b.npy"]


def test_every_damaged_byte_is_found(
    grown: tuple[Path, list[bytes], list[np.ndarray]], tmp_path: Path
) -> None:
    whole = grown[1][1]
    path = tmp_path / "a.nervc"
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        with pytest.raises(FormatError), CollectionFile(bytes(damaged)) as file:
            file.check_all()
    for length in (0, 3, 12, 40, len(whole) // 2, len(whole) - 1):
        with pytest.raises(FormatError):
            CollectionFile(whole[:length])
    with pytest.raises(TruncatedError, match="truncated"):
        CollectionFile(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ChecksumError):
        collection.add(path, waves(5), name="x", **MORE)
    assert path.read_bytes() == damaged


def test_commands(grown: tuple[Path, list[bytes], list[np.ndarray]], tmp_path: Path) -> None:
    source = tmp_path / "next.npy"
    np.save(source, waves(0).frames)
    path = tmp_path / "movies.nervc"
    made = run_nervkit(
        *("collection", "add", path, source, "--params", "6k", "--steps", "8", "--device", "cpu"),
        *("--fps", "25", "--json"),
        code=0,
    )
    report = json.loads(made.stdout)
    assert (report["name"], report["videos"], report["bytes"]) == ("next", 1, path.stat().st_size)
    again = run_nervkit("collection", "add", path, source, code=2)
    assert again.stderr == (f"nervkit: {path}: has a video 'next' already; choose another name\n")
    listed = run_nervkit("collection", "-q", "list", path, code=0).stdout.splitlines()
    assert listed[-1].split()[0] == "4" and listed[-1].endswith("next")
    values = json.loads(run_nervkit("collection", "list", path, "--json", code=0).stdout)
    assert values == collection.contents(path) | {"input": str(path)}
    run_nervkit("collection", "extract", path, "next", "-o", tmp_path / "out.y4m", code=0)
    assert nervkit.read_clip(tmp_path / "out.y4m").shape == (4, HEIGHT, WIDTH, 3)
    run_nervkit("collection", "verify", path, code=0)
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    damaged = run_nervkit("collection", "verify", path, code=1)
    assert damaged.stderr.count("\n") == 1 and "damaged: its checksum is wrong" in damaged.stderr


def test_each_kind_of_file_is_told_from_the_other(
    grown: tuple[Path, list[bytes], list[np.ndarray]], tmp_path: Path
) -> None:
    path = tmp_path / "a.nerv"
    nervkit.encode(waves(0), path, steps=2, params=4000, device="cpu")
    with pytest.raises(FormatError, match=r"is a \.nerv file, not a \.nervc: use nervkit info"):
        nervkit.Collection(path)
    with pytest.raises(FormatError, match=r"is a \.nervc file, not a \.nerv: use nervkit coll"):
        nervkit.open(grown[0])
    other = tmp_path / "a.nervc"
    other.write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match=r"is a \.nerv file"):
        collection.add(other, waves(1), name="x", **MORE)


def test_listing_needs_no_torch(grown: tuple[Path, list[bytes], list[np.ndarray]]) -> None:
    code = (
        "import sys, nervkit.collection as c; "
        "print(len(c.contents(sys.argv[1])['videos']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, grown[0]], capture_output=True, text=True)
    assert done.stdout.split() == ["3", "False"], done.stderr


def crafted(
    grown: tuple[Path, list[bytes], list[np.ndarray]],
    change: Callable[[Network, list[tuple[bytes, bytes]]], tuple[Network, list[Any]]],
) -> bytes:
    """The collection's first video in a file of its own, altered, with valid checksums."""
    with CollectionFile(grown[1][0]) as file:
        parts = [(type, file.payload(0, type)) for type in file.entries[0].parts]
        network, parts = change(file.network, parts)
        out = io.BytesIO()
        write_grown(out, None, network, parts)
        return out.getvalue()


def test_hostile_files_are_refused(grown: tuple[Path, list[bytes], list[np.ndarray]]) -> None:
    with CollectionFile(grown[1][0]) as file:
        entry, head = file.entries[0], file.network

    def described(**changes: Any) -> Callable[..., Any]:
        new = {"name": entry.name, "header": entry.header, "frames": entry.frames}
        new |= {"kept": entry.kept, "added": entry.added} | changes
        return lambda network, parts: (network, [(VIDEO, pack_entry(**new)), *parts[1:]])

    def with_config(**changes: Any) -> Callable[..., Any]:
        return lambda network, parts: (
            replace(network, config=network.config | changes),
            parts,
        )

    def without(type: bytes) -> Callable[..., Any]:
        return lambda network, parts: (network, [p for p in parts if p[0] != type])

    def with_part(type: bytes, payload: bytes) -> Callable[..., Any]:
        return lambda network, parts: (
            network,
            [(t, payload if t == type else p) for t, p in parts],
        )

    for message, change in (
        ("uses other weights than it declares", described(kept=entry.kept + 1)),
        ("more weights than the network", described(kept=head.weights + 1, added=head.weights + 1)),
        ("the timing is longer than allowed", described(frames=3)),
        ("frames of another size", described(header=replace(entry.header, width=62))),
        ("configuration is impossible", with_config(strides=[9])),
        ("configuration is impossible", with_config(fourier_rows=500)),
        ("the network shares", with_config(grid_channels=5)),
        ("unknown network model other", lambda n, p: (replace(n, model="other"), p)),
        ("lacks its TIME", without(chunks.TIMING)),
        ("lacks its MASK, WGTS", lambda n, p: (n, p[:2])),
        ("cSMP chunk but no cHCK", without(chunks.CHECKS)),
        ("is out of place", lambda n, p: (n, p + p[1:2])),
        ("is out of place", lambda n, p: (n, p[1:])),
        ("same name", lambda n, p: (n, p + p)),
        ("chunk XTRA is required and unknown", lambda n, p: (n, [*p, (b"XTRA", b"")])),
        ("the weights are not those", with_part(WEIGHTS, b"\0\0")),
        ("not a whole number of words", with_part(MASKS, b"abc")),
        ("uses other weights", with_part(MASKS, b"")),
    ):
        data = crafted(grown, change)
        with pytest.raises(FormatError, match=message):
            collection.verify(data)
    assert collection.verify(crafted(grown, lambda n, p: (n, [*p, (b"xTRA", b"new")]))).wrong == 0


def test_mutated_parts_give_frames_or_one_line(
    grown: tuple[Path, list[bytes], list[np.ndarray]],
) -> None:
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(40):

        def change(network: Network, parts: list[tuple[bytes, bytes]]) -> tuple[Network, list[Any]]:
            place = int(rng.integers(1, len(parts)))
            payload = bytearray(parts[place][1])
            payload[int(rng.integers(len(payload)))] = int(rng.integers(256))
            return network, [*parts[:place], (parts[place][0], bytes(payload)), *parts[place + 1 :]]

        try:
            collection.verify(crafted(grown, change))
        except NervError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 0 < refused < 40


def test_what_decoding_takes_is_limited_before_it_is_allocated(
    grown: tuple[Path, list[bytes], list[np.ndarray]],
) -> None:
    shape = VideoShape(1, HEIGHT, WIDTH)

    def vast(network: Network, parts: list[tuple[bytes, bytes]]) -> tuple[Network, list[Any]]:
        config = PFNRConfig.from_dict(network.config | {"video": 0, "stem_width": 2048})
        config = replace(config, grid_channels=256, min_width=256)
        skeleton = PFNR.skeleton(config, shape)
        stored = skeleton.stored()
        weights = sum(stored[name].numel() for name in skeleton.shared())
        values = {k: v for k, v in config.to_dict().items() if k != "video"}
        return replace(network, config=values, weights=weights), parts

    with pytest.raises(LimitError, match="values"):
        collection.verify(crafted(grown, vast))


# The parts: masks, integers, the network, the choice of weights.


def of_config(config: PFNRConfig, shape: VideoShape) -> SharedWeights:
    skeleton = PFNR.skeleton(config, shape)
    stored = skeleton.stored()
    return SharedWeights({name: tuple(stored[name].shape) for name in skeleton.shared()})


def fitted_to(clip: Clip, config: PFNRConfig, weights: SharedWeights, **options: Any) -> Any:
    chosen = {"keep": 0.5, "bits": 6} | options
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    return fit_video(frames, config, weights, Budget(steps=8), PFNR.recipes["native"], **chosen)


def test_masks_come_back_and_are_shorter_for_what_is_known() -> None:
    rng = np.random.default_rng(1)
    shapes = {"a": (40, 60), "b": (7,), "c": (3, 5, 3, 3)}
    writer, reader = SharedWeights(shapes), SharedWeights(shapes)
    first = {name: rng.random(shape) < 0.5 for name, shape in shapes.items()}
    flips = {name: rng.random(shape) < 0.05 for name, shape in shapes.items()}
    third = {name: rng.random(shape) < 0.3 for name, shape in shapes.items()}
    sizes = []
    for masks in (first, {name: first[name] ^ flips[name] for name in shapes}, third):
        data = writer.pack_masks(masks)
        sizes.append(len(data))
        decoded = reader.read_masks(data)
        added = {name: rng.integers(-31, 32, n.sum()) for name, n in writer.added(masks).items()}
        integers = {name: QuantizedValues(v.astype(np.int32), 300) for name, v in added.items()}
        for name in shapes:
            np.testing.assert_array_equal(decoded[name], masks[name])
        mine, theirs = writer.take(masks, integers), reader.take(decoded, integers)
        for name, mask in masks.items():
            np.testing.assert_array_equal(mine[name], theirs[name])
            assert not mine[name][~mask].any()
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    assert sizes[1] < 0.45 * count / 8 < 0.9 * count / 8 < sizes[0]
    union = {name: first[name] | (first[name] ^ flips[name]) | third[name] for name in shapes}
    for name in shapes:
        np.testing.assert_array_equal(reader.used[name], union[name])
        np.testing.assert_array_equal(reader.last[name], third[name])


def test_frozen_values_do_not_change_when_a_mask_covers_them() -> None:
    weights = SharedWeights({"a": (6,)})
    first = np.array([1, 1, 0, 0, 1, 0], bool)
    weights.take({"a": first}, {"a": QuantizedValues(np.array([3, -2, 7], np.int32), 400)})
    before = weights.values["a"].copy()
    second = np.array([1, 0, 1, 0, 1, 1], bool)
    shown = weights.take({"a": second}, {"a": QuantizedValues(np.array([5, -1], np.int32), 320)})
    np.testing.assert_array_equal(weights.values["a"][first], before[first])
    step = 2.0 ** (320 // 16 - 24)
    np.testing.assert_array_equal(shown["a"], [before[0], 0, 5 * step, 0, before[4], -step])


def test_integers_come_back() -> None:
    tensors = {
        "a": QuantizedValues(np.array([-31, 0, 5, 31], np.int32), 17),
        "none": QuantizedValues(np.zeros(0, np.int32), 0),
        "wide": QuantizedValues(np.array([2047, -2047], np.int32), 511),
    }
    data = pack_integers([*tensors.values()])
    counts = {name: len(t.values) for name, t in tensors.items()}
    for name, found in read_integers(data, counts).items():
        np.testing.assert_array_equal(found.values, tensors[name].values)
        assert found.step == tensors[name].step
    with pytest.raises(FormatError, match="not those of 2 tensors"):
        read_integers(data, {"a": 4, "wide": 2})
    impossible = pack_integers([QuantizedValues(np.array([1], np.int32), 512)])
    with pytest.raises(FormatError, match="tensor a has an impossible description"):
        read_integers(impossible, {"a": 1})
    with pytest.raises(FormatError):
        read_integers(data + data, counts)


def test_the_papers_network_has_as_many_weights() -> None:
    shape = VideoShape(132, 720, 1280)
    plain = PFNRConfig(**PAPER, fourier=NONE)
    assert PFNR.configure(shape, fourier=NONE).strides == plain.strides == (5, 2, 2, 2, 2)
    head = 96 * 3 + 3
    assert count_stored(PFNR.skeleton(plain, shape)) == 12_565_232 + head
    operator = 2 * 112 * 112 * (4 + 4) * 8
    both = PFNR.configure(shape)
    assert (both.fourier_rows, both.fourier_columns) == (4, 8)
    assert count_stored(PFNR.skeleton(both, shape)) == 12_565_232 + head + operator
    conv = 112 * 9 * 112 * 25 + 112 * 25
    alone = PFNR.configure(shape, fourier=ALONE)
    assert count_stored(PFNR.skeleton(alone, shape)) == 12_565_232 + head + operator - conv


@pytest.mark.parametrize("fourier", ["sum", "alone", "none"])
def test_frames_have_their_size_and_differ_by_video(fourier: str) -> None:
    shape = VideoShape(3, 37, 61)
    torch.manual_seed(0)
    config = PFNR.configure(shape, 9000, fourier=fourier)
    network = PFNR(config, shape)
    with torch.no_grad():
        frames = network(torch.tensor([0.0, 2.0]))
        network.config = replace(config, video=1)
        other = network(torch.tensor([0.0, 2.0]))
    assert frames.shape == (2, 3, 37, 61)
    assert frames.min() > 0
    assert frames.max() < 1
    assert not torch.equal(frames, other)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (4, 6)])
def test_the_fourier_operator_is_what_its_equation_says(height: int, width: int) -> None:
    torch.manual_seed(2)
    rows, columns, stride = 2, 3, 2
    operator = FourierOperator(2, 3, stride, rows, columns)
    x = torch.randn(1, 2, height, width)
    spectrum = np.fft.fft2(x[0].numpy()) / (height * width)
    weight = (operator.real + 1j * operator.imaginary).detach().numpy()
    tall, wide = stride * height, stride * width
    expected = np.zeros((3, tall, wide))
    y, z = np.mgrid[:tall, :wide]
    for o in range(3):
        for m in range(2 * rows):
            row = m if m < rows else m - 2 * rows  # the last rows are negative frequencies
            for n in range(columns):
                mode = sum(spectrum[i, row, n] * weight[i, o, m, n] for i in range(2))
                wave = np.exp(2j * np.pi * (row * y / tall + n * z / wide))
                # A real signal has the conjugate of each mode too, but of column 0 only once.
                expected[o] += (2 if n else 1) * (mode * wave).real
    with torch.no_grad():
        np.testing.assert_allclose(operator(x)[0].numpy(), expected, atol=1e-5)


def test_gradients_pass_the_choice_and_stop_at_frozen_weights() -> None:
    shape = VideoShape(2, HEIGHT, WIDTH)
    torch.manual_seed(3)
    config = PFNR.configure(shape, 6000)
    weights = of_config(config, shape)
    rng = np.random.default_rng(3)
    for name, used in weights.used.items():
        used[...] = rng.random(used.shape) < 0.4
        weights.values[name] = np.where(used, 0.05, 0).astype(np.float32)
    network = MaskedNetwork(config, shape, weights, keep=0.5, reuse=True)
    for name, (chosen, weight) in network.masked().items():
        mask = chosen.mask()
        assert int(mask.sum()) == round(0.5 * weight.numel()), name
        value = torch.where(chosen.used, chosen.frozen, weight.detach())
        seen = chosen(weight)
        torch.testing.assert_close(seen.detach(), torch.where(mask, value, 0.0))
        slope = torch.randn_like(seen)
        (seen * slope).sum().backward()
        assert not weight.grad[chosen.used].any()
        torch.testing.assert_close(weight.grad, slope * mask * ~chosen.used)
        torch.testing.assert_close(chosen.scores.grad, slope * value * chosen.scores.sign())
        weight.grad = chosen.scores.grad = None
    network(torch.tensor([0.0])).sum().backward()
    assert any(weight.grad.any() for _, weight in network.masked().values())


def test_a_fit_keeps_what_is_frozen_and_adds_what_is_not_zero() -> None:
    shape = VideoShape(4, HEIGHT, WIDTH)
    config = PFNR.configure(shape, 6000)
    weights = of_config(config, shape)
    first = fitted_to(waves(0, 4), config, weights)
    first.taken(weights)
    frozen = {name: values.copy() for name, values in weights.values.items()}
    used = {name: mask.copy() for name, mask in weights.used.items()}
    second = fitted_to(waves(1, 4), replace(config, video=1), weights, bits=3)
    again = fitted_to(waves(1, 4), replace(config, video=1), weights, bits=3)
    tensors = second.taken(weights)
    reused = 0
    for name, mask in second.masks.items():
        np.testing.assert_array_equal(mask, again.masks[name])
        np.testing.assert_array_equal(second.added[name].values, again.added[name].values)
        assert mask.sum() <= max(1, round(0.5 * mask.size))
        assert second.added[name].values.all()
        assert np.abs(second.added[name].values).max(initial=0) <= (63 if mask.ndim == 1 else 3)
        np.testing.assert_array_equal(weights.values[name][used[name]], frozen[name][used[name]])
        np.testing.assert_array_equal(tensors[name][~mask], 0)
        reused += int((mask & used[name]).sum())
    assert reused > 0
    apart = fitted_to(waves(2, 4), replace(config, video=2), weights, reuse=False)
    for name, mask in apart.masks.items():
        assert not (mask & weights.used[name]).any(), name
