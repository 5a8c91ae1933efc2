"""Output of the commands for experiments and trials: pure functions of the API's objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kinase.api import names
from kinase.api.status import (
    Condition,
    ConditionType,
    ExperimentStatus,
    LimitStatus,
    Phase,
    RungStatus,
    StoppingStatus,
    TrialPhase,
    TrialStatus,
)
from kinase.estimation.calibration import wilson
from kinase.report.theme import brief, duration, metric, shorten
from kinase.report.theme import size as as_bytes
from kinase.words import counted, standing
from kinase_kube.client import Object
from kinase_kubectl.problem import escaped

WIDTH = 100
"""Maximum characters of an architecture or a message in a table."""


def age(seconds: float) -> str:
    """A time in kubectl's form: 42s, 3m7s, 2h5m, 3d4h."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    parts: list[tuple[int, str]] = []
    for size, unit, few in ((86400, "d", 8), (3600, "h", 8), (60, "m", 10), (1, "s", 60)):
        count, whole = divmod(whole, size)
        if parts or count:
            parts.append((count, unit))
            if len(parts) == 2 or count >= few:
                break
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class Experiment:
    """The last observed state of an experiment."""

    body: Object
    status: ExperimentStatus

    @classmethod
    def of(cls, item: Object) -> Experiment:
        """Read the API's object."""
        return cls(item, ExperimentStatus.model_validate(item.get("status") or {}))

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.body["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """Its UID."""
        return str(self.body["metadata"]["uid"])

    @property
    def version(self) -> int:
        """Its resource version."""
        return int(self.body["metadata"]["resourceVersion"])

    @property
    def created(self) -> datetime:
        """When it was created."""
        return _time(self.body["metadata"]["creationTimestamp"])

    @property
    def selector(self) -> str:
        """Label selector for everything that belongs to it, but not to an earlier experiment of its
        name."""
        return f"{names.EXPERIMENT}={self.name},{names.EXPERIMENT_UID}={self.uid}"

    @property
    def spec(self) -> Object:
        """Its manifest's spec."""
        found: Object = self.body["spec"]
        return found

    @property
    def metric(self) -> str:
        """The search's metric."""
        return str((self.spec.get("objective") or {}).get("metric", "val_accuracy"))

    @property
    def suspended(self) -> bool:
        """Whether `spec.suspend` is true."""
        return bool(self.spec.get("suspend"))

    def condition(self, kind: ConditionType) -> Condition | None:
        """A condition, if it is set."""
        return next((c for c in self.status.conditions if c.type == kind), None)

    def holds(self, kind: ConditionType) -> bool:
        """Whether a condition is true."""
        found = self.condition(kind)
        return found is not None and found.status == "True"

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.holds(ConditionType.SUCCEEDED) or self.holds(ConditionType.FAILED)

    @property
    def phase(self) -> str:
        """Its phase."""
        if "deletionTimestamp" in self.body["metadata"]:
            return "Deleting"
        return str(self.status.phase or Phase.PENDING)

    @property
    def ended(self) -> int:
        """Number of finished trials of the search."""
        counts = self.status.trials
        if counts is None:
            return 0
        return counts.succeeded + counts.stopped + counts.infeasible + counts.failed

    @property
    def measured(self) -> int:
        """Number of trials of the search that have a result: those that ended, or are paused."""
        return self.ended + (self.status.trials.paused if self.status.trials else 0)

    def troubles(self) -> list[Condition]:
        """Conditions that report a problem."""
        found = []
        ready, going = map(self.condition, (ConditionType.READY, ConditionType.PROGRESSING))
        if ready and ready.status != "True" and ready.reason != "ControllerStarting":
            found.append(ready)
        if going and going.status != "True" and going.reason not in ("Suspended", "Finished"):
            found.append(going)
        failed = self.condition(ConditionType.FAILED)
        if failed and failed.status == "True":
            found.append(failed)
        return found

    def share(self) -> float | None:
        """Progress of the search, by the limit that it will reach first."""
        if self.finished or self.status.phase == Phase.FINALISTS:
            return 1.0
        shares = [1 - self._left(limit) / limit.total for limit in self.status.budget]
        most = 0.99 if self.status.rungs else 1.0  # promotions follow the last new trial
        return min(most, max(0.0, *shares)) if shares else None

    def left(self, now: datetime) -> timedelta | None:
        """Estimated remaining time at the pace so far, or None if unknown."""
        began = self.status.start_time
        if began is None or self.status.phase != Phase.SEARCHING or self.suspended:
            return None
        # the journal's clock is paused while the search is suspended; otherwise it is unknown
        clock = (limit.spent for limit in self.status.budget if limit.name == "duration")
        elapsed, estimates = next(clock, (now - began).total_seconds()), []
        for limit in self.status.budget:
            left = self._left(limit)
            if limit.name == "duration":
                estimates.append(left)
            elif limit.name == "trials" and self.status.rungs:
                # They are cheap to begin, and the promotions follow. The status does not have what
                # a rung costs and how many will be promoted, so there is no estimate from this.
                continue
            elif self.measured and left < limit.total:
                estimates.append(elapsed * left / (limit.total - left))
        return timedelta(seconds=min(estimates)) if estimates else None

    def _left(self, limit: LimitStatus) -> float:
        """Remainder of a limit. The reserved cost of a running trial is counted as used."""
        return limit.total - self.measured if limit.name == "trials" else limit.left


@dataclass(frozen=True, slots=True)
class Trial:
    """The last observed state of a trial."""

    name: str
    namespace: str
    uid: str
    version: int
    created: datetime
    experiment: str
    experiment_uid: str
    kind: str
    attempt: int
    status: TrialStatus

    @classmethod
    def of(cls, item: Object) -> Trial:
        """Read the API's object."""
        metadata, spec = item["metadata"], item["spec"]
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            created=_time(metadata["creationTimestamp"]),
            experiment=spec["experiment"],
            experiment_uid=(metadata.get("labels") or {}).get(names.EXPERIMENT_UID, ""),
            kind=spec["kind"],
            attempt=int(spec.get("attempt", 1)),
            status=TrialStatus.model_validate(item.get("status") or {}),
        )

    @property
    def phase(self) -> str:
        """Phase of the desired attempt."""
        if self.status.phase is None or self.status.attempt != self.attempt:
            return str(TrialPhase.PENDING)
        return str(self.status.phase)

    @property
    def ended(self) -> bool:
        """Whether that attempt has ended."""
        return TrialPhase(self.phase).ended

    @property
    def reason(self) -> str:
        """Reason for its phase, if the phase does not imply it."""
        reason = self.status.reason or ""
        return "" if reason in ("Completed", self.phase) else reason

    def lasted(self, now: datetime) -> str:
        """How long its pod has run."""
        began = self.status.start_time
        end = self.status.completion_time or (None if self.ended else now)
        return age((end - began).total_seconds()) if began and end else ""


