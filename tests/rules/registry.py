"""Rules that every command and every config must follow, so that a new one cannot be forgotten.

A rule has a behaviour, a function that fails where the rule is broken, for each command of the
parser and each config of ``configs/``, or the reason why it does not concern it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eqv2_plugin.cli import build_parser

CONFIGS = Path(__file__).parents[2] / "configs"

Behaviour = Callable[..., Any]


def commands() -> set[str]:
    """Every command as it is typed: "eqv2 data convert"."""
    return set(_leaves(build_parser(), "eqv2"))


def configs() -> set[str]:
    """Every config by its path: "configs/eqv2_oc20.yml"."""
    return {f"configs/{path.name}" for path in CONFIGS.glob("*.y*ml")}


class Rule:
    """A rule, and what it means for each command and config.

    Args:
        name: what the rule is about, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.behaviours: dict[str, Behaviour] = {}
        self.reasons: dict[str, str] = {}

    def behaviour(self, *names: str) -> Callable[[Behaviour], Behaviour]:
        """Decorator: the behaviour of these commands and configs, called with the name."""

        def note(function: Behaviour) -> Behaviour:
            for name in names:
                assert name not in self.behaviours, f"{name} has two behaviours for {self.name}"
                self.behaviours[name] = function
            return function

        return note

    def does_not_concern(self, reason: str, *names: str) -> None:
        """Say why the rule does not concern these commands and configs."""
        self.reasons |= dict.fromkeys(names, reason)

    def check_complete(self) -> None:
        """Fail where a command or config has neither behaviour nor reason, or one is gone."""
        there, said = commands() | configs(), self.behaviours.keys() | self.reasons.keys()
        assert not there - said, f"what does {self.name} mean for {sorted(there - said)}?"
        assert not said - there, f"{sorted(said - there)} are gone: remove them from {self.name}"
        both = self.behaviours.keys() & self.reasons.keys()
        assert not both, f"{sorted(both)} have a behaviour and a reason not to have one"


def _leaves(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield name
    for action in inner:
        for word, below in action.choices.items():
            yield from _leaves(below, f"{name} {word}")
