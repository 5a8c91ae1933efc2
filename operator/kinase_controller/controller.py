"""The controller of one experiment, from its start to the end of the search.

It can be restarted at any moment: it replays the journal, finds its trials on the cluster, and
continues. Temporary problems (the store, the task, another controller) are reported in the
conditions, and retried.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from kinase.api import NASExperiment
from kinase.api.load import Document, ManifestError
from kinase.api.names import PORT
from kinase.api.status import ConditionType, ExperimentStatus, Phase
from kinase.api.storage import is_shared
from kinase.api.trial import Point
from kinase.engine import EngineError
from kinase.experiment import identity
from kinase.experiment.check import check
from kinase.experiment.doubts import doubts
from kinase.experiment.final_outputs import keep_final, same_task
from kinase.experiment.given import said_of_limits
from kinase.experiment.journal import Fenced
from kinase.experiment.loop import Loop
from kinase.experiment.reopening import stays
from kinase.experiment.trial_record import TrialRecord
from kinase.report import render
from kinase.report.gather import gather
from kinase.report.task import classes_text, data_lines, samples_text
from kinase.store import Store, StoreError, StoreUnavailable, open_store, probe
from kinase_controller import status as words
from kinase_controller.cluster_io import ClusterIO, Gone, Identity
from kinase_controller.engine import Interrupted, KubernetesEngine
from kinase_controller.metrics import MeteredStore, Metrics
from kinase_controller.server import REPORT_SECONDS, Server
from kinase_controller.trials import Seen

log = logging.getLogger("kinase")

STUCK = 300.0
"""Seconds without a turn of the loop after which the liveness probe fails."""
PATIENCE = 2.0, 30.0
"""First and longest wait before a retry, in seconds."""
PENDING = 5.0
"""Seconds that all current trials must have waited before the condition reports it."""
REPORT_EVERY = 5.0
"""Minimum seconds between two renderings of the live report."""


class Terminated(Exception):
    """SIGTERM: this process ends, but not the experiment."""


class Stale(Exception):
    """The process's environment is wrong and may have been corrected since; a new process must
    start to read it again."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the search is temporarily paused."""

    reason: str
    message: str


