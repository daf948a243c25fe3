"""Checkpoint files, existing files in the way of helper files, and two runs on one output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.errors import Interrupted, OutputError, SourceError
from nervkit.fitting import job
from nervkit.fitting.checkpoint import Checkpoint
from nervkit.fitting.loop import fit
from nervkit.lock import locked
from nervkit.models.nerv import NeRV
from nervkit.video.writer import place_of
from tests.test_fitting import checkpoint, encode, same, stepper, stop_after, video

pytestmark = pytest.mark.usefixtures("one_thread")

# Checkpoint files


def save_one(folder: Path, **identity: Any) -> Checkpoint:
    """A checkpoint on disk after two steps."""
    kept = checkpoint(folder, **identity)
    with pytest.raises(Interrupted):
        fit(stepper(), 4, checkpoint=kept, stop=stop_after(2))
    return kept


def test_a_checkpoint_holds_plain_arrays_and_json(tmp_path: Path) -> None:
    kept = save_one(tmp_path)
    with np.load(kept.path, allow_pickle=False) as file:
        arrays = dict(file)
    assert not [name for name, array in arrays.items() if array.dtype.hasobject]
    meta = json.loads(arrays["meta"].tobytes())
    assert meta["identity"] == {"seed": 0, "strides": [4, 2]}
    assert meta["progress"]["step"] == 2
    names = {f"model/{name}" for name in stepper().model.state_dict()}
    assert names <= set(arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nerv.checkpoint"]


def test_no_checkpoint_is_nothing_to_resume(tmp_path: Path) -> None:
    assert checkpoint(tmp_path).load() is None


@pytest.mark.parametrize("other", [{"seed": 1}, {"strides": [2, 4]}, {"prune": 0.1}])
def test_a_checkpoint_of_another_encode_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    kept = save_one(tmp_path)
    content = kept.path.read_bytes()
    (name,) = other
    with pytest.raises(SourceError, match=rf"another encode \({name}: .*set restart") as caught:
        checkpoint(tmp_path, **other).load()
    assert "\n" not in str(caught.value)
    assert kept.path.read_bytes() == content


def assert_refused(kept: Checkpoint) -> None:
    with pytest.raises(SourceError, match=r"not a readable checkpoint.*set restart") as caught:
        kept.load()
    assert "\n" not in str(caught.value)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    kept = save_one(tmp_path)
    content = kept.path.read_bytes()
    for length in [*range(0, len(content), len(content) // 40), len(content) - 1]:
        kept.path.write_bytes(content[:length])
        assert_refused(kept)
    kept.path.write_bytes(b"\x00" * len(content))
    assert_refused(kept)


def test_no_flipped_bit_is_taken_for_the_checkpoint(tmp_path: Path) -> None:
    kept = save_one(tmp_path)
    content = kept.path.read_bytes()
    whole = kept.load()
    assert whole is not None
    directory = content.index(b"PK\x01\x02")
    places = [*range(0, directory, 4001), *range(directory, len(content), 37)]
    refused = 0
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        kept.path.write_bytes(flipped)
        try:
            saved = kept.load()
        except SourceError:
            refused += 1
            continue
        assert saved is not None  # a bit of no meaning, such as a file's date
        assert saved.position == whole.position
        assert same(saved.arrays, whole.arrays)
    assert refused > len(places) / 2


@pytest.mark.parametrize(
    "meta", [b"[1]", b"{}", b'{"identity": 3}', b'"text"', b"\xff", b'{"identity": {}}']
)
def test_foreign_archives_are_refused(meta: bytes, tmp_path: Path) -> None:
    kept = checkpoint(tmp_path)
    with kept.path.open("wb") as file:
        np.savez(file, meta=np.frombuffer(meta, np.uint8))
    assert_refused(kept)
    with kept.path.open("wb") as file:
        np.savez(file, weights=np.ones(3))
    assert_refused(kept)
    with kept.path.open("wb") as file:
        np.save(file, np.ones(3))
    assert_refused(kept)


def test_a_checkpoint_that_lost_arrays_is_refused(tmp_path: Path) -> None:
    kept = save_one(tmp_path)
    with np.load(kept.path) as file:
        arrays = dict(file)
    del arrays["optimizer/0/0/exp_avg"]
    with kept.path.open("wb") as file:
        np.savez(file, **arrays)
    assert_refused(kept)


def test_a_failing_disk_keeps_the_earlier_checkpoint_and_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step tries to write one; one note reports all failures."""
    kept = replace(save_one(tmp_path), interval=0.0)
    content, write, notes = kept.path.read_bytes(), np.savez, []

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    summary = fit(stepper(), 4, checkpoint=kept, on_note=notes.append)
    assert summary.steps == 4
    assert notes == list(summary.notes)
    (note,) = notes
    assert "cannot write the checkpoint: No space left on device; the fit goes on" in note
    assert [path.name for path in tmp_path.iterdir()] == ["a.nerv.checkpoint"]
    assert kept.path.read_bytes() == content
    monkeypatch.setattr(np, "savez", write)
    fit(stepper(), 4, checkpoint=kept)
    assert kept.path.read_bytes() != content


