"""Plain English: texts for readers do not use archaic words, and have one spelling.

This covers pages, docstrings, comments and messages, the CRDs' descriptions and the chart.
`REFUSED` has the words by what to write instead. Spelling is British with -ize, as in the
manifest's and PyTorch's names (`optimizer`, `maximize`) and the spaces' (`neighbours`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("kinase", "trainer", "operator", "bench", "charts")
PAGES = (
    "docs/**/*.md",
    "README.md",
    "CONTRIBUTING.md",
    "bench/README.md",
    "charts/kinase/README.md",
)
PLAIN = ("crds/*.yaml", "charts/kinase/*.yaml", "charts/kinase/*.json", "charts/kinase/templates/*")
EXAMPLES = ("examples/**/*.yaml",)
STEMS = (
    "optim",
    "normal",
    "standard",
    "initial",
    "regular",
    "serial",
    "parametr",
    "minim",
    "maxim",
)
ENDS = ("e", "ed", "es", "er", "ers", "ing", "ation", "ations")

REFUSED = {
    "again, or from scratch": ["anew"],
    "next to, in addition to, or except": ["beside", "besides", "but for the"],
    "a verb, or so that": ["thereby", "whereby", "therein", "thereof", "lest", "whence", "whilst"],
    "must, should or will": ["shall"],
    "forever": ["for ever"],
    "the verb that is meant, such as acquire": ["be had", "bears", "bore", "borne"],
    "continue, or resume": ["goes on", "go on", "went on", "going on"],
    "is paused": ["stands still", "stand still"],
    "the result of": ["came of", "comes of", "becomes of", "became of"],
    "is in, or the path of": ["lies in", "lies at", "lies below", "lies above", "where it lies"],
    "is not a, or cannot be": [
        "is no place",
        "is no store",
        "is no manifest",
        "what is no",
        "which is no",
    ],
    "does not exist, or is missing": ["is not there", "are not there", "was not there"],
    "its own, separate, or custom": ["of its own", "of one's own", "of their own", "of ours"],
    "correct, or fix": ["put right", "puts right", "mended", "mends"],
    "the verb that is meant, such as distinguish": ["tells apart", "told apart", "tell apart"],
    "has not started": ["has not begun", "have not begun"],
    "-ize": [f"{stem}is{end}" for stem in STEMS for end in ENDS],
    "the British form": [
        *("neighbor", "neighbors", "neighborhood", "behavior", "behaviors", "favor", "honor"),
        *("honors", "labeled", "labeling", "canceled", "modeled"),
    ],
    "learned": ["learnt"],
}
ADVICE = {words: advice for advice, all_words in REFUSED.items() for words in all_words}


def prose(path: Path, text: str) -> Iterator[str]:
    """The texts of a file that people read."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield node.value
        yield from re.findall(r"(?m)^ *# (.*)", text)
    elif path.suffix == ".md":
        yield re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    else:
        yield text


def files() -> list[Path]:
    found = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    found += [path for p in (*PAGES, *PLAIN, *EXAMPLES) for path in ROOT.glob(p) if path.is_file()]
    return sorted(found)


def refused(path: Path) -> list[str]:
    """Each refused expression in a file, with what to write instead."""
    text = path.read_text()
    flat = " ".join(text.split())  # an expression may span two lines
    suspects = [words for words in ADVICE if words in flat]
    if not suspects:
        return []
    texts = [" ".join(part.split()) for part in prose(path, text)]
    return [
        f"{path.relative_to(ROOT)}: {match[0]!r} in {each[max(0, match.start() - 30) :][:70]!r}"
        for words in suspects
        for each in texts
        if words in each
        for match in re.finditer(rf"\b{words}\b", each)
    ]


def test_texts_are_in_plain_english() -> None:
    wrong = [line for path in files() for line in refused(path)]
    assert not wrong, "\n".join(wrong)


def test_a_refused_expression_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("The search\ngoes on, `of its own`.\n```\nanew\n```\n")
    [line] = refused(page)
    assert line.startswith("page.md: 'goes on' in ")
    code = tmp_path / "code.py"
    code.write_text('anew = 1\n# made anew\nprint("of its own", anew)\n')
    assert len(refused(code)) == 2