class Controller:
    """Runs the loop of one experiment, and answers its HTTP endpoint."""

    def __init__(self, who: Identity) -> None:
        """Read and write nothing before `run`."""
        self.cluster = ClusterIO(who)
        self._numbers = Metrics(who.namespace, who.experiment)
        self._engine: KubernetesEngine | None = None
        self._loop: Loop | None = None
        self._summary: words.Summary | None = None
        self._generation = 0
        self._terminated = False
        self._turn = time.monotonic()
        self._report: tuple[float, bytes] | None = None
        self._report_wanted = threading.Event()
        self._report_made = threading.Event()
        self._searching = False
        self._said: tuple[bool, str, str] | None = None
        self._stands: tuple[bool, str, str] | None = None

    # -- from start to end -------------------------------------------------------------

    def run(self) -> None:
        """Search until the experiment is finished, suspended or deleted.

        Raises:
            Terminated: SIGTERM was received.
            Interrupted: another controller has taken over.
            Stale: the store rejects this process's credentials.
        """
        try:
            self.cluster.start()
        except CancelledError:
            self.cluster.close()
            raise Terminated from None
        server = Server(self)
        address = os.environ.get("KINASE_POD_IP", "")
        # pods that share the node's network have different loopback addresses
        own = bool(address) and ipaddress.ip_address(address).is_loopback
        self.cluster.call(server.start(address if own else "", PORT))
        try:
            self._run()
        finally:
            self.cluster.call(server.stop())
            self.cluster.close()

    def _run(self) -> None:
        delay = PATIENCE[0]
        while True:
            self._check()
            began = time.monotonic()
            try:
                if self._attempt():
                    return
                delay = PATIENCE[0]
                continue
            except Fenced as error:
                trouble = Trouble("Fenced", str(error))
            except StoreUnavailable as error:
                trouble = Trouble("StoreUnavailable", str(error))
            except identity.MismatchError as error:
                trouble = Trouble("StoreMismatch", str(error))
            except StoreError as error:
                trouble = Trouble("StoreRefused", str(error))
            except EngineError as error:
                trouble = Trouble("TaskUnavailable", str(error))
            except ManifestError as error:
                shown = "; ".join(f"{p.path}: {p.message}" for p in error.problems)
                trouble = Trouble("InvalidSpec", shown)
            except ValidationError as error:
                trouble = Trouble("InvalidSpec", str(error))
            finally:
                self._searching = False
                if self._engine is not None:
                    self._engine.close()
                    self._engine = None
            log.warning("%s: %s; again in %.0f s", trouble.reason, trouble.message, delay)
            self._say(progressing=(False, trouble.reason, trouble.message))
            self.cluster.emit("Warning", trouble.reason, trouble.message)
            if time.monotonic() - began > 60:
                delay = PATIENCE[0]
            self._wait(delay)
            if trouble.reason == "StoreRefused" and delay >= 4 * PATIENCE[0]:
                raise Stale("the credentials in the environment are rejected")
            # asking the trainer again takes a pod
            most = PATIENCE[1] * (10 if trouble.reason == "TaskUnavailable" else 1)
            delay = min(2 * delay, most)

    def _attempt(self) -> bool:
        """One attempt at the search; True if this process has nothing left to do."""
        given = self._manifest()
        if given.spec.suspend:
            return self._suspended()
        _check_members(given)
        place = open_store(given.spec.storage).sub(given.directory)
        store = MeteredStore(place, self._numbers)
        probe(store)
        experiment = identity.settled(store, given)
        self._engine = KubernetesEngine(self.cluster, store)
        self._engine.waits = self._ask
        self._engine.queued = self._numbers.queued
        try:
            spec = experiment.spec
            info = self._engine.describe(spec.task, spec.training, spec.space.with_root)
        except Interrupted:
            return False
        loop = self._loop = Loop(experiment, store, self._engine, info, listener=self)
        self._summary = words.Summary(loop)
        if not self._begun():
            return False
        identity.claim(store, given, info.supports)
        same_task(store, info)
        loop.run()
        if loop.state.finished is None:
            return self._suspended()
        self._finish(store, loop)
        return True

    def _ask(self, seen: Seen | None) -> None:
        """Ask the trainer to describe the task."""
        self._check()
        text = "the trainer is asked about the task"
        said = (True, "AskingTrainer", text)
        if seen is not None and seen.reason and seen.reported == seen.attempt and not seen.ended:
            why = ": ".join(filter(None, (seen.reason, seen.message)))
            said = (False, "TaskPending", f"{text}; its pod waits: {why}")
        if said != self._said:
            self._say(progressing=said)

    def _begun(self) -> bool:
        """Set the start time, after which the manifest can no longer change. False if it has just
        changed."""
        if "startTime" not in (self.cluster.experiment().body.get("status") or {}):
            self._say(progressing=(True, "Searching", ""), wait=True)
        return self.cluster.experiment().generation == self._generation

    def _suspended(self) -> bool:
        """Report that every trial is at a checkpoint. False if the suspension is already over."""
        if not self._manifest().spec.suspend:
            return False
        text = "spec.suspend is true; running trials are at a checkpoint"
        self._say(
            phase=Phase.SUSPENDED,
            progressing=(False, "Suspended", text),
            suspended=(True, "Suspended", text),
            wait=True,
        )
        self.cluster.emit("Normal", "Suspended", text)
        return True

    def _finish(self, store: Store, loop: Loop) -> None:
        finished = loop.state.finished
        assert finished is not None
        keep_final(store, loop)
        store.put("report.html", render(gather(loop)).encode())
        good = finished.winner is not None
        reason = "Succeeded" if good else "NoNetwork"
        message = stays(loop) or finished.message or loop.state.ended or ""
        self._say(
            phase=Phase.SUCCEEDED if good else Phase.FAILED,
            progressing=(False, "Finished", message),
            outcome=(good, reason, message),
            model=f"{store.uri}/final" if good else None,
            report=f"{store.uri}/report.html",
            done=True,
            wait=True,
        )
        self.cluster.emit("Normal" if good else "Warning", reason, message)

    # -- the manifest ------------------------------------------------------------------

    def _manifest(self) -> NASExperiment:
        seen = self.cluster.experiment()
        self._generation = seen.generation
        return _placed(NASExperiment.model_validate(seen.body))

    def _follow(self, loop: Loop) -> None:
        """Apply changes of the manifest."""
        if self.cluster.experiment().generation == self._generation:
            return
        experiment = self._manifest()
        # a change during the start, before the API server could reject it
        identity.agree(loop.store, experiment)
        loop.update(experiment)
        if experiment.spec.suspend and not loop.stopping:
            self._say(progressing=(True, "Suspending", "running trials are writing a checkpoint"))
            loop.interrupt()

    # -- waiting and ending ------------------------------------------------------------

    def terminate(self) -> None:
        """Stop this process soon; called from a signal handler."""
        self._terminated = True
        self.cluster.wake()
        self.cluster.give_up()

    def _check(self) -> None:
        self._turn = time.monotonic()
        if self._terminated:
            raise Terminated
        if self.cluster.lease_lost.is_set():
            raise Interrupted("another controller has taken over")
        self.cluster.experiment()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        generation = self.cluster.experiment().generation
        while time.monotonic() < deadline:
            self._check()
            if self.cluster.experiment().generation != generation:
                return
            time.sleep(0.1)

    # -- events of the loop ------------------------------------------------------------

    def started(self, loop: Loop) -> None:
        """The journal has been replayed."""
        self._searching = True
        self._numbers.replayed(loop.state.told)
        self._say(progressing=(True, "Searching", ""), suspended=(False, "NotSuspended", ""))
        text = f"resuming after {len(loop.state.told)} trials" if loop.journal.length else ""
        self.cluster.emit("Normal", "Started", text or "the search starts")
        for line in data_lines(loop.info):
            log.info("%s", line)
        read = filter(None, (samples_text(loop.info), classes_text(loop.info), *loop.info.notes))
        self.cluster.emit("Normal", "DataRead", "; ".join(read)[:1000])
        for doubt in doubts(loop.spec, loop.info):
            log.warning("%s", doubt)
            self.cluster.emit("Warning", "ManifestDoubtful", doubt)
        for line in said_of_limits(loop.spec, loop.space, loop.appraise):
            text = line.removeprefix("warning: ")
            log.log(logging.INFO if text == line else logging.WARNING, "%s", text)
            if text != line:
                self.cluster.emit("Warning", "ManifestDoubtful", text)
        if loop.info.warnings:
            self.cluster.emit("Warning", "DataDoubtful", "; ".join(loop.info.warnings)[:1000])

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """A trial posted an epoch."""

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        """A trial paused."""
        self._tell_progress(loop)

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """A trial ended."""
        self._numbers.told(trial)
        self._tell_progress(loop)

    def tick(self, loop: Loop) -> None:
        """The loop has made a turn."""
        self._check()
        self._follow(loop)
        self._tell_progress(loop)
        if self._report_wanted.is_set():
            self._report_wanted.clear()
            self._report = time.monotonic(), render(gather(loop)).encode()
            self._report_made.set()

    _told_at = 0.0
    _pending_since: float | None = None

    def _tell_progress(self, loop: Loop) -> None:
        """Write the status, at most once a second: it costs more than a trial."""
        now = time.monotonic()
        if now - self._told_at < 1.0 or loop.stopping:
            return
        self._told_at = now
        reason = "Searching" if loop.state.ended is None else "Finalists"
        said = (True, reason, loop.state.ended or "")
        if (text := self._pending(now)) is not None:
            said = (False, "TrialsPending", text)
        self._say(progressing=said)

    def _pending(self, now: float) -> str | None:
        """The reason that all trials have been waiting, if they have waited long enough."""
        engine = self._engine
        assert engine is not None
        text = words.pending(len(engine.running()), engine.waiting())
        if text is None:
            self._pending_since = None
        elif self._pending_since is None:
            self._pending_since = now
        since = self._pending_since
        return text if since is not None and now - since >= PENDING else None

    def _say(
        self,
        *,
        progressing: tuple[bool, str, str],
        suspended: tuple[bool, str, str] | None = None,
        outcome: tuple[bool, str, str] | None = None,
        phase: Phase | None = None,
        report: str | None = None,
        model: str | None = None,
        done: bool = False,
        wait: bool = False,
    ) -> None:
        """Write the controller's part of the status."""
        self._said = progressing
        before: dict[str, Any] = self.cluster.experiment().body.get("status") or {}
        now = datetime.now(UTC)
        if self._summary is not None:
            fields = self._summary.fields(len(self._engine.waiting()) if self._engine else 0)
        else:  # until the journal is read, the status of an earlier process is kept
            mine = {k: v for k, v in before.items() if k not in ("observedGeneration", "phase")}
            fields = ExperimentStatus.model_validate(mine)
        if suspended is not None:
            self._stands = suspended
        elif self._stands is None:  # afterwards the last status counts, written or not
            held = {c["type"]: c for c in before.get("conditions") or ()}
            still = held.get("Suspended", {}).get("status") == "True"
            self._stands = still, "Suspended" if still else "NotSuspended", ""
        good = outcome if outcome is not None else (False, "Unfinished", "")
        bad = (not outcome[0], *outcome[1:]) if outcome else (False, "Unfinished", "")
        whole = fields.model_copy(
            update={
                "phase": phase or (words.phase(self._loop) if self._loop else Phase.PENDING),
                # a search that has started cannot be changed, so this is not set too early
                "start_time": _time(before.get("startTime")) or (now if self._loop else None),
                "completion_time": now if done else None,
                "report": report,
                "model": model,
                "conditions": words.conditions(
                    before,
                    self._generation,
                    now,
                    {
                        ConditionType.PROGRESSING: progressing,
                        ConditionType.SUSPENDED: self._stands,
                        ConditionType.SUCCEEDED: good,
                        ConditionType.FAILED: bad,
                    },
                ),
            }
        )
        self.cluster.tell(words.document(whole), wait=wait)

    # -- answers for the endpoint, from the cluster's thread -------------------------------

    def trial(self, number: int) -> Seen | None:
        """The trial with this number."""
        return self.cluster.by_number(number)

    def post(self, number: int, point: Point) -> bool:
        """Record a point; return whether the trial should continue."""
        engine = self._engine
        return engine.post(number, point) if engine is not None else True

    def rests(self, number: int, epoch: int) -> bool | int | None:
        """Up to which epoch a trial that waits continues; False: it ends; None: undecided."""
        engine = self._engine
        return engine.rests(number, epoch) if engine is not None else None

    async def report(self) -> bytes | None:
        """The current report; rendered by the loop's thread, between two turns."""
        if self._report is not None and time.monotonic() - self._report[0] < REPORT_EVERY:
            return self._report[1]
        if self._searching:
            self._report_made.clear()
            self._report_wanted.set()
            await asyncio.to_thread(self._report_made.wait, REPORT_SECONDS)
        return self._report[1] if self._report is not None else None

    def metrics(self) -> bytes:
        """The page for Prometheus."""
        if self._loop is not None and self._searching:
            self._numbers.measure(self._loop)
        return self._numbers.page()

    @property
    def ready(self) -> bool:
        """Whether this controller holds its lease and knows its trials."""
        return not self.cluster.lease_lost.is_set()

    @property
    def alive(self) -> bool:
        """Whether the loop is making turns."""
        return time.monotonic() - self._turn < STUCK


def _placed(experiment: NASExperiment) -> NASExperiment:
    """The manifest with the cluster's default storage, if its own cannot be reached by every pod.
    The operator passes the default in the environment."""
    storage, uri = experiment.spec.storage, os.environ.get("KINASE_STORE_URI")
    if not uri or is_shared(storage.uri):
        return experiment
    fields = {
        "uri": uri,
        "endpoint": os.environ.get("KINASE_STORE_ENDPOINT"),
        "region": os.environ.get("KINASE_STORE_REGION"),
    }
    spec = experiment.spec.model_copy(update={"storage": storage.model_copy(update=fields)})
    return experiment.model_copy(update={"spec": spec})


def _check_members(experiment: NASExperiment) -> None:
    """Check that this image has the members that the manifest names, and that they accept their
    options.

    Raises:
        ManifestError: holds every problem that was found.
    """
    # tasks and data sets depend on the trainer's image
    problems = check(experiment, Document(experiment.metadata.name, None, {}), trainer="image")
    if problems:
        raise ManifestError(problems)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


__all__ = ["Controller", "Gone", "Interrupted", "Stale", "Terminated"]
