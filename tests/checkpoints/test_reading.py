"""Files are read without running what they hold."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_inputs import PLAIN, edited
from hostile_checkpoints import SENTINEL, Bomb

from eqv2_plugin.checkpoints.describe import describe_file
from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.common.hashing import file_sha256, state_sha256


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("reader", [read_checkpoint, describe_file])
def test_a_pickle_bomb_does_not_run(tmp_path, monkeypatch, zipped, reader):
    monkeypatch.chdir(tmp_path)
    trace, path = Path(SENTINEL), Path("bomb.pt")
    content = {"state_dict": {}, "config": Bomb()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"(posix|os)\.system.*refused.*--unsafe"):
        reader(path)
    assert not trace.exists()
    # It would have: with --unsafe it does.
    read_checkpoint(path, unsafe=True)
    assert trace.exists()


def test_a_class_that_is_not_listed_is_refused_by_name(tmp_path):
    path = edited(PLAIN, tmp_path / "a.pt", lambda c: c.update(args=argparse.Namespace(a=1)))
    with pytest.raises(ValueError, match=r"argparse\.Namespace"):
        read_checkpoint(path)
    assert read_checkpoint(path, unsafe=True)["args"].a == 1


def test_an_object_of_a_missing_package_is_named(tmp_path, monkeypatch):
    module = types.ModuleType("not_a_package")
    module.Thing = type("Thing", (), {"__module__": "not_a_package"})
    monkeypatch.setitem(sys.modules, "not_a_package", module)
    torch.save({"state_dict": {}, "config": module.Thing()}, tmp_path / "a.pt")
    monkeypatch.delitem(sys.modules, "not_a_package")
    with pytest.raises(ValueError, match=r"not installed.*not_a_package"):
        read_checkpoint(tmp_path / "a.pt", unsafe=True)


def test_numpy_scalars_in_validation_metrics_are_read(tmp_path):
    metrics = {"mae": np.float64(0.25), "n": np.int64(3), "x": np.float32(2.0)}
    path = edited(PLAIN, tmp_path / "a.pt", lambda c: c.update(val_metrics=metrics))
    assert read_checkpoint(path)["val_metrics"] == metrics


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    path, whole = tmp_path / "a.pt", PLAIN.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="truncated"):
        read_checkpoint(path)


def test_a_truncated_file_of_the_old_form_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"state_dict": {"a": torch.ones(999)}}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint"):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        read_checkpoint(tmp_path / "nothing.pt")


def test_the_hash_of_weights_depends_on_names_types_shapes_and_every_bit():
    state = {"a": torch.arange(6.0), "b": torch.zeros(())}
    hashes = {
        state_sha256(other)
        for other in (
            state,
            {"a": state["a"], "c": state["b"]},
            {**state, "a": state["a"].double()},
            {**state, "a": state["a"].reshape(2, 3)},
            {**state, "a": torch.nextafter(state["a"], torch.tensor(9.0))},
        )
    }
    assert len(hashes) == 5
    assert state_sha256(dict(reversed(state.items()))) == state_sha256(state)
    strided = torch.arange(12.0).reshape(6, 2).T[0] / 2
    assert state_sha256({**state, "a": strided}) == state_sha256(state)


def test_the_hash_of_a_file_is_the_known_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
