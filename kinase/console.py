"""The terminal: a live table while a search runs, or plain lines if there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kinase.api.auto import choice
from kinase.api.trial import Outcome, Point
from kinase.experiment.doubts import doubts
from kinase.experiment.given import said_of_limits
from kinase.experiment.pace import time_left
from kinase.experiment.reopening import lowered
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import TrialRecord
from kinase.report import supernet_section
from kinase.report.foresight import foresight
from kinase.report.gather import inherited_text, rung_text, steps
from kinase.report.stretches import saving
from kinase.report.task import data_lines, main_metric
from kinase.report.verdict import verdict
from kinase.words import counted, standing

if TYPE_CHECKING:
    from kinase.experiment.budget import Limit
    from kinase.experiment.loop import Loop
    from kinase.experiment.record import Record
    from kinase.report.data import ReportData
    from kinase.report.rungs import Stopping

RECENT = 6
"""Number of results shown below the table: trials that ended, or reached a rung."""
MOST_RUNGS = 6
"""Maximum number of rungs in the table."""


def clock(seconds: float) -> str:
    """A time for people: 0:42, 3:07, 1:02:09."""
    text = str(timedelta(seconds=round(seconds)))
    return text[2:] if text.startswith("0:") else text


def value(number: float | None) -> str:
    """A metric for people."""
    return "-" if number is None else f"{number:.4f}"


def quantity(number: float) -> str:
    """A count for people: 940, 12.3k, 1.5M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= factor:
            return f"{number / (1000 if unit == 'k' else factor):.3g}{unit}"
    return f"{number:.0f}"


def params_text(resources: Mapping[str, float]) -> str:
    """The parameters of a network, for people."""
    params = resources["params"]
    return counted(params, "param", quantity(params))


def limit_left(limit: Limit) -> str:
    """The remainder of a limit, for people."""
    if limit.unit == "s":
        return f"{clock(limit.left)} of {clock(limit.total)}"
    if limit.unit == "h":
        of = counted(limit.total, "device hour", f"{limit.total:g}")
        return f"{limit.left:.2f} of {of}"
    of = counted(limit.total, limit.name.removesuffix("s"), f"{limit.total:.0f}")
    return f"{limit.left:.0f} of {of}"


def _print(console: Console, line: Text) -> None:
    """A line for a person: wrapped between words on a terminal, and left whole elsewhere."""
    console.print(line, highlight=False, soft_wrap=not console.is_terminal)


