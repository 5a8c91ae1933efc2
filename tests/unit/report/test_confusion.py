"""The winner's confusion matrix in the report."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kinase.report import render
from kinase.report.confusion import heat_map, worst
from kinase.report.data import Winner
from kinase.space import Sketch
from tests.unit.report import samples

EVIL = "<img src=x>"


def winner(matrix: tuple[tuple[int, ...], ...], *classes: str) -> Winner:
    return Winner(
        trial=1, found_by=0, architecture={}, sketch=Sketch((), ()), metrics={},
        test={"test_accuracy": 0.5}, model_uri="", load_lines=(), confusion=matrix, classes=classes,
    )  # fmt: skip


def test_cells_have_their_share_of_the_row() -> None:
    drawn = str(heat_map(winner(((8, 2, 0), (0, 5, 0), (0, 0, 0)), "cat", "dog", EVIL)))
    assert drawn.count("<title>") == 3
    assert "<title>cat, predicted dog: 2 (20.0%)</title>" in drawn
    assert re.findall(r'fill-opacity="([0-9.]+)"', drawn) == ["0.80", "0.20", "1.00"]
    assert EVIL not in drawn


def test_the_most_frequent_confusions_come_first() -> None:
    found = worst(winner(((8, 2, 2), (3, 1, 0), (0, 0, 9)), "cat", "dog"))
    assert found == [
        ("dog", "cat", 3, 0.75),
        ("cat", "2", 2, pytest.approx(1 / 6)),
        ("cat", "dog", 2, pytest.approx(1 / 6)),
    ]


def test_many_classes_stay_small() -> None:
    count = 200
    matrix = tuple(
        tuple(50 if i == j else int(j == i + 1) for j in range(count)) for i in range(count)
    )
    assert len(str(heat_map(winner(matrix)))) < 100_000


def test_the_report_shows_it_where_there_is_one() -> None:
    data = samples.empty(phase="Succeeded", winner=winner(((4, 1), (0, 5)), "cat", EVIL))
    page = render(data)
    assert 'id="confusion-matrix"' in page
    assert EVIL not in page
    assert data.winner is not None
    without = render(replace(data, winner=replace(data.winner, confusion=None)))
    assert 'id="confusion-matrix"' not in without


def test_the_top_shows_the_objective_on_the_test_part_and_a_line_the_rest() -> None:
    won = replace(
        winner(((4, 1), (0, 5))),
        metrics={"val_f1": 0.7},
        test={"test_accuracy": 0.9, "test_loss": 0.3, "test_f1": 0.8},
    )
    page = render(samples.empty(metric="val_f1", also=(), phase="Succeeded", winner=won))
    tiles = page[page.index('class="tiles"') : page.index('class="facts"')]
    assert "winner, test_f1, measured once" in tiles
    assert "test_accuracy" not in tiles
    both = render(samples.empty(metric="val_f1", main_metric="val_accuracy", winner=won))
    assert "winner, test_accuracy, measured once" in both
    assert "<dd>accuracy 0.9000, loss 0.3000, f1 0.8000</dd>" in page
