"""Labels that contradict each other are refused by name, by every command and runner."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from ase.io import write as write_file
from registry import Rule
from rule_inputs import (
    ONE_SPLIT,
    call,
    done,
    frames,
    model,
    run_job,
    scores,
    training_data,
    with_info,
    write,
)

RULE = Rule("labels in two places")
# The last frame alone has another number in atoms.info; every refusal names it.
POISON = {
    "energy": {"energy": -0.45},
    "forces": {"forces": np.zeros((9, 3))},
    "stress": {"stress": np.eye(3)},
}
NAMED = r"(?s)(sid 2|2_2|2, frame 2|frame 5).*atoms\.info .*holds '(energy|forces|stress)'"
RECIPES = (
    *(f"configs/eqv2_{name}.yml" for name in ("oc20", "oc22", "md17", "finetune", "train")),
    "configs/eqv2_train_several.yml",
    *(f"configs/eqv2_dens_{name}.yml" for name in ("oc20", "oc22", "md17")),
    *(f"configs/equiformer_v1_{name}.yml" for name in ("md17", "dens_md17")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data sets "clean" and "equal", and one for each poison, with a trajectory file beside."""
    found = tmp_path_factory.mktemp("labels")
    clean = frames()
    kinds = {name: with_info(**info) for name, info in POISON.items()}
    equal = {"energy": clean[-1].calc.results["energy"], "forces": clean[-1].calc.results["forces"]}
    for name, atoms in {"clean": clean, "equal": with_info(**equal), **kinds}.items():
        write(found / name, atoms)
        write_file(found / f"{name}.traj", atoms)
    return found


@RULE.behaviour("eqv2 data convert")
def converts(folder: Path, kind: str) -> list[float]:
    from eqv2_plugin.data.inspection.frames import open_dataset

    out = folder / f"converted_{kind}"
    done("data", "convert", folder / f"{kind}.traj", "--out", out)
    data = open_dataset(out)
    assert not any(set(data.structures.stored(i).info) & set(POISON) for i in range(len(data)))
    return [data[i].energy for i in range(len(data))]


@RULE.behaviour("eqv2 data split")
def parts(folder: Path, kind: str) -> list[float]:
    out = folder / f"parts_{kind}"
    done("data", "split", folder / f"{kind}.traj", "--out", out)
    frames = [atoms for part in ("train", "val") for atoms in read(out / f"{part}.extxyz", ":")]
    return sorted(atoms.get_potential_energy() for atoms in frames)


@RULE.behaviour("eqv2 data check")
def checks(folder: Path, kind: str) -> None:
    status, printed = call(["data", "check", str(folder / kind)])
    line = next((one for one in printed.splitlines() if one.startswith("label sources")), "")
    if line:
        assert status == 1
        assert "contradict in 1 of 6 frames" in line
        raise ValueError(line)


@RULE.behaviour("eqv2 data fit-references")
def fits_references(folder: Path, kind: str) -> bytes:
    out = folder / f"references_{kind}.npz"
    done("data", "fit-references", folder / kind, "--out", out)
    return out.read_bytes()


@RULE.behaviour("eqv2 data fit-normalizer")
def fits_normalizer(folder: Path, kind: str) -> str:
    printed = done("data", "fit-normalizer", folder / kind)
    return "\n".join(line for line in printed.splitlines() if not line.startswith("#"))


@RULE.behaviour("eqv2 predict")
def predicts_a_table(folder: Path, kind: str) -> str:
    out = folder / f"table_{kind}.csv"
    done("predict", model(folder), folder / f"{kind}.traj", "--out", out)
    return out.read_text()


@RULE.behaviour(*RECIPES)
def trains_on(folder: Path, kind: str, name: str) -> list[float]:
    return sorted(float(frame.energy) for frame in training_data(name, folder / kind))


@RULE.behaviour("configs/predict_s2ef_oc20.yml", "configs/predict_s2ef_oc22.yml")
def predicts(folder: Path, kind: str, name: str) -> dict:
    return scores(run_job(name, folder / kind, "num_workers=0", "task_name=null"))


@RULE.behaviour("configs/relax_is2re_oc20.yml")
def relaxes(folder: Path, kind: str, name: str) -> dict:
    return scores(run_job(name, folder / kind, "settings.steps=1", "pictures=0", *ONE_SPLIT))


RULE.does_not_concern(
    "reads no structures",
    "eqv2 info", "eqv2 convert", "eqv2 export", "eqv2 adsorbml score", "eqv2 config",
)  # fmt: skip
RULE.does_not_concern(
    "reads structures, and no labels of them",
    "eqv2 doctor", "eqv2 submission check", "eqv2 adsorbml input", "eqv2 adsorbml single-points",
    "configs/adsorbml.yml", "configs/adsorbml_batched.yml", "configs/md17_simulation.yml",
    "configs/relax.yml",
)  # fmt: skip
RULE.does_not_concern(
    "the download holds its labels in columns and a text file, and has no atoms.info",
    "eqv2 data oc20",
)


def act(name: str, folder: Path, kind: str):
    behaviour = RULE.behaviours[name]
    return behaviour(folder, kind) if name.startswith("eqv2") else behaviour(folder, kind, name)


def test_every_command_and_config_has_a_behaviour_or_a_reason():
    RULE.check_complete()


@pytest.mark.parametrize("name", sorted(RULE.behaviours))
def test_a_contradicting_label_is_refused_by_name(name, folder):
    with pytest.raises(Exception, match=NAMED) as refusal:
        act(name, folder, "energy")
    assert "-0.45" in str(refusal.value)
    assert "damaged" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["forces", "stress"])
@pytest.mark.parametrize("name", ["eqv2 data convert", "eqv2 data check", RECIPES[0]])
def test_every_label_is_compared(name, kind, folder):
    with pytest.raises(Exception, match=NAMED) as refusal:
        act(name, folder, kind)
    assert re.search(rf"holds '{kind}'", str(refusal.value))


@pytest.mark.parametrize("name", sorted(RULE.behaviours))
def test_an_equal_label_in_info_changes_nothing(name, folder):
    assert act(name, folder, "equal") == act(name, folder, "clean")
