"""Stability, h(r) and the published thermostat against the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from reference_case import fixtures_folder

from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.tasks.simulation.metrics import (
    EDGES,
    bond_deviation,
    counted_frames,
    distance_counts,
    distance_density,
    find_bonds,
    hr_error,
    pair_distances,
    stability_ps,
)
from eqv2_plugin.tasks.simulation.thermostats import PublishedNoseHoover

SMALL = Path(__file__).parents[1] / "fixtures" / "mdsim_md17"
CHOSEN = fixtures_folder() / "mdsim_md17"
RUNS = sorted((CHOSEN if CHOSEN.is_dir() else SMALL).glob("[!n]*.npz"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_stability_and_distances_are_those_of_the_published_code(path):
    case = dict(np.load(path))
    frames = case["trajectory"].astype(np.float64)
    # The embedded test frames are the reference trajectory.
    reference = np.array([a.positions for a in load_sample(f"rmd17_{path.stem}", "test")])
    bonds = find_bonds(Atoms(case["numbers"], frames[0]))
    assert sorted(map(tuple, bonds.T)) == sorted(tuple(sorted(pair)) for pair in case["bonds"].T)
    means = pair_distances(reference, case["bonds"]).mean(0)
    np.testing.assert_allclose(means, case["mean_bond_lengths"], atol=1e-5)
    deviation = bond_deviation(frames, case["bonds"], means)
    np.testing.assert_allclose(deviation, case["max_bond_deviation"], atol=1e-5)
    assert counted_frames(deviation) == case["collapse_pt"]
    assert stability_ps(deviation, case["frame_interval_ps"]) == pytest.approx(case["stability_ps"])
    np.testing.assert_allclose(EDGES, case["bin_edges"], atol=1e-14)
    wanted = distance_density(distance_counts(reference))
    np.testing.assert_allclose(wanted, case["hr_reference"], atol=2e-3)
    for name, some in {"": frames[: counted_frames(deviation)], "_all_frames": frames}.items():
        found = distance_density(distance_counts(some))
        np.testing.assert_allclose(found, case[f"hr_prediction{name}"], atol=2e-3)
        assert hr_error(found, wanted) == pytest.approx(case[f"hr_mae{name}"], abs=1e-4)


def test_the_published_thermostat_follows_the_published_code():
    case = dict(np.load(SMALL / "nose_hoover_ethanol.npz"))
    start, masses = torch.tensor(case["x0"])[None], torch.tensor(case["masses"])[:, None]
    rest = torch.cdist(start, start)

    def forces(positions):  # of springs between all pairs
        apart = positions[:, :, None] - positions[:, None]
        lengths = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
        pull = (lengths - rest) / (lengths + torch.eye(len(masses)))
        return -case["spring_constant"] * (pull[..., None] * apart).sum(2)

    dt = float(case["dt_ase"])
    step = PublishedNoseHoover(masses, 500.0, dt, 20 * dt)
    state = step.start(start, torch.tensor(case["v0"])[None] * masses)
    assert dt == pytest.approx(0.5 * units.fs, rel=1e-12)
    force = forces(start)
    for number in range(2001):
        if number in case["steps"]:
            row = int(np.flatnonzero(case["steps"] == number)[0])
            found = {
                "positions": state.positions[0],
                "velocities": state.momenta[0] / masses,
                "zeta": state.rates[0, 0],
                "temperature": step.temperatures(state)[0],
            }
            for name, value in found.items():
                scale = np.abs(case[name]).max()
                np.testing.assert_allclose(value, case[name][row], atol=1e-12 * scale, rtol=0)
        state = step.before(state, force)
        force = forces(state.positions)
        state = step.after(state, force)
