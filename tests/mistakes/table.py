"""Runs the mistakes, and makes the table of what was shown."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from launches import launch

from .commands import Mistake, mistakes
from .inputs import write_inputs

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
HEAD = """# What mistakes show

Each command below was run by `python tests/mistakes --write`, in a folder with these files:
`mine.extxyz` (40 labelled clusters), `one.extxyz` (one of them), `unlabelled.extxyz`,
`strange.extxyz` (energies under the name `enthalpy`), `nan.extxyz` (a force that is not a number),
`words.extxyz`, `empty.extxyz`, `model.pt` (a small model), `cut.pt` (half of it), `words.pt` and an
empty folder `data`. Recipes stand for `fairchem -c configs/RECIPE.yml`. Shown is all that comes to
the screen beside log lines (`INFO`), without the line that names `EQV2_TRACEBACK=1`, with which the
way to a mistake is shown, too.

Not in reach of a plugin, and shown with a traceback: a recipe's file that does not exist, Ctrl-C
during the first imports, and mistakes that only the ranks of a job with several of them find (torch
prints theirs in a table; the sentence is in it).
"""
_LOG = re.compile(r"^(INFO|WARNING|DEBUG):|^\s*$|^Warp |EQV2_TRACEBACK=1|^\s*\d+% |frames/s\]")


@dataclass(frozen=True)
class Row:
    """A mistake that was made."""

    mistake: Mistake
    shown: str
    code: int

    @property
    def wrong(self) -> str | None:
        """What is not as it must be."""
        if self.code != self.mistake.code:
            return f"exit code {self.code} instead of {self.mistake.code}"
        if self.mistake.said not in self.shown:
            return f"{self.mistake.said!r} is not said"
        if "Traceback" in self.shown or self.shown.count("\n") > 5 or len(self.shown) > 700:
            return "more than a sentence"
        return None


def rows(*chosen: str) -> list[Row]:
    """All mistakes, or those whose command has one of these parts, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_inputs()
        done: set[str] = set()
        found = []
        for mistake in mistakes():
            if chosen and not any(part in mistake.command for part in chosen):
                continue
            if mistake.before and mistake.before not in done:
                code, shown = _run(mistake.before)
                assert code == 0, shown
                done.add(mistake.before)
            code, shown = _run(mistake.command)
            shown = shown.replace(f"{Path(folder).resolve()}/", "")
            row = Row(mistake, re.sub("mine-[0-9a-f]{8}", "mine-HASH", shown), code)
            print(f"{row.wrong or 'as it must be'}: {mistake.command}", flush=True)
            found.append(row)
        return found


def page(found: list[Row]) -> str:
    """The text of docs/mistakes.md."""
    lines, group = [HEAD], ""
    for row in found:
        if row.mistake.group != group:
            group = row.mistake.group
            lines += [f"\n## {group}\n", "| typed | shown | exit code |", "|---|---|---|"]
        shown = "<br>".join(f"`{_cell(line)}`" for line in row.shown.splitlines())
        lines.append(f"| `{_cell(row.mistake.command)}` | {shown} | {row.code} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    chosen = [word for word in sys.argv[1:] if word != "--write"]
    found = rows(*chosen)
    text = page(found)
    if "--write" in sys.argv:
        PAGE.write_text(text)
    else:
        print(text)
    wrong = [row for row in found if row.wrong]
    print(f"{len(found)} mistakes, {len(wrong)} not as they must be")
    for row in wrong:
        print(f"{row.wrong}: {row.mistake.command}\n{row.shown}\n")
    return 1 if wrong else 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def _run(command: str) -> tuple[int, str]:
    """Exit code, and what is shown besides log lines."""
    words = shlex.split(command)
    if words[0] == "eqv2":
        code, shown = _eqv2(words[1:])
    else:
        done = launch(words[0], words[1:], EQV2_TRACEBACK="")
        code, shown = done.returncode, done.stderr
    lines = shown.replace("\r", "\n").splitlines()
    return code, "\n".join(line.strip() for line in lines if not _LOG.search(line))


def _eqv2(words: list[str]) -> tuple[int, str]:
    from eqv2_plugin.cli import main

    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as error:
            code = int(error.code or 0)
    return code, shown.getvalue()
