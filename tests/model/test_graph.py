"""Neighbours against a search over all pairs and images, for every periodicity."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import TINY, batch_of, crystal, molecule, periodicities, randn, slab, tiny_config

from eqv2_plugin.graphs.build import Graph, build_graph

versions = pytest.mark.parametrize("version", [1, 2, 3])


def images(atoms: Atoms, cutoff: float) -> list[tuple]:
    """All (source, target, vector, distance) within the cutoff."""
    found = []
    shifts = [range(-6, 7) if periodic else [0] for periodic in atoms.pbc]
    for shift in itertools.product(*shifts):
        offset = np.array(shift) @ np.array(atoms.cell)
        vectors = atoms.positions[None] + offset - atoms.positions[:, None]
        distances = np.linalg.norm(vectors, axis=2)
        for i, j in np.argwhere((distances > 1e-8) & (distances <= cutoff)):
            found.append((j, i, vectors[i, j], distances[i, j]))
    return found


def rounded(source: int, target: int, vector) -> tuple[int, ...]:
    return (int(source), int(target), *np.round(np.asarray(vector) * 1e4).astype(int).tolist())


def brute_force(atoms: Atoms, cutoff: float) -> set[tuple[int, ...]]:
    return {rounded(*edge[:3]) for edge in images(atoms, cutoff)}


def edge_set(graph: Graph) -> set[tuple[int, ...]]:
    pairs = zip(graph.edge_index.T.tolist(), graph.vectors.detach().numpy(), strict=True)
    edges = [rounded(*pair, vector) for pair, vector in pairs]
    assert len(set(edges)) == len(edges)
    return set(edges)


def config(version: int = 2, **options):
    return tiny_config(**{"max_neighbors": 100, "radius_pbc_version": version, **options})


@versions
@periodicities
def test_graph_equals_the_search_over_all_images_in_a_cell_smaller_than_the_cutoff(pbc, version):
    atoms = crystal()
    atoms.pbc = pbc
    assert max(atoms.cell.lengths()) < TINY["cutoff"] + 0.2
    graph = build_graph(batch_of(atoms), config(version))
    assert edge_set(graph) == brute_force(atoms, TINY["cutoff"])


@versions
@periodicities
def test_directions_that_are_not_periodic_need_no_cell_vector(pbc, version):
    atoms = crystal()
    atoms.pbc = pbc
    atoms.set_cell(np.array(atoms.cell) * np.array(pbc)[:, None])
    assert edge_set(build_graph(batch_of(atoms), config(version))) == brute_force(
        atoms, TINY["cutoff"]
    )


@versions
@periodicities
def test_atoms_outside_the_cell_have_the_neighbours_of_wrapped_ones(pbc, version):
    atoms = crystal()
    atoms.pbc = pbc
    moved = atoms.copy()
    jumps = np.array([[3, -2, 1], [0, 0, 0], [-5, 4, 7], [1, 1, -1]]) * np.array(pbc)
    moved.positions += jumps @ np.array(atoms.cell)
    wanted = edge_set(build_graph(batch_of(atoms), config(version)))
    assert edge_set(build_graph(batch_of(moved), config(version))) == wanted


@versions
def test_edges_are_sorted_by_target_and_a_batch_joins_the_graphs_of_its_structures(version):
    structures = [crystal(), molecule(), slab(), Atoms("He", cell=[30, 30, 30], pbc=True)]
    graph = build_graph(batch_of(*structures), config(version))
    targets = graph.edge_index[1]
    assert torch.equal(targets, targets.sort().values)
    sizes = [len(atoms) for atoms in structures]
    assert torch.equal(graph.offsets.diff(), torch.bincount(targets, minlength=sum(sizes)))
    wanted, first = set(), 0
    for atoms, size in zip(structures, sizes, strict=True):
        alone = edge_set(build_graph(batch_of(atoms), config(version)))
        wanted |= {(s + first, t + first, *vector) for s, t, *vector in alone}
        first += size
    assert edge_set(graph) == wanted


@versions
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("limit", [4, 9])
def test_the_nearest_neighbours_are_kept(version, strict, limit):
    atoms = slab()
    options = {"max_neighbors": limit, "enforce_max_neighbors_strictly": strict}
    graph = build_graph(batch_of(atoms), config(version, **options))
    edges = sorted(images(atoms, TINY["cutoff"]), key=lambda e: e[3])
    wanted = set()
    for atom in range(len(atoms)):
        near = [e for e in edges if e[1] == atom]
        # fairchem keeps all within 0.01 Å^2 of the squared distance of the first one to drop.
        limits = near[limit][3] ** 2 + 0.01 if len(near) > limit else np.inf
        kept = near[:limit] if strict else [e for e in near if e[3] ** 2 <= limits]
        wanted |= {rounded(*edge[:3]) for edge in kept}
    assert edge_set(graph) == wanted


@pytest.mark.parametrize("limit", [9, 100])
@pytest.mark.parametrize("moved", [False, True])
def test_given_edges_are_cut_to_the_graph_of_the_model(limit, moved):
    structures = [crystal(), slab()]
    wanted = edge_set(build_graph(batch_of(*structures), config(max_neighbors=limit)))
    data = batch_of(*structures)
    index, offsets, counts, first = [], [], [], 0
    for atoms in structures:
        edges = list(images(atoms, TINY["cutoff"] + 1.5))
        pairs = torch.tensor([[edge[0], edge[1]] for edge in edges]).T
        vectors = np.array([edge[2] for edge in edges])
        shifts = vectors - atoms.positions[pairs[0]] + atoms.positions[pairs[1]]
        offsets.append(torch.from_numpy(shifts @ np.linalg.inv(np.array(atoms.cell))).round())
        index.append(pairs + first)
        counts.append(len(edges))
        first += len(atoms)
    data.edge_index = torch.cat(index, dim=1)
    data.cell_offsets = torch.cat(offsets)
    data.nedges = torch.tensor(counts)
    if moved:
        # One atom and its edges, in terms of another image of it.
        cell = data.cell[0]
        data.pos[1] += cell[0] - 2 * cell[2]
        jump = torch.tensor([1.0, 0.0, -2.0]).double()
        data.cell_offsets[data.edge_index[0] == 1] -= jump
        data.cell_offsets[data.edge_index[1] == 1] += jump
    given = build_graph(data, config(max_neighbors=limit, otf_graph=False))
    assert edge_set(given) == wanted


def test_edge_vectors_differentiate_with_positions_and_cell():
    """Stretching positions and cell stretches every edge, so Euler's relation holds."""
    data = batch_of(crystal())
    data.pos.requires_grad_(True)
    data.cell.requires_grad_(True)
    graph = build_graph(data, config())
    weights = randn(0, *graph.vectors.shape)
    total = (graph.vectors * weights).sum()
    gradients = torch.autograd.grad(total, [data.pos, data.cell])
    change = sum((g * x).sum() for g, x in zip(gradients, (data.pos, data.cell), strict=True))
    assert abs(float(change - total)) < 1e-12 * abs(float(total))
