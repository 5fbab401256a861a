"""What ``fairchem -c`` shows of our errors: the sentence, not the way through Hydra to it.

A plugin can do this from its first import on; what fails before is shown as fairchem shows it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from torch.distributed.elastic.multiprocessing.api import SignalException

from eqv2_plugin.common import signals
from eqv2_plugin.common.options import did_you_mean

SHOW_TRACEBACK = "EQV2_TRACEBACK"
_PACKAGE = Path(__file__).parents[1]
# Errors of other kinds are faults of the program, of which the traceback tells.
_MEANT = (ValueError, OSError, RuntimeError)
_CONFIG_DUMP = "Running fairchemv2 cli with"
# What fairchem's command refuses by itself, before a job begins.
_COMMAND = ("fairchem/core/_cli.py", "fairchem/core/launchers/api.py")
_NOTHING = "nothing was begun yet; the same command begins again"


def install() -> None:
    """Show our errors as one sentence, and end with one, if this is fairchem's command.

    May be called again.
    """
    if Path(sys.argv[0]).stem != "fairchem":
        return
    signals.install(lambda: _NOTHING)
    logging.getLogger().addFilter(_is_no_dump)
    # Of torch, about a word of fairchem's.
    warnings.filterwarnings("ignore", ".broadcast_buffers. is deprecated", FutureWarning)
    if os.environ.get(SHOW_TRACEBACK) or getattr(sys.excepthook, "__module__", None) == __name__:
        return
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, SignalException):
            # The launcher of several ranks, each of which has ended; the first has said how.
            raise SystemExit(128 + error.sigval)
        sentence = sentence_of(error)
        if sentence is None:
            before(kind, error, trace)
        else:
            # Past torch's hook, which would put the rank before each line of a single one.
            print(f"{sentence}\n({SHOW_TRACEBACK}=1 shows where)", file=sys.__stderr__)
            raise SystemExit(1)

    show.__module__ = __name__
    sys.excepthook = show


def _is_no_dump(record: logging.LogRecord) -> bool:
    """Not the configuration, some 10 kB, which is in the run's folder as well."""
    return not str(record.msg).startswith(_CONFIG_DUMP)


def sentence_of(error: BaseException) -> str | None:
    """What the user should read of an error, or None if its traceback tells more."""
    chain = list(_chain(error))
    # The last that was made of it here, which knows most.
    for one in chain:
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
        if isinstance(one, MissingConfigException) and one.missing_cfg_file:
            group, _, name = one.missing_cfg_file.rpartition("/")
            return f"there is no {group.strip('/')}={name}{did_you_mean(name, one.options or ())}"
        if isinstance(one, OverrideParseException):
            reason = str(one).partition("\n")[0]
            return f"{one.override!r} is not read as KEY=VALUE ({reason}): put quotes around VALUE"
        if missing := re.search(r"Missing mandatory value: (\S+)", str(one)):
            return f"the recipe needs a value for {missing[1]}: give {missing[1]}=VALUE"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return str(error)
    if isinstance(error, _MEANT) and _raised_in(error).as_posix().endswith(_COMMAND):
        return f"{type(error).__name__}: {error}"
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
    return _PACKAGE in _raised_in(error).parents


def _raised_in(error: BaseException) -> Path:
    trace = error.__traceback__
    if trace is None:
        return Path()
    while trace.tb_next is not None:
        trace = trace.tb_next
    return Path(trace.tb_frame.f_code.co_filename)
