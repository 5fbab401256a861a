"""Where the device's time goes: kernels, launches, idle time, and launches of each module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from compare.plugin_worker import Plugin
from session.models import plugin, slabs, synchronize, timed
from session.setting import Jobs, Setting
from torch.profiler import ProfilerActivity, profile, record_function

# Ordinary kernels, Triton's, clusters of Hopper's, graphs, copies.
_LAUNCHES = (
    "cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx",
    "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync",
)  # fmt: skip
_TOP = 12
_LISTED = 8


def jobs(setting: Setting) -> Jobs:
    """One row per model, number of slabs and work; then one per costly kernel of it."""
    cases = [("tiny", 1)] if setting.tiny else [("31M", 1), ("31M", 32), ("83M", 1)]
    atoms = 18 if setting.tiny else 70
    for model, count in cases:
        for work in ("inference", "training"):
            name = f"{model}, {count} x {atoms}, {work}"
            yield name, partial(measure, setting, model, count, atoms, work)


def measure(setting: Setting, model: str, count: int, atoms: int, work: str) -> dict[str, Any]:
    """Milliseconds of a call and of the device in it; numbers of kernels; the costliest ones."""
    device = setting.device
    it = plugin(model, device, slabs(count, atoms))
    call: Callable[[], Any] = (
        it.training_step if work == "training" else partial(it.inference, True)
    )
    for _ in range(1 if setting.tiny else 3):
        call()
    wall = min(timed(call, device) for _ in range(1 if setting.tiny else 5))
    gpu = device == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    with profile(activities=activities) as profiler:
        call()
        synchronize(device)
    events = profiler.events()
    kernels = [e for e in events if gpu and str(e.device_type).endswith("CUDA")]
    found: dict[str, Any] = {
        "ms": 1e3 * wall,
        "operators": sum(e.name[:6] == "aten::" for e in events),
    }
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in kernels or events:
        spent[event.name[:80]] += event.self_device_time_total if gpu else event.self_cpu_time_total
        calls[event.name[:80]] += 1
    if gpu:
        found |= {"ms of the device": 1e-3 * sum(spent.values()), "kernels": len(kernels)}
    found["launches by module"] = launches_by_module(it, call, activities)
    found["costliest"] = "; ".join(
        f"{1e-3 * time:.2f} ms {calls[name]}x {name}" for name, time in spent.most_common(_TOP)
    )
    return found


def launches_by_module(it: Plugin, call: Callable[[], Any], activities: list[Any]) -> str:
    """Launches (on a CPU: operators) of each kind of module, without those of inner ones."""
    open_ranges: list[Any] = []

    def begin(name: str, *_: Any) -> None:
        open_ranges.append(record_function(f"module {name}"))
        open_ranges[-1].__enter__()

    def end(*_: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    hooks = []
    for module in it.model.modules():
        name = type(module).__name__
        hooks += [
            module.register_forward_pre_hook(partial(begin, name)),
            module.register_forward_hook(end),
        ]
    try:
        with profile(activities=activities) as profiler:
            call()
            synchronize(it.device)
    finally:
        for hook in hooks:
            hook.remove()
    counts: Counter[str] = Counter()
    for event in profiler.events():
        wanted = event.name in _LAUNCHES if it.device == "cuda" else event.name[:6] == "aten::"
        if wanted:
            counts[_module_of(event)] += 1
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(_LISTED))


def _module_of(event: Any) -> str:
    """The innermost module around an event."""
    while event is not None:
        if event.name.startswith("module "):
            return event.name.removeprefix("module ")
        event = event.cpu_parent
    return "elsewhere"
