"""What users see of pods that wait, that have sidecars or that a node rejects, and for how long.

    python -m bench.pods cordon                          # the node takes nothing for 40 s
    python -m bench.pods sidecar --as lasting            # injected; also: ending, native (root)
    python -m bench.pods reject --why NodeAffinity       # by a real kubelet; also: OutOfcpu (root)
    python -m bench.pods reject --why UnexpectedAdmissionError    # by the stand-in node

`--of FOLDER` takes CRDs, operator, controller and trainer from another checkout, with its .venv.

The control plane and the S3 server are real. `cordon` and the last `reject` have the stand-in node
`standin`. The others have a real node too, `real`, with containerd and a kubelet; it is cordoned:
admission sends the search's trials there, past the scheduler, and nothing else. Such a trial is a
shell that trains nothing and cannot reach the S3 server; its result is put there for it. What the
trainer is asked about the task, and the finalist, are the stand-in node's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kinase.api import names
from tests.cluster import system
from tests.cluster.fixtures import a_bucket, a_namespace
from tests.cluster.helpers import wait_for
from tests.cluster.lab import oci
from tests.cluster.lab.control_plane import LOOPBACK, ControlPlane
from tests.cluster.lab.node import Node
from tests.cluster.lab.real_node import Network, RealNode
from tests.cluster.lab.s3 import VersityGW
from tests.cluster.system import Checkout, Scene

BUSYBOX = "localhost/kinase-lab/busybox:1"
HELD = 40
"""Seconds for which a cordoned node takes nothing: twice the time limit."""
ENDS = {
    0: ("exit 0", "exit 0"),
    1: ("exit 42, infeasible", "exit 42"),
    2: ("exit 75, unavailable, once", "case $HOSTNAME in *-1-?????) exit 75 ;; esac"),
    3: ("out of memory", "exec /busybox tail /dev/zero"),
    4: ("exit 3, a crash", "exit 3"),
}
"""What each trial's trainer does: in words, and as a shell's script."""
SIDECARS: dict[str, tuple[str, bool]] = {
    "lasting": ("1000", False),
    "ending": ("6", False),
    "native": ("1000", True),
}
"""Seconds that a sidecar lives, and whether it is a native one."""


@contextlib.contextmanager
def stage(of: Checkout, *, real: bool) -> Iterator[Scene]:
    """Kinase of a checkout, on the nodes, and a namespace with a bucket."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinase-bench-")))
        network, place, address = Network(), folder, LOOPBACK
        if real:
            stack.callback(network.stop)
            network.start()
            place, address = network.folder, network.address
        cluster = ControlPlane(place / "cluster", address=address, lost=40)
        stack.callback(cluster.stop)
        cluster.start()
        if real:
            box = Path(shutil.which("busybox") or "no busybox (Debian: busybox-static)")
            machine = RealNode(cluster, network, place / "real", "real")
            stack.callback(machine.stop)
            machine.start()
            machine.import_image(oci.archive(folder / "box.tar", BUSYBOX, box))
            cluster.kubectl("cordon", "real")
        node = Node(cluster, folder / "standin", "standin", back_off=1)
        stack.callback(node.stop)
        node.start()
        server = VersityGW(folder / "s3")
        stack.callback(server.stop)
        server.start()
        system.install_crds(cluster, of)
        system.install_rights(cluster)
        system.put_images(node, of)
        operator = system.Operator(cluster, folder / "operator", of)
        stack.callback(operator.stop)
        operator.start()
        namespace = stack.enter_context(a_namespace(cluster))
        yield Scene(cluster, node, operator, namespace, a_bucket(cluster, namespace, server))


class Watch:
    """When the trials of a search first had each phase, reason and attempt."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.began, self.said = scene, time.monotonic(), dict[str, float]()
        self.wanted: dict[tuple[str, int], Callable[[], None]] = {}
        """What is to be done once a trial and an attempt of it are wanted."""

    def until(self, seconds: float) -> bool:
        """Look until the search is over, or for so many seconds; whether it is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            item = self.scene.get()
            over = [
                c for c in ("Succeeded", "Failed") if system.condition(item, c)["status"] == "True"
            ]
            passed = time.monotonic() - self.began
            for trial in system.trials(self.scene.cluster, self.scene.namespace):
                name, status = trial["metadata"]["name"], trial.get("status", {})
                if todo := self.wanted.pop((name, trial["spec"].get("attempt", 1)), None):
                    todo()
                words = [name, f"attempt {status.get('attempt', '-')}:"]
                words += [str(status.get("phase") or "made"), str(status.get("reason") or "")]
                if status.get("exitCode") is not None:
                    words.append(f"exit code {status['exitCode']}")
                self.said.setdefault(" ".join(words), passed)
            if over:
                print(f"{over[0]} after {passed:.0f} s")
                return True
            time.sleep(0.1)
        print(f"not over after {time.monotonic() - self.began:.0f} s")
        return False

    def tell(self, most: int = 40) -> None:
        """Print what was seen, and what there is to see now."""
        lines = [f"{passed:6.1f} s  {words}" for words, passed in self.said.items()]
        print("\n".join(lines[:most]))
        if len(lines) > most:
            print(f"          and {len(lines) - most} more like these, the last: {lines[-1]}")
        look(self.scene)