Row = list[str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of experiments or trials."""

    title: str
    cell: Callable[[Any, datetime], str]
    wide: bool = False
    """Only with `-o wide`."""


def _best(each: Experiment) -> str:
    return metric(each.status.best.value) if each.status.best else ""


def _trials(each: Experiment, now: datetime) -> str:
    return each.status.progress or ""


def _running(each: Experiment, now: datetime) -> str:
    return str(each.status.trials.running) if each.status.trials else ""


def _paused(each: Experiment, now: datetime) -> str:
    return str(each.status.trials.paused) if each.status.trials else ""


def _best_rung(each: Experiment, now: datetime) -> str:
    best = each.status.best
    return "" if best is None or best.rung is None else str(best.rung)


def _left(each: Experiment, now: datetime) -> str:
    left = each.left(now)
    return f"~{age(left.total_seconds())}" if left is not None else ""


def _note(each: Experiment, now: datetime) -> str:
    return ",".join(dict.fromkeys(condition.reason for condition in each.troubles()))


def _done(each: Experiment, now: datetime) -> str:
    share = each.share()
    return f"{share:.0%}" if share is not None else ""


def _cost(each: Experiment, now: datetime) -> str:
    cost = each.status.cost
    return duration(cost.device_seconds).replace(" ", "") if cost else ""


EXPERIMENTS = (
    Column("NAME", lambda e, now: e.name),
    Column("PHASE", lambda e, now: e.phase),
    Column("TRIALS", _trials),
    Column("DONE", _done),
    Column("RUNNING", _running),
    Column("PAUSED", _paused, wide=True),
    Column("BEST", lambda e, now: _best(e)),
    Column("BEST RUNG", _best_rung, wide=True),
    Column("BUDGET LEFT", lambda e, now: e.status.budget_left or ""),
    Column("TIME LEFT", _left),
    Column("METRIC", lambda e, now: e.metric, wide=True),
    Column(
        "CONTROL",
        lambda e, now: metric(e.status.control.value) if e.status.control else "",
        wide=True,
    ),
    Column("STRATEGY", lambda e, now: str((e.spec.get("strategy") or {}).get("type", "")), True),
    Column("SPACE", lambda e, now: str((e.spec.get("space") or {}).get("type", "")), True),
    Column("EPOCHS", lambda e, now: str(e.status.cost.epochs) if e.status.cost else "", True),
    Column("DEVICES", _cost, True),
    Column("AGE", lambda e, now: age((now - e.created).total_seconds())),
    Column("NOTE", _note),
)

TRIALS = (
    Column("NAME", lambda t, now: t.name),
    Column("KIND", lambda t, now: t.kind),
    Column("PHASE", lambda t, now: t.phase),
    Column("VALUE", lambda t, now: metric(t.status.value) if t.status.value is not None else ""),
    Column("EPOCHS", lambda t, now: str(t.status.epochs) if t.status.epochs is not None else ""),
    Column("NODE", lambda t, now: t.status.node or ""),
    Column("ATTEMPT", lambda t, now: str(t.attempt)),
    Column("LASTED", lambda t, now: t.lasted(now), wide=True),
    Column("POD", lambda t, now: t.status.pod or "", wide=True),
    Column("AGE", lambda t, now: age((now - t.created).total_seconds())),
    Column("REASON", lambda t, now: t.reason),
    Column(
        "MESSAGE",
        lambda t, now: shorten(" ".join((t.status.message or "").split()), WIDTH),
        wide=True,
    ),
)

NAMESPACE = Column("NAMESPACE", lambda each, now: each.namespace)


@dataclass(frozen=True, slots=True)
class Listing:
    """A table: its head and its rows."""

    head: Row
    rows: list[Row] = field(default_factory=list)


def listing(
    columns: Sequence[Column],
    items: Sequence[Any],
    now: datetime,
    *,
    wide: bool = False,
    namespace: bool = False,
) -> Listing:
    """A table of experiments or trials."""
    shown = [column for column in columns if wide or not column.wide]
    if namespace:
        shown = [NAMESPACE, *shown]
    return Listing(
        [column.title for column in shown],
        [[escaped(column.cell(item, now)) for column in shown] for item in items],
    )


def latest(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Trials to show, by name: all unfinished ones and the latest of the others, at most `most` in
    total (0: all)."""
    ended = sorted((t for t in trials if t.ended), key=lambda t: (t.created, t.name))
    going = [t for t in trials if not t.ended]
    room = len(ended) if most == 0 else max(0, most - len(going))
    return sorted([*going, *ended[len(ended) - room :]], key=lambda t: t.name)


def facts(each: Experiment, now: datetime) -> list[tuple[str, str]]:
    """Facts about an experiment, shown above its trials."""
    status, found = each.status, [("Name", each.name), ("Namespace", each.namespace)]
    found.append(("Phase", each.phase))
    left = each.left(now)
    about = f", about {age(left.total_seconds())} left of the search" if left is not None else ""
    if status.trials is not None:
        counts = {
            "running": status.trials.running,
            "paused": status.trials.paused,
            "failed": status.trials.failed,
            "infeasible": status.trials.infeasible,
        }
        shown = "".join(f", {count} {word}" for word, count in counts.items() if count)
        done = "with a result" if status.rungs else "ended"
        found.append(("Trials", f"{status.progress} {done}{shown}{about}"))
    if status.estimation is not None:
        found.append(("Estimation", status.estimation))
    found += [("Rung", rung_text(rung)) for rung in status.rungs]
    if status.stopping is not None:
        found.append(("Stopping", stopping_text(status.stopping)))
    for limit in status.budget:
        found.append(("Budget", _limit(limit)))
    if status.cost is not None:
        devices = duration(status.cost.device_seconds)
        found.append(("Spent", f"{counted(status.cost.epochs, 'epoch')}, device time {devices}"))
    if status.weights is not None:
        written, kept = as_bytes(status.weights.written), as_bytes(status.weights.kept)
        found.append(("Weights", f"{written} written for children, {kept} kept"))
    for word, incumbent in (("Best", status.best), ("Control", status.control)):
        if incumbent is not None:
            where = f", rung {incumbent.rung}" if incumbent.rung is not None else ""
            value = f"{each.metric} {metric(incumbent.value)}{where}"
            found.append((word, f"{value}, trial {incumbent.trial}"))
    shown_one = status.winner or status.best
    if status.winner is not None:
        tested = "".join(f", {name} {metric(value)}" for name, value in status.test.items())
        value = metric(status.winner.value)
        found.append(("Winner", f"{each.metric} {value}{tested}, trial {status.winner.trial}"))
    if shown_one is not None:
        sizes = ", ".join(
            f"{shown_one.metrics[name]:,.0f} {word}"
            for name, word in (("params", "parameters"), ("macs", "multiply-adds"))
            if name in shown_one.metrics
        )
        if sizes:
            found.append(("Size", sizes))
        if shown_one.architecture is not None:
            found.append(("Architecture", shorten(brief(_ordered(shown_one.architecture)), WIDTH)))
    for word, place in (("Model", status.model), ("Report", status.report)):
        if place:
            found.append((word, place))
    found.append(("Age", age((now - each.created).total_seconds()) + _took(status)))
    return [(word, escaped(text)) for word, text in found]


def rung_text(rung: RungStatus) -> str:
    """How trials stand at a rung: `1 (3 epochs): 9 reached; 2 running, 4 paused, 3 promoted`."""
    name = f"{rung.rung} ({counted(rung.until, 'epoch')})" if rung.rung >= 0 else "before the first"
    return f"{name}: {standing(rung)}"


def stopping_text(found: StoppingStatus) -> str:
    """What a rule that stops trials did, and how far it can be trusted."""
    text = f"{counted(found.stopped, 'trial')} by the learning curve"
    if not found.spared:
        return text
    won, low, high = found.won / found.spared, *wilson(found.won / found.spared, found.spared)
    return (
        f"{text}; an estimated {won:.1%} of them would have become the best "
        f"(95% interval {low:.1%} to {high:.1%}, from {counted(found.spared, 'spared trial')})"
    )


def _ordered(architecture: Any) -> Any:
    """An architecture with each operation's name first, as the spaces write it, because the API
    server sorts keys."""
    if isinstance(architecture, dict):
        keys = sorted(architecture, key=lambda key: not isinstance(architecture[key], str))
        return {key: _ordered(architecture[key]) for key in keys}
    if isinstance(architecture, list):
        return [_ordered(each) for each in architecture]
    return architecture


def _took(status: ExperimentStatus) -> str:
    began, ended = status.start_time, status.completion_time
    if began is None or ended is None:
        return ""
    return f", took {age((ended - began).total_seconds())}"


def _limit(limit: LimitStatus) -> str:
    if limit.name == "duration":
        return f"{age(limit.left)} of {age(limit.total)} left"
    if limit.name == "deviceHours":
        of = counted(limit.total, "device hour", f"{limit.total:g}")
        return f"{limit.left:.2f} of {of} left"
    of = counted(limit.total, limit.name.removesuffix("s"), f"{limit.total:,.0f}")
    return f"{limit.left:,.0f} of {of} left"


def trouble_line(condition: Condition, now: datetime) -> str:
    """A condition that reports a problem: `StoreUnavailable for 3m: ...`."""
    since = age((now - condition.last_transition_time).total_seconds())
    message = escaped(" ".join(condition.message.split()))
    return f"{condition.reason} for {since}" + (f": {message}" if message else "")


def tidy(item: Object) -> Object:
    """An object for people, without the managed fields of server-side apply."""
    metadata = {k: v for k, v in item["metadata"].items() if k != "managedFields"}
    return {**item, "metadata": metadata}
