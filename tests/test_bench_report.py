"""The output of a run folder: curves, BD table, tables, plot, and the HTML report."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from nervkit.bench.curves import (
    compare,
    load_run,
    mean_comparisons,
    mixed_versions,
    published,
    summary,
)
from nervkit.bench.plot import write_plot
from nervkit.bench.report import SCRIPTS, write_report
from nervkit.bench.tables import print_tables
from nervkit.errors import OutputError, SourceError, UsageError

WIDTH, HEIGHT, FRAMES = 24, 16, 4
X264 = {"crf37": (100, 26.0), "crf32": (170, 28.5), "crf27": (300, 31.0), "crf22": (600, 33.5)}
X265 = {"crf38": (90, 27.0), "crf32": (160, 29.5), "crf26": (280, 32.0), "crf20": (560, 34.5)}
HNERV = {"80k": (150, 27.0), "180k": (330, 29.5), "350k": (630, 31.5)}
LOW = {"20k": (40, 20.0), "30k": (60, 22.0), "40k": (80, 24.0)}  # under all anchors


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def make_clip(
    root: Path,
    name: str = "bunny",
    codecs: dict[str, dict[str, tuple[int, float]]] | None = None,
    folder: str | None = None,
    dataset: str | None = None,
) -> Path:
    """A clip of a run folder: codecs with the bytes and PSNR of their points, and frames 1 and
    2."""
    place = root / (folder or name)
    frames = {"source": 0}
    source = {
        "format": 1,
        "clip": name,
        "path": "a.mp4",
        "dataset": dataset,
        "edit": {},
        "frames": FRAMES,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 24.0,
        "sha256": "ab12",
        "colour": {"matrix": "bt601", "range": "limited", "tagged": False, "pixel_format": "rgb24"},
        "anchor_input": "planes",
        "ceiling_psnr": 40.0,
        "viewer_frames": [1, 2],
        "notes": [],
    }
    place.mkdir(parents=True)
    (place / "source.json").write_text(json.dumps(source))
    codecs = codecs or {"hnerv": HNERV, "x264": X264, "x265": X265}
    for codec, points in codecs.items():
        for point, (size, psnr) in points.items():
            frames[f"{codec}-{point}"] = len(frames)
            record = make_point(name, codec, point, size, psnr)
            (place / f"{codec}-{point}.json").write_text(json.dumps(record))
    for stem, seed in frames.items():
        (place / stem).mkdir()
        for index in source["viewer_frames"]:
            Image.fromarray(pixels(10 * seed + index)).save(place / stem / f"{index:05}.png")
    return place


def make_point(clip: str, codec: str, point: str, size: int, psnr: float) -> dict[str, Any]:
    anchor = codec.startswith("x")
    measures = {
        **dict.fromkeys(("psnr_rgb", "psnr_rgb_mse", "psnr_y", "psnr_yuv"), psnr),
        "ssim": psnr / 50,
        "ms_ssim": psnr / 45,
        "vmaf": None,
    }
    return {
        "format": 1,
        "clip": clip,
        "codec": codec,
        "kind": "anchor" if anchor else "neural",
        "profile": "strong" if anchor else "native, 9 epochs",
        "point": point,
        "setting": {"rate": point},
        "inputs": "f00d",
        "frames": FRAMES,
        "fps": 24.0,
        "width": WIDTH,
        "height": HEIGHT,
        "bytes": size,
        "commands": {"encode": f"encode --{codec} '{point}' <&> {{frames}}", "decode": "decode it"},
        "bytes_by_part": {"stream": size} if anchor else {"header": 9, "weights": size - 9},
        "bpp": 8 * size / (FRAMES * WIDTH * HEIGHT),
        "kbps": 8 * size / (FRAMES / 24) / 1000,
        "measures": measures,
        "per_frame": {k: [v] * FRAMES for k, v in measures.items() if k != "psnr_rgb_mse"},
        "encode_seconds": 2.0,
        "decode_seconds": 0.1,
        "decode_write_seconds": 0.2,
        "encode_fps": 2.0,
        "decode_fps": 40.0,
        "device": "cpu",
        "device_memory": None,
        "peak_memory": {"encode": 10**8, "decode": 10**7},
        "alone": point != "crf27",
        "macs_per_pixel": None if anchor else 5000.0,
        "seed": None if anchor else 7,
        "parameters": None if anchor else 80_000,
        "vmaf_model": "vmaf_v0.6.1",
        "machine": {"cpu": "a cpu", "threads": 2, "gpu": None},
        "versions": {"nervkit": "9.9"},
        "source_sha256": "ab12",
        "matrix": "bt601",
        "range": "limited",
        "notes": [],
    }


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def image(page: str, index: int) -> np.ndarray:
    found = re.search(rf'<script type="text/plain" id="image-{index}">(.*?)</script>', page)
    assert found
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB"))


def test_curves_rise_and_name_their_codec(tmp_path: Path) -> None:
    make_clip(tmp_path)
    clip = load_run(tmp_path).clips[0]
    assert [(c.label, c.kind) for c in clip.curves] == [
        ("hnerv", "neural"),
        ("x264", "anchor"),
        ("x265", "anchor"),
    ]
    assert [p.record["point"] for p in clip.curves[1].points] == list(X264)
    assert clip.curves[1].rated("vmaf") == []
    assert [c.label for c in load_run(tmp_path / "bunny").clips[0].curves] == [
        c.label for c in clip.curves
    ]


def test_profiles_of_a_codec_are_curves_of_their_own(tmp_path: Path) -> None:
    folder = make_clip(tmp_path)
    for point in ("crf22", "crf27"):
        change(folder / f"x264-{point}.json", profile="paper")
    run = load_run(tmp_path)
    assert run.labels == ["hnerv", "x264 (paper)", "x264 (strong)", "x265"]
    assert [len(c.points) for c in run.clips[0].curves] == [3, 2, 2, 4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x264-crf22.json", '{"format": 1, "cl', "x264-crf22.json: damaged record"),
        ("x264-crf22.json", "[]", "x264-crf22.json: damaged record: not an object"),
        ("x264-crf22.json", '{"format": 2}', "x264-crf22.json: a record of format 2"),
        ("x264-crf22.json", '{"format": 1}', "x264-crf22.json: damaged record: clip"),
        ("source.json", '{"format": 1, "clip": NaN}', "source.json: damaged record"),
    ],
)
def test_damaged_records_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (make_clip(tmp_path) / name).write_text(text)
    with pytest.raises(SourceError, match=re.escape(message)):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bytes": 0}, "a rate is not positive"),
        ({"bpp": "0.1"}, "bpp is missing"),
        ({"kind": "other"}, "kind is neither"),
        ({"measures": {"psnr_rgb": "30"}}, "a measure is not a number"),
        ({"source_sha256": "cd34"}, "was measured on another source"),
    ],
)
def test_impossible_points_are_refused(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    path = make_clip(tmp_path) / "x264-crf22.json"
    change(path, **values)
    with pytest.raises(SourceError, match=f"x264-crf22.json: .*{message}"):
        load_run(tmp_path)


def test_folders_without_records(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="missing: no such folder"):
        load_run(tmp_path / "missing")
    with pytest.raises(SourceError, match="holds no benchmark records"):
        load_run(tmp_path)
    (make_clip(tmp_path) / "source.json").unlink()
    with pytest.raises(SourceError, match=r"no source\.json"):
        load_run(tmp_path)


def test_deltas_against_every_anchor(tmp_path: Path) -> None:
    make_clip(tmp_path)
    found = {
        (c.anchor, c.test): c
        for c in compare(load_run(tmp_path).clips[0])
        if (c.metric, c.method) == ("psnr_rgb", "pchip")
    }
    assert set(found) == {
        ("x264", "hnerv"),
        ("x264", "x265"),
        ("x265", "hnerv"),
        ("x265", "x264"),
    }
    better = found["x264", "x265"]
    assert better.rate.value is not None and better.rate.value < 0 < (better.quality.value or 0)
    assert better.rate.interval == (27.0, 33.5)
    assert better.rate.overlap == pytest.approx(6.5 / 8.5)


def test_refused_deltas_say_why_and_leave_the_mean(tmp_path: Path) -> None:
    make_clip(tmp_path, "one")
    make_clip(tmp_path, "two", {"hnerv": LOW, "x264": X264})
    run = load_run(tmp_path)
    comparisons = [c for clip in run.clips for c in compare(clip)]
    refused = [c for c in comparisons if c.clip == "two" and c.metric == "psnr_rgb"]
    assert all("share no quality" in (c.rate.refused or "") for c in refused)
    assert {c.rate.refused for c in comparisons if c.metric == "vmaf"} == {"not measured"}
    (mean,) = (
        m for m in mean_comparisons(comparisons) if (m.metric, m.method) == ("psnr_rgb", "pchip")
    )
    (alone,) = (
        c
        for c in comparisons
        if (c.clip, c.anchor, c.test, c.metric, c.method)
        == ("one", "x264", "hnerv", "psnr_rgb", "pchip")
    )
    assert (mean.anchor, mean.test, mean.clips) == ("x264", "hnerv", 2)
    assert (mean.rate.clips, mean.rate.value) == (1, alone.rate.value)


def test_points_that_are_beaten_enter_no_delta_and_are_named(tmp_path: Path) -> None:
    beaten = {**X265, "crf51": (92, 24.0)}
    make_clip(tmp_path, codecs={"x264": X264, "x265": beaten})
    make_clip(tmp_path, "plain", codecs={"x264": X264, "x265": X265})
    run = load_run(tmp_path)
    with_it, without = (list(compare(clip)) for clip in run.clips)
    assert [c.rate for c in with_it] == [c.rate for c in without]
    assert [clip.left_out != [] for clip in run.clips] == [True, False]
    assert run.clips[0].left_out[0].startswith("x265 crf51: another point is better and smaller")
    assert summary(run)["bd_left_out"]["bunny"] == run.clips[0].left_out
    console = Console(file=io.StringIO(), width=100)
    print_tables(run, console)
    assert "left out: x265 crf51" in console.file.getvalue()


def test_points_of_different_software_are_noted(tmp_path: Path) -> None:
    place = make_clip(tmp_path)
    assert mixed_versions(load_run(tmp_path)) == []
    path = place / "hnerv-80k.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"versions": {"nervkit": "9.8"}}))
    (line,) = mixed_versions(load_run(tmp_path))
    assert line.startswith("bunny: hnerv mixes points of different software (nervkit 9.8, 9.9)")


def test_summary_is_json(tmp_path: Path) -> None:
    make_clip(tmp_path)
    values = json.loads(json.dumps(summary(load_run(tmp_path)), allow_nan=False))
    assert [s["clip"] for s in values["sources"]] == ["bunny"]
    assert len(values["points"]) == 11
    assert "per_frame" not in values["points"][0]
    assert {row["method"] for row in values["bd"]} == {"pchip", "akima"}


def test_tables_fit_their_width(tmp_path: Path) -> None:
    make_clip(tmp_path, "one [bold]", {"hnerv": LOW, "x264": X264, "x265": X265}, folder="one")
    make_clip(tmp_path, "two")
    file = io.StringIO()
    print_tables(load_run(tmp_path), Console(file=file, width=100))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for part in ("one [bold]", "hnerv / x264, PSNR RGB: the curves share no quality", "40.0*"):
        assert part in text


def test_a_run_is_judged_by_the_psnr_that_it_was_fitted_for(tmp_path: Path) -> None:
    """Tables, plot and page follow the source records; they use RGB if clips differ."""
    for name in ("one", "two"):
        folder = make_clip(tmp_path / "run", name)
        change(folder / "source.json", metric="yuv")
        for path in folder.glob("hnerv-*.json"):
            measures = json.loads(path.read_text())["measures"]
            change(path, measures=measures | {"psnr_yuv": measures["psnr_yuv"] + 1})
    run = load_run(tmp_path / "run")
    assert run.psnr == run.clips[0].psnr == "psnr_yuv"
    file = io.StringIO()
    print_tables(run, Console(file=file, width=100))
    text = file.getvalue()
    assert text.count("BD-PSNR YUV") == 3
    assert max(map(len, text.splitlines())) <= 100
    (of,) = (
        c
        for c in run.clips[0].comparisons
        if (c.anchor, c.test, c.metric, c.method) == ("x264", "hnerv", "psnr_yuv", "pchip")
    )
    assert f"{of.quality.value:+.2f} dB" in text
    write_plot(run, tmp_path / "rd.svg")
    assert "PSNR YUV" in (tmp_path / "rd.svg").read_text()
    write_report(run, tmp_path / "report.html")
    assert embedded((tmp_path / "report.html").read_text())["psnr"] == "psnr_yuv"
    change(tmp_path / "run" / "two" / "source.json", metric="rgb")
    assert load_run(tmp_path / "run").psnr == "psnr_rgb"
    for metric in ("vmaf", ["yuv"], None):
        change(tmp_path / "run" / "two" / "source.json", metric=metric)
        with pytest.raises(SourceError, match="metric is neither rgb nor yuv"):
            load_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["rd.png", "rd.svg", "rd.pdf"])
def test_plot(tmp_path: Path, name: str) -> None:
    make_clip(tmp_path / "run", "bunny", dataset="bunny")
    make_clip(tmp_path / "run", "$x_$")
    write_plot(load_run(tmp_path / "run"), tmp_path / name)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[name[-3:]]
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [name]


def test_plot_refuses(tmp_path: Path) -> None:
    make_clip(tmp_path)
    run = load_run(tmp_path)
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        write_plot(run, tmp_path / "rd.gif")
    with pytest.raises(UsageError, match="choose from: psnr_rgb"):
        write_plot(run, tmp_path / "rd.png", "beauty")


def test_report_holds_all_that_it_shows(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "run", dataset="bunny@hnerv")
    output = tmp_path / "report.html"
    assert write_report(load_run(tmp_path / "run"), output) == []
    page = output.read_text(encoding="utf-8")
    data = embedded(page)
    clip = data["clips"][0]

    # What a browser would load: nothing but data of the page itself.
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""\b(src|href)\s*=\s*["']?[^"'#\s]""", markup)
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in markup
    assert "Permission to use, copy, modify" in page  # D3's licence

    commands = {p["commands"]["encode"] for p in clip["points"]}
    assert "encode --x264 'crf22' <&> {frames}" in commands
    assert len(commands) == 11
    assert clip["published"] == [vars(c) for c in published(load_run(folder).clips[0])]

    shots = {None: clip["shots"], **{(p["series"], p["point"]): p["shots"] for p in clip["points"]}}
    assert len(shots) == 12
    stems = {None: "source", (0, "80k"): "hnerv-80k", (1, "crf22"): "x264-crf22"}
    for key, stem in stems.items():
        for index in (1, 2):
            stored = np.asarray(Image.open(folder / stem / f"{index:05}.png"))
            assert np.array_equal(image(page, shots[key][str(index)]), stored)


