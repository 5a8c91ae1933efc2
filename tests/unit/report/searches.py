"""Made-up searches for a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kinase.api import NASExperiment
from kinase.api.trial import Kind
from kinase.report import ReportData
from kinase.report.data import Winner
from kinase.space import Sketch
from tests.unit.report import samples

FULL = {"type": "Full"}
INHERIT = {"type": "Morphism", "morphism": {"epochsPerChild": 4}}
SHRINK = {"type": "Morphism", "morphism": {"epochsPerChild": 4, "approximate": True}}
RANDOM = {"type": "Random"}
EVOLUTION = {"type": "Evolution", "evolution": {"population": 10, "sample": 3}}
NASH = {"type": "NASH", "nash": {"initial": 2}}
LEMONADE = {"type": "LEMONADE", "lemonade": {"initial": 2}}
METHODS = (
    (RANDOM, FULL),
    (EVOLUTION, FULL),
    (EVOLUTION, INHERIT),
    (NASH, INHERIT),
    (LEMONADE, SHRINK),
)


def spec(strategy: Any = RANDOM, estimation: Any = FULL, seed: int = 0, **more: Any) -> Any:
    """A spec as a report has it, all defaults filled in."""
    objective: dict[str, Any] = {"metric": samples.METRIC}
    if strategy["type"] == "LEMONADE":
        objective["also"] = [{"metric": "params", "goal": "minimize"}]
    made = NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "search"},
            "spec": {
                "training": {"epochs": 12},
                "objective": objective,
                "space": {"type": "Chain", "chain": {"maxDepth": 4, "widths": [4, 8]}},
                "strategy": strategy,
                "estimation": estimation,
                "budget": {"epochs": 600},
                "finalists": {"count": 1},
                "seed": seed,
                **more,
            },
        }
    )
    return made.spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def search(
    values: Sequence[float | None],
    strategy: Any = RANDOM,
    estimation: Any = FULL,
    seed: int = 0,
    *,
    test: float | None = None,
    more: dict[str, Any] | None = None,
    **changes: Any,
) -> ReportData:
    """A search whose trials have these values; with a value for `test` it has ended, with a
    finalist that is as good as the best of them."""
    made = spec(strategy, estimation, seed, **(more or {}))
    name = f"{strategy['type']}-{estimation['type']}-{seed}".lower()
    network: Any = {"architecture": {"layers": []}, "counts": {"params": 10.0, "macs": 20.0}}
    trials = tuple(samples.trial(n, Kind.SEARCH, v, **network) for n, v in enumerate(values))
    winner, best = None, max((v for v in values if v is not None), default=0.5)
    if test is not None:
        final = samples.trial(len(trials), Kind.FINAL, best, **network)
        trials = (*trials, final)
        winner = Winner(
            trial=final.number,
            found_by=0,
            architecture=final.architecture,
            sketch=Sketch((), ()),
            metrics=final.metrics,
            test={"test_accuracy": test, "test_loss": 0.1},
            model_uri="",
            load_lines=(),
        )
    data = samples.empty(
        name=name,
        phase="Running" if test is None else "Succeeded",
        trials=trials,
        winner=winner,
        also=(),
        summary=(("Strategy", strategy["type"]), ("Data", "digits"), ("Seed", str(seed))),
        spec=made,
        store_uri=f"file:///home/ada/runs/default/{name}",
    )
    return replace(data, **changes)


def five_by_five() -> list[ReportData]:
    """Five methods on five seeds each."""
    return [
        search(
            [0.9 + 0.002 * place + 0.008 * ((n * 7 + seed) % 11) / 11 for n in range(20)],
            *method,
            seed,
            test=0.9 + 0.002 * place,
        )
        for place, method in enumerate(METHODS)
        for seed in range(5)
    ]
