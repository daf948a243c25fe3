"""Files of earlier versions must decode for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.container.file import ALWAYS, NervFile, pack_file
from tests import reference_decoder
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

FORMAT1 = ROOT / "tests" / "corpus" / "format1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMAT1 / "expected.json").read_text())
PLACES = 48  # values of each frame that are kept


def test_the_corpus_is_whole() -> None:
    assert {path.name for path in FORMAT1.glob("*.nerv")} == set(EXPECTED)
    versions = {kept["info"]["format_version"] for kept in EXPECTED.values()}
    assert versions == {"1.0", "1.1", "1.2"}
    assert {kept["info"]["model"] for kept in EXPECTED.values()} == {"gridnerv", "hnerv", "nerv"}


def _filled(parts: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in parts.items() if size}


def samples(frame: np.ndarray) -> np.ndarray:
    return frame.ravel()[:: frame.size // PLACES][:PLACES].astype(int)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_format_1_decodes_as_ever(name: str, tmp_path: Path) -> None:
    """Numbers and tensors match exactly, pixels up to machine-dependent rounding."""
    path, kept = FORMAT1 / name, EXPECTED[name]
    found = json.loads(json.dumps(nervkit.info(path)))
    assert {key: found[key] for key in kept["info"]} == kept["info"] | {
        "bytes_by_part": {**dict.fromkeys(ALWAYS, 0), **_filled(kept["info"]["bytes_by_part"])}
    }
    with nervkit.open(path) as video:
        assert [*video.timing.pts.tolist(), video.timing.duration] == kept["times"]
        digest = hashlib.sha256()
        for segment in video.segments:
            for tensor in segment.model.stored().values():
                digest.update(tensor.numpy().astype("<f4").tobytes())
        assert digest.hexdigest() == kept["tensors"]
        for frame, expected in zip(video, kept["samples"], strict=True):
            assert np.abs(samples(frame) - expected).max() <= 1
        has_checks = video.file.checks() is not None
    report = nervkit.verify(path)
    assert report.wrong == (0 if has_checks else None)
    assert nervkit.decode(path, tmp_path / "decoded.mp4").frames == kept["info"]["frames"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_format_1_may_be_written_as_format_2(name: str) -> None:
    """The same parts, tensors and frames, in about as many bytes."""
    with NervFile(FORMAT1 / name) as old:
        segments = [old.segment(index) for index in range(len(old.header.segments))]
        parts = (old.header, old.timing, segments, old.tracks(), old.checks(), old.extras())
        again = pack_file(*parts)
        with NervFile(again) as new:
            assert (old.version[0], new.version[0]) == (1, 2)
            assert (new.header, new.timing, new.tracks(), new.extras()) == (
                *(old.header, old.timing, old.tracks(), old.extras()),
            )
            assert [new.segment(index) for index in range(len(segments))] == segments
        assert abs(len(again) - old.size) < 100 + 100 * len(segments)
    assert np.array_equal(nervkit.open(again)[:], nervkit.open(FORMAT1 / name)[:])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_decoder_written_from_the_specification_reads_format_1(name: str) -> None:
    found = reference_decoder.decode_frames((FORMAT1 / name).read_bytes())
    for frame, expected in zip(found, EXPECTED[name]["samples"], strict=True):
        assert np.abs(samples(frame) - expected).max() <= 1
