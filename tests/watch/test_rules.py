"""The alerts: each fires when it shall and not otherwise, and has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.watch.prometheus import ALERTS

ROOT = Path(__file__).parents[2]
TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules(promtool: Path) -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in run(promtool, "check", "rules", ALERTS)


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_it_fires_when_it_shall(promtool: Path, file: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_a_wrong_expectation_is_found(promtool: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(TESTS[0].read_text())
    document["rule_files"] = [str(ALERTS)]
    for case in document["tests"]:
        for check in case["alert_rule_test"]:
            check["exp_alerts"] = []
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run([str(promtool), "test", "rules", str(tmp_path / "wrong.yaml")])
    assert done.returncode == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_is_tested_both_ways(name: str) -> None:
    seen = set()
    for file in TESTS:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                if check["alertname"] == name:
                    seen.add(bool(check["exp_alerts"]))
    assert seen == {True, False}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page = ROOT / rule["annotations"]["runbook"]
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", rule["alert"].removeprefix("Kinase")).lower()
    assert page.name == f"{words}.md"
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "How to look", "What to do"]


def test_no_page_is_without_an_alert() -> None:
    pages = {path.name for path in (ROOT / "docs/runbooks").glob("*.md")}
    named = {Path(rule["annotations"]["runbook"]).name for rule in RULES}
    assert pages - {"README.md"} == named
