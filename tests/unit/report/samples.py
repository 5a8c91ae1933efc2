"""Made-up experiments that look like real ones: architectures, sketches and counts are a real
space's; values, curves and costs are drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from kinase.api.space import CellSpace, ChainSpace
from kinase.api.trial import Architecture, Cost, Kind, Outcome, Point
from kinase.report import ReportData
from kinase.report.data import ProtocolItem, ReportTrial, Winner
from kinase.space import Frame, InfeasibleError
from kinase.space.cell import Cell
from kinase.space.chain import Chain

METRIC = "val_accuracy"
FRAME = Frame((1, 8, 8), 10)
CHAIN = Chain(ChainSpace(min_depth=2, max_depth=6, widths=(8, 16, 24, 32, 48, 64), skips=True))
CELL = Cell(CellSpace(preset="darts"))

PROTOCOL = (
    ProtocolItem("Is the search space stated in full?", "Chain, 5e8 architectures", True),
    ProtocolItem("Are several seeds run, and the spread reported?", "this is one run", False),
    ProtocolItem("Is the test part touched once?", "not yet", None),
)


def empty(**changes: Any) -> ReportData:
    """An experiment that has just begun."""
    data = ReportData(
        name="digits-evolution",
        namespace="default",
        phase="Running",
        reason="",
        metric=METRIC,
        goal="maximize",
        target=None,
        also=(("params", "minimize"),),
        summary=(
            ("Space", "Chain, 5.2e8 architectures"),
            ("Strategy", "Evolution"),
            ("Estimation", "LowerFidelity: 12 epochs"),
            ("Finalists", "3: 50 epochs"),
            ("Data", "digits, samples of 1x8x8, 10 classes"),
            ("Seed", "0"),
        ),
        trials=(),
        winner=None,
        cost={},
        budget=(("trials", "0", "60"),),
        protocol=PROTOCOL,
        spec={"task": {"dataset": "digits"}, "strategy": {"type": "Evolution"}, "seed": 0},
        store_uri="file:///home/ada/runs/default/digits-evolution",
    )
    return replace(data, **changes)


def _feasible(rng: np.random.Generator) -> tuple[Architecture, dict[str, float]]:
    while True:
        architecture = CHAIN.sample(rng)
        try:
            return architecture, _counts(architecture)
        except InfeasibleError:
            continue


def _counts(architecture: Architecture) -> dict[str, float]:
    graph = CHAIN.graph(architecture, FRAME)
    return {"params": float(graph.params()), "macs": float(graph.macs())}


def _curve(rng: np.random.Generator, end: float, epochs: int) -> tuple[Point, ...]:
    points = []
    for epoch in range(1, epochs + 1):
        value = end - (end - 0.12) * math.exp(-0.45 * epoch) + rng.normal(0, 0.003)
        value = end if epoch == epochs else min(1.0, value)
        points.append(
            Point(epoch=epoch, metrics={METRIC: round(value, 5)}, device_seconds=0.2 * epoch)
        )
    return tuple(points)


def trial(
    number: int,
    kind: Kind = Kind.SEARCH,
    value: float | None = 0.9,
    *,
    architecture: Architecture | None = None,
    counts: dict[str, float] | None = None,
    epochs: int = 12,
    seed: int = 0,
    **changes: Any,
) -> ReportTrial:
    """One trial; without a value it failed."""
    rng = np.random.default_rng((seed, number))
    if architecture is None:
        architecture, counts = _feasible(rng)
    counts = counts if counts is not None else _counts(architecture)
    worked = value is not None
    made = ReportTrial(
        number=number,
        kind=kind,
        outcome=Outcome.SUCCEEDED if worked else Outcome.FAILED,
        architecture=architecture,
        key=CHAIN.key(architecture),
        metrics=counts | ({METRIC: value} if value is not None else {}),
        cost=Cost(
            epochs=epochs if worked else 3,
            samples=1077 * (epochs if worked else 3),
            device_seconds=round((epochs if worked else 3) * (0.1 + counts["macs"] / 4e6), 3),
        ),
        fidelity=f"{epochs} epochs",
        curve=_curve(rng, value, epochs) if value is not None else (),
        order=number,
        message="" if worked else "loss is not a number after epoch 3",
    )
    return replace(made, **changes)


def _quality(rng: np.random.Generator, counts: dict[str, float], gain: float) -> float:
    size = 1 / (1 + math.exp(-(math.log10(counts["params"]) - 2.6) * 2.4))
    return round(min(0.9986, 0.55 + 0.435 * size + gain + abs(rng.normal(0, 0.006))), 4)


def scheduled(
    trials: tuple[ReportTrial, ...], slots: int = 2, wait: float = 0.25
) -> tuple[ReportTrial, ...]:
    """With times: each in the slot that is free first, where it waits before it trains."""
    free = [0.0] * slots
    timed = []
    for each in trials:
        asked = min(free)
        ended = asked + wait + each.cost.device_seconds
        free[free.index(asked)] = ended
        timed.append(replace(each, asked=asked, ended=ended))
    return tuple(timed)


def digits(count: int = 60, seed: int = 0, share: float = 0.2, **changes: Any) -> ReportData:
    """A finished experiment: evolution with a control, finalists and a network by hand."""
    rng = np.random.default_rng(seed)
    trials: list[ReportTrial] = []
    searched: list[ReportTrial] = []
    for number in range(count):
        control = number % round(1 / share) == 2 if share else False
        parents: tuple[int, ...] = ()
        operation = ""
        if not control and len(searched) >= 16:
            pool = [searched[int(i)] for i in rng.integers(len(searched) - 16, len(searched), 6)]
            parent = max(pool, key=lambda t: t.metrics.get(METRIC, 0.0))
            architecture = CHAIN.mutate(parent.architecture, rng)
            parents, operation = (parent.number,), "mutate"
            try:
                counts = _counts(architecture)
            except InfeasibleError:
                architecture, counts = _feasible(rng)
                parents, operation = (), ""
        else:
            architecture, counts = _feasible(rng)
        gain = 0.0 if control else min(0.012, 0.012 * len(searched) / max(1, count))
        value = None if number % 29 == 17 else _quality(rng, counts, gain)
        made = trial(
            number,
            Kind.CONTROL if control else Kind.SEARCH,
            value,
            architecture=architecture,
            counts=counts,
            parents=parents,
            operation=operation,
            seed=seed,
        )
        trials.append(made)
        if not control and value is not None:
            searched.append(made)
    best = sorted(searched, key=lambda t: -t.metrics[METRIC])[:3]
    finals = [
        trial(
            count + i,
            Kind.FINAL,
            round(min(0.9992, found.metrics[METRIC] + 0.004), 4),
            architecture=found.architecture,
            epochs=50,
            parents=(found.number,),
            operation="retrain",
            seed=seed,
        )
        for i, found in enumerate(best)
    ]
    hand = {"layers": [{"op": "conv", "width": 64, "kernel": 3, "stride": 1, "skip": None}] * 4}
    made_by_hand = trial(
        count + len(finals),
        Kind.BASELINE,
        0.9921,
        architecture=hand,
        epochs=50,
        label="four layers by hand",
    )
    everything = scheduled((*trials, *finals, made_by_hand))
    kinds = {
        Kind.SEARCH: "search",
        Kind.CONTROL: "control",
        Kind.FINAL: "finalists",
        Kind.BASELINE: "baselines",
    }
    cost = {
        name: sum((t.cost for t in everything if t.kind is kind), start=Cost())
        for kind, name in kinds.items()
    }
    cost["lost"] = Cost(epochs=4, samples=4308, device_seconds=1.7)
    won = max(finals, key=lambda t: t.metrics[METRIC])
    data = empty(
        phase="Succeeded",
        reason=f"budget: {count} of {count} trials",
        target=0.99,
        trials=everything,
        elapsed=max(t.ended or 0.0 for t in everything),
        cost=cost,
        budget=(("trials", str(count), str(count)), ("duration", "0:03:12", "0:10:00")),
        winner=Winner(
            trial=won.number,
            found_by=won.parents[0],
            architecture=won.architecture,
            sketch=CHAIN.sketch(won.architecture),
            metrics=won.metrics,
            test={"test_accuracy": 0.9917, "test_loss": 0.041},
            model_uri="file:///home/ada/runs/default/digits-evolution/final",
            load_lines=(
                "from kinase_trainer import load",
                'model, card = load("runs/default/digits-evolution/final")',
                "logits = model(images)",
            ),
        ),
    )
    return replace(data, **changes)


def cells(seed: int = 3) -> ReportData:
    """The same with a winner of a normal and a reduction cell."""
    data = digits()
    assert data.winner is not None
    architecture = CELL.sample(np.random.default_rng(seed))
    winner = replace(data.winner, architecture=architecture, sketch=CELL.sketch(architecture))
    return replace(data, name="digits-cells", winner=winner)


def all_failed() -> ReportData:
    """An experiment in which nothing worked."""
    trials = tuple(trial(n, value=None) for n in range(12))
    spent = sum((t.cost for t in trials), start=Cost())
    return empty(
        phase="Failed", reason="no trial gave a value", trials=trials, cost={"search": spent}
    )
