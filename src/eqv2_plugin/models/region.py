"""A model's forward pass and its derivatives, compiled for batches of a few sizes.

Small systems are bound by operators, thousands of them a step. A forward pass is recorded here as
one function of tensors, for conservative models with the derivative that gives the forces inside,
so that torch compiles it, and the backward pass through it, like any other function.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from eqv2_plugin.common.tracing import recording
from eqv2_plugin.graphs.kept import KeptEdges
from eqv2_plugin.graphs.padding import Sizes, bucket, pad, sizes_of, unpad
from eqv2_plugin.graphs.static_batch import StaticBatch

# Ratio of neighbouring buckets, in training and (True) in predictions, whose sizes differ less.
_GROWTH = {False: 1.5, True: 1.25}
# Of a first call, over the largest value, or a tenth of what is normal where all vanish.
_TOLERANCE, _SMALLEST = 1e-4, 0.1
_MAXIMA = (torch.ops.aten.scatter_reduce.two, torch.ops.aten.scatter_reduce_.two)
_log = logging.getLogger(__name__)


class _Compiled(NamedTuple):
    """The function of one bucket, from tensors to outputs, and the form of these."""

    function: Callable[..., list[torch.Tensor]]
    form: pytree.TreeSpec


class CompiledRegion:
    """Training steps, or predictions, of one model, compiled once per bucket and kept.

    Args:
        most: buckets that are compiled; batches of further ones run as without this class.
        predicts: of predictions without gradients, not of training steps.
        sizes: the only bucket; batches that it does not hold run as without this class.

    Attributes:
        works: whether compilation has not failed yet.
        edges: those of the batch before, for predictions.
    """

    def __init__(
        self, most: int = 3, *, predicts: bool = False, sizes: Sizes | None = None
    ) -> None:
        self.most = most
        self.predicts = predicts
        self.sizes = sizes
        self.edges = KeptEdges() if predicts else None
        self._compiled: dict[tuple, _Compiled] = {}
        self._met: list[Sizes] = []
        self._said = False
        self.works = True

    def __reduce__(self) -> tuple:
        """Copies compile anew."""
        options = {"predicts": self.predicts, "sizes": self.sizes}
        return partial(CompiledRegion, **options), (self.most,)

    def serves(self, model: nn.Module) -> bool:
        """Whether the model's next pass is of the kind that is compiled here."""
        config: Any = model.backbone.regress_config
        return self.works and model.training != self.predicts and not config.hessian

    def __call__(self, model: nn.Module, batch: StaticBatch) -> dict[str, Any] | None:
        """Outputs of the model; None where it has to run without compilation.

        Those of training are differentiable with respect to the parameters, once.
        """
        sizes = self._bucket(batch) if self.serves(model) else None
        if sizes is None:
            return None
        own = sizes_of(batch)
        key = (sizes, batch.pos.dtype, batch.encoded_forces is None)
        with torch.set_grad_enabled(not self.predicts):
            padded = pad(batch._replace(pos=batch.pos.detach(), cell=batch.cell.detach()), sizes)
            inputs = inputs_of(model, padded)
            if key not in self._compiled:
                outputs = self._first(key, model, padded, inputs)
                if outputs is None:
                    return None
            else:
                outputs = self._compiled[key].function(*inputs)
        real = [unpad(value, sizes, own) for value in outputs]
        return pytree.tree_unflatten(real, self._compiled[key].form)

    def _bucket(self, batch: StaticBatch) -> Sizes | None:
        """Of the batch alone, so that a resumed run does as an uninterrupted one."""
        own = sizes_of(batch)
        if self.sizes is not None and self.sizes.hold(own):
            return self.sizes
        sizes = bucket(own, _GROWTH[self.predicts])
        if sizes in self._met:
            return sizes
        if self.sizes is None and len(self._met) < self.most:
            self._met.append(sizes)
            return sizes
        if not self._said:
            _log.warning(
                "a batch of %d atoms and %d edges runs without compilation, as will others of "
                "sizes for which nothing is compiled (said once)",
                own.atoms,
                own.edges,
            )
            self._said = True
        return None

    def _first(
        self, key: tuple, model: nn.Module, batch: StaticBatch, inputs: list[torch.Tensor]
    ) -> list[torch.Tensor] | None:
        """Compile, and run for the first time."""
        start = time.perf_counter()
        sizes = sizes_of(batch)
        _log.warning(
            "compiling %s for up to %d atoms and %d edges, which takes minutes the first time",
            "predictions" if self.predicts else "training steps",
            sizes.atoms,
            sizes.edges,
        )
        try:
            # As if nothing had been drawn here: a resumed run compiles at another step.
            with torch.random.fork_rng(devices=[]), _as_one_graph():
                graph, form = record(model, batch)
                compiled = _Compiled(torch.compile(graph, dynamic=False, fullgraph=True), form)
                outputs = compiled.function(*inputs)
                if self.predicts:
                    _check(outputs, pytree.tree_leaves(model.outputs_on(batch)))
                else:
                    _compile_backward(outputs, model)
        except Exception as error:  # whatever keeps a compiler from working, eager can do the job
            self.works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.warning("compilation failed, going on without it: %s", reason)
            return None
        self._compiled[key] = compiled
        _log.warning("compiled in %.0f s", time.perf_counter() - start)
        return compiled.function(*inputs)


