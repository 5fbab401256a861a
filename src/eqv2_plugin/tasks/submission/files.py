"""Files that are whole or not there: names of `common.files`, where they were before."""

from eqv2_plugin.common.files import read_npz, save_npz, save_text, whole_file

__all__ = ["read_npz", "save_npz", "save_text", "whole_file"]
