"""Which predictions are compiled."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from ase.build import molecule
from helpers import TOY, tiny_model
from torch import nn

from eqv2_plugin.inference.compiled import compile_predictions, compile_replicas

ETHANOL = molecule("CH3CH2OH")


def region_for(mode, steps=20_000, size=1000, device="cpu", conservative=True, max_neighbors=20):
    """What is left on the model of a simulation of four ethanols."""
    model = nn.Linear(size, 1, bias=False)
    model.region = None
    config = SimpleNamespace(max_neighbors=max_neighbors)
    model.backbone = SimpleNamespace(is_conservative=conservative, config=config)
    unit = SimpleNamespace(model=SimpleNamespace(module=model), device=device)
    compile_replicas(SimpleNamespace(unit=unit), ETHANOL, 4, steps, mode)
    return model.region


@pytest.mark.parametrize(
    ("mode", "run", "wanted"),
    [
        ("auto", {}, True),
        ("auto", {"steps": 19_900}, False),
        ("auto", {"size": 2_000_000}, False),
        ("auto", {"conservative": False}, False),
        ("auto", {"device": "cuda"}, False),
        (True, {"steps": 100}, True),
        (True, {"size": 2_000_000}, True),
        (True, {"conservative": False}, True),
        (True, {"device": "cuda"}, False),
        (False, {}, False),
    ],
)
def test_small_models_and_long_simulations_are_compiled(mode, run, wanted, caplog):
    with caplog.at_level(logging.WARNING):
        region = region_for(mode, **run)
    assert (region is not None) == wanted
    assert ("not compiled" in caplog.text) == (mode is True and not wanted)


@pytest.mark.parametrize(("max_neighbors", "edges"), [(20, 4 * 72), (5, 4 * 45 + 4)])
def test_one_size_holds_all_pairs_of_all_replicas(max_neighbors, edges):
    assert region_for(True, max_neighbors=max_neighbors).sizes == (5, 40, edges)


def test_predict_units_of_other_models_and_devices_are_refused():
    ours = SimpleNamespace(module=tiny_model(backbone=TOY))
    unit = SimpleNamespace(model=ours, device="cpu")
    compile_predictions(unit)
    assert ours.module.region.predicts
    for change, message in (
        ({"device": "cuda"}, "on a CPU only, not on cuda"),
        ({"model": SimpleNamespace(module=nn.Linear(1, 1))}, "models of this package"),
    ):
        with pytest.raises(ValueError, match=message):
            compile_predictions(SimpleNamespace(**{**vars(unit), **change}))
