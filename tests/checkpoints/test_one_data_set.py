"""What is taken out of a model of several data sets predicts as it did, and can be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from finetuning_inputs import REFERENCES, write_start
from helpers import CONSERVATIVE, ENERGY, FORCES

from eqv2_plugin.checkpoints.door import export_native
from eqv2_plugin.cli import main
from eqv2_plugin.inference.predictor import BatchPredictor, choose_task, open_unit
from eqv2_plugin.training.finetuning import starting_model
from eqv2_plugin.training.start import read_start, start_normalizer, start_references

SETS = ("pbe", "hybrid")
KINDS = {
    "conservative": (
        {name: {**CONSERVATIVE, "dataset": name} for name in SETS},
        {"direct_forces": False, "regress_stress": True},
    ),
    "direct": (
        {f"{name}_{what}": head for name in SETS
         for what, head in (("energy", ENERGY), ("forces", FORCES))},
        {},
    ),
}  # fmt: skip


def write_several(path: Path, kind: str) -> None:
    """A checkpoint whose data sets have scales and references of their own."""
    heads, options = KINDS[kind]
    write_start(path, heads, **options)
    content = torch.load(path, weights_only=False)  # our own, written a moment ago
    tasks = []
    for scale, name in enumerate(SETS, start=1):
        for task in content.tasks_config:
            values = {symbol: scale * energy for symbol, energy in REFERENCES["values"].items()}
            references = {**REFERENCES, "values": values}
            normalizer = {**task["normalizer"], "mean": 0.0, "rmsd": float(scale)}
            tasks.append({
                **task, "name": f"{name}_{task['name']}", "datasets": [name],
                "normalizer": normalizer,
                "element_references": references if task["name"] == "energy" else None,
            })  # fmt: skip
    content.tasks_config = tasks
    torch.save(content, path)


@pytest.fixture(scope="module", params=KINDS)
def files(request, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of both, and what was taken out of it."""
    folder = tmp_path_factory.mktemp(request.param)
    path, out = folder / "several.pt", folder / "hybrid.safetensors"
    write_several(path, request.param)
    assert main(["export", str(path), str(out), "--task", "hybrid"]) == 0
    return path, out


def predictor(path: Path, task: str | None = None) -> BatchPredictor:
    unit = open_unit(path, "cpu", torch.float64)
    return BatchPredictor(unit, choose_task(unit, task))


def test_predictions_are_those_of_the_whole_model(files):
    structures = [Atoms("CuCO", np.eye(3) * 1.7), Atoms("CO", [[0, 0, 0], [0, 0, 1.3]])]
    whole, part = predictor(files[0], "hybrid")(structures), predictor(files[1])(structures)
    other = predictor(files[0], "pbe")(structures)
    for one, two, three in zip(whole, part, other, strict=True):
        assert one.energy == pytest.approx(two.energy, rel=1e-12)
        np.testing.assert_allclose(one.forces, two.forces, rtol=1e-10, atol=1e-12)
        assert abs(one.energy - three.energy) > 1e-3


def test_training_starts_from_it(files):
    path, out = files
    with pytest.raises(ValueError, match=r"several data sets \(pbe, hybrid\).*eqv2 export"):
        start_normalizer("checkpoint", str(path), "energy", "rmsd")
    assert start_normalizer("checkpoint", str(out), "energy", "rmsd") == 2.0
    written = start_references("checkpoint", str(out))
    assert written["values"] == pytest.approx({k: 2 * v for k, v in REFERENCES["values"].items()})
    # As eqv2_train.yml asks for them.
    direct = "energy" in read_start(out).model["heads"]
    heads = {"energy": ENERGY, "forces": FORCES} if direct else {"gradient": CONSERVATIVE}
    model = starting_model(str(out), {}, heads)
    averaged = torch.load(path, weights_only=False).ema_state_dict
    for name, value in model.state_dict().items():
        for now in heads:
            before = f"output_heads.hybrid_{now}." if direct else "output_heads.hybrid."
            name = name.replace(f"output_heads.{now}.", before)
        assert torch.equal(value, averaged[f"module.{name}"])


def test_a_data_set_that_is_not_there_is_named(files, tmp_path):
    with pytest.raises(ValueError, match=r"no data set 'hybrd'; it has hybrid, pbe; did you mean"):
        export_native(files[0], tmp_path / "new.safetensors", dataset="hybrd")
    assert not list(tmp_path.iterdir())
