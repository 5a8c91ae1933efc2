"""The page on the architecture names tests and files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
DECISIONS = re.split(r"^### ", PAGE.split("## Decisions")[1].split("\n## ")[0], flags=re.M)[1:]


def test_each_decision_has_a_reason_and_a_test() -> None:
    assert len(DECISIONS) > 10
    for decision in DECISIONS:
        title = decision.splitlines()[0]
        assert re.search(r"^\*Why:\* ", decision, flags=re.M), title
        assert re.search(r"^\*Tests?:\* ", decision, flags=re.M), title


def test_the_tests_of_the_decisions_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) >= len(DECISIONS)
    for file, test in named:
        text = (ROOT / file).read_text()
        assert not test or re.search(rf"^(async )?def {test}\(", text, flags=re.M), (
            f"{file}::{test}"
        )


def test_the_files_that_it_names_exist() -> None:
    for row in re.findall(
        r"^\|[^|]+\|([^|]+)\|$", PAGE.split("## Where to find it")[1], flags=re.M
    ):
        folder = ROOT
        for name in re.findall(r"`([\w/]+(?:\.\w+|/))`", row):
            place = ROOT / name if "/" in name else folder / name
            assert place.exists(), name
            folder = place if place.is_dir() else place.parent
