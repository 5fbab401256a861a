"""MACE's own training command, in its own environment, ended after seconds of the processor.

    python mace_driver.py SECONDS TIMES.json [arguments of mace_run_train]

Counted is what trains: batches, steps and averages of weights, not validation.
"""

import json
import sys
import time

import mace.cli.run_train as command
from mace import tools

TRAINING = sys.modules["mace.tools.train"]


class TimeIsOverError(Exception):
    """The seconds are used up."""


def main() -> None:
    budget, path = float(sys.argv[1]), sys.argv[2]
    del sys.argv[1:3]
    times = {"seconds": 0.0, "steps": 0, "epochs": []}
    train, train_one_epoch = tools.train, TRAINING.train_one_epoch

    def timed_epoch(*, data_loader, **arguments):
        if times["seconds"] >= budget:
            raise TimeIsOverError
        before, start = times["seconds"], time.process_time()

        def batches():
            for batch in data_loader:
                yield batch
                times["steps"] += 1
                times["seconds"] = before + time.process_time() - start
                if times["seconds"] >= budget:
                    return

        train_one_epoch(data_loader=batches(), **arguments)
        times["epochs"].append([times["steps"], times["seconds"]])
        with open(path, "w") as file:
            json.dump(times, file)

    def train_until_spent(**arguments):
        try:
            train(**arguments)
        except TimeIsOverError:
            print("the time is over", flush=True)

    TRAINING.train_one_epoch = timed_epoch
    tools.train = train_until_spent
    # Of all training frames, which takes as long as an epoch.
    command.create_error_table = lambda **_: "left out"
    command.main()


if __name__ == "__main__":
    main()
