"""Recorded forward passes: buckets, buffers, eviction and what keeps them from being used.

A recording is played here by running the function again on the same buffers, as a GPU would.
"""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from ase import Atoms
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from helpers import (
    BACKBONE,
    CONSERVATIVE,
    DIRECT_HEADS,
    TOY,
    batch_of,
    crystal,
    flatten,
    molecule,
    slab,
    tiny_model,
)
from torch.utils import _pytree as pytree

from eqv2_plugin.graphs.padding import pad, sizes_of, unpad
from eqv2_plugin.kernels.choice import use_fused_kernels
from eqv2_plugin.models import hydra, static_calls
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.static_calls import StaticCalls, capture_for

KINDS = {
    "direct": (DIRECT_HEADS, {"backbone": BACKBONE}),
    "conservative": (
        {"head": CONSERVATIVE},
        {"backbone": BACKBONE, "direct_forces": False, "regress_stress": True},
    ),
    "toy": (DIRECT_HEADS, {"backbone": TOY}),
}


class Player:
    """Captures by running again; counts what was captured and played."""

    def __init__(self) -> None:
        self.captured = self.played = 0

    def __call__(self, function):
        self.captured += 1
        outputs = function()

        def replay():
            self.played += 1
            pytree.tree_map(lambda kept, value: kept.copy_(value), outputs, function())
            return outputs

        return replay


@pytest.fixture
def player(monkeypatch) -> Player:
    player = Player()
    monkeypatch.setattr(hydra, "capture_for", lambda device: player)
    return player


def predicting(kind: str = "direct", dtype: torch.dtype = torch.float64) -> EquiformerV2:
    heads, options = KINDS[kind]
    model = tiny_model(heads, dtype=dtype, **options).eval()
    model.prepare_for_inference(batch_of(molecule()), InferenceSettings())
    return model


def moved(atoms: Atoms, seed: int, by: float = 0.01) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(by, seed=seed)
    return atoms


@torch.no_grad()
def predict(model: EquiformerV2, *structures: Atoms) -> dict[str, torch.Tensor]:
    dtype = next(model.parameters()).dtype
    return {k: v.detach() for k, v in flatten(model(batch_of(*structures, dtype=dtype))).items()}


@torch.no_grad()
def padded(model: EquiformerV2, *structures: Atoms) -> dict[str, torch.Tensor]:
    """Without recording, on the same padding."""
    dtype = next(model.parameters()).dtype
    batch = model.backbone.static_batch(batch_of(*structures, dtype=dtype))
    own = sizes_of(batch)
    sizes = StaticCalls.bucket(own)
    outputs = flatten(model.outputs_on(pad(batch, sizes)))
    return {name: unpad(value, sizes, own).detach() for name, value in outputs.items()}


def assert_same_bits(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].nan_to_num(), expected[name].nan_to_num()) for name in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_replays_have_the_bits_of_a_pass_of_the_same_padding(kind, dtype, tolerance, player):
    model = predicting(kind, dtype)
    plain = copy.deepcopy(model)
    plain._predicts = False
    kept = []
    for seed in range(4):
        structures = moved(crystal(), seed), molecule(), moved(slab(), seed)
        found = predict(model, *structures)
        assert_same_bits(found, padded(model, *structures))
        kept.append((found, {name: value.clone() for name, value in found.items()}))
        for name, value in predict(plain, *structures).items():
            gap = (found[name] - value).nan_to_num().abs().max()
            assert gap < tolerance * value.nan_to_num().abs().max(), name
    # The first use only counts; the second one records, and checks the record once.
    assert (player.captured, player.played) == (1, 1 + 3)
    for found, before in kept:
        assert_same_bits(found, before)


def test_sizes_have_recordings_of_their_own_and_those_used_last_are_kept(player):
    model = predicting()
    model._static_calls = StaticCalls(player, most=2)
    structures = molecule(), crystal(), slab()
    for atoms in structures:
        for seed in range(3):
            assert_same_bits(predict(model, moved(atoms, seed)), padded(model, moved(atoms, seed)))
    assert player.captured == 3
    predict(model, slab())
    predict(model, crystal())
    assert player.captured == 3
    predict(model, molecule())
    assert player.captured == 4


def test_another_precision_is_recorded_apart(player):
    model = predicting()
    for _ in range(2):
        predict(model, slab())
    with use_fused_kernels(False):
        for _ in range(2):
            predict(model, slab())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for _ in range(2):
            predict(model, slab())
    finally:
        torch.set_float32_matmul_precision(before)
    assert player.captured == 3


def test_no_recording_reads_casts_that_autocast_frees_at_its_end(monkeypatch):
    kept = []

    def capture(function):
        kept.append(torch.is_autocast_cache_enabled())
        return function

    monkeypatch.setattr(hydra, "capture_for", lambda device: capture)
    model = predicting("toy", torch.float32)
    data = batch_of(slab(), dtype=torch.float32)
    for _ in range(2):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            model(data.clone())
            assert torch.is_autocast_cache_enabled()
    assert kept == [False]


