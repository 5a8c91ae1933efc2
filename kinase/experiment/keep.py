"""What an experiment keeps in its store beside the journal: the task's facts, and the winner."""

from __future__ import annotations

import json

from kinase.api import limits
from kinase.api.trial import TaskInfo
from kinase.experiment import artifacts, identity
from kinase.experiment.loop import Loop
from kinase.store import Conflict, NotFound, Store

TASK = "task.json"
"""What the trainer said of the task."""
RESULT = "result.json"
"""What the winner measured, beside its network: the last that a run writes."""
FINAL = ("weights.safetensors", "model.json")
"""What makes up a trained network in the store."""


def same_task(store: Store, info: TaskInfo) -> None:
    """Keep the description of the task, or compare it with that of an earlier run.

    Raises:
        MismatchError: the data has changed in between, so results would not compare.
    """
    try:
        store.put(TASK, info.model_dump_json(by_alias=True, indent=2).encode(), if_absent=True)
        return
    except Conflict:
        pass
    before = TaskInfo.model_validate_json(store.get(TASK, limits.RESULT))
    for field in ("input", "outputs", "train", "validation", "test"):
        was, now = getattr(before, field), getattr(info, field)
        if was != now:
            raise identity.MismatchError(
                f"the data is not that of the earlier run in {store.uri}: {field} was {was} and "
                f"is {now}; restore the data, or give the experiment another name"
            )
    if before.root != info.root:
        raise identity.MismatchError(
            f"the network that the search begins with is not that of the earlier run in "
            f"{store.uri}: restore it and its weights, or give the experiment another name"
        )


def keep_final(store: Store, loop: Loop) -> None:
    """Copy the winner to `final/`, with its measurements, and the task's facts."""
    assert loop.state.finished is not None
    winner = loop.state.finished.winner
    if winner is None:
        return
    trial = loop.state.trials[winner]
    source = artifacts.prefix(winner)
    try:
        for name in FINAL:
            store.copy(f"{source}/{name}", f"final/{name}")
    except NotFound:
        return  # a trainer that keeps no weights
    measured = {
        "trial": winner,
        "foundBy": trial.parents[0],
        "metrics": trial.values,
        "test": loop.state.finished.test,
        "cost": trial.cost.model_dump(by_alias=True),
    }
    store.put(f"final/{RESULT}", json.dumps(measured, indent=2).encode())
