"""Kills parts of Kinase on a cluster at random moments, and compares with an undisturbed run.

    python -m bench.cluster_kill --kills 100 --seed 0

Experiments (8 trials, 2 finalists, evolution, parallelism 1) run side by side against a real API
server; their trials are processes of a trainer that trains nothing (tests/pod_trainer.py). The
victims, in turn: the operator, a controller, both, a trial's process; always by SIGKILL. Compared
with the undisturbed run are architectures, seeds, metrics and curves of every trial, how often
each was told, the winner and its test value, and the epochs charged with the epochs that the trials
say in their own logs to have begun. An attempt must have had one Job and one pod, and no Job may be
there that the journal does not know.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cluster import SPACE, Lab, lab
from kinase.api import NASExperiment, names
from kinase.experiment.entries import Told
from kinase.experiment.local import open_run
from tests.cluster import system

VICTIMS = ("operator", "controller", "both", "trial")
BEGAN = re.compile(r"^trial (\d+) attempt (\d+) epoch \d+ begins$", re.MULTILINE)


@dataclass
class End:
    """What an experiment came to."""

    trials: list[tuple[Any, ...]]
    winner: tuple[Any, ...]
    wrong: list[str]
    charged: int
    begun: int
    attempts: int


def read(it: Lab, name: str) -> End:
    """Read an experiment's end from its store, the cluster and the pods' logs."""
    item = system.get(it.cluster, SPACE, name)
    loop = open_run(NASExperiment.model_validate(item))
    state = loop.state
    assert state.finished is not None
    told = Counter(e.trial for e in type(loop.journal)(loop.store).replay() if isinstance(e, Told))
    wrong = [f"trial {n} was told {c} times" for n, c in told.items() if c != 1]
    wrong += [f"trial {n} was never told" for n in state.trials if n not in told]
    selector = f"{names.EXPERIMENT}%3D{name},{names.COMPONENT}%3Dtrial"

    def all_of(base: str, kind: str) -> list[dict[str, Any]]:
        path = f"{base}/namespaces/{SPACE}/{kind}?labelSelector={selector}"
        items: list[dict[str, Any]] = it.cluster.api.get(path)["items"]
        return items

    pods = Counter(
        p["metadata"]["labels"]["batch.kubernetes.io/job-name"] for p in all_of("/api/v1", "pods")
    )
    known = {
        f"{names.trial_name(name, t.number)}-{attempt}"
        for t in state.trials.values()
        for attempt in range(1, t.attempt + 1)
    }
    for job in all_of("/apis/batch/v1", "jobs"):
        own = job["metadata"]["name"]
        if pods[own] > 1:
            wrong.append(f"Job {own} had {pods[own]} pods")
        if own not in known and "-task-" not in own and "-test-" not in own:
            wrong.append(f"Job {own} is surplus")
    begun = 0
    for pod in it.node.pods():
        if pod["name"].startswith(f"{name}-") and Path(pod["log"]).exists():
            begun += len(BEGAN.findall(Path(pod["log"]).read_text(errors="replace")))
    return End(
        trials=[
            (t.number, t.kind, t.key, t.seed, t.parents, t.outcome, t.metrics, t.curve)
            for t in state.trials.values()
        ],
        winner=(state.finished.winner, state.finished.test),
        wrong=wrong,
        charged=state.spent.epochs,
        begun=begun,
        attempts=sum(t.attempt for t in state.trials.values()),
    )


def differences(end: End, whole: End, kills: int) -> list[str]:
    """In what an experiment differs from the undisturbed one; empty is what we want."""
    found = list(end.wrong)
    for mine, theirs in zip(end.trials, whole.trials, strict=False):
        if mine != theirs:
            found.append(f"trial {mine[0]}: {mine} and not {theirs}")
    if len(end.trials) != len(whole.trials):
        found.append(f"{len(end.trials)} trials and not {len(whole.trials)}")
    if end.winner != whole.winner:
        found.append(f"winner {end.winner} and not {whole.winner}")
    # an epoch is charged just before its trial says that it begins: a kill may come between
    if not end.begun <= end.charged <= end.begun + kills:
        found.append(f"{end.charged} epochs charged, {end.begun} begun")
    return found


def start(it: Lab, name: str) -> None:
    """Make an experiment."""
    body = system.experiment(
        SPACE,
        it.bucket,
        name=name,
        budget={"trials": 8, "parallelism": 1},
        trialTemplate={"image": system.FAKE, "maxRetries": 100},
    )
    system.create(it.cluster, body)


def alive(it: Lab, experiments: list[str], *, controllers: bool) -> list[str]:
    """Pods of these experiments that have a process."""
    pods = [p for p in it.node.pods() if p["pid"] and p["name"].startswith(tuple(experiments))]
    return sorted(p["name"] for p in pods if ("-controller-" in p["name"]) == controllers)


def strike(it: Lab, victim: str, experiments: list[str], rng: random.Random) -> str | None:
    """Kill a victim as soon as there is one; returns the experiment whose trial it was, or an
    empty text, or None if all had ended before."""
    deadline = time.monotonic() + 10
    pods: list[str] = []
    while victim != "operator" and not pods:
        pods = alive(it, experiments, controllers=victim != "trial")
        if not pods and time.monotonic() > deadline:
            return None
    hit = ""
    if victim in ("operator", "both"):
        it.operator.kill()
    if victim != "operator":
        name = rng.choice(pods)
        try:
            it.node.kill(SPACE, name)
        except LookupError:  # it ended by itself just now
            return None
        if victim == "trial":
            hit = next(e for e in experiments if name.startswith(f"{e}-"))
    if victim in ("operator", "both"):
        it.operator.start(wait=False)
    return hit


def campaign(kills: int, seed: int, side: int) -> dict[str, Any]:
    """Kill `kills` times over waves of `side` experiments each."""
    rng = random.Random(seed)
    os.environ |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    with lab(instant=None) as it:
        system.put_images(it.node, FAKE_EPOCH_SECONDS="0.2")
        start(it, "whole")
        began = time.monotonic()
        system.finished(it.cluster, SPACE, "whole", 300)
        duration = time.monotonic() - began
        whole = read(it, "whole")
        assert not whole.wrong, whole.wrong
        assert whole.charged == whole.begun, (whole.charged, whole.begun)
        done, wave, lost = Counter[str](), 0, 0
        wrong: list[str] = []
        while done.total() < kills:
            experiments = [f"w{wave}-{n}" for n in range(side)]
            wave += 1
            for name in experiments:
                start(it, name)
            began, hits = time.monotonic(), Counter[str]()
            count = min(kills - done.total(), 3 * side)
            # side by side they take longer than one alone does
            for moment in sorted(rng.uniform(0, 1.5 * duration) for _ in range(count)):
                time.sleep(max(0.0, began + moment - time.monotonic()))
                victim = VICTIMS[done.total() % len(VICTIMS)]
                hit = strike(it, victim, experiments, rng)
                if hit is not None:
                    done[victim] += 1
                    hits[hit] += 1
            for name in experiments:
                system.finished(it.cluster, SPACE, name, 600)
                end = read(it, name)
                wrong += [f"{name}: {d}" for d in differences(end, whole, hits[name])]
                lost += end.charged - whole.charged
            print(f"{done.total()}/{kills} kills, {len(wrong)} differences", file=sys.stderr)
        return {
            "kills": dict(done),
            "experiments": wave * side,
            "trials each": len(whole.trials),
            "seconds undisturbed, alone": round(duration, 1),
            "epochs lost with killed attempts, and charged": lost,
            "differences": wrong,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=4, help="experiments side by side")
    options = parser.parse_args()
    outcome = campaign(options.kills, options.seed, options.side)
    print(json.dumps(outcome, indent=2))
    sys.exit(bool(outcome["differences"]))


if __name__ == "__main__":
    main()
