"""The whole model against fairchem-core 1.10 on every case of the fixtures folder."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_case import (
    ReferenceCase,
    case_folders,
    edge_set,
    fixtures_folder,
    stored_edge_set,
)

from eqv2_plugin.checkpoints.v1.names import from_single_class, rename_v1_key
from eqv2_plugin.graphs.build import build_graph

CASES = case_folders(fixtures_folder())
DTYPES = {"float64": torch.float64, "float32": torch.float32}
TOLERANCES = {
    "float64": "suggested_abs_tolerance_f64",
    "float32": "suggested_abs_tolerance_f32",
}


def has_layers(folder: Path) -> bool:
    with np.load(folder / "outputs.npz") as outputs:
        return "layers" in outputs.files


LAYER_CASES = [folder for folder in CASES if has_layers(folder)]


def test_a_folder_without_cases_is_an_error_and_no_silent_pass(tmp_path):
    with pytest.raises(FileNotFoundError, match="EQV2_FIXTURES"):
        case_folders(tmp_path)


def test_some_case_has_the_output_of_every_layer():
    assert LAYER_CASES


@cache
def load(folder: Path) -> ReferenceCase:
    return ReferenceCase(folder)


@cache
def run(folder: Path, dtype: str, own_frames: bool) -> dict[str, torch.Tensor]:
    return load(folder).run(DTYPES[dtype], own_frames)


@pytest.fixture(params=CASES, ids=lambda folder: folder.name)
def folder(request) -> Path:
    return request.param


def compare(folder: Path, dtype: str, own_frames: bool) -> dict[str, tuple[float, float, float]]:
    """Per output: largest deviation, tolerance of the case, largest reference value."""
    case, ours = load(folder), run(folder, dtype, own_frames)
    frames = "own_frames" if own_frames else "same_frames"
    allowed = case.config[TOLERANCES[dtype]][frames]
    suffix = "_gauge_mean" if own_frames and dtype == "float64" else ""
    names = [*case.output_names, "x"]
    deviations = {}
    for name in names:
        reference = case.outputs.get(name + suffix, case.outputs[name]).astype(np.float64)
        ours_now = ours[name].double().numpy().reshape(reference.shape)
        assert np.isfinite(ours_now).all()
        deviations[name] = (
            np.abs(ours_now - reference).max(),
            allowed[name],
            np.abs(reference).max(),
        )
    return deviations


def test_float64_outputs_with_stored_frames_agree_to_one_in_a_billion(folder):
    for name, (deviation, allowed, scale) in compare(folder, "float64", False).items():
        assert scale > 0, name
        assert deviation <= allowed, name
        # Forces that vanish by symmetry are rounding themselves, hence the 1e-15.
        assert deviation <= 1e-9 * scale + 1e-15, name


def test_float64_outputs_with_own_frames_agree_within_the_spread_over_frames(folder):
    for name, (deviation, allowed, _) in compare(folder, "float64", True).items():
        assert deviation <= allowed, name


@pytest.mark.parametrize("own_frames", [False, True], ids=["stored_frames", "own_frames"])
def test_float32_outputs_agree_within_rounding(folder, own_frames):
    for name, (deviation, allowed, _) in compare(folder, "float32", own_frames).items():
        assert deviation <= allowed, name


def test_float32_outputs_agree_with_the_float32_reference(folder):
    case, ours = load(folder), run(folder, "float32", False)
    allowed = case.config["suggested_abs_tolerance_f32"]["same_frames"]
    for name in case.output_names:
        reference = case.outputs[f"{name}_f32"]
        deviation = np.abs(ours[name].numpy().reshape(reference.shape) - reference).max()
        assert deviation <= allowed[name], name


def test_own_graph_has_the_edges_of_the_reference(folder):
    case = load(folder)
    data, model = case.data(torch.float64), case.model(torch.float64)
    graph = build_graph(data, model.backbone.config)
    strict = case.config["model"]["backbone"].get("enforce_max_neighbors_strictly", False)
    tie_at_the_cut = case.config["graph_check"]["min_gap_at_cut"] == 0
    stored_targets = Counter(case.inputs["edge_index"][1].tolist())
    assert Counter(graph.edge_index[1].tolist()) == stored_targets
    if not (strict and tie_at_the_cut):
        assert edge_set(graph) == stored_edge_set(case)


def test_number_of_parameters_is_that_of_the_reference(folder):
    case = load(folder)
    model = case.model(torch.float32)
    ours = sum(parameter.numel() for parameter in model.parameters())
    # The linear reference is a parameter there and a buffer here.
    linear_references = [v for k, v in case.state.items() if k.endswith("energy_lin_ref")]
    assert ours == case.config["num_params"] - sum(v.numel() for v in linear_references)


def test_frozen_parameters_are_those_without_effect_in_the_reference(folder):
    case = load(folder)
    names = dict.fromkeys(case.config["params_without_effect_on_outputs"])
    if case.config["model"]["class"] != "hydra":
        names = from_single_class(names)
    wanted = {rename_v1_key(name) for name in names if "energy_lin_ref" not in name}
    model = case.model(torch.float32)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == wanted


@pytest.mark.parametrize("folder", LAYER_CASES, ids=lambda folder: folder.name)
def test_input_of_the_first_block_and_output_of_every_block_agree(folder):
    case = load(folder)
    model, data = case.model(torch.float64), case.data(torch.float64)
    graph, frames = case.stored_graph(torch.float64)
    seen: list[torch.Tensor] = []
    blocks = model.backbone.blocks
    blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for block in blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model.backbone.embed(graph, data.atomic_numbers, data.batch, len(data.natoms), frames)
    reference = case.outputs["layers"]
    assert len(seen) == len(reference) == len(blocks) + 1
    for ours, theirs in zip(seen, reference, strict=True):
        # The reference is stored in float32.
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())
