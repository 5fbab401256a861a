"""Which energy, and of which elements: every command and config tells, compares or refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import hydra
import native_checkpoints as inputs
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write as write_file
from fairchem.core import FAIRChemCalculator
from fairchem.core.datasets.atomic_data import AtomicData
from registry import Rule, configs
from rule_inputs import call, compose, done, frames, relax_own, run_in, run_job, start_of, write

from eqv2_plugin.checkpoints.door import read_inference_checkpoint
from eqv2_plugin.checkpoints.native import read_native

V1 = Path(__file__).parents[1] / "fixtures" / "ckpt_hydra_dens_mptrj_best" / "checkpoint.pt"
RECIPES = tuple(sorted(n for n in configs() if n.startswith(("configs/eqv2_", "configs/equif"))))
PREDICTIONS = ("configs/predict_s2ef_oc20.yml", "configs/predict_s2ef_oc22.yml")
RELAXATION, BATCHED = "configs/relax_is2re_oc20.yml", "configs/adsorbml_batched.yml"
SEVERAL = "configs/eqv2_train_several.yml"
SIMULATION, OWN_RELAXATION = "configs/md17_simulation.yml", "configs/relax.yml"
KIND = Rule("which energy a model predicts")
ELEMENTS = Rule("elements without a reference")
# Of the data that each recipe trains on.
OF_DATA = {
    "oc20": "adsorption",
    "oc22": "total_linear",
    "md17": "linear_residual",
    "finetune": "adsorption",  # the embedded copper alloys
    "train": "unknown",  # nobody has said
    "several": "unknown",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Frames of copper and oxygen as ``data`` and ``data.traj``; a model of total energies as
    ``tiny.pt``; ``nocopper.pt`` with a reference for oxygen alone, as fairchem-core 1 kept it
    (0.0 elsewhere), and the same as a fit (``oxygen.npz``)."""
    found = tmp_path_factory.mktemp("energies")
    write(found / "data", frames())
    write_file(found / "data.traj", frames())
    made = inputs.checkpoint("direct")
    made.model_config["facts"] = {"energy_kind": "total"}
    torch.save(made, found / "tiny.pt")
    references = inputs.number_references()
    values = [0.0] * 100
    values[8] = -5.0
    references["element_references"]["data"] = values
    inputs.write_checkpoint(found / "nocopper.pt", "direct", references)
    coefficients = np.full(119, np.nan)
    coefficients[8] = -5.0
    np.savez(found / "oxygen.npz", coeff=coefficients, atoms=np.zeros(119))
    return found


def metrics(results: Path) -> dict:
    return json.loads((results / "metrics.json").read_text())["energy"]


def adsorbml_input(folder: Path) -> Path:
    from adsorbml_inputs import write_slab_input

    path = folder / "input.pkl"
    return path if path.exists() else write_slab_input(path, ["*O"], "Cu")


# --- which energy


@KIND.behaviour("eqv2 info")
def info_says_it(folder: Path, name: str) -> None:
    assert "energy kind: total\n" in done("info", folder / "tiny.pt")


@KIND.behaviour("eqv2 convert")
def conversion_settles_it(folder: Path, name: str) -> None:
    out = folder / "kind.pt"
    assert "energy kind: total_linear" in done("convert", V1, out)
    assert read_inference_checkpoint(out).model_config["facts"]["energy_kind"] == "total_linear"


@KIND.behaviour("eqv2 export")
def export_keeps_it(folder: Path, name: str) -> None:
    done("export", folder / "tiny.pt", folder / "kind.safetensors")
    header = read_native(folder / "kind.safetensors").header
    assert header.model["facts"]["energy_kind"] == "total"


@KIND.behaviour("eqv2 predict")
def tables_say_it(folder: Path, name: str) -> None:
    out = folder / "kind.csv"
    assert "energies of this model: DFT total energy" in done(
        "predict", folder / "tiny.pt", folder / "data.traj", "--out", out
    )


@KIND.behaviour(*RECIPES)
def training_writes_that_of_its_data(folder: Path, name: str) -> None:
    given = start_of(name, folder, folder / "data.traj")
    model = compose(name, *given).runner.train_eval_unit.model
    assert model.facts.energy_kind == OF_DATA[Path(name).stem.rsplit("_", 1)[-1]]


@KIND.behaviour(*PREDICTIONS)
def predictions_compare_it(folder: Path, name: str) -> None:
    results = run_job(name, folder / "data", "num_workers=0", "task_name=null",
                      "test_data.energy_kind=adsorption")  # fmt: skip
    found = metrics(results)
    assert (found["kind"], found["data_kind"]) == ("total", "adsorption")
    assert any(
        "holds adsorption energies, but the model predicts total" in n for n in found["notes"]
    )


