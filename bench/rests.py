"""Trials in stretches on a cluster: through kills, and what a rest costs.

    python -m bench.rests kills --trials 81 --kills 12 --outage 20
    python -m bench.rests seconds --epochs 6
    python -m bench.rests busy --trials 300 --parallelism 32

`kills` runs ASHA with a trainer that trains nothing (tests/pod_trainer.py) on two nodes against a
real API server and a real S3 server, eight trials at once, `deterministic`. Killed by SIGKILL are
trials, the controller and the operator, in turn; once, in the middle, nobody can reach the store.
Compared with a search on this machine that looks the scores up is all that was asked, granted and
told. The epochs charged are compared with those that the trials say in their own logs to have
begun. A trial charges an epoch just before it says so, so no trial is killed in between. With
`--looks N` every trial rests after N epochs of a stretch too, to be looked at (and never stopped):
then it is continued in the pod that waits.

`seconds` trains two networks on the digits with the real trainer and a look after every epoch, once
with pods that wait at a rest and once with a pod for each stretch (`trialTemplate.timeLimit`). The
seconds are those from a grant to the next rest, less the device seconds of the stretch.

`busy` has trials that end at once (bench/instant.py), and counts by the journal how many of the
slots are taken, from when all are for the first time until the last candidate is sampled.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from bench.cluster import SPACE, lab
from bench.instant import NAME as INSTANT
from bench.scene import scene_of
from kinase.api import Kind
from kinase.experiment.entries import AnyEntry, Asked, Attempt, Granted, Rested, Told
from tests.cluster import system
from tests.cluster.gate import Gate
from tests.cluster.lab.node import Node
from tests.cluster.system import Scene
from tests.cluster.test_stretches import course, undisturbed

NAME = "toy"
BEGAN = re.compile(r"^trial \d+ attempt \d+ epoch \d+ begins$", re.MULTILINE)


def strike(scene: Scene, nodes: list[Node], victim: str, rng: random.Random) -> bool:
    """Kill a process by SIGKILL; False if there is none now."""
    if victim == "operator":
        scene.operator.kill()
        scene.operator.start(wait=False)
        return True
    found = [
        (node, pod["name"])
        for node in nodes
        for pod in node.pods()
        if pod["pid"] and pod["name"].startswith(f"{NAME}-")
    ]
    mine = [each for each in found if ("-controller-" in each[1]) == (victim == "controller")]
    try:
        node, pod = rng.choice(mine)
        node.kill(SPACE, pod, signal.SIGSTOP)
        if victim == "trial" and charges(scene, nodes, pod):
            node.kill(SPACE, pod, signal.SIGCONT)
            return False
        node.kill(SPACE, pod)
    except (LookupError, IndexError):  # it ended by itself just now
        return False
    return True


def charges(scene: Scene, nodes: list[Node], pod: str) -> bool:
    """Whether a trial, stopped for the moment, has charged an epoch before it began it."""
    time.sleep(0.1)  # for a request of it that is on its way
    trial = int(pod.removeprefix(f"{NAME}-").split("-")[0])
    ledger = f"trials/{trial:05d}/progress.json"
    store = scene.store(NAME)
    charged = json.loads(store.get(ledger))["epochsBegun"] if store.exists(ledger) else 0
    said = rf"^trial {trial} attempt \d+ epoch \d+ begins$"
    return bool(charged != len(re.findall(said, "\n".join(logs(nodes).values()), re.MULTILINE)))


def logs(nodes: list[Node]) -> dict[str, str]:
    """What each pod has printed."""
    found = {pod["name"]: Path(pod["log"]) for node in nodes for pod in node.pods()}
    return {n: log.read_text(errors="replace") for n, log in found.items() if log.exists()}


def disturb(scene: Scene, nodes: list[Node], gate: Gate, options: argparse.Namespace) -> Any:
    """Kill now and then until the search is over; what was done."""
    rng, done = random.Random(options.seed), Counter[str]()
    victims = ["trial", "trial", "controller", "trial", "operator", "trial"]
    while True:
        time.sleep(rng.uniform(0.2, 2 * options.every))
        item = scene.get(NAME)
        if system.condition(item, "Succeeded")["status"] == "True":
            return dict(done)
        total = (item["status"].get("trials") or {}).get("total", 0)
        if total >= options.trials // 2 and not done["outage"]:
            done["outage"] += 1
            gate.shut()
            time.sleep(options.outage)
            gate.let()
        elif done.total() - done["outage"] < options.kills:
            victim = victims[done.total() % len(victims)]
            done[victim] += strike(scene, nodes, victim, rng)


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """The whole campaign."""
    with lab(instant=None) as it:
        scene, gate = scene_of(it), Gate(it.bucket.endpoint)
        other = Node(it.cluster, it.folder / "node-2", "node-2", back_off=1)
        other.start()
        try:
            for node in (it.node, other):
                system.put_images(node, FAKE_EPOCH_SECONDS="0.2", FAKE_HOLD_SECONDS="10")
            storage = system.experiment(SPACE, it.bucket)["spec"]["storage"]
            body = scene.create(
                NAME,
                storage={**storage, "endpoint": gate.endpoint},
                deterministic=True,
                training={"epochs": 27},
                strategy={"type": "Evolution"},
                estimation={"type": "ASHA", "asha": {"eta": 3}, **looks(options.looks)},
                budget={"trials": options.trials, "parallelism": 8},
                control={"share": 0.1},
                finalists={"count": 1},
                trialTemplate={"image": system.FAKE, "maxRetries": 100},
            )
            began = time.monotonic()
            done = disturb(scene, [it.node, other], gate, options)
            seconds = time.monotonic() - began
            item = scene.finished(NAME, options.limit)
            entries, wanted = scene.journal(NAME), undisturbed({**body, "status": None}, 8)
            found = course(entries)
            texts = logs([it.node, other])
            return {
                "disturbed by": done,
                "seconds": round(seconds),
                "asked, granted and told": len(wanted),
                "of them different": sum(a != b for a, b in zip(found, wanted, strict=False))
                + abs(len(found) - len(wanted)),
                "stretches": Counter(type(entry).__name__ for entry in entries)["Granted"],
                "granted in the same attempt": kept(entries),
                "further attempts": sum(isinstance(entry, Attempt) for entry in entries),
                "epochs charged": item["status"]["cost"]["epochs"],
                "epochs begun by the trials' logs": sum(
                    len(BEGAN.findall(text)) for text in texts.values()
                ),
                "promoted, and resumed on another node": moved(entries, [it.node, other]),
            }
        finally:
            other.stop()


def kept(entries: list[AnyEntry]) -> int:
    """Grants that kept the attempt of the trial."""
    attempts: dict[int, int] = defaultdict(lambda: 1)
    count = 0
    for entry in entries:
        if isinstance(entry, Granted | Attempt):
            count += isinstance(entry, Granted) and entry.attempt == attempts[entry.trial]
            attempts[entry.trial] = entry.attempt
    return count


def looks(every: int) -> dict[str, Any]:
    """A rule that looks at a trial so often, and never stops one."""
    rule = {"type": "Median", "every": every, "median": {}, "after": 27}
    return {"stopping": rule} if every else {}


def moved(entries: list[AnyEntry], nodes: list[Node]) -> list[str]:
    """Trials that rested at the end of a rung on one node, and were trained on on another."""
    places: dict[tuple[int, int], str] = {}
    for node in nodes:
        for pod in node.pods():
            if match := re.match(rf"{NAME}-(\d+)-(\d+)-", pod["name"]):
                places[int(match[1]), int(match[2])] = node.name
    found = []
    last: dict[int, Asked | Granted | Attempt] = {}
    rests: dict[int, Rested] = {}
    for entry in entries:
        if isinstance(entry, Rested):
            rests[entry.trial] = entry
        if not isinstance(entry, Asked | Granted | Attempt):
            continue
        before, last[entry.trial] = last.get(entry.trial), entry
        if not isinstance(entry, Granted) or before is None:
            continue
        old = 1 if isinstance(before, Asked) else before.attempt
        there, here = places.get((entry.trial, old)), places.get((entry.trial, entry.attempt))
        if entry.attempt > old and there and here and there != here:
            done = rests[entry.trial].done
            found.append(
                f"{entry.trial}: {done} epochs on {there}, up to {entry.grant.until} on {here}"
            )
    return found


def seconds(options: argparse.Namespace) -> dict[str, Any]:
    """What a rest costs with pods that wait, and without."""
    with lab(instant=None) as it:
        scene = scene_of(it)
        return {
            "pods that wait": _seconds(scene, "held", options, {}),
            "a pod for each stretch": _seconds(scene, "each", options, {"timeLimit": "1h"}),
        }


def _seconds(scene: Scene, name: str, options: argparse.Namespace, template: Any) -> Any:
    scene.create(
        name,
        task={"dataset": "digits"},
        training={"epochs": options.epochs, "device": "cpu"},
        estimation={
            "type": "Full",
            "stopping": {"type": "Median", "every": 1, "median": {}, "after": options.epochs},
        },
        budget={"trials": 2, "parallelism": 1},
        control={"share": 0},
        finalists={"count": 1},
        trialTemplate={
            "image": system.TRAINER,
            "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
            **template,
        },
    )
    scene.finished(name, options.limit)
    granted: dict[int, tuple[float, float]] = {}
    spent: dict[int, float] = {}
    took, device = [], []
    for entry in scene.journal(name):
        match entry:
            case Granted():
                granted[entry.trial] = entry.elapsed, spent[entry.trial]
            case Rested() | Told():
                if entry.trial in granted:
                    began, before = granted.pop(entry.trial)
                    device.append(entry.cost.device_seconds - before)
                    took.append(entry.elapsed - began - device[-1])
                spent[entry.trial] = entry.cost.device_seconds
    return {
        "stretches": len(took),
        "seconds without the training, median": round(statistics.median(took), 2),
        "least": round(min(took), 2),
        "most": round(max(took), 2),
        "device seconds of a stretch, median": round(statistics.median(device), 2),
        "kept their attempt": kept(scene.journal(name)),
    }


def busy(options: argparse.Namespace) -> dict[str, Any]:
    """How many of the slots are taken, by the journal, with trials that end at once."""
    with lab(instant=0.0) as it:
        scene = scene_of(it)
        scene.create(
            NAME,
            training={"epochs": 27},
            estimation={"type": "ASHA", "asha": {"eta": 3}},
            budget={"trials": options.trials, "parallelism": options.parallelism},
            control={"share": 0},
            finalists={"count": 1},
            trialTemplate={"managedBy": INSTANT, "image": system.FAKE},
        )
        scene.finished(NAME, options.limit)
        entries = scene.journal(NAME)
    last = max(e.elapsed for e in entries if isinstance(e, Asked) and e.kind is Kind.SEARCH)
    taken, slots, before, running = 0.0, 0.0, 0.0, 0
    for entry in entries:
        if not isinstance(entry, Asked | Granted | Rested | Told) or entry.elapsed > last:
            continue
        if running == options.parallelism or slots:  # from when all were taken for the first time
            taken += running * (entry.elapsed - before)
            slots += options.parallelism * (entry.elapsed - before)
        before = entry.elapsed
        if isinstance(entry, Asked | Granted):
            running += 1
        elif isinstance(entry, Rested) or not was_resting(entries, entry):
            running -= 1
    return {
        "trials": options.trials,
        "parallelism": options.parallelism,
        "stretches": sum(isinstance(entry, Asked | Granted) for entry in entries),
        "seconds": round(last, 1),
        "share of the slots taken": round(taken / slots, 3),
    }


def was_resting(entries: list[AnyEntry], told: Told) -> bool:
    """Whether a trial rested when it was told."""
    own = [
        entry
        for entry in entries
        if isinstance(entry, Asked | Granted | Rested) and entry.trial == told.trial
    ]
    return isinstance(own[-1], Rested)


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("kills", "seconds", "busy"))
    parser.add_argument("--trials", type=int, default=81)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--every", type=float, default=3, help="seconds between kills")
    parser.add_argument("--outage", type=float, default=20, help="seconds without a store")
    parser.add_argument("--looks", type=int, default=0, help="epochs between two looks; 0: none")
    parser.add_argument("--parallelism", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3600)
    options = parser.parse_args()
    print(
        json.dumps(
            {"kills": kills, "seconds": seconds, "busy": busy}[options.what](options), indent=2
        )
    )
    sys.exit()


if __name__ == "__main__":
    main()
