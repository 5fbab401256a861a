"""A model, data of two splits, and what a job leaves of them that one process did at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from prediction_inputs import frames, options, predict, write_data, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="session")
def made(model, tmp_path_factory) -> dict:
    """Options of the job: OC22 has two splits."""
    folder = tmp_path_factory.mktemp("inputs")
    splits = {"id": "val_id", "ood": "val_ood"}
    for split, source in splits.items():
        write_data(folder / split, frames(source))
    sources = {split: {"src": split} for split in splits}
    return options(folder, model, sources) | {"dataset": "oc22"}


@pytest.fixture(scope="session")
def whole(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    predict(folder, made)
    return folder
