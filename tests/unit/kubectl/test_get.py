"""How experiments are printed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator

import pytest
import yaml
from rich.console import Console

from kinase.cli_options import Target
from kinase_kubectl import get, table
from kinase_kubectl.get import Query
from kinase_kubectl.problem import Problem
from kinase_kubectl.views import Experiment, Listing, Trial
from tests.unit.kubectl.samples import NOW, condition, experiment, searching, trial

HERE = Target()


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get, "now", lambda: NOW)


def printed(
    query: Query,
    found: list[Experiment],
    trials: list[Trial] | None = None,
    room: int | None = None,
) -> list[str]:
    return [line.plain for line in get.lines(query, found, trials or [], room)]


def test_columns_are_aligned_where_there_is_no_terminal() -> None:
    assert printed(Query(HERE), [experiment(**searching()), experiment("a-longer-name")]) == [
        "NAME            PHASE       TRIALS   DONE   RUNNING   BEST     BUDGET LEFT   "
        "TIME LEFT   AGE     NOTE",
        "digits          Searching   24/60    40%    2         0.9805   34 trials     "
        "~3m         2m11s",
        "a-longer-name   Pending                                                      "
        "            2m11s",
    ]


def test_a_terminal_has_a_bar_and_what_is_wrong() -> None:
    wrong = condition("Progressing", "False", "StoreUnavailable", "the bucket is away")
    found = [experiment(**searching(conditions=[wrong])), experiment()]
    head, first, second, note = printed(Query(HERE), found, room=130)
    assert "   ━━━━━─────── 40%    2 " in first
    assert head.index("RUNNING") == first.index("2         0.98")
    assert head.index("AGE") == first.index("2m11s") == second.index("2m11s")
    assert note == "digits: StoreUnavailable for 60s: the bucket is away"


def test_a_narrow_terminal_has_no_bar_and_loses_nothing() -> None:
    found = [experiment(**searching())]
    assert printed(Query(HERE), found, room=60) == printed(Query(HERE), found)


def test_one_with_its_trials() -> None:
    trials = [trial(n, node="gpu-01", value=n / 10) for n in range(6)]
    query = Query(HERE, "digits", trials=2)
    wrong = condition("Ready", "False", "Crashing", "x" * 200)
    found = [experiment(**searching(conditions=[wrong]))]
    text = printed(query, found, trials)
    assert text[0] == "Name:          digits"
    assert f"Trouble:       Crashing for 60s: {'x' * 200}" in text
    blank = text.index("")
    head = text[blank + 1].split()
    assert head == ["NAME", "KIND", "PHASE", "VALUE", "EPOCHS", "NODE", "ATTEMPT", "AGE", "REASON"]
    assert [line.split()[0] for line in text[blank + 2 : -1]] == ["digits-00004", "digits-00005"]
    assert text[-1] == "4 more trials ended before; --trials 0 shows all"
    drawn = printed(query, found, trials, room=80)
    assert f"Phase:         Searching  {'━' * 10}{'─' * 14} 40%" in drawn
    drawn.remove(f"Phase:         Searching  {'━' * 10}{'─' * 14} 40%")
    text.remove("Phase:         Searching")
    assert drawn == text


def test_what_is_printed_is_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cluster:
        namespace = "nas"

        @classmethod
        @contextlib.asynccontextmanager
        async def open(cls, target: Target) -> AsyncIterator[Cluster]:
            yield cls()

        async def experiments(self, **_: object) -> list[Experiment]:
            return [experiment(**searching())] if filled else []

    monkeypatch.setattr(get, "Cluster", Cluster)
    filled, said = True, list[str]()
    for terminal in (False, True):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=40)
        asyncio.run(get.get(Query(HERE, output="wide"), console, said.append))
        assert console.file.getvalue().count("\n") == 2  # type: ignore[attr-defined]
    filled = False
    asyncio.run(get.get(Query(HERE), Console(file=io.StringIO()), said.append))
    asyncio.run(get.get(Query(HERE, everywhere=True), Console(file=io.StringIO()), said.append))
    assert said == ["No experiments found in namespace nas.", "No experiments found."]


def test_documents() -> None:
    found = [experiment(**searching()), experiment("other")]
    listed = json.loads(get.document(Query(HERE, output="json"), found))
    assert (listed["kind"], len(listed["items"])) == ("List", 2)
    one = yaml.safe_load(get.document(Query(HERE, "digits", output="yaml"), found[:1]))
    assert one["metadata"]["name"] == "digits"
    assert "managedFields" not in one["metadata"]
    names = get.document(Query(HERE, output="name"), found)
    assert names == "nasexperiment.kinase.dev/digits\nnasexperiment.kinase.dev/other\n"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(HERE, output="jsonpath"), "-o 'jsonpath' is not known; use one of wide, json, yaml"),
        (Query(HERE, "digits", everywhere=True), "cannot be combined with -A or -l"),
        (Query(HERE, "digits", selector="a=b"), "cannot be combined with -A or -l"),
        (Query(HERE, "../nas"), "'../nas' is not a valid name"),
    ],
)
def test_what_makes_no_sense(query: Query, said: str) -> None:
    with pytest.raises(Problem) as caught:
        get.check(query)
    assert said in str(caught.value)
    assert caught.value.code == 2


def test_a_name_may_have_its_kind_before_it() -> None:
    for text in ("nasx/digits", "nasexperiment.kinase.dev/digits", "nasexperiments/digits"):
        assert get.check(Query(HERE, text)).name == "digits"


def test_rows_are_as_wide_as_their_head() -> None:
    assert table.plain(Listing(["A", "LONGER"])) == ["A   LONGER"]
