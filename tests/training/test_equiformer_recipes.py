"""The recipes of Equiformer for MD17: numbers, data, and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.units import kcal, mol
from helpers import V1, tiny_model
from launches import launch
from md17_files import KCAL, write_file
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from recipes import CONFIGS, composed
from training_runs import history, weights

import eqv2_plugin
from eqv2_plugin import cli
from eqv2_plugin.data import md17

PLAIN, DENS = "equiformer_v1_md17", "equiformer_v1_dens_md17"
MOLECULES = Path(eqv2_plugin.__file__).parent / "configs" / "molecule"
NAMES = ("aspirin", "benzene", "ethanol", "malonaldehyde",
         "naphthalene", "salicylic", "toluene", "uracil")  # fmt: skip
# The authors' scripts and Table 9 of the DeNS paper, in the order of NAMES:
# epochs, batch size, learning rate, lambda_E, lambda_F.
L2_RATES, L3_RATES = ([5e-4, 1e-4, *6 * [5e-4]], [2e-4, 1e-4, *6 * [2e-4]])
TABLE_9 = [1, 1, 1, 1, 2, 1, 1, 1], [80, 80, 80, 100, 20, 80, 80, 20]
TABLES = {
    (PLAIN, 2): (8 * [1500], 8 * [8], L2_RATES, 8 * [1], TABLE_9[1]),
    (PLAIN, 3): (8 * [2000], 8 * [5], L3_RATES, 8 * [1], [100, 80, 80, *5 * [100]]),
    (DENS, 2): (8 * [1500], 8 * [8], L2_RATES, *TABLE_9),
    (DENS, 3): ([2000, 1500, *6 * [2000]], [5, 8, *6 * [5]], L3_RATES, *TABLE_9),
}


@pytest.fixture(scope="module", params=[PLAIN, DENS])
def recipe(request):
    """Its name, and the config with the published scale.

    Of the original files, which are not at hand, only the scale of energies is read.
    """
    return request.param, composed(request.param, "scale=published", "data.energy_std=0.2").copy()


@pytest.mark.parametrize("lmax", [2, 3])
def test_the_published_scale_has_the_published_numbers(recipe, lmax):
    file, whole = recipe
    whole.lmax = lmax
    for number, name in enumerate(NAMES):
        whole.molecule = OmegaConf.load(MOLECULES / f"{name}.yaml")
        unit, loader = whole.runner.train_eval_unit, whole.runner.train_dataloader
        found = (
            whole.runner.max_epochs,
            loader.batch_sampler_fn.batch_size,
            unit.optimizer_fn.lr,
            *(task.loss_fn.coefficient for task in unit.tasks[:2]),
        )
        assert found == tuple(column[number] for column in TABLES[file, lmax])
        assert loader.dataset.splits.train.src == f"md17_{name}.npz"
        chosen = whole.runner.callbacks[2]
        assert chosen["_target_"].endswith("ChooseByValidation")
        assert [*chosen.weights.values()] == [*found[3:]]
    schedule = unit.cosine_lr_scheduler_fn
    assert (schedule.warmup_epochs, schedule.least, schedule.epochs) == (10, 1e-6, found[0])
    assert (unit.clip_grad_norm, unit.ema_decay, unit.optimizer_fn.weight_decay) == (None, 0, 1e-6)
    assert [t.normalizer.rmsd for t in unit.tasks[:2]] == [0.2, 0.2]
    if file == DENS:
        decay, norm = unit.denoising.coefficient_decay, unit.tasks[2].loss_fn.normalization
        assert (decay, norm) == ("linear_per_epoch", "per_task")
        assert unit.model.backbone.force_scale == pytest.approx(kcal / mol)
    assert set(unit.model.backbone) <= {
        "model", "irreps_node", "irreps_head", "irreps_ffn", "irreps_feature", "direct_forces",
        "regress_forces", "force_encoding", "force_scale", "sigma_encoding",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "lmax", "parameters"),
    [(PLAIN, 2, 3_496_001), (PLAIN, 3, 5_500_865), (DENS, 2, 4_000_577), (DENS, 3, 6_354_241)],
)
def test_the_published_scale_has_the_published_number_of_parameters(
    recipe, lmax, parameters, capsys
):
    options = "scale=published", f"lmax={lmax}", "data.energy_std=0.2"
    path = str(CONFIGS / f"{recipe}.yml")
    assert cli.main(["info", "--config", path, *options]) == 0
    assert f"parameters: {parameters:,}\n" in capsys.readouterr().out


def test_biases_norms_and_bases_do_not_decay():
    model = tiny_model(backbone=V1, distance_basis="gaussian")
    kept = model.no_weight_decay()
    names = {name for name, _ in model.named_parameters()}
    assert {n for n in names if "bias" in n.rpartition(".")[2]} <= kept
    assert any(n.endswith("attention.bias_1") for n in kept)
    assert {n for n in names if "distance_basis" in n or ".norm" in n} <= kept
    # These do, in the authors' code.
    decays = {n.rpartition(".")[2] for n in names - kept}
    assert {"alpha_dot", "offset", "scales_2", "constant"} <= decays


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A file in the layout of the original ones, of 1,100 frames, in kcal/mol and in eV."""
    found = tmp_path_factory.mktemp("md17")
    write_file(found / "md17_ethanol.npz")
    write_file(found / "ev.npz", 1.0)
    order = np.random.default_rng(0).permutation(1100)
    parts = {"idx_train": order[:20], "idx_val": order[20:26], "idx_test": order[26:32]}
    np.savez(found / "parts.npz", **parts)
    return found


