"""Trial contract v1 as a process (docs/trial-contract.md).

Options come from the command line, or else from the environment that the operator gives a pod:
KINASE_JOB, KINASE_STORE, KINASE_STORE_ENDPOINT, KINASE_STORE_REGION; from there alone come
KINASE_STORE_PATIENCE, KINASE_REPORT_URL, KINASE_REPORT_TOKEN, KINASE_METRIC,
KINASE_TERMINATION_LOG and KINASE_GRACE_SECONDS, and for a trial with several workers KINASE_RANK,
KINASE_WORLD, KINASE_RENDEZVOUS and KINASE_JOIN_SECONDS.

Exit codes: 0 with a result; 42 for a trial that can never work, with a result (of several
candidates, if none can); 2 for a job that cannot be read, or that asks for data, a device or a
store that is missing; 75 where the store was out of reach for too long; 76 where the checkpoint
lacks epochs that it must hold; 77 where another worker of the trial is gone; 143 after SIGTERM;
anything else is a crash. After all but the first three, another attempt of the job can continue
from what the checkpoint holds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.trial import (
    BAD_INPUT_EXIT,
    CHECKPOINT_GONE_EXIT,
    INFEASIBLE_EXIT,
    TERMINATED_EXIT,
    UNAVAILABLE_EXIT,
    WORKER_LOST_EXIT,
    CheckpointGone,
    Outcome,
    Point,
    TaskJob,
    TrialJob,
    TrialResult,
)
from kinase.store import (
    NotFound,
    PatientStore,
    Store,
    StoreError,
    StoreUnavailable,
    TooLarge,
    open_uri,
)
from kinase_trainer.ending import Ending, Terminated, Terminator
from kinase_trainer.errors import ConfigError, CorruptModel, WorkerLost, is_out_of_memory
from kinase_trainer.place import Place
from kinase_trainer.push import Push

if TYPE_CHECKING:
    from kinase_trainer.group import Group

CRASH = 1
INTERRUPTED = 128 + signal.SIGINT
PATIENCE = 300.0
"""Seconds for which an unavailable store is retried."""


class BadInput(Exception):
    """The process was started with invalid input."""


class _Parser(argparse.ArgumentParser):
    """Lets `main` end the process."""

    def error(self, message: str) -> NoReturn:
        """Raise an error for an invalid command line."""
        raise BadInput(f"{message}\n{self.format_usage().rstrip()}")


def _options(arguments: list[str] | None, environ: Mapping[str, str]) -> argparse.Namespace:
    """The command line, with the environment's values as defaults."""
    parser = _Parser(prog="kinase_trainer", description="Run one job: a trial, or a description.")
    for flag, variable, text in (
        ("--job", "KINASE_JOB", "the job, a JSON file"),
        ("--store", "KINASE_STORE", "the experiment's store: file:// or s3://"),
        ("--endpoint", "KINASE_STORE_ENDPOINT", "of an S3 service other than Amazon's"),
        ("--region", "KINASE_STORE_REGION", "of the S3 service"),
    ):
        given = environ.get(variable) or None
        required = flag in ("--job", "--store") and given is None
        parser.add_argument(flag, default=given, required=required, help=f"{text} ({variable})")
    return parser.parse_args(arguments)


def _seconds(environ: Mapping[str, str], variable: str) -> float | None:
    text = environ.get(variable)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadInput(f"{variable} is {text!r}; use a number of seconds, from 0")
    return seconds


def _read(path: Path) -> TrialJob | TaskJob:
    try:
        raw = path.read_bytes()
        document = json.loads(raw)
        task = isinstance(document, dict) and "describe" in document
        return TaskJob.model_validate_json(raw) if task else TrialJob.model_validate_json(raw)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from error


def main(arguments: list[str] | None = None, terminator: Terminator | None = None) -> int:
    """Run one job; returns the exit code.

    Args:
        arguments: of the command line. Default: those of the process.
        terminator: the installed handler of SIGTERM.
    """
    if terminator is None:
        terminator = Terminator(Ending(os.environ))
        signal.signal(signal.SIGTERM, terminator.handle)
    try:
        code, message = _run(arguments, terminator)
    except (Exception, KeyboardInterrupt) as error:
        code, message = end_of(error, terminator)
        if code == CRASH:
            traceback.print_exc()
    terminator.over()
    if message and code != CRASH:
        print(f"kinase_trainer: {message}", file=sys.stderr)
    terminator.ending.say(message)
    return code


