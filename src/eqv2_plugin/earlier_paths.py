"""Import paths of earlier versions, which checkpoints, configs and scripts name, still work.

Importing a module by its earlier path gives the module itself, not a copy of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "eqv2_plugin."
# Packages whose modules are in another one now, by the same name or by the row of that one.
PACKAGES = {
    "evaluation.adsorbml": "tasks.adsorbml",
    "evaluation.prediction": "tasks.s2ef",
    "evaluation.relaxation": "tasks.relaxation",
    "evaluation.submission": "tasks.submission",
}
_GONE = ("evaluation", *PACKAGES)
MOVED = {
    "backbone": "backbones.equiformer_v2.backbone",
    "checkpoints.convert": "checkpoints.v1.convert",
    "checkpoints.energy_kind": "models.metadata",
    "checkpoints.energy_reference": "checkpoints.v1.energy_reference",
    "checkpoints.facts": "models.metadata",
    "checkpoints.forward_check": "checkpoints.v1.convert",
    "checkpoints.hashing": "common.hashing",
    "checkpoints.known_elements": "models.known_elements",
    "checkpoints.layout": "checkpoints.v1.weights",
    "checkpoints.linear_reference": "checkpoints.v1.weights",
    "checkpoints.native_export": "checkpoints.door",
    "checkpoints.native_header": "checkpoints.record",
    "checkpoints.published": "checkpoints.v1.energy_reference",
    "checkpoints.strict_keys": "checkpoints.v1.names",
    "checkpoints.tasks": "checkpoints.v1.heads",
    "checkpoints.v1.forward_check": "checkpoints.v1.convert",
    "checkpoints.v1.layout": "checkpoints.v1.weights",
    "checkpoints.v1.linear_reference": "checkpoints.v1.weights",
    "checkpoints.v1.options": "checkpoints.v1.config",
    "checkpoints.v1.published": "checkpoints.v1.energy_reference",
    "checkpoints.v1.strict_keys": "checkpoints.v1.names",
    "checkpoints.v1.tasks": "checkpoints.v1.heads",
    "checkpoints.weights": "checkpoints.v1.weights",
    "cli.data.oc20": "cli.data.convert",
    "cli.data.output": "cli.data.convert",
    "coincidence": "graphs.coincidence",
    "compact": "graphs.compact",
    "config": "backbones.equiformer_v2.config",
    "data.conversion.atoms": "data.conversion.frame",
    "data.conversion.duplicates": "data.conversion.job",
    "data.conversion.lines": "data.conversion.extxyz",
    "data.conversion.oc20_extxyz": "data.conversion.extxyz",
    "data.conversion.record": "data.conversion.shard",
    "data.conversion.workers": "data.conversion.job",
    "data.inspection.findings": "common.findings",
    "data.inspection.fitting": "data.references.fitting",
    "data.inspection.label_sources": "data.inspection.labels",
    "data.inspection.sources": "data.inspection.frames",
    "data.lmdb.frames": "data.lmdb.dataset",
    "data.lmdb.pickled_arrays": "unpickling.arrays",
    "data.lmdb.unpickler": "unpickling.restricted",
    "data.references.moments": "data.references.linear_fit",
    "data.travelling_ase_db": "data.ase_dataset",
    "dens.batch": "dens.corruption",
    "doctor.changes": "doctor.symmetry",
    "doctor.finite_differences": "doctor.gradient",
    "doctor.plots": "doctor.examine",
    "doctor.predictor": "doctor.subject",
    "doctor.report": "doctor.examination",
    "doctor.thresholds": "doctor.examination",
    "evaluation.centring": "inference.predictor",
    "evaluation.html": "common.html",
    "evaluation.prediction.description": "tasks.splits",
    "evaluation.prediction.model": "inference.predictor",
    "evaluation.prediction.parts": "inference.parts",
    "evaluation.predictor": "inference.predictor",
    "evaluation.processes": "inference.job",
    "evaluation.relaxation.batch_size": "inference.batch_size",
    "evaluation.relaxation.finished": "inference.store",
    "evaluation.relaxation.inputs": "tasks.relaxation.initial_structures",
    "evaluation.relaxation.lockstep": "inference.lockstep",
    "evaluation.relaxation.memory": "inference.batch_size",
    "evaluation.relaxation.predicting": "inference.resilient",
    "evaluation.relaxation.relaxation": "inference.relaxation",
    "evaluation.relaxation.relaxed": "inference.relaxation",
    "evaluation.relaxation.results": "tasks.relaxation.split_results",
    "evaluation.relaxation.settings": "inference.settings",
    "evaluation.relaxation.store": "inference.store",
    "evaluation.relaxation.stored": "inference.relaxation",
    "evaluation.structures": "data.structures",
    "evaluation.submission.ids": "data.ids",
    "files": "common.files",
    "graph": "graphs.build",
    "graphs.refusals": "backbones.protocol",
    "heads.volume": "heads.stress",
    "inference.centring": "inference.predictor",
    "inference.description": "tasks.splits",
    "inference.finished": "inference.store",
    "inference.memory": "inference.batch_size",
    "inference.model": "inference.predictor",
    "inference.processes": "inference.job",
    "inference.relaxed": "inference.relaxation",
    "inference.stored": "inference.relaxation",
    "kernels.compilation": "kernels.numba_runtime",
    "kernels.sphere": "kernels.tables",
    "kernels.threads": "kernels.numba_runtime",
    "layers.block": "backbones.equiformer_v2.block",
    "layers.linear": "kernels.linear",
    "locks": "common.locks",
    "model": "models.hydra",
    "models.energy_kind": "models.metadata",
    "naming": "common.naming",
    "orphans": "common.orphans",
    "refusals": "backbones.protocol",
    "structure_checks": "graphs.checks",
    "tasks.adsorbml.duplicates": "tasks.adsorbml.analysis",
    "tasks.adsorbml.energy_kind": "tasks.adsorbml.analysis",
    "tasks.adsorbml.folder": "tasks.adsorbml.results",
    "tasks.adsorbml.packages": "tasks.adsorbml.adsorbates",
    "tasks.adsorbml.plots": "tasks.adsorbml.report",
    "tasks.adsorbml.slab_files": "tasks.adsorbml.slabs",
    "tasks.adsorbml.system_result": "tasks.adsorbml.results",
    "tasks.adsorbml.tables": "tasks.adsorbml.single_points",
    "tasks.relaxation.failed": "tasks.relaxation.rows",
    "tasks.relaxation.joining": "tasks.relaxation.results",
    "tasks.relaxation.progress": "inference.job",
    "tasks.relaxation.table": "tasks.relaxation.rows",
    "tasks.s2ef.energies": "inference.energy_agreement",
    "tasks.s2ef.joining": "tasks.s2ef.results",
    "tasks.submission.expected": "tasks.submission.check",
    "tasks.submission.files": "common.files",
    "training.averages": "training.checkpoints",
    "training.element_checks": "training.checks",
    "training.finetuning_runner": "training.runner",
    "training.history": "training.results",
    "training.progress": "training.callbacks",
    "training.seeding": "training.callbacks",
    "training.start_checkpoint": "training.start",
    "training.start_values": "training.start",
    "unpickling.stand_ins": "unpickling.restricted",
    "unpickling.whitelists": "unpickling.restricted",
}


def current_name(name: str) -> str:
    """The present full name of a class or module that is named as in an earlier version."""
    if not name.startswith(_PACKAGE):
        return name
    module, _, attribute = name.removeprefix(_PACKAGE).rpartition(".")
    present = present_module(module)
    return f"{_PACKAGE}{present}.{attribute}" if present else name


def present_module(path: str) -> str:
    """The present path of a module, below this package; empty if it has not moved."""
    package, _, module = path.rpartition(".")
    if path not in MOVED and package in PACKAGES:
        path = f"{PACKAGES[package]}.{module}"
        return MOVED.get(path, path)
    return MOVED.get(path, "")


class _MovedModule(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own kind of module, to be replaced."""

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        if present := present_module(spec.name.removeprefix(_PACKAGE)):
            # The import statement returns what stands here afterwards.
            sys.modules[spec.name] = import_module(_PACKAGE + present)


class MovedFinder(MetaPathFinder):
    """Finds modules by their earlier paths; Python asks it for names that it does not find."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        short = fullname.removeprefix(_PACKAGE)
        if short == fullname or not (short in _GONE or present_module(short)):
            return None
        return ModuleSpec(fullname, _MovedModule(), is_package=short in _GONE)


def install() -> None:
    """Once per process."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())
