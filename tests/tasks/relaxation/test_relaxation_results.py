"""What leaves a relaxation job: ids, checked files, failures, and what is said first."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase import Atoms
from fairchem.core.scripts.make_submission_file import SPLITS
from relaxation_inputs import surface

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.inference.store import RelaxationStore
from eqv2_plugin.models.metadata import EnergyKind
from eqv2_plugin.tasks.relaxation import report
from eqv2_plugin.tasks.relaxation.initial_structures import open_initial_structures
from eqv2_plugin.tasks.relaxation.results import ResultOptions, write_results
from eqv2_plugin.tasks.submission.joined import Written

MADE_WITH = {
    "checkpoint_sha256": "ab",
    "energy": "energies of this model: adsorption energy",
    "task_name": "oc20",
    "precision": "float32",
    "settings": {"fmax": 0.02, "steps": 200},
    "data": {},
}
OC20 = SPLITS["OC20"]


def relaxed(identity: str, start: Atoms, energies=(2.0, 1.0), error="", **changes) -> Relaxed:
    """A relaxation with these energies, whose oxygen atom has moved by 0.1 Å."""
    end = start.copy()
    if len(energies):
        end.positions[-1, 2] += 0.1
    made = Relaxed(
        id=identity,
        initial=start,
        atoms=end,
        energy=energies[-1] if energies else np.nan,
        forces=np.full((len(start), 3), 0.5 if energies else np.nan),
        steps=max(len(energies) - 1, 0),
        converged=not error,
        energies=np.array(energies),
        fmax=np.full(len(energies), 0.5),
        error=error,
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes most of the time; `test_relaxation_pictures` is about it."""
    monkeypatch.setattr(report, "overview", lambda *_: b"")


class Job:
    """Results of a job whose relaxations are given; each split has the same two structures."""

    def __init__(self, folder: Path, splits=OC20, sids=("random1000164", "random33")) -> None:
        self.results = folder / "results"
        self.sids, self.splits = sids, splits
        self.atoms = {sid: surface(number) for number, sid in enumerate(sids)}
        with ase.db.connect(folder / "data.db") as database:
            for sid, atoms in self.atoms.items():
                targets = {"y_relaxed": 0.99, "pos_relaxed": atoms.positions}
                database.write(atoms, data={"sid": sid, **targets})
        config = {"format": "ase_db", "src": str(folder / "data.db")}
        self.starts = open_initial_structures({split: config for split in splits})
        self.changes: dict[str, dict] = {}

    def write(self, name: str = "relaxed.0-of-1.jsonl") -> None:
        with RelaxationStore(self.results / name, MADE_WITH) as store:
            for split in self.splits:
                for sid, atoms in self.atoms.items():
                    identity = f"{split}/{sid}"
                    store.append(relaxed(identity, atoms, **self.changes.get(identity, {})))

    def join(self, **options) -> Written:
        if not list(self.results.glob("*.jsonl")):
            self.write()
        return self.join_with(ResultOptions("oc20", 0, {}, **options))

    def join_with(self, options: ResultOptions) -> Written:
        return write_results(self.results, self.starts, options, EnergyKind.ADSORPTION, ["eV!"])

    @property
    def metrics(self) -> dict:
        return json.loads((self.results / "metrics.json").read_text())

    @property
    def report(self) -> str:
        return html.unescape((self.results / "report.html").read_text())

    def table(self, split: str) -> list[dict[str, str]]:
        with (self.results / "tables" / f"{split}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def submissions(self) -> dict[str, np.ndarray]:
        paths = sorted(self.results.glob("*_submission.npz"))
        return {f"{p.stem[:5]}_{k}": v for p in paths for k, v in read_npz(p).items()}


@pytest.fixture
def job(tmp_path) -> Job:
    return Job(tmp_path)


NAN = "the prediction after step 2 is not finite"
REFUSED = "the model knows atomic numbers 1..83, but the structure contains Es"
FAILED = {"error": NAN}
NEVER_PREDICTED = {"error": REFUSED, "energies": ()}


def test_ids_are_bare_numbers_and_every_file_passes_the_check(job):
    text = job.join().text
    for split in OC20:
        for kind in ("is2re", "is2rs"):
            found = read_npz(job.results / kind / f"{split}.npz")["ids"].tolist()
            assert found == ["1000164", "33"]
    assert len(job.submissions()) == len(OC20) * (2 + 3)
    verdicts = job.metrics["files"]
    assert set(verdicts.values()) == {"ok"}
    assert sorted(verdicts) == sorted(
        [f"{kind}/{split}.npz" for kind in ("is2re", "is2rs") for split in OC20]
        + ["is2re_submission.npz", "is2rs_submission.npz"]
    )
    assert "NOT FIT" not in text
    assert [row["sid"] for row in job.table("id")] == list(job.sids)  # as the data have them


def test_ids_that_evalai_does_not_read_are_said_aloud(tmp_path):
    job = Job(tmp_path, sids=("my_slab", "2"))
    text = job.join().text
    assert read_npz(job.results / "is2re" / "id.npz")["ids"].tolist() == ["2", "my_slab"]
    faults = "1 not <sid> in digits: my_slab"
    assert text.count("NOT FIT FOR EVALAI") == 2 * (len(OC20) + 1)
    assert faults in text
    assert "EvalAI: " not in text
    assert faults in job.report
    assert faults in job.metrics["files"]["is2re_submission.npz"]


def test_sids_that_become_the_same_id_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="id: the sids 'random7' and '7' are both 7"):
        Job(tmp_path, sids=("random7", "7"))


