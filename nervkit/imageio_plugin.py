"""An imageio.v3 plugin that reads .nerv files: imread, imiter, improps, immeta."""

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
WRITING = "imageio cannot write .nerv files; use nervkit.encode"


def register() -> None:
    """Register the plugin and the file extension with imageio. Repeated calls do nothing."""
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
    """Reads a .nerv file for imageio. `index` is a frame number; `...` or None means all frames."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.mode.io_mode != "r":
            raise InitializationError(WRITING)
        from nervkit.decoder import NervVideo
        from nervkit.errors import FormatError

        try:
            self._video: NervVideo[np.ndarray] = NervVideo(request.get_local_filename())
        except FormatError as error:
            raise InitializationError(str(error)) from error

    def read(self, *, index: int | Any = ...) -> np.ndarray:
        """Return all frames, (T, H, W, 3) uint8, or the frame at `index`, (H, W, 3)."""
        if index is None or index is ...:
            return self._video[:]
        return self._video[index]

    def iter(self) -> Iterator[np.ndarray]:
        """Yield the frames in order, (H, W, 3) uint8 each."""
        yield from self._video

    def write(self, ndimage: Any) -> bytes | None:
        """Raise NotImplementedError: the plugin only reads."""
        raise NotImplementedError(WRITING)

    def properties(self, index: int | Any = ...) -> ImageProperties:
        """Return the shape and data type of `read(index=index)`."""
        is_batch = index is None or index is ...
        shape = self._video.shape if is_batch else self._video.shape[1:]
        return ImageProperties(
            shape=shape,
            dtype=np.dtype(np.uint8),
            n_images=len(self._video) if is_batch else None,
            is_batch=is_batch,
        )

    def metadata(self, index: int | Any = ..., exclude_applied: bool = True) -> dict[str, Any]:
        """Return the frame rate, the duration in seconds, the model and the encoder settings."""
        start, end = self._video.timing.seconds
        return {
            "fps": float(self._video.fps),
            "duration": float(end - start),
            "model": self._video.header.segments[0].model,
            "encoder": self._video.header.encoder,
        }

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_video"):
            self._video.close()
        super().close()
