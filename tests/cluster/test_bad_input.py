"""What passes the schema and cannot run all the same, and what lies when it speaks."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kinase.api._base import MAX_NAME
from kinase.api.status import MAX_ARCHITECTURE
from kinase.api.trial import Outcome
from tests.cluster import system
from tests.cluster.beside import beside
from tests.cluster.helpers import COLLECTED, pod, wait_for
from tests.cluster.lab.processes import free_ports
from tests.cluster.lab.rest import ApiError
from tests.cluster.system import Scene

TINY: dict[str, Any] = {
    "budget": {"trials": 2, "parallelism": 2},
    "control": {"share": 0},
    "finalists": {"count": 1},
}


# -- members and data ----------------------------------------------------------------------


@beside
def test_members_that_no_package_has_are_named_and_may_be_corrected(
    scene: Scene, folder: Path
) -> None:
    custom = {"type": "Custom", "custom": {"name": "mine"}}
    good = scene.create("good", **TINY, suspend=True)["spec"]
    for field in ("space", "strategy"):
        scene.create(field, **{**TINY, field: custom})
    for field in ("space", "strategy"):
        said = scene.until("Progressing", "False", "InvalidSpec", field)
        assert said.startswith(f"spec.{field}.custom.name: 'mine' is not registered")
        assert "known: " in said
        assert "startTime" not in scene.get(field)["status"]
        right = {**good[field], "custom": None}
        scene.change(field, **{field: right})
    for field in ("space", "strategy"):
        scene.finished(field)
        assert len(scene.events_of("InvalidSpec", name=field)) == 1


@beside
def test_a_data_set_that_the_trainer_has_not_is_told_in_its_own_words(
    scene: Scene, folder: Path
) -> None:
    scene.create(**TINY, image=system.TRAINER, task={"dataset": "nothing"})
    said = scene.until("Progressing", "False", "TaskUnavailable")
    assert "'nothing'" in said
    assert "digits" in said, "what there is"
    status = scene.until_trial("task", "BadInput")
    assert (status["phase"], status["exitCode"]) == ("Failed", 2)
    # before the start everything may change
    scene.change(task={"dataset": "ok"}, trialTemplate={"image": system.FAKE}, seed=7)
    scene.finished()
    assert json.loads(scene.store().get("experiment.json"))["spec"]["seed"] == 7


# -- the store -----------------------------------------------------------------------------


@beside
def test_a_place_that_pods_do_not_share_is_refused(scene: Scene, folder: Path) -> None:
    scene.create(**TINY, storage={"uri": "file:///tmp/runs"})
    said = scene.until("Ready", "False", "Forbidden")
    assert said.startswith("spec.storage.uri 'file:///tmp/runs'")
    assert "s3://" in said
    assert not scene.all("jobs")


@beside
def test_credentials_that_are_wrong_are_told_and_may_be_put_right(
    scene: Scene, folder: Path
) -> None:
    path = scene.path("secrets", scene.bucket.secret)
    right = scene.cluster.api.get(path)["data"]["AWS_SECRET_ACCESS_KEY"]
    wrong = base64.b64encode(b"not-the-key-at-all").decode()
    scene.cluster.api.patch(path, {"data": {"AWS_SECRET_ACCESS_KEY": wrong}})
    scene.create(**TINY)
    said = scene.until("Progressing", "False", "StoreRefused")
    assert "SignatureDoesNotMatch" in said
    assert "not-the-key" not in json.dumps(scene.get())
    scene.cluster.api.patch(path, {"data": {"AWS_SECRET_ACCESS_KEY": right}})
    scene.finished()


@beside
def test_an_endpoint_where_nobody_answers_is_told_and_may_be_corrected(
    scene: Scene, folder: Path
) -> None:
    storage = system.experiment(scene.namespace, scene.bucket)["spec"]["storage"]
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    scene.create(**TINY, storage={**storage, "endpoint": nobody})
    said = scene.until("Progressing", "False", "StoreUnavailable")
    assert nobody in said
    scene.change(storage={"endpoint": scene.bucket.endpoint})
    scene.finished()


# -- what trials say -----------------------------------------------------------------------

POSTS = """
import json, os, urllib.error, urllib.request
url, tokens = os.environ["URL"], json.loads(os.environ["TOKENS"])
def post(number, token, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    place = url.replace("NUMBER", str(number))
    try:
        with urllib.request.urlopen(urllib.request.Request(place, data, headers), timeout=10) as r:
            return r.status
    except urllib.error.HTTPError as error:
        return error.code
point = {"epoch": 1, "metrics": {"val_accuracy": 99.0}, "deviceSeconds": 1.0}
said = {
    "own": post(0, tokens[0], point),
    "other": post(0, tokens[1], point),
    "none": post(0, "", point),
    "absent": post(4711, tokens[0], point),
    "garbage": post(0, tokens[0], b"{"),
    "large": post(0, tokens[0], {**point, "metrics": {"x" * 70000: 1.0}}),
}
said["flood"] = sorted({post(0, tokens[0], point) for _ in range(400)})
said["beside it"] = post(1, tokens[1], point)
print(json.dumps(said), file=open("/dev/termination-log", "w"))
"""


def test_a_trial_speaks_for_itself_alone_and_does_not_drown_the_others(
    scene: Scene, alone: None
) -> None:
    for number in (0, 1):
        scene.hold(number)
    scene.create(**TINY)
    for number in (0, 1):
        scene.begins(number)
    tokens = [scene.trial(number)["spec"]["token"] for number in (0, 1)]
    assert tokens[0] != tokens[1]
    host = f"toy-controller.{scene.namespace}.svc"
    env = [
        {"name": "URL", "value": f"http://{host}:8080/v1/trials/NUMBER/points"},
        {"name": "TOKENS", "value": json.dumps(tokens)},
        {"name": "SCRIPT", "value": POSTS},
    ]
    liar = pod("liar", 'exec python -c "$SCRIPT"', env=env)
    scene.cluster.api.post(scene.path("pods"), liar)

    def ended() -> Any:
        [status] = scene.get("liar", "pods")["status"]["containerStatuses"]
        return status["state"].get("terminated")

    said = json.loads(wait_for(ended, 60, message="all is posted")["message"])
    scene.let()
    flood = said.pop("flood")
    assert said == {
        "own": 200,
        "other": 401,
        "none": 401,
        "absent": 401,
        "garbage": 400,
        "large": 413,
        "beside it": 200,
    }
    assert flood == [200, 429]
    status = scene.finished()["status"]
    assert status["best"]["value"] < 1, "a post is a hint: what counts is in the store"
    assert status["trials"]["succeeded"] == 2


@beside
def test_a_trainer_that_talks_much_is_cut_short(scene: Scene, folder: Path) -> None:
    chatter = "import sys; sys.exit('“much” ' * 3000)"
    scene.create(
        **TINY, trialTemplate={"image": "lab/python", "command": ["python", "-c", chatter]}
    )
    said = scene.until("Progressing", "False", "TaskUnavailable")
    assert "“much”" in said
    assert len(said.encode()) <= 1024
    assert len(scene.trial("task")["status"]["message"].encode()) <= 1024


@beside
def test_a_trial_that_cannot_be_is_told_so_and_never_tried_again(
    scene: Scene, folder: Path
) -> None:
    scene.create(**TINY, task={"dataset": "infeasible"})
    status = scene.finished()["status"]
    assert (status["trials"]["infeasible"], status["trials"]["succeeded"]) == (1, 1)
    [told] = [e for e in scene.journal("toy", "told") if e.outcome is Outcome.INFEASIBLE]
    assert told.trial == 1
    assert scene.trial(1)["spec"]["attempt"] == 1


# -- sizes ---------------------------------------------------------------------------------


@beside
def test_an_architecture_too_large_for_the_status_is_in_the_store(
    scene: Scene, folder: Path
) -> None:
    chain = {"minDepth": 48, "maxDepth": 48, "widths": [4, 8], "strides": [1]}
    scene.create(**TINY, space={"type": "Chain", "chain": chain})
    status = scene.finished()["status"]
    for trial in (status["best"], status["winner"]):
        assert "architecture" not in trial
        assert trial["metrics"]["params"] > 0
    asked = {entry.trial: entry for entry in scene.journal("toy", "asked")}
    architecture = asked[status["winner"]["trial"]].architecture
    assert len(json.dumps(architecture, separators=(",", ":"))) > MAX_ARCHITECTURE
    assert len(architecture["layers"]) == 48


@beside
def test_a_name_of_the_greatest_length_leaves_room_for_attempts_and_tests(
    scene: Scene, folder: Path
) -> None:
    name = "n" * MAX_NAME
    scene.create(name, **TINY, task={"dataset": "exit"})
    scene.finished(name)
    jobs = [job["metadata"]["name"] for job in scene.all("jobs")]
    assert f"{name}-00001-2" in jobs, "a second attempt"
    assert max(map(len, jobs)) < 63
    assert len({job for job in jobs if "controller" not in job}) == 2 + 1 + 1 + 1 + 1
    with pytest.raises(ApiError, match=r"metadata\.name"):
        scene.create(f"{name}x")


# -- neighbours ----------------------------------------------------------------------------


@beside
def test_experiments_of_one_namespace_do_not_disturb_each_other(scene: Scene, folder: Path) -> None:
    """Not even where the name of one is the beginning of the other's, or that of a trial."""
    names = ("toy", "toy-task", "toy-00000", "toy-controller")
    spec: dict[str, Any] = {
        "budget": {"trials": 4, "parallelism": 2},
        "strategy": {"type": "Random"},
    }
    for name in names:
        scene.create(name, **spec)
    found = [scene.finished(name) for name in names]
    assert len({item["status"]["winner"]["value"] for item in found}) == 1, "the same search"
    assert len({item["status"]["model"] for item in found}) == len(names)
    owners = {item["metadata"]["uid"]: item["metadata"]["name"] for item in found}
    for trial in system.trials(scene.cluster, scene.namespace):
        [owner] = trial["metadata"]["ownerReferences"]
        assert owners[owner["uid"]] == trial["spec"]["experiment"]
        assert trial["status"]["phase"] == "Succeeded"
        assert trial["spec"]["attempt"] == 1
    scene.cluster.api.delete(scene.path(name="toy"))

    def gone() -> bool:
        return {t["spec"]["experiment"] for t in system.trials(scene.cluster, scene.namespace)} == {
            *names[1:]
        }

    wait_for(gone, COLLECTED, message="what was the first one's is gone, and no more")
