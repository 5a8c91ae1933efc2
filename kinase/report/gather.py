"""Gather the report's data from an experiment's state."""

from __future__ import annotations

from datetime import timedelta

from kinase.api.task import output_name
from kinase.api.trial import Cost, Fidelity, Inherited, Kind, Outcome, Point
from kinase.experiment.budget import Limit
from kinase.experiment.loop import Loop
from kinase.experiment.state import TrialRecord
from kinase.report.data import ProtocolItem, ReportData, ReportTrial, Winner
from kinase.report.edits import morphism
from kinase.report.protocol import checklist
from kinase.report.resolved import resolved
from kinase.report.task import classes_text, main_metric, samples_text
from kinase.report.theme import size
from kinase.words import counted

COST_NAMES = {
    Kind.SEARCH: "search",
    Kind.CONTROL: "control",
    Kind.FINAL: "finalists",
    Kind.BASELINE: "baselines",
}


def fidelity_text(fidelity: Fidelity) -> str:
    """A fidelity for people: `10 epochs, 50 % of the data`."""
    parts = [counted(fidelity.epochs, "epoch")]
    if fidelity.data_fraction < 1:
        parts.append(f"{fidelity.data_fraction:.0%} of the data")
    if fidelity.resolution is not None:
        parts.append(f"{fidelity.resolution} px")
    scale = fidelity.scale
    if scale.cells is not None:
        parts.append(counted(scale.cells, "cell"))
    if scale.filters is not None:
        parts.append(counted(scale.filters, "filter"))
    if scale.filter_fraction < 1:
        parts.append(f"{scale.filter_fraction:.0%} of the filters")
    return ", ".join(parts)


def gather(loop: Loop) -> ReportData:
    """The report's data, from a loop that has replayed its journal."""
    spec, state = loop.spec, loop.state
    seconds = {point: _seconds(trial) for point, trial in state.trials.items()}
    trials = tuple(_trial(loop, trial, seconds[trial.number]) for trial in state.trials.values())
    if state.finished is not None:
        phase = "Failed" if state.finished.winner is None else "Succeeded"
        reason = state.finished.message or state.ended or ""
    else:
        phase = "Suspended" if loop.stopping or spec.suspend else "Running"
        reason = state.ended or ""
    return ReportData(
        name=loop.experiment.metadata.name,
        namespace=loop.experiment.metadata.namespace,
        phase=phase,
        reason=reason,
        metric=loop.aims[0].metric,
        main_metric=main_metric(loop.info, [aim.metric for aim in loop.aims]),
        goal=loop.aims[0].goal,
        target=spec.objective.target,
        also=tuple((aim.metric, aim.goal) for aim in loop.aims[1:]),
        summary=_summary(loop),
        trials=trials,
        winner=_winner(loop),
        cost=costs(loop),
        budget=tuple(_limit(limit) for limit in loop.limits),
        protocol=_protocol(loop),
        spec=resolved(loop),
        store_uri=loop.store.uri,
        checksum=str(loop.info.facts.get("data checksum", "")),
        validation=loop.info.validation,
        elapsed=state.elapsed,
    )


def costs(loop: Loop) -> dict[str, Cost]:
    """Cost by kind of trial, with the epochs of killed attempts separate."""
    spent = {name: Cost() for name in COST_NAMES.values()}
    lost = Cost()
    for trial in loop.state.told:
        over = 0
        if trial.begun and trial.outcome is Outcome.SUCCEEDED:
            over = max(0, trial.cost.epochs - trial.fidelity.epochs)
        share = over / trial.cost.epochs if over else 0.0
        gone = Cost(
            epochs=over,
            samples=round(trial.cost.samples * share),
            device_seconds=trial.cost.device_seconds * share,
        )
        lost = lost + gone
        kept = Cost(
            epochs=trial.cost.epochs - gone.epochs,
            samples=trial.cost.samples - gone.samples,
            device_seconds=trial.cost.device_seconds - gone.device_seconds,
        )
        spent[COST_NAMES[trial.kind]] = spent[COST_NAMES[trial.kind]] + kept
    return {**{name: cost for name, cost in spent.items() if cost.epochs}, "lost": lost}


def _seconds(trial: TrialRecord) -> float:
    """Device seconds of one epoch, on average."""
    return trial.cost.device_seconds / max(1, len(trial.curve))


def _trial(loop: Loop, trial: TrialRecord, seconds: float) -> ReportTrial:
    metric = loop.spec.objective.metric
    return ReportTrial(
        number=trial.number,
        kind=trial.kind,
        outcome=trial.outcome,
        architecture=trial.architecture,
        key=trial.key,
        metrics=_values(loop, trial),
        cost=trial.cost,
        fidelity=fidelity_text(trial.fidelity),
        parents=trial.parents,
        operation=trial.operation,
        learning_rate=trial.learning_rate,
        inherited=inherited_text(trial.inherited) if trial.inherited else "",
        curve=tuple(
            Point(epoch=epoch, metrics={metric: value}, device_seconds=epoch * seconds)
            for epoch, value in enumerate(trial.curve, 1)
            if value is not None
        ),
        order=trial.order,
        message="; ".join(filter(None, (trial.message, _passed_over(trial)))),
        label=trial.operation if trial.kind is Kind.BASELINE else "",
        morphisms=_morphisms(trial),
        asked=trial.asked,
        ended=trial.ended,
    )


