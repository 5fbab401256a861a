"""The whole network against the same one assembled from e3nn's modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers import batch_of, molecule, relative_error

from eqv2_plugin.backbones.equiformer_v1.backbone import EquiformerV1Backbone
from eqv2_plugin.checkpoints.equiformer_v1.weights import convert_state
from eqv2_plugin.graphs.build import build_graph

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from e3nn_equiformer import E3nnEquiformer

SMALL = {"num_heads": 2, "num_layers": 2, "edge_channels": 8, "num_distance_basis": 8}
SIZES = {
    1: {
        "irreps_node": "9x0e+6x1e",
        "irreps_feature": "12x0e",
        "irreps_head": "4x0e+3x1e",
        "irreps_ffn": "8x0e+7x1e",
    },
    3: {
        "irreps_node": "9x0e+6x1e+4x2e+3x3e",
        "irreps_feature": "12x0e+5x1e+3x2e+2x3e",
        "irreps_head": "4x0e+3x1e+2x2e+1x3e",
        "irreps_ffn": "8x0e+7x1e+5x2e+2x3e",
    },
}


@pytest.fixture(autouse=True)
def exact_tables():
    """e3nn keeps its tables in the default dtype of the moment."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("lmax", SIZES)
def test_energies_and_gradients_equal_those_of_e3nns_network(lmax):
    torch.manual_seed(lmax)
    ours = EquiformerV1Backbone(**SMALL, **SIZES[lmax])
    ours.energy = ours.scalar_network()
    e3nn = E3nnEquiformer(ours.config)
    state = e3nn.authors_state()
    converted = convert_state(state, ours.config, scalar_head="energy", convention="e3nn_0.5")
    renamed = {name.removeprefix("backbone."): value for name, value in converted.items()}
    ours.load_state_dict(renamed, strict=True)

    data = batch_of(molecule())
    graph = build_graph(data, ours.config)
    numbers, gradients = data.atomic_numbers, []
    vectors = graph.vectors.detach().requires_grad_(True)
    emb = ours.embed(graph._replace(vectors=vectors), numbers, data.batch, 1)
    for energies in (ours.energy(emb["node_embedding"]), e3nn(vectors, graph.edge_index, numbers)):
        (first,) = torch.autograd.grad(energies.sum(), vectors, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), vectors)
        gradients.append((energies.detach(), first.detach(), second))
    for found, wanted in zip(*gradients, strict=True):
        assert relative_error(found, wanted) < 1e-10
