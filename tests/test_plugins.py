"""Third-party models: from a package, or registered in the process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervkit
from nervkit.errors import FormatError, ModelError, UsageError
from nervkit.models import registry
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig, VideoShape, bounded, chosen
from nervkit.models.recipe import Recipe
from nervkit.models.registry import list_models, load_model, model_names
from tests.command import run_nervkit

ROOT = Path(__file__).parent.parent

# What a third party's package may look like. The encoding is a buffer that is not stored.
PACKAGE = """
import torch
from torch import nn
from nervkit.models.base import Representation
from nervkit.models.config import ModelConfig
from nervkit.models.recipe import Recipe


class Waves(Representation):
    config_type = ModelConfig
    recipes = {"native": Recipe(loss="mse", lr=1e-2, batch=2, epochs=10)}

    def __init__(self, config, shape):
        super().__init__(config, shape)
        t = torch.linspace(0, 1, shape.frames)[:, None]
        encoding = torch.sin(t * 2.0 ** torch.arange(6))
        self.register_buffer("encoding", encoding, persistent=False)
        self.layer = nn.Linear(6, 3 * shape.height * shape.width)

    @classmethod
    def configure(cls, shape, parameters=None, **options):
        return ModelConfig(**options)

    def forward(self, t):
        x = self.layer(self.encoding[t.round().long()]).sigmoid()
        return x.unflatten(1, (3, self.shape.height, self.shape.width))


class Half(Waves):
    recipes = {}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package "thirdparty 1.2". Its models are waves, half (incomplete), absent
    and broken (cannot be imported)."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "thirdparty.py").write_text(PACKAGE)
    (folder / "broken.py").write_text("raise RuntimeError('no\\nluck')\n")
    info = folder / "thirdparty-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[nervkit.models]\nwaves = thirdparty:Waves\nhalf = thirdparty:Half\n"
        "absent = thirdparty:Absent\nbroken = broken:Model\nhnerv = thirdparty:Waves\n"
    )
    return folder


def with_path(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the packages of a folder."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", str(ROOT))])
    return os.environ | {"PYTHONPATH": path}


