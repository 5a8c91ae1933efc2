"""Ends trials at once, in place of the Job controller, scheduler, kubelet and trainer.

    python -m bench.instant --data FOLDER --log FILE

With `trialTemplate.managedBy: bench/instant` Kubernetes leaves the Jobs alone. Each that appears
gets a result (written straight into the S3 server's folder) and the condition `Complete`. What
remains is the work of the operator, the controller and the API server. With `--holds SECONDS` a
trial that rests waits so long for the controller's answer, as the trainer does, and continues in
its Job if it is to. The log has a line for each creation that was seen, each rest, each
continuation and each end, with the time of this machine's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kinase.api import names
from kinase_kube.client import JOB, POD, TRIAL, ApiError, Client
from kinase_kube.informer import Informer
from kinase_operator.views import Job

NAME = "bench/instant"
TASK = {
    "input": [1, 8, 8],
    "outputs": 10,
    "train": 1000,
    "validation": 200,
    "test": 200,
    "metrics": ["val_accuracy", "val_loss"],
    "device": "none",
    "supports": ["until"],
}


def answer(job: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where a job's answer goes, and the answer."""
    if job.get("describe"):
        return job["key"], TASK
    text = json.dumps([job["architecture"], job["fidelity"], job["seed"]], sort_keys=True)
    noise = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32
    epochs = job.get("until", job["fidelity"]["epochs"])
    metrics = {"val_accuracy": 0.5 + noise / 2, "val_loss": 1 - noise / 2}
    if job.get("test"):
        metrics = {"test_accuracy": metrics["val_accuracy"]}
    result = {
        "trial": job["trial"],
        "attempt": job["attempt"],
        "outcome": "Succeeded" if epochs == job["fidelity"]["epochs"] else "Stopped",
        "metrics": metrics,
        "cost": {"epochs": epochs, "samples": 1000 * epochs, "deviceSeconds": 0.1},
        "curve": [
            {"epoch": epoch, "metrics": metrics, "deviceSeconds": 0.1}
            for epoch in range(1, epochs + 1)
        ],
    }
    return f"{job['prefix']}/{'test' if job.get('test') else 'result'}.json", result


class Instant:
    """Ends every stretch of a Job that is this program's, after `seconds` each; one that rests
    waits for `holds` seconds."""

    def __init__(self, data: Path, log: Path, seconds: float, holds: float) -> None:
        self.data, self.seconds, self.holds = data, seconds, holds
        self.log = log.open("w", buffering=1)
        self.tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def run(self) -> None:
        self.client = await Client.connect()
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        seen: set[str] = set()

        def view(item: dict[str, Any]) -> Any:
            mine = item["spec"].get("managedBy") == NAME
            if mine and item["metadata"]["uid"] not in seen:
                seen.add(item["metadata"]["uid"])
                self.write("job", item["metadata"]["name"])
                task = asyncio.create_task(self.end(item))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            return Job.of(item)

        def trial(item: dict[str, Any]) -> Any:
            if item["metadata"]["uid"] not in seen:
                seen.add(item["metadata"]["uid"])
                self.write("trial", item["metadata"]["name"])
            return type(
                "View",
                (),
                {
                    "uid": item["metadata"]["uid"],
                    "version": int(item["metadata"]["resourceVersion"]),
                },
            )()

        jobs: Informer[Any] = Informer(self.client, JOB, view, lambda *_: None)
        trials: Informer[Any] = Informer(self.client, TRIAL, trial, lambda *_: None)
        await asyncio.gather(jobs.run(), trials.run())

    def write(self, what: str, name: str) -> None:
        self.log.write(f"{time.time():.6f} {what} {name}\n")

    async def end(self, item: dict[str, Any]) -> None:
        template = item["spec"]["template"]
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        job = json.loads(template["metadata"]["annotations"]["kinase.dev/job"])
        variables = {v["name"]: v.get("value") for v in template["spec"]["containers"][0]["env"]}
        until: int | None = None
        while True:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            self.leave(job, variables["KINASE_STORE"].removeprefix("s3://"))
            url = variables.get("KINASE_REPORT_URL")
            epochs = job.get("fidelity", {}).get("epochs")
            if url and self.holds and job.get("until", epochs) != epochs:
                self.write("rest", name)
                headers = {"Authorization": f"Bearer {variables['KINASE_REPORT_TOKEN']}"}
                until = await self.wait(namespace, url, headers, job)
            if until is None:
                break
            self.write("go", name)
            job, until = {**job, "until": until}, None
        await self.complete(namespace, name)

    def leave(self, job: dict[str, Any], place: str) -> None:
        """Leave the answer to a job."""
        key, document = answer(job)
        path = self.data / place / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        if job.get("keepWeights") and not job.get("test"):
            for name in ("weights.safetensors", "model.json"):
                (path.parent / name).write_text("{}")

    async def wait(
        self, namespace: str, url: str, headers: dict[str, str], job: dict[str, Any]
    ) -> int | None:
        """Ask, as often as the trainer does, up to which epoch a trial that rests continues."""
        deadline = time.monotonic() + self.holds
        _, document = answer(job)
        point = {**document["curve"][-1], "attempt": job["attempt"], "rests": True}
        while time.monotonic() < deadline:
            self.address = self.address or await self.controller(namespace)
            there = f"http://{self.address}:{names.PORT}{urlsplit(url).path}"
            try:
                async with self.http.post(there, json=point, headers=headers) as reply:
                    reply.raise_for_status()
                    said = await reply.json()
            except (aiohttp.ClientError, TimeoutError) as error:
                self.write("error", f"{url} {error}")
                return None
            if not said.get("wait"):
                return said["until"] if said.get("continue") else None
            await asyncio.sleep(0.1)
        return None

    async def controller(self, namespace: str) -> str:
        """The address of the pod of the controller."""
        pods, _ = await self.client.list(
            POD, namespace, labelSelector=f"{names.COMPONENT}=controller"
        )
        return next(str(pod["status"]["podIP"]) for pod in pods if pod["status"].get("podIP"))

    async def complete(self, namespace: str, name: str) -> None:
        """Have a Job be complete."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"status": "True", "lastProbeTime": now, "lastTransitionTime": now}
        status = {
            "startTime": now,
            "completionTime": now,
            "succeeded": 1,
            "conditions": [
                {"type": "SuccessCriteriaMet", "reason": "Instant", **condition},
                {"type": "Complete", "reason": "Instant", **condition},
            ],
        }
        while True:
            try:
                await self.client.merge(JOB, namespace, name, {"status": status}, "status")
                self.write("end", name)
                return
            except ApiError as error:
                self.write("error", f"{name} {error}")
                await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the S3 server's folder")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="time that a stretch takes")
    parser.add_argument("--holds", type=float, default=0.0, help="time that one waits at a rest")
    options = parser.parse_args()
    instant = Instant(options.data, options.log, options.seconds, options.holds)
    asyncio.run(instant.run())


if __name__ == "__main__":
    main()
