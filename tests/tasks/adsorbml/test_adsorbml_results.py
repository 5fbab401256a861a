"""Ranking, duplicates, single points, scores and reports of finished systems."""

from __future__ import annotations

import base64
import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from adsorbml_inputs import candidate, result
from ase.io import read

from eqv2_plugin.cli import main
from eqv2_plugin.tasks.adsorbml.analysis import distinct
from eqv2_plugin.tasks.adsorbml.metrics import DftResult, score
from eqv2_plugin.tasks.adsorbml.report import warning, write_adsorbml_report
from eqv2_plugin.tasks.adsorbml.results import ResultsFolder, load_results
from eqv2_plugin.tasks.adsorbml.single_points import read_references, read_single_points


def command(*arguments) -> int:
    return main(["adsorbml", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    """Two systems; of the second all placements are anomalous."""
    folder = ResultsFolder(tmp_path / "results", {"a": 1})
    folder.save(
        result(
            "Pt111_O",
            candidate("p", -1.0, x=4.0),
            candidate("q", -1.4, x=5.5, converged=False),
            candidate("r", -1.9, anomalies=("adsorbate_desorbed", "surface_changed")),
            candidate("s", None, error="the model <failed>"),
            candidate("t", -1.0, x=6.5),
            target=-1.5,
        )
    )
    folder.save(result("b (1)", candidate("p", -3.0, anomalies=("adsorbate_desorbed",))))
    return folder.path


def test_the_lowest_valid_energy_comes_first_and_ties_keep_their_order(folder):
    found = load_results(folder)
    assert [r.system for r in found] == ["Pt111_O", "b (1)"]
    assert [c.id for c in found[0].ranked()] == ["q", "p", "t"]
    assert found[1].ranked() == []


def test_anomalies_are_counted_by_kind(folder):
    found = load_results(folder)[0]
    assert found.anomaly_counts() == {
        "adsorbate_dissociated": 0,
        "adsorbate_desorbed": 1,
        "surface_changed": 1,
        "adsorbate_intercalated": 0,
        "atoms_too_near": 0,
        "atoms_left": 0,
    }
    assert found.failed() == 1


def test_a_result_comes_back_as_it_was_saved(folder):
    found = load_results(folder)[0].candidates[0]
    expected = candidate("p", -1.0, x=4.0)
    assert vars(found).keys() == vars(expected).keys()
    for name, value in vars(expected).items():
        if name not in ("initial", "relaxed"):
            assert getattr(found, name) == value
    np.testing.assert_array_equal(found.relaxed.positions, expected.relaxed.positions)
    assert found.relaxed.get_tags().tolist() == expected.relaxed.get_tags().tolist()
    assert found.relaxed.constraints[0].index.tolist() == list(range(9))


def test_a_damaged_result_is_refused(folder):
    path = next((folder / "systems").glob("Pt*"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"Pt111_O.json.gz cannot be read.*remove it"):
        load_results(folder)


def test_the_same_place_on_an_equivalent_site_is_a_duplicate():
    """A step along the surface's first lattice vector leads to an equivalent site."""
    first = candidate("a", -1.00, x=4.0)
    step = first.relaxed.cell.lengths()[0] / 3
    shifted = candidate("b", -0.99, x=4.0 + step)
    elsewhere = candidate("c", -0.99, x=4.0 + 0.4 * step)
    other_energy = candidate("d", -0.90, x=4.0 + step)
    kept = distinct([first, shifted, elsewhere, other_energy], 9)
    assert [c.id for c in kept] == ["a", "c", "d"]
    assert [c.id for c in distinct([first, shifted, elsewhere, other_energy], 2)] == ["a", "c"]


def test_single_points_have_oc20s_settings_and_the_relaxed_structure(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("VASP_PP_PATH", raising=False)
    out = tmp_path / "dft"
    assert command("single-points", folder, "--out", out, "-k", 2) == 0
    ours = out / "Pt111_O" / "1_q"
    assert sorted(p.name for p in ours.iterdir()) == ["INCAR", "KPOINTS", "POSCAR", "ase-sort.dat"]
    incar = dict(
        re.split(r"\s*=\s*", line.strip()) for line in (ours / "INCAR").read_text().splitlines()
    )
    # OC20: RPBE, 350 eV, no spin; a single point does not move atoms.
    assert (incar["GGA"], float(incar["ENCUT"]), incar["ISPIN"]) == ("RP", 350, "1")
    assert (incar["NSW"], incar["IBRION"]) == ("0", "-1")
    # 40 over the largest component of a (8.3 Å) and of b (7.2 Å), rounded.
    assert (ours / "KPOINTS").read_text().splitlines()[3].split() == ["5", "6", "1"]
    best = load_results(folder)[0].ranked()[0].relaxed
    written = read(ours / "POSCAR")
    order = np.loadtxt(ours / "ase-sort.dat", dtype=int)[:, 0]
    np.testing.assert_allclose(written.positions, best.positions[order], atol=1e-8)
    assert written.get_chemical_symbols() == best[order].get_chemical_symbols()
    with (out / "single_points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["system"], r["candidate"], r["rank"], r["energy"]) for r in rows] == [
        ("Pt111_O", "q", "1", ""),
        ("Pt111_O", "p", "2", ""),
    ]


def test_pseudopotentials_are_written_where_there_are_some(folder, tmp_path, monkeypatch):
    for symbol in ("Pt", "O"):
        place = tmp_path / "pp" / "potpaw_PBE" / symbol
        place.mkdir(parents=True)
        (place / "POTCAR").write_text(f"{symbol} potential\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "pp"))
    assert command("single-points", folder, "--out", tmp_path / "dft", "-k", 1) == 0
    written = tmp_path / "dft" / "Pt111_O" / "1_q" / "POTCAR"
    assert written.read_text() == "Pt potential\nO potential\n"


def test_single_points_need_an_empty_folder_and_valid_structures(folder, tmp_path, capsys):
    (tmp_path / "dft").mkdir()
    (tmp_path / "dft" / "mine").write_text("")
    assert command("single-points", folder, "--out", tmp_path / "dft") == 1
    assert "is not empty" in capsys.readouterr().err
    next((folder / "systems").glob("Pt*")).unlink()
    assert command("single-points", folder, "--out", tmp_path / "new") == 1
    assert "no system has a valid structure" in capsys.readouterr().err
    assert command("single-points", tmp_path, "--out", tmp_path / "new") == 1
    assert "holds no results of AdsorbML" in capsys.readouterr().err


def write(path, text):
    path.write_text(text)
    return path


def test_the_score_command_scores_plots_and_reports(folder, tmp_path, capsys):
    points = write(
        tmp_path / "sp.csv",
        "system,candidate,energy,scf_steps\nPt111_O,q,-1.2,20\nPt111_O,p,-1.45,30\nPt111_O,t,,\n",
    )
    best = write(
        tmp_path / "best.csv", "system,energy,scf_steps\nPt111_O,-1.5,3000\nb (1),-2.0,1000\n"
    )
    out = {name: tmp_path / f"out.{name}" for name in ("html", "png", "json")}
    options = ["--report", out["html"], "--plot", out["png"], "--json", out["json"]]
    assert command("score", folder, "--dft", points, "--best", best, *options) == 0
    printed = capsys.readouterr().out
    assert "1 without a valid structure, counted as failures: b (1)" in printed
    rows = json.loads(out["json"].read_text())["k"]
    assert [row["success_rate"] for row in rows] == [0, 0.5, 0.5, 0.5, 0.5]
    assert [row["scf_speedup"] for row in rows] == [200, 80, 80, 80, 80]
    assert [row["ionic_speedup"] for row in rows] == [None] * 5
    assert [row["missing"] for row in rows] == [0, 0, 1, 1, 1]
    assert out["png"].read_bytes().startswith(b"\x89PNG")
    page = out["html"].read_text()
    # The success plot, and one picture: the other system has nothing to show.
    images = re.findall(r"base64,([^\"]+)", page)
    assert len(images) == 2
    assert base64.b64decode(images[0]).startswith(b"\x89PNG")
    assert "the model &lt;failed&gt;" in page
    assert "success; best single point - reference: +0.050 eV" in page


def test_the_inputs_minima_are_the_default_reference(folder, tmp_path, capsys):
    points = write(tmp_path / "sp.csv", "system,candidate,energy\nPt111_O,q,-1.45\n")
    assert command("score", folder, "--dft", points, "--json", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out").read_text())
    assert found["systems"] == 1
    assert found["k"][0]["success_rate"] == 1
    assert "1 without a reference, not counted: b (1)" in capsys.readouterr().out


def test_duplicates_do_not_take_places_if_asked(tmp_path, capsys):
    folder = ResultsFolder(tmp_path / "results", {})
    step = candidate("a").relaxed.cell.lengths()[0] / 3
    same = (candidate("a", -1.0), candidate("b", -0.99, x=4.0 + step), candidate("c", -0.9, x=5.0))
    folder.save(result("x", *same, target=-2.0))
    points = write(tmp_path / "sp.csv", "system,candidate,energy\nx,a,-1\nx,b,-1\nx,c,-2\n")
    rates = {}
    for options in ((), ("--distinct",)):
        out = tmp_path / "out.json"
        assert command("score", folder.path, "--dft", points, "--json", out, *options) == 0
        rates[options] = [r["success_rate"] for r in json.loads(out.read_text())["k"]]
    assert rates == {(): [0, 0, 1, 1, 1], ("--distinct",): [0, 1, 1, 1, 1]}
    out = tmp_path / "dft"
    assert command("single-points", folder.path, "--out", out, "-k", 2, "--distinct") == 0
    assert sorted(p.name for p in (out / "x").iterdir()) == ["1_a", "2_c"]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("system,energy\nPt111_O,1\n", "no column candidate"),
        ("system,candidate,energy\n", "holds no results"),
        ("system,candidate,energy\nPt111_O,q,low\n", "line 2, Pt111_O q: energy is 'low'"),
        ("system,candidate,energy\nPt111_O,q,inf\n", "energy is 'inf', which is no number"),
        ("system,candidate,energy\nPt111_O,q,1\nPt111_O,q,1\n", "occurs twice"),
        ("system,candidate,energy\nPt111_O,q\n", "not as many values"),
        ("system,candidate,energy\nz,q,1\n", "'z' that is not among the results"),
        ("system,candidate,energy\nPt111_O,z,1\n", "'z' that system Pt111_O does not have"),
        ("system,candidate,energy,scf_steps\nPt111_O,q,1,\n", "scf_steps is missing or negative"),
    ],
)
def test_faulty_single_points_are_refused(folder, tmp_path, capsys, points, message):
    path = write(tmp_path / "sp.csv", points)
    assert command("score", folder, "--dft", path) == 1
    assert message in capsys.readouterr().err


def test_faulty_references_are_refused(folder, tmp_path, capsys):
    path = write(tmp_path / "best.csv", "system,energy\na,-1\na,-2\n")
    with pytest.raises(ValueError, match="line 3, a: this system occurs twice"):
        read_references(path)
    with pytest.raises(ValueError, match="line 2, a: no energy"):
        read_references(write(path, "system,energy\na,\n"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_single_points(tmp_path / "none.csv", [])
    next((folder / "systems").glob("Pt*")).unlink()
    points = write(tmp_path / "sp.csv", "system,candidate,energy\nb (1),p,1\n")
    assert command("score", folder, "--dft", points) == 1
    assert "no lowest DFT energies: give them with --best" in capsys.readouterr().err


def test_spaces_and_byte_order_marks_of_spreadsheets_do_no_harm(tmp_path):
    path = tmp_path / "sp.csv"
    path.write_bytes(
        "system, candidate, energy, note\na, p , -1.5 , x\na, q, nan, y\n".encode("utf-8-sig")
    )
    found = read_single_points(path, [result("a", candidate("p"), candidate("q"))])
    assert found == {("a", "p"): DftResult(-1.5), ("a", "q"): DftResult(None)}


def test_the_report_shows_a_failed_system(tmp_path):
    failed = result("x")
    failed = type(failed)("x", "*O", None, None, (), "no place on <this> slab")
    found = score({"x": []}, {}, {"x": DftResult(-1.0)})
    write_adsorbml_report(tmp_path / "r.html", [failed], found, note="what the energies are")
    page = (tmp_path / "r.html").read_text()
    assert "Failed: no place on &lt;this&gt; slab." in page
    assert "failure; best single point - reference: no energy to compare" in page
    assert "what the energies are" in page


def test_a_run_in_which_nothing_converged_or_is_valid_says_so_first(tmp_path):
    moving, odd = (candidate(name, converged=False) for name in "ab")
    odd = replace(odd, anomalies=("atoms_too_near",))
    for found, said in (
        ([result("x", moving, odd)], "NOTHING CONVERGED: all 1 valid structures ran out of steps"),
        ([result("x", odd)], "NOTHING IS VALID: all 1 structures failed or have anomalies"),
    ):
        write_adsorbml_report(tmp_path / "r.html", found, note="what the energies are")
        page = (tmp_path / "r.html").read_text()
        assert page.index(said) < page.index("what the energies are")
    assert warning([result("x", moving, candidate("c"))]) == ""