def clip(frames: int = 6, height: int = 24, width: int = 32) -> np.ndarray:
    """(T, H, W, 3) uint8: drifting waves."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    waves = np.sin((x + 3 * t) / 7 + c) * np.cos((y - t) / 5)
    return np.rint(127 + 100 * waves).astype(np.uint8)


# Packages


def test_a_packages_model_goes_all_the_way(tmp_path: Path, installed: Path) -> None:
    """The constructor computes what is not stored, in another process too."""
    np.save(tmp_path / "clip.npy", clip())
    encode = ("encode", "clip.npy", "-o", "a.nerv", "--model", "waves", "--steps", "300", "--json")
    made = subprocess.run(
        [sys.executable, "-m", "nervkit", *encode],
        cwd=tmp_path,
        env=with_path(installed),
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["psnr"] > 24
    assert report["parameters"] == 7 * 3 * 24 * 32
    verify = ("verify", "a.nerv", "--against", "clip.npy", "--json")
    checked = run_nervkit(*verify, cwd=tmp_path, path=[installed])
    verified = json.loads(checked.stdout)
    assert verified["identical"] == 6
    assert verified["psnr"] == pytest.approx(report["psnr"], abs=1e-4)

    run_nervkit("info", "a.nerv", cwd=tmp_path, code=0)
    decoded = run_nervkit("decode", "a.nerv", "-o", "x.npy", cwd=tmp_path, code=1)
    (line,) = decoded.stderr.splitlines()
    assert "a.nerv: the file needs the model 'waves', which is not installed; install" in line
    assert not (tmp_path / "x.npy").exists()


def test_the_example_of_a_package_goes_all_the_way(tmp_path: Path) -> None:
    example = ROOT / "examples" / "own_model"
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"nervkit_siren-{project['version']}.dist-info"
    info.mkdir()
    name, version = project["name"], project["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = project["entry-points"]["nervkit.models"]
    lines = [f"{key} = {value}\n" for key, value in points.items()]
    (info / "entry_points.txt").write_text("[nervkit.models]\n" + "".join(lines))
    path = [tmp_path, example]

    asked = ("models", "--json", "--size", "64x48", "--frames", "8", "--params", "9k")
    listed = json.loads(run_nervkit(*asked, cwd=tmp_path, path=path).stdout)["models"]
    siren = next(model for model in listed if model["name"] == "siren")
    assert siren["error"] is None and siren["source"] == "nervkit-siren 1.0"
    np.save(tmp_path / "clip.npy", clip(8))
    encode = ("encode", "clip.npy", "-o", "a.nerv", "-y", "--model", "siren", "--json")
    for options, least in (
        (("--params", "5000", "--steps", "40", "--segments", "4"), 10),
        (("--target-size", "4k", "--steps", "200"), 20),
    ):
        made = run_nervkit(*encode, *options, cwd=tmp_path, path=path, code=0)
        assert json.loads(made.stdout)["psnr"] > least
        checked = run_nervkit("verify", "a.nerv", "--json", cwd=tmp_path, path=path)
        assert json.loads(checked.stdout)["identical"] == 8
    interpolate = ("interpolate", "a.nerv", "-o", "x.npy", "--factor", "2")
    run_nervkit(*interpolate, cwd=tmp_path, path=path, code=0)
    assert len(np.load(tmp_path / "x.npy")) in (15, 16)


def test_all_models_are_listed_with_their_source(tmp_path: Path, installed: Path) -> None:
    small = ("--size", "64x48", "--frames", "8")
    asked = ("--json", *small, "--params", "50k")
    listed = run_nervkit("models", *asked, cwd=tmp_path, path=[installed], code=0)
    found = json.loads(listed.stdout)["models"]
    assert [m["name"] for m in found] == sorted(m["name"] for m in found)
    own = {m["name"]: m for m in found if m["source"] == "built in"}
    assert list(own) == sorted(registry.BUILT_IN)
    assert own["hnerv"]["recipes"] == ["paper", "native"]
    theirs = {m["name"]: m for m in found if m["source"] == "thirdparty 1.2"}
    assert theirs["waves"]["recipes"] == ["native"]
    assert theirs["waves"]["target"] == "thirdparty:Waves"
    assert "recipes must be a dict" in theirs["half"]["error"]
    assert "(RuntimeError: no luck)" in theirs["broken"]["error"]
    assert "Absent" in theirs["absent"]["error"]
    assert "another model has this name" in theirs["hnerv"]["error"]
    assert own["hinerv"]["compression"] == "hinerv" and "2306.09818" in own["hinerv"]["paper"]
    assert theirs["waves"]["values"] > 0 and theirs["half"]["values"] is None
    counts = {name: model["values"] for name, model in own.items()}
    assert all(1e4 < count < 6e4 for count in counts.values()), counts
    shown = run_nervkit("models", *small, cwd=tmp_path, path=[installed]).stdout.splitlines()
    assert len(shown) == len(found) + 1
    assert any("waves" in line and "thirdparty 1.2" in line for line in shown)


def test_a_broken_package_breaks_its_own_models_only(tmp_path: Path, installed: Path) -> None:
    np.save(tmp_path / "clip.npy", clip())
    encode = ("encode", "clip.npy", "-o", "a.nerv", "--steps", "2", "--model")
    for name, reason in (("broken", "cannot be loaded"), ("half", "thirdparty 1.2: the model")):
        refused = run_nervkit(*encode, name, cwd=tmp_path, path=[installed], code=1)
        (line,) = refused.stderr.splitlines()
        assert reason in line
        assert not (tmp_path / "a.nerv").exists()
    run_nervkit(*encode, "hnerv", cwd=tmp_path, path=[installed], code=0)


def test_an_unknown_model_is_answered_with_the_names_of_plugins(
    tmp_path: Path, installed: Path
) -> None:
    for command in ("encode", "denoise"):
        options = ("clip.npy", "-o", "x.nerv", "--model", "vgg")
        refused = run_nervkit(command, *options, cwd=tmp_path, path=[installed], code=2)
        (line,) = refused.stderr.splitlines()
        known = {*registry.BUILT_IN, "waves", "half", "absent", "broken"}
        assert line.partition("choose from: ")[2].split(", ") == sorted(known)


def test_the_tests_pass_with_plugins_installed(installed: Path) -> None:
    """Those that ask for the names of models or load one by its name."""
    chosen = "registry or unknown_model or third or options0 or change0"
    files = [f"tests/test_{name}.py" for name in ("models", "encoder", "bench")]
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "-k", chosen)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=ROOT,
        env=with_path(installed),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


# Models that are registered


class Colours(Representation):
    """One colour per frame."""

    config_type = ModelConfig
    recipes = {"native": Recipe("mse", 0.1, 2, 10)}  # noqa: RUF012

    def __init__(self, config: ModelConfig, shape: VideoShape) -> None:
        super().__init__(config, shape)
        self.colour = nn.Parameter(torch.zeros(shape.frames, 3))

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> ModelConfig:
        return cls.config_type(**options)

    def forward(self, t: Tensor) -> Tensor:
        return self.shown(self.colour[t.round().long()].sigmoid())

    def shown(self, colour: Tensor) -> Tensor:
        return colour[:, :, None, None].expand(-1, -1, self.shape.height, self.shape.width)


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without registered models."""
    monkeypatch.setattr(registry, "_registered", {})
    yield


