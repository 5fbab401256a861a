"""Original files of MD17: units, indices and energies; none is at hand, so one in their layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from md17_files import FRAMES, write_file

from eqv2_plugin.data import md17
from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.data.structures import open_structures


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("md17")
    write_file(found / "kcal.npz")
    write_file(found / "ev.npz", 1.0, revised=True)
    write_file(found / "halved.npz", F=np.zeros((3, 9, 3)))
    write_file(found / "few.npz", E=np.zeros((3, 1)))
    write_file(found / "lost.npz", F=None)
    order = np.random.default_rng(0).permutation(FRAMES)
    parts = {"idx_train": order[:100], "idx_val": order[100:150], "idx_test": order[150:]}
    np.savez(found / "parts.npz", **parts)
    np.savez(found / "twice.npz", **{**parts, "idx_val": order[:50]})
    np.savez(found / "beyond.npz", **{**parts, "idx_val": [FRAMES]})
    np.savez(found / "half.npz", idx_train=order[:5])
    (found / "cut.npz").write_bytes((found / "kcal.npz").read_bytes()[:5000])
    return found


def config(folder: Path, name: str = "kcal", part: str = "test", **options) -> dict:
    indices = str(folder / options.pop("indices", "parts.npz"))
    return {"format": "md17_npz", "src": str(folder / f"{name}.npz"), "part": part,
            "indices": indices, **options}  # fmt: skip


@pytest.mark.parametrize(("name", "unit"), [("kcal", "kcal/mol"), ("ev", "eV")])
def test_frames_are_in_ev_and_relative_to_the_training_set(folder, name, unit):
    sample = [a for s in ("train", "val", "test") for a in load_sample("rmd17_ethanol", s)]
    chosen = dict(np.load(folder / "parts.npz"))
    mean = np.mean([sample[i].calc.results["energy"] for i in chosen["idx_train"]])
    for part in md17.PARTS:
        found = open_structures(config(folder, name, part, unit=unit), part)
        frames = chosen[f"idx_{part}"]
        assert len(found) == len(frames)
        for index in (0, len(found) - 1):
            atoms, wanted = found[index], sample[frames[index]]
            assert (atoms.info["sid"], atoms.info["fid"]) == (name, str(frames[index]))
            np.testing.assert_allclose(atoms.positions, wanted.positions)
            np.testing.assert_allclose(
                atoms.calc.results["forces"], wanted.calc.results["forces"], rtol=1e-12
            )
            energy = wanted.calc.results["energy"] - mean
            assert atoms.calc.results["energy"] == pytest.approx(energy, abs=1e-9)


def test_original_files_are_split_by_the_published_permutation(monkeypatch):
    monkeypatch.setitem(md17.FRAMES, "ethanol", FRAMES)
    found = md17.split_frames(Path("e.npz"), FRAMES, "ethanol", None)
    assert [len(found[part]) for part in md17.PARTS] == [950, 50, FRAMES - 1000]
    order = np.random.default_rng(1).permutation(FRAMES)
    np.testing.assert_array_equal(np.concatenate([found[part] for part in md17.PARTS]), order)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("none", {}, r"none\.npz does not exist"),
        ("kcal", {"unit": "eV"}, r"3[0-9]\.\d eV/Å if the file is in eV.*unit=kcal/mol"),
        ("ev", {"unit": "kcal/mol"}, r"0\.0\d+ eV/Å if the file is in kcal/mol.*unit=eV"),
        ("kcal", {"unit": "kcal"}, r"no unit 'kcal'; did you mean 'kcal/mol'"),
        ("kcal", {"part": "tests"}, r"no part 'tests'.*did you mean 'test'"),
        ("kcal", {"indices": None, "molecule": "ethanol"},
         r"1,100 frames, the original file of ethanol 555,092.*published indices"),
        ("kcal", {"indices": None, "molecule": "etanol"},
         r"no molecule 'etanol' in MD17; did you mean 'ethanol'"),
        ("kcal", {"indices": "none.npz"}, r"no file .*none\.npz"),
        ("kcal", {"indices": "half.npz"}, r"has no idx_val and no idx_test"),
        ("kcal", {"indices": "twice.npz"}, r"names frames more than once"),
        ("kcal", {"indices": "beyond.npz"}, r"names frames that a trajectory of 1,100"),
        ("lost", {}, r"no file of MD17: it has no array F or forces"),
        ("halved", {}, r"do not match"),
        ("few", {}, r"3 energies for 1100 frames"),
        ("cut", {}, r"no complete npz file"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(folder, name, options, message):
    given = config(folder, name, **{k: v for k, v in options.items() if v is not None})
    if options.get("indices", "") is None:
        given["indices"] = None
    with pytest.raises((FileNotFoundError, ValueError), match=f"(?s){message}"):
        open_structures(given, "test")
