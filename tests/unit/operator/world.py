"""The operator on a cluster in memory: users, a search's controller, operators that die, and what
must hold whatever happens."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from kinase.api import names
from kinase.api.status import TrialPhase
from kinase_kube import client as kube
from kinase_kube.client import ApiError, Object
from kinase_operator.backoff import LOSSES
from kinase_operator.metrics import Metrics
from kinase_operator.reconciler import Reconciler
from kinase_operator.settings import Settings
from tests.unit.kube.virtual import VirtualLoop, now
from tests.unit.operator import samples
from tests.unit.operator.cluster import (
    REJECTED,
    Cluster,
    FakeClient,
    Fate,
    Faults,
    attempt_over,
    clock,
    deleting,
    ended,
    finished,
    stamp,
    trains,
)

NS = "ns"
OVER = (TrialPhase.SUCCEEDED, TrialPhase.INFEASIBLE, TrialPhase.STOPPED, TrialPhase.FAILED)
CALM = Faults()


@dataclass
class Memory:
    """What a search keeps in its store: it outlives its controller."""

    told: dict[int, str] = field(default_factory=dict)
    crashes: dict[int, int] = field(default_factory=dict)
    attempt: dict[int, int] = field(default_factory=dict)


class Log(logging.Handler):
    """Errors that the operator logs: it must have none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


