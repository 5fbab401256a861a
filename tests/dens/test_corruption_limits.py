"""Excluded structures, the bound on corrupted atoms, and draws that do not shift each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from dens_inputs import SIGNIFICANCE, draw
from helpers import generator
from scipy import stats

ALL = {"probability": 1.0, "corruption_ratio": 1.0}
SIZES = [3, 1, 8, 5, 2, 7] * 30


def forces_of_lengths(*lengths: float) -> torch.Tensor:
    direction = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3.0
    return torch.tensor(lengths, dtype=torch.float64).unsqueeze(1) * direction


def test_flagged_structures_are_never_corrupted():
    excluded = torch.arange(400) % 3 == 0
    for seed in range(5):
        drawn = draw([3] * 400, seed, excluded=excluded, **ALL)
        assert torch.equal(drawn.structures, ~excluded)
        assert torch.equal(drawn.atoms, (~excluded).repeat_interleave(3))
        assert drawn.sigma[~drawn.atoms].abs().max() == 0


def test_exclusion_does_not_make_the_other_structures_more_likely():
    excluded = torch.arange(20000) % 2 == 0
    structures = draw([1] * 20000, seed=11, excluded=excluded, probability=0.3).structures
    count = int(structures[~excluded].sum())
    assert stats.binomtest(count, 10000, 0.3).pvalue > SIGNIFICANCE


def test_structures_with_one_larger_force_are_never_corrupted():
    forces = forces_of_lengths(1.0, 2.9, 1.0, 3.1, 0.0, 0.0)
    drawn = draw([2, 2, 2], forces=forces, max_force_norm=3.0, **ALL)
    assert drawn.structures.tolist() == [True, False, True]
    assert drawn.atoms.tolist() == [True, True, False, False, True, True]


def test_structures_with_a_larger_mean_force_are_never_corrupted():
    forces = forces_of_lengths(5.0, 0.9, 3.1, 3.1, 0.1, 0.1, 9.0)
    drawn = draw([2, 2, 2, 1], forces=forces, max_mean_force_norm=3.0, **ALL)
    assert drawn.structures.tolist() == [True, False, True, False]


def test_forces_on_fixed_atoms_do_not_count_for_the_limits():
    free = torch.tensor([True, False, True, False, False])
    forces = forces_of_lengths(1.0, 50.0, 4.0, 0.0, 50.0)
    largest = draw([2, 2, 1], 0, free, forces, max_force_norm=3.0, **ALL)
    # The mean is over free atoms: 4 eV/Å, not 2, in the second structure.
    mean = draw([2, 2, 1], 0, free, forces, max_mean_force_norm=3.0, **ALL)
    for drawn in (largest, mean):
        assert drawn.structures.tolist() == [True, False, True]
        assert drawn.atoms.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("fraction", [0.0, 0.29, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_the_bound_keeps_as_many_drawn_atoms_as_it_allows(fraction, ratio):
    free = torch.rand(sum(SIZES), generator=generator(12)) < 0.7
    options = {"probability": 0.8, "corruption_ratio": ratio}
    unbounded = draw(SIZES, 13, free, **options)
    bounded = draw(SIZES, 13, free, max_corrupted_fraction=fraction, **options)
    assert not (bounded.atoms & ~unbounded.atoms).any()
    assert torch.equal(bounded.structures, unbounded.structures)
    groups = zip(
        *(torch.split(x, SIZES) for x in (free, unbounded.atoms, bounded.atoms)), strict=True
    )
    for can_move, before, after in groups:
        limit = int(np.floor(round(fraction * int(can_move.sum()), 9)))
        assert int(after.sum()) == min(int(before.sum()), limit)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.29, 29), (0.53, 53), (0.59, 59), (0.999, 99)]
)
def test_the_bound_is_exact_where_its_product_is_rounded(fraction, expected):
    drawn = draw([100], max_corrupted_fraction=fraction, **ALL)
    assert int(drawn.atoms.sum()) == expected


def test_the_bound_keeps_a_uniformly_random_subset():
    # The fourth atom is fixed; two of the other four may be corrupted.
    free = torch.tensor([True, True, True, False, True]).repeat(12000)
    options = {"probability": 1.0, "max_corrupted_fraction": 0.5}
    drawn = draw([5] * 12000, 14, free, corruption_ratio=1.0, **options)
    code = drawn.atoms.view(-1, 5).long() @ torch.tensor([1, 2, 4, 8, 16])
    subsets = [2**one + 2**other for one, other in combinations([0, 1, 2, 4], 2)]
    counts = [int((code == subset).sum()) for subset in subsets]
    assert sum(counts) == 12000
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def test_noise_of_bounded_structures_is_still_normal():
    drawn = draw([5] * 4000, seed=15, max_corrupted_fraction=0.4, **ALL)
    noise = drawn.noise[drawn.atoms].numpy().ravel()
    assert len(noise) == 24000
    assert stats.kstest(noise, "norm").pvalue > SIGNIFICANCE


CHANGES = {
    "probability": {"probability": 0.4},
    "ratio": {"corruption_ratio": 0.35},
    "bound": {"max_corrupted_fraction": 0.5},
    "force limit": {"max_force_norm": 2.0},
    "excluded": {"excluded": torch.arange(len(SIZES)) % 2 == 0},
    "fixed atoms": {"free": torch.arange(sum(SIZES)) % 3 != 0},
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_decision_does_not_shift_later_random_numbers(changed):
    base = {"probability": 0.8, "corruption_ratio": 0.7, "sigma_low": 0.01}
    one = draw(SIZES, 16, **base)
    other = draw(SIZES, 16, **{**base, **CHANGES[changed]})
    assert not torch.equal(one.atoms, other.atoms)
    # Every change only takes atoms away: what is left is what would have been.
    assert not (other.atoms & ~one.atoms).any()
    both = one.atoms & other.atoms
    assert int(both.sum()) > 50
    assert torch.equal(one.noise[both], other.noise[both])
    assert torch.equal(one.sigma[both], other.sigma[both])


def test_a_fixed_sigma_and_a_schedule_draw_the_same_atoms_and_noise():
    fixed, scheduled = draw(SIZES, 17), draw(SIZES, 17, sigma_low=0.01)
    assert torch.equal(fixed.atoms, scheduled.atoms)
    assert torch.equal(fixed.noise, scheduled.noise)