def test_what_needs_gradients_or_has_no_edges_runs_as_ever(player):
    model = predicting()
    for _ in range(3):
        model(batch_of(slab()))
        predict(model, Atoms("He"))
    training = tiny_model().train()
    for _ in range(3):
        predict(training, slab())
    assert player.captured == 0
    assert capture_for(torch.device("cpu")) is None


def as_fairchem_asks(model: EquiformerV2, behind: bool = False) -> dict[str, torch.Tensor]:
    """With gradients on, and positions that require some; ``behind`` as results of the caller's."""
    data = batch_of(slab())
    data.pos.requires_grad_(True)
    data.pos = data.pos * 1.0 if behind else data.pos
    return flatten(model(data))


def test_forces_that_are_gradients_are_recorded_where_nobody_can_differentiate_further(player):
    model = predicting("conservative").requires_grad_(False)
    for _ in range(3):
        found = as_fairchem_asks(model)
        assert not any(value.requires_grad for value in found.values())
        assert_same_bits(found, padded(model, slab()))
    assert (player.captured, player.played) == (1, 1 + 2)
    assert as_fairchem_asks(model, behind=True)["energy"].requires_grad
    assert as_fairchem_asks(model.requires_grad_(True))["energy"].requires_grad
    model.requires_grad_(False).backbone.regress_config.hessian = True
    assert "hessian" in as_fairchem_asks(model)
    assert (player.captured, player.played) == (1, 1 + 2)


def test_only_batches_of_another_size_are_padded_again(player, monkeypatch):
    model, pads = predicting(), []

    def sizes(atoms: Atoms):
        return sizes_of(model.backbone.static_batch(batch_of(atoms)))

    def of_another_size(atoms: Atoms) -> bool:
        buckets = (StaticCalls.bucket(sizes(one)) for one in (atoms, many))
        return sizes(atoms) != sizes(many) and len(set(buckets)) == 1

    many = slab()
    candidates = (moved(many, seed, by=0.1) for seed in range(50))
    few = next(atoms for atoms in candidates if of_another_size(atoms))
    wanted = [padded(model, atoms) for atoms in (few, many)]
    for _ in range(2):
        predict(model, few)

    def counted(batch, sizes):
        pads.append(sizes)
        return pad(batch, sizes)

    monkeypatch.setattr(static_calls, "pad", counted)
    for i, expected in ((0, 0), (0, 0), (1, 1), (1, 1), (0, 2)):
        assert_same_bits(predict(model, (few, many)[i]), wanted[i])
        assert len(pads) == expected
    assert player.captured == 1


def test_two_models_and_a_copy_record_apart(player):
    first, second = predicting(), predicting("toy")
    for _ in range(2):
        for model in (first, second):
            assert_same_bits(predict(model, slab()), padded(model, slab()))
    other = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    for _ in range(2):
        assert_same_bits(predict(other, slab()), padded(other, slab()))
    assert_same_bits(predict(first, slab()), padded(first, slab()))
    kept = [model._static_calls.recorded for model in (first, second, other)]
    assert kept == [1, 1, 1]


def refuse(function):
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


def freeze(function):
    """A recording that does not read its buffers."""
    outputs = pytree.tree_map(torch.clone, function())
    return lambda: outputs


@pytest.mark.parametrize(
    ("capture", "reason"),
    [(refuse, "operation not permitted when stream is capturing"), (freeze, "a replay returned")],
)
def test_what_cannot_be_recorded_runs_without_and_says_so_once(
    capture, reason, monkeypatch, caplog
):
    monkeypatch.setattr(hydra, "capture_for", lambda device: capture)
    model = predicting()
    expected = predicting()
    expected._predicts = False
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            found = predict(model, moved(slab(), seed))
            wanted = predict(expected, moved(slab(), seed))
            assert all((found[name] - wanted[name]).abs().max() < 1e-12 for name in wanted)
    assert caplog.text.count("going on without") == 1
    assert reason in caplog.text


def test_recordings_make_room_where_memory_runs_out(player, monkeypatch, caplog):
    model = predicting()
    for _ in range(2):
        predict(model, molecule())
    static = model._static_calls
    assert static.recorded == 1

    def too_large(function):
        raise torch.OutOfMemoryError("CUDA out of memory")

    static.capture = too_large
    for _ in range(3):
        assert_same_bits(predict(model, slab()), padded(model, slab()))
    assert static.recorded == 0
    static.capture = player
    predict(model, slab())  # was too large before: not tried again
    assert player.captured == 1
    predict(model, molecule())
    assert player.captured == 2
    assert "going on without" not in caplog.text


def test_recordings_make_room_for_passes_that_are_not_recorded(player, monkeypatch):
    model = predicting()
    for _ in range(2):
        predict(model, molecule())
    static, plain, failures = model._static_calls, EquiformerV2.outputs_on, [True]

    def short_of_memory(self, batch):
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch)

    monkeypatch.setattr(EquiformerV2, "outputs_on", short_of_memory)
    assert_same_bits(predict(model, slab()), padded(model, slab()))
    assert static.recorded == 0
    failures.append(True)
    with pytest.raises(torch.OutOfMemoryError):  # nothing is left to give up
        predict(model, crystal())
