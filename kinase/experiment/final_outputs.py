"""What an experiment keeps in its store in addition to the journal: task facts and the winner."""

from __future__ import annotations

import json

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.trial import TaskInfo
from kinase.experiment import artifacts, identity
from kinase.experiment.loop import Loop
from kinase.store import Conflict, NotFound, Store

TASK = identity.TASK
RESULT = "result.json"
"""The winner's metrics, stored with its network: the last object that a run writes."""
FINAL = ("weights.safetensors", "model.json")
"""What makes up a trained network in the store."""


def same_task(store: Store, info: TaskInfo) -> None:
    """Keep the description of the task, or compare it with that of an earlier run that has asked
    for a trial.

    Raises:
        MismatchError: the data has changed in between, so results would not compare; or the
            description that is kept is damaged.
        ReadOtherwise: it has changed, or this version reads it otherwise, since a version began
            the run that kept no digests.
    """
    text = info.model_dump_json(by_alias=True, indent=2).encode()
    try:
        store.put(TASK, text, if_absent=True)
        return
    except Conflict:
        pass
    if not identity.begun(store):
        store.put(TASK, text)
        return
    try:
        before = TaskInfo.model_validate_json(store.get(TASK, limits.RESULT))
    except ValidationError:
        raise identity.MismatchError(
            f"{store.uri}/{TASK} is damaged; restore it, or delete it to go on without comparing "
            "the data with that of the earlier run"
        ) from None
    if different := changed(before, info):
        raise identity.MismatchError(
            f"the data is not that of the earlier run in {store.uri}: {'; '.join(different)}; "
            "restore the data, or give the experiment another name"
        )
    was, now = (each.facts.get(CHECKSUM) for each in (before, info))
    if not before.data and was and now and was != now:
        raise identity.ReadOtherwise(
            f"the images or targets have another checksum ({now}) than in the earlier run in "
            f"{store.uri} ({was}): the data has changed, or an earlier version of Kinase read it "
            "otherwise; restore the data, go on with that version, or give the experiment another "
            "name"
        )
    if before.root != info.root:
        raise identity.MismatchError(
            "the network that the search begins with is not that of the earlier run in "
            f"{store.uri}: restore it and its weights, or give the experiment another name"
        )


def changed(before: TaskInfo, now: TaskInfo) -> list[str]:
    """What of the data differs between two descriptions of a task, for a person."""
    found = [
        f"{field} was {getattr(before, field)} and is {getattr(now, field)}"
        for field in ("input", "outputs", "train", "validation", "test")
        if getattr(before, field) != getattr(now, field)
    ]
    for part, digest in before.data.items():
        if now.data.get(part, digest) != digest:
            found.append(f"its {PARTS.get(part, part)} have changed, though not in number or shape")
    return found


CHECKSUM = "data checksum"
"""The fact of a task that is compared where an earlier version kept no digests."""
PARTS = {
    "samples": "images or targets",
    "test": "test images or targets",
    "files": "image files (names or sizes)",
    "validationFiles": "validation part's image files (names or sizes)",
    "testFiles": "test part's image files (names or sizes)",
}
"""What the digests of a task's data are of."""


def keep_final(store: Store, loop: Loop) -> None:
    """Copy the winner to `final/`, with its measurements, unless it lies there already."""
    assert loop.state.finished is not None
    winner = loop.state.finished.winner
    if winner is None:
        return
    trial = loop.state.trials[winner]
    confusion = loop.state.finished.confusion
    measured = {
        "trial": winner,
        "foundBy": trial.parents[0],
        "metrics": trial.values,
        "test": loop.state.finished.test,
        **({"confusion": confusion} if confusion is not None else {}),
        "cost": trial.cost.model_dump(by_alias=True),
    }
    text = json.dumps(measured, indent=2).encode()
    try:
        if store.get(f"final/{RESULT}", limits.RESULT) == text:
            return
    except NotFound:
        pass
    source = artifacts.prefix(winner)
    try:
        for name in FINAL:
            store.copy(f"{source}/{name}", f"final/{name}")
    except NotFound:
        return  # a trainer that keeps no weights
    store.put(f"final/{RESULT}", text)
