"""What the tasks weigh under each normalisation is what the table of docs/dens.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from dens_inputs import config, labelled_batch
from helpers import generator

from eqv2_plugin.dens.corruption import corrupt_batch, draw_corruption
from eqv2_plugin.dens.losses import DenoisingLoss

DOCUMENT = (Path(__file__).parents[2] / "docs" / "dens.md").read_text()
ROWS = [
    [float(cell) for cell in row.split("|")[1:-1]]
    for row in re.findall(r"^  (\|(?: *[\d.]+ *\|){6})$", DOCUMENT, re.MULTILINE)
]
DRAWS = 400


def test_the_table_is_there():
    assert [row[:2] for row in ROWS] == [[0.5, 0.5], [0.25, 0.25], [0.125, 0.25]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"p={row[0]} r={row[1]}")
def test_errors_of_one_on_every_atom_weigh_what_the_table_says(row):
    settings = config(probability=row[0], corruption_ratio=row[1])
    data, source = labelled_batch([9] * 8), generator(1)
    expected = {"per_structure": row[2:4], "per_batch": row[2:4], "per_task": row[4:6]}
    found = {name: torch.zeros(2, DRAWS, dtype=torch.float64) for name in expected}
    losses = {name: DenoisingLoss(1.0, name, "atom") for name in expected}
    one = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    for draw in range(DRAWS):
        corrupted = corrupt_batch(data, draw_corruption(settings, data, source), settings)
        for index, target in enumerate((corrupted.forces, corrupted.noise_forces)):
            known = torch.isfinite(target).all(dim=1)
            for name, loss in losses.items():
                found[name][index, draw] = loss(target + one, target, known, data.natoms)
    for name, values in found.items():
        for drawn, weight in zip(values, expected[name], strict=True):
            # Five standard errors (that of a rare event may be drawn as zero), and the last digit.
            error = max(float(drawn.std()), (weight * (1 - weight)) ** 0.5) / DRAWS**0.5
            assert abs(float(drawn.mean()) - weight) < 5 * error + 6e-4, name


def test_a_task_without_atoms_is_left_out():
    data = labelled_batch([9] * 2)
    settings = config(probability=0.0)
    corrupted = corrupt_batch(data, draw_corruption(settings, data, generator(0)), settings)
    predicted = torch.ones(18, 3, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(18, dtype=torch.bool)
    loss = DenoisingLoss(5.0, "per_task", "atom")(
        predicted, corrupted.noise_forces, none, data.natoms
    )
    loss.backward()
    assert float(loss) == 0.0
    assert not predicted.grad.any()
