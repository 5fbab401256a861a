"""Mistakes are told in a sentence, and docs/mistakes.md shows all of them."""

from __future__ import annotations

import re

import pytest
from mistakes.commands import mistakes
from mistakes.table import PAGE, rows


@pytest.mark.slow
def test_each_mistake_is_told_in_a_sentence():
    found = rows()
    assert [f"{row.wrong}: {row.mistake.command}\n{row.shown}" for row in found if row.wrong] == []


def test_the_page_shows_all_mistakes_as_they_must_be_told():
    """Newer words than the page's are shown by ``python tests/mistakes --write``."""
    shown = re.findall(r"^\| `(.*?)` \| (.*) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    expected = list(mistakes())
    assert len(expected) >= 60
    assert [command for command, _, _ in shown] == [mistake.command for mistake in expected]
    for (_, said, code), mistake in zip(shown, expected, strict=True):
        assert mistake.said.replace("`", "'").replace("|", "\\|") in said
        assert int(code) == mistake.code
