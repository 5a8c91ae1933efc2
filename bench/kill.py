"""Kill a run, or one of its workers, with SIGKILL at seeded random moments; then compare.

    python -m bench.kill --victim run --kills 30
    python -m bench.kill --victim worker --kills 30
    python -m bench.kill --search one-shot --victim worker --kills 10

Every killed experiment is started again by the same command until it ends. It must then equal
an undisturbed run of the same seed at parallelism 1: the same trials with the same
architectures, seeds, metrics and learning curves, each told exactly once, the same winner and
test value. The budget is checked against a count that is independent of the journal: the line
that the trainer prints to its log whenever an epoch begins.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinase.api.load import load_manifest
from kinase.experiment.entries import Attempt, Told
from kinase.experiment.local import open_run
from kinase.experiment.loop import Loop

MANIFEST = """\
apiVersion: kinase.dev/v1alpha1
kind: NASExperiment
metadata: {name: kill}
spec:
  task: {dataset: digits}
  training:
    epochs: 6
    batchSize: 64
    augmentation: {crop: 1}
    device: cpu
  space: {type: Chain, chain: {maxDepth: 5, widths: [8, 16]}}
  strategy: {type: Evolution, evolution: {population: 4, sample: 2}}
  estimation: {type: LowerFidelity, lowerFidelity: {epochs: 3}}
  budget: {trials: 10, parallelism: 1}
  finalists: {count: 2}
"""

ONE_SHOT = """\
apiVersion: kinase.dev/v1alpha1
kind: NASExperiment
metadata: {name: kill}
spec:
  task: {dataset: digits}
  training: {epochs: 2, batchSize: 64, augmentation: {crop: 1}, device: cpu}
  space:
    type: Cell
    cell:
      preset: nasbench201
      search: {cells: 1, filters: 8}
      evaluation: {cells: 1, filters: 8}
  strategy: {type: DARTS}
  estimation: {type: OneShot, oneShot: {epochs: 12, candidates: 10}}
  budget: {epochs: 100, parallelism: 1}
  finalists: {count: 1}
"""
"""Nearly all of its time is the supernet's."""
SEARCHES = {"evolution": MANIFEST, "one-shot": ONE_SHOT}

EPOCH = re.compile(r"^trial (\d+) attempt (\d+) epoch (\d+) begins$", re.MULTILINE)


@dataclass(frozen=True)
class End:
    """What an experiment came to."""

    trials: list[tuple[Any, ...]]
    winner: tuple[Any, ...]
    tells: list[int]
    attempts: int
    spent_epochs: int
    begun_epochs: int
    supernets: tuple[str, ...]
    """Digests of their weights."""


def read(loop: Loop, folder: Path) -> End:
    state = loop.state
    assert state.finished is not None
    told: Counter[int] = Counter()
    attempts = 0
    for entry in type(loop.journal)(loop.store).replay():
        if isinstance(entry, Told):
            told[entry.trial] += 1
        attempts += isinstance(entry, Attempt)
    logs = "".join(p.read_text() for p in (folder / "local").glob("worker-*.log"))
    return End(
        trials=[
            (t.number, t.kind, t.key, t.seed, t.parents, t.outcome, t.metrics, t.curve)
            for t in state.trials.values()
        ],
        winner=(state.finished.winner, state.finished.test),
        tells=sorted(told.elements()),
        attempts=attempts,
        spent_epochs=state.spent.epochs,
        begun_epochs=len(EPOCH.findall(logs)),
        supernets=tuple(
            json.loads(path.read_text())["sha256"]
            for path in sorted(folder.glob("trials/*/supernet.json"))
        ),
    )