def _morphisms(trial: TrialRecord) -> tuple[str, ...]:
    """Morphisms from the first parent to the trial."""
    near = trial.inherit.ancestors[0] if trial.inherit and trial.inherit.ancestors else None
    if near is None or near.morphisms is None or near.trial not in trial.parents[:1]:
        return ()
    return tuple(map(morphism, near.morphisms))


def _values(loop: Loop, trial: TrialRecord) -> dict[str, float]:
    """All metrics. If the trial measured nothing, the main metric is omitted, because it can be
    params or macs."""
    if trial.metrics:
        return trial.values
    return {name: value for name, value in trial.values.items() if name != loop.aims[0].metric}


def inherited_text(inherited: Inherited) -> str:
    """What a network has inherited, for people: `from trial 7 by 2 morphisms`."""
    if inherited.root:
        many = counted(inherited.morphisms or 0, "morphism")
        return "from the first network" + (f" by {many}" if inherited.morphisms else ", unchanged")
    if inherited.trial is None:
        return "no weights to inherit"
    if inherited.morphisms is None:
        return f"{inherited.share:.0%} of the weights of trial {inherited.trial}"
    if not inherited.morphisms:
        return f"from trial {inherited.trial}, unchanged"
    text = f"from trial {inherited.trial} by {counted(inherited.morphisms, 'morphism')}"
    if not inherited.distilled:
        return text
    return f"{text}, distilled for {counted(inherited.distilled, 'epoch')}"


def _passed_over(trial: TrialRecord) -> str:
    inherited = trial.inherited
    if inherited is None or not inherited.message:
        return ""
    return f"{inherited_text(inherited)}: {inherited.message}"


def _weights(loop: Loop) -> tuple[tuple[str, str], ...]:
    """Number of trials that inherited, and the storage used for it."""
    if loop.inheritance is None:
        return ()
    told = [t.inherited for t in loop.state.told if t.inherited is not None and t.inherit]
    chains = sum(each.morphisms is not None and not each.root for each in told)
    matched = sum(each.trial is not None and each.morphisms is None for each in told)
    written, kept = loop.weights()
    children = f"{chains} by morphisms, {matched} by matching tensors"
    begun = sum(each.root for each in told)
    children += f", {begun} from the first network" if begun else ""
    none = len(told) - chains - matched - begun
    children += f", {none} found nothing to inherit" if none else ""
    return (
        ("Children", f"{children}; {fidelity_text(loop.child_fidelity)} each"),
        ("Weights for children", f"{size(written)} written, {size(kept)} kept"),
    )


def _winner(loop: Loop) -> Winner | None:
    finished = loop.state.finished
    if finished is None or finished.winner is None:
        return None
    trial = loop.state.trials[finished.winner]
    uri = f"{loop.store.uri}/final"
    place = uri.removeprefix("file://") if uri.startswith("file://") else uri
    return Winner(
        trial=trial.number,
        found_by=trial.parents[0],
        architecture=trial.architecture,
        sketch=loop.space.sketch(trial.architecture),
        metrics=trial.values,
        test=finished.test,
        confusion=finished.confusion,
        classes=tuple(each.name for each in loop.info.classes),
        tests=max(1, len(loop.state.tested)),
        model_uri=uri,
        load_lines=(
            "from kinase_trainer import load",
            f"model, card = load({place!r})",
            f"{output_name(loop.spec.task.type)} = model(images)"
            "  # float images in 0..1, shape (N, C, H, W)",
        ),
    )


def _limit(limit: Limit) -> tuple[str, str, str]:
    if limit.unit == "s":
        return (
            limit.name,
            str(timedelta(seconds=round(limit.spent))),
            str(timedelta(seconds=round(limit.total))),
        )
    digits = 2 if limit.unit == "h" else 0
    return (limit.name, f"{limit.spent:,.{digits}f}", f"{limit.total:,.{digits}f}")


def _summary(loop: Loop) -> tuple[tuple[str, str], ...]:
    spec, info = loop.spec, loop.info
    return (
        ("Space", f"{spec.space.shown}, {loop.space.size()} architectures"),
        ("Strategy", spec.strategy.shown),
        ("Estimation", f"{spec.estimation.shown}: {fidelity_text(loop.fidelity)}"),
        *_weights(loop),
        ("Finalists", f"{spec.finalists.count}: {fidelity_text(loop.final_fidelity)}"),
        ("Data", f"{spec.task.dataset}, {samples_text(info)}"),
        *_data(loop),
        ("Seed", str(spec.seed)),
    )


def _data(loop: Loop) -> tuple[tuple[str, str], ...]:
    """Other facts about the data and how it was read."""
    info = loop.info
    said = (
        ("Labels" if info.several else "Classes", classes_text(info).partition(": ")[2]),
        ("Targets", info.targets),
        ("How it was read", "; ".join(info.notes)),
        ("Warning", "; ".join(info.warnings)),
    )
    return tuple((label, text) for label, text in said if text)


def _protocol(loop: Loop) -> tuple[ProtocolItem, ...]:
    state = loop.state
    return checklist(
        loop.spec,
        loop.info,
        search_fidelity=fidelity_text(loop.fidelity),
        final_fidelity=fidelity_text(loop.final_fidelity),
        control_trials=state.counts[Kind.CONTROL],
        tested=state.tested,
        spent=state.spent,
        space_size=str(loop.space.size()),
    )
