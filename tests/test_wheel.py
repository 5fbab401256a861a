"""The built wheel, alone in an environment: commands, recipes and their data."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from ase.io import read, write

from eqv2_plugin.data.sample import load_sample

pytestmark = pytest.mark.slow  # builds and installs
ROOT = Path(__file__).parents[1]
TRACKED = ("src", "configs", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in TRACKED:
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(build, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder of commands; what the package depends on comes from this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scheme = {"base": str(folder), "platbase": str(folder)}
    site, scripts = (sysconfig.get_path(key, vars=scheme) for key in ("purelib", "scripts"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command += ["--python", Path(scripts) / "python", "install", "--no-deps", wheel]
    subprocess.run(command, check=True)
    # After the wheel's own folder, and without the .pth file of an editable installation.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return Path(scripts)


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{installed}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def test_all_recipes_and_data_are_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "eqv2_plugin"
    wanted = [f"eqv2_plugin/recipes/{path.name}" for path in (ROOT / "configs").iterdir()]
    for path in package.rglob("*"):
        if path.suffix in (".py", ".yaml") or "samples" in path.parent.parts:
            wanted.append(path.relative_to(package.parent).as_posix())
    assert len(wanted) > 200
    assert not [name for name in wanted if name not in names and "__pycache__" not in name]


def test_an_installed_wheel_finds_and_describes_its_recipes(installed, tmp_path):
    recipe = Path(run(installed, tmp_path, "eqv2", "config", "eqv2_oc20"))
    assert installed.parent in recipe.parents
    assert run(installed, tmp_path, "eqv2", "--version").startswith("eqv2-plugin ")
    copy = run(installed, tmp_path, "eqv2", "config", "eqv2_md17", "--copy", "mine")
    assert "32" in run(installed, tmp_path, "eqv2", "info", "--config", copy)


def test_200_frames_become_a_model_that_relaxes(installed, tmp_path):
    """The README's commands, for one pass of training and few steps."""
    write(tmp_path / "mine.extxyz", load_sample("rmd17_ethanol", "train")[:200])
    write(tmp_path / "start.extxyz", load_sample("rmd17_ethanol", "val")[:4])

    def fairchem(name: str, *overrides: str) -> None:
        recipe = run(installed, tmp_path, "eqv2", "config", name)
        job = (str(installed / "python"), "-c", "from fairchem.core._cli import main; main()")
        run(installed, tmp_path, *job, "-c", recipe, *overrides, "job.device_type=CPU")

    fairchem("eqv2_train", "train=mine.extxyz", "epochs=1")
    results = tmp_path / "runs" / "eqv2_train" / "mine" / "results"
    assert {path.name for path in results.glob("*.png")} >= {
        "learning_curve.png", "parity_energy.png", "parity_forces.png",
    }  # fmt: skip
    model = results / "inference_ckpt.pt"
    fairchem("relax", f"checkpoint={model}", "structures=start.extxyz", "settings.steps=3")
    relaxed = read(tmp_path / "runs" / "relax" / "start" / "results" / "relaxed.extxyz", ":")
    assert len(relaxed) == 4
