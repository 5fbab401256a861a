"""The Hessian that fairchem asks for: the derivative of the forces, or a refusal in words."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    BACKBONES,
    GATE,
    batch_of,
    conservative_model,
    crystal,
    hessian_by_differences,
    molecule,
    predict,
    relative_error,
)


@pytest.mark.parametrize("stress", [False, True])
@pytest.mark.parametrize("kind", ["gate", "v1", "toy"])
@pytest.mark.parametrize("make", [lambda: molecule()[:4], crystal])
def test_it_is_the_derivative_of_the_forces(make, kind, stress):
    model = conservative_model(stress=stress, **BACKBONES[kind])
    model.backbone.regress_config.hessian = True
    atoms = make()
    found = model(batch_of(atoms))["hessian"]["hessian"].detach().numpy()
    count = 3 * len(atoms)
    assert found.shape == (1, count, count)
    model.backbone.regress_config.hessian = False
    wanted = hessian_by_differences(lambda moved: predict(model, moved)["forces"].numpy(), atoms)
    assert np.abs(found[0] - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert np.abs(found[0] - found[0].T).max() < 1e-9 * np.abs(wanted).max()


def test_energy_and_forces_beside_it_are_the_same():
    model, atoms = conservative_model(**GATE), crystal()
    before = model(batch_of(atoms))
    model.backbone.regress_config.hessian = True
    after = model(batch_of(atoms))
    for name in ("energy", "forces", "stress"):
        assert relative_error(after[name][name], before[name][name]) < 1e-12


def test_a_batch_is_refused():
    model = conservative_model(**GATE)
    model.backbone.regress_config.hessian = True
    with pytest.raises(ValueError, match="one structure at a time, but the batch has 2"):
        model(batch_of(crystal(), molecule()))
