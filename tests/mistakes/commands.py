"""The mistakes: what is typed, and a part of what must be said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """A command that is wrong."""

    group: str
    command: str
    said: str  # part of the sentence
    code: int = 1
    # Command that is run before, and must succeed.
    before: str | None = None


def mistakes() -> Iterator[Mistake]:
    """All of them, in the order of the table."""
    for group, commands in MISTAKES.items():
        for command, said in commands.items():
            yield Mistake(group, command, said, 2 if "error: " in said else 1)
    own = "eqv2_train train=mine.extxyz"
    for change, said in AFTER.items():
        group = "A folder that holds a run with epochs=1"
        yield Mistake(group, f"{own} {change}", said, before=f"{own} epochs=1")


MISTAKES = {
    "Keys of recipes": {
        "eqv2_oc20 epoch=2": "no key epoch; did you mean 'epochs'?",
        "eqv2_oc20 +epoch=2": "unused keys in the config: {'epoch'}",
        "eqv2_oc20 head=direct": "did you mean 'heads'?",
        "eqv2_oc20 heads=indirect": "there is no heads=indirect",
        "eqv2_oc20 scale=oc20_3m": "there is no scale=oc20_3m",
        "eqv2_oc20 model.backbone.lmaxx=2": "no key model.backbone.lmaxx; did you mean 'lmax'?",
        "eqv2_oc20 +model.backbone.lmx=3": "did you mean 'lmax'?",
        "eqv2_oc20 epochs=[1": "epochs=[1",
        "eqv2_oc20 epochs": "epochs",
        "eqv2_dens_oc20 dens=none": "there is no dens=none",
        "eqv2_md17 molecule=methanol": "there is no molecule=methanol",
        "eqv2_train train=mine.extxyz training=den": "there is no training=den",
    },
    "Numbers": {
        "eqv2_oc20 epochs=0": "epochs=0 must be",
        "eqv2_oc20 epochs=2.5": "epochs=2.5 must be",
        "eqv2_oc20 epochs=two": "epochs=two must be",
        "eqv2_oc20 batch_size=0": "batch_size=0 must be",
        "eqv2_oc20 batch_size=-4": "batch_size=-4 must be",
        "eqv2_oc20 batch_size=four": "batch_size=four must be",
        "eqv2_oc20 batch_size=100000": "fewer than batch_size=100000",
        "eqv2_oc20 learning_rate=-1": "learning_rate=-1 must be",
        "eqv2_oc20 learning_rate=nan": "learning_rate=nan must be",
        "eqv2_oc20 weight_decay=-0.1": "weight_decay=-0.1 must be",
        "eqv2_oc20 ema_decay=1.5": "ema_decay=1.5 must be",
        "eqv2_oc20 clip_grad_norm=0": "clip_grad_norm=0 must be",
        "eqv2_oc20 warmup_epochs=-1": "warmup_epochs=-1 must be",
        "eqv2_oc20 num_workers=-1": "num_workers=-1 must be",
        "eqv2_oc20 seed=-1": "seed=-1 must be",
        "eqv2_oc20 evaluate_every_n_steps=0": "evaluate_every_n_steps=0 must be",
        "eqv2_oc20 checkpoint_every_n_steps=often": "checkpoint_every_n_steps=often must be",
        "eqv2_oc20 force_coefficient=-1": "force_coefficient=-1 must be",
        "eqv2_oc20 compile=perhaps": "compile must be true, false or auto",
        "eqv2_oc20 model.backbone.cutoff=nan": "cutoff must be positive",
        "eqv2_oc20 model.backbone.lmax=0": "lmax",
        "eqv2_oc20 model.backbone.mmax=5": "mmax",
        "eqv2_oc20 model.backbone.num_layers=2.5": "num_layers must be of type int",
        "eqv2_oc20 model.backbone.alpha_drop=1.5": "alpha_drop must lie in [0, 1)",
        "eqv2_oc20 model.backbone.max_neighbors=0": "max_neighbors must be positive",
        "eqv2_dens_oc20 denoising.probability=2": "probability must lie in [0, 1]",
        "eqv2_dens_oc20 denoising.sigma=-1": "sigma must be positive",
        "eqv2_dens_oc20 force_scale=-1": "force_scale must be a positive number",
    },
    "Data": {
        "eqv2_train epochs=1": "the recipe needs a value for train",
        "eqv2_train train=gone.extxyz": "gone.extxyz does not exist",
        "eqv2_train train='*.none'": "no file fits this pattern",
        "eqv2_train train=words.extxyz": "words.extxyz, frame 0",
        "eqv2_train train=empty.extxyz": "empty.extxyz",
        "eqv2_train train=unlabelled.extxyz": "no frame has energy",
        "eqv2_train train=strange.extxyz": "enthalpy",
        "eqv2_train train=mine.extxyz energy_key=REF_energy": "REF_energy",
        "eqv2_train train=nan.extxyz": "nan.extxyz",
        "eqv2_train train=one.extxyz": "one labelled frame cannot be parted",
        "eqv2_train train=mine.extxyz val=gone.extxyz": "gone.extxyz does not exist",
        "eqv2_train train=mine.extxyz val_fraction=2": "val_fraction",
        "eqv2_train train=mine.extxyz group_key=run": "run",
        "eqv2_train train=mine.extxyz references=pbe": "unknown element references 'pbe'",
        "eqv2_train train=mine.extxyz size=smal": "did you mean 'small'?",
        "eqv2_train train=mine.extxyz batch_size=512": "more than the",
        "eqv2_train_several 'sets={a: mine.extxyz}'": "sets names two data sets or more",
        "eqv2_train_several 'sets={a: mine.extxyz, my_forces: mine.extxyz}'": "needs another name",
        "eqv2_train_several 'sets={a: mine.extxyz, b: gone.extxyz}'": "set b: gone.extxyz does not",
        "eqv2_train_several 'sets={a: mine.extxyz, b: {trian: mine.extxyz}}'": "no option 'trian'",
        "eqv2_train_several 'sets={a: mine.extxyz, b: mine.extxyz}' training=dens": "for one data",
        "eqv2_oc22": "set data_root=FOLDER",
        "eqv2_oc20 scale=oc20_2m data_root=data": "data",
        "eqv2_oc20 data_root=gone": "gone",
        "eqv2_dens_md17 molecule=toluene": "md17_toluene.npz at sgdml.org",
    },
    "Checkpoints": {
        "eqv2_finetune checkpoint=gone.pt": "no checkpoint to start from: gone.pt is no file",
        "eqv2_finetune checkpoint=cut.pt": "cut.pt",
        "eqv2_finetune checkpoint=words.pt": "words.pt",
        "eqv2_finetune checkpoint=model.pt references=pbe": "unknown element references 'pbe'",
        "eqv2_finetune checkpoint=model.pt normalizer=gone.yaml": "gone.yaml is no file",
        "eqv2_finetune checkpoint=model.pt energy=ignore": "energy must be check or ignore",
        "eqv2_finetune checkpoint=model.pt heads=conservative": "has no head to start 'gradient'",
        "eqv2_finetune checkpoint=model.pt new_heads=[stress]": "new_heads names ['stress']",
        "eqv2_finetune checkpoint=model.pt +model.backbone.lmax=4": "only",
        "eqv2_finetune checkpoint=model.pt from_scratch=true freeze_backbone=true": "freeze random",
    },
    "Predictions, relaxations, simulations": {
        "predict_s2ef_oc20 test_data=oc20_sample": "checkpoint",
        "predict_s2ef_oc20 test_data=oc20_sample checkpoint=gone.pt": "gone.pt",
        "predict_s2ef_oc20 test_data=oc20_sample checkpoint=cut.pt": "cut.pt",
        "predict_s2ef_oc20 checkpoint=model.pt": "set data_root=FOLDER",
        "predict_s2ef_oc20 test_data=oc20_sample checkpoint=model.pt atoms_per_batch=0": "atoms",
        "relax_is2re_oc20 checkpoint=model.pt settings.fmax=-1": "fmax must be a finite number",
        "relax_is2re_oc20 checkpoint=model.pt settings.optimizer=adam": "no optimizer 'adam'",
        "relax_is2re_oc20 checkpoint=model.pt batch.structures=0": "structures",
        "relax_is2re_oc20 checkpoint=model.pt precision=half": "precision must be float32",
        "relax_is2re_oc20 checkpoint=model.pt failed=maybe": "failed",
        "relax_is2re_oc20 checkpoint=gone.pt": "gone.pt",
        "adsorbml_batched checkpoint=model.pt": "no input",
        "adsorbml_batched checkpoint=model.pt input=gone.json": "gone.json",
        "md17_simulation checkpoint=model.pt settings.thermostat=berendsen": "thermostat",
        "md17_simulation checkpoint=model.pt settings.temperature=-1": "temperature",
        "md17_simulation": "inference_ckpt.pt",
    },
    "The command eqv2": {
        "eqv2 exprot model.pt": "eqv2: error: argument COMMAND: invalid choice: 'exprot'",
        "eqv2 convert model.pt": "error: the following arguments are required: NEW.pt",
        "eqv2 info gone.pt": "gone.pt",
        "eqv2 info cut.pt": "cut.pt",
        "eqv2 convert gone.pt new.pt": "gone.pt",
        "eqv2 export model.pt new.pt": ".safetensors",
        "eqv2 doctor gone.pt": "gone.pt",
        "eqv2 data check gone": "gone",
        "eqv2 data convert gone.extxyz --out out": "gone.extxyz",
        "eqv2 config eqv2_trian": "eqv2_train",
        "eqv2 submission check gone.npz": "gone.npz",
        "eqv2 adsorbml input gone.cif --adsorbates *CO --out input.json": "gone.cif",
    },
}
AFTER = {
    "epochs=2": "holds a run with other settings (epochs: 1 -> 2",
    "epochs=1 batch_size=8": "batch_size",
    "epochs=1 learning_rate=0.01": "learning_rate",
    "epochs=1 model.backbone.num_layers=1": "model.backbone.num_layers",
    "epochs=1 val_fraction=0.3": "val_fraction: 0.1 -> 0.3",
}
