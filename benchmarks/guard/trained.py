"""The checkpoint of a kind of data, trained once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ase import Atoms
from one_thread import ENVIRONMENT

from eqv2_plugin.common.files import building_folder
from eqv2_plugin.data.sample import write_ase_db
from guard.kinds import TRAIN, VAL, Kind

CONFIG = Path(__file__).parents[2] / "configs" / "eqv2_train.yml"
_FAIRCHEM = "from fairchem.core._cli import main; main()"


def train(kind: Kind, frames: dict[str, list[Atoms]], out: Path, start: Path | None) -> Path:
    """The checkpoint, trained if there is none; an interrupted training goes on.

    Args:
        out: folder of frames and runs.
        start: checkpoint to begin from.

    Raises:
        RuntimeError: it failed; its last lines are in the message.
    """
    results = out / "runs" / kind.name / "results"
    if (results / "finished.json").is_file():
        return results / "inference_ckpt.pt"
    folder = out / "frames" / kind.name
    if not folder.is_dir():
        with building_folder(folder) as building:
            for part in (TRAIN, VAL):
                (building / part).mkdir()
                write_ase_db(frames[part], building / part)
    command = [
        sys.executable, "-c", _FAIRCHEM, "-c", str(CONFIG), f"train={folder / TRAIN}",
        f"val={folder / VAL}", f"run_dir={out / 'runs'}", f"run_name={kind.name}",
        *([] if start is None else [f"checkpoint={start}"]), *kind.overrides,
    ]  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    print(f"{kind.name}: training begins", flush=True)
    log = out / f"{kind.name}.log"
    with log.open("a") as file:
        found = subprocess.run(
            command, env={**os.environ, **ENVIRONMENT}, stdout=file, stderr=file, check=False
        )
    if found.returncode:
        lines = log.read_text().splitlines()
        raise RuntimeError(f"{kind.name} failed:\n" + "\n".join(lines[-15:]))
    return results / "inference_ckpt.pt"
