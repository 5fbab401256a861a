"""The comparison as a Markdown table and a picture."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from statistics import median

import matplotlib
from compare.cases import Case
from compare.measure import Row

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def markdown(rows: list[Row], device: str, precision: str) -> str:
    """Machine and versions, then one table for each kind of work."""
    versions = next((row.versions for row in rows if row.versions), {})
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [f"{date.today()}, {device}, {precision}, {words}.{_rates(rows)}", ""]
    for work, title in (("inference", "Inference"), ("training", "Training step")):
        chosen = [row for row in rows if row.case.work == work]
        if chosen:
            lines += [f"### {title}", "", *_table(chosen, work), ""]
    return "\n".join(lines)


def _rates(rows: list[Row]) -> str:
    """How fast large products are: ratios to the reference depend on it."""
    rates: dict[int, list[float]] = {}
    for row in rows:
        if row.rate:
            rates.setdefault(row.case.threads, []).append(row.rate)
    words = [
        f"{median(found) / 1e9:.0f} GFLOP/s with {threads} thread{'s' * (threads > 1)}"
        for threads, found in sorted(rates.items())
    ]
    return f" A large product: {', '.join(words)}." * bool(words)


def _table(rows: list[Row], work: str) -> list[str]:
    baselines = ["reference"] if work == "training" else ["reference", "frozen reference"]
    ours = ["plugin", "recomputing plugin"] if work == "training" else ["plugin"]
    header = ["model", "system", "threads", "allocator"]
    header += [f"{name}, s" for name in (*baselines, *ours)]
    header += [f"{name} times as fast" for name in ours]
    if work == "inference":
        header.append("as the frozen")
    header += ["of the floor"]
    header += [f"{name}, MB" for name in ("reference", *ours)]
    header += [f"{name}: less memory" for name in ours]
    if work == "inference":
        header.append("difference (reference's own)")
    body = []
    for row in rows:
        case = row.case
        cells = [case.model, case.system, str(case.threads), case.allocator]
        cells += [spread(row.seconds.get(name, ())) for name in (*baselines, *ours)]
        cells += [_ratio(row.median("reference"), row.median(name)) for name in ours]
        if work == "inference":
            cells.append(_ratio(row.median("frozen reference"), row.median("plugin")))
        mine = row.median("plugin")
        cells.append(f"{100 * row.floor / mine:.0f} %" if row.floor and mine else "")
        cells += [_number(row.peak.get(name)) for name in ("reference", *ours)]
        cells += [_ratio(row.peak.get("reference"), row.peak.get(name), 0) for name in ours]
        if work == "inference":
            both = row.difference
            cells.append(f"{both[0]:.0e} ({both[1]:.0e})" if both else "")
        if row.note:
            cells[1] += f" ({row.note})"
        body.append(cells)
    return table(header, body)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """ "median (least to largest)", or "-" without values."""
    if not values:
        return "-"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _ratio(reference: float | None, ours: float | None, digits: int = 1) -> str:
    return f"{reference / ours:.{digits}f}" if reference and ours else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def plot(rows: list[Row], path: Path) -> None:
    """Bars of the speed-up over the reference, as shipped and with frozen parameters."""
    rows = [row for row in rows if row.median("plugin")]
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.8), layout="constrained")
    looks = {"reference": ("as shipped", "tab:blue"), "frozen reference": ("frozen", "tab:cyan")}
    for index, (name, (label, colour)) in enumerate(looks.items()):
        known = [(place, row) for place, row in enumerate(rows) if row.median(name)]
        values = [row.median(name) / row.median("plugin") for _, row in known]
        heights = [place + 0.4 * (index - 0.5) for place, _ in known]
        axis.barh(heights, values, height=0.38, color=colour, label=label)
        for height, value in zip(heights, values, strict=True):
            axis.text(value, height, f" {value:.1f}", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [_label(row.case) for row in rows])
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.invert_yaxis()
    axis.set_xlabel("times as fast as fairchem-core 1.10")
    figure.legend(title="fairchem-core 1.10", loc="outside upper right", ncols=2)
    axis.margins(x=0.1, y=0.02)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _label(case: Case) -> str:
    threads = "thread" if case.threads == 1 else "threads"
    words = (case.work, case.model, case.system, f"{case.threads} {threads}", case.allocator)
    return ", ".join(words)
