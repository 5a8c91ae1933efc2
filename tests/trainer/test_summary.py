"""What is said of the classes before a search."""

from __future__ import annotations

import numpy as np
import pytest

from kinase.api.trial import MOST_CLASSES
from kinase_trainer.summary import tell


def labels(train: list[int], validation: list[int], test: list[int]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    parts = {"train": train, "validation": validation, "test": test}
    return {p: np.array(counts) for p, counts in parts.items()}


@pytest.mark.parametrize(
    ("names", "counts", "warnings"),
    [
        (["a", "b"], ([9, 5], [2, 2], [1, 1]), []),
        (["a", "b"], ([9, 5], [2, 0], [1, 1]), ["1 class has no validation samples: 'b'"]),
        (["a", "b"], ([9, 5], [2, 2], [0, 1]), ["1 class has no test samples: 'a'"]),
        (
            ["a", "b", "c"],
            ([9, 0, 0], [2, 2, 2], [1, 1, 1]),
            ["2 classes have no training samples: 'b', 'c'"],
        ),
        (
            ["a", "b"],
            ([100, 10], [18, 2], [1, 1]),
            [
                "class 'a' has 100 training samples and class 'b' 10: a network that always "
                "answers 'a' has a validation accuracy of 0.900; "
                "task.classification.weighting: balanced weighs them equally, and "
                "val_balanced_accuracy and val_f1 count them equally"
            ],
        ),
        (["a", "b"], ([99, 10], [18, 2], [1, 1]), []),
        (
            ["Cat", "cat"],
            ([5, 5], [2, 2], [1, 1]),
            ["classes 'Cat' and 'cat' differ in capital letters alone"],
        ),
        (
            ["cat", "cat "],
            ([5, 5], [2, 2], [1, 1]),
            ["classes 'cat' and 'cat ' differ in spaces or accents' codes alone"],
        ),
        (
            ["caf\u00e9", "cafe\u0301"],
            ([5, 5], [2, 2], [1, 1]),
            ["classes 'caf\u00e9' and 'cafe\u0301' differ in spaces or accents' codes alone"],
        ),
    ],
)
def test_what_may_be_wrong_is_said(
    names: list[str], counts: tuple[list[int], list[int], list[int]], warnings: list[str]
) -> None:
    told = tell(names, labels(*counts))
    assert list(told.warnings) == warnings
    assert [(c.train, c.validation, c.test) for c in told.classes] == list(
        zip(*counts, strict=True)
    )


def test_what_is_said_is_bounded() -> None:
    names = ["x" * 500 + str(i) for i in range(3000)]
    told = tell(names, labels([1] * 3000, [0] * 3000, [1] * 3000), ["n" * 5000] * 99)
    assert len(told.classes) == MOST_CLASSES
    assert max(len(each.name) for each in told.classes) == 128
    assert max(map(len, told.notes + told.warnings)) == 1000
    assert len(told.notes) == 32
