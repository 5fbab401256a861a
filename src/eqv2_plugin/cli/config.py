"""``eqv2 config``: where the recipes are that ``fairchem -c`` runs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from eqv2_plugin.common.options import did_you_mean

PACKAGE = Path(__file__).parents[1]
# In a wheel; in a clone they are beside `src`.
FOLDERS = (PACKAGE / "recipes", PACKAGE.parents[1] / "configs")


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "config",
        help="path of a recipe for fairchem -c, or a copy to edit",
        description='Print the path of a recipe, as in fairchem -c "$(eqv2 config eqv2_oc20)". '
        "Without a name: all recipes, and what they do.",
    )
    parser.add_argument("name", nargs="?", help="a recipe, such as eqv2_oc20")
    parser.add_argument("--list", action="store_true", help="all recipes, and what they do")
    parser.add_argument(
        "--copy", type=Path, metavar="FOLDER", help="copy the recipe there, and print that path"
    )
    parser.set_defaults(run=run, registers=False)


def run(options: argparse.Namespace) -> int:
    """Print paths."""
    found = recipes()
    if options.name is None or options.list:
        if options.copy is not None:
            raise ValueError("--copy needs the name of one recipe; eqv2 config --list shows them")
        width = max(map(len, found))
        for name, path in found.items():
            print(f"{name:{width}}  {summary(path)}")
        return 0
    name = options.name.removesuffix(".yml")
    if name not in found:
        raise ValueError(f"there is no recipe {name!r}{did_you_mean(name, found)}")
    path = found[name]
    if options.copy is not None:
        copy = options.copy / path.name
        if copy.exists():
            raise FileExistsError(f"{copy} exists: give another folder, or remove it")
        options.copy.mkdir(parents=True, exist_ok=True)
        path = Path(shutil.copy(path, copy))
    print(path)
    return 0


def recipes() -> dict[str, Path]:
    """All recipes by name."""
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yml"))}


def summary(path: Path) -> str:
    """The first sentence of a recipe's comment."""
    paragraph = path.read_text(encoding="utf-8").split("\n#\n")[0]
    words = " ".join(line.removeprefix("# ") for line in paragraph.splitlines())
    return words.split(". ")[0].removesuffix(".")
