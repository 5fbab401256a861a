"""Reading and running the reference cases of one folder."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from fairchem.core.datasets.atomic_data import AtomicData
from stored_case import StoredCase

from eqv2_plugin.checkpoints.record import NativeModel
from eqv2_plugin.checkpoints.v1.convert import build
from eqv2_plugin.checkpoints.v1.file import take_apart
from eqv2_plugin.graphs.build import Graph, build_graph
from eqv2_plugin.layers.edges import sort_by_target
from eqv2_plugin.models.hydra import EquiformerV2

STRESS = "eqv2_plugin.heads.stress.StressHead"
# Folders of whole-model cases: without and with DeNS.
KINDS = ("model_*", "dens_L*")


def fixtures_folder() -> Path:
    """The folder of reference cases: ``$EQV2_FIXTURES``, else the small set of this repository."""
    return Path(os.environ.get("EQV2_FIXTURES") or Path(__file__).parents[1] / "fixtures")


def case_folders(folder: Path, pattern: str = "model_*") -> list[Path]:
    """Folders of the cases of one kind.

    Raises:
        FileNotFoundError: there is no case of any kind; parametrised tests would pass unseen.
    """
    found = {kind: sorted(p for p in folder.glob(kind) if p.is_dir()) for kind in KINDS}
    if not any(found.values()):
        raise FileNotFoundError(
            f"no reference case {' or '.join(KINDS)} in {folder}: set EQV2_FIXTURES to a folder "
            "that has some"
        )
    return found[pattern]


class ReferenceCase(StoredCase):
    """One ``model_*`` folder."""

    @property
    def output_names(self) -> list[str]:
        suffixes = ("_f32", "_gauge_mean")
        return [k for k in self.outputs if k not in ("layers", "x") and not k.endswith(suffixes)]

    @cached_property
    def converted(self) -> NativeModel:
        """The case as `eqv2 convert` reads a checkpoint."""
        spec = self.config["model"]
        single_class = spec["class"] != "hydra"
        parts = spec["backbone"] if single_class else {k: spec[k] for k in ("backbone", "heads")}
        model = {"name": spec["class"], **parts}
        checkpoint = {"config": {"model": model}, "state_dict": dict(self.state)}
        # fairchem-core 1's hydra class held linear references, and never added them.
        held = not single_class and any(key.endswith("energy_lin_ref") for key in self.state)
        wanted = "linear_residual" if held else None
        content = take_apart(checkpoint, Path(self.name), wanted_reference=wanted).content
        for head in content.header.model["heads"].values():
            if head.pop("isotropic", None) and head.pop("anisotropic", None):
                # Conversion joins the two parts of the stress, which the reference returns apart.
                head.update(module=STRESS, decompose=True)
        return content

    def model(self, dtype: torch.dtype) -> EquiformerV2:
        """Our model with the reference's weights, loaded with strict keys."""
        return build(self.converted).to(dtype).eval()

    def data(self, dtype: torch.dtype) -> AtomicData:
        cell = torch.from_numpy(self.inputs["cell"]).view(-1, 3, 3)
        pbc = torch.from_numpy(np.array(self.inputs["pbc"])).view(-1, 3)
        return self.batch(dtype, self.inputs["pos"], cell, pbc)

    def stored_graph(self, dtype: torch.dtype) -> tuple[Graph, torch.Tensor]:
        """The reference's edges and edge frames."""
        index = torch.from_numpy(self.inputs["edge_index"])
        order, offsets = sort_by_target(index, len(self.inputs["pos"]))
        vectors = torch.from_numpy(self.inputs["edge_distance_vec"]).to(dtype)
        frames = torch.from_numpy(self.inputs["edge_rot_mat"]).to(dtype)
        return Graph(index[:, order], vectors[order], offsets), frames[order]

    def edges_of(self, data: AtomicData, model: EquiformerV2) -> set[tuple[int, ...]]:
        """Our graph as a set of (source, target, vector rounded to 1e-4 Å)."""
        return edge_set(build_graph(data, model.backbone.config))

    def embed(
        self,
        dtype: torch.dtype,
        own_frames: bool = False,
        encoded: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[EquiformerV2, AtomicData, dict]:
        """Model, batch and the backbone's output on the stored edges."""
        model, data = self.model(dtype), self.data(dtype)
        graph, frames = self.stored_graph(dtype)
        with torch.no_grad():
            emb = model.backbone.embed(
                graph,
                data.atomic_numbers,
                data.batch,
                len(data.natoms),
                frames=None if own_frames else frames,
                encoded=encoded,
            )
        return model, data, emb

    def run(self, dtype: torch.dtype, own_frames: bool) -> dict[str, torch.Tensor]:
        """Outputs and ``x`` on the stored edges, with stored frames or our own."""
        model, data, emb = self.embed(dtype, own_frames)
        outputs = {"x": emb["node_embedding"]}
        with torch.no_grad():
            for head in model.output_heads.values():
                outputs.update(head(data, emb))
        if "energy" in self.converted.references:
            added = self.converted.references["energy"].nan_to_num()[data.atomic_numbers]
            outputs["energy"].index_add_(0, data.batch, added.to(dtype))
        return outputs


def edge_set(graph: Graph) -> set[tuple[int, ...]]:
    vectors = torch.round(graph.vectors.detach() * 1e4).long()
    rows = torch.cat((graph.edge_index.T, vectors), dim=1)
    return {tuple(row) for row in rows.tolist()}


def stored_edge_set(case: ReferenceCase) -> set[tuple[int, ...]]:
    inputs = SimpleNamespace(**case.inputs)
    graph = Graph(
        torch.from_numpy(inputs.edge_index), torch.from_numpy(inputs.edge_distance_vec), None
    )
    return edge_set(graph)
