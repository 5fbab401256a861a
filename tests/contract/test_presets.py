"""Inference checkpoints through fairchem's own calculator, in a process without our imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import calculator_worker as worker
import numpy as np
import pytest
import torch
from helpers import BACKBONE, CONSERVATIVE, ENERGY, FORCES, SIZES, TINY, TOY, V1, batch_of, flatten
from native_checkpoints import assemble, task

import eqv2_plugin
from eqv2_plugin.models.hydra import EquiformerV2

# They all wait for a fresh process, which compiles models.
pytestmark = pytest.mark.slow
SCALE, MEAN = 2.5, -0.7
OPTIONS = {"model": BACKBONE, **TINY, "num_layers": 1}
GRADIENTS = {**OPTIONS, "direct_forces": False, "regress_stress": True}
NAMED = {"oc20_energy": ENERGY, "oc20_forces": FORCES}
# Options, heads, and what names of tasks begin with.
KINDS = {
    "direct": ({**OPTIONS, "lmax": 1, "mmax": 1}, NAMED, "oc20_"),
    "direct_16_channels": ({**OPTIONS, "sphere_channels": 16}, NAMED, "oc20_"),
    "conservative": (GRADIENTS, {"head": CONSERVATIVE}, ""),
    "v1": (
        {"model": V1, **SIZES[V1], "num_layers": 1, "direct_forces": False, "regress_stress": True},
        {"head": CONSERVATIVE},
        "",
    ),
    "toy": ({"model": TOY, **SIZES[TOY]}, NAMED, "oc20_"),
}


def make_checkpoint(path: Path, kind: str) -> EquiformerV2:
    """Write an inference checkpoint; the model whose EMA weights it holds."""
    options, heads, prefix = KINDS[kind]
    tasks = [
        task("energy", "system", [1], MEAN, prefix=prefix),
        task("forces", "atom", [3], prefix=prefix),
    ]
    if heads == {"head": CONSERVATIVE}:
        tasks.append(task("stress", "system", [1, 9]))
    for one in tasks:  # fairchem's own
        target = "fairchem.core.modules.normalization.normalizer.Normalizer"
        one["normalizer"] |= {"_target_": target, "rmsd": SCALE}
    content, model = assemble(options, heads, tasks)
    torch.save(content, path)
    return model


# Rounding of float32, which the random weights of so few channels amplify.
ROUNDING = {"v1": 3e-5}
EAGER = ["direct", "conservative", "v1", "toy"]


@pytest.fixture(scope="module", params=EAGER)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[Path, EquiformerV2]:
    """Checkpoints, and the models whose EMA weights they hold."""
    folder = tmp_path_factory.mktemp("calculator")
    paths = [folder / f"{kind}.pt" for kind in KINDS]
    return {path: make_checkpoint(path, path.stem) for path in paths}


def run(models: dict[Path, EquiformerV2], **kinds: list[str]) -> dict[str, dict]:
    """{"SCENARIO KIND": results} of one process: `calculator_worker`."""
    folder = next(iter(models)).parent
    output = folder / "results.json"
    source = Path(eqv2_plugin.__file__).parents[1]
    search_path = [str(source), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }
    wanted = [
        f"{scenario.replace('_', '-')}:{folder / kind}.pt"
        for scenario, chosen in kinds.items()
        for kind in chosen
    ]
    command = [sys.executable, worker.__file__, str(output), *wanted]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text())


@pytest.fixture(scope="module")
def uncompiled(models) -> dict[str, dict]:
    return run(models, eager=EAGER, isolated=EAGER, default=["direct_16_channels"])


def deviation(ours: list[dict], reference: list[dict]) -> float:
    """Largest difference relative to the largest value of each property."""
    assert len(ours) == len(reference) > 0
    largest = 0.0
    for one, other in zip(ours, reference, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            value = np.array(value)
            difference = np.abs(np.array(one[name]) - value).max()
            largest = max(largest, difference / max(np.abs(value).max(), 1e-3))
    return largest


@pytest.fixture(scope="module")
def eager(uncompiled, kind) -> dict:
    return uncompiled[f"eager {kind}"]


def test_the_calculator_returns_the_denormalised_outputs_of_the_averaged_weights(
    eager, models, kind
):
    model = next(model for path, model in models.items() if path.stem == kind)
    wanted = []
    for atoms in worker.structures():
        outputs = model.double()(batch_of(atoms))
        prefix = KINDS[kind][2]
        if prefix:
            outputs = {name.removeprefix(prefix): value for name, value in outputs.items()}
        outputs = {name: value.detach().numpy() for name, value in flatten(outputs).items()}
        results = {
            "energy": float(SCALE * outputs["energy"][0] + MEAN),
            "forces": SCALE * outputs["forces"],
        }
        if KINDS[kind][1] == {"head": CONSERVATIVE} and atoms.pbc.all():
            stress = SCALE * outputs["stress"].reshape(3, 3)
            results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        wanted.append(results)
    assert deviation(eager["traineval"], wanted) < ROUNDING.get(kind, 1e-5)
    assert deviation(eager["float64"], wanted) < 1e-12


@pytest.mark.parametrize("settings", [name for name in worker.EAGER if name != "traineval"])
def test_every_inference_setting_gives_the_same_results(eager, settings, kind):
    assert deviation(eager[settings], eager["traineval"]) < ROUNDING.get(kind, 1e-5)


def test_results_have_the_same_bits_in_two_calls_and_after_loading_again(eager):
    assert eager["again_first"] == eager["again_second"] == eager["traineval"]


def test_two_relaxations_follow_the_same_path_to_the_last_bit(eager):
    assert eager["relaxed_first"] == eager["relaxed_second"]
    moved = np.abs(np.array(eager["relaxed_first"]) - eager["start"]).max()
    assert 1e-3 < moved < 2.0


def test_an_isolated_atom_has_a_finite_energy_and_no_forces(uncompiled, kind):
    for results in uncompiled[f"isolated {kind}"].values():
        energies = [result["energy"] for result in results]
        assert np.isfinite(energies).all()
        # Without neighbours a periodic box makes no difference.
        assert energies[0] == energies[1]
        assert not np.array([result["forces"] for result in results]).any()


@pytest.fixture(scope="module")
def compiled(models) -> dict[str, dict]:
    return run(models, high_precision=["direct"], default=["direct"])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["high-precision", "default"])
def test_compiled_presets_agree_and_other_sizes_do_not_compile_again(compiled, preset):
    """Needs a C++ compiler, as the presets themselves do."""
    found = compiled[f"{preset} direct"]
    print(f"{preset}: {found['seconds']:.0f} s to compile, {found['graphs'][1]} graphs")
    assert deviation(found["results"], found["eager"]) < 1e-5
    assert found["again"] == found["results"]
    assert found["frames"][0] == found["frames"][1] > 0
    assert found["graphs"][0] == found["graphs"][1] > 0
    settings, first, second = found["said"]
    assert "torch compiles this model at its first call" in first
    assert re.fullmatch(r"compiled in [1-9]\d* s; structures of other sizes do not .*", second)
    assert "compile=False" in settings


def test_presets_that_compile_use_our_kernels_on_a_cpu_instead(uncompiled):
    found = uncompiled["default direct_16_channels"]
    assert found["graphs"][1] == 0
    assert not any("compiled in" in line for line in found["said"])
    assert deviation(found["results"], found["eager"]) < 1e-5
    assert found["again"] == found["results"]
