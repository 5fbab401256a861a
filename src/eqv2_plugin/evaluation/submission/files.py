"""Files that are whole or not there: the names of `eqv2_plugin.files`, where they were before."""

from eqv2_plugin.files import read_npz, save_npz, save_text, whole_file

__all__ = ["read_npz", "save_npz", "save_text", "whole_file"]
