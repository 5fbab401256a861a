"""Experiments of docs/dens_gain_plan.md: frames, steps, seeds and arms, fixed before the runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gain.arms import (
    FIRST_MOLECULES,
    FIRST_SURFACES,
    PLAIN,
    Arm,
    dens,
    random_directions,
    rescaled_start,
)


@dataclass(frozen=True)
class Experiment:
    """Frames and settings that all arms share.

    Attributes:
        name, title: in run names; in tables and plots.
        sample, pool: embedded sample, and its splits that training and validation frames are
            drawn from.
        test_splits: its splits that are predicted once, after training.
        train_frames, val_frames: drawn per seed.
        seeds: of the draw, the initial weights and the order of frames.
        plain_config, dens_config: files of configs/.
        overrides: of all arms.
        arms: ways of training.
        arrays: folder with ``<molecule>_{train,test}.npz`` instead of the embedded sample.
    """

    name: str
    title: str
    sample: str
    pool: tuple[str, ...]
    test_splits: tuple[str, ...]
    train_frames: int
    val_frames: int
    seeds: tuple[int, ...]
    plain_config: str
    dens_config: str
    overrides: tuple[str, ...]
    arms: tuple[Arm, ...]
    arrays: Path | None = None


# R = 8 is enough for L_max = 2 here and a third faster than the recipe's 10.
_MD17_MODEL = "model.backbone.grid_resolution=8"
# Seeds of the choices, and of the results.
PILOT = (100, 101, 102)
REPORTED = (0, 1, 2, 3, 4)
SCALES = (1, 6, 23, 100)
# What the choices led to: parts of an eV/Å, and counts. That of surfaces is provisional until the
# part "scale" has run on OC20.
MOLECULES = dens(23, "per_task")
SURFACES = dens(23, "per_batch")


def molecule(
    name: str,
    train_frames: int,
    steps: int,
    seeds: tuple[int, ...],
    arms: tuple[Arm, ...],
    *,
    batch_size: int = 4,
    validations: int = 8,
    arrays: Path | None = None,
    extra: tuple[str, ...] = (),
) -> Experiment:
    """Conservative forces on a molecule of rMD17, with the settings of Table 9.

    Args:
        name, train_frames, steps, seeds, arms, batch_size, arrays: of the runs.
        validations: evenly spaced.
        extra: overrides of all arms.

    Raises:
        ValueError: the steps are no whole number of passes per validation.
    """
    repeats, rest = divmod(steps * batch_size, validations * train_frames)
    if rest or repeats == 0:
        raise ValueError(
            f"{steps} steps of {batch_size} are no multiple of {validations} x {train_frames}"
        )
    return Experiment(
        name=f"{name}-{train_frames}-{steps}",
        title=f"{name}, {train_frames} frames, {steps} steps of {batch_size}",
        sample=f"rmd17_{name}",
        pool=("train", "val"),
        test_splits=("test",),
        train_frames=train_frames,
        val_frames=50,
        seeds=seeds,
        plain_config="eqv2_md17.yml",
        dens_config="eqv2_dens_md17.yml",
        overrides=(
            f"molecule={name}",
            f"data.train_repeats={repeats}",
            f"epochs={validations}",
            f"batch_size={batch_size}",
            _MD17_MODEL,
            *extra,
        ),
        arms=arms,
        arrays=arrays,
    )


def relaxations(
    seeds: tuple[int, ...],
    arms: tuple[Arm, ...],
    *,
    train_frames: int = 300,
    repeats: int = 2,
    epochs: int = 5,
) -> Experiment:
    """Direct forces on frames of OC20 relaxations; tests on held-out frames and systems."""
    return Experiment(
        name=f"oc20-{train_frames}",
        title=f"OC20 relaxations, {train_frames} frames",
        sample="oc20_sample",
        pool=("train",),
        test_splits=("val_id", "val_ood"),
        train_frames=train_frames,
        val_frames=54,
        seeds=seeds,
        plain_config="eqv2_oc20.yml",
        dens_config="eqv2_dens_oc20.yml",
        overrides=(
            f"data.train_repeats={repeats}",
            f"epochs={epochs}",
            "~data.val_splits.val_id",
            "~data.val_splits.val_ood",
            "+data.val_splits.val={src: val}",
            "+data.test_splits={val_id: {src: val_id}, val_ood: {src: val_ood}}",
            "+evaluation=final_test",
            "with_baselines=false",
            "closing_note=null",
        ),
        arms=arms,
    )


def plan(part: str, arrays: Path | None = None) -> list[Experiment]:
    """The experiments of one of `PARTS`, in the order of their worth.

    Args:
        part: see docs/dens_gain_plan.md.
        arrays: folder of further molecules, for "molecule" alone.

    Raises:
        ValueError: "molecule" without the folder.
    """
    if part == "quick":
        first, arms = "+data.test_splits.test.first_n=100", (PLAIN, MOLECULES)
        return [
            molecule("ethanol", 100, 200, (0,), arms, validations=2, extra=(first,)),
            relaxations((0,), (PLAIN, SURFACES), train_frames=100, repeats=1, epochs=1),
        ]
    if part == "scale":
        scales = tuple(dens(parts, "per_task") for parts in SCALES)
        arms = (PLAIN, *scales, dens(23, "per_structure"))
        surfaces = tuple(dens(parts, "per_batch") for parts in (*SCALES, "auto"))
        return [
            molecule("ethanol", 100, 4000, PILOT, arms),
            molecule("aspirin", 100, 4000, PILOT, arms, batch_size=2),
            relaxations(PILOT, (PLAIN, *surfaces, dens(23, "per_task"))),
        ]
    if part == "causes":
        arms = (
            rescaled_start(23, "per_task"),
            random_directions(23, "per_task"),
            dens(23, "per_task", encoded=False),
        )
        return [molecule("ethanol", 100, 4000, PILOT, arms)]
    if part == "passes":
        arms = (PLAIN, MOLECULES)
        return [
            replace(
                molecule("ethanol", 100, 4000, PILOT, arms, batch_size=2),
                name="ethanol-100-4000-batch-2",
            ),
            replace(
                molecule("aspirin", 100, 4000, PILOT, arms, batch_size=4),
                name="aspirin-100-4000-batch-4",
            ),
        ]
    if part == "gain":
        unencoded = dens(23, "per_task", encoded=False)
        arms = (PLAIN, MOLECULES, dens(100, "per_task"), unencoded, FIRST_MOLECULES)
        return [
            molecule("ethanol", 100, 4000, REPORTED, arms),
            molecule("aspirin", 100, 4000, REPORTED, arms, batch_size=2),
        ]
    if part == "long":
        return [
            molecule("ethanol", 100, 24000, REPORTED, (PLAIN, MOLECULES)),
            molecule("aspirin", 100, 24000, REPORTED, (PLAIN, MOLECULES), batch_size=2),
        ]
    if part == "frames":
        arms = (PLAIN, MOLECULES, dens(23, "per_task", name="p0.1", title="p 0.1",
                                       extra=("denoising.probability=0.1",)))  # fmt: skip
        return [
            molecule("ethanol", 950, 3800, REPORTED[:3], (*arms, FIRST_MOLECULES)),
            molecule("ethanol", 950, 7600, REPORTED[:3], (*arms, FIRST_MOLECULES)),
            molecule("ethanol", 950, 19000, REPORTED[:2], (PLAIN, MOLECULES, FIRST_MOLECULES)),
        ]
    if part == "oc20":
        unencoded = dens(23, "per_batch", encoded=False)
        return [relaxations(REPORTED, (PLAIN, SURFACES, unencoded, FIRST_SURFACES))]
    if arrays is None:
        raise ValueError("the part 'molecule' needs --data FOLDER with malonaldehyde's arrays")
    arms = (PLAIN, MOLECULES)
    return [molecule("malonaldehyde", 100, 4000, REPORTED, arms, arrays=arrays)]


PARTS = ("quick", "scale", "causes", "passes", "gain", "long", "frames", "oc20", "molecule")
