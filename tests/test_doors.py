"""Nothing that a file holds is run, whatever opens it, and whatever is wrong is said in a sentence.

The entry points are read from the command line's parser and from ``configs/``: a new one fails
the first test until it is driven here.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import lmdb
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write
from fairchem.core._cli import get_hydra_config_from_yaml
from hostile_checkpoints import BOMBS, PICKLE_KINDS, PLAIN_KINDS, SENTINEL, Bomb, write_hostile
from native_checkpoints import write_checkpoint

import eqv2_plugin
from eqv2_plugin.checkpoints.door import open_model
from eqv2_plugin.cli import build_parser, main

CONFIGS = Path(__file__).parents[1] / "configs"
KINDS = {**PLAIN_KINDS, **PICKLE_KINDS, **BOMBS}
MODEL = Path("model.pt")
LMDB = Path(__file__).parent / "fixtures" / "data_oc" / "is2re_folder"
Opener = Callable[[], Callable[[], object]]


def command(*arguments: str) -> Opener:
    """A command of ``eqv2``; its error is raised."""

    def open_it() -> None:
        options = build_parser().parse_args([str(argument) for argument in arguments])
        options.run(options)

    return lambda: open_it


def job(config: str, *overrides: str) -> Opener:
    """A runner, made once as ``fairchem -c`` makes it."""

    def prepare() -> Callable[[], object]:
        read = get_hydra_config_from_yaml(
            str(CONFIGS / config), [f"checkpoint={MODEL}", "job.device_type=CPU", *overrides]
        )

        def open_it() -> None:
            runner = hydra.utils.instantiate(read.runner)
            runner.job_config = read.job
            runner.run()

        return open_it

    return prepare


def finetuning(name: str = "eqv2_finetune.yml", *given: str) -> Callable[[], object]:
    """The config is read once in a while, and the model is made; both open the file."""

    def read() -> Any:
        overrides = [f"checkpoint={MODEL}", "job.device_type=CPU", *given]
        config = str(CONFIGS / name)
        return get_hydra_config_from_yaml(config, overrides).runner.train_eval_unit.model

    model, calls = read(), itertools.count()

    def open_it() -> None:
        if next(calls) % 8 == 0:
            read()
        hydra.utils.instantiate(model)

    return open_it


def own_frames() -> None:
    """Write a few."""
    frames = [Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2 + 0.1 * i]]) for i in range(4)]
    for atoms in frames:
        atoms.calc = EMT()
        atoms.get_forces()
    write("own.traj", frames)


def training() -> Callable[[], object]:
    """The same of one's own frames, of which there are a few here."""
    own_frames()
    return finetuning("eqv2_train.yml", "train=own.traj")


def training_several() -> Callable[[], object]:
    """The same of two data sets."""
    own_frames()
    return finetuning("eqv2_train_several.yml", "sets={one: own.traj, other: own.traj}")


FEW = [f"~is2re_data.splits.{name}" for name in ("ood_ads", "ood_cat", "ood_both")]
# What opens models, by the name of the command or config.
OPENERS: dict[str, Opener] = {
    "eqv2 info": command("info", MODEL),
    "eqv2 convert": command("convert", MODEL, "new.pt"),
    "eqv2 export": command("export", MODEL, "new.safetensors"),
    "eqv2 doctor": command("doctor", MODEL, "--device", "cpu"),
    "eqv2 predict": command("predict", MODEL, LMDB, "--out", "new.csv", "--device", "cpu"),
    "adsorbml.yml": job("adsorbml.yml", "input=in.pkl"),
    "adsorbml_batched.yml": job("adsorbml_batched.yml", "input=in.pkl"),
    "eqv2_finetune.yml": finetuning,
    "eqv2_train.yml": training,
    "eqv2_train_several.yml": training_several,
    "md17_simulation.yml": job("md17_simulation.yml"),
    "predict_s2ef_oc20.yml": job("predict_s2ef_oc20.yml", "test_data=oc20_sample"),
    "predict_s2ef_oc22.yml": job("predict_s2ef_oc22.yml", "test_data=oc20_sample"),
    "relax_is2re_oc20.yml": job("relax_is2re_oc20.yml", *FEW),
    "relax.yml": job("relax.yml", f"structures={LMDB}", "run_dir=own"),
    "eqv2_plugin.load": lambda: lambda: eqv2_plugin.load(MODEL, "cpu"),
    "open_model": lambda: lambda: open_model(MODEL, "cpu"),
}
# What opens none.
WITHOUT_MODEL = {
    "eqv2 adsorbml input", "eqv2 adsorbml single-points", "eqv2 adsorbml score",
    "eqv2 submission check",
    "eqv2 data convert", "eqv2 data split", "eqv2 data check", "eqv2 data fit-references",
    "eqv2 data fit-normalizer", "eqv2 data oc20", "eqv2 config",
    "eqv2_oc20.yml", "eqv2_oc22.yml", "eqv2_md17.yml",
    "eqv2_dens_oc20.yml", "eqv2_dens_oc22.yml", "eqv2_dens_md17.yml",
    "equiformer_v1_md17.yml", "equiformer_v1_dens_md17.yml",
}  # fmt: skip


