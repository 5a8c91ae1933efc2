"""How experiments are printed."""

from __future__ import annotations

import io
import json

import pytest
import yaml
from rich.console import Console

from kinase.options import Target
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
    query: Query, found: list[Experiment], trials: list[Trial] | None = None, *, terminal: bool
) -> str:
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=120 if terminal else 80,
        color_system=None,
    )
    parts = get.parts(query, found, trials or [], terminal)
    table.show(console, *parts)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_columns_are_aligned_where_there_is_no_terminal() -> None:
    found = [experiment(**searching()), experiment("a-longer-name")]
    assert printed(Query(HERE), found, terminal=False).splitlines() == [
        "NAME            PHASE       TRIALS   DONE   RUNNING   BEST     BUDGET LEFT   "
        "TIME LEFT   AGE     NOTE",
        "digits          Searching   24/60    40%    2         0.9805   34 trials     "
        "~3m         2m11s",
        "a-longer-name   Pending                                                      "
        "            2m11s",
    ]


def test_a_terminal_has_a_bar_and_what_is_wrong() -> None:
    wrong = condition("Progressing", "False", "StoreUnavailable", "the bucket is away")
    text = printed(Query(HERE), [experiment(**searching(conditions=[wrong]))], terminal=True)
    lines = text.splitlines()
    assert "━━━━" in lines[1]
    assert "40%" in lines[1]
    assert lines[-1] == "digits: StoreUnavailable for 60s: the bucket is away"


def test_one_with_its_trials() -> None:
    trials = [trial(n, node="gpu-01", value=n / 10) for n in range(6)]
    query = Query(HERE, "digits", trials=2)
    wrong = condition("Ready", "False", "Crashing", "x" * 200)
    found = [experiment(**searching(conditions=[wrong]))]
    lines = printed(query, found, trials, terminal=False).splitlines()
    assert lines[0] == "Name:          digits"
    assert f"Trouble:       Crashing for 60s: {'x' * 200}" in lines  # whole, on one line
    blank = lines.index("")
    head = lines[blank + 1].split()
    assert head == ["NAME", "KIND", "PHASE", "VALUE", "EPOCHS", "NODE", "AGE", "REASON"]
    assert [line.split()[0] for line in lines[blank + 2 : -1]] == ["digits-00004", "digits-00005"]
    assert lines[-1] == "4 more trials ended before; --trials 0 shows all"
    text = printed(query, found, trials, terminal=True)
    assert "━━━━" in text
    assert "digits-00005" in text


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
        (Query(HERE, "digits", everywhere=True), "neither -A nor -l"),
        (Query(HERE, "digits", selector="a=b"), "neither -A nor -l"),
        (Query(HERE, "../nas"), "'../nas' is no name"),
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
