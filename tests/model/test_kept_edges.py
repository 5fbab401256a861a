"""Edges that are kept between steps are those that a search finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import batch_of, crystal, molecule, tiny_config

from eqv2_plugin.graphs import kept
from eqv2_plugin.graphs.build import find_edges
from eqv2_plugin.graphs.kept import KeptEdges

# No pair of this molecule is near the cutoff but one.
ATOMS = molecule()
DISTANCES = np.sort(ATOMS.get_all_distances()[np.triu_indices(len(ATOMS), 1)])
CUTOFF = float(DISTANCES[-1]) + 0.05
OPTIONS = tiny_config(cutoff=CUTOFF)


@pytest.fixture
def searches(monkeypatch) -> list[int]:
    """Numbers of edges that searches found."""
    found = []

    def counted(data, options):
        topology = find_edges(data, options)
        found.append(topology.edge_index.shape[1])
        return topology

    monkeypatch.setattr(kept, "find_edges", counted)
    return found


def assert_found(keeper: KeptEdges, *structures: Atoms, options=OPTIONS) -> None:
    """In any order within a target, but in that of a keeper that has seen nothing else."""
    batch = batch_of(*structures)
    found, wanted = keeper.find(batch, options), find_edges(batch, options)
    anew = found_anew(batch, options)
    assert all(torch.equal(one, other) for one, other in zip(found, anew, strict=True))
    assert torch.equal(found.offsets, wanted.offsets)
    rows = [
        torch.cat((t.edge_index.T, t.images, t.structure_of_edge[:, None]), 1).unique(dim=0)
        for t in (found, wanted)
    ]
    assert len(rows[0]) == wanted.edge_index.shape[1]
    assert torch.equal(*rows)
    assert (found.edge_index[1].diff() >= 0).all()


def found_anew(batch, options):
    """What a keeper finds at first; not counted among the searches."""
    topology = find_edges(batch, options)
    made = kept._kept(batch, topology, options)
    return topology if made is None else made.topology


def stretched(factor: float) -> Atoms:
    atoms = ATOMS.copy()
    atoms.positions *= factor
    return atoms


def test_edges_of_moving_molecules_are_searched_where_a_pair_crosses_the_cutoff(searches):
    keeper = KeptEdges()
    shorter = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    for factor in (1.0, 0.99, 1.004, 0.98):
        assert_found(keeper, stretched(factor), shorter)
    for axis in "xyz":  # a search sees atoms in another order
        turned = stretched(1.0)
        turned.rotate(77, axis)
        turned.positions += 3.1
        assert_found(keeper, turned, shorter)
    assert len(searches) == 1
    for factor in (1.1, 1.099, 1.0, 1.1):
        assert_found(keeper, stretched(factor), shorter)
    assert len(searches) == 1 + 3
    assert searches[1] < searches[0]


def test_a_pair_at_the_cutoff_is_left_to_the_search(searches):
    keeper, edge = KeptEdges(), CUTOFF / DISTANCES[-1]
    for factor in (edge - 1e-5, edge - 1e-5, edge + 1e-5, edge - 1e-5):
        assert_found(keeper, stretched(factor))
    assert len(searches) == 4
    assert set(searches) == {len(DISTANCES) * 2, len(DISTANCES) * 2 - 2}


@pytest.mark.parametrize(
    ("structures", "options"),
    [
        ([crystal()], OPTIONS),
        ([crystal(), ATOMS], OPTIONS),
        ([ATOMS], tiny_config(cutoff=CUTOFF, max_neighbors=4)),
    ],
    ids=["periodic", "one periodic", "too many neighbours"],
)
def test_other_batches_are_searched_each_time(structures, options, searches):
    keeper = KeptEdges()
    for _ in range(3):
        assert_found(keeper, *structures, options=options)
    assert len(searches) == 3


def test_another_molecule_of_the_same_size_is_searched(searches):
    keeper = KeptEdges()
    for symbols in ("OH", "CO", "OH"):
        assert_found(keeper, Atoms(symbols, [[0, 0, 0], [0, 0, 1.0]]))
    assert_found(keeper, Atoms("O"), Atoms("H"))
    assert len(searches) == 4


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ([0.0, 0.0, 1e-4], "coincide"),
        ([0.0, 0.0, np.nan], "is not finite"),
        ([np.inf, 0.0, 1.0], "is not finite"),
    ],
)
def test_what_a_search_refuses_is_refused(place, message):
    keeper = KeptEdges()
    assert_found(keeper, Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]))
    with pytest.raises(ValueError, match=message):
        keeper.find(batch_of(Atoms("OH", [[0, 0, 0], place])), OPTIONS)
