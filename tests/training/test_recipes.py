"""Every config composes and holds the numbers of the papers' tables."""

from __future__ import annotations

import hydra
import pytest
import torch
from ase.units import kcal, mol
from fairchem.core._cli import get_hydra_config_from_yaml
from recipes import CONFIGS, composed

from eqv2_plugin import cli

OC20, OC22, MD17 = "eqv2_oc20", "eqv2_oc22", "eqv2_md17"
DENS_OC20, DENS_OC22, DENS_MD17 = "eqv2_dens_oc20", "eqv2_dens_oc22", "eqv2_dens_md17"

# Table 7 (columns) and Table 11 of the EquiformerV2 paper, in the order
# warm-up epochs, learning rate, batch size, epochs, dropout, stochastic depth, lambda_E,
# lambda_F, clipping, L, M, blocks.
TABLES = {
    (OC20, "scale=oc20_2m"): (0.1, 2e-4, 64, 12, 0.1, 0.05, 2, 100, 100, 6, 2, 12),
    (OC20, "scale=oc20_all"): (0.01, 4e-4, 256, 1, 0.1, 0.1, 2, 100, 100, 6, 3, 20),
    (OC20, "scale=oc20_all_md_31m"): (0.01, 4e-4, 512, 3, 0.1, 0.1, 4, 100, 100, 4, 2, 8),
    (OC20, "scale=oc20_all_md_153m"): (0.01, 4e-4, 512, 1, 0.1, 0.1, 4, 100, 100, 6, 3, 20),
    (OC22, "coefficients=e4_f100"): (0.1, 2e-4, 128, 6, 0.1, 0.1, 4, 100, 50, 6, 2, 18),
    (OC22, "coefficients=e1_f1"): (0.1, 2e-4, 128, 6, 0.1, 0.1, 1, 1, 50, 6, 2, 18),
}
PARAMETERS = {
    (OC20, "scale=oc20_2m"): 83_164_802,
    (OC20, "scale=oc20_all"): 153_602_690,
    (OC20, "scale=oc20_all_md_31m"): 31_058_690,
    (OC20, "scale=oc20_all_md_153m"): 153_602_690,
    (OC22, "coefficients=e4_f100"): 121_526_402,
    (OC22, "coefficients=e1_f1"): 121_526_402,
    (DENS_OC20, "scale=oc20_2m_12ep"): 89_148_163,
    (DENS_OC20, "scale=oc20_2m_20ep"): 89_148_163,
    (DENS_OC20, "scale=oc20_2m_30ep"): 89_148_163,
    (DENS_OC20, "scale=oc20_all_md_160m"): 160_504_579,
    (DENS_OC22, "scale=oc22"): 127_509_763,
}
# What all columns share.
SHARED = {
    "cutoff": 12.0, "max_neighbors": 20, "num_distance_basis": 600, "edge_channels": 128,
    "sphere_channels": 128, "attn_hidden_channels": 64, "num_heads": 8,
    "attn_alpha_channels": 64, "attn_value_channels": 16, "ffn_hidden_channels": 128,
    "grid_resolution": 18,
}  # fmt: skip


# DeNS paper, Tables 7 and 8: epochs, batch size, learning rate, p, lambda_DeNS, sigma, r.
DENS_TABLES = {
    (DENS_OC20, "scale=oc20_2m_12ep"): (12, 64, 2e-4, 0.5, 10, 0.1, 0.5),
    (DENS_OC20, "scale=oc20_2m_20ep"): (20, 128, 4e-4, 0.5, 10, 0.15, 0.5),
    (DENS_OC20, "scale=oc20_2m_30ep"): (30, 128, 4e-4, 0.5, 10, 0.15, 0.5),
    (DENS_OC20, "scale=oc20_all_md_160m"): (2, 512, 4e-4, 0.125, 15, 0.1, 0.25),
    (DENS_OC22, "scale=oc22"): (6, 128, 2e-4, 0.5, 25, 0.15, 0.5),
}


def name(case: tuple[str, str]) -> str:
    return " ".join(case)


def file(config: str) -> str:
    return str(CONFIGS / f"{config}.yml")


def unit_of(config):
    return config.runner.train_eval_unit


