"""Ids as the leaderboards know them.

The S2EF download of OC20 names systems "random1234567"; fairchem-core 1's LMDB files, and with
them EvalAI, know the bare number. fairchem 2 shows a frame of a data set as "<sid>-frame-<fid>".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

S2EF_ID = re.compile(r"\d+_\d+")
SYSTEM_ID = re.compile(r"\d+")
_DOWNLOAD_SID = re.compile(r"random(\d+)")
_FAIRCHEM_SID = re.compile(r"(.+)-frame-(\d+)")


def split_frame(sid: str) -> tuple[str, str | None]:
    """("1234567", "8") of fairchem's "1234567-frame-8"; (sid, None) of any other."""
    match = _FAIRCHEM_SID.fullmatch(sid)
    return (match[1], match[2]) if match else (sid, None)


def system_id(sid: str) -> str:
    """The id of a system in IS2RE and IS2RS files: "1234567" of "random1234567", else the sid."""
    match = _DOWNLOAD_SID.fullmatch(sid)
    return match[1] if match else sid


def system_ids(sids: Sequence[str], name: str) -> list[str]:
    """The ids of all systems of a split called ``name``; a ValueError if two sids have the same."""
    found: dict[str, str] = {}
    for sid in sids:
        other = found.setdefault(system_id(sid), sid)
        if other != sid:
            raise ValueError(
                f"{name}: the sids {other!r} and {sid!r} are both {system_id(sid)} in files for "
                "EvalAI: give one of the systems another sid"
            )
    return list(found)


def s2ef_id(sid: str, fid: str) -> str:
    """The id of a frame in S2EF files: "1234567_8".

    Raises:
        ValueError: a sid with "_", where readers of S2EF ids cut off the frame.
    """
    if "_" in sid:
        raise ValueError(
            f"the sid {sid!r} has '_' in it, which separates sid and fid in files for EvalAI: "
            "give the system another sid"
        )
    return f"{system_id(sid)}_{fid}"
