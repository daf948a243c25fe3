"""The command line: exit codes, one-line errors, JSON, signals, start-up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest

from nervkit.cli import main
from nervkit.models.registry import model_names
from tests.command import run_nervkit
from tests.test_interruption import WATCHED

RUN = [sys.executable, "-c", "from nervkit.cli import main; main()"]
SHARED_KEYS = {
    *("frames", "width", "height", "model", "parameters"),
    *("psnr", "ssim", "bytes", "bpp", "seconds"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip (clip.npy), its encode (clip.nerv) and odd files."""
    folder = tmp_path_factory.mktemp("cli")
    frames = np.random.default_rng(0).integers(0, 255, (6, 24, 32, 3), np.uint8)
    np.save(folder / "clip.npy", frames)
    made = run_nervkit(
        "encode", "clip.npy", "-o", "clip.nerv", "--steps", "3", "--fps", "10", cwd=folder
    )
    assert made.returncode == 0, made.stderr
    np.save(folder / "mask.npy", np.eye(24, 32, dtype=np.uint8))
    (folder / "text.txt").write_text("not a video")
    (folder / "nothing").mkdir()
    (folder / "empty.mp4").touch()
    (folder / "f00.png").touch()
    (folder / "mixed").mkdir()
    for index, size in enumerate(((8, 8, 3), (8, 9, 3))):
        iio.imwrite(folder / "mixed" / f"{index}.png", np.zeros(size, np.uint8))
    whole = (folder / "clip.nerv").read_bytes()
    (folder / "cut.nerv").write_bytes(whole[:-30])
    (folder / "flipped.nerv").write_bytes(whole[:-30] + bytes([whole[-30] ^ 4]) + whole[-29:])
    return folder


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("encode", 2, "SOURCE"),
        ("denoise clip.npy", 2, "--output"),
        ("denoise missing.mp4 -o x.mp4", 1, "missing.mp4: no such file"),
        ("denoise clip.npy -o x.gif", 2, "unknown output format"),
        ("denoise clip.npy -o x.npy --model vgg", 2, f"choose from: {', '.join(model_names())}"),
        ("denoise clip.npy -o x.npy --preset draft --steps 3", 2, "give one of"),
        ("denoise clip.npy -o x.npy --json -o -", 2, "both need stdout"),
        ("inpaint clip.npy -o x.npy", 2, "give --mask or --box x,y,w,h"),
        ("inpaint clip.npy -o x.npy --box 1,2", 2, "a box must be x,y,w,h"),
        ("inpaint clip.npy -o x.npy --box 99,0,4,4", 2, "lies outside the 6 frames of 32x24"),
        ("inpaint clip.npy -o x.npy --mask missing.png", 1, "missing.png: no such file"),
        ("inpaint clip.npy -o x.npy --mask f00.png", 1, "f00.png: not a readable image"),
        ("inpaint clip.npy -o x.npy --mask clip.npy --frames :3", 2, "selects every pixel"),
        ("interpolate clip.npy -o x.npy", 2, "give either --factor or --fps"),
        ("interpolate clip.npy -o x.npy --factor 1", 2, "--factor must be an integer, 2 or more"),
        ("interpolate clip.nerv -o x.npy --fps 10", 2, "--fps must be above the source's 10"),
        ("interpolate cut.nerv -o x.npy --factor 2", 1, "cut.nerv"),
        ("interpolate clip.nerv -o x.npy --factor 2 --seed 1", 2, "--seed does not apply"),
        ("interpolate clip.nerv -o x.npy --factor 2 --restart", 2, "--restart does not apply"),
        ("bench restore clip.npy --out run --mask f00.png", 2, "together, or neither"),
        ("encode clip.npy", 2, "--output"),
        ("encode clip.npy x.nerv", 2, "; did you mean -o x.nerv?"),
        ("decode clip.nerv x.mp4", 2, "; did you mean -o x.mp4?"),
        ("encode -i clip.npy -o x.nerv", 2, "nervkit takes the source without -i"),
        ("encode missing.mp4 -o x.nerv", 1, "missing.mp4: no such file"),
        ("encode text.txt -o x.nerv", 1, "text.txt: cannot be opened as video"),
        ("encode empty.mp4 -o x.nerv", 1, "empty.mp4: the file is empty"),
        ("encode nothing -o x.nerv", 1, "nothing: no images"),
        ("encode mixed -o x.nerv", 1, "set --resize (WxH)"),
        ("encode clip.npy -o x.mp4", 2, "must end in .nerv"),
        ("encode clip.npy -o clip.nerv", 1, "clip.nerv: exists already; use -y"),
        ("encode clip.nerv -o clip.nerv -y", 2, "same file"),
        (
            "encode clip.npy -o no/where.nerv",
            1,
            "create it first: mkdir -p no",
        ),
        ("encode clip.npy -o x.nerv --model vgg", 2, f"choose from: {', '.join(model_names())}"),
        ("encode clip.npy -o x.nerv --preset best", 2, "choose from: draft, fast, medium"),
        ("encode clip.npy -o x.nerv --recipe secret", 2, "choose from: native"),
        ("encode clip.npy -o x.nerv --preset draft --steps 3", 2, "give one of"),
        ("encode clip.npy -o x.nerv --steps 0", 2, "--steps must be a positive whole number"),
        ("encode missing.npy -o x.nerv --metric vmaf", 2, "choose from: rgb, yuv"),
        ("encode missing.npy -o x.nerv --metric yuv --model nerv --recipe paper", 2, "fusion6"),
        ("denoise clip.npy -o x.npy --metric yuv", 2, "--metric"),
        ("encode missing.npy -o x.nerv --target-bitrate fast", 2, "such as 200k"),
        ("encode clip.npy -o x.nerv --target-bitrate 9k", 2, "is too small"),
        ("encode missing.npy -o x.nerv --target-size 9k --target-bitrate 9k", 2, "give one of"),
        ("encode clip.npy -o x.nerv --time 0", 2, "--time must be a positive number"),
        # judged before the source is read
        ("encode missing.npy -o x.nerv --params many", 2, "--params must be a number"),
        ("encode missing.npy -o x.nerv --strides 2,x", 2, "--strides must be whole numbers"),
        ("inpaint missing.npy -o x.npy --box 1,2", 2, "a box must be x,y,w,h"),
        ("inpaint missing.npy -o x.npy --mask no.png", 1, "no.png: no such file"),
        ("interpolate missing.npy -o x.npy --fps 1e9", 2, "--fps must be a positive number"),
        ("inpaint clip.npy -o mask.npy --mask mask.npy -y", 2, "input and output are the same"),
        ("encode clip.npy -o x.nerv --time soon", 2, "--time must be a time such as"),
        ("encode clip.npy -o x.nerv --params many", 2, "--params must be a number"),
        ("encode clip.npy -o x.nerv --params 3", 2, "needs at least"),
        ("encode clip.npy -o x.nerv --params 999999M", 2, "--params must be a number"),
        ("encode clip.npy -o x.nerv --strides 2,x", 2, "--strides must be whole numbers"),
        ("encode clip.npy -o x.nerv --strides 99", 2, "strides must lie in 1 to 16"),
        ("encode clip.npy -o x.nerv --bits 1", 2, "--bits must be a whole number from 2 to 12"),
        ("encode clip.npy -o x.nerv --embedding-bits 13", 2, "--embedding-bits must be a whole"),
        ("encode clip.npy -o x.nerv --bits x", 2, "--bits"),
        ("encode clip.npy -o x.nerv --prune 1", 2, "--prune must lie in"),
        ("encode clip.npy -o x.nerv --resize 0x5", 2, "--resize must be WxH"),
        ("encode clip.npy -o x.nerv --resize 99999x5", 2, "--resize must be WxH"),
        ("encode clip.npy -o x.nerv --crop 100x100", 2, "does not fit into the 32x24"),
        ("encode missing.npy -o x.nerv --to 5 --duration 3", 2, "--to and --duration both"),
        ("encode missing.npy -o x.nerv -ss 5 -to 3", 2, "--to 3 must be later than --start"),
        ("encode missing.npy -o x.nerv -t 0", 2, "--duration must be more than 0"),
        ("encode missing.npy -o x.nerv --resize 640x", 2, "--resize must be WxH (640x360)"),
        ("encode missing.npy -o x.nerv --resize -1:-1", 2, "--resize must be WxH (640x360)"),
        ("encode missing.npy -o x.nerv --size 5", 2, "--size must be WxH in pixels"),
        ("encode missing.npy -o x.nerv --start-from no.nerv", 1, "no.nerv: No such file"),
        ("encode missing.npy -o x.nerv -q -v", 2, "--quiet and --verbose exclude each other"),
        ("encode clip.npy -o x.nerv --to 0.5 --start 99", 2, "to 0.5 must be later"),
        ("encode clip.npy -o x.nerv --start 98 --to 99", 1, "start 98, to 99 selects no frame"),
        ("bench missing.npy -o run --to soon", 2, "--to must be a time such as"),
        ("bench missing.npy -o run --rate x264", 2, "rate must be CODEC=N"),
        ("verify missing.nerv --against clip.npy --fps 0", 2, "--fps must be a positive number"),
        (
            "verify missing.nerv --fps 5",
            2,
            "--fps describes the source to compare with; give --against",
        ),
        ("verify missing.nerv --per-frame", 2, "give --against too"),
        ("verify - --against -", 2, "only one of the .nerv file and the source"),
        ("decode missing.nerv -o x.npy --start soon", 2, "--start must be a time such as"),
        ("decode missing.nerv -o x.npy --resize 0", 2, "--resize must be WxH"),
        ("decode missing.nerv -o x.npy --frames 1:2:3", 2, "--frames must be a range a:b"),
        ("decode missing.nerv -o x.npy --pixel-format yuv444p", 2, "is for movies and y4m"),
        ("decode missing.nerv -o - --pixel-format pink", 2, "y4m supports yuv420p"),
        ("decode missing.nerv -o x.m4a --no-audio", 2, "--resize and --no-audio do not apply"),
        ("decode missing.nerv -o x.png --frames 2:4", 2, "one frame (--frames 5)"),
        ("decode clip.nerv -o x.png --frames 6", 2, "frames 6:7 selects nothing: there are 6"),
        ("encode clip.npy -o x.nerv --frames 9:12", 1, "selects no frame; the source has 6"),
        ("encode clip.npy -o x.nerv --frames 5:2", 2, "--frames must be a range"),
        ("encode clip.npy -o x.nerv --start 99", 1, "selects no frame"),
        ("bench clip.npy -o x --compression hnerv", 2, "add --params"),
        ("bench clip.npy -o x --params 9k --bits 8 --compression hnerv", 2, "leave out --bits"),
        ("bench clip.npy -o x --params 9k --compression zip", 2, "unknown compression 'zip'"),
        ("encode clip.npy -o x.nerv --model gaussians --strides 2,2", 2, "has no strides"),
        ("encode clip.npy -o x.nerv --strides 0,2", 2, "whole numbers from 1"),
        ("collection add x.nervc clip.npy --strides 0,0", 2, "whole numbers from 1"),
        ("tracks clip.nerv --at 1,1,0 -o same.mp4 --draw same.mp4", 2, "give two names"),
        ("encode clip.npy -o x.nerv --matrix cmyk", 2, "unknown matrix 'cmyk'; choose from"),
        ("encode clip.npy -o x.nerv --fps 0", 2, "--fps must be a positive number"),
        ("encode clip.npy -o x.nerv --device abacus", 2, "unknown device 'abacus'"),
        ("encode clip.npy -o x.nerv --precision half", 2, "unknown precision 'half'"),
        ("encode clip.npy -o x.nerv --wrong 1", 2, "--wrong"),
        ("decode missing.nerv -o x.mp4", 1, "missing.nerv: No such file"),
        ("decode text.txt -o x.mp4", 1, "text.txt: not a .nerv file"),
        ("decode cut.nerv -o x.mp4", 1, "cut.nerv: the file ends"),
        ("decode flipped.nerv -o x.mp4", 1, "flipped.nerv: chunk"),
        ("decode clip.nerv -o clip.npy", 1, "clip.npy: exists already"),
        ("decode clip.nerv -o f%02d.png", 1, "f00.png: exists already"),
        ("decode clip.nerv -o x.gif", 2, "x.gif: unknown output format"),
        ("decode clip.nerv -o x.png", 2, "use a pattern"),
        ("decode clip.nerv -o x%s.png", 2, "an image file holds one frame"),
        ("decode clip.nerv -o x.mp4 --codec h266", 2, "unknown codec 'h266'; choose from"),
        ("decode clip.nerv -o x.webm --codec x264", 2, ".webm cannot hold x264"),
        ("decode clip.nerv -o x.mkv --codec ffv1 --crf 3", 2, "lossless"),
        ("decode clip.nerv -o x.mp4 --pixel-format pink", 2, "pixel format 'pink'; choose from"),
        ("decode clip.nerv -o x.webm --pixel-format bgr0", 2, "not support pixel format 'bgr0'"),
        ("decode clip.nerv -o x.y4m --crf 3", 2, "--crf"),
        ("decode clip.nerv -o x.mp4 --frames 6:", 2, "there are 6 frames"),
        ("decode clip.nerv -o - --json", 2, "both need stdout"),
        ("info text.txt", 1, "text.txt: not a .nerv file"),
        ("requantize clip.nerv -o x.nerv --target-loss little", 2, "--target-loss"),
        ("requantize missing.nerv -o x.nerv --target-size 9k", 1, "missing.nerv: No such file"),
        ("requantize nothing -o x.nerv --target-size 9k", 1, "nothing: Is a directory"),
        ("requantize - -o x.nerv --target-size 9k", 2, "the input cannot be a pipe"),
        ("requantize clip.nerv -o - --target-size 9k", 2, "the output cannot be a pipe"),
        ("verify flipped.nerv", 1, "checksum is wrong"),
        ("verify clip.nerv --against missing.mp4", 1, "missing.mp4: no such file"),
        ("transcode x", 2, "transcode"),
    ],
)
def test_bad_input_gets_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    code: int,
    message: str,
) -> None:
    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["nervkit", *command.split()])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    assert end.value.code == code, shown.err
    last = shown.err.strip().splitlines()[-1]
    assert message.lower() in last.lower()
    assert last.startswith("nervkit")
    assert shown.out == ""
    assert sorted(folder.iterdir()) == before