def variant(name: str, **members: Any) -> type[Representation]:
    """A model like Colours with other members."""
    return type(name, (Colours,), members)


def test_a_model_is_registered_by_hand(tmp_path: Path) -> None:
    assert nervkit.register_model(Colours) is Colours
    assert "colours" in model_names()
    assert load_model("colours") is Colours
    other = nervkit.register_model(name="my-colours")(Colours)
    assert load_model("my-colours") is other is Colours
    info = {each.name: each for each in list_models()}["my-colours"]
    assert (info.source, info.recipes, info.error) == ("registered", ("native",), None)
    report = nervkit.encode(clip(), tmp_path / "a.nerv", model="my-colours", steps=30)
    assert report.model == "my-colours"
    assert nervkit.open(tmp_path / "a.nerv")[3].shape == (24, 32, 3)


def test_a_model_may_be_all_embeddings_or_all_matrices(tmp_path: Path) -> None:
    """One optimizer then has no parameters."""
    recipes = {"native": Recipe("mse", 0.1, 2, 10, matrix_lr=0.05)}
    for name, members in {
        "grids": {"embedding_names": ("colour",), "matrices": lambda self: ()},
        "plain": {"matrices": lambda self: ()},
        "square": {"matrices": lambda self: ["colour"]},
    }.items():
        nervkit.register_model(variant("Any", recipes=recipes, **members), name=name)
        report = nervkit.encode(clip(), tmp_path / f"{name}.nerv", model=name, steps=60)
        assert report.psnr > 13.2  # one colour a frame; 13.58 at best
        video = nervkit.open(tmp_path / f"{name}.nerv")
        assert bool(video.model.embeddings()) == (name == "grids")
        assert len(video.file.segment(0).sections) == 1