@KIND.behaviour(RELAXATION)
def relaxations_compare_it(folder: Path, name: str) -> None:
    found = metrics(run_job(name, folder / "data", "settings.steps=1", "pictures=0"))
    assert found["kind"] == "total"
    assert any("IS2RE asks for adsorption energies" in note for note in found["notes"])


@KIND.behaviour(OWN_RELAXATION)
def relaxations_of_own_structures_say_it(folder: Path, name: str) -> None:
    found = metrics(relax_own(name, folder / "data", "settings.steps=1"))
    assert found["kind"] == "total"
    assert not any("IS2RE" in note for note in found["notes"])


@KIND.behaviour(BATCHED)
def adsorbml_refuses_another(folder: Path, name: str) -> None:
    data = adsorbml_input(folder)
    config = compose(name, f"checkpoint={folder / 'tiny.pt'}", f"input={data}")
    with pytest.raises(ValueError, match=r"does not fit the checkpoint.*DFT total energy"):
        run_in(config, folder / "kind")


@KIND.behaviour("configs/adsorbml.yml")
def fairchems_runner_refuses_another(folder: Path, name: str) -> None:
    data = adsorbml_input(folder)
    config = compose(name, f"checkpoint={folder / 'tiny.pt'}", f"input={data}")
    with pytest.raises(Exception, match=r"does not fit the checkpoint.*DFT total energy"):
        hydra.utils.instantiate(config.runner)


KIND.does_not_concern(
    "opens no model and trains none",
    "eqv2 data convert", "eqv2 data check", "eqv2 data fit-references", "eqv2 data fit-normalizer",
    "eqv2 data oc20", "eqv2 data split", "eqv2 submission check", "eqv2 adsorbml input",
    "eqv2 adsorbml score", "eqv2 adsorbml single-points", "eqv2 config",
)  # fmt: skip
KIND.does_not_concern("compares a model with itself alone", "eqv2 doctor")
KIND.does_not_concern("compares no energies with labels", SIMULATION)

# --- elements without a reference

LACKING = r"(no element reference for|have no value for) (Cu|O, Cu)"


@ELEMENTS.behaviour("eqv2 info")
def info_lists_those_with_one(folder: Path, name: str) -> None:
    assert "element references of 1 elements (O)" in done("info", folder / "nocopper.pt")


@ELEMENTS.behaviour("eqv2 convert")
def conversion_writes_nan(folder: Path, name: str) -> None:
    done("convert", V1, folder / "elements.pt")
    (task,) = [t for t in read_inference_checkpoint(folder / "elements.pt").tasks_config
               if t["name"] == "energy"]  # fmt: skip
    values = torch.tensor(task["element_references"]["element_references"]["data"])
    assert int(torch.isfinite(values[1:]).sum()) == 7
    assert not bool((values[1:] == 0).any())


@ELEMENTS.behaviour("eqv2 export")
def export_writes_nan(folder: Path, name: str) -> None:
    done("export", folder / "nocopper.pt", folder / "elements.safetensors")
    values = read_native(folder / "elements.safetensors").references["energy"]
    assert torch.isfinite(values[1:]).nonzero().flatten().tolist() == [7]


@ELEMENTS.behaviour("eqv2 data fit-references")
def fits_write_nan(folder: Path, name: str) -> None:
    done("data", "fit-references", folder / "data", "--out", folder / "fit.npz")
    with np.load(folder / "fit.npz") as fit:
        assert np.flatnonzero(np.isfinite(fit["coeff"])).tolist() == [8, 29]


@ELEMENTS.behaviour("eqv2 data fit-normalizer")
def normalizer_refuses(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=LACKING):
        done("data", "fit-normalizer", folder / "data", "--references", folder / "oxygen.npz")


@ELEMENTS.behaviour("eqv2 doctor")
def doctor_refuses(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="holds Cu, which the model does not know"):
        done("doctor", folder / "nocopper.pt", "--structures", folder / "data.traj")


@ELEMENTS.behaviour("eqv2 predict")
def tables_say_why_a_row_is_empty(folder: Path, name: str) -> None:
    out = folder / "elements.csv"
    status, printed = call(
        ["predict", str(folder / "nocopper.pt"), str(folder / "data.traj"), "--out", str(out)]
    )
    assert status == 1
    assert "6 failed" in printed
    assert re.search(LACKING, out.read_text())


@ELEMENTS.behaviour(SEVERAL)
def each_data_set_refuses(folder: Path, name: str) -> None:
    given = f"train: '{folder / 'data.traj'}'"
    lacking = f"{given}, references: '{folder / 'oxygen.npz'}'"
    config = compose(
        name, f"sets={{first: {{{given}}}, other: {{{lacking}}}}}", f"run_dir={folder / 'sets'}"
    )
    with pytest.raises(Exception, match=r"data set other: .* no value for Cu"):
        _ = config.own.data


