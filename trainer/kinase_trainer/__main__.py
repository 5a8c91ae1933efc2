"""Trial contract v1 as a process: `python -m kinase_trainer --job job.json --store URI`.

Exit codes: 0 with `result.json` in the store; 42 for a trial that can never work, with
`result.json`; 2 for a job that cannot be read, or that asks for data or a device that is not
there; 143 after SIGTERM, with a checkpoint and no result; anything else is a crash. After the last
two, another attempt of the same job goes on from the checkpoint.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from kinase.api.trial import INFEASIBLE_EXIT, Outcome, Point, TrialJob
from kinase.store import StoreError, open_uri
from kinase_trainer import trial
from kinase_trainer.errors import ConfigError

BAD_INPUT = 2
TERMINATED = 128 + signal.SIGTERM


class Terminated(Exception):
    """The machine is wanted back; the epoch just done is in the checkpoint."""


class Terminator:
    """Ends a trial at the end of the epoch in which SIGTERM came."""

    def __init__(self) -> None:
        self.asked = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal."""
        self.asked = True

    def notify(self, epochs: int, point: Point) -> bool:
        """Called after every epoch. After the last there is only the result left to write."""
        if self.asked and point.epoch < epochs:
            raise Terminated
        return True


def main(arguments: list[str] | None = None) -> int:
    """Run one job; returns the exit code."""
    parser = argparse.ArgumentParser(prog="kinase_trainer", description="Run one trial.")
    parser.add_argument("--job", type=Path, required=True, help="the TrialJob, a JSON file")
    parser.add_argument("--store", required=True, help="the experiment's store: file:// or s3://")
    parser.add_argument("--endpoint", help="of an S3 service other than Amazon's")
    parser.add_argument("--region", help="of the S3 service")
    options = parser.parse_args(arguments)
    terminator = Terminator()
    signal.signal(signal.SIGTERM, terminator.handle)
    try:
        job = TrialJob.model_validate_json(options.job.read_bytes())
        store = open_uri(options.store, options.endpoint, options.region)
    except (OSError, ValidationError, StoreError) as error:
        print(f"kinase_trainer: {options.job}: {error}", file=sys.stderr)
        return BAD_INPUT
    try:
        result = trial.run(job, store, lambda point: terminator.notify(job.fidelity.epochs, point))
    except ConfigError as error:
        print(f"kinase_trainer: {error}", file=sys.stderr)
        return BAD_INPUT
    except Terminated:
        return TERMINATED
    if result.message:
        print(f"kinase_trainer: {result.message}", file=sys.stderr)
    return INFEASIBLE_EXIT if result.outcome is Outcome.INFEASIBLE else 0


if __name__ == "__main__":
    sys.exit(main())
