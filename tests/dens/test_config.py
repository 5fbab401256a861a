"""Bad options of DeNS get one clear error; the coefficient decays as the paper says."""

from __future__ import annotations

import math

import pytest
import torch

from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.losses import DenoisingLoss

GOOD = {"probability": 0.5, "corruption_ratio": 0.25, "sigma": 0.1, "coefficient": 10.0}
BAD = {
    "probability above 1": ({"probability": 1.01}, r"^probability must lie in \[0, 1\], got 1.01$"),
    "probability below 0": ({"probability": -0.1}, r"^probability must lie in \[0, 1\], got -0.1$"),
    "ratio above 1": ({"corruption_ratio": 2}, r"^corruption_ratio must lie in .* 2.0$"),
    "ratio below 0": ({"corruption_ratio": -1}, r"^corruption_ratio must lie in .*-1.0$"),
    "bound above 1": ({"max_corrupted_fraction": 1.5}, r"^max_corrupted_fraction must lie in"),
    "bound below 0": ({"max_corrupted_fraction": -0.5}, r"^max_corrupted_fraction must lie in"),
    "sigma zero": ({"sigma": 0.0}, r"^sigma must be positive \(Å\), got 0.0$"),
    "sigma negative": ({"sigma": -0.1}, r"^sigma must be positive \(Å\), got -0.1$"),
    "sigma not a number": ({"sigma": math.nan}, r"^sigma must be positive \(Å\), got nan$"),
    "schedule reversed": ({"sigma_low": 0.2}, "^sigma_low must lie between 0 and sigma, got 0.2$"),
    "schedule empty": ({"sigma_low": 0.1}, "^sigma_low must lie between 0 and sigma, got 0.1$"),
    "schedule from zero": ({"sigma_low": 0.0}, "^sigma_low must lie between 0 and sigma, got 0.0"),
    "coefficient": ({"coefficient": -1.0}, "^coefficient must not be negative, got -1.0$"),
    "force limit": ({"max_force_norm": -2}, "^max_force_norm must not be negative, got -2.0$"),
    "mean limit": ({"max_mean_force_norm": -2}, "^max_mean_force_norm must not be negative"),
    "decay": ({"coefficient_decay": "cosine"}, "^coefficient_decay must be one of"),
    "misspelt": ({"probabilty": 0.5}, "no option 'probabilty'; did you mean 'probability'"),
    "unknown": ({"zzz": 1}, "^DeNS has no option 'zzz'; there are probability, "),
    **{
        f"{name} not a number": ({name: math.nan}, name)
        for name in ("coefficient", "max_force_norm", "max_mean_force_norm", "sigma_low")
    },
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_option_is_named_in_one_error(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        DenoisingConfig.from_options({**GOOD, **changes})


@pytest.mark.parametrize("missing", [*([name] for name in GOOD), list(GOOD)], ids=", ".join)
def test_missing_options_are_named_at_once(missing):
    given = {key: value for key, value in GOOD.items() if key not in missing}
    for options in (given, {**given, **dict.fromkeys(missing)}):
        with pytest.raises(ValueError, match=f"^DeNS needs a value for {', '.join(missing)}$"):
            DenoisingConfig.from_options(options)


def test_ends_of_the_ranges_are_allowed():
    ends = {"probability": 0.0, "corruption_ratio": 1.0, "coefficient": 0.0, "max_force_norm": 0.0}
    read = DenoisingConfig.from_options({**GOOD, **ends, "max_corrupted_fraction": 1.0})
    assert {key: getattr(read, key) for key in ends} == ends


@pytest.mark.parametrize(
    ("decay", "values"),
    [
        ("none", [10.0] * 6),
        ("linear", [10.0, 8.75, 7.5, 6.25, 0.0, 0.0]),
        # lambda (1 - epoch / epochs), epochs counted from 0.
        ("linear_per_epoch", [10.0, 10.0, 7.5, 7.5, 0.0, 0.0]),
    ],
)
def test_the_coefficient_decays_to_zero(decay, values):
    read = DenoisingConfig.from_options({**GOOD, "coefficient_decay": decay})
    steps = 0, 1, 2, 3, 8, 9
    assert [read.coefficient_at(step, total=8, per_epoch=2) for step in steps] == values


def test_an_unknown_normalisation_of_the_loss_is_refused():
    known = r"\['per_structure', 'per_batch', 'per_task'\], got 'per_atom'"
    with pytest.raises(ValueError, match=known):
        DenoisingLoss(1.0, "per_atom")


def test_a_loss_says_where_its_level_comes_from():
    ones = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"level='system' or 'atom'.*EquiformerV2DeNSUnit"):
        DenoisingLoss(1.0)(ones, ones, torch.ones(2, dtype=torch.bool), torch.tensor([1, 1]))
