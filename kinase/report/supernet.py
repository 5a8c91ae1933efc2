"""A supernet, as the journal and the store have it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kinase.api.choices import ChoicesHistory
from kinase.api.supernet import SupernetPlan
from kinase.api.trial import Architecture, Cost, Kind, Outcome, Point
from kinase.experiment import artifacts
from kinase.experiment.record import Record
from kinase.experiment.trial_record import TrialRecord
from kinase.space import ArchitectureError, InfeasibleError
from kinase.store import NotFound, Store, StoreError, TooLarge


@dataclass(frozen=True, slots=True)
class ReportDerived:
    """An architecture that is left of the choices."""

    architecture: Architecture
    key: str
    """Canonical hash."""
    score: float
    """How sure the choices are of it."""


@dataclass(frozen=True, slots=True)
class ReportSupernet:
    """The supernet of a one-shot search."""

    trial: int
    """Number of its trial."""
    outcome: Outcome | None
    """None while it trains."""
    relaxation: str
    """Type of the relaxation."""
    options: tuple[tuple[str, str], ...]
    """(label, text) of how it is trained."""
    epochs: int
    """Epochs that it is to train."""
    cost: Cost
    message: str
    """What its trainer remarked."""
    metrics: dict[str, float]
    params: int | None
    """Its parameters; None if its trainer has not said them."""
    part: int | None
    """Parameters of the part that scores a candidate; None if no candidate is scored with it."""
    scored: bool
    """Whether candidates are scored with it, and not trained."""
    check: int
    """Networks of the rank check that were asked for."""
    inherit: bool
    """Whether finalists begin with their part of it."""
    curve: tuple[Point, ...]
    """Metrics after each epoch; empty where they are not known."""
    curve_said: str
    """Why they are not known; empty if they are."""
    choices: ChoicesHistory | None
    """The probabilities of its choices; None where they are not known."""
    choices_said: str
    """Why they are not known; empty if they are, or if nothing is learned of the choices."""
    derived: tuple[ReportDerived, ...]
    """What its choices have led to, best first."""


def supernet_of(record: Record) -> ReportSupernet | None:
    """The last supernet of a search; None without one. What its trial left in the store is
    untrusted: where it cannot be read, that is said."""
    trials = list(record.state.of_kind(Kind.SUPERNET))
    shared = record.spec.estimation.one_shot
    if not trials or trials[-1].plan is None or shared is None:
        return None
    trial = trials[-1]
    plan = trial.plan
    assert plan is not None
    curve, curve_said = _curve(record.store, trial)
    choices, choices_said = _choices(record.store, trial, plan)
    params = trial.facts.get("params")
    return ReportSupernet(
        trial=trial.number,
        outcome=trial.outcome,
        relaxation=plan.relaxation.type,
        options=options_of(plan),
        epochs=trial.grant.until,
        cost=trial.cost,
        message=trial.message,
        metrics=trial.metrics,
        params=params if type(params) is int and params > 0 else None,
        part=_part(record),
        scored=plan.relaxation.partial is None,
        check=shared.check,
        inherit=shared.finalists == "inherit",
        curve=curve,
        curve_said=curve_said,
        choices=choices,
        choices_said=choices_said,
        derived=_derived(record, trial),
    )


def options_of(plan: SupernetPlan) -> tuple[tuple[str, str], ...]:
    """How a supernet is trained, without what is left at its default."""
    member = plan.relaxation.member
    own = member.model_dump(mode="json", by_alias=True) if member is not None else {}
    rest = plan.model_dump(
        mode="json",
        by_alias=True,
        exclude={"relaxation", "limits"},
        exclude_defaults=True,
        exclude_none=True,
    )
    found = [("choices", ", ".join(filter(None, (plan.relaxation.type, _text(own)))))]
    found += [(name, _text(value) or "yes") for name, value in rest.items()]
    return tuple(found)


def _text(value: Any) -> str:
    """Options on one line: `every 5, stop: ratio 1.3`."""
    if isinstance(value, Mapping):
        parts = [
            f"{name}{':' if isinstance(each, Mapping) else ''} {_text(each)}"
            for name, each in value.items()
            if each is not None
        ]
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _curve(store: Store, trial: TrialRecord) -> tuple[tuple[Point, ...], str]:
    if trial.outcome is None:
        return (), "The curve is drawn when the training has ended."
    try:
        result = artifacts.read_result(store, trial.prefix, trial.number)
    except StoreError as error:
        return (), f"The curve could not be read: {error}"
    if result is None:
        return (), f"{trial.prefix}/result.json is missing or damaged, so there is no curve."
    return result.curve, "" if result.curve else "No epoch was trained, so there is no curve."


def _choices(
    store: Store, trial: TrialRecord, plan: SupernetPlan
) -> tuple[ChoicesHistory | None, str]:
    learns = plan.relaxation.type not in ("Uniform", "Pruning") or plan.selection is not None
    file = f"{trial.prefix}/choices.json"
    try:
        return artifacts.read_choices(store, trial.prefix), ""
    except NotFound:
        missing = f"{file} is missing, so the choices are not shown."
        if trial.outcome is None:
            missing = "The choices are shown once an epoch is trained."
        return None, missing if learns else ""
    except TooLarge:
        return None, f"{file} is too large, so the choices are not shown."
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))[:80]
        why = ": ".join(filter(None, (where, problem["msg"])))
        return None, f"{file} is damaged ({why:.200}), so the choices are not shown."
    except StoreError as error:
        return None, f"The choices could not be read: {error}"


def _derived(record: Record, trial: TrialRecord) -> tuple[ReportDerived, ...]:
    found = []
    for each in trial.derived:
        with suppress(ArchitectureError):
            key = record.space.key(each.architecture)
            found.append(ReportDerived(each.architecture, key, each.score))
    return tuple(found)


def _part(record: Record) -> int | None:
    """Parameters of the best candidate at the supernet's size."""
    best = record.best
    if best is None or best.slice is None:
        return None
    try:
        return record.space.graph(best.architecture, record.frame).params()
    except (InfeasibleError, ArchitectureError):
        return None
