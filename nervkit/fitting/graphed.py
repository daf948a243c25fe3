"""A step as one CUDA graph: launching its hundreds of small kernels takes longer than they do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EAGER_CALLS = 3  # first: they create what the optimizers keep, and choose kernels

#: records the work that a function does on the device; its output, and what does it again
Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]


def record_graph(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """`work` as a CUDA graph; recording takes about as long as one call, and runs nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()
    return output, graph.replay


class GraphedUpdate:
    """An update of a model from frame indices, run as it is at first and replayed from then on.

    A replay repeats the recorded kernels with the recorded addresses and numbers: all that changes
    from step to step must be in tensors that are changed in place, or among the flags, each
    combination of which is recorded for itself.
    """

    def __init__(
        self,
        update: Callable[..., Tensor],
        on_refusal: Callable[[str], None],
        record: Record = record_graph,
    ) -> None:
        """`update` takes the indices (B,) on the device and flags, and returns its error, a scalar.
        Where it cannot be recorded, `on_refusal` is called with the reason, and it is run as it
        is."""
        self._update, self._on_refusal, self._record = update, on_refusal, record
        self._calls = 0
        self._refused = False
        self._recorded: dict[tuple[bool, ...], tuple[Tensor, Tensor, Callable[[], None]]] = {}

    def __call__(self, index: Tensor, *flags: bool) -> Tensor:
        """One update. Its error is overwritten by the next one."""
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
        """Record again: the tensors of the update are others now."""
        self._recorded.clear()

    def _try_to_record(self, index: Tensor, flags: tuple[bool, ...]) -> None:
        try:
            self._recorded[flags] = index, *self._record(lambda: self._update(index, *flags))
        except RuntimeError as error:
            self._refused = True
            reason = str(error).partition("\n")[0]
            self._on_refusal(f"steps are slower than they could be: no CUDA graph ({reason})")