def test_json_on_every_command(folder: Path) -> None:
    """stdout holds one JSON object, with the keys that all commands share."""
    options = ["--steps", "2", "--json", "-y"]
    completed = {
        "encode": run_nervkit("encode", "clip.npy", "-o", "json.nerv", *options, cwd=folder),
        "info": run_nervkit("info", "json.nerv", "--json", cwd=folder),
        "decode": run_nervkit("decode", "json.nerv", "-o", "json.mkv", "--json", "-y", cwd=folder),
        "verify": run_nervkit("verify", "json.nerv", "--against", "clip.npy", "--json", cwd=folder),
    }
    values = {name: json.loads(done.stdout) for name, done in completed.items()}
    for name, value in values.items():
        assert set(value) >= SHARED_KEYS, name
        assert value["bytes"] == (folder / "json.nerv").stat().st_size
        assert (value["frames"], value["width"], value["height"]) == (6, 32, 24)
        assert value["bpp"] == pytest.approx(8 * value["bytes"] / (6 * 32 * 24))
        assert value["psnr"] == pytest.approx(values["encode"]["psnr"], abs=1e-4)
        assert value["ssim"] == pytest.approx(values["encode"]["ssim"], abs=1e-6)
    assert values["verify"]["identical"] == 6
    assert len(values["verify"]["frame_psnr"]) == 6
    assert (values["encode"]["metric"], values["encode"]["psnr_yuv"]) == ("rgb", None)
    assert values["info"]["metric"] == "rgb"
    assert values["verify"]["requantized"] is False
    mean = np.mean(values["verify"]["frame_psnr_yuv"])
    assert values["verify"]["psnr_yuv"] == pytest.approx(mean)


