"""A decoder of collections written from docs/collection.md: plain Python and numpy, no nervkit
code. reference_decoder.py and reference_tensors.py implement format.md for it."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.reference_decoder import conv, read_chunk, shuffle
from tests.reference_tensors import SIGNIFICANDS, RangeDecoder


def decode_collection(data: bytes) -> dict[str, np.ndarray]:
    """The frames of all videos, (T, H, W, 3) uint8, by name."""
    head, videos = read_videos(data)
    shapes = shared_shapes(head)
    count = sum(math.prod(shape) for shape in shapes)
    assert count == head["weights"]
    values = [np.zeros(shape) for shape in shapes]
    used, last = ([np.zeros(shape, bool) for shape in shapes] for _ in range(2))
    shown = {}
    for index, video in enumerate(videos):
        entry = json.loads(zlib.decompress(video[b"VIDE"]))
        masks = read_masks(video[b"MASK"], used, last)
        added = [mask & ~before for mask, before in zip(masks, used, strict=True)]
        assert entry["kept"] == sum(mask.sum() for mask in masks)
        assert entry["added"] == sum(new.sum() for new in added)
        channels = conv_widths(head["config"])[-1][1]
        counts = [int(new.sum()) for new in added] + [3 * channels, 3]
        *new_values, weight, bias = read_weights(video[b"WGTS"], counts)
        for value, new, numbers in zip(values, added, new_values, strict=True):
            value[new] = numbers
        used = [before | mask for before, mask in zip(used, masks, strict=True)]
        last = masks
        tensors = [value * mask for value, mask in zip(values, masks, strict=True)]
        tensors += [weight.reshape(3, channels, 1, 1), bias]
        frames = [frame(head, tensors, index, t, entry["frames"]) for t in range(entry["frames"])]
        shown[entry["name"]] = np.stack(frames)
    return shown


def read_videos(data: bytes) -> tuple[dict, list[dict[bytes, bytes]]]:
    """The header, and the chunks of each video by type."""
    assert data[:12] == b"\x89NERC\r\n\x1a" + struct.pack("<HH", 1, 0)
    assert struct.unpack_from("<I", data, 12) == (zlib.crc32(data[:12]),)
    position, chunks = 16, []
    while position < len(data):
        chunks.append(read_chunk(data, position))
        position += len(chunks[-1][1]) + 16
    (first, head), *rest, end = chunks
    assert (first, end) == (b"HEAD", (b"NEND", b""))
    videos: list[dict[bytes, bytes]] = []
    for kind, payload in rest:
        if kind == b"VIDE":
            videos.append({})
        videos[-1][kind] = payload
    return json.loads(zlib.decompress(head)), videos


def conv_widths(config: dict) -> list[tuple[int, int]]:
    """Input and output channels of each stage."""
    widths, n = [], config["grid_channels"]
    for i in range(len(config["strides"])):
        m = n if i == 0 else max(n // 2, config["min_width"])
        widths.append((n, m))
        n = m
    return widths


def grid_of(head: dict) -> tuple[int, int]:
    factor = math.prod(head["config"]["strides"])
    return math.ceil(head["height"] / factor), math.ceil(head["width"] / factor)


def shared_shapes(head: dict) -> list[tuple[int, ...]]:
    c = head["config"]
    cells = c["grid_channels"] * math.prod(grid_of(head))
    shapes: list[tuple[int, ...]] = [(c["stem_width"], 4 * c["pe_levels"]), (c["stem_width"],)]
    shapes += [(cells, c["stem_width"]), (cells,)]
    for i, ((n, m), s) in enumerate(zip(conv_widths(c), c["strides"], strict=True)):
        fourier = c["fourier"] if i == c["fourier_stage"] else "none"
        if fourier != "alone":
            shapes += [(m * s * s, n, 3, 3), (m * s * s,)]
        if fourier != "none":
            shapes += 2 * [(n, m, 2 * c["fourier_rows"], c["fourier_columns"])]
    return shapes


def read_masks(payload: bytes, used: list[np.ndarray], last: list[np.ndarray]) -> list[np.ndarray]:
    coder, masks = RangeDecoder(payload), []
    for before, latest in zip(used, last, strict=True):
        context = np.where(latest, 2, np.where(before, 1, 0))
        mask = np.zeros(before.shape, bool)
        for c in range(3):
            mask[context == c] = coder.integers(int((context == c).sum()), 0, 1)
        masks.append(mask)
    return masks


def read_weights(payload: bytes, counts: list[int]) -> list[np.ndarray]:
    assert struct.unpack_from("<H", payload) == (len(counts),)
    coder, tensors = RangeDecoder(payload[2 + 6 * len(counts) :]), []
    for i, count in enumerate(counts):
        p, low, high = struct.unpack_from("<Hhh", payload, 2 + 6 * i)
        step = SIGNIFICANDS[p % 16] * 2.0 ** (p // 16 - 47)
        integers = np.array(coder.integers(count, low, high), np.float32)
        tensors.append(integers * np.float32(step))
    return tensors


def frame(head: dict, tensors: list[np.ndarray], video: int, t: int, frames: int) -> np.ndarray:
    c, left = head["config"], iter(tensors)
    u = (t / frames, (video + 1) / (c["videos"] + 1))
    angles = [c["pe_base"] ** i * math.pi * x for x in u for i in range(c["pe_levels"])]
    e = np.array([f(a) for a in angles for f in (math.sin, math.cos)])
    for _ in range(2):
        e = np.maximum(0, next(left) @ e + next(left))
    x = e.reshape(c["grid_channels"], *grid_of(head))
    for i, s in enumerate(c["strides"]):
        fourier = c["fourier"] if i == c["fourier_stage"] else "none"
        y = 0 if fourier == "alone" else shuffle(conv(x, next(left), next(left)), s)
        if fourier != "none":
            y = y + operated(x, next(left), next(left), s)
        x = y / (1 + np.exp(-y))
    x = (np.tanh(conv(x, next(left), next(left))) + 1) / 2
    pixels = np.clip(np.rint(255 * x), 0, 255).astype(np.uint8)
    return pixels[:, : head["height"], : head["width"]].transpose(1, 2, 0)


def operated(x: np.ndarray, real: np.ndarray, imaginary: np.ndarray, s: int) -> np.ndarray:
    """F(x), summed wave by wave."""
    _, a, b = x.shape
    spectrum = np.fft.fft2(x) / (a * b)
    p, q = np.mgrid[: s * a, : s * b]
    result = np.zeros((real.shape[1], s * a, s * b))
    weight = real + 1j * imaginary
    for row, k, column in modes(real.shape):
        y = np.einsum("c,co->o", spectrum[:, k, column], weight[:, :, row, column])
        g = 1 if column == 0 or 2 * column == s * b else 2
        wave = np.exp(2j * math.pi * (k * p / (s * a) + column * q / (s * b)))
        result += g * np.real(y[:, None, None] * wave)
    return result


def modes(shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Row index, row frequency and column frequency of each mode."""
    half = shape[2] // 2
    for j in range(shape[2]):
        for column in range(shape[3]):
            yield j, j if j < half else j - 2 * half, column
