"""imageio.v3 reads .nerv files: imread, imiter, improps, immeta."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import imageio.config
import numpy as np
from imageio.config import FileExtension, PluginConfig
from imageio.core.request import InitializationError, Request
from imageio.core.v3_plugin_api import ImageProperties, PluginV3

if TYPE_CHECKING:
    from nervkit.decoder import NervVideo

NAME = "nervkit"
EXTENSION = ".nerv"


def register() -> None:
    """Make imageio know the plugin and the extension. Does nothing the second time."""
    if NAME in imageio.config.known_plugins:
        return
    imageio.config.known_plugins[NAME] = PluginConfig(
        name=NAME, class_name="NervPlugin", module_name="nervkit.imageio_plugin"
    )
    extension = FileExtension(
        extension=EXTENSION, priority=[NAME], name="Neural video representation"
    )
    imageio.config.extension_list.append(extension)
    imageio.config.video_extensions.append(extension)
    imageio.config.known_extensions[EXTENSION] = [extension]


class NervPlugin(PluginV3):
    """imageio's view of a .nerv file. `index` is a frame's number; `...` or None is all frames."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.mode.io_mode != "r":
            raise InitializationError("nervkit writes .nerv files with nervkit.encode")
        from nervkit.decoder import NervVideo
        from nervkit.errors import FormatError

        try:
            self._video: NervVideo = NervVideo(request.get_local_filename())
        except FormatError as error:
            raise InitializationError(str(error)) from error

    def read(self, *, index: int | Any = ...) -> np.ndarray:
        """(T, H, W, 3) uint8, or (H, W, 3) with an `index`."""
        if index is None or index is ...:
            return self._video[:]
        return self._video[index]

    def iter(self) -> Iterator[np.ndarray]:
        """The frames in order, (H, W, 3) uint8 each."""
        yield from self._video

    def write(self, ndimage: Any) -> bytes | None:
        raise NotImplementedError("nervkit writes .nerv files with nervkit.encode")

    def properties(self, index: int | Any = ...) -> ImageProperties:
        """Shape and type of what `read` gives for the same `index`."""
        whole = index is None or index is ...
        shape = self._video.shape if whole else self._video.shape[1:]
        return ImageProperties(
            shape=shape,
            dtype=np.dtype(np.uint8),
            n_images=len(self._video) if whole else None,
            is_batch=whole,
        )

    def metadata(self, index: int | Any = ..., exclude_applied: bool = True) -> dict[str, Any]:
        """fps, duration in seconds, model and the encoder's settings."""
        start, end = self._video.timing.seconds
        return {
            "fps": float(self._video.fps),
            "duration": float(end - start),
            "model": self._video.header.segments[0].model,
            "encoder": self._video.header.encoder,
        }

    def close(self) -> None:
        if hasattr(self, "_video"):
            self._video.close()
        super().close()
