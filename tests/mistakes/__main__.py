"""``python tests/mistakes [--write]``: run all commands, print the table, or write its page."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:1] = [str(TESTS), str(TESTS / "training")]

from mistakes.table import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
