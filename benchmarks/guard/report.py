"""The tables of what the guard stopped and let pass."""

from __future__ import annotations

from collections.abc import Sequence

from guard.judging import CHANGES, Judged


def markdown(found: Sequence[Judged]) -> str:
    """Checkpoints, proper pairs, changed labels, and the sentence of each change."""
    names = [one.kind for one in found]
    lines = [_row(["proper pair", "forces, meV/Å", "zero forces", "energies, meV", "guard"])]
    lines += [_row(["---"] * 5)]
    for one in found:
        for part, errors in one.errors.items():
            numbers = [f"{value:.0f}" for value in (errors.forces, errors.zero, errors.energies)]
            said = "; ".join(one.proper[part])
            lines.append(_row([f"{one.kind}: {part}", *numbers, said or "passes"]))
    passed = sum(not said for one in found for said in one.proper.values())
    lines += ["", f"{passed} of {sum(len(one.proper) for one in found)} proper pairs pass.", ""]
    lines += [_row(["changed labels", *names]), _row(["---"] * (len(names) + 1))]
    for change in CHANGES:
        lines.append(_row([change, *(_verdict(one.changed[change]) for one in found)]))
    said = [notes for one in found for notes in one.changed.values()]
    lines += ["", f"{sum(map(bool, said))} of {len(said)} changed sets are stopped."]
    lines += ["", "What is said:", ""]
    for one in found:
        lines += [f"- {one.kind}, {name}: {'; '.join(said)}" for name, said in one.changed.items()]
    return "\n".join(lines) + "\n"


def _verdict(said: Sequence[str]) -> str:
    return "stopped" if said else "**passes**"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
