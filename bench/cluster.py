"""Kinase against a real API server on this machine.

    python -m bench.cluster search --trials 400 --parallelism 4      # refill time, writes a trial
    python -m bench.cluster search --trials 5000 --parallelism 256   # trials a second
    python -m bench.cluster idle --experiments 1000                  # many suspended ones
    python -m bench.cluster restart --trials 5000                    # operator restarted among many
    python -m bench.cluster digits --trials 30 --compare             # the example, real pods

etcd, kube-apiserver, kube-controller-manager, kube-scheduler, the S3 server and Kinase share the
machine. Trials end at once (bench/instant.py). Writes are counted by the API server's own
`apiserver_request_total`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml

from bench.instant import NAME
from kinase.api import NASExperiment
from kinase.experiment.local import open_run
from kinase.experiment.local import run as run_local
from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import ControlPlane
from tests.cluster.lab.node import Node
from tests.cluster.lab.processes import Child
from tests.cluster.lab.s3 import VersityGW

SPACE = "bench"


@dataclass(frozen=True)
class Bucket:
    """Where experiments keep what they make."""

    name: str
    endpoint: str
    secret: str = "nas-s3"


@dataclass
class Lab:
    """What a benchmark works with."""

    folder: Path
    cluster: ControlPlane
    node: Node
    operator: system.Operator
    bucket: Bucket
    instant: Path | None
    pids: dict[str, int]


@contextlib.contextmanager
def lab(*, instant: float | None = 0.0, holds: float = 0.0, **environment: str) -> Iterator[Lab]:
    """Everything that a benchmark needs, in a folder that goes afterwards. Trials that end at once
    take `instant` seconds a stretch, and wait for `holds` seconds at a rest."""
    with (
        tempfile.TemporaryDirectory(prefix="kinase-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        cluster = ControlPlane(folder / "plane")
        cluster.start()
        stack.callback(cluster.stop)
        s3 = VersityGW(folder / "s3")
        s3.start()
        stack.callback(s3.stop)
        node = Node(cluster, folder / "node", back_off=1)
        node.start()
        stack.callback(node.stop)
        system.put_images(node)
        system.install_crds(cluster)
        system.install_rights(cluster)
        operator = system.Operator(cluster, folder / "operator", **environment).start()
        stack.callback(operator.stop)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        cluster.api.post("/api/v1/namespaces", {"metadata": {"name": SPACE, "labels": labels}})
        keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
        client = boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=SPACE)
        cluster.api.post(
            f"/api/v1/namespaces/{SPACE}/secrets",
            {
                "metadata": {"name": "nas-s3"},
                "stringData": {key.upper(): value for key, value in keys.items()},
            },
        )
        log = None
        pids = {name: child.process.pid for name, child in cluster.children.items()}
        pids |= {"S3 server": s3.pid, "operator": operator.pid}
        if instant is not None:
            log = folder / "instant.log"
            argv = [sys.executable, "-m", "bench.instant", "--data", str(s3.folder / "data")]
            argv += ["--log", str(log), "--seconds", str(instant), "--holds", str(holds)]
            source = str(system.REPOSITORY)
            environment = {"KUBECONFIG": str(cluster.kubeconfig), "PYTHONPATH": source}
            child = Child(argv, folder / "instant.out", environment)
            stack.callback(child.stop)
            pids["the end of trials (bench/instant.py)"] = child.process.pid
        bucket = Bucket(SPACE, s3.endpoint)
        yield Lab(folder, cluster, node, operator, bucket, log, pids)


def writes(cluster: ControlPlane) -> Counter[str]:
    """Requests so far that wrote an object: verb, resource and subresource."""
    found: Counter[str] = Counter()
    for line in cluster.api.get("/metrics").splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if labels["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"):
            resource = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            found[f"{labels['verb']} {resource}"] += int(float(line.rsplit(" ", 1)[1]))
    return found


def seconds_of(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int, key: str = "VmHWM") -> float:
    """Memory of a process in MB: VmHWM is the most so far, VmRSS that of now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def controller(node: Node) -> int:
    """Process of the experiment's controller, or 0."""
    pods = [p for p in node.pods() if "controller" in p["name"] and p["pid"]]
    return int(pods[-1]["pid"]) if pods else 0


def spread(values: list[float]) -> dict[str, float]:
    """Median and tail, in milliseconds."""
    ordered = sorted(values)
    return {
        "median ms": round(1000 * statistics.median(ordered), 1),
        "p90 ms": round(1000 * ordered[int(0.9 * len(ordered))], 1),
        "n": len(ordered),
    }


