"""Members of other packages that fail, and files that are no manifest: named, in one line."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from kinase import registry
from kinase.api.load import ManifestError, load_manifest
from kinase.engine import EngineError, Finished, Lost
from kinase.engine.answers import result_of
from kinase.experiment import members
from kinase.experiment.check import load_checked
from kinase.space import make_space
from kinase.strategy import Proposal
from tests.unit.experiment.helpers import experiment, make_loop
from tests.unit.test_cli import MANIFEST, invoke, write


def register(pillar: str, monkeypatch: Any) -> str:
    """An entry point `own` of the pillar, as if a package had brought it; returns its group."""
    group = {"space": "spaces", "strategy": "strategies", "estimation": "estimators"}[pillar]
    point = EntryPoint("own", "broken_member:Own", f"kinase.{group}")
    real = registry._group
    monkeypatch.setattr(
        registry, "_group", lambda g: {**real(g), "own": point} if g == point.group else real(g)
    )
    return point.group


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "cannot be loaded from broken_member:Own: ModuleNotFoundError: No module named"),
        ("raise RuntimeError('at import')", "broken_member:Own: RuntimeError: at import"),
        ("x = 1", "AttributeError: module 'broken_member' has no attribute 'Own'"),
        ("import sys; sys.modules[1", "broken_member:Own: SyntaxError"),
        ("import sys; sys.exit(0)", "broken_member:Own: it calls sys.exit(0)"),
    ],
)
@pytest.mark.parametrize("pillar", ["space", "strategy", "estimation"])
def test_a_module_that_cannot_be_loaded(
    pillar: str, source: str | None, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    register(pillar, monkeypatch)
    if source is not None:
        (tmp_path / "broken_member.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_member", raising=False)
    path = write(tmp_path, **{pillar: {"type": "Custom", "custom": {"name": "own"}}})
    with pytest.raises(ManifestError) as caught:
        load_checked(path)
    [problem] = caught.value.problems
    assert message in str(problem)
    assert problem.path == f"spec.{pillar}.custom.name"
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('width')", "KeyError: 'width'"),
        ("self.absent", "AttributeError: 'Own' object has no attribute 'absent'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("raise AssertionError", "AssertionError: "),
        ("assert False, 'no'", "AssertionError: no"),
        ("raise SystemExit", "it calls sys.exit()"),
        (None, "gives Own; it must derive from kinase."),
    ],
)
@pytest.mark.parametrize("pillar", ["space", "strategy", "estimation"])
def test_a_member_that_cannot_be_made(
    pillar: str, body: str | None, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    group = register(pillar, monkeypatch)
    source = f"class Own:\n    def __init__(self, *options):\n        {body or 'pass'}\n"
    (tmp_path / "broken_member.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_member", raising=False)
    custom = {"name": "own", "options": {"depth": 3}}
    path = write(tmp_path, **{pillar: {"type": "Custom", "custom": custom}})
    with pytest.raises(ManifestError) as caught:
        load_checked(path)
    [problem] = caught.value.problems
    assert message in str(problem)
    assert f"'own' of the entry point group '{group}'" in str(problem)
    assert body is None or 'with options {"depth": 3}' in str(problem)
    assert problem.path == f"spec.{pillar}.custom.name"
    assert "\n" not in str(problem)


def _raise(history: Any, rng: Any) -> Proposal:
    raise KeyError("theirs")


@pytest.mark.parametrize(
    ("propose", "message"),
    [
        (_raise, "after 0 trials: KeyError: 'theirs'; the traceback is in memory:"),
        (
            lambda history, rng: {"layers": []},
            "it proposed {'layers': []}; it must propose a Proposal",
        ),
        (lambda history, rng: Proposal({"layers": [{"op": "?"}]}), r"layers[0].op is '?'"),
        (lambda history, rng: Proposal(None), "ArchitectureError"),
        (
            lambda h, r: Proposal(
                {"layers": [{"op": "conv", "width": 8, "kernel": 3, "stride": 1}]}, (7,)
            ),
            "it names the parent 7, which is not a trial",
        ),
    ],
)
def test_a_strategy_that_proposes_nonsense(propose: Any, message: str) -> None:
    loop = make_loop(experiment(control={"share": 0}))
    for strategy in (arm.strategy for arm in loop.arms.values()):
        strategy.propose = propose  # type: ignore[method-assign]
    with pytest.raises(EngineError) as caught:
        loop.run()
    assert message in str(caught.value)
    assert "the strategy Evolution failed after" in str(caught.value)
    assert "Traceback" in loop.store.get("errors/strategy-00000.txt").decode()
    assert list(loop.journal.replay()) == []


OWN = {"type": "Custom", "custom": {"name": "own"}}


def _odd(space: Any, method: str, value: Any) -> Any:
    """A space whose method gives a value, or raises it."""

    def own(self: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    own.__code__ = own.__code__.replace(co_name=method)
    return type("Own", (type(space),), {method: own})


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        (
            "sample",
            KeyError("theirs"),
            "the space own (sample) failed after 0 trials: KeyError",
        ),
        ("sample", None, "the space own ("),
        ("sample", {"layers": [{"op": "?"}]}, "the space own (key) failed after"),
        ("sample", {"layers": 3}, "the space own ("),
        ("canonical", {1, 2}, "the space own (key) failed after 0 trials: TypeError"),
        ("graph", ValueError("two\nlines"), "the space own (graph) failed after 0 trials: "),
        (
            "graph",
            {"nodes": []},
            "(graph) failed after 0 trials: TypeError: it gave {'nodes'",
        ),
        ("validate", RuntimeError("odd"), "the space own (validate) failed after 0 trials"),
    ],
)
def test_a_space_that_gives_nonsense(method: str, value: Any, message: str) -> None:
    model = experiment().spec.space
    chain = make_space(model)
    own = _odd(chain, method, value)(model.chain)
    loop = make_loop(experiment(space=OWN, strategy={"type": "Random"}), space=own)
    with pytest.raises(EngineError) as caught:
        loop.run()
    assert message in str(caught.value)
    assert "the space own" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Error: " in loop.store.get("errors/space-00000.txt").decode()
    assert list(loop.journal.replay()) == []


@pytest.mark.parametrize("architecture", [{"layers": {1, 2}}, {"layers": float("nan")}, ["conv"]])
def test_an_architecture_that_the_journal_cannot_hold(architecture: Any) -> None:
    with pytest.raises(TypeError, match="wanted is a dict of plain JSON data"):
        members.plain(architecture)


def test_other_encodings_are_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    text = MANIFEST.replace("name: tiny", "name: tiny # größer")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert load_manifest(path).metadata.name == "tiny"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ManifestError, match=r"m.yaml:4: is not UTF-8 \(byte 0xf6\); save the file"):
        load_manifest(path)


@pytest.mark.parametrize(("field", "right"), [("max_depth", "maxDepth"), ("min_depth", "minDepth")])
def test_a_field_in_snake_case_is_refused(field: str, right: str, tmp_path: Path) -> None:
    path = write(tmp_path, space={"type": "Chain", "chain": {field: 3}})
    with pytest.raises(ManifestError, match=f"unknown field '{field}'; did you mean '{right}'"):
        load_manifest(path)


def test_a_field_of_a_struct_without_fields_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, estimation={"auto": {"x": 1}})
    with pytest.raises(ManifestError, match=r"unknown field 'x'; auto has no fields: remove it$"):
        load_manifest(path)


def test_a_report_goes_to_standard_output(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path, budget={"trials": 1})
    code, output = invoke("run", path, "--trainer", "tests.fake_trainer")
    assert code == 0, output
    monkeypatch.chdir(tmp_path)
    code, output = invoke("report", path, "-o", "-")
    assert code == 0
    assert output.startswith("<!doctype html>")
    assert output.rstrip().endswith("</html>")
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "m.yaml", "--watch"),
        ("report", "m.yaml", "--port", 80),
        ("report", "m.yaml", "--no-open"),
        ("report", "m.yaml", "--endpoint", "http://x"),
        ("report", "m.yaml", "--credentials-from-secret"),
        ("report", "digits", "--store", "file://x"),
        ("report", "digits", "--port", 80),
        ("compare", "a.yaml", "b.yaml", "--endpoint", "http://x"),
        ("compare", "a", "b", "--store", "file://x"),
        ("export", "m.yaml", "--credentials-from-secret"),
        ("export", "digits", "--store", "file://x"),
        ("export", "./final", "--trial", 0),
        ("export", "./final", "--store", "file://x"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_an_option_without_effect_is_refused(arguments: tuple[Any, ...]) -> None:
    code, output = invoke(*arguments)
    assert code == 2
    flag = next(a for a in arguments if str(a).startswith("--"))
    assert output.startswith(f"{flag}: no effect on ")
    assert output.count("\n") == 1


RESULT = {"version": 1, "trial": 3, "attempt": 1, "outcome": "Succeeded"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "the whole is '{': Invalid JSON"),
        ("[]", "the whole is []"),
        ({"metrics": {"val_accuracy": "high"}}, "metrics.val_accuracy is 'high'"),
        ({"metrics": {"val_accuracy": None}}, "metrics.val_accuracy is None"),
        ({"metrics": {"val_accuracy": {"mean": 1}}}, "metrics.val_accuracy is {'mean': 1}"),
        ({"metrics": [0.5]}, "metrics is [0.5]"),
        ({"x" * 5000: 1}, "x" * 100 + " is 1"),
        ({"cost": {"epochs": -1}}, "cost.epochs is -1"),
        ({"cost": {"epochs": 1.5}}, "cost.epochs is 1.5"),
        ({"trial": 7}, "trial is 7; it must be 3"),
        ({"outcome": "Great"}, "outcome is 'Great'"),
        ({"attempt": 0}, "attempt is 0"),
        ({"message": "a\nb" * 5000}, "message is 'a"),
    ],
)
def test_a_result_that_is_nonsense_is_named(change: Any, message: str) -> None:
    text = change if isinstance(change, str) else json.dumps({**RESULT, **change})
    lost = result_of(3, text)
    assert isinstance(lost, Lost)
    assert message in lost.message
    assert lost.message.startswith("the trainer's result is invalid: ")
    assert "\n" not in lost.message
    assert len(lost.message) < 1500


def test_a_metric_that_is_not_a_number_is_left_out() -> None:
    """As Python's json writes them; the trial counts as the worst where it is the objective."""
    metrics = {"val_accuracy": float("nan"), "val_loss": float("-inf"), "val_f1": 0.5}
    curve = [{"epoch": 1, "metrics": metrics, "deviceSeconds": 1.0}]
    found = result_of(3, json.dumps({**RESULT, "metrics": metrics, "curve": curve}))
    assert isinstance(found, Finished)
    assert found.result.metrics == found.result.curve[0].metrics == {"val_f1": 0.5}


def test_a_result_of_its_own_is_taken() -> None:
    assert isinstance(result_of(3, json.dumps(RESULT)), Finished)
