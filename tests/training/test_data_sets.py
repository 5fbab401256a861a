"""Several data sets in one run: each with its own labels, tasks, references, errors and metrics."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.units.mlip_unit.mlip_unit import OutputSpec, Task, compute_loss
from helpers import CONSERVATIVE, DIRECT_HEADS, tiny_model

from eqv2_plugin.data.datasets import create_datasets, create_several_datasets
from eqv2_plugin.data.references import exact_references, normalizer, written_out_references
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.training.baselines import baselines
from eqv2_plugin.training.checks import CheckedCollater, check_frames, check_tasks_match_heads
from eqv2_plugin.training.data_sets import data_sets_of
from eqv2_plugin.training.evaluation import predict_splits

LABELS = {"dft": ("energy", "forces", "stress"), "hybrid": ("energy", "forces")}
REFERENCES = {"dft": {"Cu": -3.5, "Au": -2.5}, "hybrid": {"C": -1035.1, "O": -2043.9}}
SHAPES = {"energy": ("system", [1]), "forces": ("atom", [3]), "stress": ("system", [1, 9])}


def frames(name: str, count: int = 4) -> list[Atoms]:
    """Crystals of Cu and Au with stress, and molecules of C and O without."""
    rng = np.random.default_rng(len(name))
    found = []
    for i in range(count):
        if name == "dft":
            atoms = bulk("CuAu"[2 * (i % 2) :][:2], cubic=True)
        else:
            atoms = Atoms(["CO2", "CO"][i % 2], cell=[9, 9, 9])
            atoms.positions = np.arange(len(atoms))[:, None] * [1.2, 0.3, 0.1]
        atoms.rattle(0.1, rng=rng)
        values = {"energy": sum(REFERENCES[name][s] for s in atoms.symbols) + rng.normal()}
        values |= {"forces": rng.normal(size=(len(atoms), 3))}
        if name == "dft":
            values["stress"] = 0.01 * rng.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, **values)
        atoms.info["sid"] = f"{name}{i}"
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for name in LABELS:
        (folder / name).mkdir()
        write_ase_db(frames(name), folder / name)
    return folder


def data_set(root, name: str, own_names: bool = True, **reader) -> dict:
    called = f"{name}_{{}}" if own_names else "{}"
    mapping = {label: called.format(label) for label in LABELS[name]}
    return {
        "root": str(root),
        "splits": {"val": {"src": name}},
        "reader": {"format": "ase_db", "key_mapping": mapping, **reader},
        "how_to_get": "",
    }


def both(root, **reader):
    return create_several_datasets({name: data_set(root, name, **reader) for name in LABELS})


def tasks(names=tuple(LABELS), own_names: bool = True, exact: bool = False) -> list[Task]:
    """Of the labels that data sets have; energies of hybrid in float64."""
    made = []
    for name in names:
        for label in LABELS[name]:
            level, dim = SHAPES[label]
            references = written_out_references if name == "dft" else exact_references
            made.append(
                Task(
                    name=f"{name}_{label}" if own_names else label,
                    level=level,
                    property=label,
                    out_spec=OutputSpec(dim=dim, dtype="float64" if exact else "float32"),
                    normalizer=normalizer(0.0, 2.0 if name == "dft" else 0.5),
                    datasets=[name],
                    loss_fn=_loss(label),
                    element_references=references(REFERENCES[name]) if label == "energy" else None,
                )
            )
    return made


def _loss(label: str) -> torch.nn.Module:
    from fairchem.core.modules.loss import DDPMTLoss, L2NormLoss, MAELoss

    return DDPMTLoss(L2NormLoss() if label == "forces" else MAELoss())


def model(names=tuple(LABELS), own_names: bool = True, seed: int = 0):
    heads = {name: {**CONSERVATIVE, "dataset": name} for name in names}
    heads = heads if own_names else {names[0]: CONSERVATIVE}
    options = {"direct_forces": False, "regress_stress": True}
    options |= {"alpha_drop": 0.0, "drop_path_rate": 0.0}
    return tiny_model(heads, seed=seed, dtype=torch.float32, **options)


def collated(data, tasks, rows=None):
    rows = range(len(data)) if rows is None else rows
    return CheckedCollater(tasks)([data[i] for i in rows])


def own_rows(data, name: str) -> list[int]:
    return [i for i in range(len(data)) if data[i].dataset_name.startswith(name)]


@pytest.mark.parametrize("name", LABELS)
def test_a_batch_of_one_data_set_has_the_losses_of_a_run_of_its_own(root, name):
    data = both(root)
    several, made = model().train(), tasks()
    batch = collated(data, made, own_rows(data, name))
    losses = compute_loss(made, several(batch), batch)
    single = model([name], own_names=False).train()
    state = {
        key: value
        for key, value in several.state_dict().items()
        if key.startswith(("backbone.", f"output_heads.{name}."))
    }
    single.load_state_dict(state, strict=True)
    alone = create_datasets(name, repeats=1, **data_set(root, name, own_names=False))
    made = tasks([name], own_names=False)
    batch = collated(alone, made)
    expected = compute_loss(made, single(batch), batch)
    assert len(expected) == len(LABELS[name])
    for label, loss in expected.items():
        assert float(loss) > 0
        torch.testing.assert_close(losses.pop(f"{name}_{label}"), loss, rtol=1e-5, atol=1e-6)
    # Tasks of the other data set: no target, and no gradient, but part of the graph.
    assert all(float(loss) == 0 and loss.requires_grad for loss in losses.values())


def test_every_split_is_predicted_by_the_tasks_of_its_data_set(root):
    data, made, several = both(root), tasks(), model()
    loader = [collated(data, made, [0, 5, 2]), collated(data, made, [1, 4])]
    unit = SimpleNamespace(tasks=made, eval_unit=SimpleNamespace(model=several))
    found = predict_splits(unit, loader)
    assert sorted(found) == ["dft.val", "hybrid.val"]
    assert found["dft.val"].stress
    assert not found["hybrid.val"].stress
    batch = collated(data, made, [4, 5])
    energy = several(batch)["hybrid_energy"]["energy"].detach() * 0.5
    for row, sid in enumerate(batch.sid):
        numbers = batch.atomic_numbers[batch.batch == row].tolist()
        total = sum(REFERENCES["hybrid"][{6: "C", 8: "O"}[z]] for z in numbers)
        pair = found["hybrid.val"].energy[found["hybrid.val"].sids.index(sid)]
        assert pair[0, 1] == pytest.approx(float(energy[row]) + total, rel=1e-6)
    metrics = {name: split.metrics() for name, split in found.items()}
    assert metrics["dft.val"]["frames"] == 3
    assert "stress_mae_meV_per_A3" not in metrics["hybrid.val"]


def test_baselines_compare_within_a_data_set(root):
    made = tasks()
    found = baselines(both(root), both(root), made)
    assert sorted(found) == ["dft.val", "hybrid.val"]
    # Each frame is its own nearest one.
    assert found["hybrid.val"]["nearest_frame_energy_mae_meV"] == 0
    one = baselines(both(root), both(root), [t for t in made if t.name != "hybrid_forces"])
    assert sorted(one) == ["dft.val"]


def test_energies_of_one_data_set_may_be_in_float64(root):
    sets = {
        "dft": data_set(root, "dft"),
        "hybrid": data_set(root, "hybrid", energy_dtype="float64"),
    }
    data, made = create_several_datasets(sets), tasks(exact=True)
    batch = collated(data, made)
    by_sid = {a.info["sid"]: a.get_potential_energy() for n in LABELS for a in frames(n)}
    own = torch.isfinite(batch.hybrid_energy)
    assert own.tolist() == [sid.startswith("hybrid") for sid in batch.sid]
    wanted = [by_sid[sid] for sid in batch.sid if sid.startswith("hybrid")]
    np.testing.assert_array_equal(batch.hybrid_energy[own].numpy(), wanted)
    assert not torch.isfinite(batch.dft_energy[own]).any()


def test_frames_are_checked_by_the_labels_and_references_of_their_data_set(root):
    made = tasks()
    check_frames(both(root), made, 84, every=True)
    without = {name: data_set(root, name) for name in LABELS}
    del without["hybrid"]["reader"]["key_mapping"]["forces"]
    with pytest.raises(ValueError, match=r"hybrid\.val has no label 'hybrid_forces'"):
        check_frames(create_several_datasets(without), made, 84)
    made[0].element_references = written_out_references({"Cu": -3.5})
    with pytest.raises(ValueError, match=r"task 'dft_energy' have no value for Au"):
        check_frames(both(root), made, 84)
    with pytest.raises(ValueError, match=r"no value for Au"):
        collated(both(root), made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made[:3], r"no task is of the data set 'hybrid'"),
        (lambda made: made[:3] + made[4:], r"'hybrid' has tasks for forces: .* for the energy"),
    ],
    ids=["no task", "no energy"],
)
def test_a_data_set_needs_tasks(root, change, message):
    with pytest.raises(ValueError, match=message):
        check_frames(both(root), change(tasks()), 84)


def test_a_head_of_a_data_set_has_its_tasks_alone():
    made = tasks()
    several = model()
    check_tasks_match_heads(several, made)
    made[3].datasets = ["hybrid", "dft"]
    with pytest.raises(ValueError, match=r"task 'hybrid_energy' serves the data set hybrid alone"):
        check_tasks_match_heads(several, made)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.b", "letters, digits or _"), ("my_forces", "'forces'"), ("index1", "'index'")],
)
def test_a_name_that_fairchem_would_misread_is_refused(root, name, message):
    with pytest.raises(ValueError, match=message):
        create_several_datasets({name: data_set(root, "dft")})


def test_data_sets_may_share_heads(root):
    """fairchem's way: one task of several data sets."""
    made = [t for t in tasks(["hybrid"], own_names=False) if t.property != "stress"]
    for task in made:
        task.datasets, task.element_references = ["dft", "hybrid"], None
    plain = {name: data_set(root, name, own_names=False) for name in LABELS}
    data = create_several_datasets(plain)
    check_frames(data, made, 84)
    shared = tiny_model(DIRECT_HEADS, dtype=torch.float32)
    shared.pass_through_head_outputs = False
    batch = collated(data, made)  # of which one data set stores a stress
    losses = compute_loss(made, shared(batch), batch)
    assert all(float(loss) > 0 for loss in losses.values())
    assert data_sets_of(made) == ["dft", "hybrid"]