class Progress:
    """Listens to the loop and shows it. Use as a context manager around the run."""

    def __init__(self, console: Console | None = None, refresh: float = 0.5) -> None:
        """Update `console` (default: standard error) every `refresh` seconds."""
        self.console = console or Console(stderr=True)
        self._refresh = refresh
        self._live: Live | None = None
        self._points: dict[int, Point] = {}
        self._recent: deque[Text] = deque(maxlen=RECENT)
        self._shown = 0.0
        self._said: str | None = None
        self._loop: Loop | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Clear the table. If the search is not over, the last lines stay."""
        if self._live is None:
            return
        self._live.stop()
        loop = self._loop
        if loop is not None and loop.state.finished is None:
            for line in self._recent:
                _print(self.console, line)

    @property
    def used(self) -> str:
        """Time used so far, for people; empty before the search starts."""
        return "" if self._loop is None else f"{clock(self._loop.elapsed)} used so far"

    def say(self, text: str) -> None:
        """Show a step that takes time before the search starts."""
        if self._live is not None:
            self._live.update(Text(text), refresh=True)
        else:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, loop: Loop) -> None:
        """Show what is searched, and what earlier runs have done."""
        self._loop = loop
        told = len(loop.state.told)
        spec = loop.spec
        rest = f" and {loop.state.resting} paused" if loop.state.resting else ""
        finished = counted(told, "finished trial") + rest
        again = f", resuming after {finished}" if loop.journal.length else ""
        again += " and an earlier end" if loop.state.before else ""
        searched = (
            f": {spec.strategy.shown} over {loop.space.size()} {spec.space.shown} architectures, "
            f"{spec.task.dataset}, {loop.info.device}, {spec.budget.parallelism} at once{again}"
        )
        self.console.print(
            Text.assemble((loop.experiment.metadata.name, "bold"), searched), highlight=False
        )
        warnings = [*doubts(spec, loop.info), *filter(None, [lowered(loop)])]
        lines = [*data_lines(loop.info), *(f"warning: {each}" for each in warnings)]
        if loop.experiment.spec.estimation.type == "Auto":
            lines.append(choice(spec.estimation))
        if (foreseen := foresight(spec)) is not None:
            lines.append(f"note: {foreseen}")
        lines += said_of_limits(spec, loop.space, loop.appraise)
        for line in lines:
            style = "yellow" if line.startswith("warning:") else ""
            _print(self.console, Text(line, style))
        self._recent.extend(self._line(loop, trial) for trial in loop.state.told[-RECENT:])
        self._draw(loop, force=True)

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """Note a running trial's last epoch."""
        self._points[trial] = point
        self._draw(loop)

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        """Show a trial that pauses at the end of a rung."""
        grant, rest = trial.rests[-1]
        self._points.pop(trial.number, None)
        if rest.done < grant.until:
            return  # at a look, which it passes at once, or it is told
        line = self._paused(loop, trial)
        self._recent.append(line)
        if self._live is None:
            _print(self.console, line)
        self._draw(loop)

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """Show a finished trial."""
        self._points.pop(trial.number, None)
        line = self._line(loop, trial)
        self._recent.append(line)
        if self._live is None:
            _print(self.console, line)
        self._draw(loop)

    def tick(self, loop: Loop) -> None:
        """Update the clock, and say once that the search is over."""
        if loop.state.ended is not None and self._said is None:
            self._said = loop.state.ended
            if self._live is None:
                self.console.print(
                    f"search ended: {self._said}; finalists are trained", markup=False
                )
        self._draw(loop)

    def _draw(self, loop: Loop, force: bool = False) -> None:
        if self._live is None:
            return
        now = time.monotonic()
        if force or now - self._shown >= self._refresh:
            self._shown = now
            self._live.update(self.render(loop), refresh=True)

    def _paused(self, loop: Record, trial: TrialRecord) -> Text:
        """A trial that pauses, as it was then."""
        grant, rest = trial.rests[-1]
        metric = loop.spec.objective.metric
        number = {**trial.resources, **rest.metrics}.get(metric)
        text = Text(f"{trial.number:5d}  {trial.kind.value.lower():8}  ")
        best = loop.best is not None and loop.best.number == trial.number
        text.append(f"{metric} {value(number)}", style="bold green" if best else "")
        where = rung_text(loop, grant.rung) or "measured without training"
        text.append(f"  pauses at {where}" if grant.rung >= 0 else f"  {where}", "cyan")
        if "params" in trial.resources:
            text.append(f"  {params_text(trial.resources)}", style="dim")
        return text

    def _line(self, loop: Record, trial: TrialRecord) -> Text:
        metric = loop.spec.objective.metric
        number = trial.values.get(metric)
        text = Text(f"{trial.number:5d}  {trial.kind.value.lower():8}  ")
        ended_early = trial.outcome is Outcome.STOPPED
        if (trial.outcome is Outcome.SUCCEEDED or ended_early) and number is not None:
            best = loop.best is not None and loop.best.number == trial.number
            text.append(f"{metric} {number:.4f}", style="bold green" if best else "")
            text.append(_main_text(loop, trial))
            if trial.kind in SEARCHING and (where := rung_text(loop, trial.rung)):
                text.append(f"  {where}", style="cyan")
            if ended_early:
                text.append(f"  {_why('stopped', trial.message)}"[:100], style="yellow")
        else:
            outcome = trial.outcome.value if trial.outcome else "running"
            text.append(_why(outcome, trial.message)[:100], style="yellow")
        if "params" in trial.resources:
            text.append(f"  {params_text(trial.resources)}", style="dim")
        text.append(
            f"  {counted(trial.cost.epochs, 'epoch')}  {trial.cost.device_seconds:.1f} s",
            style="dim",
        )
        if trial.operation:
            text.append(f"  {trial.operation}", style="dim")
        if trial.inherited is not None:
            text.append(f"  {inherited_text(trial.inherited)}", style="dim")
        return text

    def render(self, loop: Loop) -> RenderableType:
        """The live table."""
        state, spec = loop.state, loop.spec
        running = loop.running
        bad = (Outcome.FAILED, Outcome.INFEASIBLE)
        failed = sum(t.outcome in bad and not t.excluded for t in state.told)
        done = len(state.told) - state.excluded
        best = loop.best
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column()
        phase = "finalists" if state.ended is not None else "search"
        if loop.stopping:
            phase = "stopping at the next checkpoint; press Ctrl-C again to stop immediately"
        table.add_row("phase", phase)
        paused = f"{state.resting} paused, " if state.resting else ""
        above = f", {state.excluded} above a limit" if state.excluded else ""
        table.add_row(
            "trials", f"{done} ended, {len(running)} running, {paused}{failed} failed{above}"
        )
        shown = best.values.get(spec.objective.metric) if best else None
        text = Text(f"{spec.objective.metric} {value(shown)}", style="bold green")
        if best is not None:
            text.append(_main_text(loop, best))
            if where := rung_text(loop, best.rung):
                text.append(f"  {where}", "cyan")
        if best is not None and best.resources:
            text.append(f"  trial {best.number}, {params_text(best.resources)}", "dim")
        table.add_row("best", text)
        if loop.laddered:
            for text_of_rung in rung_rows(loop):
                table.add_row("rung", text_of_rung)
        for limit in loop.limits:
            bar = ProgressBar(total=limit.total, completed=min(limit.spent, limit.total), width=24)
            row = Table.grid(padding=(0, 1))
            row.add_row(bar, limit_left(limit) + " left")
            table.add_row("budget", row)
        left = time_left(loop)
        remaining = f", about {clock(left)} left of the search" if left is not None else ""
        table.add_row("time", f"{clock(loop.elapsed)}{remaining}")
        for number in sorted(running):
            trial, point = state.trials[number], self._points.get(number)
            epoch = point.epoch if point else trial.done
            measured = point.metrics.get(spec.objective.metric) if point else None
            table.add_row(
                "running",
                Text(
                    f"{number:5d}  {trial.kind.value.lower():8}  epoch {epoch}"
                    f"/{trial.grant.until}  {value(measured)}"
                ),
            )
        return Group(table, Text(""), *self._recent)


