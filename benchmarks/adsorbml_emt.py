"""The whole chain of AdsorbML on metals that ASE's EMT knows, with EMT in the place of DFT.

    python benchmarks/adsorbml_emt.py --quick    tiny sizes: does everything work? (minutes)
    python benchmarks/adsorbml_emt.py            what docs/adsorbml_emt.md says

Frames of small slabs with a nitrogen atom are made and labelled with EMT; an EquiformerV2 learns
them; AdsorbML relaxes 20 other placements on each of five surfaces with it; EMT calculates single
points of the best, and relaxes all placements for comparison. Run again after an interruption:
steps that are finished are kept, training and relaxations go on where they stopped. Needs
`pip install 'eqv2-plugin[catalysis]'`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from emt_chain.chain import QUICK, Chain, Settings
from emt_chain.report import markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, help="default: runs/adsorbml_emt/default or .../quick")
    parser.add_argument("--report", type=Path, help="default: OUT/adsorbml_emt.md")
    options = parser.parse_args()
    name = "quick" if options.quick else "default"
    out = (options.out or Path("runs/adsorbml_emt") / name).resolve()
    try:
        chain = Chain(out, QUICK if options.quick else Settings())
        chain.run()
    except (RuntimeError, ValueError) as error:
        sys.exit(f"adsorbml_emt: {error}")
    report = options.report or out / "adsorbml_emt.md"
    picture = report.with_suffix(".png")
    shutil.copyfile(out / "score.png", picture)
    text = markdown(chain, picture.name)
    report.write_text(text)
    print(text)
    print(f"written: {report}; all files: {out}")


if __name__ == "__main__":
    main()