def end_of(error: BaseException, terminator: Terminator) -> tuple[int, str]:
    """The exit code and the termination message for an exception."""
    match error:
        case Terminated():
            return TERMINATED_EXIT, terminator.text
        case StoreUnavailable():
            return UNAVAILABLE_EXIT, str(error)
        case CheckpointGone():
            return CHECKPOINT_GONE_EXIT, str(error)
        case WorkerLost():
            return WORKER_LOST_EXIT, str(error)
        case BadInput() | ConfigError() | CorruptModel() | StoreError():
            return BAD_INPUT_EXIT, str(error)
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
    return CRASH, traceback.format_exception_only(error)[-1].strip()


def _run(arguments: list[str] | None, terminator: Terminator) -> tuple[int, str]:
    options = _options(arguments, os.environ)
    try:
        return _work(options, os.environ, terminator)
    except SystemExit as error:  # raised by a custom data set
        raise RuntimeError(f"sys.exit({error.code!r}) was called") from error


def _work(
    options: argparse.Namespace, environ: Mapping[str, str], terminator: Terminator
) -> tuple[int, str]:
    job, store = _open(options, environ, terminator)
    if isinstance(job, TaskJob):
        _describe(job, store)
        return 0, ""
    place = None if job.test else Place.of(environ)
    if place is not None and place.rank > 0:
        return _follow(job, store, terminator, place)
    if job.also:
        return _score(job, store, terminator)
    result = None if job.test else finished(job, store)
    if result is not None:
        print(f"trial {job.trial}: attempt {result.attempt} left its result; nothing is trained")
        terminator.ending.paused = paused(result, job.last_epoch)
    else:
        result = _train(job, store, terminator, place)
    terminator.ending.note(len(result.curve), result.metrics)
    return INFEASIBLE_EXIT if result.outcome is Outcome.INFEASIBLE else 0, result.message


def open_job(
    environ: Mapping[str, str], terminator: Terminator
) -> tuple[TrialJob | TaskJob, PatientStore]:
    """The job and the store given by the environment.

    Raises:
        BadInput: the job or the store cannot be used.
    """
    return _open(_options([], environ), environ, terminator)


def _open(
    options: argparse.Namespace, environ: Mapping[str, str], terminator: Terminator
) -> tuple[TrialJob | TaskJob, PatientStore]:
    terminator.grace = _seconds(environ, "KINASE_GRACE_SECONDS")
    patience = _seconds(environ, "KINASE_STORE_PATIENCE")
    job = _read(Path(options.job))

    def tell(text: str) -> None:
        print(f"kinase_trainer: {text}", file=sys.stderr, flush=True)
        if terminator.asked and terminator.outage():
            terminator.end()

    store = PatientStore(
        open_uri(options.store, options.endpoint, options.region),
        PATIENCE if patience is None else patience,
        tell,
    )
    terminator.outage = lambda: store.outage.lasting
    return job, store


def _describe(job: TaskJob, store: Store) -> None:
    from kinase_trainer import describe

    info = describe(job.task, job.training, job.space, store)
    store.put(job.key, info.model_dump_json(by_alias=True, indent=2).encode())


def finished(job: TrialJob, store: Store) -> TrialResult | None:
    """The result that an earlier process left, if it is this trial's and final, or this attempt's
    and as far as the attempt goes."""
    try:
        text = store.get(f"{job.prefix}/result.json", limits.RESULT)
        result = TrialResult.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        return None
    own = result.trial == job.trial and result.attempt <= job.attempt
    final = result.outcome in (Outcome.SUCCEEDED, Outcome.INFEASIBLE)
    whole = result.attempt == job.attempt and len(result.curve) == job.last_epoch
    return result if own and (final or (whole and result.outcome is Outcome.STOPPED)) else None


def paused(result: TrialResult, last_epoch: int) -> bool:
    """Whether a trial was trained to the end of its stretch, and can be trained further."""
    return result.outcome is Outcome.STOPPED and len(result.curve) >= last_epoch


def push_of(job: TrialJob, environ: Mapping[str, str]) -> Push | None:
    """The receiver of a trial's points, if there is one."""
    try:
        return Push.of(environ, job.attempt)
    except ValueError as error:
        print(f"kinase_trainer: KINASE_REPORT_URL: {error}", file=sys.stderr)
        return None


