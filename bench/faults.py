"""What users see of two faults on a cluster, and how long it takes.

    python -m bench.faults large --megabytes 400    # a result of a trial that nobody should read
    python -m bench.faults drift                    # somebody edits what an experiment needs

Both run one small experiment against a real API server and a real S3 server; pods are processes
of a stand-in node. It enforces no memory limits, so `large` looks at the controller's resident
memory every 10 ms and has the node end it, as the kernel does, where it is above the chart's limit
of 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from typing import Any

import boto3

from bench.cluster import SPACE, Lab, lab
from tests.cluster import system
from tests.cluster.helpers import wait_for

LIMIT = 1024.0
"""MiB of the controller: `controller.resources.limits.memory` of the chart."""
FIELDS = ("spec", "rules", "subjects", "automountServiceAccountToken")
SMALL: dict[str, Any] = {
    "budget": {"trials": 2, "parallelism": 1},
    "control": {"share": 0},
    "finalists": {"count": 1},
}


def start(it: Lab, **spec: Any) -> str:
    """Make the experiment; its UID."""
    body = system.create(it.cluster, system.experiment(SPACE, it.bucket, **{**SMALL, **spec}))
    return str(body["metadata"]["uid"])


class Watch:
    """The kernel's part, and what is to be seen meanwhile."""

    def __init__(self, it: Lab, limit: float) -> None:
        self._limit = limit
        self._it, self._began, self._over = it, time.monotonic(), threading.Event()
        self.kills, self.most = 0, 0.0
        self.said: dict[str, float] = {}
        self._threads = [threading.Thread(target=w, daemon=True) for w in (self._kill, self._read)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _kill(self) -> None:
        while not self._over.wait(0.2):
            pods = [p for p in self._it.node.pods() if "-controller-" in p["name"] and p["pid"]]
            while pods and not self._over.wait(0.01):
                taken = resident(pods[0]["pid"])
                self.most = max(self.most, taken or 0.0)
                if taken is None:
                    break
                if taken > self._limit:
                    self._it.node.oom(SPACE, pods[0]["name"])
                    self.kills += 1
                    break

    def _read(self) -> None:
        while not self._over.wait(0.2):
            item = system.get(self._it.cluster, SPACE)
            for condition in (item.get("status") or {}).get("conditions") or ():
                if condition["type"] in ("Ready", "Progressing", "Succeeded"):
                    text = "{type}={status} {reason}: {message}".format(**condition)
                    self.said.setdefault(text, round(time.monotonic() - self._began, 1))


def resident(pid: int) -> float | None:
    """MiB of a process and its children; None if it is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            below = file.read().split()
        with open(f"/proc/{pid}/statm") as file:
            own = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return None
    return own + sum(resident(int(child)) or 0.0 for child in below)


def large(megabytes: int, patience: float, limit: float) -> dict[str, Any]:
    """A trial leaves a result of so many MB."""
    with lab(instant=None) as it:
        uid = start(it, task={"dataset": "silent"}, suspend=True)
        result = {"version": 1, "trial": 1, "attempt": 1, "outcome": "Succeeded"}
        body = json.dumps({**result, "facts": {"loss": [0.5] * (megabytes * 10**6 // 5)}}).encode()
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
        client = boto3.client(
            "s3", endpoint_url=it.bucket.endpoint, region_name="us-east-1", **keys
        )
        key = f"nas/{SPACE}/{uid}/trials/00001/result.json"
        client.put_object(Bucket=SPACE, Key=key, Body=body)
        path = f"{system.EXPERIMENTS.format(SPACE)}/toy"
        it.cluster.api.patch(path, {"spec": {"suspend": False}})
        watch = Watch(it, limit)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            item = system.get(it.cluster, SPACE)
            if system.condition(item, "Succeeded")["status"] == "True":
                break
            time.sleep(0.2)
        watch.stop()
        events = it.cluster.api.get(f"/api/v1/namespaces/{SPACE}/events")["items"]
        journal = client.list_objects_v2(Bucket=SPACE, Prefix=f"nas/{SPACE}/{uid}/journal/")
        told = [
            line["message"]
            for entry in journal.get("Contents", ())
            for text in client.get_object(Bucket=SPACE, Key=entry["Key"])["Body"]
            .read()
            .split(b"\n")
            if (line := json.loads(text)).get("type") == "attempt"
        ]
        return {
            "kills for memory": watch.kills,
            "most MiB of the controller": round(watch.most),
            "conditions, by the second when first seen": watch.said,
            "events": sorted(
                {
                    f"{e['reason']}: {e['message']}"
                    for e in events
                    if e["involvedObject"]["kind"] == "NASExperiment"
                }
            ),
            "said of the attempt": told,
        }


def drift(patience: float) -> dict[str, Any]:
    """Somebody edits each child of an experiment, all at once."""
    more = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
    rbac, net = "/apis/rbac.authorization.k8s.io/v1", "/apis/networking.k8s.io/v1"
    edits: dict[str, tuple[str, dict[str, Any]]] = {
        "Service: its port": (
            f"/api/v1/namespaces/{SPACE}/services/toy-controller",
            {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 81}]}},
        ),
        "Role: secrets": (f"{rbac}/namespaces/{SPACE}/roles/toy-controller", {"rules": [more]}),
        "RoleBinding: another subject": (
            f"{rbac}/namespaces/{SPACE}/rolebindings/toy-controller",
            {"subjects": [{"kind": "User", "name": "eve"}]},
        ),
        "ServiceAccount: its token": (
            f"/api/v1/namespaces/{SPACE}/serviceaccounts/toy-controller",
            {"automountServiceAccountToken": True},
        ),
        "NetworkPolicy: egress": (
            f"{net}/namespaces/{SPACE}/networkpolicies/toy-trials",
            {"spec": {"egress": [{}]}},
        ),
    }
    with lab(instant=None) as it:
        slow = {"image": system.FAKE, "env": [{"name": "FAKE_EPOCH_SECONDS", "value": "60"}]}
        start(it, trialTemplate=slow)

        def running() -> bool:
            return any("-00000-1" in p["name"] and p["pid"] for p in it.node.pods())

        wait_for(running, 120, message="a trial")

        def stated(path: str) -> dict[str, Any]:
            item = it.cluster.api.get(path)
            return {name: item[name] for name in FIELDS if name in item}

        before = {what: stated(path) for what, (path, _) in edits.items()}
        began: dict[str, float] = {}
        took: dict[str, Any] = dict.fromkeys(edits, f"stands after {patience:g} s")
        for what, (path, edit) in edits.items():
            it.cluster.api.patch(path, edit)
            began[what] = time.monotonic()
        left = set(edits)
        while left and time.monotonic() < min(began.values()) + patience:
            for what in sorted(left):
                if stated(edits[what][0]) == before[what]:
                    took[what] = f"{time.monotonic() - began[what]:.2f} s"
                    left.discard(what)
            time.sleep(0.01)
        time.sleep(1)
        events = it.cluster.api.get(f"/api/v1/namespaces/{SPACE}/events")["items"]
        said = sorted(e["message"] for e in events if e["reason"] == "Corrected")
        return {"until it is as it was": took, "events": said}


def main() -> None:
    """Run one of them; prints what was seen as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("large", "drift"))
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--patience", type=float, default=80, help="seconds to wait for the end")
    parser.add_argument("--limit", type=float, default=LIMIT, help="MiB of the controller")
    given = parser.parse_args()
    found = (
        large(given.megabytes, given.patience, given.limit)
        if given.what == "large"
        else drift(given.patience)
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
