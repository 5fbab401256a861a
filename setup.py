"""The wheel carries the recipes of configs/ as eqv2_plugin/recipes; see pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """An editable installation finds them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib) / "eqv2_plugin" / "recipes"
            folder.mkdir(parents=True, exist_ok=True)
            for recipe in Path("configs").glob("*.yml"):
                shutil.copy(recipe, folder)


setup(cmdclass={"build_py": BuildWithRecipes})
