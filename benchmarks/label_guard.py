"""The guard of fine-tuning: labels that belong to a checkpoint pass, others are stopped.

    python benchmarks/label_guard.py --data FOLDER
    python benchmarks/label_guard.py rmd17 cualloy oc20
    python benchmarks/label_guard.py oc20 --checkpoints oc20=CKPT.pt

For each kind of data a small checkpoint is trained (minutes of one core; kept in --out, an
interrupted training goes on) and predicts other frames of the kind. The guard then judges these
predictions beside the labels as they are, and beside labels in other units, of other signs and
relative to something else. --data has inorganic_pbe.npz and oc22_samples.npz, in which a row is an
atom; the other kinds are embedded in the package.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guard.judging import judged
from guard.kinds import KINDS
from guard.report import markdown
from guard.trained import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"default: {', '.join(KINDS)}")
    parser.add_argument("--data", type=Path, help="folder of inorganic_pbe.npz, oc22_samples.npz")
    parser.add_argument(
        "--checkpoints", nargs="*", default=[], metavar="KIND=FILE", help="that are not trained"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/label_guard"))
    options = parser.parse_args()
    names = options.kinds or list(KINDS)
    if unknown := sorted(set(names) - set(KINDS)):
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    given = dict(one.split("=", 1) for one in options.checkpoints)
    out = options.out.resolve()
    found = []
    try:
        for name in names:
            kind = KINDS[name]
            frames = kind.draw(options.data)
            own = given.get(name)
            checkpoint = Path(own) if own else checkpoint_of(name, options.data, out)
            found.append(judged(kind, frames, checkpoint, out))
    except (RuntimeError, ValueError) as error:
        sys.exit(f"label_guard: {error}")
    text = markdown(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "label_guard.md").write_text(text)
    print(text)


def checkpoint_of(name: str, data: Path | None, out: Path) -> Path:
    """Trained now, if it is not yet, and so is what it begins from."""
    kind = KINDS[name]
    start = None if kind.start is None else checkpoint_of(kind.start, data, out)
    return train(kind, kind.draw(data), out, start)


if __name__ == "__main__":
    main()