def refills(log: Path) -> dict[str, Any]:
    """From the end of a trial to the creation of the next, by the order of both."""
    ends: list[float] = []
    found: dict[str, list[float]] = {"trial": [], "job": []}
    waiting: dict[str, list[float]] = {"trial": [], "job": []}
    for line in log.read_text().splitlines():
        moment, what, name = line.split(" ")[:3]
        if "-task" in name or "-test" in name:
            continue
        if what == "end":
            ends.append(float(moment))
            for queue in waiting.values():
                queue.append(float(moment))
        elif what in found and waiting[what]:
            found[what].append(float(moment) - waiting[what].pop(0))
    return {f"end to next {what}": spread(values) for what, values in found.items() if values}


def manifest(options: argparse.Namespace, bucket: Bucket, **spec: Any) -> dict[str, Any]:
    return system.experiment(
        SPACE,
        bucket,
        space={"type": "Chain", "chain": {"minDepth": 4, "maxDepth": 10, "strides": [1]}},
        strategy={"type": "Random"},
        budget={"trials": options.trials, "parallelism": options.parallelism},
        trialTemplate={"managedBy": NAME, "image": system.FAKE},
        **spec,
    )


def search(options: argparse.Namespace) -> dict[str, Any]:
    """One experiment with trials that end at once."""
    with lab(instant=options.seconds) as it:
        cluster, before = it.cluster, writes(it.cluster)
        cpu = {name: seconds_of(pid) for name, pid in it.pids.items()}
        system.create(cluster, manifest(options, it.bucket))
        began = time.time()
        peak = pid = 0
        own = 0.0
        largest = 0
        while True:
            item = system.get(cluster, SPACE)
            largest = max(largest, len(json.dumps(item)))
            pid = controller(it.node) or pid
            with contextlib.suppress(OSError):
                peak = max(peak, int(memory_of(pid)))
                own = seconds_of(pid)
            if system.condition(item, "Succeeded")["status"] == "True":
                break
            if time.time() - began > options.limit:
                print(it.operator.log.read_text()[-3000:], file=sys.stderr)
                for pod in it.node.pods():
                    if "controller" in pod["name"]:
                        print(Path(pod["log"]).read_text()[-3000:], file=sys.stderr)
                raise SystemExit(f"not finished: {json.dumps(item['status'])[:2000]}")
            time.sleep(0.5)
        assert it.instant is not None
        lines = [line.split(" ") for line in it.instant.read_text().splitlines()]
        ends = [float(t) for t, what, name, *_ in lines if what == "end" and "-task" not in name]
        first = next(float(t) for t, what, name, *_ in lines if what == "trial" and "-0" in name)
        total = item["status"]["trials"]["total"]
        made = writes(cluster) - before
        count = len(ends)
        return {
            "trials": total,
            "parallelism": options.parallelism,
            "experiment to first trial s": round(first - began, 2),
            "trials/s": round((len(ends) - 1) / (ends[-1] - ends[0]), 1),
            "trials/s of the middle half": round(
                (len(ends) // 2) / (ends[3 * len(ends) // 4] - ends[len(ends) // 4]), 1
            ),
            **refills(it.instant),
            "writes a trial": {
                k: round(v / count, 2) for k, v in made.most_common() if v > count / 50
            },
            "writes a trial, all": round(sum(made.values()) / count, 2),
            "operator MB": round(memory_of(it.operator.pid)),
            "processor ms a trial": {
                "controller": round(1000 * own / count, 1),
                **{
                    n: round(1000 * (seconds_of(p) - cpu[n]) / count, 1) for n, p in it.pids.items()
                },
            },
            "controller MB": peak,
            "CR bytes, at most": largest,
        }


def idle(options: argparse.Namespace) -> dict[str, Any]:
    """Many suspended experiments."""
    with lab(instant=None) as it:
        cluster = it.cluster
        options.trials, options.parallelism = 8, 2
        body = manifest(options, it.bucket, suspend=True)
        began = time.time()
        for number in range(options.experiments):
            body["metadata"]["name"] = f"idle-{number:04d}"
            system.create(cluster, body)
        made = time.time()

        def accepted() -> bool:
            items = cluster.api.get(system.EXPERIMENTS.format(SPACE))["items"]
            return all(system.condition(i, "Ready")["status"] == "True" for i in items)

        wait_for(accepted, 120, message="all accepted", every=0.3)
        done = time.time()
        time.sleep(5)
        cpu, moment = seconds_of(it.operator.pid), time.time()
        time.sleep(options.watch)
        used = (seconds_of(it.operator.pid) - cpu) / (time.time() - moment)
        return {
            "experiments": options.experiments,
            "made in s": round(made - began, 1),
            "accepted, seconds after the last was made": round(done - made, 1),
            "operator, share of a core while idle": round(used, 4),
            "operator MB": round(memory_of(it.operator.pid)),
        }


def restart(options: argparse.Namespace) -> dict[str, Any]:
    """The operator is restarted while thousands of trials are there."""
    with lab() as it:
        cluster = it.cluster
        system.create(cluster, manifest(options, it.bucket))
        system.finished(cluster, SPACE, timeout=options.limit)
        it.operator.kill()
        began = time.time()
        body = system.experiment(SPACE, it.bucket, name="late")
        system.create(cluster, body)
        it.operator.start(wait=False)
        jobs = f"/apis/batch/v1/namespaces/{SPACE}/jobs/late-controller"
        wait_for(lambda: cluster.api.get(jobs), 120, message="the controller's Job", every=0.02)
        return {
            "trials": len(system.trials(cluster, SPACE)),
            "restart to first action s": round(time.time() - began, 2),
            "operator MB": round(memory_of(it.operator.pid)),
        }


def digits(options: argparse.Namespace) -> dict[str, Any]:
    """`examples/digits.yaml` with the real trainer; with --compare, also run locally."""
    document = yaml.safe_load((system.REPOSITORY / "examples/digits.yaml").read_text())
    spec = document["spec"]
    spec["budget"] = {"trials": options.trials, "parallelism": options.parallelism}
    if options.compare:
        spec["finalists"] = {"count": 2, "epochs": 20}
    with lab(instant=None) as it:
        storage = system.experiment(SPACE, it.bucket)["spec"]["storage"]
        body = system.experiment(
            SPACE,
            it.bucket,
            "digits",
            **{**spec, "storage": storage, "trialTemplate": {"image": system.TRAINER}},
        )
        system.create(it.cluster, body)
        began = time.time()
        wait_for(lambda: numbered(it.cluster), 120, message="the first trial", every=0.02)
        first = time.time() - began
        item = system.finished(it.cluster, SPACE, "digits", options.limit)
        status = item["status"]
        place = status["model"].removeprefix(f"s3://{SPACE}/").removesuffix("/final")
        there = {
            name: (it.folder / "s3/data" / SPACE / place / name).stat().st_size
            for name in ("report.html", "final/weights.safetensors", "final/model.json")
        }
        found: dict[str, Any] = {
            "trials": status["trials"],
            "seconds": round(time.time() - began),
            "experiment to first trial s": round(first, 2),
            "winner": {k: v for k, v in status["winner"].items() if k != "architecture"},
            "test": status["test"],
            "bytes in S3": there,
            "CR bytes": len(json.dumps(item)),
        }
        if options.compare:
            os.environ |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
            cluster = open_run(NASExperiment.model_validate(item))
            local = {**document, "spec": {**spec, "storage": {"uri": f"file://{it.folder}/local"}}}
            mine = run_local(NASExperiment.model_validate(local))
            pairs = list(
                zip(cluster.state.trials.values(), mine.state.trials.values(), strict=True)
            )
            found["architectures that differ from the local run's"] = sum(
                a.architecture != b.architecture for a, b in pairs
            )
            found["metrics that differ"] = sum(a.metrics != b.metrics for a, b in pairs)
        return found


def numbered(cluster: ControlPlane) -> list[dict[str, Any]]:
    """The trials that there are, the question about the task apart."""
    return [t for t in system.trials(cluster, SPACE) if t["spec"]["kind"] != "Task"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    each = commands.add_parser("search")
    each.add_argument("--trials", type=int, default=400)
    each.add_argument("--parallelism", type=int, default=4)
    each.add_argument("--seconds", type=float, default=0.0)
    each.add_argument("--limit", type=float, default=1800)
    each.set_defaults(run=search)
    each = commands.add_parser("idle")
    each.add_argument("--experiments", type=int, default=1000)
    each.add_argument("--watch", type=float, default=60)
    each.set_defaults(run=idle)
    each = commands.add_parser("restart")
    each.add_argument("--trials", type=int, default=5000)
    each.add_argument("--parallelism", type=int, default=256)
    each.add_argument("--limit", type=float, default=1800)
    each.set_defaults(run=restart)
    each = commands.add_parser("digits")
    each.add_argument("--trials", type=int, default=300)
    each.add_argument("--parallelism", type=int, default=2)
    each.add_argument("--compare", action="store_true", help="at parallelism 1, with a local run")
    each.add_argument("--limit", type=float, default=3000)
    each.set_defaults(run=digits)
    options = parser.parse_args()
    if getattr(options, "compare", False):
        options.parallelism = 1
    print(json.dumps(options.run(options), indent=2))


if __name__ == "__main__":
    main()
