"""Neural video representations: fit a small network to a video, compress it into a .nerv file,
decode it back.

    report = nervkit.encode("in.mp4", "out.nerv", target_size="500k")
    video = nervkit.open("out.nerv")
    video[10:20]  # uint8 (10, H, W, 3)

`import nervkit` does not import torch, and registers .nerv files with imageio.v3. Neither the
import nor any function changes the environment, the allocator, the number of threads or a random
state.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nervkit import environment

environment.prepare()  # before slow imports: it sets signals and OpenMP

from nervkit.errors import NervError  # noqa: E402
from nervkit.imageio_plugin import register  # noqa: E402
from nervkit.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from nervkit.collection.reading import Collection
    from nervkit.container.limits import Limits
    from nervkit.decoder import NervVideo
    from nervkit.encoder import encode
    from nervkit.encoding.report import EncodeReport
    from nervkit.exporter import DecodeReport, decode
    from nervkit.models.registry import model_names, register_model
    from nervkit.plan import FitPlan
    from nervkit.progress import ProgressBar
    from nervkit.renderer import RenderReport, render
    from nervkit.requantizer import RequantizeReport, requantize
    from nervkit.restoration.denoise import denoise
    from nervkit.restoration.inpaint import inpaint
    from nervkit.restoration.interpolate import interpolate
    from nervkit.restoration.task import RestoreReport
    from nervkit.summary import info
    from nervkit.tracker import Tracks, tracks
    from nervkit.verifier import VerifyReport, verify
    from nervkit.video.clip import Clip
    from nervkit.video.reader import read_clip
    from nervkit.video.writer import write

    open = NervVideo

_LAZY = {
    "Clip": "nervkit.video.clip",
    "Collection": "nervkit.collection.reading",
    "DecodeReport": "nervkit.exporter",
    "EncodeReport": "nervkit.encoding.report",
    "FitPlan": "nervkit.plan",
    "Limits": "nervkit.container.limits",
    "NervVideo": "nervkit.decoder",
    "ProgressBar": "nervkit.progress",
    "RenderReport": "nervkit.renderer",
    "RequantizeReport": "nervkit.requantizer",
    "RestoreReport": "nervkit.restoration.task",
    "VerifyReport": "nervkit.verifier",
    "Tracks": "nervkit.tracker",
    "decode": "nervkit.exporter",
    "denoise": "nervkit.restoration.denoise",
    "encode": "nervkit.encoder",
    "info": "nervkit.summary",
    "inpaint": "nervkit.restoration.inpaint",
    "interpolate": "nervkit.restoration.interpolate",
    "model_names": "nervkit.models.registry",
    "open": "nervkit.decoder:NervVideo",
    "read_clip": "nervkit.video.reader",
    "register_model": "nervkit.models.registry",
    "render": "nervkit.renderer",
    "requantize": "nervkit.requantizer",
    "tracks": "nervkit.tracker",
    "verify": "nervkit.verifier",
    "write": "nervkit.video.writer",
}
__all__ = [
    "Clip",
    "Collection",
    "DecodeReport",
    "EncodeReport",
    "FitPlan",
    "Limits",
    "NervError",
    "NervVideo",
    "ProgressBar",
    "RenderReport",
    "RequantizeReport",
    "RestoreReport",
    "Tracks",
    "VerifyReport",
    "__version__",
    "decode",
    "denoise",
    "encode",
    "info",
    "inpaint",
    "interpolate",
    "model_names",
    "open",
    "read_clip",
    "register_model",
    "render",
    "requantize",
    "tracks",
    "verify",
    "write",
]

register()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, attribute = _LAZY[name].partition(":")
        return getattr(import_module(module), attribute or name)
    raise AttributeError(f"module 'nervkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
