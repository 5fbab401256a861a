"""Fused operations of the attention, each with a plain twin in ``geometry`` and ``layers``.

They are compiled at their first use, by Numba on a CPU and by Triton on a GPU; see
``docs/kernels.md``.
"""
