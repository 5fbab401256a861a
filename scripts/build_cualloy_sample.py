"""Choose the frames of the embedded sample of copper alloys and write them to one npz.

    python scripts/build_cualloy_sample.py --source DIR --out FILE

``DIR`` holds ``public.npz``: VASP relaxations of CO, CHO and COH on Cu3M(111) slabs and of the
clean slabs, with the keys of the output except ``split``, ``sid`` and ``ref_energy``, and with
``name`` ("Cu3Al1_111_CHO_13", without adsorbate for a clean slab). The output has the arrays that
`scripts/build_oc20_sample.py` lists; here

    energy      float64 [N]   VASP energy minus ref_energy, eV
    ref_energy  float64 [N]   last frame of the clean slab plus the adsorbate's gas energy, eV
    sid         str     [N]   the run's name
    split       str     [N]   "train", "val" (other runs of the same alloys) or "val_ood"
                              (alloys that train lacks)

The same source gives the same arrays in the same order.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PER_ATOM = ("numbers", "pos", "forces", "tags", "fixed")
PER_FRAME = ("cell", "pbc", "energy", "fid")
# As the source gives them, eV.
GAS_ENERGIES = {"CO": -14.805038, "CHO": -16.777619, "COH": -15.071628}
OOD_ALLOYS = ("Cu3Sn1", "Cu3Zn1")
VAL_EVERY = 4  # every fourth run of the other alloys
FRAMES_PER_RUN = 3
MAX_FORCE = 10.0  # eV/Å on any atom
MAX_ADSORPTION = 10.0  # eV; two runs whose cell is not their clean slab's lie far outside
MAX_BYTES = 500_000

Frame = dict[str, np.ndarray | str | float]


def read_runs(arrays: dict[str, np.ndarray]) -> dict[str, list[Frame]]:
    """Frames of each run in relaxation order, {name: frames}, names in the order of the source."""
    ends = np.cumsum(arrays["natoms"])
    runs: dict[str, list[Frame]] = {}
    for i, end in enumerate(ends):
        rows = slice(end - arrays["natoms"][i], end)
        frame = {key: arrays[key][rows] for key in PER_ATOM}
        frame |= {key: arrays[key][i] for key in PER_FRAME}
        runs.setdefault(str(arrays["name"][i]), []).append(frame)
    return {name: sorted(frames, key=lambda f: int(f["fid"])) for name, frames in runs.items()}


def choose_frames(runs: dict[str, list[Frame]]) -> Iterator[Frame]:
    """Yield the chosen frames with ``split``, ``sid`` and ``ref_energy``, energies referenced."""
    clean = {name: frames[-1] for name, frames in runs.items() if name.count("_") == 1}
    chosen: dict[str, list[Frame]] = {"train": [], "val": [], "val_ood": []}
    counts: dict[str, int] = {}
    for name, frames in runs.items():
        alloy, *rest = name.split("_")
        if len(rest) == 1:
            continue
        adsorbate = rest[1]
        reference = clean[f"{alloy}_{rest[0]}"]["energy"] + GAS_ENERGIES[adsorbate]
        good = [frame for frame in frames if _usable(frame, float(reference))]
        if not good:
            continue
        counts[alloy] = counts.get(alloy, 0) + 1
        split = "train" if counts[alloy] % VAL_EVERY else "val"
        if alloy in OOD_ALLOYS:
            split = "val_ood"
        places = np.linspace(0, len(good) - 1, min(FRAMES_PER_RUN, len(good))).round().astype(int)
        for place in places:
            frame = good[place]
            energy = float(frame["energy"]) - float(reference)
            row = {"split": split, "sid": name, "ref_energy": float(reference), "energy": energy}
            chosen[split].append(frame | row)
    for frames in chosen.values():
        yield from frames


def _usable(frame: Frame, reference: float) -> bool:
    largest = np.linalg.norm(frame["forces"], axis=1).max()
    return bool(largest <= MAX_FORCE and abs(frame["energy"] - reference) <= MAX_ADSORPTION)


def main() -> None:
    """Read the source, write the sample, print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="folder with public.npz")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    args = parser.parse_args()

    with np.load(args.source / "public.npz", allow_pickle=False) as source:
        rows = list(choose_frames(read_runs({key: source[key] for key in source.files})))
    out = {"natoms": np.array([len(row["numbers"]) for row in rows], dtype=np.int32)}
    out |= {key: np.concatenate([row[key] for row in rows]) for key in PER_ATOM}
    keys = (*PER_FRAME, "ref_energy", "sid", "split")
    out |= {key: np.array([row[key] for row in rows]) for key in keys}
    np.savez_compressed(args.out, **out)
    size = args.out.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{args.out} has {size} bytes, more than the {MAX_BYTES} allowed")
    for split in ("train", "val", "val_ood"):
        part = [row for row in rows if row["split"] == split]
        free = np.concatenate([row["forces"][row["fixed"] == 0] for row in part])
        alloys = sorted({str(row["sid"]).split("_")[0] for row in part})
        runs = len({row["sid"] for row in part})
        print(
            f"{split:8} {len(part)} frames, {runs} runs, mean |F component| "
            f"{1e3 * np.abs(free).mean():.1f} meV/Å, {', '.join(alloys)}"
        )
    print(f"{size} bytes")


if __name__ == "__main__":
    main()
