"""What ``fairchem -c`` shows of our errors: the sentence, not the way through Hydra to it.

A plugin can do this from its first import on; what fails before is shown as fairchem shows it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from eqv2_plugin.common.options import did_you_mean

SHOW_TRACEBACK = "EQV2_TRACEBACK"
_PACKAGE = Path(__file__).parents[1]
# Errors of other kinds are faults of the program, of which the traceback tells.
_MEANT = (ValueError, OSError, RuntimeError)
_CONFIG_DUMP = "Running fairchemv2 cli with"


def install() -> None:
    """Show our errors as one sentence, if this is fairchem's command; may be called again."""
    if Path(sys.argv[0]).stem != "fairchem" or os.environ.get(SHOW_TRACEBACK):
        return
    if getattr(sys.excepthook, "__module__", None) == __name__:
        return
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sentence = sentence_of(error)
        if sentence is None:
            before(kind, error, trace)
        else:
            print(f"{sentence}\n({SHOW_TRACEBACK}=1 shows where)", file=sys.stderr)

    show.__module__ = __name__
    sys.excepthook = show
    # Some 10 kB, which are in the run's folder as well.
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(_CONFIG_DUMP))


def sentence_of(error: BaseException) -> str | None:
    """What the user should read of an error, or None if its traceback tells more."""
    chain = list(_chain(error))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    for one in reversed(chain):
        if (
            isinstance(one, _MEANT)
            and not isinstance(one, OmegaConfBaseException)
            and _is_ours(one)
        ):
            return f"{type(one).__name__}: {one}"
    for one in reversed(chain):
        if isinstance(one, ConfigAttributeError | ConfigKeyError) and one.parent_node is not None:
            # Groups of the recipes, such as heads, are chosen like keys.
            groups = [folder.name for folder in (_PACKAGE / "configs").iterdir() if folder.is_dir()]
            keys = [*map(str, one.parent_node), *groups]
            return f"the recipe has no key {one.full_key or one.key}{did_you_mean(one.key, keys)}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return str(error)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_ours(error: BaseException) -> bool:
    """Whether it was raised in this package."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return _PACKAGE in Path(trace.tb_frame.f_code.co_filename).parents
