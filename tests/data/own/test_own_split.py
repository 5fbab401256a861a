"""Whole groups train or validate."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from eqv2_plugin.data.own.split import split
from eqv2_plugin.data.own.survey import Note


def note(index, numbers=(1, 8), system=None, file="a.xyz", digest=None):
    where, digest = f"{file}, frame {index}", digest or f"{file}{index}".encode()
    return Note(0, index, where, np.array(numbers), 0.0, 1.0, 2, False, system, digest)


SYSTEMS = [note(i, system=f"s{i // 5}") for i in range(100)]
FILES = [note(i, file=f"{i // 10}.traj") for i in range(100)]
COMPOSITIONS = [note(i, numbers=[1] * (1 + i % 8)) for i in range(100)]
ONE_SERIES = [note(i) for i in range(100)]


@pytest.mark.parametrize(
    ("notes", "by", "group"),
    [
        (SYSTEMS, "system", lambda n: n.system),
        (FILES, "file", lambda n: n.where.split(",")[0]),
        (COMPOSITIONS, "composition", lambda n: len(n.numbers)),
        (ONE_SERIES, "block of 10", lambda n: n.index // 10),
    ],
    ids=["systems", "files", "compositions", "blocks"],
)
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_groups_stay_whole(notes, by, group, fraction):
    found = split(notes, fraction, seed=0)
    assert found.grouped_by.startswith(by)
    assert abs(found.is_validation.mean() - fraction) < 0.1
    sides = defaultdict(set)
    for one, out in zip(notes, found.is_validation, strict=True):
        sides[group(one)].add(bool(out))
    assert all(len(side) == 1 for side in sides.values())
    assert len(sides) == found.groups


def test_copies_stay_together():
    notes = [note(i, digest=b"same" if i % 10 == 0 else None) for i in range(100)]
    found = split(notes, 0.3, seed=1)
    assert len({bool(found.is_validation[i]) for i in range(0, 100, 10)}) == 1


def test_further_systems_leave_the_others_where_they_are():
    more = [note(i, system=f"more{i // 5}") for i in range(100)]
    before = split(SYSTEMS, 0.2, seed=0).is_validation
    after = split(SYSTEMS + more, 0.2, seed=0).is_validation[:100]
    assert (before != after).mean() <= 0.15


@pytest.mark.parametrize("seed", range(5))
def test_every_element_is_trained(seed):
    """System 3 alone holds gold, systems 4 and 5 alone hold silver."""
    special = {3: 79, 4: 47, 5: 47}
    notes = [note(i, [1, special.get(i // 5, 8)], system=f"s{i // 5}") for i in range(30)]
    out = split(notes, 0.5, seed).is_validation
    trained = {z for one, held in zip(notes, out, strict=True) if not held for z in one.numbers}
    assert trained == {1, 8, 47, 79}
    assert out.any()


def test_where_each_group_has_an_element_of_its_own_the_smallest_validates():
    notes = [note(i, [1 + i // 2], system=f"s{i // 2}") for i in range(9)]
    assert split(notes, 0.5, 0).is_validation.tolist() == [False] * 8 + [True]


@pytest.mark.parametrize(
    ("notes", "fraction", "key", "message"),
    [
        (SYSTEMS, 0.0, None, "val_fraction must lie between 0 and 1"),
        (SYSTEMS[:1], 0.1, None, "one labelled frame"),
        ([note(i, system="a") for i in range(9)], 0.1, "system", r"one group \(system\)"),
        ([note(i, digest=b"same") for i in range(9)], 0.1, None, "9 frames are copies of one"),
    ],
    ids=["fraction", "one frame", "one group", "copies"],
)
def test_what_cannot_be_parted(notes, fraction, key, message):
    with pytest.raises(ValueError, match=message):
        split(notes, fraction, 0, key)