def test_where_all_fails_the_reasons_are_written_and_the_job_fails(job):
    job.changes = {f"{split}/{sid}": NEVER_PREDICTED for split in OC20 for sid in job.sids}
    found = job.join()
    assert found.error.startswith(f"every relaxation failed; id/random1000164: {REFUSED}. Report: ")
    said = ["NOTHING WAS RELAXED: all 8 structures failed."]
    assert job.metrics["notes"][:1] == said
    assert job.report.index(said[0]) < job.report.index("checkpoint (SHA-256)")
    assert "id: failed" in job.report
    assert found.text.split("\n")[1] == f"NOTE: {said[0]}"
    assert [row["error"] for row in job.table("ood_cat")] == [REFUSED] * 2
    assert not list(job.results.rglob("*.npz"))


def test_a_split_where_all_fails_does_not_hinder_the_others(job):
    job.changes = {f"ood_ads/{sid}": NEVER_PREDICTED for sid in job.sids}
    found = job.join()
    assert found.error == ""
    assert not (job.results / "is2re" / "ood_ads.npz").exists()
    assert (job.results / "is2re" / "id.npz").exists()
    splits = job.metrics["splits"]
    assert (splits["ood_ads"]["failed"], splits["id"]["failed"]) == (2, 0)
    assert splits["ood_ads"]["is2re"] == {}
    assert splits["ood_ads"]["failures"]["random33"] == {"reason": REFUSED, "submitted": ""}
    assert "NOTHING CONVERGED in ood_ads" in found.text
    assert job.submissions() == {}


def test_one_failure_names_its_id_and_no_submission_is_written(job):
    job.changes = {"ood_cat/random33": FAILED}
    text = job.join().text
    assert (
        "No submission file: 1 failed structure(s) would be missing in it: ood_cat/random33" in text
    )
    assert "failed=last_finite or failed=initial" in text
    assert "1 of 8 structures failed" in job.metrics["notes"][0]
    assert read_npz(job.results / "is2re" / "ood_cat.npz")["ids"].tolist() == ["1000164"]
    assert job.submissions() == {}
    assert job.metrics["failed"] == "refuse"


def test_a_failure_in_a_split_that_is_no_part_of_the_submission_does_not_count(tmp_path):
    job = Job(tmp_path, splits=[*OC20, "mine"])
    job.changes = {"mine/random33": FAILED}
    text = job.join().text
    assert "mine/random33" in text
    assert "No submission" not in text
    assert len(job.submissions()) == len(OC20) * (2 + 3)


@pytest.mark.parametrize(
    ("choice", "energy", "moved"), [("last_finite", 3.0, 0.1), ("initial", 9.0, 0)]
)
def test_a_choice_puts_something_in_the_place_of_a_failure(job, choice, energy, moved):
    job.changes = {"ood_cat/random33": {**FAILED, "energies": (9.0, 3.0)}}
    text = job.join(failed=choice).text
    found = job.submissions()
    assert found["is2re_ood_cat_ids"].tolist() == ["1000164", "33"]
    assert found["is2re_ood_cat_energy"].tolist() == [1.0, energy]
    positions = np.split(found["is2rs_ood_cat_pos"], found["is2rs_ood_cat_chunk_idx"])[1]
    expected = job.atoms["random33"].positions + np.eye(len(positions))[-1][:, None] * [0, 0, moved]
    np.testing.assert_allclose(positions, expected)
    scores = job.metrics["splits"]["ood_cat"]
    # It counts in the scores as it does at EvalAI.
    assert scores["is2re"]["structures"] == scores["is2rs"]["structures"] == 2
    assert scores["is2re"]["energy_mae_eV"] == pytest.approx((0.01 + energy - 0.99) / 2)
    assert scores["failures"]["random33"] == {"reason": NAN, "submitted": choice}
    assert job.metrics["failed"] == choice
    said = f"as failed={choice} asks"
    assert said in text
    assert said in job.report
    assert [row["submitted"] for row in job.table("ood_cat")] == ["relaxed", choice]


def test_another_choice_only_joins_again(job):
    job.changes = {"ood_cat/random33": FAILED}
    job.join(failed="last_finite")
    before = {path: path.read_bytes() for path in job.results.glob("*.jsonl")}
    assert len(job.submissions()) == len(OC20) * (2 + 3)
    job.join()
    assert job.submissions() == {}
    assert {path: path.read_bytes() for path in job.results.glob("*.jsonl")} == before