def _meet(job: TrialJob, terminator: Terminator, place: Place | None) -> Group:
    """The workers of a trial, once all have come."""
    from kinase_trainer.group import join
    from kinase_trainer.setting import slot
    from kinase_trainer.train import pick_device

    group = join(place, pick_device(job.training.device, slot()))
    if place is not None:
        group.asked = lambda: terminator.asked
    return group


def _follow(job: TrialJob, store: Store, terminator: Terminator, place: Place) -> tuple[int, str]:
    """Train with worker 0, stretch after stretch, until it has no more."""
    from kinase.space import ArchitectureError, InfeasibleError
    from kinase_trainer import trial

    def done(epochs: int) -> None:
        terminator.ending.epochs = epochs
        terminator.done(last=True)  # all workers end together, before the next epoch

    group = _meet(job, terminator, place)
    try:
        while True:
            trial.follow(job, store, terminator.begin, done, group)
            until = group.tell(None)
            if until is None:
                return 0, ""
            job = job.model_copy(update={"until": until, "done": job.last_epoch})
    except Terminated:
        text = f"a worker was ended by SIGTERM; epochs done: {terminator.ending.epochs}"
        return TERMINATED_EXIT, text
    except (ArchitectureError, InfeasibleError) as error:
        return INFEASIBLE_EXIT, str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        size, rank = job.training.batch_size, place.rank
        text = f"out of memory in worker {rank}, at training.batchSize {size}: {error}"
        return INFEASIBLE_EXIT, text


def _train(job: TrialJob, store: Store, terminator: Terminator, place: Place | None) -> TrialResult:
    push = push_of(job, os.environ)
    from kinase_trainer import trial

    group = _meet(job, terminator, place)

    def notify(point: Point) -> bool:
        terminator.ending.note(point.epoch, point.metrics)
        terminator.done(last=point.epoch >= job.last_epoch)
        if push is None or push(point):
            terminator.check()
            return True
        return False

    while True:
        result = trial.run(job, store, notify, terminator.begin, group)
        terminator.ending.paused = paused(result, job.last_epoch)
        if result.outcome is Outcome.INFEASIBLE:
            return result  # the others are in the middle of an epoch
        until = _continues(job, result, push, terminator)
        if until is None:
            with suppress(WorkerLost):  # the result is written
                group.tell(None)
            return result
        group.tell(until)
        job = job.model_copy(update={"until": until, "done": job.last_epoch})


def _continues(
    job: TrialJob, result: TrialResult, push: Push | None, terminator: Terminator
) -> int | None:
    """The epoch up to which a trial that rests continues in this process; None: it does not."""
    if push is None or result.outcome is not Outcome.STOPPED or not result.curve:
        return None
    last = result.curve[-1]
    if last.epoch != job.last_epoch:
        return None
    until = push.wait(last, lambda: terminator.asked)
    return until if until is not None and job.last_epoch < until <= job.fidelity.epochs else None


def _score(job: TrialJob, store: Store, terminator: Terminator) -> tuple[int, str]:
    """Score the candidates of a job in turn. Each leaves its result before the next one begins, so
    after SIGTERM or a crash only the others are left to score."""
    from kinase_trainer import trial
    from kinase_trainer.cache import Cache
    from kinase_trainer.supernet.stored import Opened

    opened = Opened(Cache.of(os.environ))
    members = job.members
    infeasible = 0
    for place, member in enumerate(members, 1):
        terminator.begin(0)
        result = finished(member, store)
        if result is None:
            result = trial.run(member, store, opened=opened)
        infeasible += result.outcome is Outcome.INFEASIBLE
        if member.trial == job.trial:
            terminator.ending.note(len(result.curve), result.metrics)
        terminator.ending.scored = place
        terminator.done(last=place == len(members))
    message = f"{len(members)} candidates scored"
    if infeasible:
        message += f", {infeasible} of them infeasible"
    return INFEASIBLE_EXIT if infeasible == len(members) else 0, message


def fit_threads(limits: Path = Path("/sys/fs/cgroup/cpu.max")) -> None:
    """Make numeric libraries start as many threads as the container has CPUs; by default they count
    those of the machine."""
    if os.environ.get("OMP_NUM_THREADS"):
        return
    try:
        quota, period = (int(text) for text in limits.read_text().split())
    except (OSError, ValueError):  # no such file, or no limit
        return
    os.environ["OMP_NUM_THREADS"] = str(min(-(-quota // period), os.cpu_count() or 1))
