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

`busy` has trials that end at once, or after `--stretch` seconds (bench/instant.py), and that wait
at a rest as the trainer does (`--holds 0`: not at all). Slots are counted from when as many
stretches have begun as there are slots until the last candidate is sampled: by the journal, where
one is taken from the decision that fills it to the result that frees it, and by the trials' own
log, where one is busy only while a stretch runs. `next one` is the time from the end of a stretch
to the start of the next one in any slot, through result, decision, journal and, for a new attempt,
the operator's Job.
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
from collections import Counter
from typing import Any

from bench.cluster import SPACE, lab, seconds_of, spread
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
BEGAN = re.compile(r"^trial (\d+) attempt \d+ epoch \d+ begins$", re.MULTILINE)


def strike(scene: Scene, nodes: list[Node], victim: str, rng: random.Random) -> bool:
    """Kill a process by SIGKILL; False if there is none now."""
    if victim == "operator":
        scene.operator.kill()
        scene.operator.start(wait=False)
        return True
    kind = re.compile(rf"{NAME}-controller-" if victim == "controller" else rf"{NAME}-\d+-\d+-")
    found = [
        (node, pod["name"])
        for node in nodes
        for pod in node.pods()
        if pod["pid"] and kind.match(pod["name"])
    ]
    try:
        node, pod = rng.choice(found)
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
    time.sleep(0.5)  # for a request of it that is on its way
    trial = int(pod.removeprefix(f"{NAME}-").split("-")[0])
    ledger = f"trials/{trial:05d}/progress.json"
    store = scene.store(NAME, below=ledger)
    charged = json.loads(store.get(ledger))["epochsBegun"] if store.exists(ledger) else 0
    return bool(charged != begun(nodes)[trial])


def begun(nodes: list[Node]) -> Counter[int]:
    """How many epochs each trial has begun by what its pods have printed, those that are gone
    included."""
    logs = [log for node in nodes for log in (node.folder / "pods").glob("*/*/*.log")]
    texts = [log.read_text(errors="replace") for log in logs]
    return Counter(int(number) for text in texts for number in BEGAN.findall(text))


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
            by_logs = begun([it.node, other])
            costs = {e.trial: e.cost.epochs for e in entries if isinstance(e, Told)}
            return {
                "disturbed by": done,
                "seconds": round(seconds),
                "asked, granted and told": len(wanted),
                "of them different": sum(a != b for a, b in zip(found, wanted, strict=False))
                + abs(len(found) - len(wanted)),
                "stretches": Counter(type(entry).__name__ for entry in entries)["Granted"],
                "promoted in the pod that waited": kept(entries, promotions=True),
                "continued there after a look": kept(entries) - kept(entries, promotions=True),
                "further attempts": dict(
                    Counter(entry.message for entry in entries if isinstance(entry, Attempt))
                ),
                "epochs of the undisturbed run": sum(last_epochs(wanted).values()),
                "epochs charged": item["status"]["cost"]["epochs"],
                "epochs begun by the trials' logs": by_logs.total(),
                "trials of which these differ": {
                    n: f"{cost} charged, {by_logs[n]} begun"
                    for n, cost in costs.items()
                    if cost != by_logs[n]
                },
                "promoted, and resumed on another node": moved(entries, [it.node, other]),
            }
        finally:
            other.stop()


def last_epochs(course: list[tuple[Any, ...]]) -> dict[int, int]:
    """The epoch up to which each trial of a course may train."""
    return {entry[1]: entry[-1].until for entry in course if entry[0] in ("asked", "granted")}