def commands_of(parser: argparse.ArgumentParser, name: str) -> set[str]:
    """Names of all commands that can be run."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        return {name}
    choices = below[0].choices.items()
    return {found for key, one in choices for found in commands_of(one, f"{name} {key}")}


def test_every_command_and_every_config_is_driven_here_or_opens_no_model():
    found = commands_of(build_parser(), "eqv2") | {path.name for path in CONFIGS.glob("*.yml")}
    assert found == (set(OPENERS) | WITHOUT_MODEL) - {"eqv2_plugin.load", "open_model"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("hostile")
    made = {}
    for name, change in KINDS.items():
        made[name] = write_hostile(folder / "one.pt", change).read_bytes()
    whole = write_checkpoint(folder / "good.pt", "direct").read_bytes()
    for share in (0.1, 0.5, 0.999):
        made[f"truncated to {share}"] = whole[: int(share * len(whole))]
    for place in (0.02, 0.3, 0.6, 0.9):
        flipped = bytearray(whole)
        flipped[int(place * len(whole))] ^= 16
        made[f"bit flipped at {place}"] = bytes(flipped)
    return made


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("entry", OPENERS)
def test_hostile_files_are_refused_by_name_and_run_nothing(here, hostile, entry):
    write_checkpoint(MODEL, "direct")
    if "adsorbml" in entry:
        from adsorbml_inputs import write_slab_input

        write_slab_input(here / "in.pkl", ["*O"])
    open_it = OPENERS[entry]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong = {}
    for name, content in hostile.items():
        MODEL.write_bytes(content)
        try:
            open_it()
            wrong[name] = "opened"
        except Exception as error:
            if MODEL.name not in str(error):
                wrong[name] = f"the file is not named: {error!r}"
        if (here / SENTINEL).exists():
            wrong[name] = "a command was run"
            os.unlink(here / SENTINEL)
    assert wrong == {}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 800_000, f"{grown:,} kB"
    assert not list(here.glob("new.*"))


def test_the_files_would_have_run_a_command(here):
    """As fairchem opens them; else the tests above would prove nothing."""
    ran = set()
    for name in ("loss", "references as text", "facts", "key of the backbone"):
        write_hostile(MODEL, KINDS[name])
        with contextlib.suppress(ValueError):
            open_model(MODEL, "cpu", "batch", unsafe=True)
        if (here / SENTINEL).exists():
            ran.add(name)
            os.unlink(here / SENTINEL)
    assert ran == {"loss", "references as text", "facts", "key of the backbone"}


def test_unsafe_is_spoken_the_same_everywhere(here, capsys):
    write_hostile(MODEL, KINDS["loss"])
    for arguments in (["info", MODEL], ["export", MODEL, "a.safetensors"], ["doctor", MODEL]):
        assert main([str(argument) for argument in arguments]) == 1
        assert "--unsafe" in capsys.readouterr().err
    assert main(["info", str(MODEL), "--unsafe"]) == 0
    assert main(["export", str(MODEL), "a.safetensors", "--unsafe"]) == 0
    for config in OPENERS:
        if config.endswith(".yml"):
            assert "unsafe: false" in composed(config), config


def composed(config: str) -> str:
    text = (CONFIGS / config).read_text()
    for path in Path(eqv2_plugin.__file__).parent.glob("configs/prediction/*.yaml"):
        text += path.read_text() if config.startswith("predict") else ""
    return text


def hostile_records() -> dict[str, bytes]:
    """Pickles in the place of a record: one runs a command, one would fill memory."""
    state = {"pos": torch.zeros(1).expand(100_000_000, 3)}
    start = b"\x80\x04ctorch_geometric.data.data\nData\n)\x81"
    return {
        "pickle": pickle.dumps(Bomb()),
        "widened tensor": start + pickle.dumps(state, 4)[2:-1] + b"b.",
        "cut": pickle.dumps([1, 2])[:-2],
    }


DATA_COMMANDS = {
    "eqv2 data convert": lambda src: ("convert", src, "--out", f"{src}.new"),
    "eqv2 data split": lambda src: ("split", src, "--out", f"{src}.parts"),
    "eqv2 data check": lambda src: ("check", src),
    "eqv2 data fit-references": lambda src: ("fit-references", src, "--out", "new.npz"),
    "eqv2 data fit-normalizer": lambda src: ("fit-normalizer", src),
}


@pytest.mark.parametrize("name", DATA_COMMANDS)
def test_hostile_records_run_nothing(here, capsys, name):
    for kind, record in hostile_records().items():
        source = f"{kind}.lmdb".replace(" ", "_")
        options = {"subdir": False, "map_size": 1 << 20, "lock": False}
        with lmdb.open(source, **options) as file, file.begin(write=True) as transaction:
            transaction.put(b"0", record)
        assert main(["data", *DATA_COMMANDS[name](source)]) == 1, kind
        said = capsys.readouterr()
        assert source in said.err + said.out, kind
        assert not (here / SENTINEL).exists(), kind


@pytest.mark.parametrize("config", ["adsorbml.yml", "adsorbml_batched.yml"])
def test_hostile_inputs_of_adsorbml_run_nothing(here, config):
    write_checkpoint(MODEL, "direct")
    open_it = job(config, "input=in.pkl")()
    for content in (pickle.dumps({"a": Bomb()}), b"\x80\x04", b"{", b"{}"):
        (here / "in.pkl").write_bytes(content)
        with pytest.raises(Exception, match=r"in\.pkl"):
            open_it()
        assert not (here / SENTINEL).exists()
