"""Reading a data set runs no code that its files bring along."""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import os
import pickle
import subprocess
from collections import OrderedDict

import numpy as np
import pytest
import torch
from lmdb_inputs import attributes, pyg1, pyg2, write_lmdb

from eqv2_plugin.data.lmdb import LmdbDataset, OC22LmdbDataset, lmdb_frames
from eqv2_plugin.unpickling.arrays import read_storage
from eqv2_plugin.unpickling.restricted import restricted_loads


class Call:
    """Unpickles as the result of a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def payloads(marker) -> dict:
    """Values whose unpickling makes the file ``marker``, and the global each needs."""
    touch = f"open({str(marker)!r}, 'w').close()"
    inner = pickle.dumps(Call(exec, touch))
    file = io.BytesIO()
    torch.save(Call(exec, touch), file)
    file.seek(0)
    return {
        "system": (Call(os.system, f"touch {marker}"), f"{os.system.__module__}.system"),
        "exec": (Call(builtins.exec, touch), "builtins.exec"),
        "eval": (Call(builtins.eval, f"exec({touch!r})"), "builtins.eval"),
        "popen": (Call(subprocess.check_call, ["touch", str(marker)]), "subprocess.check_call"),
        "storage": (
            Call(torch.storage._load_from_bytes, file.getvalue()),
            "storage is not in torch's format",
        ),
        "old_storage": (Call(torch.storage._load_from_bytes, old(inner)), "builtins.exec"),
        "load": (
            Call(functools.partial(torch.load, weights_only=False), file),
            "functools.partial",
        ),
        "numpy": (np.array([Call(exec, touch)], dtype=object), "numpy values of type 'O8'"),
    }


def old(inner: bytes) -> bytes:
    """A storage in torch's old format with a pickle in the place of its description."""
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001)]
    return b"".join([*head, pickle.dumps({"little_endian": True}, 2), inner])


NAMES = list(payloads("unused"))


@pytest.mark.parametrize("name", NAMES)
def test_the_payload_would_run_if_unpickled(tmp_path, name):
    payload, _ = payloads(tmp_path / "marker")[name]
    # torch stumbles over what the payload leaves, after it has run.
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("make", [pyg1, pyg2])
@pytest.mark.parametrize("name", NAMES)
def test_a_payload_in_a_record_is_refused_and_does_not_run(tmp_path, name, make):
    payload, asked = payloads(tmp_path / "marker")[name]
    records = [make(attributes()), make(attributes(extra=payload))]
    path = write_lmdb(tmp_path / "data.lmdb", records)
    dataset = LmdbDataset({"src": str(path)})
    assert len(dataset[0].pos) == 3
    with pytest.raises(ValueError, match=rf"record '1' of .*data\.lmdb.*{asked}"):
        dataset[1]
    with pytest.raises(ValueError, match=rf"record '1' of .*data\.lmdb.*{asked}"):
        list(lmdb_frames(path))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_in_the_length_entry_does_not_run(tmp_path, name):
    payload, asked = payloads(tmp_path / "marker")[name]
    path = write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes())], length=payload)
    with pytest.raises(ValueError, match=rf"'length' of .*data\.lmdb.*{asked}"):
        LmdbDataset({"src": str(path)})
    assert not (tmp_path / "marker").exists()


def test_a_payload_in_the_oc20_references_does_not_run(tmp_path):
    path = write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes())])
    (tmp_path / "ref.pkl").write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "marker"))))
    options = {"train_on_oc20_total_energies": True, "oc20_ref": str(tmp_path / "ref.pkl")}
    with pytest.raises(ValueError, match=r"oc20_ref .*ref\.pkl.*mkdir"):
        OC22LmdbDataset({"src": str(path), **options})
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("option", ["metadata_path", "lin_ref"])
def test_a_payload_in_an_npz_file_does_not_run(tmp_path, option):
    path = write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes())])
    payload = np.array([Call(os.mkdir, str(tmp_path / "marker"))], dtype=object)
    np.savez(tmp_path / "numbers.npz", natoms=payload, coeff=payload)
    with pytest.raises(ValueError, match="holds Python objects"):
        OC22LmdbDataset({"src": str(path), option: str(tmp_path / "numbers.npz")}).get_metadata(
            "natoms", 0
        )
    assert not (tmp_path / "marker").exists()


