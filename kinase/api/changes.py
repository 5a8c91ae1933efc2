"""What of a manifest can change once its experiment has started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kinase.api._base import DURATION, Rule
from kinase.api.budget import LIMITS
from kinase.api.spec import ExperimentSpec

CHANGEABLE = ("suspend", "budget", "retention")
"""Spec fields that can change on a cluster after the experiment has started. Limits of the budget
can only be raised. After it has ended only `AFTER_END` can change; raising a limit then resumes
the search."""
AFTER_END = ("retention", "budget")
BETWEEN_RUNS = (*CHANGEABLE, "trialTemplate", "controller", "storage", "objective.target")
"""Spec fields that can differ between two runs of one experiment, of which the second resumes the
first. No result depends on them."""

_ENDED = "oldSelf.?status.?completionTime.hasValue()"
_STARTED = f"oldSelf.?status.?startTime.hasValue() || {_ENDED}"


def raised(before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """Limits of an earlier budget that are higher now, or no longer set; see `Budget.limits`."""
    return [name for name, value in before.items() if name not in now or now[name] > value]


def rules() -> Iterator[Rule]:
    """The rules by which the API server decides what a user can change, and when."""
    for name, info in ExperimentSpec.model_fields.items():
        if name in AFTER_END:
            continue
        when, happened = _STARTED, "started"
        others: Sequence[str] = CHANGEABLE
        if name in CHANGEABLE:
            when, happened, others = _ENDED, "ended", AFTER_END
        field = f"spec.{info.alias}"
        same = f"self.{field} == oldSelf.{field}"
        if info.default in ((), None):  # a schema omits an empty list and null
            both = f"has(self.{field}) && has(oldSelf.{field})"
            neither = f"!has(self.{field}) && !has(oldSelf.{field})"
            same = f"({neither}) || ({both} && {same})"
        yield Rule(
            f"!({when}) || ({same})",
            f"{field} cannot change: the experiment has {happened}; only {_listed(others)} can",
            f".{field}",
            "Forbidden",
        )
    for limit in LIMITS:
        new, old = f"self.spec.budget.{limit}", f"oldSelf.spec.budget.{limit}"
        most = f"{new} >= {old}"
        if limit == "duration":  # its pattern rejects another form
            most = f"(!{new}.matches(r'{DURATION}') || duration({new}) >= duration({old}))"
        yield Rule(
            f"!({_STARTED}) || !has({new}) || (has({old}) && {most})",
            f"spec.budget.{limit} {{{new}}} is invalid: the experiment has started, and a limit "
            f"can only be raised or removed; it was {{has({old}) ? dyn({old}) : dyn('not set')}}",
            f".spec.budget.{limit}",
            "Forbidden",
        )


def _listed(fields: Sequence[str]) -> str:
    named = ("budget.parallelism" if field == "budget" else field for field in fields)
    return f"{', '.join(named)} and (upward) the limits of budget"
