"""Whether a search that is over continues, because its limits have changed: pure readings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from kinase.experiment import budget
from kinase.experiment.entries import Reopened
from kinase.experiment.record import Record


def raised(record: Record) -> list[str]:
    """Limits that were raised since the search ended; empty before its end."""
    if record.state.ended is None:
        return []
    return budget.raised(record.state.limits, record.spec)


def goes_on(record: Record) -> bool:
    """Whether a search that was over continues: a limit was raised, and pays for a trial."""
    return bool(raised(record)) and _why_stay(record) is None


def reopened(record: Record, kept: Collection[str]) -> Sequence[Reopened]:
    """The entry by which a search that was over continues, if it does.

    Args:
        record: of the experiment.
        kept: where there are weights.
    """
    if not goes_on(record):
        return ()
    limits, trials = budget.recorded(record.spec), record.state.trials
    there = tuple(number for number, trial in trials.items() if trial.weights in kept)
    return (Reopened(limits=limits, weights=there, elapsed=record.elapsed),)


def _why_stay(record: Record) -> str | None:
    """Why the search would be over at once if it continued: other finalists may follow then."""
    return record.why_end(replace(record.state, finalists_before=record.state.finalists))


def stays(record: Record) -> str | None:
    """Why a search that was over does not continue though a limit was raised, for a person."""
    if not raised(record) or goes_on(record):
        return None
    places = {"target": "objective.target"}
    names = " and ".join(places.get(name, f"budget.{name}") for name in raised(record))
    advice = "raise or remove objective.target"
    if not record.reached():
        advice = "raise it further"
        again = replace(record.state, finalists_before=record.state.finalists)
        due = budget.final_networks(record.spec, again) * record.final_fidelity.epochs
        least = record.state.committed_epochs + record.cheapest[1] + due
        if record.spec.budget.epochs is not None and least > record.spec.budget.epochs:
            advice = f"raise budget.epochs to {least} or more"
    return f"{names} has changed, but the search does not resume: {_why_stay(record)}; {advice}"


def lowered(record: Record) -> str | None:
    """The effect of a limit that was lowered below what is spent, for a person."""
    if record.state.ended is None:
        over = budget.exceeded(record.spec, record.state)
        return f"{'; '.join(over)}: the search ends now, and finalists follow" if over else None
    if names := budget.lowered(record.state.limits, record.spec):
        fields = " and ".join(f"budget.{name}" for name in names)
        return f"{fields} was lowered after the search had ended; its results are kept"
    return None
