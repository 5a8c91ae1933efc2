"""Commands of the pages are run, or marked with the reason why not; their files are right."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import COMMANDS, ROOT, Block, blocks, exists, pages

RUN_HERE = "docs/quickstart-laptop.md"
STRICT = [
    "README.md",
    "docs/quickstart-laptop.md",
    "docs/quickstart-kind.md",
    "docs/install-gpu.md",
    "docs/security.md",
    *(page for page in pages() if page.startswith("docs/operating/")),
]
"""Pages of which every block of commands has to be run or marked."""
HOME = "/home/you"
"""Stands for the folder that a page's commands are run in."""


@pytest.mark.parametrize("page", STRICT)
def test_every_command_is_run_or_says_why_not(page: str) -> None:
    for block in blocks(page):
        assert block.language, f"{block.place}: a fence without a language could hide commands"
        if block.language in COMMANDS and page != RUN_HERE:
            assert block.not_run or block.run_by, f"{block.place}: neither run nor marked"


@pytest.mark.parametrize("page", pages())
def test_tests_that_run_commands_are_there(page: str) -> None:
    for block in blocks(page):
        if block.run_by:
            assert exists(block.run_by), f"{block.place}: {block.run_by}"


@pytest.mark.parametrize("page", pages())
def test_blocks_of_commands_are_shell(page: str) -> None:
    for block in blocks(page, *COMMANDS):
        for command, _ in block.commands():
            # what a reader has to put in stands in angle brackets
            script = re.sub(r"<[a-z][a-z ]*>", "WORD", command)
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
            assert done.returncode == 0, f"{block.place}: {done.stderr}"


# -- the quick start on a laptop, for real -------------------------------------------------


def masked(text: str) -> list[str]:
    """What of an output does not hang on the machine: words without numbers and spacing."""
    words = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.sub(r"[0-9]+([.,:][0-9]+)*[kM]?", "0", words).split()


def agrees(shown: str, real: str) -> bool:
    """Whether an output is what the page shows; a line `...` stands for any lines."""
    parts = [masked(part) for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    rest = masked(real)
    if rest[: len(parts[0])] != parts[0]:
        return False
    if len(parts) == 1:
        return rest == parts[0]
    rest = rest[len(parts[0]) :]
    for part in parts[1:-1]:
        place = next((i for i in range(len(rest)) if rest[i : i + len(part)] == part), None)
        if place is None:
            return False
        rest = rest[place + len(part) :]
    return not parts[-1] or rest[-len(parts[-1]) :] == parts[-1]


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("done in 00:12\n", "done in 01:59\n", True),
        ("done in 00:12\n", "done in 01:59 s\n", False),
        ("one\n...\nthree 3\n", "one\ntwo\nthree 4\n", True),
        ("one\n...\nthree\n", "one\ntwo\n", False),
        ("one\n...\n", "two\n", False),
        ("", "anything", False),
    ],
)
def test_outputs_are_compared(shown: str, real: str, same: bool) -> None:
    assert agrees(shown, real) is same


def write_files(page: str, folder: Path) -> None:
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.text)


@pytest.mark.slow
@pytest.mark.timeout(600)  # some thirty seconds on two cores that are free
def test_the_quick_start_on_a_laptop(tmp_path: Path) -> None:
    write_files(RUN_HERE, tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "300", "TERM": "dumb"}
    environment["OMP_NUM_THREADS"] = "1"  # threads wait for one another where others run
    ran = 0
    for block in blocks(RUN_HERE, *COMMANDS, "python"):
        if block.not_run:
            continue
        commands = (
            [("python - <<'END'\n" + block.text + "END", "")]
            if block.language == "python"
            else block.commands()
        )
        for command, shown in commands:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=240,
            )
            assert done.returncode == 0, f"{block.place}: {command}\n{done.stdout}"
            real = done.stdout.replace(str(tmp_path), HOME)
            if shown:
                assert agrees(shown, real), f"{block.place}: {command}\n{real}"
            ran += 1
    assert ran > 6


# -- files, and the commands that take them ------------------------------------------------


def lines(page: str, program: str) -> Iterator[tuple[Block, list[str]]]:
    """Calls of a program in a page's blocks of commands, as words."""
    for block in blocks(page, *COMMANDS):
        for command, _ in block.commands():
            for line in re.sub(r"\\\n\s*", " ", command).splitlines():
                words = shlex.split(line, comments=True) if program in line else []
                if words[:1] == [program]:
                    yield block, words


@pytest.mark.parametrize("page", [page for page in pages() if page != RUN_HERE])
def test_files_that_commands_take_are_there(page: str) -> None:
    written = {block.title for block in blocks(page) if block.title}
    for program in ("kubectl", "helm", "kinase"):
        for block, words in lines(page, program):
            given = [b for a, b in itertools.pairwise(words) if a in FILES]
            given += [w for w in words[2:] if program == "kinase" and w.endswith(".yaml")]
            for file in given:
                if file != "-":
                    place = f"{block.place}: {' '.join(words)}: {file}"
                    assert file in written | LEFT_TO_THE_READER or (ROOT / file).exists(), place


FILES = ("-f", "--filename", "--values", "--file")
LEFT_TO_THE_READER = {"values.yaml", "FILE", "digits.yaml", "images.yaml"}
"""A reader's own values, which the installation shows, and what `kinase init` writes."""


def helm_calls() -> list[tuple[str, list[str]]]:
    return [
        (page, words)
        for page in pages()
        for _, words in lines(page, "helm")
        if words[1] in ("install", "upgrade") and "charts/kinase" in words
    ]


def values_files() -> list[tuple[str, str, dict[str, Any]]]:
    """Files of values that pages show: (page, file, content)."""
    found = []
    for page in pages():
        for block in blocks(page, "yaml"):
            content = yaml.safe_load(block.text) if block.title and "---" not in block.text else {}
            if content and "kind" not in content:
                found.append((page, str(block.title), content))
    return found


@pytest.fixture(scope="module")
def chart() -> tuple[Path, Path]:
    """Helm, and the chart."""
    from tests.cluster.lab import binaries

    try:
        helm = binaries.get("helm")
    except binaries.Unavailable as problem:
        pytest.skip(f"no helm: {problem}")
    return Path(helm), ROOT / "charts" / "kinase"


@pytest.mark.parametrize(
    ("page", "file", "content"), values_files(), ids=lambda value: str(value)[:40]
)
def test_the_chart_takes_the_values_of_the_pages(
    chart: tuple[Path, Path], tmp_path: Path, page: str, file: str, content: dict[str, Any]
) -> None:
    helm, folder = chart
    (tmp_path / file).write_text(yaml.safe_dump(content))
    command = [helm, "template", "kinase", folder, "--namespace", "kinase-system"]
    done = subprocess.run(
        [*map(str, command), "--values", str(tmp_path / file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kinds = {item["kind"] for item in yaml.safe_load_all(done.stdout) if item}
    assert {"Deployment", "ServiceAccount"} <= kinds


def test_helm_is_called_with_options_that_it_has(chart: tuple[Path, Path]) -> None:
    helm, _ = chart
    calls = helm_calls()
    assert calls
    known = {
        command: subprocess.run([helm, command, "--help"], capture_output=True, text=True).stdout
        for command in {words[1] for _, words in calls}
    }
    for _, words in calls:
        for word in words:
            if word.startswith("--"):
                assert f"{word.partition('=')[0]} " in known[words[1]], words