def test_planes_are_reported_where_they_were_asked_for(folder: Path) -> None:
    options = ["--steps", "2", "--metric", "yuv", "--json", "-y"]
    done = run_nervkit("encode", "clip.npy", "-o", "yuv.nerv", *options, cwd=folder)
    values = json.loads(done.stdout)
    assert values["metric"] == "yuv"
    assert f"PSNR {values['psnr_yuv']:.2f} dB of 8-bit 4:2:0 planes" in done.stderr
    assert f"PSNR {values['psnr']:.2f} dB" in done.stderr
    assert "metric yuv" in run_nervkit("info", "yuv.nerv", cwd=folder).stdout


def test_how_much_is_said(folder: Path) -> None:
    command = ["decode", "clip.nerv", "-o", "said.npy", "-y"]
    for silent in (["--quiet", *command], [*command, "-q"]):
        done = run_nervkit(*silent, cwd=folder, code=0)
        assert (done.stdout, done.stderr) == ("", "")
    for loud in (["-v", *command], [*command, "--verbose"]):
        lines = run_nervkit(*loud, cwd=folder, code=0).stderr.splitlines()
        assert lines[0].startswith("nervkit ")
        assert lines[-1].startswith("said.npy: 6 frames of 32x24")
    missing = ["info", "missing.nerv"]
    failed = run_nervkit(*missing, "-q", cwd=folder, code=1).stderr
    assert failed.splitlines() == ["nervkit: missing.nerv: No such file or directory"]
    failed = run_nervkit(*missing, "-v", cwd=folder, code=1).stderr
    assert "Traceback" in failed
    assert failed.endswith("\nnervkit: missing.nerv: No such file or directory\n")
    listed = run_nervkit("info", "-q", "clip.nerv", cwd=folder, code=0)
    assert listed.stdout == run_nervkit("info", "clip.nerv", cwd=folder, code=0).stdout != ""


