"""Batches of a fixed number of structures."""

from __future__ import annotations

from itertools import chain

import pytest

from eqv2_plugin.data.sampler import StructureBatchSampler

FRAMES = list(range(23))


def global_batches(batch_size: int, ranks: int, epoch: int, **options) -> list[set[int]]:
    samplers = [
        StructureBatchSampler(FRAMES, batch_size, ranks, rank, **options) for rank in range(ranks)
    ]
    for sampler in samplers:
        sampler.set_epoch_and_start_iteration(epoch, 0)
    return [set().union(*parts) for parts in zip(*samplers, strict=True)]


@pytest.mark.parametrize("ranks", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_ranks(ranks):
    assert global_batches(4, ranks, epoch=3) == global_batches(4, 1, epoch=3)


def test_ranks_share_no_structure():
    first, second = (StructureBatchSampler(FRAMES, 4, 2, rank) for rank in range(2))
    assert not set(chain(*first)) & set(chain(*second))


def test_epochs_are_shuffled_differently_and_reproducibly():
    assert global_batches(4, 1, epoch=0) != global_batches(4, 1, epoch=1)
    assert global_batches(4, 1, epoch=1) == global_batches(4, 1, epoch=1)


def test_starting_in_mid_epoch_gives_the_rest_of_the_epoch():
    sampler = StructureBatchSampler(FRAMES, 4, 1, 0, seed=5)
    sampler.set_epoch_and_start_iteration(2, 0)
    whole = list(sampler)
    sampler.set_epoch_and_start_iteration(2, 3)
    assert list(sampler) == whole[3:]
    assert len(sampler) == len(whole) == 5


def test_without_dropping_every_structure_occurs_in_order():
    sampler = StructureBatchSampler(FRAMES, 4, 1, 0, shuffle=False, drop_last=False)
    assert list(chain(*sampler)) == FRAMES
    assert len(sampler) == len(list(sampler)) == 6


def test_batch_size_must_be_a_multiple_of_the_ranks():
    with pytest.raises(ValueError, match="multiple of the 3 ranks"):
        StructureBatchSampler(FRAMES, 4, 3, 0)


def test_a_data_set_smaller_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="fewer than batch_size=64"):
        StructureBatchSampler(FRAMES, 64, 1, 0)