@pytest.mark.parametrize("case", TABLES, ids=name)
def test_a_scale_has_the_numbers_of_its_table(case):
    config = composed(case[0], case[1])
    unit, backbone = unit_of(config), unit_of(config).model.backbone
    energy, forces = unit.tasks
    found = (
        unit.cosine_lr_scheduler_fn.warmup_epochs,
        unit.optimizer_fn.lr,
        config.runner.train_dataloader.batch_sampler_fn.batch_size,
        config.runner.max_epochs,
        backbone.alpha_drop,
        backbone.drop_path_rate,
        energy.loss_fn.coefficient,
        forces.loss_fn.coefficient,
        unit.clip_grad_norm,
        backbone.lmax,
        backbone.mmax,
        backbone.num_layers,
    )
    assert found == TABLES[case]
    assert unit.cosine_lr_scheduler_fn.epochs == config.runner.max_epochs
    assert unit.optimizer_fn._target_ == "torch.optim.AdamW"
    assert unit.optimizer_fn.weight_decay == 1e-3
    assert unit.ema_decay == 0.999
    assert {key: backbone[key] for key in SHARED} == SHARED


@pytest.mark.slow
@pytest.mark.parametrize("case", PARAMETERS, ids=name)
def test_a_scale_has_the_papers_number_of_parameters(case, capsys):
    assert cli.main(["info", "--config", file(case[0]), case[1]]) == 0
    assert f"parameters: {PARAMETERS[case]:,}\n" in capsys.readouterr().out


