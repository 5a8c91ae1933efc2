"""Counts in sentences, and that none is written past the helper."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinase.words import counted

ROOT = Path(__file__).parents[2]
SOURCES = ("kinase", "trainer/kinase_trainer", "operator/kinase_kubectl")


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "file", "1 file"),
        (0, "file", "0 files"),
        (1200, "epoch", "1,200 epochs"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "sample pass", "2 sample passes"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (1.0, "device hour", "1.0 device hour"),
    ],
)
def test_a_noun_agrees_with_its_number(number: float, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_a_number_is_shown_as_it_is_asked_to_be() -> None:
    assert counted(1, "param", "1.0k") == "1.0k param"
    assert counted(12_300, "param", "12.3k") == "12.3k params"


NOUNS = (
    r"(architecture|attempt|class(e)?|document|epoch|experiment|file|filter|finished trial|group|"
    r"image|label|more trial|morphism|network|output|parameter|param|random one|random trial|"
    r"sample|sample passe|seed|step|target|time|trial|device hour|device second|cell)s\b"
)
CONSTANTS = re.compile(r"^(MAX_|MOST_|IMAGES$|LARGE)")


def written_counts(path: Path) -> Iterator[str]:
    """Formatted numbers with a plural right behind them: `{len(files)} files`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            if not re.match(f" {NOUNS}", str(text.value)):
                continue
            source = ast.unparse(value.value)
            if not CONSTANTS.match(source):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {{{source}}}{text.value}"


def test_no_count_is_written_with_a_fixed_plural() -> None:
    paths = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [line for path in paths for line in written_counts(path)]
    assert not [line for line in found if not any(each in line for each in NEVER_ONE)], found


NEVER_ONE = (
    "kinase/report/verdict.py",  # says "the one trial" itself
    "kinase/space/",  # too many to enumerate; a network's parameters
    "kinase/morphism/",  # groups that are more than one
    "['params']",
    "'params', 0",
    "architectures",
    "{crashes} attempts",
    "{len(found)} classes, numbered",
    "own} parameters",
    "samples of the ",
    "device hours",
    "parameters or fewer",
    "largest} parameters",
    "{word} samples",
)
"""Where the number is above one, or is none, or the sentence takes care of it."""
