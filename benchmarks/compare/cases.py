"""What is compared: models, structures and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc111

# Options in fairchem-core 1's names: Table 7 of the EquiformerV2 paper.
_COMMON = {
    "model": "equiformer_v2_backbone",
    "use_pbc": True,
    "regress_forces": True,
    "otf_graph": True,
    "enforce_max_neighbors_strictly": False,
    "max_neighbors": 20,
    "max_radius": 12.0,
    "max_num_elements": 90,
    "sphere_channels": 128,
    "attn_hidden_channels": 64,
    "num_heads": 8,
    "attn_alpha_channels": 64,
    "attn_value_channels": 16,
    "ffn_hidden_channels": 128,
    "norm_type": "layer_norm_sh",
    "grid_resolution": 18,
    "num_sphere_samples": 128,
    "edge_channels": 128,
    "use_atom_edge_embedding": True,
    "distance_function": "gaussian",
    "num_distance_basis": 512,
    "attn_activation": "silu",
    "use_s2_act_attn": False,
    "ffn_activation": "silu",
    "use_gate_act": False,
    "use_grid_mlp": True,
    "use_sep_s2_act": True,
    "alpha_drop": 0.1,
    "drop_path_rate": 0.1,
    "proj_drop": 0.0,
    "weight_init": "uniform",
}
_HEADS = {
    "energy": {"module": "equiformer_v2_energy_head"},
    "forces": {"module": "equiformer_v2_force_head"},
}
_SIZES = {
    "31M": {"num_layers": 8, "lmax_list": [4], "mmax_list": [2]},
    "83M": {"num_layers": 12, "lmax_list": [6], "mmax_list": [2]},
    "153M": {"num_layers": 20, "lmax_list": [6], "mmax_list": [3]},
}
MODELS: dict[str, dict[str, Any]] = {
    name: {"name": "hydra", "backbone": {**_COMMON, **size}, "heads": _HEADS}
    for name, size in _SIZES.items()
}
# To see that everything runs.
_FEW = {
    **{"num_layers": 1, "lmax_list": [2], "mmax_list": [2], "num_heads": 2},
    **{"sphere_channels": 16, "edge_channels": 16, "ffn_hidden_channels": 16},
    **{"attn_hidden_channels": 16, "attn_alpha_channels": 8, "attn_value_channels": 8},
}
WITH_TINY = {**MODELS, "tiny": {**MODELS["31M"], "backbone": {**_COMMON, **_FEW}}}


def slab(layers: tuple[int, int, int], adsorbates: int, seed: int) -> Atoms:
    """A Cu(111) slab with CO molecules on it, every atom displaced by about 0.1 Å."""
    atoms = fcc111("Cu", layers, vacuum=10.0)
    generator = np.random.default_rng(seed)
    along, across = atoms.cell[0] / layers[0], atoms.cell[1] / layers[1]
    for place in range(adsorbates):
        spot = (place % layers[0]) * along + 2 * (place // layers[0]) * across
        for element, height in (("C", 1.8), ("O", 2.95)):
            add_adsorbate(atoms, element, height, position=spot[:2])
    atoms.pbc = True
    atoms.positions += generator.normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def structures(system: str) -> list[Atoms]:
    """The structures of one call.

    Raises:
        KeyError: no such system.
    """
    return {
        "1 x 70 atoms": lambda: [slab((4, 4, 4), 3, 0)],
        "8 x 70 atoms": lambda: [slab((4, 4, 4), 3, seed) for seed in range(8)],
        "1 x 500 atoms": lambda: [slab((11, 11, 4), 8, 0)],
        "1 x 18 atoms": lambda: [slab((2, 2, 4), 1, 0)],
    }[system]()


def save_structures(path: Path, atoms: list[Atoms]) -> None:
    """As workers read them, see `structure_arrays.atoms_of`."""
    np.savez(
        path,
        numbers=np.concatenate([a.numbers for a in atoms]),
        positions=np.concatenate([a.positions for a in atoms]),
        cells=np.stack([a.cell.array for a in atoms]),
        natoms=[len(a) for a in atoms],
    )


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        model: of `MODELS`.
        system: see `structures`.
        threads: of torch.
        allocator: "default" or "tuned", see `process.ALLOCATORS`.
        work: "inference" or "training".
    """

    model: str
    system: str
    threads: int
    allocator: str
    work: str

    @property
    def name(self) -> str:
        words = (self.work, self.model, self.system, f"{self.threads} threads", self.allocator)
        return "-".join(words).replace(" ", "-")


def plan(quick: bool) -> list[Case]:
    """The rows of the full table, or of a short one."""
    if quick:
        return [
            Case("31M", "1 x 70 atoms", 1, "tuned", "inference"),
            Case("31M", "1 x 70 atoms", 1, "tuned", "training"),
        ]
    one, cases = "1 x 70 atoms", []
    for model in MODELS:
        for allocator in ("tuned",) if model == "153M" else ("default", "tuned"):
            for threads in (1, 2):
                cases.append(Case(model, one, threads, allocator, "inference"))
            cases.append(Case(model, one, 1, allocator, "training"))
    for system in ("8 x 70 atoms", "1 x 500 atoms"):
        for model in ("31M", "83M"):
            cases.append(Case(model, system, 1, "tuned", "inference"))
    return cases