def test_report_says_what_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path, "low", {"hnerv": LOW, "x264": X264})
    write_report(load_run(tmp_path), tmp_path / "report.html")
    rows = embedded((tmp_path / "report.html").read_text())["clips"][0]["bd"]
    assert rows[0]["rate"]["value"] is None
    assert rows[0]["rate"]["refused"].startswith("the curves share no quality")


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>{{js}}"
    make_clip(tmp_path, evil, folder="evil")
    write_report(load_run(tmp_path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert embedded(page)["clips"][0]["name"] == evil
    assert "alert(1)</script>" not in page
    assert "<img" not in page
    assert page.count("<!--") == 0
    assert page.count("Draws the report from its data") == 1


def test_page_inserts_text_only() -> None:
    folder = Path(__file__).parent.parent / "nervkit" / "bench" / "page"
    scripts = sorted(folder.glob("*.js"))
    assert [script.stem for script in scripts] == sorted(SCRIPTS)
    text = "".join(script.read_text(encoding="utf-8") for script in scripts)
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in text


def test_budget_leaves_out_frames_and_says_so(tmp_path: Path) -> None:
    make_clip(tmp_path / "run", "one")
    make_clip(tmp_path / "run", "two")
    whole = tmp_path / "whole.html"
    write_report(load_run(tmp_path / "run"), whole)
    data = embedded(whole.read_text())
    assert [len(c["shots"]) for c in data["clips"]] == [2, 2]
    size = whole.stat().st_size

    cut = tmp_path / "cut.html"
    notes = write_report(load_run(tmp_path / "run"), cut, budget=size - 5_000)
    assert cut.stat().st_size < size - 5_000
    data = embedded(cut.read_text())
    assert [len(c["shots"]) for c in data["clips"]] == [2, 1]
    assert list(data["clips"][1]["shots"]) == ["2"]
    assert len(notes) == 1
    assert notes[0].startswith("two: the viewer has 12 of 24 frames")
    assert data["notes"] == notes

    # Not even one frame of every point: the source and the neural codec come first.
    notes = write_report(load_run(tmp_path / "run"), cut, budget=size - 65_000)
    clip = embedded(cut.read_text())["clips"][0]
    kept = [p["point"] for p in clip["points"] if p["shots"]]
    assert clip["shots"] and set(kept) >= set(HNERV)
    assert len(kept) < 11
    assert len(notes) == 2


def test_missing_and_damaged_frames(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "run")
    output = tmp_path / "report.html"
    frame = folder / "x264-crf22" / "00001.png"
    frame.unlink()
    assert write_report(load_run(tmp_path / "run"), output) == [
        "bunny: some viewer frames are not in the run folder"
    ]
    before = output.read_bytes()
    frame.write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"00001\.png: cannot be read as an image"):
        write_report(load_run(tmp_path / "run"), output)
    Image.fromarray(pixels(0)[:8]).save(frame)
    with pytest.raises(SourceError, match="is 24x8, but the clip is 24x16"):
        write_report(load_run(tmp_path / "run"), output)
    assert output.read_bytes() == before
    with pytest.raises(OutputError, match="cannot be written"):
        frame.unlink()
        write_report(load_run(tmp_path / "run"), tmp_path / "nowhere" / "report.html")