def test_an_interrupted_fit_says_whether_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted) as caught:
        fit(stepper(), 4, checkpoint=checkpoint(tmp_path), stop=stop_after(2))
    assert caught.value.resumable

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(np, "savez", refuse)
    with pytest.raises(Interrupted) as caught:
        fit(stepper(), 4, checkpoint=checkpoint(tmp_path), stop=stop_after(2))
    assert not caught.value.resumable


def test_a_checkpoint_knows_the_version_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.nerv"
    with pytest.raises(Interrupted):
        encode(output, stop=stop_after(5))
    version = nervkit.__version__
    monkeypatch.setattr(job, "__version__", "9.9")
    with pytest.raises(SourceError, match=rf"of nervkit {version}, this is 9\.9.*set restart"):
        encode(output)
    save_one(tmp_path)
    with pytest.raises(SourceError, match=r"of an earlier nervkit, this is 9\.9"):
        checkpoint(tmp_path, nervkit="9.9").load()


def test_a_model_that_has_changed_does_not_go_on(tmp_path: Path) -> None:
    kept = save_one(tmp_path)
    saved = kept.load()
    assert saved is not None
    other = stepper(NeRV)
    with pytest.raises(SourceError, match=r"not those of NeRV, which has changed.*set restart"):
        saved.restore(other.model, other.optimizers)


PLACES = ["a.nerv.checkpoint", ".a.nerv.checkpoint.partial", ".a.nerv.lock"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "device"])
@pytest.mark.parametrize("restart", [False, True])
def test_odd_things_in_the_place_of_a_helper_file(
    place: str, kind: str, restart: bool, tmp_path: Path
) -> None:
    odd, other = tmp_path / place, tmp_path / "precious"
    if kind == "folder":
        odd.mkdir()
        (odd / "file").write_text("kept")
    elif kind == "device":
        os.mkfifo(odd)
    else:
        odd.symlink_to(other)
        if kind == "link":
            other.write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    kind = kind.removeprefix("dangling ")
    with pytest.raises(
        OutputError, match=f"{re.escape(place)}: is a {kind}, and nervkit"
    ) as caught:
        encode(tmp_path / "a.nerv", restart=restart)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    if other.exists():
        assert other.read_text() == "kept"


def test_long_names_have_helper_files_too(tmp_path: Path) -> None:
    output = tmp_path / ("n" * 250 + ".nerv")
    for _ in range(2):
        with pytest.raises(Interrupted):
            encode(output, stop=stop_after(5))
        (kept,) = tmp_path.iterdir()
        assert kept.name.endswith(".checkpoint")


# Two runs


def test_a_second_run_on_one_output_stops(tmp_path: Path) -> None:
    output = tmp_path / "a.nerv"
    refused: list[str] = []

    def second() -> bool:
        if not refused:
            with pytest.raises(OutputError) as caught:
                encode(output)
            refused.append(str(caught.value))
            encode(tmp_path / "b.nerv")  # another output is free
        return False

    encode(output, stop=second)
    assert "a.nerv: another run of nervkit is writing it" in refused[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nerv", "b.nerv"]


def test_a_second_restoration_of_one_output_stops(tmp_path: Path) -> None:
    output, refused = tmp_path / "a.npy", []

    def second() -> bool:
        if not refused:
            with pytest.raises(OutputError) as caught:
                nervkit.denoise(video(), output, steps=3)
            refused.append(str(caught.value))
        return False

    nervkit.interpolate(video(), output, factor=2, steps=3, stop=second)
    assert "a.npy: another run of nervkit is writing it" in refused[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_second_decode_to_one_output_stops(tmp_path: Path) -> None:
    encode(tmp_path / "a.nerv")
    (tmp_path / "link.mkv").symlink_to(tmp_path / "a.mkv")
    refused: list[str] = []

    def second(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(OutputError) as caught:
                nervkit.decode(tmp_path / "a.nerv", tmp_path / "link.mkv", overwrite=True)
            refused.append(str(caught.value))

    nervkit.decode(tmp_path / "a.nerv", tmp_path / "a.mkv", on_progress=second)
    assert "a.mkv: another run of nervkit is writing it" in refused[0]  # what the link points to
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "a.nerv", "link.mkv"]


def test_a_folder_that_is_there_has_its_lock_inside(tmp_path: Path) -> None:
    """The parent folder may not be writable."""
    encode(tmp_path / "a.nerv")
    folder = tmp_path / "frames"
    folder.mkdir()
    with locked(place_of(str(folder))):
        (lock,) = folder.iterdir()
        assert lock.name.endswith(".lock")
        with pytest.raises(OutputError, match="another run of nervkit is writing it"):
            nervkit.decode(tmp_path / "a.nerv", folder, overwrite=True)
    nervkit.decode(tmp_path / "a.nerv", folder)
    assert sorted(path.name for path in folder.iterdir()) == [f"{k:05d}.png" for k in range(5)]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_pipe_has_no_lock_and_no_checkpoint(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.y4m"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        nervkit.interpolate(video(), pipe, factor=2, steps=3, overwrite=True)
        assert reader.stdout.read(9) == b"YUV4MPEG2"
        reader.stdout.read()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    output = tmp_path / "a.nerv"
    program = (
        "import sys, pathlib; from nervkit.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(output)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.read(4) == b"held"
        with pytest.raises(OutputError, match="another run"):
            encode(output)
        holder.kill()
        holder.wait()
    assert (tmp_path / ".a.nerv.lock").exists()
    encode(output)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nerv"]