class World:
    """A cluster, its users and its operators, from one seed."""

    def __init__(self, seed: int, *, troubles: bool = False, **retention: str) -> None:
        self.seed, self.troubles = seed, troubles
        self.rng = random.Random(seed)
        self.cluster = Cluster(random.Random(seed + 1), self.fate, self.search)
        self.cluster.seen = self.check
        self.cluster.injected = troubles and seed % 3 == 0
        self.memory: dict[str, Memory] = {}
        self.trials = 3
        self.spec = samples.spec(
            retention=retention, trialTemplate={"timeLimit": "20s"} if troubles else {}
        )
        self.broken: list[str] = []
        """What did not hold."""
        self.jobs: dict[tuple[str, int], int] = {}
        """Jobs made by trial's UID and attempt."""
        self.late: list[str] = []
        """Jobs made for attempts that had ended."""
        self.doubles: list[str] = []
        """Pods that began while another of the same trial ran."""
        self.history: list[str] = []
        self.strangers = False
        """Whether somebody else's objects have names that ours would have."""
        self.clients: list[FakeClient] = []
        self._tasks: list[asyncio.Task[Any]] = []

    # -- what must hold at every moment ----------------------------------------------------

    def note(self, text: str) -> None:
        self.history.append(f"{now():8.2f} {text}")

    def check(self, plural: str, old: Object | None, new: Object | None) -> None:
        item = new or old
        assert item is not None
        name = item["metadata"]["name"]
        if (
            plural == "jobs"
            and old is None
            and names.JOB_TRIAL in item["metadata"].get("labels", {})
        ):
            uid = item["metadata"]["ownerReferences"][0]["uid"]
            attempt = int(item["metadata"]["labels"][names.ATTEMPT])
            self.jobs[uid, attempt] = self.jobs.get((uid, attempt), 0) + 1
            trial = self.trial_of(item)
            if trial is not None and attempt_over(trial) >= attempt:
                self.late.append(f"{now():.2f} Job {name} for an attempt that has ended")
        if plural == "pods" and new is not None and old is not None:
            began = trains(new) and not trains(old)
            if began and self.trial_name(new) is not None:
                running = [
                    pod["metadata"]["name"]
                    for pod in self.cluster.all(kube.POD)
                    if trains(pod)
                    and self.trial_name(pod) == self.trial_name(new)
                    and pod["metadata"]["labels"][names.EXPERIMENT_UID]
                    == new["metadata"]["labels"][names.EXPERIMENT_UID]
                ]
                if len(running) > 1:
                    self.doubles.append(f"{now():.2f} {name} beside {running}")
        if plural == "nastrials" and new is not None and old is not None:
            self._check_status(name, old, new)
        if not self.strangers and "of another owner is there" in str(item.get("status")):
            self.broken.append(f"{now():.2f} {name} takes its own for another's")
        if plural in ("jobs", "pods", "nastrials"):
            status = item.get("status", {})
            what = {
                "jobs": lambda: [c["type"] for c in status.get("conditions", ())],
                "pods": lambda: status.get("phase"),
                "nastrials": lambda: (
                    f"spec {item['spec']['attempt']} {item['spec'].get('stop', False)} status "
                    f"{status.get('attempt')} {status.get('phase')} {status.get('reason')}"
                ),
            }[plural]()
            verb = "made" if old is None else "gone" if new is None else "now"
            going = " going" if deleting(item) and new is not None else ""
            self.note(f"{plural} {name} {verb}{going} {what}")

    def _check_status(self, name: str, old: Object, new: Object) -> None:
        before, after = old.get("status", {}), new.get("status", {})
        if before == after:
            return
        if after.get("attempt", 0) < before.get("attempt", 0):
            self.broken.append(f"{now():.2f} the status of {name} went back: {before} {after}")
        if attempt_over(old) and after.get("attempt") == before["attempt"]:
            self.broken.append(f"{now():.2f} the end of {name} was told twice: {before} {after}")
        if after.get("attempt", 0) > new["spec"]["attempt"]:
            self.broken.append(f"{now():.2f} {name} tells of an attempt that nobody wants")

    @staticmethod
    def trial_name(item: Object) -> str | None:
        found: str | None = item["metadata"]["labels"].get(names.JOB_TRIAL)
        return found

    def trial_of(self, job: Object) -> Object | None:
        uid = job["metadata"]["ownerReferences"][0]["uid"]
        trial = self.cluster.find(kube.TRIAL, NS, self.trial_name(job) or "")
        return trial if trial is not None and trial["metadata"]["uid"] == uid else None

    # -- fates -----------------------------------------------------------------------------

    def fate(self, pod: Object) -> Fate:
        """What becomes of a trial's pod follows from the trial and its attempt."""
        labels = pod["metadata"]["labels"]
        text = f"{self.seed} {labels[names.JOB_TRIAL]} {labels[names.ATTEMPT]}"
        rng = random.Random(hashlib.sha256(text.encode()).digest())
        seconds = rng.uniform(0.5, 12)
        if not self.troubles or int(labels[names.ATTEMPT]) > 3 or rng.random() < 0.4:
            return Fate(seconds)
        return rng.choice(
            [
                Fate(seconds, 1),
                Fate(seconds, 42),
                Fate(seconds, 2),
                Fate(seconds, 75),
                Fate(seconds, 143),
                Fate(seconds, 137, "OOMKilled"),
                Fate(seconds, 143, "Evicted"),
                Fate(90),
                Fate(seconds, 0, "Unschedulable", wait=5),
                Fate(seconds, 0, "ErrImagePull", wait=5),
                Fate(seconds, 0, REJECTED),
                Fate(seconds, rng.choice([0, 1, 42, 75]), sidecar=True),
            ]
        )

    # -- the search ------------------------------------------------------------------------

    async def search(self, cluster: Cluster, pod: Object) -> int:
        """What an experiment's controller does: the exit code of its container."""
        labels = pod["metadata"]["labels"]
        name, uid = labels[names.EXPERIMENT], labels[names.EXPERIMENT_UID]
        memory = self.memory.setdefault(uid, Memory())
        key = (kube.EXPERIMENT.plural, NS, name)

        def experiment() -> Object | None:
            item = cluster.objects.get(key)
            same = item is not None and item["metadata"]["uid"] == uid
            return item if same and item is not None and not deleting(item) else None

        def tell(**fields: Any) -> None:
            item = experiment()
            assert item is not None
            begun = item["status"].get("startTime", stamp())
            cluster.apply_status(
                key, {"status": {"startTime": begun, **fields}}, "kinase-controller"
            )

        def readiness(new: Object) -> None:
            new["status"]["conditions"] = [{"type": "Ready", "status": "True"}]

        cluster.update(pod, readiness)
        while True:
            await asyncio.sleep(self.rng.uniform(0.1, 0.8))
            item = experiment()
            if item is None:
                return 0
            if self.troubles and self.rng.random() < 0.01:
                return 1
            if cluster.down:
                continue
            if item["spec"].get("suspend"):
                if all(self.still(name, n, memory) for n in range(self.trials)):
                    suspended = {"type": "Suspended", "status": "True", "reason": "Suspended"}
                    times = {"lastTransitionTime": stamp(), "message": ""}
                    tell(phase="Suspended", conditions=[{**suspended, **times}])
                    return 0
                continue
            tell(phase="Searching")
            for number in range(self.trials):
                self.step(item, number, memory)
            if len(memory.told) == self.trials:
                tell(phase="Succeeded", completionTime=stamp())
                return 0

    def still(self, experiment: str, number: int, memory: Memory) -> bool:
        """Whether nothing of a trial runs."""
        trial = self.cluster.find(kube.TRIAL, NS, names.trial_name(experiment, number))
        return trial is None or attempt_over(trial) == trial["spec"]["attempt"]

    def step(self, experiment: Object, number: int, memory: Memory) -> None:
        """Compare what the search wants of a trial with what there is."""
        if number in memory.told:
            return
        cluster, metadata = self.cluster, experiment["metadata"]
        name = names.trial_name(metadata["name"], number)
        trial = cluster.find(kube.TRIAL, NS, name)
        if trial is None:
            owner = samples.owner(metadata["uid"])[0] | {"blockOwnerDeletion": True}
            cluster.create(
                kube.TRIAL,
                {
                    "metadata": {
                        "name": name,
                        "namespace": NS,
                        "labels": {names.EXPERIMENT_UID: metadata["uid"]},
                        "ownerReferences": [owner],
                    },
                    "spec": {
                        "experiment": metadata["name"],
                        "number": number,
                        "kind": "Search",
                        "attempt": memory.attempt.get(number, 1),
                        "job": f'{{"trial": {number}}}',
                    },
                },
            )
            return
        owner_uid = trial["metadata"]["ownerReferences"][0]["uid"]
        attempt = trial["spec"]["attempt"]
        if owner_uid != metadata["uid"] or deleting(trial) or attempt_over(trial) != attempt:
            return
        status = trial["status"]
        if status["phase"] == TrialPhase.FAILED and status["reason"] not in LOSSES:
            memory.crashes[number] = memory.crashes.get(number, 0) + 1
        again = status["phase"] == TrialPhase.STOPPED and not trial["spec"].get("stop")
        again |= status["phase"] == TrialPhase.FAILED and memory.crashes.get(number, 0) <= 2
        if not again:
            memory.told[number] = f"{status['phase']} {status['reason']} {attempt}"
            return
        memory.attempt[number] = attempt + 1
        spec = {"attempt": attempt + 1, "stop": False}
        cluster.merge((kube.TRIAL.plural, NS, name), {"spec": spec}, "")

    # -- users -----------------------------------------------------------------------------

    def make(self, name: str, **spec: Any) -> None:
        body = {"metadata": {"name": name, "namespace": NS}, "spec": {**self.spec, **spec}}
        self.cluster.create(kube.EXPERIMENT, body)

    def act(self, name: str) -> None:
        """Something that a user, an administrator or fate may do at any time."""
        rng, cluster = self.rng, self.cluster
        key = (kube.EXPERIMENT.plural, NS, name)
        what = rng.choice(
            [
                "suspend",
                "suspend",
                "resume",
                "delete",
                "make",
                "job",
                "pod",
                "evict",
                "controller",
                "trial",
                "attempt",
                "stop",
                "quota",
                "outage",
                "queue",
            ]
        )
        policy = rng.choice(["Background", "Foreground"])
        trials = list(cluster.all(kube.TRIAL))
        jobs = list(cluster.all(kube.JOB, **{names.COMPONENT: "trial"}))
        pods = [p for p in cluster.all(kube.POD, **{names.COMPONENT: "trial"}) if not ended(p)]
        controllers = list(cluster.all(kube.POD, **{names.COMPONENT: "controller"}))

        def path(item: Object, plural: str) -> tuple[str, str, str]:
            return plural, NS, item["metadata"]["name"]

        self.note(f"-- {what} {name}")
        try:
            match what:
                case "suspend" | "resume":
                    cluster.merge(key, {"spec": {"suspend": what == "suspend"}}, "")
                case "delete":
                    cluster.delete(key, policy=policy)
                case "make":
                    self.make(name)
                case "job" if jobs:
                    cluster.delete(path(rng.choice(jobs), "jobs"), policy=policy)
                case "pod" if pods:
                    cluster.delete(path(rng.choice(pods), "pods"))
                case "evict" if pods:
                    pod = rng.choice(pods)
                    cluster.update(pod, cluster.disrupt)
                    cluster.delete(path(pod, "pods"))
                case "controller" if controllers:
                    cluster.delete(path(rng.choice(controllers), "pods"))
                case "trial" if trials:
                    cluster.delete(path(rng.choice(trials), "nastrials"), policy=policy)
                case "attempt" if trials:
                    trial = rng.choice(trials)
                    spec = {"attempt": trial["spec"]["attempt"] + 1, "stop": False}
                    cluster.merge(path(trial, "nastrials"), {"spec": spec}, "")
                case "stop" if trials:
                    trial = rng.choice(trials)
                    cluster.merge(path(trial, "nastrials"), {"spec": {"stop": True}}, "")
                case "queue" if jobs:
                    job = rng.choice(jobs)
                    held = not job["spec"].get("suspend")
                    if not finished(job):
                        cluster.merge(path(job, "jobs"), {"spec": {"suspend": held}}, "")
                case "quota":
                    cluster.quota = rng.choice(["", "jobs", "pods"])
                case "outage":
                    cluster.down = True
                    asyncio.get_running_loop().call_later(rng.uniform(1, 20), self.up)
        except ApiError as error:
            self.note(f"-- {error}")

    def up(self) -> None:
        self.cluster.down = False

    # -- operators -------------------------------------------------------------------------

    async def operator(self, faults: Faults, name: str = "operator") -> None:
        """An operator that is started again whenever it dies."""
        while True:
            died = asyncio.Event()
            client = FakeClient(self.cluster, faults, random.Random(self.rng.random()), died.set)
            self.clients.append(client)
            settings = Settings(namespaces=self.rng.choice([(), (NS,)]), workers=4)
            reconciler = Reconciler(client, settings, Metrics(), clock=clock)  # type: ignore[arg-type]
            self.reconciler = reconciler
            kopf = asyncio.create_task(self.kopf(client, reconciler))
            try:
                await reconciler.start()
                self.note(f"-- {name} starts")
                await died.wait()
                self.note(f"-- {name} dies")
            finally:
                kopf.cancel()
                await reconciler.stop()
                await asyncio.gather(kopf, return_exceptions=True)
                if reconciler.failure is not None:
                    self.broken.append(f"a task of the operator ended: {reconciler.failure!r}")
            await asyncio.sleep(self.rng.uniform(0.1, 6))

    async def kopf(self, client: FakeClient, reconciler: Reconciler) -> None:
        """Kopf's watch of experiments: what is deleted while it lists anew, it does not tell."""
        while True:
            try:
                items, version = await client.list(kube.EXPERIMENT)
                for item in items:
                    reconciler.cache.experiment_changed(None, item)
                async for kind, item in client.watch(kube.EXPERIMENT, None, version):
                    if kind != "BOOKMARK":
                        reconciler.cache.experiment_changed(kind, item)
            except ApiError:
                await asyncio.sleep(0.5)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    # -- the end ---------------------------------------------------------------------------

    def unsettled(self) -> str | None:
        """What is not yet as it should be in the end."""
        cluster = self.cluster
        experiments = {e["metadata"]["uid"]: e for e in cluster.all(kube.EXPERIMENT)}
        trials = {t["metadata"]["uid"]: t for t in cluster.all(kube.TRIAL)}
        for uid, item in experiments.items():
            if not item["spec"].get("suspend") and not item["status"].get("completionTime"):
                return f"experiment {item['metadata']['name']} {uid} is not finished"
        for trial in trials.values():
            if attempt_over(trial) != trial["spec"]["attempt"]:
                return f"trial {trial['metadata']['name']} has not ended: {trial['status']}"
            if trial["metadata"]["ownerReferences"][0]["uid"] not in experiments:
                return f"trial {trial['metadata']['name']} is left"
        for job in cluster.all(kube.JOB, **{names.MANAGED_BY: names.MANAGER}):
            name = job["metadata"]["name"]
            if job["metadata"]["ownerReferences"][0]["uid"] not in experiments | trials:
                return f"Job {name} is left"
            if self.trial_name(job) and not finished(job):
                return f"Job {name} is not finished"
        for pod in cluster.all(kube.POD):
            if not ended(pod):
                return f"pod {pod['metadata']['name']} runs"
        for (plural, _, name), item in cluster.objects.items():
            uid = (item["metadata"].get("labels") or {}).get(names.EXPERIMENT_UID)
            if uid is not None and uid not in experiments:
                return f"{plural} {name} of a deleted experiment is left"
        return None

    async def settle(self, seconds: float = 1500) -> None:
        """Wait until all is as it should be, and stays so."""
        deadline = now() + seconds
        while (what := self.unsettled()) is not None:
            if now() > deadline:
                self.broken.append(f"{now():.2f} {what}")
                return
            await asyncio.sleep(2)
        before = self.cluster.revision
        await asyncio.sleep(200)
        if (what := self.unsettled()) is not None:
            self.broken.append(f"{now():.2f} {what}, which was settled")
        writes = [w for c in self.clients for w in c.writes if w[0] > now() - 100]
        if writes:
            self.broken.append(f"after the end the operator still writes: {writes[:5]}")
        assert before <= self.cluster.revision

    def run(self, story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        """Play a story in virtual time; raises with its history where something did not hold."""
        state, log = random.getstate(), Log()
        loggers = [logging.getLogger(name) for name in ("kinase", "kinase_kube")]
        random.seed(self.seed)
        for logger in loggers:
            logger.addHandler(log)
            logger.propagate = False

        async def main() -> None:
            try:
                await story(self)
            finally:
                self.cluster.stop_programs()
                for task in self._tasks:
                    task.cancel()
                results = await asyncio.gather(*self._tasks, return_exceptions=True)
                for result in results:
                    if isinstance(result, Exception):
                        raise result

        try:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.run(main())
        finally:
            random.setstate(state)
            for logger in loggers:
                logger.removeHandler(log)
                logger.propagate = True
        problems = [*self.broken, *log.found]
        if problems:
            raise AssertionError("\n".join([f"seed {self.seed}", *problems, *self.history[-300:]]))

    def outcome(self) -> dict[str, Any]:
        """What there is in the end, apart from times."""
        return {
            trial["metadata"]["name"]: (
                trial["status"]["phase"],
                trial["status"]["reason"].replace("OutOfMemory", "Crashed"),  # as a Job says
                trial["spec"]["attempt"],
            )
            for trial in self.cluster.all(kube.TRIAL)
        }
