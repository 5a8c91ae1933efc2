"""A morphism search on a cluster with kills and an outage, and the undisturbed one.

    python -m bench.campaign --trials 30 --kills 12 --outage 60 --seed 0

NASH with the real trainer on the digits against a real API server and a real S3 server; each trial
is a separate process, like a pod on a node. Killed by SIGKILL at random moments are trials and
the controller; once, in the middle, nobody can reach the store for so many seconds. Compared with
the undisturbed run of the same seed on this machine is all that was asked and told: architectures,
lineage, seeds, metrics, curves, and what each child began with.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.cluster import SPACE, lab
from bench.scene import scene_of
from kinase.experiment.entries import Attempt
from kinase.experiment.journal import Journal
from tests.cluster import campaign, system
from tests.cluster.gate import Gate
from tests.cluster.helpers import wait_for
from tests.cluster.system import Scene

NAME = "toy"


def strike(scene: Scene, *, controller: bool, rng: random.Random) -> bool:
    """Kill the controller, or the trial under way."""
    pods = [pod for pod in scene.node.pods() if pod["pid"] and pod["name"].startswith(f"{NAME}-")]
    mine = [p["name"] for p in pods if ("-controller-" in p["name"]) == controller]
    try:
        scene.node.kill(SPACE, rng.choice(mine))
    except (LookupError, IndexError):  # it ended by itself just now
        return False
    return True


def disturb(scene: Scene, gate: Gate, options: argparse.Namespace) -> dict[str, int]:
    """Kill now and then until the search is over; returns what was done."""
    rng, done = random.Random(options.seed), Counter[str]()
    middle = options.trials // 2
    while True:
        time.sleep(rng.uniform(0.2, 2 * options.every))
        item = scene.get(NAME)
        if system.condition(item, "Succeeded")["status"] == "True":
            return dict(done)
        total = (item["status"].get("trials") or {}).get("total", 0)
        if total >= middle and not done["outages"]:
            done["outages"] += 1
            gate.shut()
            time.sleep(options.outage)
            gate.let()
            continue
        if done.total() > options.kills:
            continue
        controller = done.total() % 3 == 2  # a kubelet takes longer and longer to start it again
        if strike(scene, controller=controller, rng=rng):
            done["controllers killed" if controller else "trials killed"] += 1


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole campaign."""
    with lab(instant=None) as it:
        scene = scene_of(it)
        gate = Gate(it.bucket.endpoint)
        storage = system.experiment(SPACE, it.bucket)["spec"]["storage"]
        spec = campaign.spec(options.trials, storage={**storage, "endpoint": gate.endpoint})
        spec["strategy"]["nash"] = {"neighbours": options.neighbours, "initial": options.neighbours}
        body = scene.create(NAME, **spec)
        folder = Path(it.folder) / "local"
        folder.mkdir()
        beside = campaign.Undisturbed({**body, "status": None}, folder)
        began = time.monotonic()
        done = disturb(scene, gate, options)
        seconds = time.monotonic() - began
        wait_for(lambda: scene.finished(NAME, options.limit), options.limit)
        store, whole = scene.store(NAME), beside.wait(options.limit)
        story, wanted = campaign.story(store), campaign.story(whole)
        different = [n for n in {*story, *wanted} if story.get(n) != wanted.get(n)]
        left = campaign.results(store)
        children = [n for n, each in story.items() if each["asked"]["inherit"] is not None]
        matched = [n for n in children if story[n]["told"]["inherited"]["morphisms"] is None]
        own = {"0": [n for n in story if n not in children], "1": children}

        def spread(group: str, fact: str) -> list[float]:
            values = [left[n].facts[fact] for n in own[group] if fact in left[n].facts]
            return [round(f(values), 3) for f in (statistics.median, min, max)]

        return {
            "trials": len(story),
            "children": len(children),
            "of them by matching tensors": len(matched),
            "disturbed by": done,
            "seconds": round(seconds),
            "attempts": sum(isinstance(e, Attempt) for e in Journal(store).replay()) + len(story),
            "trials that differ": sorted(different),
            "children without their parent's weights": campaign.lost(store),
            "children: bytes down, median, least, most": spread("1", "bytesRead"),
            "children: bytes up": spread("1", "bytesWritten"),
            "others: bytes down": spread("0", "bytesRead"),
            "others: bytes up": spread("0", "bytesWritten"),
            "children: seconds of inheritance": spread("1", "inheritSeconds"),
        }


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--neighbours", type=int, default=4)
    parser.add_argument("--outage", type=float, default=60, help="seconds without a store")
    parser.add_argument("--kills", type=int, default=12, help="every third is of the controller")
    parser.add_argument("--every", type=float, default=10, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3600)
    options = parser.parse_args()
    outcome = measure(options)
    print(json.dumps(outcome, indent=2))
    sys.exit(
        bool(outcome["trials that differ"] or outcome["children without their parent's weights"])
    )


if __name__ == "__main__":
    main()
