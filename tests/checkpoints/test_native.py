"""The native form: predicts what the checkpoint predicts, and believes nothing it reads."""

from __future__ import annotations

import copy
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import fresh_worker as worker
import native_checkpoints as inputs
import numpy as np
import pytest
import torch
from checkpoint_inputs import PLAIN
from fairchem.core.models.base import HeadInterface
from safetensors.torch import save_file

import eqv2_plugin
from eqv2_plugin import heads
from eqv2_plugin.checkpoints.door import as_native, export_native
from eqv2_plugin.checkpoints.native import read_native
from eqv2_plugin.checkpoints.v1.convert import convert_file
from eqv2_plugin.checkpoints.whitelist import HEADS

REFERENCES = {
    "direct": inputs.number_references,
    "conservative": inputs.written_references,
    "equiformer_v1": inputs.number_references,
}
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Per kind: the checkpoint, and its native form."""
    folder, files = tmp_path_factory.mktemp("native"), {}
    for kind, references in REFERENCES.items():
        old = inputs.write_checkpoint(folder / f"{kind}.pt", kind, references())
        new = folder / f"{kind}.safetensors"
        export_native(old, new)
        files[kind] = old, new
    return files


@pytest.fixture(scope="module")
def fresh_process(exported, tmp_path_factory) -> tuple[dict, str]:
    """Results of `fresh_worker`, and what it said."""
    folder = tmp_path_factory.mktemp("fresh")
    convert_file(PLAIN, folder / "converted.pt")
    command = [sys.executable, worker.__file__, folder / "results.json", folder / "converted.pt"]
    command += [checkpoint for checkpoint, _ in exported.values()]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "results.json").read_text()), done.stderr


@pytest.mark.slow
def test_a_relaxation_in_a_process_that_never_imports_the_package(fresh_process):
    results, said = fresh_process
    assert "energies of this model: adsorption energy" in said
    moved = np.abs(results["relaxed"]["positions"] - worker.structure().positions).max()
    assert 1e-4 < moved < 2.0
    assert len(results["relaxed"]["energies"]) == worker.STEPS + 1
    assert np.isfinite(results["relaxed"]["energies"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", inputs.KINDS)
@pytest.mark.parametrize("settings", worker.SETTINGS)
def test_a_fresh_process_predicts_bit_for_bit_what_the_checkpoint_predicts(
    fresh_process, kind, settings
):
    results, _ = fresh_process
    expected = results["checkpoint"][f"{kind} {settings}"]
    assert results["native"][f"{kind} {settings}"] == expected
    assert abs(expected[0]["energy"]) > 1e-3
    assert ("stress" in expected[1]) == (kind != "direct")


def test_the_file_holds_the_averaged_weights(exported):
    old, new = exported["direct"]
    checkpoint, weights = torch.load(old, weights_only=False), read_native(new).weights
    assert set(weights) == set(checkpoint.model_state_dict)
    for name, value in weights.items():
        assert torch.equal(value, checkpoint.ema_state_dict[f"module.{name}"])
    changed = [n for n, v in weights.items() if not v.equal(checkpoint.model_state_dict[n])]
    assert changed


def test_element_references_without_value_stay_without(exported):
    references = read_native(exported["conservative"][1]).references["energy"]
    assert torch.isnan(references[26])
    assert float(references[29]) == pytest.approx(-2.123456789)


def test_an_export_leaves_the_checkpoint_object_alone():
    content = inputs.checkpoint("direct")
    names, config = list(content.ema_state_dict), copy.deepcopy(content.model_config)
    as_native(content)
    assert list(content.ema_state_dict) == names
    assert content.model_config == config


def test_short_names_are_written_out():
    content = inputs.checkpoint("direct")
    content.model_config["backbone"]["model"] = "equiformer_v2_backbone"
    content.model_config["heads"]["energy"]["module"] = "equiformer_v2_energy_head"
    model = as_native(content).header.model
    assert model["backbone"]["model"] == inputs.BACKBONE
    assert model["heads"]["energy"]["module"] == "eqv2_plugin.heads.energy.EnergyHead"


def test_every_head_of_the_package_may_be_in_a_file():
    for module in pkgutil.iter_modules(heads.__path__):
        importlib.import_module(f"{heads.__name__}.{module.name}")
    classes, found = [HeadInterface], set()
    while classes:
        current = classes.pop()
        classes += current.__subclasses__()
        if current.__module__.startswith(heads.__name__) and current.__name__ != "VectorHead":
            found.add(f"{current.__module__}.{current.__qualname__}")
    assert found == set(HEADS)


BAD_DESCRIPTIONS = {
    "version": (inputs.put("version", 2), "format version 2"),
    "version as text": (inputs.put("version", "1"), "format version '1'"),
    "no tasks": (inputs.put("tasks", []), "no task"),
    "further key": (inputs.put("extra", 1), "unknown: extra"),
    "missing key": (inputs.put("tasks", None), "missing or unknown: tasks"),
    "other model": (
        inputs.put("model._target_", "os.system"),
        "'os.system' is not allowed as model",
    ),
    "other backbone": (
        inputs.put("model.backbone.model", "fairchem.core.models.uma.escn_md.eSCNMDBackbone"),
        "not allowed as backbone",
    ),
    "other head": (
        inputs.put("model.heads.energy.module", "builtins.print"),
        "'builtins.print' is not allowed as head 'energy'",
    ),
    "nested target": (
        inputs.put("model.heads.energy.extra", {"_target_": "os.system", "command": "true"}),
        "the key '_target_' is not allowed",
    ),
    "target among the facts": (
        inputs.put("model.facts", {"_target_": "os.system"}),
        "the key '_target_' is not allowed",
    ),
    "partial": (inputs.put("model.backbone._partial_", True), "'_partial_' is not allowed"),
    "interpolation": (inputs.put("model.facts", {"name": "${oc.env:HOME}"}), "is not allowed"),
    "interpolated task": (inputs.put("tasks.0.name", "${oc.env:HOME}"), "is not allowed"),
    "starting checkpoint": (
        inputs.put("model.finetune_config", {"starting_checkpoint": "x.pt"}),
        "unknown keys: finetune_config",
    ),
    "misspelt option": (inputs.put("model.backbone.lmaxx", 2), "did you mean 'lmax'"),
    "option of wrong type": (inputs.put("model.backbone.lmax", "2"), "lmax must be of type int"),
    "mean as text": (inputs.put("tasks.0.mean", "1.0"), "mean must be of type float"),
    "no scale": (inputs.put("tasks.0.rmsd", 0.0), "rmsd must be positive"),
    "mean not finite": (inputs.put("tasks.0.mean", float("nan")), "NaN is no number"),
    "level": (inputs.put("tasks.0.level", "edge"), "level must be one of"),
    "twice": (inputs.put("tasks.1.name", "energy"), "a task occurs twice"),
    "references that are not there": (
        inputs.put("tasks.1.has_references", True),
        r"references must be of the tasks \['energy', 'forces'\]",
    ),
    "another lmax than the weights": (inputs.put("model.backbone.lmax", 3), "says lmax=3"),
    "more blocks than the weights": (
        inputs.put("model.backbone.num_layers", 2),
        r"missing \(\d+\): backbone.blocks.1\S+, .* and \d+ more",
    ),
}


@pytest.mark.parametrize("name", BAD_DESCRIPTIONS)
def test_a_description_that_is_not_ours_is_refused(exported, tmp_path, name):
    change, message = BAD_DESCRIPTIONS[name]
    tensors, description = inputs.content_of(exported["direct"][1])
    change(description)
    path = inputs.write_tampered(tmp_path / "bad.safetensors", tensors, description)
    with pytest.raises(ValueError, match=message) as error:
        read_native(path)
    assert str(path) in str(error.value)


BIAS = "model.output_heads.forces.vector_block.projection.bias"
ATOMS = "model.backbone.atom_embedding.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop(BIAS),
            r"missing \(1\): output_heads.forces.vector_block.\S+bias$",
        ),
        (lambda t: t.update({"model.extra": torch.zeros(1)}), r"not used \(1\): extra$"),
        (lambda t: t.update({ATOMS: torch.zeros(84, 7)}), r"atom_embedding.weight \(\[84, 7\]"),
        (lambda t: t.update({ATOMS: t[ATOMS].half()}), "torch.float16"),
    ],
    ids=["missing", "not used", "other shape", "other type"],
)
def test_weights_that_do_not_fit_are_refused(exported, tmp_path, change, message):
    tensors, description = inputs.content_of(exported["direct"][1])
    change(tensors)
    path = inputs.write_tampered(tmp_path / "bad.safetensors", tensors, description)
    with pytest.raises(ValueError, match=message):
        read_native(path)


@pytest.mark.parametrize("kept", [0.0, 1e-4, 0.5, 0.999])
def test_a_truncated_file_is_refused(exported, tmp_path, kept):
    whole = exported["direct"][1].read_bytes()
    path = tmp_path / "part.safetensors"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"part.safetensors is no complete safetensors file"):
        read_native(path)


def test_files_of_another_kind_are_refused(exported, tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_native(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(ValueError, match="was not written by `eqv2 export`"):
        read_native(foreign)
    with pytest.raises(ValueError, match="no complete safetensors file"):
        read_native(exported["direct"][0])


TWO_MEANS = {"_target_": "torch.tensor", "data": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c, "ema_state_dict", None), "no averaged"),
        (inputs.put("tasks.0.normalizer.mean", TWO_MEANS), "must hold one number"),
    ],
    ids=["no EMA weights", "two means"],
)
def test_checkpoints_that_cannot_be_exported_say_why(change, message):
    content = inputs.checkpoint("direct")
    change(content)
    with pytest.raises(ValueError, match=message):
        as_native(content)


def test_nothing_is_overwritten_and_nothing_half_written_stays(exported, tmp_path, monkeypatch):
    old, new = exported["direct"]
    with pytest.raises(ValueError, match="exists"):
        export_native(old, new)
    with pytest.raises(ValueError, match=r"ends with .safetensors"):
        export_native(old, tmp_path / "model.pt")

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("eqv2_plugin.checkpoints.native.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        export_native(old, tmp_path / "model.safetensors")
    assert not os.listdir(tmp_path)


def test_torch_compiles_nothing_on_a_cpu_unless_asked(exported):
    native = exported["conservative"][1]
    assert not eqv2_plugin.load(native, "cpu").inference_settings.compile
    assert eqv2_plugin.load(native, "cpu", "default").inference_settings.compile
