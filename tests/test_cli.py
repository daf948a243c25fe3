"""The command line: exit codes, one line for bad input, JSON, signals, start-up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from nervkit.cli import main
from nervkit.models.registry import model_names
from tests.command import run_nervkit

RUN = [sys.executable, "-c", "from nervkit.cli import main; main()"]
SHARED_KEYS = {
    *("frames", "width", "height", "model", "parameters"),
    *("psnr", "ssim", "bytes", "bpp", "seconds"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip (clip.npy), its code (clip.nerv) and odd files."""
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
        ("denoise clip.npy -o x.gif", 2, "unknown kind of output"),
        ("denoise clip.npy -o x.npy --model vgg", 2, f"choose from: {', '.join(model_names())}"),
        ("denoise clip.npy -o x.npy --preset draft --steps 3", 2, "give one of"),
        ("denoise clip.npy -o x.npy --json -o -", 2, "both need stdout"),
        ("inpaint clip.npy -o x.npy", 2, "say what is unknown"),
        ("inpaint clip.npy -o x.npy --box 1,2", 2, "a box is x,y,w,h"),
        ("inpaint clip.npy -o x.npy --box 99,0,4,4", 2, "nothing of it lies in 6 frames of 32x24"),
        ("inpaint clip.npy -o x.npy --mask missing.png", 1, "missing.png: no such file"),
        ("inpaint clip.npy -o x.npy --mask f00.png", 1, "f00.png: not a readable image"),
        ("inpaint clip.npy -o x.npy --mask clip.npy --frames :3", 2, "nothing is known"),
        ("interpolate clip.npy -o x.npy", 2, "one of factor and fps"),
        ("interpolate clip.npy -o x.npy --factor 1", 2, "factor must be a whole number from 2"),
        ("interpolate clip.nerv -o x.npy --fps 10", 2, "fps must be above the source's 10"),
        ("interpolate cut.nerv -o x.npy --factor 2", 1, "cut.nerv"),
        ("interpolate clip.nerv -o x.npy --factor 2 --seed 1", 2, "--seed does not apply"),
        ("interpolate clip.nerv -o x.npy --factor 2 --restart", 2, "--restart does not apply"),
        ("bench restore clip.npy --out run --mask f00.png", 2, "given together"),
        ("encode clip.npy", 2, "--output"),
        ("encode missing.mp4 -o x.nerv", 1, "missing.mp4: no such file"),
        ("encode text.txt -o x.nerv", 1, "text.txt: cannot be opened as video"),
        ("encode empty.mp4 -o x.nerv", 1, "empty.mp4: the file is empty"),
        ("encode nothing -o x.nerv", 1, "nothing: no images"),
        ("encode mixed -o x.nerv", 1, "all must have one size"),
        ("encode clip.npy -o x.mp4", 2, "must end in .nerv"),
        ("encode clip.npy -o clip.nerv", 1, "clip.nerv: exists already; use -y"),
        ("encode clip.nerv -o clip.nerv -y", 2, "same file"),
        ("encode clip.npy -o no/where.nerv", 1, "no: no such folder"),
        ("encode clip.npy -o x.nerv --model vgg", 2, f"choose from: {', '.join(model_names())}"),
        ("encode clip.npy -o x.nerv --preset best", 2, "choose from: draft, fast, medium"),
        ("encode clip.npy -o x.nerv --recipe secret", 2, "choose from: native"),
        ("encode clip.npy -o x.nerv --preset draft --steps 3", 2, "give one of"),
        ("encode clip.npy -o x.nerv --steps 0", 2, "steps must be a positive whole number"),
        ("encode missing.npy -o x.nerv --metric vmaf", 2, "choose from: rgb, yuv"),
        ("encode missing.npy -o x.nerv --metric yuv --model nerv --recipe paper", 2, "fusion6"),
        ("denoise clip.npy -o x.npy --metric yuv", 2, "--metric"),
        ("encode missing.npy -o x.nerv --target-bitrate fast", 2, "such as 200k"),
        ("encode clip.npy -o x.nerv --target-bitrate 9k", 2, "is too small"),
        ("encode missing.npy -o x.nerv --target-size 9k --target-bitrate 9k", 2, "give one of"),
        ("encode clip.npy -o x.nerv --time 0", 2, "time must be a positive number"),
        # judged before the source is read
        ("encode missing.npy -o x.nerv --params many", 2, "params must be a number"),
        ("encode missing.npy -o x.nerv --strides 2,x", 2, "strides must be whole numbers"),
        ("inpaint missing.npy -o x.npy --box 1,2", 2, "a box is x,y,w,h"),
        ("inpaint missing.npy -o x.npy --mask no.png", 1, "no.png: no such file"),
        ("interpolate missing.npy -o x.npy --fps 1e9", 2, "fps must be a positive number"),
        ("inpaint clip.npy -o mask.npy --mask mask.npy -y", 2, "input and output are the same"),
        ("encode clip.npy -o x.nerv --time soon", 2, "time must be a time such as"),
        ("encode clip.npy -o x.nerv --params many", 2, "params must be a number"),
        ("encode clip.npy -o x.nerv --params 3", 2, "needs at least"),
        ("encode clip.npy -o x.nerv --params 999999M", 2, "params must be a number"),
        ("encode clip.npy -o x.nerv --strides 2,x", 2, "strides must be whole numbers"),
        ("encode clip.npy -o x.nerv --strides 0", 2, "strides must lie in 1 to 16"),
        ("encode clip.npy -o x.nerv --bits 1", 2, "bits must be a whole number from 2 to 12"),
        ("encode clip.npy -o x.nerv --embedding-bits 13", 2, "embedding-bits must be a whole"),
        ("encode clip.npy -o x.nerv --bits x", 2, "--bits"),
        ("encode clip.npy -o x.nerv --prune 1", 2, "prune must lie in"),
        ("encode clip.npy -o x.nerv --resize 0x5", 2, "resize must be WxH"),
        ("encode clip.npy -o x.nerv --resize 99999x5", 2, "resize must be WxH"),
        ("encode clip.npy -o x.nerv --crop 100x100", 2, "does not fit into the 32x24"),
        ("encode clip.npy -o x.nerv --frames 9:12", 1, "selects nothing: the source has 6"),
        ("encode clip.npy -o x.nerv --frames 5:2", 2, "frames must be a range"),
        ("encode clip.npy -o x.nerv --start 99", 1, "selects nothing"),
        ("bench clip.npy -o x --compression hnerv", 2, "give --params too"),
        ("bench clip.npy -o x --params 9k --bits 8 --compression hnerv", 2, "leave out --bits"),
        ("bench clip.npy -o x --params 9k --compression zip", 2, "unknown compression 'zip'"),
        ("encode clip.npy -o x.nerv --matrix cmyk", 2, "unknown matrix 'cmyk'; choose from"),
        ("encode clip.npy -o x.nerv --fps 0", 2, "fps must be a positive number"),
        ("encode clip.npy -o x.nerv --device abacus", 2, "unknown device 'abacus'"),
        ("encode clip.npy -o x.nerv --precision half", 2, "unknown precision 'half'"),
        ("encode clip.npy -o x.nerv --wrong 1", 2, "--wrong"),
        ("decode missing.nerv -o x.mp4", 1, "missing.nerv: No such file"),
        ("decode text.txt -o x.mp4", 1, "text.txt: not a .nerv file"),
        ("decode cut.nerv -o x.mp4", 1, "cut.nerv: the file ends"),
        ("decode flipped.nerv -o x.mp4", 1, "flipped.nerv: chunk"),
        ("decode clip.nerv -o clip.npy", 1, "clip.npy: exists already"),
        ("decode clip.nerv -o f%02d.png", 1, "f00.png: exists already"),
        ("decode clip.nerv -o x.gif", 2, "x.gif: unknown kind of output"),
        ("decode clip.nerv -o x.png", 2, "use a pattern"),
        ("decode clip.nerv -o x%s.png", 2, "one file for many frames"),
        ("decode clip.nerv -o x.mp4 --codec h266", 2, "unknown codec 'h266'; choose from"),
        ("decode clip.nerv -o x.webm --codec x264", 2, ".webm cannot hold x264"),
        ("decode clip.nerv -o x.mkv --codec ffv1 --crf 3", 2, "lossless"),
        ("decode clip.nerv -o x.mp4 --pixel-format pink", 2, "no pixel format 'pink'; choose from"),
        ("decode clip.nerv -o x.webm --pixel-format bgr0", 2, "vp9 takes no pixel format 'bgr0'"),
        ("decode clip.nerv -o x.y4m --crf 3", 2, "--crf"),
        ("decode clip.nerv -o x.mp4 --frames 6:", 2, "there are 6 frames"),
        ("decode clip.nerv -o - --json", 2, "both need stdout"),
        ("info text.txt", 1, "text.txt: not a .nerv file"),
        ("requantize clip.nerv -o x.nerv --target-loss little", 2, "--target-loss"),
        ("requantize missing.nerv -o x.nerv --target-size 9k", 1, "missing.nerv: No such file"),
        ("requantize nothing -o x.nerv --target-size 9k", 1, "nothing: Is a directory"),
        ("requantize - -o x.nerv --target-size 9k", 2, "its input cannot be a pipe"),
        ("requantize clip.nerv -o - --target-size 9k", 2, "its output cannot be a pipe"),
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
    """A fit that would take minutes, once it has taken its first steps."""
    command = [*RUN, "encode", "clip.npy", "-o", "long.nerv", "--steps", "100000"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "6 frames" in process.stderr.readline()
    time.sleep(3)
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_fit_is_gone_on_with_or_restarted(folder: Path) -> None:
    process = start_long_fit(folder)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
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
    """Killed by the system in the middle, the same command ends with the same file."""
    options = ["encode", "clip.npy", "--steps", "400", "--seed", "3"]
    assert run_nervkit(*options, "-o", "once.nerv", cwd=folder).returncode == 0
    program = (
        "import nervkit.fitting.loop as loop, os, sys\n"
        "step = loop.Stepper.step\n"
        "def dies(self, k, progress):\n"
        "    if k == 250: os.kill(os.getpid(), 9)\n"
        "    return step(self, k, progress)\n"
        "loop.Stepper.step = dies\n"
        "import nervkit\n"
        "nervkit.encode('clip.npy', 'twice.nerv', steps=400, seed=3, checkpoint_interval=0.2)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=folder)
    assert killed.returncode == -signal.SIGKILL
    resumed = run_nervkit(*options, "-o", "twice.nerv", "--json", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "once.nerv").read_bytes() == (folder / "twice.nerv").read_bytes()


def test_reader_that_goes_away(folder: Path) -> None:
    """`nervkit decode -o - | head` ends quietly."""
    command = f"{sys.executable} -c 'from nervkit.cli import main; main()'"
    shell = f"{command} decode clip.nerv -o - | head -c 10"
    done = subprocess.run(shell, shell=True, cwd=folder, capture_output=True, text=False)
    assert done.stdout == b"YUV4MPEG2 "
    assert b"Traceback" not in done.stderr
