"""Structures, atoms, noise and sigma are drawn from the distributions of Algorithm 2.

All seeds are fixed. A statistic fails where its p-value under the exact distribution is below
0.1 %; sample sizes are such that a deviation of a few per cent is far beyond that.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dens_inputs import SIGNIFICANCE, draw
from helpers import generator
from scipy import stats


def assert_counts(counts, number, probability):
    """Counts are independent draws of a binomial distribution."""
    expected = stats.binom.pmf(np.arange(number + 1), number, probability) * len(counts)
    observed = np.bincount(counts, minlength=number + 1)
    assert stats.chisquare(observed, expected).pvalue > SIGNIFICANCE


def assert_fraction(flags, probability):
    test = stats.binomtest(int(flags.sum()), flags.numel(), probability)
    assert test.pvalue > SIGNIFICANCE


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.75])
def test_each_structure_is_corrupted_with_the_given_probability(probability):
    structures = draw([1] * 40000, probability=probability).structures
    assert_fraction(structures, probability)
    assert_counts(structures.view(-1, 4).sum(1).numpy(), 4, probability)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("probability", [0.1, 1.0])
def test_each_atom_of_a_corrupted_structure_is_corrupted_with_the_given_ratio(probability, ratio):
    # At a probability of 0.1 only structures of small draws are seen: atoms do not depend on it.
    drawn = draw([6] * 20000, seed=1, probability=probability, corruption_ratio=ratio)
    atoms = drawn.atoms.view(-1, 6)
    assert_counts(atoms[drawn.structures].sum(1).numpy(), 6, ratio)
    for position in range(6):
        assert_fraction(atoms[drawn.structures, position], ratio)
    assert not atoms[~drawn.structures].any()


def test_noise_is_a_standard_normal_of_independent_components():
    drawn = draw([5] * 8000, seed=2)
    noise = drawn.noise[drawn.atoms].numpy()
    assert len(noise) > 9000
    flat = noise.ravel()
    assert stats.kstest(flat, "norm").pvalue > SIGNIFICANCE
    assert 2 * stats.norm.sf(abs(flat.mean()) * len(flat) ** 0.5) > SIGNIFICANCE
    squares = stats.chi2.cdf((flat**2).sum(), len(flat))
    assert SIGNIFICANCE / 2 < squares < 1 - SIGNIFICANCE / 2
    assert stats.kurtosistest(flat).pvalue > SIGNIFICANCE
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert stats.pearsonr(noise[:, one], noise[:, other]).pvalue > SIGNIFICANCE
    assert stats.pearsonr(noise[:-1, 0], noise[1:, 0]).pvalue > SIGNIFICANCE
    # Length follows chi with three degrees of freedom: components are jointly normal.
    assert stats.kstest(np.linalg.norm(noise, axis=1), "chi", args=(3,)).pvalue > SIGNIFICANCE


def test_displacements_have_the_standard_deviation_sigma():
    drawn = draw([5] * 8000, seed=3, sigma=0.07)
    scaled = drawn.displacements[drawn.atoms].numpy().ravel() / 0.07
    assert stats.kstest(scaled, "norm").pvalue > SIGNIFICANCE


@pytest.mark.parametrize("probability", [0.1, 1.0])
def test_scheduled_sigma_is_log_uniform_between_its_ends(probability):
    drawn = draw([2] * 20000, seed=4, probability=probability, sigma_low=0.01, sigma=0.5)
    sigma = drawn.sigma.view(-1, 2)[drawn.structures, 0].numpy()
    assert 0.01 <= sigma.min() < 0.0105
    assert 0.49 < sigma.max() <= 0.5
    assert stats.kstest(np.log(sigma / 0.01) / np.log(50.0), "uniform").pvalue > SIGNIFICANCE


def test_scheduled_sigma_does_not_depend_on_atoms_or_noise():
    drawn = draw([6] * 10000, seed=5, probability=1.0, sigma_low=0.01)
    sigma = drawn.sigma.view(-1, 6)[:, 0].numpy()
    count = drawn.atoms.view(-1, 6).sum(1).numpy()
    length = drawn.noise.square().sum(1).view(-1, 6).sum(1).numpy()[count > 0] / count[count > 0]
    assert stats.spearmanr(sigma, count).pvalue > SIGNIFICANCE
    assert stats.spearmanr(sigma[count > 0], length).pvalue > SIGNIFICANCE


def test_all_atoms_of_a_structure_share_its_sigma():
    drawn = draw([4] * 50, probability=1.0, sigma_low=0.01)
    sigma = drawn.sigma.view(-1, 4)
    assert torch.equal(sigma, sigma[:, :1].expand(-1, 4))
    assert len(sigma[:, 0].unique()) == 50


def test_fixed_sigma_is_the_same_for_every_corrupted_structure_and_zero_for_others():
    drawn = draw([3] * 200, sigma=0.07)
    expected = 0.07 * drawn.structures.double().repeat_interleave(3)
    torch.testing.assert_close(drawn.sigma, expected, rtol=1e-6, atol=0)


def test_atoms_that_are_not_corrupted_have_no_noise():
    drawn = draw([5] * 200)
    assert drawn.noise[~drawn.atoms].abs().max() == 0
    assert drawn.displacements[~drawn.atoms].abs().max() == 0
    assert (drawn.displacements[drawn.atoms].abs() > 0).all()


def test_fixed_atoms_never_move():
    free = torch.rand(3000, generator=generator(6)) < 0.5
    for seed in range(5):
        drawn = draw([6] * 500, seed, free, probability=1.0, corruption_ratio=1.0)
        assert torch.equal(drawn.atoms, free)
        assert drawn.displacements[~free].abs().max() == 0


def test_a_structure_of_fixed_atoms_only_is_drawn_without_corrupted_atoms():
    free = torch.tensor([False, False, True])
    drawn = draw([2, 1], 0, free, probability=1.0, corruption_ratio=1.0)
    assert drawn.structures.tolist() == [True, True]
    assert drawn.atoms.tolist() == [False, False, True]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_probability_zero_and_one_are_exact(share):
    drawn = draw([2] * 20000, probability=share)
    assert (drawn.structures == bool(share)).all()
    assert bool(drawn.atoms.any()) == bool(share)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_ratio_zero_and_one_are_exact(share):
    drawn = draw([2] * 20000, probability=1.0, corruption_ratio=share)
    assert drawn.structures.all()
    assert (drawn.atoms == bool(share)).all()


def test_structures_of_one_atom_are_drawn_like_others():
    drawn = draw([1] * 20000, seed=7, probability=0.6, corruption_ratio=0.3)
    assert_fraction(drawn.structures, 0.6)
    assert_fraction(drawn.atoms, 0.18)


def test_the_seed_alone_decides_the_draw():
    one, same, other = (draw([4] * 20, seed, sigma_low=0.01) for seed in (8, 8, 9))
    for name in ("structures", "atoms", "noise", "sigma"):
        assert torch.equal(getattr(one, name), getattr(same, name)), name
        assert not torch.equal(getattr(one, name), getattr(other, name)), name


def test_the_global_random_state_is_neither_read_nor_advanced():
    torch.manual_seed(0)
    before, one = torch.get_rng_state(), draw([4] * 20)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(one.noise, draw([4] * 20).noise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_and_sigma_have_the_dtype_of_the_forces(dtype):
    drawn = draw([4] * 5, forces=torch.zeros(20, 3, dtype=dtype), sigma_low=0.01)
    assert {drawn.noise.dtype, drawn.sigma.dtype, drawn.displacements.dtype} == {dtype}
