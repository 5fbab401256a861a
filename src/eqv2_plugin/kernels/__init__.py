"""The operations of the attention that are worth a kernel; see ``docs/kernels.md``."""
