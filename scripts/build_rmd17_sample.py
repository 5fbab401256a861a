"""Write one molecule of rMD17 as an embedded sample.

    python scripts/build_rmd17_sample.py --source DIR --molecule ethanol --out FILE

``DIR`` holds ``<molecule>_train.npz`` and ``<molecule>_test.npz``, 1000 frames each, with
``numbers`` [n], ``pos`` [N, n, 3] (Å), ``energy`` [N] (eV) and ``forces`` [N, n, 3] (eV/Å),
and ``md17_index`` [N]. The first 950 training frames become the split "train", the last 50
"val", the test frames "test", as in the DeNS paper (section 4.3). Energies are stored relative
to the mean of "train", which ``ref_energy`` holds: float32 could not resolve total energies.
Keys of the output: see ``build_oc20_sample.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

NUM_TRAIN = 950


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--molecule", default="ethanol")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    parts = []
    for name in ("train", "test"):
        with np.load(options.source / f"{options.molecule}_{name}.npz", allow_pickle=False) as file:
            parts.append({key: file[key] for key in file.files})
    numbers = parts[0]["numbers"]
    stacked = {
        key: np.concatenate([part[key] for part in parts])
        for key in ("pos", "forces", "energy", "md17_index")
    }
    num_frames, num_atoms = stacked["pos"].shape[:2]
    split = np.array(["test"] * num_frames)
    split = np.where(np.arange(num_frames) < len(parts[0]["pos"]), "val", split)
    split = np.where(np.arange(num_frames) < NUM_TRAIN, "train", split)
    reference = stacked["energy"][split == "train"].mean()
    np.savez_compressed(
        options.out,
        natoms=np.full(num_frames, num_atoms, np.int32),
        numbers=np.tile(numbers, num_frames).astype(np.uint8),
        pos=stacked["pos"].reshape(-1, 3).astype(np.float32),
        forces=stacked["forces"].reshape(-1, 3).astype(np.float32),
        tags=np.zeros(num_frames * num_atoms, np.int8),
        fixed=np.zeros(num_frames * num_atoms, np.uint8),
        cell=np.zeros((num_frames, 3, 3)),
        pbc=np.zeros((num_frames, 3), bool),
        energy=stacked["energy"] - reference,
        ref_energy=np.full(num_frames, reference),
        sid=np.array([options.molecule] * num_frames),
        fid=stacked["md17_index"].astype(np.int32),
        split=split,
    )
    std = (stacked["energy"] - reference)[split == "train"].std()
    rms = np.sqrt((stacked["forces"][split == "train"] ** 2).mean())
    print(f"{options.out}: {options.out.stat().st_size} bytes, energy std {std:.6f} eV, ", end="")
    print(f"force rms {rms:.4f} eV/Å")


if __name__ == "__main__":
    main()
