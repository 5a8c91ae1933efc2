"""What was read of the data is said in words."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from kinase.api.trial import ClassCount, TaskInfo
from kinase.console import Progress
from kinase.report.gather import gather
from kinase.report.task import data_lines, main_metric
from tests.unit.experiment import helpers

PLAIN: dict[str, Any] = {
    "input": [3, 32, 16],
    "outputs": 2,
    "train": 6000,
    "validation": 1500,
    "test": 0,
    "metrics": ["val_accuracy"],
    "device": "cpu",
}
CLASSES = [
    {"name": "cat [red]", "train": 5990, "validation": 1500},
    {"name": "dog", "train": 10},
]


def test_all_that_was_read_is_a_line_each() -> None:
    info = TaskInfo.model_validate(
        {**PLAIN, "classes": CLASSES, "notes": ["1 file passed over"], "warnings": ["no dog"]}
    )
    assert data_lines(info) == (
        "7,500 samples of 3x32x16 (channels, height, width): 6,000 training, 1,500 validation, "
        "0 test",
        "2 classes: cat [red] (7,490), dog (10)",
        "note: 1 file passed over",
        "warning: no dog",
    )


def test_another_trainers_word_needs_no_classes() -> None:
    assert len(data_lines(TaskInfo.model_validate(PLAIN))) == 1


def test_of_many_classes_the_first_are_named() -> None:
    many = [{"name": str(i), "train": 1} for i in range(1000)]
    info = TaskInfo.model_validate({**PLAIN, "outputs": 5000, "classes": many})
    assert data_lines(info)[1].endswith("10 (1), 11 (1), and 4,988 more")
    with pytest.raises(ValidationError):
        TaskInfo.model_validate({**PLAIN, "classes": [*many, many[0]]})


def test_the_terminal_and_the_report_say_it_before_the_search() -> None:
    info = helpers.INFO.model_copy(
        update={
            "classes": (ClassCount(name="[bold]a", train=3), ClassCount(name="b", train=4)),
            "warnings": ("b has no test sample",),
        }
    )
    loop = helpers.make_loop(helpers.experiment())
    loop.info = info
    out = StringIO()
    Progress(Console(file=out, width=200)).started(loop)
    assert "[bold]a (3), b (4)" in out.getvalue()
    assert "warning: b has no test sample" in out.getvalue()
    summary = dict(gather(loop).summary)
    assert summary["Classes"].startswith("[bold]a (3), b (4)")
    assert summary["Warning"] == "b has no test sample"


@pytest.mark.parametrize(
    ("metrics", "objectives", "shown"),
    [
        (("val_accuracy", "val_loss"), ["val_loss"], "val_accuracy"),
        (("val_accuracy", "val_loss"), ["params"], "val_accuracy"),
        (("val_accuracy", "val_loss"), ["val_accuracy"], None),
        (("val_accuracy", "val_loss"), ["val_loss", "val_accuracy"], None),
        ((), ["val_loss"], None),
    ],
)
def test_the_task_s_main_metric_is_shown_with_another_objective(
    metrics: tuple[str, ...], objectives: list[str], shown: str | None
) -> None:
    info = TaskInfo.model_validate({**PLAIN, "metrics": metrics})
    assert main_metric(info, objectives) == shown
