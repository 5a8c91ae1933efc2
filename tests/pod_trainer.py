"""A trainer without torch for tests and benchmarks of a cluster: trial contract v1 as a pod.

Of several workers the first does everything, and the others wait to be ended.

It trains nothing. Its metrics are a function of the job (`score`), so a search that was disturbed
can be compared with one that was not, and with one that looks `score` up. It needs nothing but
Python, so a pod starts in a twentieth of a second.

    KINASE_...          as docs/trial-contract.md has them
    FAKE_EPOCH_SECONDS  how long an epoch takes (default 0.02)
    FAKE_POST=1         post every point to KINASE_REPORT_URL
    FAKE_HOLD_SECONDS   how long it waits at a rest for whether to continue (default 0)
    FAKE_FAULT          what goes wrong, see below; or else the data set's name says so
    FAKE_FAULT_TRIAL    of which trial (default 1; `all`)
    LAB_NODE            FOLDER:PID of the stand-in node; while there is a file
                        FOLDER/held/NAMESPACE/JOB-EPOCH, that epoch does not end, but by a signal

A fault comes in the second epoch (or the only one) of the first attempt; with `-always` behind
it, of every attempt. It is one of FAULTS. The data set `absent` does not exist.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

FAULTS = (
    "exit",  # with 3
    "raise",  # a traceback
    "memory",  # more and more of it, until the kernel ends it
    "signal",  # SIGKILL
    "hang",  # for ever, deaf to SIGTERM
    "silent",  # with 0, and no result
    "infeasible",
    "bad",  # input
    "unavailable",  # store
)
INFO = {
    "input": [1, 8, 8],
    "outputs": 10,
    "train": 1000,
    "validation": 200,
    "test": 200,
    "metrics": ["val_accuracy", "val_loss"],
    "device": "cpu",
    "facts": {},
    "supports": ["until", "measure", "workers"],
}
Document = dict[str, Any]


def score(job: Document) -> dict[str, float]:
    """Metrics after the last epoch, from the architecture and, slightly, fidelity and seed.

    The order of an object's fields and the spelling of a number do not matter, because a
    Kubernetes API server keeps neither.
    """
    parts = [job["architecture"], job["fidelity"]["epochs"], job["seed"]]
    text = json.dumps(parts, sort_keys=True).encode()
    noise = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") / 2**32
    architecture = job["architecture"]
    depth = len(architecture.get("layers") or architecture.get("nodes") or ())
    return {"val_accuracy": 0.4 + 0.05 * depth + 0.05 * noise, "val_loss": 1.0 - 0.05 * depth}


def proxies(job: Document) -> dict[str, float]:
    """What is measured before the training: any name is known."""
    architecture = json.dumps(job["architecture"], sort_keys=True)
    return {
        f"proxy_{name}": hashlib.blake2b(f"{name}{architecture}".encode()).digest()[0] / 256
        for name in job.get("measure", ())
    }


class Bad(Exception):
    """An error for a person."""


class Gone(Exception):
    """The checkpoint holds too little."""


MOST = 4 << 20
"""Bytes of a result; what is larger is not valid."""


class Away(Exception):
    """The store is out of reach."""


class Files:
    """Objects below a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def get(self, key: str) -> bytes | None:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.rename(path)


