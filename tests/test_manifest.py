"""What a folder was made with is compared value by value, and differences are named."""

import pytest

from eqv2_plugin.common.manifest import begin, read_manifest

MADE = {"model": {"sha": "a", "layers": (1, 2)}, "seed": 0}


def test_the_same_goes_on_and_others_are_refused_with_their_differences(tmp_path):
    file = tmp_path / "manifest.json"
    begin(file, MADE, tmp_path, "results")
    begin(file, MADE, tmp_path, "results")
    other = {"model": {"sha": "b", "layers": (1, 2)}, "added": True}
    with pytest.raises(ValueError, match="holds results made with something else") as error:
        begin(file, other, tmp_path, "results")
    assert "(added: None -> True; model.sha: a -> b; seed: 0 -> None)" in str(error.value)
    assert "run_name=NAME" in str(error.value)


def test_a_damaged_or_missing_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was begun"):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        begin(tmp_path / "manifest.json", MADE, tmp_path, "results")