def test_attributes_of_admitted_classes_cannot_be_reached():
    # STACK_GLOBAL with a dotted name: what pickle allows from protocol 4 on.
    reach = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93."
    assert pickle.loads(reach) == OrderedDict.fromkeys
    with pytest.raises(ValueError, match=r"collections\.OrderedDict\.fromkeys"):
        restricted_loads(reach)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16,
     torch.int8, torch.uint8, torch.bool],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 3), (1, 3, 3), (0, 3)])
def test_tensors_come_back_exactly(dtype, shape):
    tensor = (10 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    array = restricted_loads(pickle.dumps(tensor))
    assert array.shape == shape
    torch.testing.assert_close(torch.from_numpy(np.array(array)), tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    "view",
    [lambda t: t.T, lambda t: t[2:5, 1], lambda t: t[::2], lambda t: t[1].expand(4, 3)],
)
def test_views_of_tensors_come_back_exactly(view):
    tensor = view(torch.arange(18.0).view(6, 3))
    array = restricted_loads(pickle.dumps(tensor))
    np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize(
    "value",
    [np.float64(-23.93998512544991), np.float32(0.1), np.int64(7), np.bool_(True)],
)
def test_numpy_scalars_come_back_exactly(value, protocol):
    assert restricted_loads(pickle.dumps(value, protocol)) == value.item()


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i8", "<i4", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays_come_back_exactly(dtype, order, protocol):
    array = np.array([[1.5, 0, 3], [4, 5, 0]], order=order).astype(dtype, order=order)
    back = restricted_loads(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(getattr(back, "value", back), array)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("value", [np.float64(1.5), np.array([1.5, 2.5])])
def test_values_written_by_numpy_1_come_back(value, protocol):
    now = pickle.dumps(value, protocol)
    written = now[:2] + now[11:]  # without the frame, whose size changes
    for module in (b"multiarray", b"numeric"):
        new, old_name = b"numpy._core." + module, b"numpy.core." + module
        written = written.replace(
            bytes([0x8C, len(new)]) + new, bytes([0x8C, len(old_name)]) + old_name
        )
    assert len(written) == len(now) - 9 - 1
    back = restricted_loads(written)
    np.testing.assert_array_equal(getattr(back, "value", back), value)


def rebuilt(storage: torch.Tensor, offset: int, shape: tuple, strides: tuple) -> bytes:
    stored = Call(torch.storage._load_from_bytes, pickle_of(storage))
    call = Call(torch._utils._rebuild_tensor_v2, stored, offset, shape, strides, False, {})
    return pickle.dumps(call)


def pickle_of(tensor: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensor.storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (3, (2,), (-1,)),
     (0, (2,), (1 << 60,)), (0, (2,), (1, 1))],
)  # fmt: skip
def test_memory_outside_of_a_storage_cannot_be_read(offset, shape, strides):
    fitting = rebuilt(torch.arange(4.0), 0, (2, 2), (2, 1))
    np.testing.assert_array_equal(restricted_loads(fitting), [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match="a tensor"):
        restricted_loads(rebuilt(torch.arange(4.0), offset, shape, strides))


def test_a_storage_that_is_cut_off_is_refused():
    stored = pickle_of(torch.arange(4.0))
    assert read_storage(stored).tolist() == [0, 1, 2, 3]
    with pytest.raises(pickle.UnpicklingError, match="12 bytes for 4 numbers"):
        read_storage(stored[:-4])


@pytest.mark.parametrize("damaged", [b"", b"text", b"\x80\x04", pickle.dumps([1, 2])[:-2]])
def test_a_damaged_pickle_is_one_clear_error(damaged):
    with pytest.raises(ValueError, match="not a pickle that can be read safely"):
        restricted_loads(damaged)