class Bucket:
    """Objects of an S3 server, by path, with requests signed by Signature Version 4."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._region = os.environ.get("KINASE_STORE_REGION") or "us-east-1"
        endpoint = os.environ.get("KINASE_STORE_ENDPOINT")
        url = urlsplit(endpoint or f"https://s3.{self._region}.amazonaws.com")
        self._host = url.netloc
        self._connection = http.client.HTTPConnection(url.netloc, timeout=60)
        if url.scheme == "https":
            authorities = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
            self._connection = http.client.HTTPSConnection(
                url.netloc, timeout=60, context=authorities
            )
        self._base = f"/{bucket}/{prefix}/" if prefix else f"/{bucket}/"
        self._patience = float(os.environ.get("KINASE_STORE_PATIENCE") or 300)

    def get(self, key: str) -> bytes | None:
        status, data = self._ask("GET", key, b"")
        if status == 404 and b"NoSuchBucket" not in data:
            return None
        return self._checked(status, data)

    def put(self, key: str, data: bytes) -> None:
        self._checked(*self._ask("PUT", key, data))

    def _checked(self, status: int, data: bytes) -> bytes:
        if status != 200:
            raise Bad(f"the store answers {status}: {data[:500]!r}")
        return data

    def _ask(self, method: str, key: str, body: bytes) -> tuple[int, bytes]:
        deadline, pause = None, 0.1
        while True:
            try:
                path = quote(self._base + key)
                self._connection.request(method, path, body, self._sign(method, path, body))
                reply = self._connection.getresponse()
                status, data = reply.status, reply.read()
                if status < 500 and status != 429:
                    state.outage = False
                    return status, data
                why = f"answers {status}"
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                why = f"is out of reach: {error}"
            now = time.monotonic()
            deadline = now + self._patience if deadline is None else deadline
            if now >= deadline:
                raise Away(f"the store {why}")
            state.outage = True
            if state.asked:
                end(143, "SIGTERM, and the store is away")
            time.sleep(min(pause, deadline - now))
            pause = min(2 * pause, 5)

    def _sign(self, method: str, path: str, body: bytes) -> dict[str, str]:
        digest = hashlib.sha256(body).hexdigest()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": self._host, "x-amz-content-sha256": digest, "x-amz-date": moment}
        if token := os.environ.get("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = token
        names = ";".join(headers)
        lines = [method, path, "", *(f"{k}:{v}" for k, v in headers.items()), "", names, digest]
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        asked = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{asked}"
        key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        user = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={user}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


Store = Files | Bucket


def open_store() -> Store:
    uri = os.environ["KINASE_STORE"]
    scheme, _, rest = uri.partition("://")
    if scheme == "file" and rest:
        return Files(rest)
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise Bad(f"{uri!r} is not a URI of a store")
    return Bucket(bucket, prefix.rstrip("/"))


class State:
    """Where the process is, for the termination message and the signal's handler."""

    def __init__(self) -> None:
        self.asked = False
        self.outage = False
        self.training = False
        self.finishing = False
        self.until = 0.0
        """When the epoch under way ends."""
        self.value: float | None = None
        self.epochs: int | None = None


state = State()


def end(code: int, message: str = "") -> NoReturn:
    """End the process, with a termination message."""
    if path := os.environ.get("KINASE_TERMINATION_LOG"):
        said = {"value": state.value, "epochs": state.epochs, "message": message[:1000]}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(said))
    if message:
        os.write(2, f"{message}\n".encode(errors="replace"))
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


def terminate(*_: object) -> None:
    state.asked = True
    grace = float(os.environ.get("KINASE_GRACE_SECONDS") or "inf")
    late = not state.finishing and state.until - time.monotonic() > grace * 0.9
    if not state.training or state.outage or late:
        end(143, "SIGTERM")


def read(store: Store, key: str) -> Document:
    """A JSON object of the store; empty if there is none that is valid."""
    text = store.get(key) or b"{}"
    if len(text) > MOST:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write(store: Store, key: str, document: object) -> None:
    store.put(key, json.dumps(document).encode())


