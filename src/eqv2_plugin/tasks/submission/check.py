"""Whether a file has the layout that EvalAI reads; see `layout` for what that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.common.findings import Finding, Verdict, listed
from eqv2_plugin.data.ids import S2EF_ID, SYSTEM_ID, s2ef_id, split_frame, system_id
from eqv2_plugin.data.inspection.frames import Frame, open_dataset
from eqv2_plugin.tasks.submission.layout import S2EF_DTYPES, SPLITS

KEYS = {
    "s2ef": ("ids", "energy", "forces", "chunk_idx"),
    "is2re": ("ids", "energy"),
    "is2rs": ("ids", "pos", "chunk_idx"),
}
# Relaxed energies predicted directly were float16 in fairchem-core 1, those of relaxations not.
_DTYPES: dict[str, tuple[type, ...]] = {
    "s2ef": tuple(S2EF_DTYPES.values()),
    "is2re": (np.float16, np.float32, np.float64),
    "is2rs": (np.float32, np.float64),
}
_JOINED = re.compile(r"(.+)_(ids|energy|forces|chunk_idx|pos)")
Arrays = Mapping[str, np.ndarray]


# {id: rows} of a split's file: free atoms (S2EF) or atoms (IS2RS).
Rows = Mapping[str, int]


def check_submission(
    path: Path,
    dataset: str | None = None,
    task: str | None = None,
    data: Mapping[str, Callable[[str], Rows]] | None = None,
) -> list[Finding]:
    """Check the file of one split, or a joined submission.

    Args:
        dataset: "oc20" or "oc22"; by default told by the splits of a joined file.
        task: "s2ef", "is2re" or "is2rs"; by default told by the arrays.
        data: {split: function that reads what the data say, given the task}; of a file of one
            split there is one entry, whatever its name.

    Raises:
        ValueError: not a complete npz file, one with Python objects, or data for a split that
            the file does not have.
    """
    data = dict(data or {})
    arrays = read_npz(path)
    splits = _splits(arrays)
    joined = "" not in splits
    found: list[Finding] = []
    if joined:
        dataset, finding = _check_splits(set(splits), dataset)
        found.append(finding)
    if dataset is None:
        found.append(Finding("data set", Verdict.LOOK, "not told by the file: give --dataset"))
    if not joined and len(data) == 1:
        data = {"": next(iter(data.values()))}
    if unknown := sorted(set(data) - set(splits)):
        there = ", ".join(splits) if joined else "one split: give its data once"
        raise ValueError(f"data were given for {', '.join(unknown)}, but {path} has {there}")
    for split, parts in splits.items():
        kind = task or _task(parts)
        lines = _check_split(parts, kind, dataset)
        if split in data and all(line.verdict is not Verdict.BAD for line in lines):
            lines.append(_check_against(parts, kind, data[split](kind)))
        prefix = f"{split}: " if split else ""
        found += [Finding(prefix + line.check, line.verdict, line.text) for line in lines]
    return found


def _splits(arrays: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """{split: its arrays}, with "" for the file of one split."""
    if any(key in arrays for key in ("ids", "energy", "pos", "forces")):
        return {"": dict(arrays)}
    splits: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        match = _JOINED.fullmatch(key)
        split, name = (match[1], match[2]) if match else ("?", key)
        splits.setdefault(split, {})[name] = array
    return splits or {"": {}}


def _check_splits(splits: set[str], dataset: str | None) -> tuple[str | None, Finding]:
    fitting = [name for name, wanted in SPLITS.items() if set(wanted) == splits]
    if dataset is None and fitting:
        dataset = fitting[0]
    ok = dataset is not None and splits == set(SPLITS[dataset])
    wanted = f"; {dataset} has {', '.join(SPLITS[dataset])}" if dataset and not ok else ""
    text = f"{', '.join(sorted(splits))}{wanted}" + ("" if dataset else ": of no known data set")
    return dataset, _finding("splits", ok, text + (f" ({dataset})" if ok else ""))


def _task(parts: Arrays) -> str:
    return "s2ef" if "forces" in parts else "is2rs" if "pos" in parts else "is2re"


def _check_split(parts: Arrays, task: str, dataset: str | None) -> list[Finding]:
    wanted = KEYS[task]
    ok = set(parts) == set(wanted)
    text = f"{', '.join(sorted(parts)) or 'none'} ({task})"
    found = [_finding("arrays", ok, text if ok else f"{text}; wanted: {', '.join(wanted)}")]
    if not ok:
        return found
    found.append(_check_ids(parts["ids"], S2EF_ID if task == "s2ef" else SYSTEM_ID))
    n = len(parts["ids"]) if parts["ids"].ndim == 1 else -1
    if "energy" in parts:
        # One number per structure: [n], or [n, 1] as some versions of fairchem-core 1 wrote.
        energy = parts["energy"]
        shape = energy.shape in ((n,), (n, 1))
        found.append(_check_numbers("energy", energy, shape, task, dataset))
    for name in ("forces", "pos"):
        if name in parts:
            shape = parts[name].ndim == 2 and parts[name].shape[1] == 3
            found.append(_check_numbers(name, parts[name], shape, task, dataset))
            found.append(_check_chunks(parts["chunk_idx"], n, len(parts[name])))
    return found


def _check_ids(ids: np.ndarray, form: re.Pattern[str]) -> Finding:
    if ids.ndim != 1 or ids.dtype.kind != "U" or not len(ids):
        return _finding("ids", False, f"no list of text: type {ids.dtype}, shape {ids.shape}")
    names = ids.tolist()
    wrong = [one for one in names if not form.fullmatch(one)]
    twice = len(names) - len(set(names))
    problems = []
    if wrong:
        example = "<sid>_<fid>" if form is S2EF_ID else "<sid>"
        problems.append(f"{len(wrong)} not {example} in digits: {listed(wrong[:3], len(wrong))}")
    if twice:
        problems.append(f"{twice} occur again")
    if bool((ids[1:] < ids[:-1]).any()):
        problems.append("not sorted as text")
    return _finding("ids", not problems, f"{len(names):,}; " + ("; ".join(problems) or "sorted"))


def _check_numbers(
    name: str, array: np.ndarray, shape: bool, task: str, dataset: str | None
) -> Finding:
    wanted = _DTYPES[task]
    if task == "s2ef" and dataset:
        wanted = (S2EF_DTYPES[dataset],)
    problems = []
    if array.dtype not in [np.dtype(one) for one in wanted]:
        names = " or ".join(np.dtype(one).name for one in wanted)
        problems.append(f"wanted {names}" + (f" for {dataset}" if dataset else ""))
    if not shape:
        problems.append("wrong shape")
    if array.dtype.kind != "f":
        problems.append("no numbers with decimals")
    elif lost := int((~np.isfinite(array)).sum()):
        problems.append(f"{lost} not finite")
    text = f"{array.dtype}, shape {list(array.shape)}"
    return _finding(name, not problems, text, *problems)


def _check_chunks(chunks: np.ndarray, n: int, rows: int) -> Finding:
    problems = []
    if chunks.ndim != 1 or chunks.dtype.kind not in "iu":
        return _finding("chunk_idx", False, f"no list of integers: {chunks.dtype} {chunks.shape}")
    if len(chunks) != n - 1:
        problems.append(f"{n} structures need {n - 1}")
    edges = np.concatenate([[0], chunks.astype(np.int64), [rows]])
    if (np.diff(edges) < 0).any():
        problems.append(f"not increasing within the {rows:,} rows")
    if problems:
        return _finding("chunk_idx", False, f"{len(chunks):,} ends", *problems)
    if empty := int((np.diff(edges) == 0).sum()):
        return Finding("chunk_idx", Verdict.LOOK, f"{empty} structure(s) without any row")
    return _finding("chunk_idx", True, f"{len(chunks):,} ends")


def _check_against(parts: Arrays, task: str, expected: Rows) -> Finding:
    """Ids, and rows per structure, against the data."""
    ids = parts["ids"].tolist()
    missing = sorted(expected.keys() - set(ids))
    unknown = sorted(set(ids) - expected.keys())
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing: {listed(missing[:3], len(missing))}")
    if unknown:
        problems.append(f"{len(unknown)} not in the data: {listed(unknown[:3], len(unknown))}")
    if task != "is2re" and not problems:
        rows = len(parts["forces" if task == "s2ef" else "pos"])
        counts = np.diff(np.concatenate([[0], parts["chunk_idx"], [rows]])).tolist()
        wrong = [one for one, k in zip(ids, counts, strict=True) if k != expected[one]]
        if wrong:
            what = "free atoms" if task == "s2ef" else "atoms"
            problems.append(f"other numbers of {what}: {listed(wrong[:3], len(wrong))}")
    text = f"{len(expected):,} structures in the data"
    return _finding("against the data", not problems, text, *problems)


def _finding(check: str, ok: bool, text: str, *problems: str) -> Finding:
    return Finding(check, Verdict.OK if ok else Verdict.BAD, "; ".join([text, *problems]))


def expected_rows(source: str | Path, task: str) -> Rows:
    """What the data of a split (see `open_dataset`) say of its file; reads them once.

    Raises:
        ValueError: a structure has no id, or one that occurs twice.
    """
    dataset = open_dataset(source)
    rows: dict[str, int] = {}
    for index in tqdm(range(len(dataset)), desc=str(source), unit="structure"):
        frame = dataset[index]
        one = _id(frame, task, str(source))
        if one in rows:
            raise ValueError(f"{source} holds {one} more than once: remove the doubles")
        rows[one] = int((~frame.fixed).sum()) if task == "s2ef" else len(frame.numbers)
    return rows


def _id(frame: Frame, task: str, source: str) -> str:
    if frame.sid is None:
        raise ValueError(f"{source}: frame {frame.index} has no sid")
    sid, fid = split_frame(frame.sid) if frame.fid is None else (frame.sid, frame.fid)
    if task != "s2ef":
        return system_id(sid)
    if fid is None:
        raise ValueError(f"{source}: frame {frame.index} (sid {sid}) has no fid")
    return s2ef_id(sid, fid)
