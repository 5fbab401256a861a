"""Which runs compile their steps."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from torch import nn

from eqv2_plugin.training import compiled
from eqv2_plugin.training.compiled import CompileSteps


class Loader(list):
    """Batches of frames with these numbers of atoms."""

    def __init__(self, batches, counts):
        super().__init__(batches)
        frames = [SimpleNamespace(atomic_numbers=range(count)) for count in counts]
        self.dataset = SimpleNamespace(datasets=[frames])


def region_after_start(
    monkeypatch, mode, steps=5000, size=1000, ranks=1, bf16=False, conservative=True, counts=(9, 5)
):
    """What the callback leaves on the model of a run that begins."""
    model = nn.Linear(size, 1, bias=False)
    model.region = None
    model.backbone = SimpleNamespace(is_conservative=conservative)
    unit = SimpleNamespace(model=SimpleNamespace(module=model), autocast_enabled=bf16)
    train = SimpleNamespace(
        max_steps=None, max_epochs=10, dataloader=Loader(range(steps // 10), counts)
    )
    monkeypatch.setattr(compiled.distutils, "get_world_size", lambda: ranks)
    CompileSteps(mode).on_train_start(SimpleNamespace(train_state=train), unit)
    return model.region


@pytest.mark.parametrize(
    ("mode", "run", "wanted"),
    [
        ("auto", {}, True),
        ("auto", {"steps": 4000}, False),
        ("auto", {"steps": 4000, "counts": (9, 9, 9)}, True),
        ("auto", {"steps": 100, "counts": (9, 9)}, False),
        ("auto", {"size": 2_000_000}, False),
        ("auto", {"conservative": False}, False),
        (True, {"steps": 100}, True),
        (True, {"size": 2_000_000}, True),
        (True, {"conservative": False}, True),
        (False, {}, False),
        (True, {"ranks": 2}, False),
        (True, {"bf16": True}, False),
    ],
)
def test_small_models_and_long_runs_compile_their_steps(mode, run, wanted, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        region = region_after_start(monkeypatch, mode, **run)
    assert (region is not None) == wanted
    # Who asks for it is told why not.
    assert ("not compiled" in caplog.text) == (mode is True and not wanted)


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="compile must be true, false or auto, got 'always'"):
        CompileSteps("always")
