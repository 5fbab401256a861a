"""All checks over some data sets, in one pass over each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqv2_plugin.common.findings import Finding
from eqv2_plugin.data.inspection.constraints import ConstraintCheck
from eqv2_plugin.data.inspection.counts import CountCheck
from eqv2_plugin.data.inspection.distances import DistanceCheck
from eqv2_plugin.data.inspection.duplicates import Fingerprints, leakage
from eqv2_plugin.data.inspection.forces import ForceCheck
from eqv2_plugin.data.inspection.frames import Frame, FrameDataset
from eqv2_plugin.data.inspection.labels import LabelCheck
from eqv2_plugin.data.inspection.plots import plot_force_norms, plot_values
from eqv2_plugin.data.inspection.scan import sampled_indices, scan
from eqv2_plugin.data.inspection.stress import StressCheck
from eqv2_plugin.data.inspection.units import UnitCheck


class DatasetChecks:
    """The checks of one data set, filled by `check_datasets`; some 130 bytes a frame."""

    def __init__(self, dataset: FrameDataset, indices: np.ndarray) -> None:
        self.counts = CountCheck(len(dataset), dataset.natoms, indices)
        self.labels, self.forces = LabelCheck(), ForceCheck()
        self.prints = Fingerprints(dataset, indices)
        self.all = (self.counts, self.labels, self.forces, UnitCheck(), StressCheck(),
                    ConstraintCheck(), DistanceCheck(), self.prints)  # fmt: skip


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
    """Check every data set (of different names), and what they share.

    Args:
        sample: look at about so many frames of each, in short runs evenly spread.
        workers: processes that read; 0 reads in this one.
    """
    findings, checks = {}, {}
    for dataset in datasets:
        indices = sampled_indices(len(dataset), sample)
        seen = checks[dataset.name] = DatasetChecks(dataset, indices)
        for frame in scan(dataset, _measured, indices, workers):
            for check in seen.all:
                check.add(frame)
        findings[dataset.name] = [finding for check in seen.all for finding in check.findings()]
    between = list(leakage([check.prints for check in checks.values()]))
    return Report(findings, between, checks)


def plot_report(report: Report, folder: Path) -> list[Path]:
    """Write histograms of energy per atom, |F| and atoms per frame, as far as there are labels."""
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


def _measured(frame: Frame) -> Frame:
    _ = frame.nearest  # measured where the frame is read, and sent with it
    return frame