def rung_rows(record: Record) -> list[str]:
    """How trials stand on the ladder, a line for each rung that one has entered: at most
    `MOST_RUNGS`, the first and the highest."""
    found = [step for step in steps(record) if step.count.entered]
    if len(found) > MOST_RUNGS:
        found = [found[0], *found[-MOST_RUNGS + 1 :]]
    rows = []
    for step in found:
        name = f"{step.rung} ({step.text})" if step.rung >= 0 else step.text
        rows.append(f"{name}: {standing(step.count)}")
    return rows


def _why(word: str, message: str) -> str:
    """How a trial ended, and why, if there is anything to say of it."""
    return f"{word}: {message}" if message else word


def _main_text(loop: Record, trial: TrialRecord) -> str:
    """The task's main metric of a trial, where it is no objective."""
    name = main_metric(loop.info, [aim.metric for aim in loop.aims])
    number = None if name is None else trial.values.get(name)
    return "" if number is None else f", {name} {number:.4f}"


def finished_lines(loop: Record, most: int | None) -> list[Text]:
    """The trials that ended last, a line each: at most so many, or all for None."""
    told = loop.state.told
    shown = told if most is None else told[-most:]
    return [Progress()._line(loop, trial) for trial in shown]


def stopping_text(rule: Stopping) -> str:
    """What a rule that stops trials did, and how far it can be trusted."""
    found = rule.calibration
    text = f"{rule.rule} stopped {counted(found.stopped, 'trial')}"
    if found.share is None or found.interval is None:
        return (
            f"{text}; how many of them would have become the best is not known, because no "
            "spared trial has a result"
        )
    low, high = found.interval
    return (
        f"{text}; an estimated {found.share:.1%} of them would have become the best "
        f"(95% interval {low:.1%} to {high:.1%}, from {counted(found.spared, 'spared trial')})"
    )


