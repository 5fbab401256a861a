"""Forks jobs from a process that has imported everything once; see `launches`.

Reads requests, one JSON object a line: {"arguments", "out", "err", "environment", "spawn",
"folder"} starts ``fairchem ARGUMENTS`` and answers with its process id; {"wait"} answers with how
that one ended.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any

from kill.trial import wait
from kill.warm import quicken, warm
from torch.distributed.launcher import api


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what imports print
    warm()
    for line in sys.stdin:
        request = json.loads(line)
        answer = wait(request["wait"]) if "wait" in request else _start(request)
        print(answer, file=answers, flush=True)


def _start(request: dict[str, Any]) -> int:
    if child := os.fork():
        return child
    status = 1
    try:
        os.setsid()
        for number, path in ((1, request["out"]), (2, request["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        quicken()
        if not request["spawn"]:
            api.LaunchConfig = partial(api.LaunchConfig, start_method="fork")
        sys.argv = ["fairchem", *request["arguments"]]
        from fairchem.core._cli import main as fairchem

        from eqv2_plugin.common import launcher

        launcher.install()  # imported before, under another command's name
        fairchem()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        # A traceback, unless the job asks for a sentence.
        try:
            sys.excepthook(*sys.exc_info())
        except SystemExit as error:
            status = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