def ask(job: Document, point: Document, **more: bool) -> Any:
    """What the controller answers to a post of a point, through the proxy if there is one."""
    url, proxy = os.environ.get("KINASE_REPORT_URL", ""), os.environ.get("http_proxy")
    if urlsplit(url).hostname in os.environ.get("no_proxy", "").split(","):
        proxy = None
    connection = http.client.HTTPConnection(urlsplit(proxy or url).netloc, timeout=2)
    token = os.environ.get("KINASE_REPORT_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"attempt": job["attempt"], **point, **more})
    connection.request("POST", url if proxy else urlsplit(url).path, body, headers)
    answer = json.loads(connection.getresponse().read(65536))
    return answer if isinstance(answer, dict) else {}


def post(job: Document, point: Document) -> bool:
    """Post a point; False if the answer says to stop."""
    if os.environ.get("FAKE_POST") != "1" or not os.environ.get("KINASE_REPORT_URL"):
        return True
    try:
        return ask(job, point).get("continue") is not False
    except (OSError, ValueError, http.client.HTTPException):
        return True


def waits(job: Document, point: Document) -> int | None:
    """Wait at a rest for the epoch up to which the trial continues."""
    if not os.environ.get("KINASE_REPORT_URL"):
        return None
    deadline = time.monotonic() + float(os.environ.get("FAKE_HOLD_SECONDS") or 0)
    while time.monotonic() < deadline and not state.asked:
        try:
            answer = ask(job, point, rests=True)
        except (OSError, ValueError, http.client.HTTPException):
            return None
        if not answer.get("wait"):
            return answer["until"] if answer.get("continue") else None
        time.sleep(0.1)
    return None


def fault_of(job: Document) -> str:
    """What is to go wrong in this attempt."""
    what = os.environ.get("FAKE_FAULT") or job["task"].get("dataset", "")
    what, _, always = what.partition("-")
    whose = os.environ.get("FAKE_FAULT_TRIAL") or "1"
    mine = whose == "all" or int(whose) == job["trial"]
    return what if mine and what in FAULTS and (always or job["attempt"] == 1) else ""


def go_wrong(fault: str) -> None:
    match fault:
        case "exit":
            end(3, "the trainer exits")
        case "raise":
            raise RuntimeError("the trainer is broken")
        case "memory":
            held = []
            for _ in range(int(os.environ.get("FAKE_MEMORY_MIB") or 2048) // 16):
                held.append(b"x" * 2**24)
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)  # nothing limits it
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(3600)
        case "silent":
            end(0)
        case "bad":
            raise Bad("the data has gone")
        case "unavailable":
            raise Away("the store is away, it is said")


def sleep(seconds: float) -> None:
    state.until = time.monotonic() + seconds
    while (left := state.until - time.monotonic()) > 0:
        time.sleep(left)


def hold(epoch: int) -> None:
    """Wait while a test holds this epoch, so that what the test does comes in the middle of it."""
    node, pod = os.environ.get("LAB_NODE"), os.environ.get("HOSTNAME", "")
    if node is None:
        return
    namespace = os.environ["KINASE_STORE"].split("/")[-2]
    job = pod.rpartition("-")[0]
    if "KINASE_RANK" in os.environ:
        job = job.rpartition("-")[0]
    held = Path(node.rpartition(":")[0]) / "held" / namespace / f"{job}-{epoch}"
    while held.exists() and not state.asked:
        time.sleep(0.02)


def result(job: Document, progress: Document, outcome: str, **more: Any) -> Document:
    """A `TrialResult`."""
    cost = {
        "epochs": progress["epochsBegun"],
        "samples": progress["samples"],
        "deviceSeconds": progress["deviceSeconds"],
    }
    head = {"version": 1, "trial": job["trial"], "attempt": job["attempt"]}
    return {**head, "outcome": outcome, "cost": cost, **more}


def finished(job: Document, store: Store) -> Document | None:
    """The result that an earlier process left."""
    found = read(store, f"{job['prefix']}/result.json")
    own = found.get("trial") == job["trial"] and 0 < found.get("attempt", 0) <= job["attempt"]
    final = found.get("outcome") in ("Succeeded", "Infeasible")
    until = job.get("until", job["fidelity"]["epochs"])
    paused = found.get("attempt") == job["attempt"] and len(found.get("curve", ())) == until
    return found if own and (final or paused) else None


def train(job: Document, store: Store) -> Document:
    began = time.monotonic()
    prefix, epochs = job["prefix"], job["fidelity"]["epochs"]
    seconds = float(os.environ.get("FAKE_EPOCH_SECONDS") or 0.02)
    samples = round(1000 * job["fidelity"].get("dataFraction", 1.0))
    progress = {
        "epochsBegun": 0,
        "epochsDone": 0,
        "samples": 0,
        "deviceSeconds": 0.0,
        "metrics": {},
        **read(store, f"{prefix}/progress.json"),
        "attempt": job["attempt"],
    }
    before = progress["deviceSeconds"]
    checkpoint = read(store, f"{prefix}/checkpoint/last")
    done: int = checkpoint.get("epoch", 0)
    curve: list[Document] = checkpoint.get("curve", [])
    final, fault, measured = score(job), fault_of(job), proxies(job)
    until, progress["epochsDone"] = job.get("until", epochs), done
    if done < job.get("done", 0):
        write(store, f"{prefix}/progress.json", progress)
        raise Gone(f"the checkpoint holds {done} of {job['done']} epochs")
    while done < until:
        if state.asked:
            end(143, "SIGTERM")
        state.training, state.finishing = True, False
        progress["epochsBegun"] += 1
        progress["samples"] += samples
        write(store, f"{prefix}/progress.json", progress)
        print(f"trial {job['trial']} attempt {job['attempt']} epoch {done + 1} begins", flush=True)
        if fault and done + 1 >= min(2, epochs):
            if fault == "infeasible":
                return result(job, progress, "Infeasible", message="no memory for it, it is said")
            go_wrong(fault)
        hold(done + 1)
        sleep(seconds)
        done += 1
        share = done / epochs
        metrics = {
            "val_accuracy": final["val_accuracy"] * share,
            "val_loss": final["val_loss"] + (1 - share),
        }
        spent = before + time.monotonic() - began
        point = {"epoch": done, "metrics": metrics, "deviceSeconds": spent}
        curve.append(point)
        state.epochs, state.value = done, metrics.get(os.environ.get("KINASE_METRIC", ""))
        last = done == epochs
        if not last:
            write(store, f"{prefix}/checkpoint/last", {"epoch": done, "curve": curve})
            progress["epochsDone"] = done
        progress.update(deviceSeconds=spent, metrics=metrics)
        write(store, f"{prefix}/progress.json", progress)
        state.finishing = done == until
        if not post(job, point) and not last:
            break
    curve = curve[:until]
    found = {**measured, **(curve[-1]["metrics"] if curve else {})}
    outcome = "Succeeded" if done == epochs else "Stopped"
    if job.get("keepWeights") and done:
        store.put(f"{prefix}/weights.safetensors", b"\x02\0\0\0\0\0\0\0{}")
        write(store, f"{prefix}/model.json", {"trial": job["trial"], "metrics": final})
    return result(job, progress, outcome, metrics=found, curve=curve)


def test(job: Document, store: Store) -> None:
    """Score the kept network on the test part, once."""
    key = f"{job['prefix']}/test.json"
    if read(store, key).get("trial") == job["trial"]:
        return
    if store.get(f"{job['prefix']}/model.json") is None:
        raise Bad("there is no network to test")
    nothing = {"epochsBegun": 0, "samples": 0, "deviceSeconds": 0.0}
    metrics = {"test_accuracy": score(job)["val_accuracy"] - 0.01}
    write(store, key, result(job, nothing, "Succeeded", metrics=metrics))


def main() -> None:
    signal.signal(signal.SIGTERM, terminate)
    try:
        job = json.loads(Path(os.environ["KINASE_JOB"]).read_bytes())
        store = open_store()
        if (rank := os.environ.get("KINASE_RANK", "0")) != "0":
            print(f"worker {rank} of {os.environ['KINASE_WORLD']}", flush=True)
            while True:
                time.sleep(3600)
        if job["task"].get("dataset") == "absent":
            raise Bad("task.dataset 'absent' does not exist")
        if job.get("describe"):
            write(store, job.get("key", "trainer.json"), INFO)
        elif job.get("test"):
            test(job, store)
        else:
            found = finished(job, store)
            if found is None:
                until: int | None = None
                while found is None or until is not None:
                    if until is not None:
                        job = {**job, "done": job["until"], "until": until}
                    found = train(job, store)
                    write(store, f"{job['prefix']}/result.json", found)
                    rests = found["outcome"] == "Stopped" and len(found["curve"]) == job.get(
                        "until"
                    )
                    until = waits(job, found["curve"][-1]) if rests and found["curve"] else None
            if found["outcome"] == "Infeasible":
                end(42, found.get("message", ""))
    except (Bad, FileNotFoundError, KeyError, ValueError, TypeError) as error:
        end(2, f"{type(error).__name__}: {error}")
    except Away as error:
        end(75, str(error))
    except Gone as error:
        end(76, str(error))
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        end(1, f"{type(error).__name__}: {error}")
    end(0)


if __name__ == "__main__":
    main()
