"""What is put right of an object, and what of it is other people's."""

from __future__ import annotations

from typing import Any

import pytest

from kinase_operator import drift
from tests.unit.operator.samples import merged

OURS = {"uid": "exp", "kind": "NASExperiment", "name": "toy", "controller": True}
THEIRS = {"uid": "other", "kind": "ConfigMap", "name": "x"}


def account(**metadata: Any) -> dict[str, Any]:
    base = {"labels": {"a": "1"}, "annotations": {"role": "r1"}, "ownerReferences": [OURS]}
    return {"metadata": {**base, **metadata}, "automountServiceAccountToken": False}


def fields(manager: str, **parts: list[str]) -> dict[str, Any]:
    """An entry of managedFields: which labels and annotations this manager has set."""
    named = {f"f:{part}": {".": {}, **{f"f:{n}": {} for n in ns}} for part, ns in parts.items()}
    return {"manager": manager, "operation": "Update", "fieldsV1": {"f:metadata": named}}


def us(**parts: list[str]) -> dict[str, Any]:
    return fields("kinase-operator", **parts)


ALL = us(labels=["a", "old"], annotations=["role", "old"])
CASES: list[tuple[str, dict[str, Any], list[str], dict[str, Any]]] = [
    ("as it is meant", {"managedFields": [ALL]}, [], {}),
    (
        "an annotation that is not set any more",
        {"annotations": {"role": "r1", "old": "x"}, "managedFields": [ALL]},
        ["annotations"],
        {},
    ),
    (
        "a label that is not set any more",
        {"labels": {"a": "1", "old": "x"}, "managedFields": [ALL]},
        ["labels"],
        {},
    ),
    (
        "others' labels and annotations",
        {
            "labels": {"a": "1", "team": "x"},
            "annotations": {"role": "r1", "team": "x"},
            "managedFields": [ALL, fields("kubectl", labels=["team"], annotations=["team"])],
        },
        [],
        {"labels": {"a": "1", "team": "x"}, "annotations": {"role": "r1", "team": "x"}},
    ),
    (
        "one that another has set as well",
        {
            "annotations": {"role": "r1", "old": "x"},
            "managedFields": [ALL, fields("gitops", annotations=["old"])],
        },
        [],
        {"annotations": {"role": "r1", "old": "x"}},
    ),
    (
        "nobody knows who set it",
        {"annotations": {"role": "r1", "old": "x"}},
        [],
        {"annotations": {"role": "r1", "old": "x"}},
    ),
    ("an annotation removed", {"annotations": None}, ["annotations"], {}),
    ("an annotation changed", {"annotations": {"role": "r2"}}, ["annotations"], {}),
    ("a label removed", {"labels": None}, ["labels"], {}),
    (
        "a label changed",
        {"labels": {"a": "2", "b": "3"}},
        ["labels"],
        {"labels": {"a": "1", "b": "3"}},
    ),
    ("the owner removed", {"ownerReferences": None}, ["ownerReferences"], {}),
    (
        "the owner no controller any more",
        {"ownerReferences": [{**OURS, "controller": False}, THEIRS]},
        ["ownerReferences"],
        {"ownerReferences": [THEIRS, OURS]},
    ),
    (
        "another owner",
        {"ownerReferences": [OURS, THEIRS]},
        [],
        {"ownerReferences": [OURS, THEIRS]},
    ),
]


@pytest.mark.parametrize(
    ("metadata", "differs", "keeps"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_we_set_is_put_right_and_what_others_set_stays(
    metadata: dict[str, Any], differs: list[str], keeps: dict[str, Any]
) -> None:
    body, there = account(), account(**metadata)
    found = drift.content(there)
    assert drift.changed(drift.content(body), found) == differs
    if not differs:
        return
    now = merged(there, drift.correction(body, found))
    for part in ("labels", "annotations", "ownerReferences"):
        assert now["metadata"][part] == keeps.get(part, body["metadata"][part])
    assert drift.changed(drift.content(body), drift.content(now)) == []
