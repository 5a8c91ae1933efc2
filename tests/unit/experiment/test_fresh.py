"""A start from scratch where the earlier run lies in a store that cannot rename."""

from __future__ import annotations

import pytest

from kinase.experiment import identity, local
from kinase.store import StoreError
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import experiment


@pytest.mark.parametrize("left", [identity.KEY, "journal/00000000.jsonl"])
def test_a_store_without_folders_refuses_and_keeps_all(
    monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    store, manifest = MemoryStore(), experiment()
    monkeypatch.setattr(local, "open_store", lambda storage: store)
    assert local.set_aside(manifest) is None, "there is none"
    key = f"{manifest.directory}/{left}"
    store.put(key, b"{}")
    with pytest.raises(StoreError, match=r"another metadata\.name or storage\.uri") as refusal:
        local.set_aside(manifest)
    assert manifest.directory in str(refusal.value)
    assert store.get(key) == b"{}"
