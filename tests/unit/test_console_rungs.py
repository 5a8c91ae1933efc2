"""What a person sees of a search on a ladder: how far, how good, how long; rungs are not mixed."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from kinase.api.trial import Kind, Outcome
from kinase.cli.runs import trial_columns
from kinase.client import html
from kinase.console import Progress, finished_lines, rung_rows, summary
from kinase.experiment.loop import Loop
from kinase.experiment.pace import epochs_to_come, time_left
from kinase.experiment.rungs import OVER
from kinase.experiment.state import SEARCHING
from kinase.report.gather import gather
from kinase.runs import rows
from kinase.runs.status import _best
from tests.unit.experiment.helpers import make_loop
from tests.unit.experiment.test_rungs import CurveEngine, falling, stopping
from tests.unit.experiment.test_stretches import learnt, manifest


class Halt:
    """Takes a picture when a trial has reached the third rung, and interrupts the search."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.progress = Progress(Console(file=self.text, width=160))
        self.live = ""
        self.html = ""
        self.left: float | None = None
        self.resting = 0
        self.rows: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.progress, name)

    def tick(self, loop: Loop) -> None:
        self.progress.tick(loop)
        count = loop.state.rungs.get(2)
        if count is None or not count.reached or self.live:
            return
        console = Console(file=io.StringIO(), width=160)
        console.print(self.progress.render(loop))
        self.live = console.file.getvalue()  # type: ignore[attr-defined]
        self.html = html.progress(loop, {})
        self.resting, self.rows = loop.state.resting, rung_rows(loop)
        self.left = time_left(loop)
        loop.interrupt()


@pytest.fixture(scope="module")
def halted() -> tuple[Loop, Halt]:
    """A search whose values are lower at each higher rung."""
    halt = Halt()
    times = iter(range(100_000))
    loop = make_loop(
        manifest(budget={"trials": 40}),
        evaluate=falling,
        listener=halt,
        clock=lambda: float(next(times)),
    )
    loop.run()
    assert halt.live
    assert loop.state.resting
    return loop, halt


def test_the_live_table_says_how_far_trials_got(halted: tuple[Loop, Halt]) -> None:
    _, halt = halted
    assert f"{halt.resting} paused" in halt.live
    assert len(halt.rows) == 3
    assert all(f"rung  {row}" in halt.live for row in halt.rows)
    assert "rung 2 (9 epochs)" in halt.live
    assert halt.left is not None
    assert "left of the search" in halt.live


def test_a_search_that_is_resumed_says_how_many_trials_are_paused(
    halted: tuple[Loop, Halt],
) -> None:
    loop, _ = halted
    text = io.StringIO()
    Progress(Console(file=text, width=300)).started(loop)
    told = len(loop.state.told)
    assert f"resuming after {told} finished trial" in text.getvalue()
    assert f" and {loop.state.resting} paused" in text.getvalue()


def test_without_a_terminal_a_line_says_where_a_trial_pauses(halted: tuple[Loop, Halt]) -> None:
    loop, halt = halted
    lines = [line for line in halt.text.getvalue().splitlines() if "pauses at" in line]
    pauses = [
        (t.number, grant.rung)
        for t in loop.state.of_kind(*SEARCHING)
        for grant, rest in t.rests
        if rest.done >= grant.until
    ]
    assert len(lines) == len(pauses)
    assert sum("pauses at rung 1 (3 of 9 epochs)" in line for line in lines) == sum(
        rung == 1 for _, rung in pauses
    )


def test_the_best_is_that_of_the_highest_rung_everywhere(halted: tuple[Loop, Halt]) -> None:
    loop, halt = halted
    best = loop.best
    assert best is not None
    assert best.rung == 2
    shown = f"val_accuracy {best.metrics['val_accuracy']:.4f}"
    assert shown in halt.live
    assert f"{shown}, rung 2 (9 epochs)" in halt.html
    assert _best(loop.state, "val_accuracy", less=False) is best
    console = Console(file=io.StringIO(), width=160)
    summary(console, loop, gather(loop))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"trial {best.number}, {shown}, rung 2 (9 epochs)" in text
    assert "saved" in text
    assert all(row in text for row in rung_rows(loop))