def _compile_backward(outputs: list[torch.Tensor], model: nn.Module) -> None:
    """The backward pass compiles at its first call."""
    total: Any = sum(output.sum() for output in outputs)
    parameters = [p for p in model.parameters() if p.requires_grad]
    torch.autograd.grad(total, parameters, allow_unused=True)


def _check(outputs: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Raise a RuntimeError for numbers that are not the model's."""
    for one, other in zip(outputs, expected, strict=True):
        largest = float(other.detach().nan_to_num().abs().max())
        allowed = _TOLERANCE * max(largest, _SMALLEST)
        if not torch.allclose(one, other.detach(), 0.0, allowed, equal_nan=True):
            raise RuntimeError("what was compiled returned other numbers than the model")


def _as_one_graph() -> AbstractContextManager[object]:
    """Not one for each of the pieces in which DistributedDataParallel sums gradients."""
    return torch._dynamo.config.patch(optimize_ddp=False)


def record(model: nn.Module, batch: StaticBatch) -> tuple[GraphModule, pytree.TreeSpec]:
    """The operators of a forward pass, as a function of `inputs_of`.

    Returns:
        The function, differentiable once with respect to the parameters, from tensors to a list of
        them, and the form of the outputs of which that list holds the leaves.
    """
    state = _state(model)
    leaves, form = pytree.tree_flatten(batch)
    given = [i for i, leaf in enumerate(leaves) if leaf is not None]
    forms: list[pytree.TreeSpec] = []

    def function(*inputs: torch.Tensor) -> list[torch.Tensor]:
        values = dict(zip(state, inputs, strict=False))
        filled: list[torch.Tensor | None] = [None] * len(leaves)
        for i, tensor in zip(given, inputs[len(state) :], strict=True):
            filled[i] = tensor
        padded = pytree.tree_unflatten(filled, form)
        outputs = torch.func.functional_call(_Region(model), values, (padded,))
        found, of_outputs = pytree.tree_flatten(outputs)
        forms.append(of_outputs)
        return found

    with recording():
        graph = make_fx(function)(*inputs_of(model, batch))
    _differentiable_again(graph)
    return graph, forms[0]


class _Region(nn.Module):
    """`EquiformerV2.outputs_on` as a module's forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, batch: StaticBatch) -> Any:
        return self.model.outputs_on(batch)


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by their names in `_Region`."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {f"model.{name}": tensor for name, tensor in named}


def inputs_of(model: nn.Module, batch: StaticBatch) -> list[torch.Tensor]:
    """What the function that `record` returns is called with."""
    tensors = [leaf for leaf in pytree.tree_leaves(batch) if leaf is not None]
    return [*_state(model).values(), *tensors]


def _differentiable_again(graph: GraphModule) -> None:
    """Let second derivatives through.

    Autograd detaches the outputs that it keeps for a backward pass, which is recorded, and would
    cut the derivative of that backward pass. What the package itself detaches are the maxima of
    its softmax, whose derivative is zero.
    """
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten.detach.default and not any(
            user.target in _MAXIMA for user in node.users
        ):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
