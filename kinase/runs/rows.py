"""Trials as a table: flat rows, ready for a spreadsheet or `pandas.DataFrame`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kinase.experiment.state import SEARCHING, State
from kinase.experiment.trial_record import TrialRecord
from kinase.report.gather import fidelity_text, inherited_text

Row = dict[str, Any]


def row(trial: TrialRecord) -> Row:
    """A trial as plain values: text, numbers, or None if a value is missing.

    Metrics are columns by name; one whose name is that of another column is called `metric.NAME`.
    """
    fixed: Row = {
        "trial": trial.number,
        "kind": trial.kind.value,
        "outcome": trial.outcome.value if trial.outcome is not None else None,
        "state": state_of(trial),
        "rung": trial.rung if trial.kind in SEARCHING and trial.rung >= 0 else None,
    }
    rest: Row = {
        "epochs": trial.cost.epochs,
        "samples": trial.cost.samples,
        "device_seconds": trial.cost.device_seconds,
        "ended": trial.ended,
        "fidelity": fidelity_text(trial.fidelity),
        "parents": " ".join(map(str, trial.parents)) or None,
        "operation": trial.operation or None,
        "learning_rate_factor": trial.learning_rate,
        "inherited": inherited_text(trial.inherited) if trial.inherited is not None else None,
        "message": trial.said or None,
        "key": trial.key,
        "genotype": json.dumps(trial.architecture, separators=(",", ":")),
    }
    taken = {*fixed, *rest}
    metrics = {
        f"metric.{name}" if name in taken else name: value
        for name, value in sorted(trial.metrics.items())
    }
    counted = {name: _whole(value) for name, value in trial.resources.items()}
    return {**fixed, **metrics, **counted, **rest}


def state_of(trial: TrialRecord) -> str:
    """Ended, Paused (it waits for a decision, and holds no slot), or Running."""
    if trial.outcome is not None:
        return "Ended"
    return "Paused" if trial.resting else "Running"


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def rows(state: State) -> list[Row]:
    """All trials by number. Each row has every column, with None for missing values."""
    return aligned(row(trial) for trial in state.trials.values())


def aligned(found: Iterable[Row]) -> list[Row]:
    """Give all rows the same columns; those that only some trials have come after `outcome`."""
    listed = list(found)
    columns: dict[str, None] = dict.fromkeys(("trial", "kind", "outcome"))
    last: dict[str, None] = {}
    for each in listed:
        names = list(each)
        metrics = names.index("epochs")
        columns.update(dict.fromkeys(names[:metrics]))
        last.update(dict.fromkeys(names[metrics:]))
    order = [*columns, *last]
    return [{name: each.get(name) for name in order} for each in listed]
