"""The network that a search begins with is the trainer's word, and checked."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kinase.api.inheritance import Inherited
from kinase.api.root import Root
from kinase.api.trial import TaskInfo
from kinase.engine import EngineError
from kinase.engine.tabular import TabularEngine
from kinase.experiment.dispatch import job_of
from kinase.experiment.final_outputs import same_task
from kinase.experiment.identity import MismatchError
from kinase.experiment.loop import Loop
from kinase.experiment.root import space_of
from kinase.report.gather import inherited_text
from kinase.space import dump_graph
from kinase.space.retarget import retarget
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment, make_loop
from tests.unit.space.test_every_space import network

GRAPH = dump_graph(retarget(network(), INFO.input, INFO.outputs))
SPACE = {"type": "Model", "model": {"from": "torchvision", "name": "resnet18", "steps": 2}}


def told(graph: dict[str, Any] | None = None, **fields: Any) -> TaskInfo:
    root = Root(graph=GRAPH if graph is None else graph, weights="0" * 64)
    return INFO.model_copy(update={"root": root, **fields})


def test_the_search_begins_with_it_and_trials_are_told_where_it_lies() -> None:
    manifest = experiment(space=SPACE, estimation={"type": "Full"}, budget={"trials": 3})
    seen = []

    def evaluate(job: Any) -> dict[str, float]:
        seen.append(job)
        return {"val_accuracy": 0.5 + 0.01 * len(job.architecture["morphisms"])}

    info = told()
    engine = TabularEngine(evaluate, info)
    loop = Loop(manifest, MemoryStore(), engine, info, trainer_results=False)
    assert loop.run().finished is not None
    assert info.root is not None
    assert {job.root for job in seen} == {info.root.files}
    assert loop.space.begins_with is not None
    assert all(t.resources["params"] > 0 for t in loop.state.told)


def test_another_space_has_no_root() -> None:
    loop = make_loop(experiment(budget={"trials": 1}))
    loop.run()
    assert loop.space.begins_with is None
    assert job_of(loop, loop.state.told[0]).root is None


def test_what_a_trial_began_with_is_said() -> None:
    began = Inherited(root=True, share=1.0, morphisms=2)
    assert inherited_text(began) == "from the first network by 2 morphisms"
    began = Inherited(root=True, share=1.0, morphisms=0)
    assert inherited_text(began) == "from the first network, unchanged"


def tampered(change: Any) -> TaskInfo:
    graph = copy.deepcopy(GRAPH)
    change(graph)
    return told(graph)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (INFO, "the trainer did not describe the network that space.type Model needs"),
        (
            tampered(lambda g: g["nodes"][1].update(inputs=["add"])),
            "starts from is invalid: the graph has a cycle: .*stem",
        ),
        (tampered(lambda g: g["nodes"][1].update(op="eval")), "stem: op is 'eval'"),
        (tampered(lambda g: g["nodes"][1]["attrs"].update(out=2**40)), "stem: out is"),
        (tampered(lambda g: g.update(output="nothing")), "use the name of a node"),
        (told(input=(1, 9, 9)), r"images of shape \(1, 8, 8\), its task \(1, 9, 9\)"),
        (told(outputs=4), r"an output of shape \(10,\), its task \(4,\)"),
    ],
)
def test_what_the_trainer_says_is_not_believed(info: TaskInfo, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        space_of(experiment(space=SPACE, estimation={"type": "Full"}).spec.space, info)


def test_a_run_goes_on_with_the_network_that_it_began_with() -> None:
    store = MemoryStore()
    same_task(store, told())
    store.put("journal/00000000.jsonl", b"{}")
    same_task(store, told())
    other = Root(graph=GRAPH, weights="1" * 64)
    with pytest.raises(MismatchError, match="the network that the search starts from is not that"):
        same_task(store, told().model_copy(update={"root": other}))
