"""Zero forces and the nearest training frame, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from eqv2_plugin.training.baselines import baselines, displacement


class Frame:
    def __init__(self, numbers, pos, forces, energy, fixed=(0, 0), split="oc20.val_id"):
        self.atomic_numbers = torch.tensor(numbers)
        self.pos = torch.tensor(pos)
        self.cell = 4.0 * torch.eye(3)[None]
        self.pbc = torch.tensor([[True, True, False]])
        self.forces = torch.tensor(forces)
        self.energy = torch.tensor([energy])
        self.fixed = torch.tensor(fixed)
        self.dataset_name = split


NEAR = Frame([1, 8], [[0.0, 0, 0], [1.0, 0, 0]], [[1.0, 0, 0], [0.0, 2, 0]], -1.0)
FAR = Frame([1, 8], [[0.0, 0, 0], [2.0, 0, 0]], [[5.0, 0, 0], [5.0, 2, 0]], -9.0)


def test_the_nearest_frame_is_found_across_the_periodic_border():
    shifted = Frame([1, 8], [[3.9, 0, 0], [1.0, 0, 0]], [[1.5, 0, 0], [0.0, 2, 3]], -1.25)
    result = baselines([NEAR, FAR], [shifted])["val_id"]
    # |differences| are 0.5 and 3.0 eV/Å over six components.
    assert result["nearest_frame_forces_mae_meV_per_A"] == pytest.approx(3500 / 6)
    assert result["nearest_frame_energy_mae_meV"] == pytest.approx(250)
    assert result["zero_forces_mae_meV_per_A"] == pytest.approx(6500 / 6)


def test_fixed_atoms_do_not_count():
    frame = Frame([1, 8], [[0.0, 0, 0], [1.0, 0, 0]], [[9.0, 9, 9], [0.0, 0, 3]], 0.0, fixed=(1, 0))
    assert baselines([NEAR], [frame])["val_id"]["zero_forces_mae_meV_per_A"] == pytest.approx(1000)


def test_a_system_without_training_frames_has_no_nearest_one():
    other = Frame([1, 1], [[0.0, 0, 0], [1.0, 0, 0]], [[1.0, 0, 0]] * 2, 0.0, split="oc20.val_ood")
    result = baselines([NEAR], [other])["val_ood"]
    assert result["nearest_frame_forces_mae_meV_per_A"] is None
    assert result["zero_forces_mae_meV_per_A"] == pytest.approx(1000 / 3)


def test_displacement_does_not_wrap_along_a_direction_that_is_not_periodic():
    first = Frame([1, 8], [[0.1, 0, 0], [1.0, 2, 3]], [[0.0] * 3] * 2, 0.0)
    second = Frame([1, 8], [[4.1, -8, 4], [5.0, -6, 7]], [[0.0] * 3] * 2, 0.0)
    assert displacement(first, second) == pytest.approx(4.0)
