"""Ways of training that are compared: without DeNS, and DeNS with one thing or another changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

_UNIT = "runner.train_eval_unit._target_=gain.variants."
# In names of runs and in titles.
_COUNTS = {
    "per_task": ("task", "counts per task"),
    "per_structure": ("structure", "counts of Algorithm 2"),
    "per_batch": ("batch", "counts per batch"),
}


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: in run names.
        title: in tables and plots.
        dens: with DeNS.
        overrides: of the recipe with DeNS.
    """

    name: str
    title: str
    dens: bool = True
    overrides: tuple[str, ...] = ()


PLAIN = Arm("plain", "without DeNS", dens=False)


def dens(
    parts: float | Literal["auto"],
    counts: Literal["per_task", "per_structure", "per_batch"],
    *,
    encoded: bool = True,
    name: str = "",
    title: str = "",
    extra: tuple[str, ...] = (),
) -> Arm:
    """DeNS with encoded forces in units of 1/``parts`` eV/Å.

    Args:
        parts: of an eV/Å, or "auto" for the recipe's rule.
        counts: ``loss_normalization``.
        encoded: False for the ablation without force encoding.
        name, title: what else differs, in names and titles.
        extra: overrides of what else differs.
    """
    short, counted = _COUNTS[counts]
    scale = "auto" if parts == "auto" else "1" if parts == 1 else f"1/{parts:g}"
    value = "auto" if parts == "auto" else repr(1.0 / parts)
    what = [f"DeNS, {scale} eV/Å" if encoded else "DeNS without force encoding", counted]
    names = [f"s{scale.replace('1/', '')}" if encoded else "unencoded", short]
    return Arm(
        "-".join([*names, *([name] if name else [])]),
        ", ".join([*what, *([title] if title else [])]),
        True,
        (
            f"force_scale={value}",
            f"loss_normalization={counts}",
            f"dens={'full' if encoded else 'no_force_encoding'}",
            *extra,
        ),
    )


# Of the first comparison, docs/dens_gain.md, in whose results they have this name.
FIRST_MOLECULES, FIRST_SURFACES = (
    replace(dens(1, counts), name="dens") for counts in ("per_structure", "per_batch")
)


def rescaled_start(parts: float, counts: Literal["per_task", "per_structure"]) -> Arm:
    """Forces in eV/Å, into an embedding whose first weights are ``parts`` times larger.

    At the first step it is the same function as `dens` of these parts.
    """
    extra = (f"{_UNIT}RescaledStart", f"+runner.train_eval_unit.factor={parts:g}")
    title = f"embedding starts {parts:g} times larger"
    return dens(1, counts, name=f"start{parts:g}", title=title, extra=extra)


def random_directions(parts: float, counts: Literal["per_task", "per_structure"]) -> Arm:
    """Encoded forces of the true size in random directions: they mark corrupted atoms alone."""
    return dens(
        parts, counts, name="marks", title="random directions", extra=(f"{_UNIT}RandomDirections",)
    )
