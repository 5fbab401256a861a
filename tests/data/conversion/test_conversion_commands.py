"""`eqv2 data oc20` and `eqv2 data convert` as a user types them."""

import ase.io
import numpy as np
import pytest
from downloads import contents, download, read_by_fairchem, sample

from eqv2_plugin.cli import main


def test_oc20_makes_a_folder_and_says_what_is_in_it(tmp_path, capsys):
    raw, out = download(tmp_path / "raw"), tmp_path / "oc20" / "train"
    assert main(["data", "oc20", "--raw", str(raw), "--out", str(out), "--workers", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 12 frames in 3 database(s)",
        "labels: energy, forces",
    ]
    assert read_by_fairchem(out)[0].energy.item() == np.float32(
        sample(12)[0].get_potential_energy()
    )
    assert main(["data", "oc20", "--raw", str(raw), "--out", str(out)]) == 0
    assert "12 frames in 3 database(s) (3 were there)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "labels"), [("--total-energy", {"energy", "forces"}), ("--test-data", set())]
)
def test_oc20_options_choose_the_labels(tmp_path, capsys, option, labels):
    raw, out = download(tmp_path / "raw"), tmp_path / "out"
    assert main(["data", "oc20", "--raw", str(raw), "--out", str(out), option]) == 0
    rows = contents(out)
    assert all({"energy", "forces"} & row.keys() == labels for _, row in rows)
    if labels:
        first = sample(12)[0]
        total = first.get_potential_energy() + first.info["ref_energy"]
        assert rows[0][1]["energy"] == total
    else:
        printed = capsys.readouterr().out
        assert "labels: none; for prediction only" in printed
        assert "note: 12 frames had labels, which --test-data leaves out" in printed


def test_total_energies_of_test_data_make_no_sense(tmp_path):
    arguments = ["data", "oc20", "--raw", "a", "--out", "b", "--total-energy", "--test-data"]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_the_number_of_workers_is_checked(tmp_path, capsys, workers):
    with pytest.raises(SystemExit):
        main(["data", "oc20", "--raw", "a", "--out", "b", f"--workers={workers}"])
    assert f"{workers!r} is not a number of processes" in capsys.readouterr().err


def test_errors_are_one_line_and_exit_status_1(tmp_path, capsys):
    raw, out = download(tmp_path / "raw"), tmp_path / "out"
    (raw / "9.txt").unlink()
    assert main(["data", "oc20", "--raw", str(raw), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"eqv2: {raw / '9.extxyz'} has no partner 9.txt")
    assert message.count("\n") == 1
    assert not out.exists()


def test_errors_of_workers_are_one_line(tmp_path, capsys):
    raw, out = download(tmp_path / "raw"), tmp_path / "out"
    (raw / "9.txt").write_text("random1\n")
    assert main(["data", "oc20", "--raw", str(raw), "--out", str(out), "--workers", "2"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"eqv2: {raw / '9.txt'}, line 1: 'random1' is not")


def test_convert_takes_several_sources_and_tells_of_what_it_made_up(tmp_path, capsys):
    sources = []
    for name in ("a", "b"):
        atoms = sample(1)[0].copy()
        atoms.info = {}
        ase.io.write(tmp_path / f"{name}.traj", [atoms, atoms])
        sources.append(str(tmp_path / f"{name}.traj"))
    assert main(["data", "convert", *sources, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'out'}: 4 frames in 2 database(s)",
        "labels: none; for prediction only",
        "note: 4 frames had no sid: named after their file, with their place in it as fid",
    ]
