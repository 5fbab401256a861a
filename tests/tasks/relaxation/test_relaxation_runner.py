"""The runner keeps what is finished, shares work, and says what is wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path

import ase.db
import numpy as np
import pytest
from helpers import job_config
from native_checkpoints import write_checkpoint
from relaxation_inputs import data_config, surfaces, write_data

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.inference import batch_size as memory
from eqv2_plugin.inference.batch_size import find_limit, limit_from_peak
from eqv2_plugin.tasks.relaxation.initial_structures import open_initial_structures
from eqv2_plugin.tasks.relaxation.runner import BatchedRelaxationRunner
from eqv2_plugin.tasks.splits import split_configs

SETTINGS = {"optimizer": "lbfgs", "fmax": 0.5, "steps": 3, "maxstep": 0.05}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "tiny.pt", "direct")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "id.db")


def runner(model, data, folder, share=0, processes=1, mode="SLURM", **changes):
    results = {"dataset": "oc20", "pictures": 1, "facts": {"data": "here"}}
    limits = {"structures": 2, "atoms": None}
    options = {"settings": SETTINGS, "batch": limits, "results": results, **changes}
    made = BatchedRelaxationRunner(str(model), data_config(data), **options)
    made.job_config = job_config(folder, share, processes, mode)
    return made


def stores(folder: Path) -> list[Path]:
    return sorted((folder / "run" / "results").glob("relaxed.*.jsonl"))


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()[1:]]


def results(folder: Path) -> dict[str, np.ndarray]:
    """{"KIND.KEY": array} of the files of both kinds."""
    files = {kind: folder / "run" / "results" / kind / "id.npz" for kind in ("is2re", "is2rs")}
    return {f"{kind}.{key}": v for kind, file in files.items() for key, v in read_npz(file).items()}


@pytest.fixture(scope="module")
def finished(model, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    runner(model, data, folder, trajectories=True).run()
    return folder


def test_a_job_leaves_files_for_evalai_scores_and_a_report(finished):
    folder = finished / "run" / "results"
    found = results(finished)
    sids = [sid for sid, _ in surfaces(4)]
    assert found["is2re.ids"].tolist() == found["is2rs.ids"].tolist() == sorted(sids)
    assert found["is2rs.pos"].shape == (sum(len(a) for _, a in surfaces(4)), 3)
    records = [json.loads(line) for line in stores(finished)[0].read_text().splitlines()[1:]]
    energies = {r["id"]: r["energies"][-1] for r in records}
    assert found["is2re.energy"].tolist() == [energies[f"id/{sid}"] for sid in sorted(sids)]
    metrics = json.loads((folder / "metrics.json").read_text())
    scores = metrics["splits"]["id"]
    errors = [abs(e - 0.5) for e in energies.values()]
    assert scores["is2re"]["energy_mae_eV"] == pytest.approx(np.mean(errors))
    assert scores["is2rs"]["structures"] == 4
    assert 0 < scores["is2rs"]["mean_distance_A"] < 0.5
    assert metrics["made with"]["settings"]["maxstep"] == 0.05
    lines = (folder / "tables" / "id.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("s0,5,")
    page = (folder / "report.html").read_text()
    for said in ("SHA-256", "id: s0", "energy MAE, eV", "data:image/png;base64", "IS2RE asks for"):
        assert said in page
    assert "id: s1" not in page  # one picture was asked for
    assert sorted(p.name for p in (folder / "trajectories" / "id").iterdir()) == [
        f"{sid}.traj" for sid in sids
    ]


def test_a_finished_job_does_nothing_again(finished, model, data, monkeypatch):
    before = stores(finished)[0].read_bytes()
    made = runner(model, data, finished, trajectories=True)
    monkeypatch.setattr(made, "_relax", None)
    made.run()
    assert stores(finished)[0].read_bytes() == before


def test_a_job_goes_on_where_it_stopped(finished, model, data, tmp_path):
    whole = stores(finished)[0].read_bytes().splitlines(keepends=True)
    store = tmp_path / "run" / "results" / stores(finished)[0].name
    store.parent.mkdir(parents=True)
    store.write_bytes(b"".join(whole[:3]) + whole[3][:70])
    runner(model, data, tmp_path).run()
    assert sorted(ids(store)) == sorted(ids(stores(finished)[0]))
    assert store.read_bytes().startswith(b"".join(whole[:3]))
    expected = results(finished)
    for key, value in results(tmp_path).items():
        if value.dtype.kind == "f":  # other structures shared the batch
            np.testing.assert_allclose(value, expected[key], atol=1e-5)
        else:
            np.testing.assert_array_equal(value, expected[key])


def test_jobs_share_the_structures_and_any_number_of_them_goes_on(
    finished, model, data, tmp_path, capsys
):
    runner(model, data, tmp_path, 0, 3).run()
    assert "2 structures of other processes are not finished" in capsys.readouterr().out
    runner(model, data, tmp_path, 1, 2).run()
    assert not (tmp_path / "run" / "results" / "is2re").exists()
    runner(model, data, tmp_path, 0, 2).run()
    assert "report.html" in capsys.readouterr().out
    found = [identity for path in stores(tmp_path) for identity in ids(path)]
    assert sorted(found) == [f"id/{sid}" for sid, _ in surfaces(4)]
    assert results(tmp_path)["is2re.ids"].tolist() == results(finished)["is2re.ids"].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {**SETTINGS, "steps": 4}}, "settings\\.steps: 3 -> 4"),
        ({"precision": "float64"}, "precision: float32 -> float64"),
    ],
)
def test_the_folder_of_another_job_is_refused(finished, model, data, changes, message):
    with pytest.raises(ValueError, match=message):
        runner(model, data, finished, **changes).run()


def test_another_checkpoint_or_other_data_are_refused(finished, model, data, tmp_path):
    other = write_checkpoint(tmp_path / "other.pt", "conservative")
    with pytest.raises(ValueError, match="checkpoint_sha256"):
        runner(other, data, finished).run()
    fewer = write_data(tmp_path / "id.db", count=3)
    with pytest.raises(ValueError, match=r"data\.id: .* -> "):
        runner(model, fewer, finished).run()


def test_when_every_structure_fails_the_job_fails(model, tmp_path):
    path = tmp_path / "id.db"
    with ase.db.connect(path) as database:
        bad = surfaces(1)[0][1]
        bad.numbers[0] = 99
        database.write(bad, data={"sid": "bad"})
    with pytest.raises(RuntimeError, match=r"every relaxation failed; id/bad: .*Es.*report\.html"):
        runner(model, path, tmp_path).run()


def test_frames_of_dft_relaxations_start_at_the_first_and_aim_at_the_last(model, tmp_path):
    config = {
        "root": "embedded:oc20_sample",
        "reader": {"format": "ase_db"},
        "splits": {"ood_both": {"src": "val_ood"}},
        "how_to_get": "",
    }
    starts = open_initial_structures(split_configs(config))["ood_both"]
    frames = load_sample("oc20_sample", "val_ood")
    assert sorted(starts.sids) == sorted({a.info["sid"] for a in frames})
    for sid in starts.sids:
        own = [a for a in frames if a.info["sid"] == sid]
        np.testing.assert_allclose(starts.initial(sid).positions, own[0].positions)
        assert starts.initial(sid).calc is None
        np.testing.assert_allclose(starts.target(sid).positions, own[-1].positions)
        assert starts.target(sid).energy == pytest.approx(own[-1].get_potential_energy())


def test_structures_without_tags_and_targets_are_relaxed(model, tmp_path):
    path = tmp_path / "id.db"
    with ase.db.connect(path) as database:
        atoms = surfaces(1)[0][1]
        atoms.set_tags(0)
        database.write(atoms, data={"sid": "plain"})
    runner(model, path, tmp_path).run()
    assert results(tmp_path)["is2re.ids"].tolist() == ["plain"]
    folder = tmp_path / "run" / "results"
    assert json.loads((folder / "metrics.json").read_text())["splits"]["id"]["is2re"] == {}
    assert "no DFT results" in (folder / "report.html").read_text()


def duplicates(folder: Path) -> Path:
    path = write_data(folder / "id.db", count=2)
    with ase.db.connect(path) as database:
        database.write(surfaces(1)[0][1], data={"sid": "s0"})
    return path


def empty(folder: Path) -> Path:
    path = folder / "id.db"
    with ase.db.connect(path) as database:
        del database[database.write(surfaces(1)[0][1])]
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (duplicates, "id holds 1 id.* more than once: s0"),
        (empty, "id"),
        (lambda folder: folder / "none.db", r"none\.db does not exist"),
    ],
)
def test_data_that_cannot_be_relaxed_are_one_clear_error(model, tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        runner(model, path, tmp_path).run()
    assert stores(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"results": {"dataset": "oc21", "pictures": 0, "facts": {}}},
            "dataset must be one of oc20, oc22, not 'oc21'",
        ),
        ({"results": {"dataset": "oc20", "pictures": -1, "facts": {}}}, "pictures must be"),
        ({"precision": "float16"}, "precision must be float32 or float64"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(model, data, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runner(model, data, tmp_path, **changes)


def test_no_model_and_no_data_root_say_what_to_set(model, data):
    with pytest.raises(FileNotFoundError, match=r"checkpoint=none\.pt: there is no such file"):
        runner("none.pt", data, data.parent).run()
    with pytest.raises(FileNotFoundError, match="set data_root=FOLDER"):
        BatchedRelaxationRunner(str(model), {**data_config(data), "root": None}, SETTINGS, {}, {})


def test_without_limits_memory_decides(model, data, tmp_path, capsys):
    runner(model, data, tmp_path, batch={"structures": None, "atoms": None}).run()
    assert "Moving at once: at most 320 atoms" in capsys.readouterr().out
    assert len(ids(stores(tmp_path)[0])) == 4


def test_a_limit_follows_from_peak_and_free_memory():
    assert limit_from_peak(peak=100, atoms=10, free=1000, most=500).atoms == 60
    assert limit_from_peak(peak=100, atoms=10, free=1000, most=50).atoms == 50
    assert limit_from_peak(peak=100, atoms=10, free=10, most=50).atoms == 1
    assert limit_from_peak(peak=0, atoms=10, free=1000, most=50).atoms == 50


@pytest.mark.parametrize("counted", [True, False], ids=["by the kernel", "by a thread"])
def test_the_peak_of_a_call_is_measured(monkeypatch, counted):
    held = []

    def hungry(batch):
        held.append(np.ones(4_000_000 * len(batch)))  # 32 MB for each structure
        if not counted:
            time.sleep(0.3)  # for the thread to look
        held.pop()
        return [None] * len(batch)

    if not counted:
        monkeypatch.setattr("eqv2_plugin.inference.batch_size.reset_kernel_peak", lambda: False)
    elif not memory.reset_kernel_peak():
        pytest.skip("this kernel does not count")
    four = [atoms for _, atoms in surfaces(4)]
    monkeypatch.setattr("eqv2_plugin.inference.batch_size.free_memory", lambda _: 10**9)
    found = find_limit(hungry, four, "cpu").atoms
    # 128 MB for the atoms of four structures, and 600 MB may be taken.
    assert found == pytest.approx(600 / 128 * sum(len(a) for a in four), rel=0.2)


def test_structures_that_the_model_refuses_do_not_hinder_measuring():
    def picky(batch):
        if any(len(atoms) == 4 for atoms in batch):
            raise ValueError("four atoms")
        return [None] * len(batch)

    assert find_limit(picky, [atoms for _, atoms in surfaces(4)], "cpu").atoms >= 1
    assert find_limit(picky, [surfaces(3)[2][1]], "cpu").atoms == 320