class Subject:
    """An experiment in a separate folder."""

    def __init__(self, folder: Path, text: str = MANIFEST) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.manifest = folder / "kill.yaml"
        self.manifest.write_text(text + f"  storage: {{uri: 'file://{folder}/runs'}}\n")

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "kinase.cli", "run", str(self.manifest)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> None:
        process = self.start()
        _, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the run failed ({process.returncode}): {error.decode()}")

    def end(self) -> End:
        loop = open_run(load_manifest(self.manifest))
        return read(loop, self.folder / "runs/default/kill")


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Worker processes of a run."""
    found = []
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for pid in children.read_text().split():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"kinase.engine.worker" in command:
            found.append(int(pid))
    return found


def kill_at(process: subprocess.Popen[bytes], victim: str, moment: float) -> bool:
    """Kill the victim `moment` seconds from now. False: the run had ended before."""
    deadline = time.monotonic() + moment
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    if victim == "run":
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    for pid in workers(process):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
    return True


def differences(end: End, undisturbed: End) -> list[str]:
    """In what a killed experiment differs from the undisturbed one; empty is what we want."""
    found = []
    for mine, theirs in zip(end.trials, undisturbed.trials, strict=False):
        if mine != theirs:
            found.append(f"trial {mine[0]}: {mine} and not {theirs}")
    if len(end.trials) != len(undisturbed.trials):
        found.append(f"{len(end.trials)} trials and not {len(undisturbed.trials)}")
    if end.supernets != undisturbed.supernets:
        found.append("the supernet's weights differ")
    if end.winner != undisturbed.winner:
        found.append(f"winner {end.winner} and not {undisturbed.winner}")
    if end.tells != list(range(len(end.trials))):
        found.append(f"told {end.tells}")
    if end.spent_epochs != end.begun_epochs:
        found.append(f"{end.spent_epochs} epochs charged, {end.begun_epochs} begun")
    return found


def undisturbed_run(folder: Path, text: str = MANIFEST) -> tuple[End, float]:
    """What the experiment comes to when nothing is killed, and after how many seconds."""
    whole = Subject(folder, text)
    began = time.monotonic()
    whole.finish()
    duration = time.monotonic() - began
    return whole.end(), duration


def campaign(
    victim: str,
    kills: int,
    seed: int,
    folder: Path,
    whole: tuple[End, float],
    text: str = MANIFEST,
) -> dict[str, Any]:
    """Kill `kills` times, one experiment after the other, and compare each with the whole one;
    returns the outcome."""
    undisturbed, duration = whole
    rng = random.Random(seed)
    done, experiments, wrong, lost = 0, 0, [], 0
    while done < kills:
        subject = Subject(folder / f"{victim}-{experiments}", text)
        experiments += 1
        here = 0
        while done < kills and here < 2:
            process = subject.start()
            hit = kill_at(process, victim, rng.uniform(0.0, duration))
            if victim == "worker":
                _, error = process.communicate()
                assert process.returncode == 0, error.decode()
            done += hit
            here += 1
            if not hit or victim == "worker":  # which does not end the run
                break
        subject.finish()
        end = subject.end()
        wrong += [f"experiment {experiments - 1}: {d}" for d in differences(end, undisturbed)]
        lost += end.begun_epochs - undisturbed.begun_epochs
        shutil.rmtree(subject.folder)
        print(
            f"{done}/{kills} kills, {experiments} experiments, {len(wrong)} differences",
            file=sys.stderr,
        )
    return {
        "victim": victim,
        "kills": done,
        "experiments": experiments,
        "trials": len(undisturbed.trials),
        "seconds undisturbed": round(duration, 1),
        "epochs lost with killed attempts, and charged": lost,
        "differences": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victim", choices=["run", "worker"], default="run")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--search", choices=SEARCHES, default="evolution")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        text = SEARCHES[arguments.search]
        whole = undisturbed_run(place / "whole", text)
        outcome = campaign(arguments.victim, arguments.kills, arguments.seed, place, whole, text)
    print(json.dumps(outcome, indent=2))
    sys.exit(bool(outcome["differences"]))


if __name__ == "__main__":
    main()