# With each group of configs once; the scales above go the whole way, too.
WHOLE = [
    (OC20, "heads=conservative"),
    (OC20, "data=oc20_lmdb"),
    (OC22, "data=oc22_lmdb"),
    (MD17, "molecule=uracil"),
    (DENS_MD17, "molecule=aspirin"),
    (DENS_OC20, "dens=no_energy"),
    (DENS_OC22, "dens=all_atoms"),
    ("predict_s2ef_oc20", "checkpoint=model.pt"),
    ("predict_s2ef_oc22", "checkpoint=model.pt"),
    ("relax_is2re_oc20", "checkpoint=model.pt"),
    ("adsorbml", "checkpoint=model.pt", "input=slabs.json"),
    ("adsorbml_batched", "checkpoint=model.pt", "input=slabs.json"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", WHOLE, ids=name)
def test_no_config_has_a_key_without_use(case):
    whole = get_hydra_config_from_yaml(file(case[0]), list(case[1:]))  # refuses such a key
    assert set(whole.runner) == set(composed(*case).runner)


@pytest.mark.parametrize("case", DENS_TABLES, ids=name)
def test_a_dens_scale_has_the_numbers_of_its_table(case):
    config = composed(case[0], case[1])
    unit, denoising = unit_of(config), unit_of(config).denoising
    found = (
        config.runner.max_epochs,
        config.runner.train_dataloader.batch_sampler_fn.batch_size,
        unit.optimizer_fn.lr,
        denoising.probability,
        denoising.coefficient,
        denoising.sigma,
        denoising.corruption_ratio,
    )
    assert found == DENS_TABLES[case]
    energy, forces, noise = unit.tasks
    assert (forces.loss_fn.coefficient, noise.loss_fn.coefficient) == (100, denoising.coefficient)
    assert energy.loss_fn.coefficient == (4 if "md" in case[1] or case[0] == DENS_OC22 else 2)


# DeNS paper, Table 9: lambda_E, lambda_F, p, sigma.
MOLECULES = {
    "aspirin": (1, 80, 0.25, 0.05),
    "benzene": (1, 80, 0.25, 0.05),
    "ethanol": (1, 80, 0.25, 0.05),
    "malonaldehyde": (1, 100, 0.25, 0.05),
    "naphthalene": (2, 20, 0.25, 0.05),
    "salicylic": (1, 80, 0.25, 0.05),
    "toluene": (1, 80, 0.125, 0.025),
    "uracil": (1, 20, 0.25, 0.05),
}


@pytest.mark.parametrize("molecule", MOLECULES)
def test_a_molecule_has_the_numbers_of_its_table(molecule):
    unit = unit_of(composed(DENS_MD17, f"molecule={molecule}"))
    energy, forces, noise = unit.tasks
    found = (
        energy.loss_fn.coefficient,
        forces.loss_fn.coefficient,
        unit.denoising.probability,
        unit.denoising.sigma,
    )
    assert found == MOLECULES[molecule]
    assert noise.loss_fn.coefficient == unit.denoising.coefficient == 5
    assert unit.denoising.corruption_ratio == 0.25
    assert unit.denoising.coefficient_decay == "linear"
    assert not unit.model.backbone.direct_forces
    # As in the published code: kcal/mol/Å, and counts per task.
    assert unit.model.backbone.force_scale == pytest.approx(kcal / mol)
    assert {task.loss_fn.normalization for task in unit.tasks} == {"per_task"}


def test_the_molecules_recipe_without_dens_differs_in_nothing_else():
    plain, dens = (composed(path, "molecule=uracil").runner for path in (MD17, DENS_MD17))
    assert plain.max_epochs == dens.max_epochs
    for key in ("train_dataloader", "eval_dataloader"):
        assert plain[key].dataset == dens[key].dataset
        assert plain[key].batch_sampler_fn == dens[key].batch_sampler_fn
    units = plain.train_eval_unit, dens.train_eval_unit
    for key in ("optimizer_fn", "cosine_lr_scheduler_fn", "clip_grad_norm", "ema_decay"):
        assert units[0][key] == units[1][key]
    backbones = [dict(unit.model.backbone) for unit in units]
    assert backbones[1].pop("force_encoding")
    assert not backbones[1].pop("sigma_encoding")
    assert backbones[1].pop("force_scale") > 0
    assert backbones[0] == backbones[1]
    assert [task.loss_fn.coefficient for task in units[0].tasks] == [1, 20]
    assert {task.normalizer.rmsd for task in units[0].tasks} == {0.216548}


def test_only_the_samples_scale_softens_denoising():
    sample = unit_of(composed(DENS_OC20))
    paper = unit_of(composed(DENS_OC20, "scale=oc20_2m_12ep"))
    assert (sample.denoising.probability, sample.denoising.corruption_ratio) == (0.25, 0.25)
    assert {task.loss_fn.normalization for task in sample.tasks} == {"per_batch"}
    assert {task.loss_fn.normalization for task in paper.tasks} == {"per_structure"}
    # In which the published weights encode forces.
    for path, scale in DENS_TABLES:
        assert unit_of(composed(path, scale)).model.backbone.force_scale == 1.0


@pytest.mark.parametrize(
    ("ablation", "key", "value"),
    [
        ("no_force_encoding", "encode_forces", False),
        ("no_energy", "energy_on_corrupted", False),
        ("all_atoms", "corruption_ratio", 1.0),
    ],
)
@pytest.mark.parametrize("recipe", [DENS_OC20, DENS_OC22, DENS_MD17])
def test_an_ablation_of_dens_changes_one_setting(recipe, ablation, key, value):
    full = unit_of(composed(recipe)).denoising
    changed = unit_of(composed(recipe, f"dens={ablation}")).denoising
    assert {k: v for k, v in changed.items() if v != full[k]} == {key: value}


@pytest.mark.parametrize(
    ("recipe", "scale"),
    [(OC20, "oc20_all_md_31m"), (OC20, "oc20_all_md_153m"), (DENS_OC20, "oc20_all_md_160m")],
)
def test_md_trajectories_are_a_split_that_dens_leaves_out(recipe, scale):
    config = composed(recipe, f"scale={scale}")
    assert set(config.runner.train_dataloader.dataset.splits) == {"train", "md"}
    if recipe == DENS_OC20:
        assert unit_of(config).denoising.exclude_splits == ["md"]


def test_a_schedule_of_sigma_needs_two_settings():
    changes = "denoising.sigma_low=0.01", "model.backbone.sigma_encoding=true"
    config = composed(DENS_OC20, *changes)
    assert unit_of(config).denoising.sigma_low == 0.01
    assert unit_of(config).model.backbone.sigma_encoding


def test_normalisers_are_the_papers():
    energy, forces = unit_of(composed(OC20, "scale=oc20_2m")).tasks
    assert (energy.normalizer.mean, energy.normalizer.rmsd) == (
        -0.7554450631141663,
        2.887317180633545,
    )
    assert (forces.normalizer.mean, forces.normalizer.rmsd) == (0.0, 2.887317180633545)
    energy, forces = unit_of(composed(OC22)).tasks
    assert (energy.normalizer.mean, energy.normalizer.rmsd) == (0.0, 25.119809935106424)
    assert (forces.normalizer.mean, forces.normalizer.rmsd) == (0.0, 0.14759646356105804)
    references = hydra.utils.instantiate(energy.element_references)
    assert torch.isfinite(references.element_references[8])


def test_the_conservative_recipe_shifts_no_gradient():
    config = composed(OC20, "heads=conservative")
    unit = unit_of(config)
    assert not unit.model.backbone.direct_forces
    assert [task.normalizer.mean for task in unit.tasks] == [0.0, 0.0]
    assert len({task.normalizer.rmsd for task in unit.tasks}) == 1


def test_an_unknown_scale_lists_the_known_ones(capsys):
    assert cli.main(["info", "--config", file(OC20), "scale=oc20_2M"]) == 1
    assert "oc20_all_md_31m" in capsys.readouterr().err


def test_a_misspelt_key_is_refused(capsys):
    assert cli.main(["info", "--config", file(OC20), "model.backbone.lmx=3"]) == 1
    assert "lmx" in capsys.readouterr().err
    assert cli.main(["info", "--config", file(OC20), "+model.backbone.lmx=3"]) == 1
    assert "did you mean 'lmax'" in capsys.readouterr().err
