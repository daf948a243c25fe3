"""Segments on a Ray cluster of two nodes on this machine. Run by hand: pytest -m slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest

import nervkit
from nervkit.encoding.run import SegmentsProgress
from tests.test_long import scenes

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without processors, and a node for one segment at a time."""
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.add_node(num_cpus=2)
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def encode(folder: Path, name: str, **options: Any) -> nervkit.EncodeReport:
    np.save(folder / "clip.npy", scenes(12, 20, 10))
    chosen = {"steps": 300, "params": 5_000, "segments": "auto", "fps": 25, "device": "cpu"}
    chosen |= {"checkpoint_interval": 0.5}
    return nervkit.encode(folder / "clip.npy", folder / name, **(chosen | options))


def workers() -> list[psutil.Process]:
    """The processes that fit."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name().startswith("ray::_fit") or "ray::_fit" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_two_nodes_give_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    most = 0

    def on_segments(progress: SegmentsProgress) -> None:
        nonlocal most
        most = max(most, len(progress.running))

    encode(tmp_path, "ray.nerv", ray="auto", on_segments=on_segments)
    encode(tmp_path, "here.nerv", workers=2)
    assert most == 2
    assert (tmp_path / "ray.nerv").read_bytes() == (tmp_path / "here.nerv").read_bytes()


def test_a_killed_worker_and_a_lost_node_lose_nothing(cluster: Any, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    events: list[str] = []

    def on_segments(progress: SegmentsProgress) -> None:
        under_way = any(p.step > 50 for p in progress.running.values())
        if not events and under_way and (running := workers()):
            events.append("killed")
            os.kill(running[0].pid, signal.SIGKILL)
        elif events == ["killed"] and progress.done:
            events.append("removed")
            Thread(target=cluster.remove_node, args=(second,), daemon=True).start()

    encode(tmp_path, "ray.nerv", ray="auto", on_segments=on_segments)
    assert events == ["killed", "removed"]
    encode(tmp_path, "here.nerv", workers=2)
    assert (tmp_path / "ray.nerv").read_bytes() == (tmp_path / "here.nerv").read_bytes()


def test_an_address_where_nobody_answers(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", scenes(12, 20))
    command = [sys.executable, "-m", "nervkit", "encode", "clip.npy", "-o", "a.nerv"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--ray", "127.0.0.1:1"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("nervkit: no Ray cluster answers at 127.0.0.1:1")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 120
