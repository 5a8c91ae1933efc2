"""How long a search will still take, at its pace so far."""

from __future__ import annotations

from kinase.api.ladder import Ladder
from kinase.estimation.ladder import increment
from kinase.experiment.record import Record
from kinase.experiment.state import SEARCHING


def time_left(record: Record) -> float | None:
    """Seconds that the search will still take at its pace so far, or None if unknown."""
    done = sum(t.kind in SEARCHING for t in record.state.told) + record.state.resting
    if not done or record.state.ended is not None:
        return None
    estimates = []
    for limit in record.limits:
        if limit.unit == "s":
            estimates.append(limit.left)
        elif limit.name == "trials" and record.laddered:
            epochs = epochs_to_come(record, limit.left)
            if epochs is not None and record.state.spent.epochs:
                estimates.append(epochs * record.elapsed / record.state.spent.epochs)
        elif limit.spent:
            pace = record.elapsed / limit.spent
            estimates.append(limit.left * pace)
    return min(estimates, default=None)


def epochs_to_come(record: Record, trials: float) -> float | None:
    """Epochs that a search on a ladder will still take if it begins so many trials more: they are
    cheap to begin, and the promotions follow. None where nothing says how many are promoted."""
    options = record.spec.estimation.member
    if not isinstance(options, Ladder):
        return None
    found, ladder = 0.0, record.estimator.ladder
    reached = trials
    for place, grant in enumerate(ladder):
        count = record.state.rungs.get(grant.rung)
        entered = count.entered if count is not None else 0
        if place == 0:
            coming = trials + (count.running if count is not None else 0)
            reached = entered + trials
        else:
            # of all that reach the rung below one in eta enters this one
            reached = max(float(entered), reached / options.eta)
            coming = reached - entered + (count.running if count is not None else 0)
        cost = increment(ladder, place) if place else grant.until
        found += max(0.0, coming) * cost
    return found
