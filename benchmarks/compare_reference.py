"""Our EquiformerV2 beside fairchem-core 1.10's: same weights, same structures, same run.

    python benchmarks/compare_reference.py --quick       two rows, under 5 minutes
    python benchmarks/compare_reference.py               the table of docs/speed.md

The reference gets an environment of its own (--reference-env, made once in 5 to 10 minutes: it
compiles torch-scatter), with the same torch. Each side runs in a process of its own; their calls
alternate, so that whatever else the machine does hits both. "As shipped", the reference records
gradients within ``no_grad``; "frozen" has its parameters frozen, which keeps it from that.
Before times are taken, energies and forces are compared. Rows are kept in --out: an interrupted
table goes on where it stopped, and a new one wants another folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import psutil
import torch
from compare.cases import MODELS, plan
from compare.environment import reference_python
from compare.measure import Row, measure
from compare.report import markdown, plot, processor
from tqdm import tqdm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--reference-env", type=Path, default=Path("runs/reference_env"))
    parser.add_argument("--out", type=Path, default=Path("runs/compare_reference"))
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU here")
    if options.precision != "fp32" and options.device == "cpu":
        parser.error(f"--precision {options.precision} is for GPUs: add --device cuda")
    try:
        python = reference_python(options.reference_env.absolute())
    except RuntimeError as error:
        sys.exit(f"compare_reference: {error}")
    cases = [case for case in plan(options.quick) if case.model in options.models]
    if options.device == "cuda":
        cases = [case for case in cases if case.threads == 1 and case.allocator == "tuned"]
        memory, name = torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()
    else:
        memory, name = psutil.virtual_memory().available, processor()
    stored = options.out / f"rows-{options.device}-{options.precision}"
    stored.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in tqdm(cases, desc="rows", disable=None):
        file = stored / f"{case.name}.json"
        if file.exists():
            tqdm.write(f"{case.name}: kept from an earlier run")
            row = Row.from_json(file.read_text())
        else:
            limit = 0.8 * memory / 2**20
            row = measure(case, python, options.repeats, options.device, options.precision, limit)
            if row.complete:
                file.write_text(row.to_json())
        rows.append(row)
    text = markdown(rows, name, options.precision)
    (options.out / "compare_reference.md").write_text(text)
    plot(rows, options.out / "compare_reference.png")
    print(text)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
