"""The environment of runs that are compared by the processor's time."""

# One thread, and an allocator that keeps its memory: a small model's steps otherwise spend a
# seventh of their time in page faults.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
