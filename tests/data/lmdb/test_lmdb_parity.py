"""What comes out equals what fairchem-core 1.10 read from the same files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fairchem.core.common.registry import registry
from lmdb_inputs import EMBEDDED

from eqv2_plugin.data.lmdb import lmdb_frames
from eqv2_plugin.data.lmdb.records import ALIASES, COUNTS, ENERGIES, VECTORS

FORMATS = {"LmdbDataset": "lmdb", "OC22LmdbDataset": "oc22_lmdb"}
INTENDED = "expected_oc22_linref_intended.npz"
LABELS = (*ENERGIES, *VECTORS)
PATHS = ("src", "lin_ref", "oc20_ref")


def folders() -> list[Path]:
    more = os.environ.get("EQV2_FIXTURES")
    return [EMBEDDED, *([Path(more) / "data_oc"] if more else [])]


def cases() -> list:
    """(folder, case, its entry in datasets.json) of everything fairchem-core 1 could read."""
    return [
        pytest.param(folder, name, spec, id=f"{'more-' if number else ''}{name}")
        for number, folder in enumerate(folders())
        for name, spec in json.loads((folder / "datasets.json").read_text()).items()
        if "error" not in spec
    ]


def whole_cases() -> list:
    """Those that leave out no record, and leave energies as they are stored."""
    changing = {"shard", "data2train", "oc20_ref"}
    return [case for case in cases() if not changing & set(case.values[2]["config"])]


def opened(folder: Path, spec: dict):
    config = {k: str(folder / v) if k in PATHS else v for k, v in spec["config"].items()}
    return registry.get_dataset_class(FORMATS[spec["cls"]])(config)


def expected_records(folder: Path, name: str, spec: dict) -> list[dict]:
    """Per record {attribute: value}; what fairchem-core 1 documents but did not do is done here."""
    stored = np.load(folder / f"expected_{name}.npz")
    rows: list[dict] = [{} for _ in range(spec["n"])]
    for key in stored.files:
        row, attribute = key.split("/")
        rows[int(row)][attribute] = stored[key]
    if spec["config"].get("lin_ref"):
        coefficients = np.load(folder / spec["config"]["lin_ref"])["coeff"]
        for row in rows:
            for energy in {"y", *ENERGIES} & set(row):
                row[energy] = row[energy] - coefficients[row["atomic_numbers"].astype(int)].sum()
    return rows


def single(value) -> float:
    return float(np.asarray(value).reshape(-1)[0])


@pytest.mark.parametrize(("folder", "name", "spec"), cases())
def test_a_data_set_reads_as_in_fairchem_1(folder, name, spec):
    dataset = opened(folder, spec)
    rows = expected_records(folder, name, spec)
    if spec["config"].get("data2train"):  # fairchem-core 1 returned the first ones instead
        all_rows = expected_records(folder, "oc22_s2ef", {"n": 15, "config": {}})
        intended = np.load(folder / INTENDED)["adslab_indices"]
        rows = [all_rows[i] for i in intended]
    assert len(dataset) == len(rows) == spec["n"]
    for index, row in enumerate(rows):
        check_row(dataset, index, row)


def check_row(dataset, index: int, row: dict) -> None:
    record, data = dataset.record(index), dataset[index]
    assert data.natoms.tolist() == [int(row["natoms"])]
    frame = f"-frame-{int(row['fid'])}" if "fid" in row else ""
    assert data.sid == [f"{int(row['sid'])}{frame}"]
    for name, stored in {"pos": "pos", "cell": "cell"}.items():
        assert getattr(data, name).dtype == torch.float32
        np.testing.assert_array_equal(getattr(data, name).numpy(), row[stored])
    for name in ("atomic_numbers", "tags", "fixed"):
        assert getattr(data, name).dtype == torch.int64
        np.testing.assert_array_equal(getattr(data, name).numpy(), row[name])
    assert data.pbc.tolist() == [[True] * 3]
    row = {ALIASES.get(name, name): value for name, value in row.items()}
    assert {n for n in LABELS if n in data} == {n for n in LABELS if n in row}
    for name in row.keys() & {*VECTORS}:
        np.testing.assert_array_equal(data[name].numpy(), row[name])
    for name in row.keys() & {*ENERGIES}:
        # float64 in the record, one cast in what comes out
        energy = single(row[name])
        assert record.energies[stored_name(dataset.config, name)] == pytest.approx(energy, abs=1e-9)
        assert data[name].tolist() == [pytest.approx(np.float32(energy), rel=1e-7)]
    for name in row.keys() & {*COUNTS}:
        assert data[name].tolist() == [int(row[name])]
    if "id" in row and dataset.shards.paths != [dataset.config["src"]] and not selected(dataset):
        file, key = dataset.shards.locate(int(dataset.rows[index]))
        assert f"{file}_{key}" == str(row["id"])


def selected(dataset) -> bool:
    return "data2train" in dataset.config


def stored_name(config: dict, name: str) -> str:
    """What the label ``name`` of the output is called in the records."""
    mapping = {new: ALIASES.get(old, old) for old, new in config.get("key_mapping", {}).items()}
    return mapping.get(name, name)


@pytest.mark.parametrize(("folder", "name", "spec"), whole_cases())
def test_frames_are_the_stored_ones(folder, name, spec):
    rows = expected_records(folder, name, {**spec, "config": {}})
    frames = list(lmdb_frames(folder / spec["config"]["src"]))
    for atoms, row in zip(frames, rows, strict=True):
        np.testing.assert_array_equal(atoms.positions.astype(np.float32), row["pos"])
        np.testing.assert_array_equal(np.array(atoms.cell).astype(np.float32), row["cell"][0])
        np.testing.assert_array_equal(atoms.numbers, row["atomic_numbers"])
        np.testing.assert_array_equal(atoms.get_tags(), row["tags"])
        fixed = [i for constraint in atoms.constraints for i in constraint.index]
        np.testing.assert_array_equal(fixed, np.flatnonzero(row["fixed"]))
        assert atoms.pbc.all()
        row = {ALIASES.get(k, k): v for k, v in row.items()}
        row = {stored_name(spec["config"], name): value for name, value in row.items()}
        results = atoms.calc.results if atoms.calc else {}
        assert results.keys() == row.keys() & {"energy", "forces"}
        found = {**atoms.info, **results}
        assert found.pop("sid") == str(row["sid"])
        assert found.keys() == row.keys() & {"fid", *LABELS, *COUNTS}
        for name, value in found.items():
            if name in VECTORS:
                np.testing.assert_array_equal(value.astype(np.float32), row[name])
            else:
                assert value == pytest.approx(single(row[name]), abs=1e-9)


@pytest.mark.parametrize("folder", [f for f in folders() if (f / INTENDED).exists()])
def test_the_linear_reference_is_subtracted_as_documented(folder):
    wanted = np.load(folder / INTENDED)
    spec = json.loads((folder / "datasets.json").read_text())["oc22_s2ef_linref"]
    energies = [opened(folder, spec).record(i).energies["energy"] for i in range(15)]
    np.testing.assert_allclose(energies, wanted["energy_minus_linref"], rtol=0, atol=1e-9)
