"""What the data of a split say of its file: which ids, and how many rows for each."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from eqv2_plugin.data.ids import s2ef_id, split_frame, system_id
from eqv2_plugin.data.inspection.frames import Frame, open_dataset
from eqv2_plugin.tasks.submission.check import Expected


def expected_rows(source: str | Path, task: str) -> Expected:
    """Read a data set once.

    Args:
        source: see `open_dataset`.
        task: "s2ef", "is2re" or "is2rs".

    Raises:
        FileNotFoundError: there is no such data set.
        ValueError: it cannot be read, or a structure has no id or one that occurs twice.
    """
    dataset = open_dataset(source)
    rows: dict[str, int] = {}
    for index in tqdm(range(len(dataset)), desc=str(source), unit="structure"):
        frame = dataset[index]
        one = _id(frame, task, str(source))
        if one in rows:
            raise ValueError(f"{source} holds {one} more than once: remove the doubles")
        rows[one] = int((~frame.fixed).sum()) if task == "s2ef" else len(frame.numbers)
    return Expected(rows)


def _id(frame: Frame, task: str, source: str) -> str:
    if frame.sid is None:
        raise ValueError(f"{source}: frame {frame.index} has no sid")
    sid, fid = split_frame(frame.sid) if frame.fid is None else (frame.sid, frame.fid)
    if task != "s2ef":
        return system_id(sid)
    if fid is None:
        raise ValueError(f"{source}: frame {frame.index} (sid {sid}) has no fid")
    return s2ef_id(sid, fid)
