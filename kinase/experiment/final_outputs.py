"""What an experiment stores in addition to the journal: the task's description and the winner."""

from __future__ import annotations

import json

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.trial import TaskInfo
from kinase.experiment import artifacts, identity
from kinase.experiment.record import Record
from kinase.store import Conflict, NotFound, Store

TASK = identity.TASK
RESULT = "result.json"
"""The winner's metrics, stored with its network. It is the last object that a run writes."""
FINAL = ("weights.safetensors", "model.json")
"""The files of a trained network in the store."""


def same_task(store: Store, info: TaskInfo) -> None:
    """Store the description of the task, or compare it with that of an earlier run that has started
    a trial.

    Raises:
        MismatchError: the data has changed since, so results would not be comparable; or the stored
            description is damaged.
        ReadOtherwise: the data has changed, or this version reads it differently; unknown, because
            the run was started by a version that stored no digests.
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
            f"{store.uri}/{TASK} is damaged; restore it, or delete it to skip the comparison "
            "of the data with that of the earlier run"
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
            "differently; restore the data, use that version, or give the experiment another "
            "name"
        )
    if before.root != info.root:
        raise identity.MismatchError(
            "the network that the search starts from is not that of the earlier run in "
            f"{store.uri}: restore it and its weights, or give the experiment another name"
        )


def changed(before: TaskInfo, now: TaskInfo) -> list[str]:
    """How the data differs between two descriptions of a task, for people."""
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
"""The fact of a task that is compared if an earlier version stored no digests."""
PARTS = {
    "samples": "images or targets",
    "test": "test images or targets",
    "files": "image files (names or sizes)",
    "validationFiles": "validation part's image files (names or sizes)",
    "testFiles": "test part's image files (names or sizes)",
}
"""Names of the data's parts that have digests."""


def keep_final(store: Store, record: Record) -> None:
    """Copy the winner to `final/`, with its measurements, unless it lies there already."""
    assert record.state.finished is not None
    winner = record.state.finished.winner
    if winner is None:
        return
    trial = record.state.trials[winner]
    confusion = record.state.finished.confusion
    measured = {
        "trial": winner,
        "foundBy": trial.parents[0],
        "metrics": trial.values,
        "test": record.state.finished.test,
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
        return  # the trainer stores no weights
    store.put(f"final/{RESULT}", text)