def look(scene: Scene) -> None:
    """Print what `kubectl` shows a user: columns, conditions, messages of trials, Events."""
    print(scene.cluster.kubectl("get", "nast,nasx", "-n", scene.namespace))
    for condition in scene.get()["status"].get("conditions", ()):
        print("condition {type}={status} {reason}: {message}".format(**condition))
    for trial in system.trials(scene.cluster, scene.namespace):
        status = trial.get("status", {})
        if status.get("message") and status.get("phase") not in ("Succeeded", "Paused"):
            print(f"message of {trial['metadata']['name']}: {status['message']}")
    told: Counter[str] = Counter()
    for event in scene.cluster.api.get(scene.path("events"))["items"]:
        about = event["involvedObject"]
        if about["kind"] in ("NASExperiment", "NASTrial"):
            words = f"{event['type']} {event['reason']} {about['name']}: {event['message']}"
            told[words] += event.get("count") or 1
    for words, count in told.items():
        print(f"Event x{count} {words}")
    jobs = scene.all("jobs", **{names.COMPONENT: "trial"})
    print(f"Jobs of trials: {len(jobs)}")


def cordon(of: Checkout, patience: float) -> None:
    """A search whose node is cordoned for longer than the trials' time limit."""
    with stage(of, real=False) as scene:
        env = [{"name": "FAKE_EPOCH_SECONDS", "value": "1"}]
        scene.create(trialTemplate={"image": system.FAKE, "timeLimit": "20s", "env": env})
        scene.begins(0)
        scene.cluster.kubectl("cordon", "standin")
        watch = Watch(scene)
        watch.until(HELD)
        watch.tell()
        scene.cluster.kubectl("uncordon", "standin")
        print("uncordoned")
        again = Watch(scene)
        again.until(patience)
        look(scene)
        print(json.dumps(scene.get()["status"].get("trials")))


def add(path: str, value: Any) -> str:
    """A patch of admission."""
    return f'JSONPatch{{op: "add", path: {json.dumps(path)}, value: {json.dumps(value)}}}'


@contextlib.contextmanager
def on_the_node(scene: Scene, trials: int, script: str, *patches: str) -> Iterator[None]:
    """Admission sends a number of trials of a search to the real node, with their own script."""
    to_it = [
        add("/spec/nodeName", "real"),
        add("/spec/containers/0/image", BUSYBOX),
        add("/spec/containers/0/command", ["/busybox", "sh", "-c", script]),
    ]
    which = [names.trial_name("toy", number) for number in range(trials)]
    patched = system.admission(
        scene.cluster, scene.namespace, [*to_it, *patches], names.JOB_TRIAL, which
    )
    with patched:
        yield


def put_result(scene: Scene, uid: str, trial: int, attempt: int) -> None:
    """What a trainer that exits with 0 would have left."""
    result = {
        "trial": trial,
        "attempt": attempt,
        "outcome": "Succeeded",
        "metrics": {"val_accuracy": 0.5, "val_loss": 1.0},
        "cost": {"epochs": 2, "samples": 2000, "deviceSeconds": 0.1},
        "curve": [{"epoch": 2, "metrics": {"val_accuracy": 0.5}, "deviceSeconds": 0.1}],
    }
    key = f"nas/{scene.namespace}/{uid}/trials/{trial:05d}/result.json"
    body = json.dumps(result).encode()
    scene.bucket.client.put_object(Bucket=scene.bucket.name, Key=key, Body=body)


