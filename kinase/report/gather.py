"""Gather the report's data from an experiment's state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.inheritance import Inherited
from kinase.api.task import output_name
from kinase.api.trial import Cost, Kind, Outcome, Point
from kinase.experiment import weights
from kinase.experiment.budget import Limit, sample_passes
from kinase.experiment.record import Record
from kinase.experiment.rungs import RungCount
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import Look, TrialRecord
from kinase.report.data import ProtocolItem, ReportData, ReportTrial, Winner
from kinase.report.edits import morphism
from kinase.report.protocol import checklist
from kinase.report.resolved import resolved
from kinase.report.rungs import ReportLook, ReportRung, Step, Stopping, Stretch
from kinase.report.supernet import supernet_of
from kinase.report.task import classes_text, main_metric, samples_text
from kinase.report.theme import size
from kinase.words import counted, was

COST_NAMES = {
    Kind.SUPERNET: "supernet",
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


def gather(record: Record) -> ReportData:
    """Everything that the report shows, from a record that has replayed its journal."""
    spec, state = record.spec, record.state
    seconds = {point: _seconds(trial) for point, trial in state.trials.items()}
    trials = tuple(_trial(record, trial, seconds[trial.number]) for trial in state.trials.values())
    if state.finished is not None:
        phase = "Failed" if state.finished.winner is None else "Succeeded"
        reason = state.finished.message or state.ended or ""
    else:
        phase = "Suspended" if record.stopping or spec.suspend else "Running"
        reason = state.ended or ""
    return ReportData(
        name=record.experiment.metadata.name,
        namespace=record.experiment.metadata.namespace,
        phase=phase,
        reason=reason,
        metric=record.aims[0].metric,
        main_metric=main_metric(record.info, [aim.metric for aim in record.aims]),
        goal=record.aims[0].goal,
        target=spec.objective.target,
        also=tuple((aim.metric, aim.goal) for aim in record.aims[1:]),
        summary=_summary(record),
        trials=trials,
        winner=_winner(record),
        cost=costs(record),
        budget=tuple(_limit(limit) for limit in record.limits),
        protocol=_protocol(record),
        spec=resolved(record),
        store_uri=record.store.uri,
        checksum=str(record.info.facts.get("data checksum", "")),
        validation=record.info.validation,
        elapsed=state.elapsed,
        ladder=steps(record),
        whole=Cost(
            epochs=record.setting.full.epochs,
            samples=sample_passes(record.setting.full, record.info.train),
        ),
        stopping=stopping(record),
        supernet=supernet_of(record),
    )


def is_staged(record: Record) -> bool:
    """Whether trials are trained in stretches with decisions between them."""
    estimation = record.spec.estimation
    return record.laddered or estimation.screen is not None or estimation.stopping is not None


def steps(record: Record) -> tuple[Step, ...]:
    """The rungs and how the trials stand there; none where trials are trained at once."""
    if not is_staged(record):
        return ()
    full = record.setting.full
    counts = record.state.rungs
    found = [Step(-1, "measured without training", replace(counts[-1]))] if -1 in counts else []
    for grant in record.estimator.ladder:
        count = counts.get(grant.rung, RungCount(grant.rung, grant.until))
        found.append(Step(grant.rung, grant_text(grant, full), replace(count)))
    return tuple(found)


def grant_text(grant: Grant, full: Fidelity) -> str:
    """What is trained up to the end of a grant, for people: `3 of 27 epochs`."""
    text = fidelity_text(grant.fidelity)
    if grant.fidelity == full and grant.until < full.epochs:
        return f"{grant.until} of {text}"
    return text


def rung_text(record: Record, rung: int) -> str:
    """A rung for people: `rung 1 (3 of 27 epochs)`; empty where there is no ladder, or below it."""
    ladder = record.estimator.ladder
    if not record.laddered or not 0 <= rung < len(ladder):
        return ""
    return f"rung {rung} ({grant_text(ladder[rung], record.setting.full)})"


def stopping(record: Record) -> Stopping | None:
    """How far the rule that stops trials can be trusted; None without one."""
    options, calibration = record.spec.estimation.stopping, record.leaders.calibration
    if options is None or calibration is None:
        return None
    return Stopping(options.shown, options.probability, options.spare, calibration)


def costs(record: Record) -> dict[str, Cost]:
    """What was spent, by kind of trial; epochs that killed attempts lost are apart."""
    spent = {name: Cost() for name in COST_NAMES.values()}
    lost = Cost()
    for trial in record.state.trials.values():  # a paused one has spent, too
        over = 0
        if trial.begun and trial.outcome is Outcome.SUCCEEDED:
            over = max(0, trial.cost.epochs - trial.before.epochs - trial.fidelity.epochs)
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
    return {
        **{name: cost for name, cost in spent.items() if cost.epochs or cost.device_seconds},
        "lost": lost,
    }


def _searched(record: Record) -> str:
    """What candidates are trained, or the supernet whose weights they share."""
    shared = record.spec.estimation.one_shot
    if shared is None or record.estimator.ladder[0].until:
        return fidelity_text(record.fidelity)
    epochs = shared.epochs or record.fidelity.epochs
    whole = record.fidelity.model_copy(update={"epochs": epochs})
    return f"a supernet of {fidelity_text(whole)}"


def _seconds(trial: TrialRecord) -> float:
    """Device seconds of one epoch, on average."""
    return trial.cost.device_seconds / max(1, len(trial.curve))


def _trial(record: Record, trial: TrialRecord, seconds: float) -> ReportTrial:
    metric = record.spec.objective.metric
    return ReportTrial(
        number=trial.number,
        kind=trial.kind,
        outcome=trial.outcome,
        architecture=trial.architecture,
        key=trial.key,
        metrics=_values(record, trial),
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
        message="; ".join(filter(None, (trial.said, _passed_over(trial)))),
        label=trial.operation if trial.kind is Kind.BASELINE else "",
        morphisms=_morphisms(trial),
        asked=trial.asked,
        ended=trial.ended,
        rungs=_rungs(record, trial),
        first=_first(record, trial),
        resting=trial.resting,
        excluded=trial.excluded,
        pauses=tuple(rest.done for grant, rest in trial.rests if grant.fidelity == trial.fidelity),
        stretches=_stretches(trial),
        ruled=trial.ruled,
        spared=trial.spared,
        looks=tuple(
            ReportLook(
                done=look.done,
                until=look.grant.until,
                reaches=1.0 - look.probability,
                bar=look.bar,
                predicted=look.predicted,
                reached=_came_true(record, trial, look),
            )
            for look in trial.looks
        ),
    )


def _rungs(record: Record, trial: TrialRecord) -> tuple[ReportRung, ...]:
    """The rungs whose end a trial has reached; none where there is no ladder."""
    if not record.laddered or trial.kind not in SEARCHING:
        return ()
    found = [
        ReportRung(
            rung=grant.rung,
            epochs=rest.done,
            metrics={**trial.resources, **rest.metrics},
            cost=rest.cost,
            ended=rest.elapsed,
        )
        for grant, rest in trial.rests
        if rest.done >= grant.until and grant.rung >= 0
    ]
    if trial.outcome is Outcome.SUCCEEDED and trial.metrics:
        found.append(
            ReportRung(
                rung=trial.grant.rung,
                epochs=trial.grant.until,
                metrics=_values(record, trial),
                cost=trial.cost,
                ended=trial.ended or 0.0,
            )
        )
    return tuple(found)


def _first(record: Record, trial: TrialRecord) -> int | None:
    """The rung at which a trial began, after a pool."""
    if not record.laddered or trial.kind not in SEARCHING or trial.inherit is not None:
        return None
    grants = (*(grant for grant, _ in trial.rests), trial.grant)
    return next((grant.rung for grant in grants if grant.rung >= 0), None)


def _stretches(trial: TrialRecord) -> tuple[Stretch, ...]:
    """When a trial held a slot: from each grant to the rest or the end after it."""
    began = [trial.asked, *trial.resumed]
    ends: list[tuple[float | None, float]] = [
        (rest.elapsed, rest.cost.device_seconds) for _, rest in trial.rests
    ]
    if len(ends) < len(began):
        ends.append((trial.ended, trial.cost.device_seconds))
    before = [0.0, *(seconds for _, seconds in ends)]
    return tuple(
        Stretch(start, end, max(0.0, seconds - earlier))
        for start, (end, seconds), earlier in zip(began, ends, before, strict=False)
    )


def _came_true(record: Record, trial: TrialRecord, look: Look) -> bool | None:
    """Whether a trial reached, at the end of its grant, what it had to reach."""
    main = record.aims[0]
    ends = [
        rest.metrics
        for grant, rest in trial.rests
        if grant.rung == look.grant.rung and rest.done >= grant.until
    ]
    if not ends and trial.grant.rung == look.grant.rung:
        if trial.outcome is Outcome.SUCCEEDED:
            ends = [trial.metrics]
        elif trial.outcome is Outcome.FAILED:
            return False
    if not ends:
        return None
    value = {**trial.resources, **ends[0]}.get(main.metric, math.nan)
    if not math.isfinite(value):
        return False
    return value >= look.bar if main.goal == "maximize" else value <= look.bar


def _morphisms(trial: TrialRecord) -> tuple[str, ...]:
    """Morphisms from the first parent to the trial."""
    near = trial.inherit.ancestors[0] if trial.inherit and trial.inherit.ancestors else None
    if near is None or near.morphisms is None or near.trial not in trial.parents[:1]:
        return ()
    return tuple(map(morphism, near.morphisms))


def _values(record: Record, trial: TrialRecord) -> dict[str, float]:
    """What was measured and counted, without the main metric of a trial that measured nothing:
    that metric may be a counted one."""
    if trial.metrics:
        return trial.values
    return {name: value for name, value in trial.values.items() if name != record.aims[0].metric}


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


def _weights(record: Record) -> tuple[tuple[str, str], ...]:
    """How many trials inherited, and what that took of the storage."""
    if record.inheritance is None:
        return ()
    told = [t.inherited for t in record.state.told if t.inherited is not None and t.inherit]
    chains = sum(each.morphisms is not None and not each.root for each in told)
    matched = sum(each.trial is not None and each.morphisms is None for each in told)
    written, kept = weights.bytes_of(record)
    children = f"{chains} by morphisms, {matched} by matching tensors"
    begun = sum(each.root for each in told)
    children += f", {begun} from the first network" if begun else ""
    none = len(told) - chains - matched - begun
    children += f", {none} found nothing to inherit" if none else ""
    return (
        ("Children", f"{children}; {fidelity_text(record.child_fidelity)} each"),
        ("Weights for children", f"{size(written)} written, {size(kept)} kept"),
    )


def _winner(record: Record) -> Winner | None:
    finished = record.state.finished
    if finished is None or finished.winner is None:
        return None
    trial = record.state.trials[finished.winner]
    uri = f"{record.store.uri}/final"
    place = uri.removeprefix("file://") if uri.startswith("file://") else uri
    outputs = output_name(record.spec.task.type)
    return Winner(
        trial=trial.number,
        found_by=trial.parents[0],
        architecture=trial.architecture,
        sketch=record.space.sketch(trial.architecture),
        metrics=trial.values,
        test=finished.test,
        confusion=finished.confusion,
        classes=tuple(each.name for each in record.info.classes),
        tests=max(1, len(record.state.tested)),
        model_uri=uri,
        load_lines=(
            "from kinase_trainer import load",
            f"model, card = load({place!r})",
            f"{outputs} = model(images)  # float images in 0..1, shape (N, C, H, W)",
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


def _summary(record: Record) -> tuple[tuple[str, str], ...]:
    spec, info = record.spec, record.info
    return (
        ("Space", f"{spec.space.shown}, {record.space.size()} architectures"),
        *_limits(record),
        ("Strategy", spec.strategy.shown),
        ("Estimation", f"{spec.estimation.shown}: {_searched(record)}"),
        *_weights(record),
        ("Finalists", f"{spec.finalists.count}: {fidelity_text(record.final_fidelity)}"),
        ("Data", f"{spec.task.dataset}, {samples_text(info)}"),
        *_data(record),
        ("Seed", str(spec.seed)),
    )


def _limits(record: Record) -> Iterator[tuple[str, str]]:
    """What networks may have at most."""
    if limits := record.spec.objective.limits:
        above = record.state.excluded
        said = f"; {counted(above, 'proposal')} {was(above)} set aside" if above else ""
        yield "Limits", f"{', '.join(limit.text for limit in limits)}{said}"


def _data(record: Record) -> tuple[tuple[str, str], ...]:
    """What else was read of the data, and how."""
    info = record.info
    said = (
        ("Labels" if info.several else "Classes", classes_text(info).partition(": ")[2]),
        ("Targets", info.targets),
        ("How it was read", "; ".join(info.notes)),
        ("Warning", "; ".join(info.warnings)),
    )
    return tuple((label, text) for label, text in said if text)


def _protocol(record: Record) -> tuple[ProtocolItem, ...]:
    state = record.state
    return checklist(
        record.spec,
        record.info,
        search_fidelity=_searched(record),
        final_fidelity=fidelity_text(record.final_fidelity),
        control_trials=state.counts[Kind.CONTROL],
        tested=state.tested,
        spent=state.spent,
        space_size=str(record.space.size()),
    )