def test_a_registered_model_may_be_changed_but_not_others_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nervkit.register_model(Colours, name="mine")
    changed = nervkit.register_model(variant("Changed"), name="mine")
    assert load_model("mine") is changed
    point = EntryPoint("flat", f"{__name__}:Colours", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    for name in ("hnerv", "flat"):
        with pytest.raises(ModelError, match=f"'{name}' is the name of another model"):
            nervkit.register_model(Colours, name=name)


@dataclass(frozen=True)
class Unbounded(ModelConfig):
    width: int = 3


@dataclass(frozen=True)
class Free(ModelConfig):
    words: str = "any"


@dataclass(frozen=True)
class Nested(ModelConfig):
    sizes: dict[str, int] = bounded(1, 2, None)  # noqa: RUF009


class NoDataclass(ModelConfig):
    width: int = 3


@dataclass(frozen=True)
class Rounded(ModelConfig):
    width: int = bounded(1, 9, 3)

    def to_dict(self) -> dict[str, Any]:
        return {"width": self.width // 2}


def allocating(self: Any, config: ModelConfig, shape: VideoShape) -> None:
    Colours.__init__(self, config, shape)
    self.scale = float(self.colour.detach().sum())


def frozen(self: Any, config: ModelConfig, shape: VideoShape) -> None:
    Colours.__init__(self, config, shape)
    self.requires_grad_(False)


def with_noise(self: Any, config: ModelConfig, shape: VideoShape) -> None:
    Colours.__init__(self, config, shape)
    self.register_buffer("noise", torch.randn(3), persistent=False)


def with_hidden(self: Any, config: ModelConfig, shape: VideoShape) -> None:
    Colours.__init__(self, config, shape)
    self.hidden = torch.rand(3, device="cpu")


def unhelped(self: Any, t: Tensor) -> Tensor:
    return self.shown(self.helper(Colours.forward(self, t)[:, :, 0, 0]))


def with_helper(self: Any, config: ModelConfig, shape: VideoShape) -> None:
    Colours.__init__(self, config, shape)
    self.helper = nn.Linear(3, 3)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no recipes": ({"recipes": {}}, "recipes must be a dict with one called 'native'"),
    "paper only": ({"recipes": {"paper": Colours.recipes["native"]}}, "one called 'native'"),
    "a recipe as a dict": ({"recipes": {"native": {"lr": 1}}}, "'native' is not a Recipe"),
    "no configure": (
        {"configure": vars(Representation)["configure"]},
        "it has no method configure",
    ),
    "no forward": ({"forward": Representation.forward}, "it has no method forward"),
    "no configuration": ({"config_type": dict}, "config_type must be a subclass of ModelConfig"),
    "no dataclass": ({"config_type": NoDataclass}, "NoDataclass must be a dataclass"),
    "no bounds": ({"config_type": Unbounded}, "Unbounded.width: a number needs its bounds"),
    "no choices": ({"config_type": Free}, "Free.words: a str needs its choices"),
    "an unknown kind": ({"config_type": Nested}, "Nested.sizes: a field must be one of int, float"),
    "not the same again": ({"config_type": Rounded}, "does not survive to_dict and from_dict"),
    "a name alone": ({"embedding_names": "colour"}, "embedding_names must be a tuple of names"),
    "an unknown part": ({"embedding_names": ("grid",)}, "it has no attribute 'grid'"),
    "not on meta": ({"__init__": allocating}, "on torch's meta device"),
    "noise": ({"__init__": with_noise}, "the buffer noise is random and not stored"),
    "state": (
        {
            "__init__": with_hidden,
            "forward": lambda self, t: self.shown(
                (self.colour[t.round().long()] + self.hidden.to(t.device)).sigmoid()
            ),
        },
        "some state is not stored",
    ),
    "a helper": (
        {"__init__": with_helper, "forward": unhelped, "fit_only": ("helper",)},
        "a trial with a small video failed (AttributeError",
    ),
    "one value a frame": ({"shown": lambda self, colour: colour}, "must be floats of shape (1, 3"),
    "nothing to fit": ({"__init__": frozen}, "it has no parameters to fit"),
    "extra state": ({"get_extra_state": lambda self: {}}, "_extra_state is not a tensor"),
    "two arrangements": (
        {"fit_values": lambda self, t, frames: self(t).flatten(1)},
        "must have one layout",
    ),
    "no gradient": (
        {"fit_forward": lambda self, t, frames: self(t).detach()},
        "a trial with a small video failed (RuntimeError",
    ),
    "a broken end": (
        {"finish_fit": lambda self, frames: next(iter(frames)).nothing},
        "a trial with a small video failed (AttributeError",
    ),
    "unknown matrices": ({"matrices": lambda self: ["weight"]}, "matrices names 'weight'"),
    "an error": ({"configure": classmethod(lambda *_, **__: 1 / 0)}, "ZeroDivisionError"),
    "nothing": ({"configure": classmethod(lambda *_, **__: None)}, "must return a ModelConfig"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_model_is_refused_when_it_is_registered(case: str) -> None:
    members, reason = REFUSED[case]
    with pytest.raises(ModelError, match=re.escape(reason)) as caught:
        nervkit.register_model(variant("Variant", **members))
    assert "\n" not in str(caught.value)
    assert "'variant'" in str(caught.value)
    assert "variant" not in model_names()


@pytest.mark.parametrize("model", [3, int, nn.Linear, Colours.forward, None.__class__])
def test_what_is_no_representation_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="not a subclass of"):
        nervkit.register_model(model, name="odd")


@pytest.mark.parametrize("name", ["", "Colours", "2d", "ä", "a b", "a" * 33, "a/b"])
def test_names_are_those_that_a_file_can_hold(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        nervkit.register_model(Colours, name=name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("loss", "psnr"), ("matrix_optimizer", "sgd"), ("decay", "step"), ("precision", "half")),
        ("optimizer", "sgd"),
        *(("lr", 0), ("lr", None), ("lr", "fast"), ("matrix_lr", -1), ("embedding_lr", 1e999)),
        *(("batch", 0), ("batch", 1.5), ("epochs", 0), ("warmup", 1.0), ("warmup_from", 2)),
        *(("betas", (0.9,)), ("betas", (0.9, 1.0))),
    ],
)
def test_impossible_recipes_are_refused(field: str, value: Any) -> None:
    values = {"loss": "mse", "lr": 0.1, "batch": 2, "epochs": 3} | {field: value}
    with pytest.raises(ModelError, match=field):
        Recipe(**values)


@dataclass(frozen=True)
class AllKinds(ModelConfig):
    count: int = bounded(1, 8, 2)
    slope: float = bounded(0.0, 1.0, 0.5)
    rates: tuple[float, ...] = bounded(0.0, 2.0, (0.5, 1.0))
    sizes: tuple[int, ...] = bounded(1, 4, (1, 2))
    activation: str = chosen("relu", "sine", default="sine")
    bias: bool = False


def test_a_configuration_may_have_floats_texts_and_flags(tmp_path: Path) -> None:
    config = AllKinds(slope=0.25, rates=(1, 0.125), activation="relu", bias=True)
    assert AllKinds.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = variant(
        "AllColours",
        config_type=AllKinds,
        configure=classmethod(lambda cls, shape, parameters=None, **options: config),
    )
    nervkit.register_model(model)
    nervkit.encode(clip(), tmp_path / "a.nerv", model="allcolours", steps=3)
    with nervkit.open(tmp_path / "a.nerv") as video:
        assert video.model.config == config


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        *(("count", 9), ("count", 2.0), ("count", "2"), ("count", True)),
        *(("slope", 1.5), ("slope", "0.5"), ("slope", False), ("slope", float("nan"))),
        *(("rates", [0.5, "1"]), ("rates", [3.0]), ("rates", []), ("rates", 0.5)),
        *(("sizes", [1.0]), ("sizes", [5]), ("activation", "tanh"), ("activation", 3)),
        *(("activation", ["relu"]), ("bias", 1), ("bias", "yes"), ("bias", None)),
    ],
)
def test_every_kind_of_field_is_checked(field: str, bad: Any) -> None:
    with pytest.raises(UsageError, match=field):
        AllKinds.from_dict(AllKinds().to_dict() | {field: bad})