def search(scene: Scene, trials: int, **spec: Any) -> dict[str, Any]:
    """A random search of that many trials, all at once, that waits to be resumed."""
    template = {"image": system.FAKE, **spec.pop("template", {})}
    return scene.create(
        strategy={"type": "Random"},
        budget={"trials": trials, "parallelism": trials},
        control={"share": 0},
        finalists={"count": 1},
        trialTemplate=template,
        suspend=True,
        **spec,
    )


def sidecar(of: Checkout, kind: str, patience: float) -> None:
    """Five trials, each with another end, with a sidecar."""
    seconds, native = SIDECARS[kind]
    cases = "\n".join(f"*-{number:05d}-*) {how} ;;" for number, (_, how) in ENDS.items())
    script = f"case $HOSTNAME in\n{cases}\nesac"
    other = system.sidecar(BUSYBOX, "/busybox", "sleep", seconds, native=native)
    with stage(of, real=True) as scene, on_the_node(scene, len(ENDS), script, other):
        limits = {"resources": {"limits": {"memory": "32Mi"}}}
        made = search(scene, len(ENDS), template={"gracePeriod": "1s", **limits})
        scene.change(suspend=False)
        watch = Watch(scene)
        watch.wanted = {
            (names.trial_name("toy", trial), attempt): partial(
                put_result, scene, made["metadata"]["uid"], trial, attempt
            )
            for trial, attempt in ((0, 1), (2, 2))
        }
        watch.until(patience)
        for number, (words, _) in ENDS.items():
            print(f"toy-{number:05d}: {words}")
        watch.tell()
        print(json.dumps(scene.get()["status"].get("trials")))
        print(scene.cluster.kubectl("get", "pods", "-n", scene.namespace, "-o", "wide"))


def reject(of: Checkout, why: str, patience: float) -> None:
    """A search of two trials whose node rejects their pods for a while."""
    unexpected = why == "UnexpectedAdmissionError"
    with stage(of, real=not unexpected) as scene:
        with contextlib.ExitStack() as rejects:
            if unexpected:
                slow = [{"name": "FAKE_EPOCH_SECONDS", "value": "2"}]
                search(scene, 2, template={"env": slow})
                scene.change(suspend=False)
                scene.begins(1)
                # what a kubelet says of a pod whose GPU has gone
                words = "Pod was rejected: Allocate failed due to no healthy devices present"
                scene.node.reject(scene.namespace, why, words)
                rejects.callback(scene.node.reject, scene.namespace)
                for pod in [p["metadata"]["name"] for p in scene.running()]:
                    body = {"metadata": {"name": pod}}
                    scene.cluster.api.post(scene.path("pods", f"{pod}/eviction"), body)
            else:
                asks = {
                    "NodeAffinity": ("/spec/nodeSelector", {"disk": "fast"}),
                    "OutOfcpu": ("/spec/containers/0/resources", {"requests": {"cpu": "999"}}),
                }
                rejects.enter_context(on_the_node(scene, 2, "exit 0", add(*asks[why])))
                search(scene, 2)
                scene.change(suspend=False)
                wait_for(lambda: scene.all("nastrials", **{names.TRIAL: "1"}), 60, every=0.1)
            watch = Watch(scene)
            watch.until(patience)
            watch.tell()
            listed = scene.cluster.kubectl("get", "pods", "-n", scene.namespace)
            print("\n".join(listed.splitlines()[:6]))
            most = max(
                t.get("status", {}).get("attempt", 0)
                for t in system.trials(scene.cluster, scene.namespace)
            )
            print(f"most attempts of a trial: {most}")
        print("the node takes pods again")
        again = Watch(scene)
        again.until(400)
        look(scene)
        print(json.dumps(scene.get()["status"].get("trials")))


def main() -> None:
    """Run one of them and print what there is to see."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("cordon", "sidecar", "reject"))
    parser.add_argument("--as", dest="kind", choices=tuple(SIDECARS), default="lasting")
    parser.add_argument(
        "--why",
        choices=("NodeAffinity", "OutOfcpu", "UnexpectedAdmissionError"),
        default="NodeAffinity",
    )
    parser.add_argument("--of", type=Path, help="another checkout, with its .venv")
    parser.add_argument("--patience", type=float, default=60, help="seconds to look")
    given = parser.parse_args()
    of = Checkout(given.of, given.of / ".venv/bin") if given.of else system.THIS
    if given.what == "cordon":
        cordon(of, given.patience)
    elif given.what == "sidecar":
        sidecar(of, given.kind, given.patience)
    else:
        reject(of, given.why, given.patience)


if __name__ == "__main__":
    main()
