"""A step as one CUDA graph: its hundreds of small kernels take longer to launch than to run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EAGER_CALLS = 3  # before recording: they create the state of the optimizers and choose kernels

#: records the work of a function on the device; returns its output and a function that replays it
Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]


def record_graph(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Record `work` as a CUDA graph. This takes about as long as one call, and runs nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()
    return output, graph.replay


class GraphedUpdate:
    """An update of a model from frame indices: run eagerly at first, then replayed from a graph.

    A replay repeats the recorded kernels with the recorded addresses and numbers. So all that
    changes from step to step must be in tensors that are changed in place, or among the flags. Each
    combination of flags has a graph of its own.
    """

    def __init__(
        self,
        update: Callable[..., Tensor],
        on_refusal: Callable[[str], None],
        record: Record = record_graph,
    ) -> None:
        """
        Args:
            update: takes the indices (B,) on the device and the flags; returns its error, a scalar.
            on_refusal: called with the reason if `update` cannot be recorded; it then stays eager.
            record: records a function; tests replace it.
        """
        self._update, self._on_refusal, self._record = update, on_refusal, record
        self._calls = 0
        self._refused = False
        self._recorded: dict[tuple[bool, ...], tuple[Tensor, Tensor, Callable[[], None]]] = {}

    def __call__(self, index: Tensor, *flags: bool) -> Tensor:
        """Do one update. The next one overwrites the returned error."""
        self._calls += 1
        if self._calls > EAGER_CALLS and flags not in self._recorded and not self._refused:
            self._try_to_record(index.clone(), flags)
        if flags not in self._recorded or self._recorded[flags][0].shape != index.shape:
            return self._update(index, *flags)  # an epoch's last batch may be smaller
        recorded_index, error, replay = self._recorded[flags]
        recorded_index.copy_(index)
        replay()
        return error

    def forget(self) -> None:
        """Drop the graphs: the update has other tensors now."""
        self._recorded.clear()

    def _try_to_record(self, index: Tensor, flags: tuple[bool, ...]) -> None:
        try:
            self._recorded[flags] = index, *self._record(lambda: self._update(index, *flags))
        except RuntimeError as error:
            self._refused = True
            reason = str(error).partition("\n")[0]
            self._on_refusal(f"steps are slower than they could be: no CUDA graph ({reason})")