# A file shows what was fitted


def remembering(self: Any, frames: Tensor) -> None:
    self.mean = frames.float().mean(dim=(0, 2, 3)) / 255


def shifted(self: Any, t: Tensor) -> Tensor:
    mean = getattr(self, "mean", torch.zeros(3)).to(t.device)
    return self.shown((self.colour[t.round().long()].tanh() + mean).clamp(0, 1))


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param(
            {"start_fit": remembering, "forward": shifted},
            "keeps state outside its parameters and persistent buffers",
            id="state",
        ),
        pytest.param(
            {"fit_forward": lambda self, t, frames: frames * (1 + 0 * self.colour.sum())},
            "its forward must return what its fit_forward",
            id="another-fit",
        ),
    ],
)
def test_a_file_that_does_not_show_the_fit_is_not_written(
    members: dict[str, Any], reason: str, bits: int, tmp_path: Path
) -> None:
    nervkit.register_model(variant("Odd", **members))
    with pytest.raises(ModelError, match=reason) as caught:
        nervkit.encode(clip(), tmp_path / "a.nerv", model="odd", steps=30, bits=bits)
    assert "'odd'" in str(caught.value)
    assert not (tmp_path / "a.nerv").exists()


def test_coarse_bits_are_a_note_and_no_error(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 80, "model": "hnerv", "overwrite": True}
    fine = nervkit.encode(clip(), tmp_path / "a.nerv", bits=12, embedding_bits=12, **options)
    assert not [note for note in fine.notes if "quantization" in note]
    coarse = nervkit.encode(clip(), tmp_path / "a.nerv", bits=2, **options)
    assert coarse.psnr < fine.psnr - 3
    (note,) = [note for note in coarse.notes if "quantization loses" in note]
    assert float(re.search(r"loses ([\d.]+) dB", note)[1]) == pytest.approx(
        fine.psnr - coarse.psnr, abs=1.5
    )


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped"])
def test_stored_tensors_are_loaded_strictly(change: str) -> None:
    shape = VideoShape(3, 8, 8)
    model = Colours.for_decoding(ModelConfig(), shape)
    tensors = {"colour": torch.ones(3, 3)}
    model.load_stored(tensors)
    assert bool((model.colour == 1).all())
    changed = {
        "missing": {},
        "unexpected": tensors | {"colour2": torch.ones(1)},
        "reshaped": {"colour": torch.ones(3, 1)},
    }
    with pytest.raises(FormatError, match="the tensors are not those of Colours: colour"):
        model.load_stored(changed[change])


def test_building_for_decoding_leaves_random_states_alone() -> None:
    before = torch.get_rng_state()
    Colours.for_decoding(ModelConfig(), VideoShape(3, 8, 8))
    load_model("hnerv").for_decoding(
        load_model("hnerv").configure(VideoShape(3, 16, 16), 9000), VideoShape(3, 16, 16)
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "models" / "own.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(example, "own.md", "exec", dont_inherit=True), names)
    report = nervkit.encode(clip(), tmp_path / "a.nerv", model="waves", steps=400)
    assert report.config["activation"] == "relu"
    with nervkit.open(tmp_path / "a.nerv") as video:
        assert isinstance(video.model, names["Waves"])
        assert np.abs(video[:].astype(int) - clip()).mean() < 40
