"""The experiment's protocol as a checklist of good practice.

The questions follow Lindauer & Hutter 2020 ("Best Practices for Scientific Research on Neural
Architecture Search", JMLR 21) and Yang et al. 2020 ("NAS evaluation is frustratingly hard").
"""

from __future__ import annotations

from collections.abc import Mapping

from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Cost, TaskInfo
from kinase.report.data import ProtocolItem
from kinase.words import counted


def checklist(
    spec: ExperimentSpec,
    info: TaskInfo,
    *,
    search_fidelity: str,
    final_fidelity: str,
    control_trials: int,
    tested: Mapping[int, Mapping[str, float]],
    spent: Cost,
    space_size: str,
) -> tuple[ProtocolItem, ...]:
    """Good practices, and how this experiment follows them."""
    facts = info.facts
    versions = ", ".join(
        f"{k} {facts[k]}" for k in ("kinase", "torch", "numpy", "python") if k in facts
    )
    same = search_fidelity == final_fidelity
    alike = "trained" if spec.estimation.one_shot is None else "scored"
    return (
        ProtocolItem(
            "Is the search space stated in full?",
            f"{spec.space.type}, {space_size} architectures; the manifest below is the whole of it",
            True,
        ),
        ProtocolItem(
            "Is the search compared with random search under the same protocol?",
            f"{counted(control_trials, 'random trial')}, control.share {spec.control.share:.0%}, "
            f"{alike} alike and hidden from the strategy"
            if control_trials
            else "no random trial was run (control.share)",
            control_trials > 0,
        ),
        ProtocolItem(
            "Are candidates scored on data that is neither trained on nor tested on?",
            f"{info.train} training, {info.validation} validation and {info.test} test samples, "
            f"divided by seed {spec.task.split.seed}",
            True,
        ),
        ProtocolItem(
            "Is the test part touched once, by the final network alone?",
            _tests(tested),
            len(tested) == 1 if tested else None,
        ),
        ProtocolItem(
            "Are the fidelities of search and final training stated?",
            f"search: {search_fidelity}; finalists: {final_fidelity}"
            + (" (the same)" if same else ""),
            True,
        ),
        ProtocolItem(
            "Are all networks of a stage trained by one recipe?",
            _recipe(spec),
            spec.space.training is None,
        ),
        ProtocolItem(
            "Is the whole cost reported?",
            f"{counted(spent.epochs, 'epoch')}, {counted(spent.samples, 'sample pass')}, "
            f"device time {spent.device_seconds:,.0f} s, killed attempts and finalists included",
            True,
        ),
        ProtocolItem("Are seeds fixed and reported?", f"seed {spec.seed}", True),
        ProtocolItem(
            "Are several seeds run, and the spread reported?",
            "this is one run: it shows no spread. Run it again with other seeds before a claim",
            False,
        ),
        ProtocolItem(
            "Are software, hardware and data reported?",
            f"{versions}; {info.device}, {facts.get('hardware', 'unknown')}; "
            f"data {facts.get('data checksum', 'unknown')}",
            bool(versions),
        ),
    )


def _recipe(spec: ExperimentSpec) -> str:
    """How the networks of a stage are trained."""
    searched = spec.space.training
    if searched is not None:
        names = [*searched.ranges, *(("flip",) if searched.flip else ())]
        return (
            f"no: the search space includes {', '.join(names)}, so each finalist is trained as it "
            "was found; other settings and the epochs are the same"
        )
    if spec.baselines:
        return "finalists and baselines made by hand share spec.training and the epochs"
    return "finalists share spec.training and the epochs; baselines names no network"


def _tests(tested: Mapping[int, Mapping[str, float]]) -> str:
    """How often the test split was used: once for each network that was a winner."""
    if len(tested) < 2:
        return "once, by the winner" if tested else "not yet"
    uses = "; ".join(
        f"trial {number} {', '.join(f'{name} {value:.4f}' for name, value in sorted(test.items()))}"
        for number, test in tested.items()
    )
    return (
        f"{counted(len(tested), 'time')}, because the search was resumed after its end: {uses}. "
        "The more often it is used, the less the best of these figures says about new data"
    )
