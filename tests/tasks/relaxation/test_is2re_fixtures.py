"""IS2RE data of fairchem-core 1 start and end where it says they do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.tasks.relaxation.initial_structures import open_initial_structures
from eqv2_plugin.tasks.relaxation.metrics import free_atoms

FIXTURES = Path(os.environ.get("EQV2_FIXTURES", Path(__file__).parents[2] / "fixtures"))
CASES = [
    name for name in ("is2re", "is2re_folder") if (FIXTURES / "data_oc" / name).exists()
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_lmdb_records_are_initial_structures_with_targets(name):
    folder = FIXTURES / "data_oc"
    expected = read_npz(folder / f"expected_{name}.npz")
    numbers = sorted({key.split("/")[0] for key in expected})
    config = {"format": "lmdb", "src": str(folder / name)}
    initial = open_initial_structures({"id": config})["id"]
    assert len(initial.sids) >= len(numbers) > 0
    for number in numbers:
        record = {k.split("/")[1]: v for k, v in expected.items() if k.startswith(f"{number}/")}
        sid = str(record["sid"])
        atoms, target = initial.initial(sid), initial.target(sid)
        np.testing.assert_allclose(atoms.positions, record["pos"], atol=1e-5)
        np.testing.assert_array_equal(free_atoms(atoms), record["fixed"] == 0)
        assert target.energy == pytest.approx(
            float(record["y_relaxed" if "y_relaxed" in record else "energy"])
        )
        np.testing.assert_allclose(target.positions, record["pos_relaxed"], atol=1e-5)