def test_versions_without_torch() -> None:
    program = (
        "import sys\nfrom nervkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, "--version"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["nervkit", "Python", "torch", "numpy", "PyAV"]
    assert lines[2] == f"torch {version('torch')}"
    assert "libavcodec" in lines[4]


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    install = [*RUN, "--install-completion", "bash"]
    home = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run(install, env=home, check=True, capture_output=True)
    scripts = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_NERVKIT_COMPLETE=complete_bash" in path.read_text() for path in scripts)
    asked = {"_NERVKIT_COMPLETE": "complete_bash", "COMP_WORDS": "nervkit enc", "COMP_CWORD": "1"}
    done = subprocess.run(RUN, env=home | asked, capture_output=True, text=True)
    assert done.stdout.split() == ["encode"]


@pytest.mark.parametrize("plain", [True, False])
def test_no_color(plain: bool) -> None:
    kept = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    environment = {
        **kept,
        "FORCE_COLOR": "1",
        "TERM": "xterm",
        **({"NO_COLOR": "1"} if plain else {}),
    }
    done = subprocess.run([*RUN, "--help"], env=environment, capture_output=True, text=True)
    coloured = re.search(r"\x1b\[(\d+;)*3[1-7]m", done.stdout)
    assert (coloured is None) == plain


def test_verify_shows_the_worst_frames(folder: Path) -> None:
    command = ["verify", "clip.nerv", "--against", "clip.npy"]
    values = json.loads(run_nervkit(*command, "--json", cwd=folder, code=0).stdout)
    few = _frames_shown(run_nervkit(*command, cwd=folder, code=0).stderr)
    assert few == np.argsort(values["frame_psnr"], kind="stable")[:5].tolist()
    every = _frames_shown(run_nervkit(*command, "--per-frame", cwd=folder, code=0).stderr)
    assert every == [0, 1, 2, 3, 4, 5]


def _frames_shown(shown: str) -> list[int]:
    return [int(number) for number in re.findall(r"^frame +(\d+)  PSNR", shown, re.MULTILINE)]


def test_a_file_from_standard_input(folder: Path) -> None:
    piped = {"cwd": folder, "code": 0, "stdin": folder / "clip.nerv"}
    values = json.loads(run_nervkit("info", "-", "--json", **piped).stdout)
    assert values["input"] == "standard input"
    assert values["bytes"] == (folder / "clip.nerv").stat().st_size
    shown = run_nervkit("verify", "-", **piped).stderr
    assert "standard input: all checksums are correct, 6 frames decoded" in shown
    run_nervkit("decode", "-", "-o", "piped.npy", "-y", **piped)
    run_nervkit("decode", "clip.nerv", "-o", "named.npy", "-y", cwd=folder, code=0)
    assert np.array_equal(np.load(folder / "piped.npy"), np.load(folder / "named.npy"))
    (line,) = run_nervkit("info", "-", cwd=folder, code=1).stderr.splitlines()
    assert line.startswith("nervkit: standard input: ")


def test_one_frame_to_an_image_and_another_size(folder: Path, tmp_path: Path) -> None:
    def decode(name: str, *options: str) -> np.ndarray:
        run_nervkit("decode", "clip.nerv", "-o", tmp_path / name, *options, cwd=folder, code=0)
        return iio.imread(tmp_path / name) if name.endswith("png") else np.load(tmp_path / name)

    every = decode("all.npy")
    assert np.array_equal(decode("one.png", "--frames", "3"), every[3])
    # At 10 fps, frames 2 to 4 are shown from 0.2 to 0.4 s.
    assert np.array_equal(decode("part.npy", "-ss", "0.15", "-t", "0.3"), every[2:5])
    assert np.array_equal(decode("part2.npy", "--start", "0.15", "--to", "0.45"), every[2:5])
    halved = every.reshape(6, 12, 2, 16, 2, 3).sum(axis=(2, 4), dtype=np.uint16)
    assert np.array_equal(decode("small.npy", "--resize", "16"), (halved + 2) // 4)


@pytest.mark.parametrize("name", ["h264", "libx264", "x264", "hevc", "libx265"])
def test_codecs_have_the_names_of_ffmpeg(folder: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out.mkv"
    run_nervkit("decode", "clip.nerv", "-o", output, "--codec", name, cwd=folder, code=0)
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.name == (
            "h264" if "264" in name else "hevc"
        )


def test_sound_stays_behind(bunny: Path, tmp_path: Path) -> None:
    """The audio of a source or of a file; times are those of the video."""
    part = ["-t", "0.2", "--resize", "32", "--steps", "2"]
    for name, options in (("all", []), ("silent", ["-an", "-sn"])):
        run_nervkit("encode", bunny, "-o", tmp_path / f"{name}.nerv", *part, *options, code=0)
    kinds = {}
    for name, options in (("all", []), ("all", ["--no-audio"]), ("silent", [])):
        output = tmp_path / "out.mkv"
        run_nervkit("decode", tmp_path / f"{name}.nerv", "-o", output, "-y", *options, code=0)
        with av.open(str(output)) as container:
            kinds[name, *options] = [stream.type for stream in container.streams]
    assert kinds == {
        ("all",): ["video", "audio"],
        ("all", "--no-audio"): ["video"],
        ("silent",): ["video"],
    }
    shown = run_nervkit("info", tmp_path / "silent.nerv", code=0).stdout
    assert "BT.601, limited range (untagged)" in shown
    assert "frames 0:5, resize 32x18" in shown


def test_info_for_people(folder: Path) -> None:
    shown = run_nervkit("info", "clip.nerv", cwd=folder).stdout
    for part in ("6 of 32x24", "10.000 fps", "gridnerv", "tensors", "bpp", "PSNR"):
        assert part in shown


@pytest.mark.parametrize("arguments", [["--help"], ["info", "clip.nerv"], ["encode", "--help"]])
def test_no_torch_where_nothing_is_computed(folder: Path, arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from nervkit.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules and 'av' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, text=True)
    assert done.returncode == 0


def test_importing_the_package_is_light() -> None:
    program = "import nervkit, sys; assert 'torch' not in sys.modules and 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def start_long_fit(folder: Path) -> subprocess.Popen[str]:
    """Start a fit that would take minutes, and return after its first steps."""
    command = [sys.executable, "-c", WATCHED, "encode", "clip.npy", "-o", "long.nerv"]
    process = subprocess.Popen(
        [*command, "--steps", "100000"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "6 frames" in process.stderr.readline()
    while "stepping" not in (line := process.stderr.readline()):
        assert line
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_fit_is_gone_on_with_or_restarted(folder: Path) -> None:
    process = start_long_fit(folder)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "run the same command again" in errors.splitlines()[-1]
    checkpoint = folder / "long.nerv.checkpoint"
    assert checkpoint.exists()
    assert not (folder / "long.nerv").exists()

    other = run_nervkit("encode", "clip.npy", "-o", "long.nerv", "--steps", "5", cwd=folder)
    assert other.returncode == 1
    assert "a checkpoint of another encode (budget: 100000 steps -> 5 steps)" in other.stderr
    anew = run_nervkit(
        "encode", "clip.npy", "-o", "long.nerv", "--steps", "5", "--restart", cwd=folder
    )
    assert anew.returncode == 0
    assert not checkpoint.exists()
    (folder / "long.nerv").unlink()


@pytest.mark.parametrize(
    ("command", "frames", "details"),
    [
        (["denoise"], 6, {"noise_deviation", "impulse_share"}),
        (
            ["inpaint", "--box", "3,4,9,8"],
            6,
            {"unknown_share", "found_share", "missing_frames"},
        ),
        (["interpolate", "--factor", "2"], 12, {"new_frames", "between_segments"}),
    ],
)
def test_a_video_is_repaired(
    command: list[str], frames: int, details: set[str], folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mkv"
    common = ["clip.npy", "-o", str(output), "--steps", "3", "--codec", "ffv1", "--json"]
    rate = ["--source-fps" if command[0] == "interpolate" else "--fps", "10"]
    made = run_nervkit(*command, *common, *rate, cwd=folder)
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert (report["task"], report["frames"]) == (command[0], frames)
    assert set(report["details"]) == details
    assert report["fps"] == 10 * frames / 6
    assert "3 steps" in made.stderr.splitlines()[-1]
    assert iio.imread(output).shape == (frames, 24, 32, 3)
    again = run_nervkit(*command, *common, *rate, cwd=folder)
    assert again.returncode == 1
    assert "exists already; use -y" in again.stderr


def test_resumed_fit_ends_like_an_uninterrupted_one(folder: Path) -> None:
    """After a kill in the middle, the same command writes the same file."""
    options = ["encode", "clip.npy", "--steps", "60", "--seed", "3"]
    assert run_nervkit(*options, "-o", "once.nerv", cwd=folder).returncode == 0
    program = (
        "import nervkit.fitting.loop as loop, os, sys\n"
        "step = loop.Stepper.step\n"
        "def dies(self, k, progress):\n"
        "    if k == 40: os.kill(os.getpid(), 9)\n"
        "    return step(self, k, progress)\n"
        "loop.Stepper.step = dies\n"
        "import nervkit\n"
        "nervkit.encode('clip.npy', 'twice.nerv', steps=60, seed=3, checkpoint_interval=0.01)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=folder)
    assert killed.returncode == -signal.SIGKILL
    resumed = run_nervkit(*options, "-o", "twice.nerv", "--json", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["earlier_seconds"] > 0
    assert (folder / "once.nerv").read_bytes() == (folder / "twice.nerv").read_bytes()


def test_reader_that_goes_away(folder: Path) -> None:
    """`nervkit decode -o - | head` ends quietly."""
    command = f"{sys.executable} -c 'from nervkit.cli import main; main()'"
    shell = f"{command} decode clip.nerv -o - | head -c 10"
    done = subprocess.run(shell, shell=True, cwd=folder, capture_output=True, text=False)
    assert done.stdout == b"YUV4MPEG2 "
    assert b"Traceback" not in done.stderr
