"""Keys that a space remembers."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.space import Space as SpaceModel
from kinase.space import base, derive_rng, make_space


def space_with_counts() -> tuple[Any, list[Any]]:
    space = make_space(
        SpaceModel.model_validate({"type": "Cell", "cell": {"preset": "nasbench201"}})
    )
    seen: list[Any] = []
    canonical = space.canonical

    def counted(architecture: Any) -> Any:
        seen.append(architecture)
        return canonical(architecture)

    space.canonical = counted  # type: ignore[method-assign]
    return space, seen


def test_a_key_is_computed_once_and_not_confused_with_another() -> None:
    space, seen = space_with_counts()
    drawn = [space.sample(derive_rng(number)) for number in range(30)]
    keys = [space.key(each) for each in drawn]
    assert len(seen) == len({str(each) for each in drawn})
    assert [space.key(each) for each in drawn] == keys
    assert len(seen) == len({str(each) for each in drawn})
    assert keys == [space._hash(each) for each in drawn]


def test_an_architecture_that_changes_gets_its_own_key() -> None:
    space, _ = space_with_counts()
    one, other = space.sample(derive_rng(1)), space.sample(derive_rng(2))
    key = space.key(one)
    one.update(other)
    assert space.key(one) == space.key(other) != key


def test_so_many_are_remembered_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "KNOWN_KEYS", 4)
    space, _ = space_with_counts()
    for number in range(12):
        space.key(space.sample(derive_rng(number)))
        assert len(vars(space)["_known_keys"]) <= 4