def test_energies_have_the_scale_of_the_training_frames(folder):
    reader = {"molecule": "ethanol", "unit": "kcal/mol", "indices": str(folder / "parts.npz")}
    found = md17.training_energy_std(str(folder), "md17_ethanol.npz", reader, "")
    energies = np.load(folder / "md17_ethanol.npz")["E"][np.load(folder / "parts.npz")["idx_train"]]
    assert found == pytest.approx(energies.std(ddof=1) * KCAL, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "data_root=FOLDER must be given.*sgdml.org"),
        ({"data_root": "nowhere"}, "no file nowhere/md17_ethanol.npz.*sgdml.org"),
        ({"data_root": "HERE"}, "1,100 frames, the original file of ethanol 555,092.*indices="),
        ({"data_root": "HERE", "data.file": "ev.npz"}, "would be .*in kcal/mol.* Set unit=eV"),
        ({"data_root": "HERE", "data.reader.molecule": "etanol"}, "did you mean 'ethanol'"),
        ({"data_root": "HERE", "data.reader.unit": "meV"}, "there is no unit 'meV'"),
        ({"lmax": 4}, r"lmax must be one of \[2, 3\], got 4"),
    ],
)
def test_mistakes_end_in_one_sentence(folder, changes, message):
    whole = composed(PLAIN, "scale=published").copy()
    for key, value in changes.items():
        OmegaConf.update(whole, key, str(folder) if value == "HERE" else value)
    with pytest.raises(OmegaConfBaseException, match=message):
        str((whole.degree, whole.data.energy_std))


CHANNELS = {"node": "4x0e+3x1e+2x2e", "head": "2x0e+2x1e+1x2e", "ffn": "5x0e+4x1e+3x2e",
            "feature.dens": "6x0e+4x1e+3x2e"}  # fmt: skip
TINY = [
    *(f"md17_tables.l2.channels.published.{key}={value}" for key, value in CHANNELS.items()),
    "scale=published", "+model.backbone.num_layers=1", "epochs=3", "warmup_epochs=1",
    "batch_size=4", "compile=false", "job.device_type=CPU", "learning_rate=0.01",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_on_an_original_file_ends_with_the_weights_of_its_best_validation(folder, tmp_path):
    parts = f"data.reader.indices={folder / 'parts.npz'}"
    given = [*TINY, f"data_root={folder}", parts, f"run_dir={tmp_path}", "run_name=run"]
    done = launch(DENS, given)
    assert done.returncode == 0, done.stderr[-4000:]
    records = history(tmp_path / "run")[1:]
    assert [record["step"] for record in records] == [5, 10, 15]
    scores = {
        r["step"]: r["splits"]["val"]["energy_mae_meV"]
        + 80 * r["splits"]["val"]["forces_mae_meV_per_A"]
        for r in records
    }
    best = min(scores, key=scores.get)
    kept = torch.load(tmp_path / "run" / "chosen_weights.pt", weights_only=True)
    assert kept["step"] == best
    assert f"weights of step {best}, whose validation errors were the lowest" in done.stdout
    predicts = {
        k.removeprefix("ema."): v for k, v in weights(tmp_path / "run").items() if "ema" in k
    }
    wanted = {k: v for k, v in kept["model"].items() if k in predicts}
    assert wanted
    assert all(torch.equal(predicts[key], value) for key, value in wanted.items())
