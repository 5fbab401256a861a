"""Which weights of a checkpoint are taken."""

from __future__ import annotations

import pytest
import torch
from checkpoint_inputs import DENS, OC22, PLAIN, edited, taken_apart, with_training_state


@pytest.fixture(scope="module", params=[OC22, DENS, PLAIN], ids=lambda path: path.parent.name)
def files(request, tmp_path_factory):
    """A released file, and a training checkpoint whose EMA weights are 1.5 times its own."""
    path = tmp_path_factory.mktemp("training") / "checkpoint.pt"
    return request.param, edited(request.param, path, with_training_state)


def test_the_default_for_a_training_checkpoint_are_the_last_weights(files):
    released, training = files
    ours, theirs = taken_apart(training), taken_apart(released)
    assert ours.weights.kind == "raw"
    assert "ignores 'ema'" in ours.weights.reason
    ours, theirs = ours.content.weights, theirs.content.weights
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_ema_weights_are_matched_to_their_parameters_by_order(files):
    released, training = files
    averaged, last = taken_apart(training, "ema"), taken_apart(released)
    assert averaged.weights.kind == "ema"
    for key, value in last.content.weights.items():
        assert torch.equal(averaged.content.weights[key], value * 1.5), key


def test_the_default_for_a_best_checkpoint_are_its_ema_weights(tmp_path):
    path = edited(PLAIN, tmp_path / "a.pt", lambda c: c["config"]["optim"].update(ema_decay=0.999))
    for weights in (None, "ema"):
        assert taken_apart(path, weights).weights.kind == "ema"
    with pytest.raises(ValueError, match="EMA weights only"):
        taken_apart(path, "raw")


def test_asking_for_ema_weights_where_there_are_none_is_refused(tmp_path):
    def stopped_without(checkpoint):
        with_training_state(checkpoint)
        checkpoint["ema"] = None

    path = edited(PLAIN, tmp_path / "a.pt", stopped_without)
    with pytest.raises(ValueError, match="there are none"):
        taken_apart(path, "ema")
    path = edited(PLAIN, tmp_path / "b.pt", lambda c: c["config"]["optim"].pop("ema_decay", None))
    assert taken_apart(path).weights.kind == "raw"
    with pytest.raises(ValueError, match="there are none"):
        taken_apart(path, "ema")


def test_ema_weights_of_another_model_are_refused(tmp_path):
    def shortened(checkpoint):
        with_training_state(checkpoint)
        checkpoint["ema"]["shadow_params"].pop()

    def reshaped(checkpoint):
        with_training_state(checkpoint)
        checkpoint["ema"]["shadow_params"][3] = torch.zeros(1, 2, 3)

    with pytest.raises(ValueError, match="trained parameters"):
        taken_apart(edited(PLAIN, tmp_path / "a.pt", shortened), "ema")
    with pytest.raises(ValueError, match="does not fit"):
        taken_apart(edited(PLAIN, tmp_path / "b.pt", reshaped), "ema")