@pytest.mark.parametrize("choice", ["last_finite", "initial"])
def test_what_the_model_never_predicted_cannot_be_submitted(job, choice):
    job.changes = {"ood_cat/random33": NEVER_PREDICTED, "id/random33": FAILED}
    text = job.join(failed=choice).text
    assert "would be missing in it: ood_cat/random33. The model predicted nothing of them" in text
    assert read_npz(job.results / "is2re" / "id.npz")["ids"].tolist() == ["1000164", "33"]
    assert read_npz(job.results / "is2re" / "ood_cat.npz")["ids"].tolist() == ["1000164"]
    assert job.submissions() == {}


def test_an_unknown_choice_is_refused():
    with pytest.raises(
        ValueError, match="failed must be one of refuse, last_finite, initial, not 'x'"
    ):
        ResultOptions("oc20", 1, {}, failed="x")


def test_of_a_structure_that_was_relaxed_twice_the_first_counts(job):
    job.write("relaxed.0-of-1.jsonl")
    job.changes = {"id/random33": {"energies": (5.0, 4.0)}}
    job.splits = ["id"]
    job.write("relaxed.1-of-2.jsonl")
    for _ in range(2):
        text = job.join().text
        found = job.submissions()
        assert found["is2re_id_energy"].tolist() == [1.0, 1.0]
        said = "2 structure(s) were relaxed twice"
        assert said in text
        assert "id/random1000164, id/random33" in text
        assert said in job.report
    assert job.metrics["relaxed twice"] == ["id/random1000164", "id/random33"]


def test_a_run_in_which_nothing_converged_says_so_first(job):
    job.changes = {f"{s}/{sid}": {"converged": False} for s in OC20 for sid in job.sids}
    text = job.join().text
    said = "NOTHING CONVERGED: no relaxation reached forces below 0.02 eV/Å within 200 steps"
    assert text.split("\n")[1].startswith(f"NOTE: {said}")
    assert job.metrics["notes"][0].startswith(said)
    assert job.report.index(said) < job.report.index("checkpoint (SHA-256)")


def test_shares_within_thresholds_are_percent_everywhere(job):
    # Energies are 0.01 eV off in one split of two structures, 1 eV in one of them.
    job.changes = {"id/random33": {"energies": (2.0, 2.0)}}
    text = job.join().text
    scores = job.metrics["splits"]["id"]
    assert scores["is2re"]["EwT_percent"] == 50.0
    assert 50.0 < scores["is2rs"]["ADwT_percent"] < 100.0
    line = next(line for line in text.split("\n") if line.startswith("id "))
    assert line.split()[-2] == "50.0"
    assert "EwT, %" in job.report
    assert '<td class="number">50</td>' in job.report


def test_odd_relaxed_structures_are_flagged_everywhere(job):
    overlap, gone = (job.atoms["random33"].copy() for _ in range(2))
    overlap.positions[1] = overlap.positions[0] + [0, 0, 0.05]
    gone.positions[-1] += [0, 0, 1e5]
    job.changes = {"id/random33": {"atoms": overlap}, "ood_cat/random33": {"atoms": gone}}
    text = job.join().text
    apart, moved = "are 0.050 Å apart", "moved by 1e+05 Å"
    splits = job.metrics["splits"]
    assert list(splits["id"]["anomalies"]["atoms_too_near"]) == ["random33"]
    assert apart in splits["id"]["anomalies"]["atoms_too_near"]["random33"]
    assert moved in splits["ood_cat"]["anomalies"]["atoms_left"]["random33"]
    assert splits["ood_both"]["anomalies"] == {"atoms_too_near": {}, "atoms_left": {}}
    assert apart in job.table("id")[1]["anomalies"]
    assert "1 relaxed structure(s) have atoms nearer than half" in text
    assert "1 relaxed structure(s) have atoms that moved by more" in text
    counted = {line.split()[0]: line.split()[4] for line in text.split("\n") if " - " not in line
               and line.split()[:1] and line.split()[0] in OC20}  # fmt: skip
    assert counted == {"id": "1", "ood_ads": "0", "ood_cat": "1", "ood_both": "0"}
    for said in (apart, moved, "id: anomalies", "ood_cat: anomalies"):
        assert said in job.report
    # They are flagged, not removed.
    assert len(job.submissions()) == len(OC20) * (2 + 3)


@pytest.mark.parametrize("shift", [1e5, 1e30])
def test_a_report_with_pictures_stands_lost_atoms_and_starts_that_are_not_finite(
    job, monkeypatch, shift
):
    monkeypatch.undo()
    job.splits = ["id"]
    job.starts = {"id": job.starts["id"]}
    gone = job.atoms["random33"].copy()
    gone.positions[-1] += [0, 0, shift]
    lost = {"atoms": gone, "energies": (1e300, -1e300), "fmax": np.array([1e150, 0.0])}
    job.changes = {"id/random33": lost, "id/random1000164": NEVER_PREDICTED}
    job.write()
    job.join_with(ResultOptions("oc20", 2, {}))
    assert "id: random33" in job.report