@ELEMENTS.behaviour(*(set(RECIPES) - {SEVERAL}))
def training_refuses(folder: Path, name: str) -> None:
    maker = "eqv2_plugin.data.references.element_references"
    fit = f"energy_element_references={{_target_: {maker}, name: {folder / 'oxygen.npz'}}}"
    config = compose(name, *start_of(name, folder, folder / "data.traj"), fit)
    for loader in (config.runner.train_dataloader, config.runner.eval_dataloader):
        collate = hydra.utils.instantiate(loader.collate_fn)
        frame = AtomicData.from_ase(Atoms("CuO", [[0, 0, 0], [0, 0, 1.8]]), sid="mine")
        with pytest.raises(ValueError, match=f"{LACKING}, which frame mine holds"):
            collate([frame])


@ELEMENTS.behaviour(*PREDICTIONS)
def predictions_refuse(folder: Path, name: str) -> None:
    other = folder / "lacking"
    prepare(folder, other)
    with pytest.raises(ValueError, match=rf"\d+_\d+: .*{LACKING}"):
        run_job(name, other / "data", "num_workers=0", "task_name=null")


@ELEMENTS.behaviour(RELAXATION)
def relaxations_fail_alone(folder: Path, name: str) -> None:
    other = folder / "lacking"
    prepare(folder, other)
    with pytest.raises(RuntimeError, match=LACKING):
        run_job(name, other / "data", "settings.steps=1", "pictures=0")


@ELEMENTS.behaviour(OWN_RELAXATION)
def own_relaxations_fail_alone(folder: Path, name: str) -> None:
    other = folder / "lacking"
    prepare(folder, other)
    with pytest.raises(RuntimeError, match=LACKING):
        relax_own(name, other / "data", "settings.steps=1")


@ELEMENTS.behaviour(BATCHED)
def adsorbml_says_why_nothing_is_ranked(folder: Path, name: str) -> None:
    data = adsorbml_input(folder)
    config = compose(
        name, f"checkpoint={folder / 'nocopper.pt'}", f"input={data}",
        "placements.random_site_heuristic_placement=1",
    )  # fmt: skip
    from eqv2_plugin.tasks.adsorbml.results import load_results

    (result,) = load_results(run_in(config, folder / "elements"))
    assert not result.ranked()
    assert all("no element reference for Cu" in c.error for c in result.candidates)


@ELEMENTS.behaviour("configs/adsorbml.yml")
def fairchems_calculator_refuses(folder: Path, name: str) -> None:
    atoms = frames()[0]
    atoms.calc = FAIRChemCalculator(unit_of(folder, "nocopper.pt"))
    with pytest.raises(ValueError, match=LACKING):
        atoms.get_potential_energy()


@ELEMENTS.behaviour(SIMULATION)
def simulations_refuse(folder: Path, name: str) -> None:
    config = compose(name, f"checkpoint={folder / 'nocopper.pt'}")
    with pytest.raises(ValueError, match=r"no element reference for (H|C)"):
        run_in(config, folder / "simulated")


ELEMENTS.does_not_concern(
    "neither predicts nor fits",
    "eqv2 data convert", "eqv2 data check", "eqv2 data oc20", "eqv2 data split",
    "eqv2 submission check", "eqv2 adsorbml input", "eqv2 adsorbml score",
    "eqv2 adsorbml single-points", "eqv2 config",
)  # fmt: skip


def prepare(folder: Path, other: Path) -> None:
    """The same data beside the model without copper, where `run_job` looks for it."""
    if not other.exists():
        other.mkdir()
        (other / "data").symlink_to(folder / "data")
        (other / "tiny.pt").symlink_to(folder / "nocopper.pt")


def unit_of(folder: Path, model: str):
    """The predict unit that fairchem's AdsorbML runner gets."""
    config = compose("configs/adsorbml.yml", f"checkpoint={folder / model}", "input=nowhere")
    return hydra.utils.instantiate(config.runner.calculator.predict_unit)


@pytest.mark.parametrize("rule", [KIND, ELEMENTS], ids=lambda rule: rule.name)
def test_every_command_and_config_has_a_behaviour_or_a_reason(rule):
    rule.check_complete()


@pytest.mark.parametrize("name", sorted(KIND.behaviours))
def test_which_energy_is_told_compared_or_refused(name, folder):
    KIND.behaviours[name](folder, name)


@pytest.mark.parametrize("name", sorted(ELEMENTS.behaviours))
def test_an_element_without_reference_is_refused_by_name(name, folder):
    ELEMENTS.behaviours[name](folder, name)
