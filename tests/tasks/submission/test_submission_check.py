"""``eqv2 submission check`` finds each thing that can be wrong with a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from submission_inputs import write_good, write_splits

from eqv2_plugin import cli
from eqv2_plugin.common.files import read_npz, save_npz
from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.data.ids import s2ef_id
from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.tasks.submission.check import check_submission
from eqv2_plugin.tasks.submission.layout import SPLITS, write_s2ef


def bad_lines(path: Path, *options: object) -> dict[str, str]:
    found = check_submission(path, *options)
    return {line.check: line.text for line in found if line.verdict is Verdict.BAD}


def edited(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    arrays = read_npz(path)
    change(arrays)
    save_npz(path, arrays)
    return path


def joined(folder: Path, dataset: str) -> Path:
    dtype = {"OC20": np.float16, "OC22": np.float32}[dataset]
    files = write_splits(folder, dataset, dtype)
    arrays = {f"{s}_{k}": v for s, path in files.items() for k, v in read_npz(path).items()}
    save_npz(folder / "joined.npz", arrays)
    return folder / "joined.npz"


@pytest.mark.parametrize("task", ["s2ef", "is2re", "is2rs"])
def test_a_good_file_of_one_split_passes(tmp_path, task):
    path = write_good(tmp_path / "id.npz", task)
    assert bad_lines(path, "oc20") == {}
    assert bad_lines(path, "oc20", task) == {}


@pytest.mark.parametrize("dataset", ["OC20", "OC22"])
def test_a_good_submission_passes_and_tells_its_data_set(tmp_path, dataset):
    path = joined(tmp_path, dataset)
    found = check_submission(path)
    assert [line.verdict for line in found] == [Verdict.OK] * (1 + 5 * len(SPLITS[dataset.lower()]))
    assert found[0].text.endswith(f"({dataset.lower()})")


def swap(name: str) -> Callable[[dict], None]:
    def change(arrays: dict) -> None:
        arrays[name][[0, 1]] = arrays[name][[1, 0]]

    return change


def put(name: str, index: int, value: object) -> Callable[[dict], None]:
    def change(arrays: dict) -> None:
        arrays[name][index] = value

    return change


def to(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], None]:
    def change(arrays: dict) -> None:
        arrays[name] = function(arrays[name])

    return change


FAULTS = {
    "unsorted": (swap("ids"), "ids", "not sorted as text"),
    "twice": (lambda a: a["ids"].__setitem__(1, a["ids"][0]), "ids", "1 occur again"),
    "prefix": (to("ids", lambda i: np.char.add("random", i)), "ids", "4 not <sid>_<fid>"),
    "no frame": (to("ids", lambda i: np.array([s.split("_")[0] for s in i])), "ids", "4 not"),
    "bytes": (to("ids", lambda i: i.astype("S")), "ids", "no list of text"),
    "double": (to("energy", np.float64), "energy", "wanted float16 for oc20"),
    "oc22": (to("forces", np.float32), "forces", "wanted float16 for oc20"),
    "integers": (to("energy", lambda e: e.astype(int)), "energy", "no numbers with decimals"),
    "nan": (put("energy", 2, np.nan), "energy", "1 not finite"),
    "infinite": (put("forces", 0, np.inf), "forces", "3 not finite"),
    "flat": (to("forces", lambda f: f.reshape(-1)), "forces", "wrong shape"),
    "fewer energies": (to("energy", lambda e: e[:-1]), "energy", "wrong shape"),
    "last chunk": (to("chunk_idx", lambda c: np.append(c, 99)), "chunk_idx", "need 3"),
    "falling": (swap("chunk_idx"), "chunk_idx", "not increasing"),
    "beyond": (put("chunk_idx", -1, 10_000), "chunk_idx", "not increasing"),
    "fractions": (to("chunk_idx", np.float64), "chunk_idx", "no list of integers"),
    "missing": (lambda a: a.pop("chunk_idx"), "arrays", "wanted: ids, energy, forces, chunk_idx"),
    "further": (lambda a: a.update(note=np.zeros(1)), "arrays", "note"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_makes_its_line_bad(tmp_path, name):
    change, check, text = FAULTS[name]
    path = edited(write_good(tmp_path / "id.npz", "s2ef"), change)
    found = bad_lines(path, "oc20")
    assert list(found) == [check]
    assert text in found[check]


def test_a_structure_without_rows_is_to_be_looked_at(tmp_path):
    def change(arrays: dict) -> None:
        arrays["chunk_idx"][1] = arrays["chunk_idx"][0]

    path = edited(write_good(tmp_path / "id.npz", "s2ef"), change)
    looked = [f.check for f in check_submission(path, "oc20") if f.verdict is Verdict.LOOK]
    assert looked == ["chunk_idx"]


def test_a_missing_split_is_bad(tmp_path):
    def change(arrays: dict) -> None:
        for key in [key for key in arrays if key.startswith("ood_ads_")]:
            del arrays[key]

    path = edited(joined(tmp_path, "OC20"), change)
    assert "of no known data set" in bad_lines(path)["splits"]
    assert "oc20 has id, ood_ads" in bad_lines(path, "oc20")["splits"]


def test_a_submission_of_the_other_data_set_is_bad(tmp_path):
    assert "splits" in bad_lines(joined(tmp_path, "OC22"), "oc20")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    path = write_good(tmp_path / "id.npz", "s2ef")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no complete npz file"):
        check_submission(path)
    path.write_bytes(whole[:60] + bytes(20) + whole[80:])
    with pytest.raises(ValueError, match="no complete npz file"):
        check_submission(path)
    np.savez(path, ids=np.array(["1_0"], dtype=object))
    with pytest.raises(ValueError, match="holds Python objects"):
        check_submission(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        check_submission(tmp_path / "no.npz")


def rows_of(path: Path) -> dict[str, int]:
    arrays = read_npz(path)
    parts = np.split(arrays["forces"], arrays["chunk_idx"])
    return {one: len(p) for one, p in zip(arrays["ids"].tolist(), parts, strict=True)}


@pytest.mark.parametrize("fault", ["none", "missing", "unknown", "atoms"])
def test_ids_and_atoms_are_compared_with_the_data(tmp_path, fault):
    path = write_good(tmp_path / "id.npz", "s2ef")
    rows = rows_of(path)
    first = min(rows)
    if fault == "missing":
        rows["77_7"] = 1
    elif fault == "unknown":
        del rows[first]
    elif fault == "atoms":
        rows[first] += 1
    found = bad_lines(path, "oc20", None, {"id": lambda task: rows})
    texts = {"missing": "missing: 77_7", "unknown": f"not in the data: {first}"}
    texts["atoms"] = f"other numbers of free atoms: {first}"
    assert list(found) == ([] if fault == "none" else ["against the data"])
    assert fault == "none" or texts[fault] in found["against the data"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def test_the_command_compares_with_real_data_and_says_so_by_its_status(
    tmp_path, capsys, cache, monkeypatch
):
    monkeypatch.setenv("EQV2_CACHE", cache)
    frames = load_sample("oc20_sample", "val_id")
    free = [~np.isin(np.arange(len(a)), a.constraints[0].index) for a in frames]
    ids = [s2ef_id(a.info["sid"], str(a.info["fid"])) for a in frames]
    made = ids, np.zeros(len(frames)), [a.positions for a in frames], free
    path = tmp_path / "id.npz"
    write_s2ef(path, *made, dtype=np.float16)
    data = "id=embedded:oc20_sample/val_id"
    arguments = ["submission", "check", str(path), "--dataset", "oc20", "--split-data"]
    assert cli.main([*arguments, data]) == 0
    assert "88 structures in the data" in capsys.readouterr().out
    assert cli.main([*arguments, "id=embedded:oc20_sample/val_ood"]) == 1
    assert "90 missing" in capsys.readouterr().out
    assert cli.main([*arguments, data, data]) == 1
    assert "each name once" in capsys.readouterr().err
    assert cli.main([*arguments, "id=nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_data_for_a_split_that_is_not_there_are_refused(tmp_path):
    path = joined(tmp_path, "OC22")
    with pytest.raises(ValueError, match="data were given for ood_ads, but"):
        check_submission(path, None, None, {"ood_ads": lambda task: {}})
