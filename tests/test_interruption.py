"""Signals: commands end at once without partial outputs, and fits keep a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PATIENCE = 300  # seconds; a slow frame takes hours


@pytest.fixture(autouse=True)
def default_hangup() -> Iterator[None]:
    """Restore the default SIGHUP for started commands, even if tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("command", [["-m", "nervkit"], ["nervkit"]])
def test_no_traceback_while_modules_load(command: list[str], tmp_path: Path) -> None:
    """nervkit replaces Python's handler before the first slow import."""
    script = tmp_path / "nervkit"
    script.write_text("from nervkit.cli import main; main()")
    place = [str(script)] if command == ["nervkit"] else command
    slow = tmp_path / "imageio.py"
    slow.write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}"}
    done = subprocess.run(
        [sys.executable, *place, "models"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr == b""


# A model whose frames take hours in one call of torch, in the thread that the first argument
# names, once the file is made.
SLOW_MODEL = """
import sys, threading
import numpy as np, torch
import nervkit
from nervkit.cli import main
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig
from nervkit.models.recipe import Recipe

where = sys.argv.pop(1)

@nervkit.register_model
class Slow(Representation):
    config_type = ModelConfig
    recipes = {"native": Recipe("mse", 0.1, 2, 1)}
    slow = False

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.colour = torch.nn.Parameter(torch.zeros(shape.frames, 3))

    @classmethod
    def configure(cls, shape, parameters=None, **options):
        return ModelConfig()

    def forward(self, t):
        in_main = threading.current_thread() is threading.main_thread()
        offset = 0.0
        if self.slow and t.device.type != "meta":
            if in_main == (where == "main"):
                print("slow", file=sys.stderr, flush=True)
                torch.ones(1).expand(10**14).sum()
            offset = 0.1  # other pixels than the encoder's: they are looked at again
        colour = (self.colour[t.round().long()] + offset).sigmoid()
        return colour[:, :, None, None].expand(-1, -1, self.shape.height, self.shape.width)

if where == "nowhere":
    nervkit.encode(np.zeros((6, 24, 32, 3), np.uint8), "slow.nerv", model="slow", steps=2)
else:
    Slow.slow = True
    main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, clip.npy, and a file of the slow model, slow.nerv."""
    folder = tmp_path_factory.mktemp("interruption")
    frames = np.random.default_rng(0).integers(0, 255, (6, 24, 32, 3), np.uint8)
    np.save(folder / "clip.npy", frames)
    subprocess.run([sys.executable, "-c", SLOW_MODEL, "nowhere"], cwd=folder, check=True)
    return folder


@pytest.fixture
def start(folder: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a program in the folder and wait for a line of its standard error."""

    def run(program: str, *arguments: str, until: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *arguments]
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        seen = []
        while until not in (line := process.stderr.readline()):
            assert line, f"it ended: {''.join(seen)}"
            seen.append(line)
        return process

    return run


def ended(process: subprocess.Popen[str]) -> str:
    """The last line of a process that ended by interruption."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "terminate called" not in errors
    return errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        *(("verify slow.nerv", number) for number in NUMBERS),
        ("decode slow.nerv -o x.mp4", signal.SIGINT),
        ("decode slow.nerv -o x.npy", signal.SIGTERM),
        ("decode slow.nerv -o frames", signal.SIGHUP),
        ("decode slow.nerv -o x%02d.png", signal.SIGINT),
    ],
)
def test_a_slow_frame_does_not_keep_a_command(
    folder: Path,
    start: Callable[..., subprocess.Popen[str]],
    command: str,
    number: signal.Signals,
) -> None:
    before = sorted(folder.rglob("*"))
    process = start(SLOW_MODEL, "worker", *command.split(), until="slow")
    process.send_signal(number)
    assert ended(process) == "nervkit: interrupted"
    assert sorted(folder.rglob("*")) == before


def test_a_slow_frame_in_the_main_thread_does_not_keep_it_either(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start(SLOW_MODEL, "main", "verify", "slow.nerv", until="slow")
    process.send_signal(signal.SIGINT)
    assert ended(process) == "nervkit: interrupted"


@pytest.mark.parametrize("where", ["worker", "main"])
def test_two_interrupts_end_as_one_does(
    folder: Path, start: Callable[..., subprocess.Popen[str]], where: str
) -> None:
    before = sorted(folder.rglob("*"))
    command = ("verify", "slow.nerv") if where == "main" else ("decode", "slow.nerv", "-o", "x.mp4")
    process = start(SLOW_MODEL, where, *command, until="slow")
    # Stopped, the process gets both at once.
    for sent in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(sent)
    assert ended(process) == "nervkit: interrupted"
    assert sorted(folder.rglob("*")) == before


# Says when ten steps have followed the appearance of a file, `sent`.
ON = """
from pathlib import Path
once = Stepper.step
steps = 0
def on(self, k, progress):
    global steps
    steps += Path("sent").exists()
    if steps == 10:
        print("it fits on", file=sys.stderr, flush=True)
    return once(self, k, progress)
Stepper.step = on
"""


def test_nohup_is_respected(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    fit = ("encode", "clip.npy", "-o", "nohup.nerv", "--steps", "100000")
    program = ignoring + WATCHED.replace("main()\n", ON + "main()\n")
    process = start(program, *fit, until="stepping")
    process.send_signal(signal.SIGHUP)
    (folder / "sent").touch()
    assert process.stderr is not None
    while "it fits on" not in (line := process.stderr.readline()):
        assert line, "it ended"
    process.send_signal(signal.SIGTERM)
    assert "run the same command again" in ended(process)
    for name in ("nohup.nerv.checkpoint", "sent"):
        (folder / name).unlink()


def test_a_background_job_of_a_script_can_be_interrupted(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """Such a job starts with SIGINT ignored."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    process = start(ignoring + SLOW_MODEL, "worker", "verify", "slow.nerv", until="slow")
    process.send_signal(signal.SIGINT)
    assert ended(process) == "nervkit: interrupted"


def test_signals_are_given_back() -> None:
    program = (
        "import signal, sys, threading\n"
        "from nervkit.cli import main\n"
        "before = signal.getsignal(signal.SIGINT)\n"  # a script's background job ignores it
        "sys.argv = ['nervkit', '--version']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FITS = [
    ("encode", "clip.npy", "-o", "long.nerv"),
    ("denoise", "clip.npy", "-o", "long.npy"),
    ("inpaint", "clip.npy", "-o", "long.npy", "--box", "3,4,9,8"),
]


@pytest.mark.parametrize(("command", "number"), list(zip(FITS, NUMBERS, strict=True)))
def test_an_interrupted_fit_keeps_a_checkpoint(
    folder: Path,
    start: Callable[..., subprocess.Popen[str]],
    command: tuple[str, ...],
    number: signal.Signals,
) -> None:
    before = sorted(folder.rglob("*"))
    process = start(WATCHED, *command, "--steps", "100000", until="stepping")
    process.send_signal(number)
    assert "run the same command again" in ended(process)
    kept = folder / f"{command[3]}.checkpoint"
    assert kept.exists()
    kept.unlink()
    assert sorted(folder.rglob("*")) == before


# Says when the fit has begun.
WATCHED = """
import sys
from nervkit.cli import main
from nervkit.fitting.loop import Stepper
step = Stepper.step
def watched(self, k, progress):
    if k == 3:
        print("stepping", file=sys.stderr, flush=True)
    return step(self, k, progress)
Stepper.step = watched
main()
"""


def test_a_closed_terminal_keeps_a_checkpoint(folder: Path) -> None:
    """The terminal sends SIGHUP and takes the progress bar with it: further writes are errors."""
    before = sorted(folder.rglob("*"))
    child, terminal = os.forkpty()
    if child == 0:
        os.chdir(folder)
        arguments = [*FITS[0], "--steps", "100000"]
        os.execv(sys.executable, [sys.executable, "-c", WATCHED, *arguments])
    shown = b""
    while b"stepping" not in shown:
        shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    kept = folder / "long.nerv.checkpoint"
    assert kept.exists()
    kept.unlink()
    assert sorted(folder.rglob("*")) == before


def test_a_second_interrupt_ends_a_fit_at_once(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    before = sorted(folder.rglob("*"))
    process = start(WATCHED, *FITS[0], "--steps", "100000", until="stepping")
    # Stopped, the process cannot answer the first signal before the second has come.
    for sent in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(sent)
    assert ended(process) == "nervkit: interrupted"
    (folder / "long.nerv.checkpoint").unlink(missing_ok=True)
    assert sorted(folder.rglob("*")) == before
