"""Timeline of trials by slot, with their waiting times."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from kinase.api.trial import Kind
from kinase.report.data import ReportData, ReportTrial
from kinase.report.figures import KINDS, describe
from kinase.report.gather import COST_NAMES
from kinase.report.rungs import Stretch
from kinase.report.styles import base
from kinase.report.theme import duration

MOST = 1000
"""Maximum number of trials drawn: the last."""
UNITS = (
    (2 * 86400, 86400, "days"),
    (2 * 3600, 3600, "hours"),
    (120, 60, "minutes"),
    (0, 1, "seconds"),
)
"""Units of the axis: minimum seconds, unit, name."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch of a trial in a slot; times are seconds that the experiment had run."""

    trial: ReportTrial
    slot: int
    """Slot number from 0: the lowest free one."""
    asked: float
    started: float
    """When its training started, derived from its cost. The time before includes the wait for a
    node, an image or a worker, and the start."""
    ended: float

    @property
    def waited(self) -> float:
        """Seconds before it trained."""
        return self.started - self.asked


def stays(data: ReportData) -> list[Stay]:
    """Each trial with a cost, in the lowest slot that was free when it was asked, in order of
    asking; one that paused, once for each stretch.

    The journal has the times of asking and ending. A trial counts as training for its device
    seconds up to its end, including lost attempts; a running trial has no cost yet, and counts as
    training.
    """
    found: list[Stay] = []
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    ran = [t for t in data.trials if t.asked is not None and (t.cost.epochs or t.ended is None)]
    parts = [(trial, part) for trial in ran for part in _parts(trial)]
    for trial, part in sorted(parts, key=lambda each: (each[1].began, each[0].number)):
        asked = part.began
        ended = max(asked, data.elapsed if part.ended is None else part.ended)
        started = asked if part.ended is None else max(asked, ended - part.device_seconds)
        while busy and busy[0][0] <= asked:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (ended, slot))
        found.append(Stay(trial, slot, asked, started, ended))
    return found


def _parts(trial: ReportTrial) -> tuple[Stretch, ...]:
    """When a trial held a slot. A stretch that was over at once held none."""
    whole = Stretch(trial.asked or 0.0, trial.ended, trial.cost.device_seconds)
    held = tuple(part for part in trial.stretches if part.ended is None or part.device_seconds)
    return held or (whole,)


def used(found: Sequence[Stay]) -> float:
    """The share of the slots' time, from the first trial to the last, in which they trained."""
    whole = max((s.ended for s in found), default=0.0) - min((s.asked for s in found), default=0.0)
    slots = 1 + max((s.slot for s in found), default=0)
    return sum(s.ended - s.started for s in found) / (slots * whole) if whole > 0 else 0.0


def timeline(data: ReportData, found: Sequence[Stay]) -> go.Figure:
    """A row for each slot, a bar for each trial, paler for waiting."""
    shown = found[-MOST:]
    length = max(s.ended for s in found)
    _, factor, unit = next(each for each in UNITS if length >= each[0])
    figure = base(f"{unit} that the experiment had run", "slot", barmode="overlay", bargap=0.25)
    waited = [s for s in shown if s.waited > 0]
    _bars(figure, waited, "waiting or starting", ("thin", "/"), data, factor, wait=True)
    for kind in Kind:
        group = [s for s in shown if s.trial.kind is kind]
        name = COST_NAMES.get(kind, kind.value.lower())
        _bars(figure, group, name, KINDS.get(name, ("thin", "+")), data, factor)
    slots = 1 + max(s.slot for s in found)
    figure.update_yaxes(range=[slots + 0.5, 0.5], dtick=max(1, -(-slots // 12)), tick0=1)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _bars(
    figure: go.Figure,
    group: Sequence[Stay],
    name: str,
    style: tuple[str, str],
    data: ReportData,
    factor: float,
    wait: bool = False,
) -> None:
    if not group:
        return
    ends = [(s.asked, s.started) if wait else (s.started, s.ended) for s in group]
    colour, pattern = style
    figure.add_bar(
        y=[s.slot + 1 for s in group],
        base=[begin / factor for begin, _ in ends],
        x=[(end - begin) / factor for begin, end in ends],
        orientation="h",
        name=name,
        marker={
            "color": f"var(--{colour})",
            "opacity": 0.55 if wait else 1,
            "line": {"color": "var(--paper)", "width": 1},
            "pattern": {"shape": pattern, "fillmode": "replace", "size": 6},
        },
        text=[_text(data, s) for s in group],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )


def _text(data: ReportData, stay: Stay) -> str:
    outcome = f", {stay.trial.outcome.value.lower()}" if stay.trial.outcome else ""
    end = "under way"
    if stay.trial.ended is not None and stay.ended >= stay.trial.ended:
        end = f"ended{outcome}"
    elif any(part.ended == stay.ended for part in stay.trial.stretches):
        end = "paused"
    return (
        f"{describe(data, stay.trial)}<br>asked after {duration(stay.asked)}, waited "
        f"{duration(stay.waited)}, trained {duration(stay.ended - stay.started)}, {end}"
    )