def _title(loop: Record, data: ReportData, running: bool) -> str:
    used = f"{clock(loop.elapsed)} used so far"
    if running:
        return f"[bold cyan]running[/]; {used}"
    if loop.state.finished is None:
        return f"[bold yellow]interrupted[/]; resume it with the same command; {used}"
    title = "[bold red]no network[/]" if data.phase == "Failed" else "[bold green]done[/]"
    return f"{title} in {clock(loop.elapsed)}: {escape(data.reason)}"


def summary(console: Console, loop: Record, data: ReportData, *, running: bool = False) -> None:
    """Print a run's state: its best networks, its cost, and its location.

    Args:
        console: to print on.
        loop: the run, replayed or just finished.
        data: the run's data for the report.
        running: whether another process runs it.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(Text(name), Text(text))  # names and paths are no markup

    winner = data.winner
    if winner is not None:
        found = loop.state.trials[winner.found_by]
        row(
            "winner",
            f"trial {winner.trial}, found by {found.kind.value.lower()} trial {winner.found_by}",
        )
        row("validation", f"{data.metric} {value(winner.metrics.get(data.metric))}")
        if data.main_metric in winner.metrics:
            number = winner.metrics[data.main_metric]
            row("validation", f"{data.main_metric} {number:.4f}")
        for name, number in sorted(winner.test.items()):
            if name not in data.tested and not name.endswith("loss"):
                continue  # the report has them all
            use = "once" if winner.tests == 1 else f"use {winner.tests}"
            row(f"test, {use}", f"{name} {number:.4f}")
        counts = [
            f"{winner.metrics[m]:,.0f} {label}"
            for m, label in (("params", "parameters"), ("macs", "multiply-adds"))
            if m in winner.metrics
        ]
        row("size", ", ".join(counts))
    if winner is None and loop.best is not None:
        best = loop.best
        row(
            "best so far",
            f"trial {best.number}, {data.metric} {value(best.values.get(data.metric))}"
            + (f", {where}" if (where := rung_text(loop, best.rung)) else ""),
        )
    if loop.laddered:
        for text in rung_rows(loop):
            row("rung", text)
    if data.ladder and (saved := saving(data)).share > 0:
        row(
            "saved",
            f"{saved.share:.0%} of what {counted(saved.trials, 'trial')} would take in full",
        )
    if (shared := supernet_section.line(data)) is not None:
        row("supernet", shared)
    if (rule := data.stopping) is not None:
        row("stopping", stopping_text(rule))
    for kind, cost in data.cost.items():
        if cost.epochs:
            row(
                f"cost, {kind}",
                f"{counted(cost.epochs, 'epoch')}, "
                f"{counted(cost.samples, 'sample pass', quantity(cost.samples))}, "
                f"device time {clock(cost.device_seconds)}",
            )
        elif cost.device_seconds:  # candidates that are scored with a supernet
            row(f"cost, {kind}", f"device time {clock(cost.device_seconds)}")
    judged = verdict(data)
    if judged is not None:
        row("random control", judged.text)
    for trial in data.trials:
        if trial.label:
            row(
                trial.label,
                f"{data.metric} {value(trial.metrics.get(data.metric))}, "
                f"{trial.metrics.get('params', 0):,.0f} parameters",
            )
    if winner is not None:
        row("model", winner.model_uri)
    row("report", f"{data.store_uri}/report.html")
    console.print()
    _print(console, Text.from_markup(_title(loop, data, running)))
    console.print(table, highlight=False, soft_wrap=not console.is_terminal)
    if winner is not None:
        console.print("\nLoad it:")
        for line in winner.load_lines:
            console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
