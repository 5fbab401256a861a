"""``python tests/kill [JOB ...]``: see ``--help`` and docs/killed.md."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])

from kill.matrix import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