def kept(entries: list[AnyEntry], *, promotions: bool = False) -> int:
    """Grants that kept the attempt of the trial; of these, only those of another rung."""
    last: dict[int, tuple[int, int]] = {}
    count = 0
    for entry in entries:
        match entry:
            case Asked():
                last[entry.trial] = 1, entry.grant.rung
            case Granted():
                attempt, rung = last[entry.trial]
                other = entry.grant.rung != rung
                count += entry.attempt == attempt and (other or not promotions)
                last[entry.trial] = entry.attempt, entry.grant.rung
            case Attempt():
                last[entry.trial] = entry.attempt, last[entry.trial][1]
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
    rungs: dict[int, int] = {}
    for entry in entries:
        if isinstance(entry, Rested):
            rests[entry.trial] = entry
        if not isinstance(entry, Asked | Granted | Attempt):
            continue
        before, last[entry.trial] = last.get(entry.trial), entry
        if isinstance(entry, Attempt):
            continue
        rung, rungs[entry.trial] = rungs.get(entry.trial), entry.grant.rung
        if isinstance(entry, Asked) or before is None or entry.grant.rung == rung:
            continue  # the same rung: after a look
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
    """How many of the slots are taken with trials that end at once."""
    with lab(instant=options.stretch, holds=options.holds) as it:
        scene = scene_of(it)
        pids = dict(it.pids)
        before = {name: seconds_of(pid) for name, pid in pids.items()}
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
        used = {name: seconds_of(pid) - before[name] for name, pid in pids.items()}
        assert it.instant is not None
        log = it.instant.read_text().splitlines()
    if errors := [line for line in log if line.split(" ")[1] == "error"]:
        print(len(errors), errors[0], file=sys.stderr)
    stretches = sum(isinstance(entry, Asked | Granted) for entry in entries)
    last = max(e.elapsed for e in entries if isinstance(e, Asked) and e.kind is Kind.SEARCH)
    most = options.parallelism
    steps, ends = steps_of([line.split(" ")[:3] for line in log])
    return {
        "trials": options.trials,
        "parallelism": most,
        "stretches": stretches,
        "in the same attempt": kept(entries),
        "seconds": round(last, 1),
        "share of the slots taken, by the journal": taken(_journal(entries, last), most),
        "share of the slots in which a stretch runs": taken(steps, most),
        "next one": spread(ends),
        "processor ms a stretch": {n: round(1000 * s / stretches, 1) for n, s in used.items()},
    }


def taken(steps: list[tuple[float, int]], most: int) -> float:
    """Share of `most` slots that are taken, from when so many stretches have begun.

    Args:
        steps: moments, in order, at which so many more are taken, or fewer.
        most: the slots.
    """
    used = slots = before = 0.0
    running = begun = 0
    for moment, more in steps:
        if begun >= most:
            used += running * (moment - before)
            slots += most * (moment - before)
        before, running, begun = moment, running + more, begun + max(0, more)
    return round(used / slots, 3) if slots else 0.0


def _journal(entries: list[AnyEntry], last: float) -> list[tuple[float, int]]:
    """When slots are taken, and given back."""
    steps: list[tuple[float, int]] = []
    resting: set[int] = set()
    for entry in entries:
        match entry:
            case Asked() | Granted():
                steps.append((entry.elapsed, 1))
                resting.discard(entry.trial)
            case Rested():
                steps.append((entry.elapsed, -1))
                resting.add(entry.trial)
            case Told() if entry.trial not in resting:
                steps.append((entry.elapsed, -1))
    return [step for step in steps if step[0] <= last]


def steps_of(lines: list[list[str]]) -> tuple[list[tuple[float, int]], list[float]]:
    """When stretches began and ended by the log of bench/instant.py, until the last new trial; and
    the seconds from each end to the next beginning, by the order of both."""
    steps: list[tuple[float, int]] = []
    resting: set[str] = set()
    freed: list[float] = []
    found: list[float] = []
    numbered = [line for line in lines if re.match(rf"{NAME}-\d+-\d+$", line[2])]
    news = [i for i, line in enumerate(numbered) if line[1] == "job" and line[2].endswith("-1")]
    finals = 1  # the last new trial is the finalist
    for time_, what, name in numbered[: news[-1 - finals] + 1]:
        moment = float(time_)
        if what in ("job", "go"):
            steps.append((moment, 1))
            resting.discard(name)
            if freed:
                found.append(moment - freed.pop(0))
        elif what == "rest" or (what == "end" and name not in resting):
            steps.append((moment, -1))
            freed.append(moment)
            if what == "rest":
                resting.add(name)
    return steps, found


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
    parser.add_argument("--stretch", type=float, default=0, help="seconds that a stretch takes")
    parser.add_argument("--holds", type=float, default=10, help="seconds that a trial waits")
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
