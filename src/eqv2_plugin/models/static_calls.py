"""Forward passes of few sizes, recorded once and replayed: CUDA graphs in inference.

A forward pass on few atoms is thousands of kernels, and launching them takes longer than they do.
Its edges are found as ever, so that its size is known; the batch is then padded to the size of its
bucket and copied into the buffers that a recorded pass of this size reads.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree

from eqv2_plugin.graphs.padding import Sizes, bucket, pad, sizes_of, unpad
from eqv2_plugin.graphs.static_batch import StaticBatch
from eqv2_plugin.kernels.choice import fused_kernels_enabled

Outputs = dict[str, Any]
# Records what a function does with tensors that stay in place, and hands back a function that does
# it again and returns the same tensors, filled anew.
Capture = Callable[[Callable[[], Outputs]], Callable[[], Outputs]]

# Ratio of neighbouring buckets: padding costs half of it on average.
_GROWTH = 1.1
# Larger batches keep a GPU busy without.
_MOST_EDGES = 20_000
# Of a replay on other positions than those it was recorded on, over the largest value.
_TOLERANCE = 1e-4
_log = logging.getLogger(__name__)


class Model(Protocol):
    """An `eqv2_plugin.models.hydra.EquiformerV2`."""

    def outputs_on(self, batch: StaticBatch) -> Outputs: ...


def capture_for(device: torch.device) -> Capture | None:
    """How forward passes are recorded on a device; None where there is no way, and no need."""
    return partial(capture_cuda, device) if device.type == "cuda" else None


def capture_cuda(device: torch.device, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
    """Record a function into a CUDA graph of a device.

    Raises:
        RuntimeError: something in it cannot be recorded, or memory ran out.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()  # libraries make what they need at a first call
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = function()

    def replay() -> Outputs:
        with torch.cuda.device(device):
            graph.replay()
        return outputs

    return replay


class StaticCalls:
    """Recorded forward passes of one model, by size; the ones used last are kept.

    A size is recorded when it is met for the second time: batches that never come again are not
    worth it. A batch has the same numbers before and after that, to the last bit.

    Args:
        capture: see `capture_for`.
        most: recordings that are kept.
    """

    def __init__(self, capture: Capture, most: int = 8) -> None:
        self.capture = capture
        self.most = most
        self._recorded: OrderedDict[tuple, _Recorded] = OrderedDict()
        # Sizes met once, and those that did not fit into memory.
        self._met: OrderedDict[tuple, bool] = OrderedDict()
        self._works = True

    def __reduce__(self) -> tuple:
        """Copies record anew."""
        return StaticCalls, (self.capture, self.most)

    @torch.no_grad()
    def __call__(self, model: Model, batch: StaticBatch) -> Outputs:
        """``model.outputs_on(batch)``, without gradients."""
        own = sizes_of(batch)
        if not self._works or not 0 < own.edges <= _MOST_EDGES:
            return self._pass(model, batch)
        sizes = self.bucket(own)
        key = (sizes, *_circumstances(batch.pos))
        recorded = self._recorded.get(key)
        if recorded is None and self._is_due(key):
            recorded = self._record(key, model, batch, sizes)
        if recorded is None:
            outputs = self._pass(model, pad(batch, sizes))
        else:
            self._recorded.move_to_end(key)
            outputs = recorded(batch)
        return pytree.tree_map(lambda value: unpad(value, sizes, own).clone(), outputs)

    @property
    def recorded(self) -> int:
        """How many passes are kept."""
        return len(self._recorded)

    @staticmethod
    def bucket(own: Sizes) -> Sizes:
        """The size to which a batch is padded."""
        return bucket(own, _GROWTH)

    def _is_due(self, key: tuple) -> bool:
        """Whether a size comes for the second time, and did not run out of memory before."""
        due = self._met.get(key, False)
        if key not in self._met:
            self._met[key] = True
            if len(self._met) > 16 * self.most:
                self._met.popitem(last=False)
        return due

    def _pass(self, model: Model, batch: StaticBatch) -> Outputs:
        """Without a recording; those that there are make room where memory runs out."""
        try:
            return _outputs(model, batch)
        except torch.OutOfMemoryError:
            if not self._recorded:
                raise
        self._make_room()
        return _outputs(model, batch)

    def _make_room(self) -> None:
        self._recorded.clear()
        torch.cuda.empty_cache()

    def _record(
        self, key: tuple, model: Model, batch: StaticBatch, sizes: Sizes
    ) -> _Recorded | None:
        while len(self._recorded) >= self.most:
            self._recorded.popitem(last=False)
        try:
            recorded = _Recorded(model, batch, sizes, self.capture)
        except torch.OutOfMemoryError:
            self._met[key] = False
        except RuntimeError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.warning("forward passes cannot be recorded, going on without: %s", reason)
            self._works = False
        else:
            self._recorded[key] = recorded
            return recorded
        self._make_room()
        return None


class _Recorded:
    """A recorded pass, and the buffers that it reads.

    Raises:
        RuntimeError: it cannot be recorded, or a replay on other positions is wrong.
    """

    def __init__(self, model: Model, batch: StaticBatch, sizes: Sizes, capture: Capture) -> None:
        self._sizes = sizes
        # Of the batch whose dummies the buffers hold.
        self._own = sizes_of(batch)
        self._buffers = pytree.tree_map_only(torch.Tensor, torch.clone, pad(batch, sizes))
        with _own_casts():
            self._replay = capture(lambda: _outputs(model, self._buffers))
        moved = batch._replace(pos=1.001 * batch.pos)
        found, expected = self(moved), _outputs(model, pad(moved, sizes))
        for one, other in zip(*map(pytree.tree_leaves, (found, expected)), strict=True):
            allowed = _TOLERANCE * float(other.nan_to_num().abs().max())
            if not torch.allclose(one, other, 0.0, allowed, equal_nan=True):
                raise RuntimeError("a replay returned other numbers than a forward pass")

    def __call__(self, batch: StaticBatch) -> Outputs:
        """Outputs of a batch of this bucket; they hold until the next call.

        Batches of one size after another have the same dummies, so that only what is real is
        copied: padding would be some thirty launches.
        """
        own = sizes_of(batch)
        if own != self._own:
            batch, self._own = pad(batch, self._sizes), own
        for buffer, value in zip(*map(_tensors, (self._buffers, batch)), strict=True):
            _real_part(buffer, value).copy_(value)
        return self._replay()


def _tensors(batch: StaticBatch) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(batch) if leaf is not None]


def _real_part(buffer: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Where in a buffer a value goes: real rows (of ``edge_index``, columns) come first."""
    for dim, size in enumerate(value.shape):
        buffer = buffer.narrow(dim, 0, size)
    return buffer


@contextmanager
def _own_casts() -> Iterator[None]:
    """Casts of weights that autocast keeps are freed at its end, while a recording reads them."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _outputs(model: Model, batch: StaticBatch) -> Outputs:
    return pytree.tree_map(torch.Tensor.detach, model.outputs_on(batch))


def _circumstances(pos: torch.Tensor) -> tuple:
    """What a recording depends on beside shapes."""
    device = pos.device.type
    return (
        pos.dtype,
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
        fused_kernels_enabled(),
    )
