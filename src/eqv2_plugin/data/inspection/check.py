"""All checks over some data sets, in one pass over each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eqv2_plugin.data.inspection.constraints import ConstraintCheck
from eqv2_plugin.data.inspection.distances import DistanceCheck
from eqv2_plugin.data.inspection.duplicates import Fingerprints, leakage
from eqv2_plugin.data.inspection.findings import Finding
from eqv2_plugin.data.inspection.forces import ForceCheck
from eqv2_plugin.data.inspection.frames import Frame, FrameDataset
from eqv2_plugin.data.inspection.label_sources import LabelSourceCheck
from eqv2_plugin.data.inspection.labels import CountCheck, LabelCheck
from eqv2_plugin.data.inspection.neighbours import Nearest, nearest_neighbours
from eqv2_plugin.data.inspection.plots import plot_force_norms, plot_values
from eqv2_plugin.data.inspection.scan import sampled_indices, scan
from eqv2_plugin.data.inspection.stress import StressCheck
from eqv2_plugin.data.inspection.units import UnitCheck


@dataclass
class DatasetChecks:
    """The checks of one data set, filled by `check_datasets`; some 130 bytes a frame."""

    counts: CountCheck = field(default_factory=CountCheck)
    sources: LabelSourceCheck = field(default_factory=LabelSourceCheck)
    labels: LabelCheck = field(default_factory=LabelCheck)
    forces: ForceCheck = field(default_factory=ForceCheck)
    units: UnitCheck = field(default_factory=UnitCheck)
    stress: StressCheck = field(default_factory=StressCheck)
    constraints: ConstraintCheck = field(default_factory=ConstraintCheck)
    distances: DistanceCheck = field(default_factory=DistanceCheck)
    prints: Fingerprints = field(default_factory=Fingerprints)

    def add(self, frame: Frame, nearest: Nearest) -> None:
        self.counts.add(frame)
        self.sources.add(frame)
        self.labels.add(frame)
        self.forces.add(frame)
        self.units.add(frame)
        self.stress.add(frame)
        self.constraints.add(frame)
        self.prints.add(frame)
        self.distances.add(frame, nearest)


@dataclass(frozen=True)
class Report:
    """Findings per data set, and of the data sets together; the checks for plotting."""

    findings: dict[str, list[Finding]]
    between: list[Finding]
    checks: dict[str, DatasetChecks]

    def all_findings(self) -> list[Finding]:
        return [f for found in self.findings.values() for f in found] + self.between


def check_datasets(
    datasets: list[FrameDataset], sample: int | None = None, workers: int = 0
) -> Report:
    """Check every data set, and what they share.

    Args:
        datasets: from `open_dataset`, of different names.
        sample: look at about so many frames of each, in short runs evenly spread.
        workers: processes that read; 0 reads in this one.

    Raises:
        ValueError: a frame that cannot be read.
    """
    findings, checks, rows = {}, {}, []
    for dataset in datasets:
        indices = sampled_indices(len(dataset), sample)
        rows.append(indices)
        seen = checks[dataset.name] = DatasetChecks()
        for frame, nearest in scan(dataset, _measured, indices, workers):
            seen.add(frame, nearest)
        findings[dataset.name] = [
            *seen.counts.findings(len(dataset), dataset.natoms, indices),
            *seen.sources.findings(),
            *seen.labels.findings(),
            *seen.forces.findings(),
            *seen.units.findings(),
            *seen.stress.findings(),
            *seen.constraints.findings(),
            *seen.distances.findings(),
            *seen.prints.findings(dataset, indices),
        ]
    prints = [check.prints for check in checks.values()]
    return Report(findings, list(leakage(datasets, prints, rows)), checks)


def plot_report(report: Report, folder: Path) -> list[Path]:
    """Write histograms of energy per atom, |F| and atoms per frame.

    Returns:
        The PNG files; without those of labels that no data set has.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    energies = {name: np.asarray(c.labels.energies) for name, c in report.checks.items()}
    if any(map(len, energies.values())):
        written.append(folder / "energy_per_atom.png")
        plot_values(energies, "energy per atom, eV", written[-1])
    histograms = {name: c.forces.histogram for name, c in report.checks.items()}
    if any(h.sum() for h in histograms.values()):
        written.append(folder / "force_norms.png")
        plot_force_norms(histograms, written[-1])
    natoms = {name: np.asarray(c.counts.natoms) for name, c in report.checks.items()}
    written.append(folder / "natoms.png")
    plot_values(natoms, "atoms per frame", written[-1])
    return written


def _measured(frame: Frame) -> tuple[Frame, Nearest]:
    return frame, nearest_neighbours(frame)
