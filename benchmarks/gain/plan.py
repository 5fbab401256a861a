"""What is compared: experiments, arms, and their settings, fixed before the runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: in run names.
        title: in tables and plots.
        dens: option of the config group ``dens``; None trains without DeNS.
    """

    name: str
    title: str
    dens: str | None

    def config(self, experiment: Experiment) -> str:
        return experiment.plain_config if self.dens is None else experiment.dens_config

    def overrides(self, experiment: Experiment) -> tuple[str, ...]:
        if self.dens is None:
            return ()
        return (f"dens={self.dens}", *experiment.dens_overrides)


PLAIN = Arm("plain", "without DeNS", None)
DENS = Arm("dens", "DeNS", "full")
NO_FORCE_ENCODING = Arm("unencoded", "DeNS without force encoding", "no_force_encoding")
ALL_ATOMS = Arm("all_atoms", "DeNS, all atoms corrupted", "all_atoms")


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
        overrides, dens_overrides: of all arms, and of those with DeNS.
        arms: ways of training.
        arrays: folder with ``<molecule>_{train,test}.npz`` instead of the embedded sample.
        baseline: name of the experiment whose runs without DeNS are this one's, too.
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
    dens_overrides: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = (PLAIN, DENS, NO_FORCE_ENCODING)
    arrays: Path | None = None
    baseline: str | None = None


MOLECULES = ("aspirin", "benzene", "ethanol", "malonaldehyde", "naphthalene", "salicylic",
             "toluene", "uracil")  # fmt: skip
# R = 8 is enough for L_max = 2 here and a third faster than the recipe's 10.
_MD17_MODEL = "model.backbone.grid_resolution=8"


def molecule(
    name: str, train_frames: int, seeds: int, steps: int, batch_size: int, *,
    validations: int = 8, extra: tuple[str, ...] = (), variant: str = "", **shared: Any,
) -> Experiment:  # fmt: skip
    """Conservative forces on a molecule of rMD17, with the settings of Table 9.

    Args:
        name, train_frames, seeds, steps, batch_size: of the runs; one seed is seed 0.
        validations: evenly spaced.
        extra: overrides of all arms.
        variant: what differs, in names and titles.
        shared: see `Experiment`.

    Raises:
        ValueError: the steps are no whole number of passes per validation.
    """
    repeats, rest = divmod(steps * batch_size, validations * train_frames)
    if rest or repeats == 0:
        raise ValueError(
            f"{steps} steps of {batch_size} are no multiple of {validations} x {train_frames}"
        )
    return Experiment(
        name="-".join([name, str(train_frames), str(steps), *variant.split()]),
        title=f"{name}, {train_frames} frames, {steps} steps" + (variant and f", {variant}"),
        sample=f"rmd17_{name}",
        pool=("train", "val"),
        test_splits=("test",),
        train_frames=train_frames,
        val_frames=50,
        seeds=tuple(range(seeds)),
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
        **shared,
    )


def relaxations(
    seeds: int, repeats: int, epochs: int, extra: tuple[str, ...] = (), train_frames: int = 300
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
        seeds=tuple(range(seeds)),
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
            *extra,
        ),
    )


def plan(size: str, arrays: Path | None) -> list[Experiment]:
    """The experiments of "quick", "default", "why" or "full".

    Raises:
        ValueError: "full" without the folder of arrays.
    """
    if size == "quick":
        first = "+data.test_splits.test.first_n=100"
        return [
            molecule("ethanol", 100, 1, 200, 4, validations=2, arrays=arrays, extra=(first,)),
            relaxations(1, 1, 1, train_frames=100),
        ]
    if size == "why":
        wide = tuple(
            f"model.backbone.{channels}=64"
            for channels in ("sphere_channels", "attn_hidden_channels", "ffn_hidden_channels")
        )
        # Frames, seeds, steps, what differs from DeNS as published.
        changed = [
            (950, 1, 3800, "lambda 1", ("denoising.coefficient=1",)),
            (950, 3, 3800, "p 0.1", ("denoising.probability=0.1",)),
            (100, 5, 4000, "p 0.1", ("denoising.probability=0.1",)),
        ]
        return [
            *(
                molecule(
                    "ethanol", frames, seeds, steps, 4, arrays=arrays, arms=(DENS,),
                    variant=variant, dens_overrides=overrides,
                    baseline=f"ethanol-{frames}-{steps}",
                )
                for frames, seeds, steps, variant, overrides in changed
            ),
            molecule(
                "ethanol", 950, 1, 3800, 4, arrays=arrays, arms=(PLAIN, DENS), extra=wide,
                variant="64 channels",
            ),
            molecule("ethanol", 950, 1, 7600, 4, arrays=arrays, arms=(PLAIN, DENS)),
            molecule("ethanol", 950, 1, 19000, 4, arrays=arrays, arms=(PLAIN, DENS)),
            molecule("ethanol", 100, 1, 24000, 4, arrays=arrays, arms=(PLAIN, DENS)),
        ]  # fmt: skip
    if size == "full":
        if arrays is None:
            raise ValueError("--full needs --data FOLDER with the arrays of all eight molecules")
        arms = (PLAIN, DENS, NO_FORCE_ENCODING, ALL_ATOMS)
        return [
            molecule(name, frames, seeds, steps, 4, arrays=arrays, arms=arms)
            for name in MOLECULES
            for frames, seeds, steps in ((100, 5, 8000), (300, 3, 24000), (950, 3, 38000))
        ]
    return [
        molecule("ethanol", 100, 5, 4000, 4, arrays=arrays),
        molecule("aspirin", 100, 5, 4000, 2, arrays=arrays),
        molecule("ethanol", 950, 3, 3800, 4, arrays=arrays),
        relaxations(3, 2, 5),
        # Has the first one stopped improving?
        molecule("ethanol", 100, 1, 8000, 4, arrays=arrays, arms=(PLAIN, DENS)),
    ]
