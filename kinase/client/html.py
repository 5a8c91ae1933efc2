"""A search as HTML for a notebook: plain elements that adopt the notebook's colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from kinase.api.trial import Point
from kinase.console import clock, limit_left, quantity, rung_rows, stopping_text, value
from kinase.experiment.loop import Loop
from kinase.experiment.pace import time_left
from kinase.experiment.record import Record
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import TrialRecord
from kinase.report.gather import rung_text, stopping
from kinase.words import counted

RECENT = 5
"""Number of finished trials that are shown, the latest ones."""
CELL = "padding:0.1em 1em 0.1em 0;text-align:left;vertical-align:top"


def note(text: str) -> str:
    """One line."""
    return f"<div>{escape(text)}</div>"


def progress(
    loop: Loop, points: Mapping[int, Point], recent: Sequence[TrialRecord] | None = None
) -> str:
    """A running search.

    Args:
        loop: the search.
        points: the last epoch of each running trial.
        recent: trials to list, by default those that ended last.
    """
    state, metric = loop.state, loop.spec.objective.metric
    lines = [("trials", escape(_counts(loop)))]
    best = loop.best
    if best is not None:
        lines.append(("best", escape(_best(loop, best, metric))))
    lines += _rungs(loop)
    for limit in loop.limits:
        bar = f'<progress max="{limit.total}" value="{min(limit.spent, limit.total)}"></progress>'
        lines.append(("budget", f"{bar} {escape(limit_left(limit))} left"))
    left = time_left(loop)
    remaining = "" if left is None else f", about {clock(left)} left of the search"
    lines.append(("time", escape(f"{clock(loop.elapsed)}{remaining}")))
    for number in sorted(loop.running) if state.finished is None else ():
        point = points.get(number)
        epoch = point.epoch if point is not None else state.trials[number].done
        measured = point.metrics.get(metric) if point is not None else None
        of = state.trials[number].grant.until
        lines.append(("running", f"trial {number}: epoch {epoch}/{of}, {metric} {value(measured)}"))
    phase = "done" if state.finished is not None else "finalists" if state.ended else "searching"
    if loop.stopping:
        phase = "stopping at the next checkpoint" if loop.running else "interrupted"
    shown = state.told[-RECENT:] if recent is None else recent
    return f"<div>{_head(loop, phase)}{_table(lines)}{_trials(loop, shown, metric)}</div>"


def result(loop: Record, status: str) -> str:
    """A search as it was left."""
    state, metric = loop.state, loop.spec.objective.metric
    lines = [("trials", escape(_counts(loop)))]
    finished = state.finished
    if finished is not None and finished.winner is not None:
        winner = state.trials[finished.winner]
        lines.append(("winner", escape(_best(loop, winner, metric))))
        for name, number in sorted(finished.test.items()):
            lines.append(("test", escape(f"{name} {number:.4f}")))
    elif loop.best is not None:
        lines.append(("best so far", escape(_best(loop, loop.best, metric))))
    lines += _rungs(loop)
    if (rule := stopping(loop)) is not None:
        lines.append(("stopping", escape(stopping_text(rule))))
    spent = state.spent
    epochs = counted(spent.epochs, "epoch")
    lines.append(("cost", f"{epochs}, device time {clock(spent.device_seconds)}"))
    reason = (finished.message if finished is not None else "") or state.ended
    if reason:
        lines.append(("ended", escape(reason)))
    lines.append(("kept in", f"<code>{escape(loop.store.uri.removeprefix('file://'))}</code>"))
    return f"<div>{_head(loop, status)}{_table(lines)}</div>"


def _head(loop: Record, phase: str) -> str:
    name, spec = loop.experiment.metadata.name, loop.spec
    what = f"{spec.strategy.shown} over {spec.space.shown}, {spec.task.dataset}"
    return f"<div><b>{escape(name)}</b>: {escape(what)} &ndash; {escape(phase)}</div>"


def _counts(loop: Record) -> str:
    told = loop.state.told
    failed = sum(not trial.metrics for trial in told)
    paused = f"{loop.state.resting} paused, " if loop.state.resting else ""
    running = f"{len(loop.state.running)} running, {paused}"
    return f"{len(told)} ended, {running}{failed} without a value"


def _rungs(loop: Record) -> list[tuple[str, str]]:
    return [("rung", escape(row)) for row in rung_rows(loop)] if loop.laddered else []


def _best(loop: Record, trial: TrialRecord, metric: str) -> str:
    parts = [f"{metric} {value(trial.values.get(metric))}", f"trial {trial.number}"]
    if trial.kind in SEARCHING and (where := rung_text(loop, trial.rung)):
        parts.insert(1, where)
    if "params" in trial.resources:
        parts.append(f"{quantity(trial.resources['params'])} parameters")
    return ", ".join(parts)


def rung_cell(trial: TrialRecord) -> str:
    """How far a trial of the search got, and whether it pauses there."""
    if trial.kind not in SEARCHING or trial.rung < 0:
        return ""
    return f"{trial.rung}, paused" if trial.resting else str(trial.rung)


def _table(lines: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><td style="{CELL};opacity:0.6">{escape(name)}</td><td style="{CELL}">{text}</td></tr>'
        for name, text in lines
    )
    return f"<table>{cells}</table>"


def _trials(loop: Record, trials: Iterable[TrialRecord], metric: str) -> str:
    found = list(trials)
    if not found:
        return ""
    rung = ("rung",) if loop.laddered else ()
    head = "".join(
        f'<th style="{CELL}">{escape(name)}</th>'
        for name in ("trial", "kind", metric, *rung, "parameters", "epochs", "seconds")
    )
    body = ""
    for trial in found:
        number = trial.metrics.get(metric, trial.resources.get(metric))
        told = value(number) if trial.metrics else (trial.outcome.value if trial.outcome else "")
        cells = (
            str(trial.number),
            trial.kind.value.lower(),
            told,
            *((rung_cell(trial),) if rung else ()),
            quantity(trial.resources["params"]) if "params" in trial.resources else "",
            str(trial.cost.epochs),
            f"{trial.cost.device_seconds:.1f}",
        )
        body += "<tr>" + "".join(f'<td style="{CELL}">{escape(c)}</td>' for c in cells) + "</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"
