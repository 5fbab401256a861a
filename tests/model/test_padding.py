"""A padded batch has the outputs and gradients of the batch itself."""

from __future__ import annotations

import pytest
import torch
from helpers import BACKBONE, V1, flatten, molecule, randn, tiny_model
from static_batches import KINDS, STRUCTURES, static_batch

from eqv2_plugin.graphs.padding import Sizes, bucket, pad, sizes_of, unpad
from eqv2_plugin.graphs.static_batch import StaticBatch
from eqv2_plugin.models.hydra import EquiformerV2


def outputs_and_gradients(
    model: EquiformerV2, batch: StaticBatch, sizes: Sizes
) -> dict[str, torch.Tensor]:
    """Outputs of the real rows, and gradients of parameters of a random mean of them."""
    own = sizes_of(batch)
    outputs = flatten(model.outputs_on(pad(batch, sizes)))
    real = {name: unpad(value, sizes, own) for name, value in outputs.items()}
    loss = sum(
        (value * randn(i, *value.shape).to(value.dtype)).sum()
        for i, value in enumerate(real.values())
    )
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()))
    return {**real, **dict(zip(parameters, found, strict=True))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_padding_changes_neither_outputs_nor_gradients(kind, dtype, tolerance):
    heads, options = KINDS[kind]
    if options.get("backbone") == V1 and dtype == torch.float32:
        tolerance = 3e-6  # measured: just above 1e-6
    model = tiny_model(heads, dtype=dtype, **{"backbone": BACKBONE, **options}).train()
    for module in model.modules():
        if hasattr(module, "rate") or isinstance(module, torch.nn.Dropout):
            module.eval()
    batch = static_batch(model, STRUCTURES, dtype)
    own = sizes_of(batch)
    plain = outputs_and_gradients(model, batch, own)
    for sizes in (bucket(own, 1.5), Sizes(own.structures + 3, own.atoms + 4, own.edges)):
        padded = outputs_and_gradients(model, batch, sizes)
        assert padded.keys() == plain.keys()
        largest = max(float(value.abs().max()) for value in plain.values())
        for name, value in plain.items():
            scale = max(float(value.abs().max()), 1e-3 * largest)
            assert float((padded[name] - value).abs().max()) < tolerance * scale, name


def test_a_bucket_holds_all_sizes_up_to_its_own():
    for atoms in (1, 9, 36, 150, 1000):
        for edges in (0, 1, 7, 3000, 20000):
            own = Sizes(min(atoms, 4), atoms, edges)
            found = bucket(own, 1.5)
            assert found.hold(own)
            assert found.atoms <= 1.5 * (atoms + 2) + 8
            assert found.edges <= 1.5 * max(edges, 1) + 8
    of_atoms = {bucket(Sizes(4, atoms, 20 * atoms), 1.5).atoms for atoms in range(4, 1000)}
    assert len(of_atoms) < 16


def test_a_batch_that_does_not_fit_is_refused():
    model = tiny_model()
    batch = static_batch(model, [molecule()], torch.float64)
    own = sizes_of(batch)
    for sizes in (
        own._replace(edges=own.edges - 1),
        own._replace(edges=own.edges + 1),
        Sizes(own.structures + 2, own.atoms + 1, own.edges),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            pad(batch, sizes)
