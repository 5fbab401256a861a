"""Options that make no sense are refused at once."""

from __future__ import annotations

import pytest

from eqv2_plugin.tasks.simulation.settings import SimulationSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thermostat": "chains"}, "no thermostat 'chains'; did you mean 'chain'"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"timestep": -0.5}, "timestep must be"),
        ({"picoseconds": float("inf")}, "picoseconds must be"),
        ({"picoseconds": 0.03}, "no whole number of frames, which are 0.05 ps apart"),
        ({"picoseconds": 0.0001}, "no whole number of frames"),
        ({"replicas": 0}, "replicas must be at least 1, got 0"),
        ({"replicas": 2.5}, "replicas must be of type int"),
        ({"replicas_per_batch": -1}, "replicas_per_batch must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"replica": 3}, "no option 'replica'; did you mean 'replicas'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SimulationSettings.from_options(options)


def test_the_defaults_are_the_published_lengths():
    settings = SimulationSettings()
    assert settings.frames == 6001
    assert settings.interval == pytest.approx(0.05)
    assert settings.batches() == [range(5)]
    assert SimulationSettings(replicas=5, replicas_per_batch=2).batches() == [
        range(2), range(2, 4), range(4, 5),
    ]  # fmt: skip
