"""The dashboards are those of the code, and every panel says what it shows."""

from __future__ import annotations

from typing import Any

import pytest

from charts.dashboards.__main__ import texts
from tests.watch import dashboards
from tests.watch.prometheus import DASHBOARDS


def test_they_are_those_of_the_code() -> None:
    made = texts()
    assert sorted(made) == sorted(path.name for path in DASHBOARDS.glob("*.json"))
    for name, text in made.items():
        assert (DASHBOARDS / name).read_text() == text, f"{name} differs: run make generate"


@pytest.fixture(params=dashboards.NAMES)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dashboards.load(request.param)


def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    for panel in dashboards.panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], panel["title"]


def test_every_number_has_a_unit(dashboard: dict[str, Any]) -> None:
    for panel in dashboards.panels(dashboard):
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_panels_have_numbers_and_places_of_their_own(dashboard: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert 0 not in numbers
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_they_lead_to_each_other() -> None:
    for name in dashboards.NAMES:
        found = dashboards.load(name)
        assert found["tags"] == ["kinase"]
        [link] = found["links"]
        assert (link["type"], link["tags"]) == ("dashboards", ["kinase"])
    uids = {dashboards.load(name)["uid"] for name in dashboards.NAMES}
    assert uids == {"kinase-fleet", "kinase-experiment"}
    tables = [p for p in dashboards.panels(dashboards.load("fleet")) if p["type"] == "table"]
    urls = [
        link["url"]
        for table in tables
        for override in table["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "links"
        for link in given["value"]
    ]
    assert [url.partition("?")[0] for url in urls] == ["/d/kinase-experiment"]


def test_every_variable_is_there(dashboard: dict[str, Any]) -> None:
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    values = dict.fromkeys([*known, "__rate_interval", "__range"], "1m")
    for _, target in dashboards.targets(dashboard):
        dashboards.fill(target["expr"], values)
