"""Fused operations of the attention, each with a plain twin in ``geometry`` and ``layers``.

On a CPU they are compiled by Numba at their first use; see ``docs/speed.md``.
"""