def test_a_table_of_trials_says_who_is_paused_and_where(halted: tuple[Loop, Halt]) -> None:
    loop, _ = halted
    found = rows(loop.state)
    columns = {c.title: c.cells for c in trial_columns(found, ["val_accuracy"], wide=False)}
    for trial, outcome, rung in zip(
        loop.state.trials.values(), columns["OUTCOME"], columns["RUNG"], strict=True
    ):
        wanted = trial.outcome or ("Paused" if trial.resting else "Running")
        assert outcome == wanted
        assert rung == ("-" if trial.rung < 0 else str(trial.rung))
    whole = make_loop(manifest(estimation={"type": "Full"}, budget={"trials": 3}), evaluate=learnt)
    titles = {c.title for c in trial_columns(rows(whole.run()), ["val_accuracy"], wide=True)}
    assert "RUNG" not in titles


def test_finalists_have_no_rung() -> None:
    loop = make_loop(manifest(), evaluate=learnt)
    loop.run()
    by_kind = {row["trial"]: row for row in rows(loop.state)}
    for trial in loop.state.of_kind(Kind.FINAL):
        assert by_kind[trial.number]["rung"] is None
        assert by_kind[trial.number]["state"] == "Ended"
    lines = [str(line) for line in finished_lines(loop, None)]
    assert sum("rung" in line for line in lines) == sum(
        t.kind in SEARCHING and t.rung >= 0 for t in loop.state.told
    )


@pytest.mark.parametrize(
    ("outcome", "message", "metrics", "text"),
    [
        (Outcome.STOPPED, OVER, {}, "Stopped: the search is over  "),
        (Outcome.STOPPED, OVER, {"val_accuracy": 0.5}, "  stopped: the search is over"),
        (Outcome.INFEASIBLE, "out of memory", {}, "Infeasible: out of memory"),
        (Outcome.FAILED, "", {}, "Failed  "),
    ],
)
def test_a_line_says_how_a_trial_ended_and_why(
    outcome: Outcome,
    message: str,
    metrics: dict[str, float],
    text: str,
    halted: tuple[Loop, Halt],
) -> None:
    loop, halt = halted
    changes: dict[str, Any] = {"outcome": outcome, "message": message, "metrics": metrics}
    assert text in str(halt.progress._line(loop, replace(loop.state.trials[0], **changes)))


def test_the_epochs_to_come_are_those_of_the_ladder() -> None:
    """27 trials: 27 epochs, 9 trials on to 3 epochs, 3 on to 9."""
    loop = make_loop(manifest(budget={"trials": 27}), evaluate=learnt)
    assert epochs_to_come(loop, 27) == pytest.approx(27 + 9 * 2 + 3 * 6)
    state = loop.run()
    left = epochs_to_come(loop, 0)
    assert left is not None
    assert left < 9  # a promotion or two that did not come
    assert state.rungs[0].entered == 27
    full = make_loop(manifest(estimation={"type": "Full"}), evaluate=learnt)
    assert epochs_to_come(full, 5) is None


def test_what_a_rule_did_is_said_with_how_far_it_can_be_trusted() -> None:
    loop = make_loop(stopping(0.5), engine=CurveEngine(learnt))
    loop.run()
    found = loop.leaders.calibration
    assert found is not None
    assert found.share is not None
    console = Console(file=io.StringIO(), width=300)
    summary(console, loop, gather(loop))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Median stopped {found.stopped} trial" in text
    assert f"an estimated {found.share:.1%} of them would have become the best" in text
    assert f"from {found.spared} spared trial" in text
