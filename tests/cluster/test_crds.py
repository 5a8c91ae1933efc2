"""The CRDs on an API server: it takes and refuses what the models take and refuse."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinase.api import NASExperiment, NASTrial
from kinase.api.crd import Schema, crds, schema
from kinase.api.load import Document, ManifestError, read_document, validate
from tests.cluster.crd_cases import (
    CASES,
    UNKNOWN,
    Changes,
    Manifest,
    beyond_bounds,
    manifest,
    random_manifest,
)
from tests.cluster.fixtures import a_cluster
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.rest import ApiError
from tests.unit.api.test_status import largest

ROOT = Path(__file__).parents[2]
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TIME = "2026-11-01T12:00:00Z"
DRY = "?dryRun=All&fieldValidation=Strict"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without an operator, which would act on what is made here."""
    with a_cluster(tmp_path_factory.mktemp("crds")) as found:
        yield found


class Kind:
    """The objects of a kind in a namespace."""

    def __init__(self, cluster: Cluster, namespace: str, plural: str) -> None:
        self.api = cluster.api
        self.path = f"/apis/kinase.dev/v1alpha1/namespaces/{namespace}/{plural}"

    def refusal(self, document: Manifest) -> str:
        """What the API server says against making it, or nothing."""
        try:
            self.api.post(self.path + DRY, document)
        except ApiError as error:
            return error.message
        return ""

    def make(self, document: Manifest, status: Any = None) -> str:
        name: str = self.api.post(self.path, document)["metadata"]["name"]
        if status:
            self.api.patch(f"{self.path}/{name}/status", {"status": status})
        return name

    def change(self, name: str, spec: Any) -> str:
        """What the API server says against a change, or nothing."""
        try:
            self.api.patch(f"{self.path}/{name}{DRY}", {"spec": spec})
        except ApiError as error:
            return error.message
        return ""


@pytest.fixture(scope="session", autouse=True)
def definitions(cluster: Cluster) -> None:
    """The CRDs as a user applies them."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    for file in crds():
        name = file.removesuffix(".yaml")
        wait_for(lambda name=name: condition(cluster, name, "Established") == "True")  # type: ignore[misc]


def condition(cluster: Cluster, name: str, kind: str) -> str | None:
    found = cluster.api.get(f"{DEFINITIONS}/{name}")["status"].get("conditions") or ()
    return next((c["status"] for c in found if c["type"] == kind), None)


@pytest.fixture
def experiments(cluster: Cluster, namespace: str) -> Kind:
    return Kind(cluster, namespace, "nasexperiments")


@pytest.fixture
def trials(cluster: Cluster, namespace: str) -> Kind:
    return Kind(cluster, namespace, "nastrials")


def refusal_of_the_models(document: Manifest) -> str:
    try:
        validate(Document("case", document, {}))
    except ManifestError as error:
        return str(error)
    return ""


def test_the_definitions_are_structural(cluster: Cluster) -> None:
    for file in crds():
        assert condition(cluster, file.removesuffix(".yaml"), "NonStructuralSchema") is None
        kept = json.dumps(crds()[file], separators=(",", ":"))
        assert len(kept) < 220_000, "kubectl apply keeps at most 256 KiB, as JSON"


def test_a_plain_apply_bears_them(cluster: Cluster) -> None:
    """It writes the whole of a definition into an annotation, which has a limit."""
    cluster.kubectl("apply", "--dry-run=server", "-f", str(ROOT / "crds"))


def test_one_manifest_of_each_rule(experiments: Kind) -> None:
    """Accepted and refused by the API server; tests/unit/api has the models' side."""
    wrong = []
    for name, case in CASES.items():
        if said := experiments.refusal(manifest(case.accepted)):
            wrong.append(f"{name} is refused: {said}")
        said = experiments.refusal(manifest(case.refused))
        if case.names not in said:
            wrong.append(f"{name}: {case.names} is not named: {said or 'it is accepted'}")
    assert not wrong, "\n".join(wrong)


def test_every_rule_refuses_something(experiments: Kind) -> None:
    said = [experiments.refusal(manifest(case.refused)) for case in CASES.values()]
    said += [experiments.refusal(document) for _, document in beyond_bounds()]
    unused = []
    for text in messages(schema(NASExperiment)["properties"]["spec"]):
        if not any(re.search(text, message) for message in said):
            unused.append(text)
    assert not unused, "no case of tests/cluster/crd_cases.py breaks these rules"


def messages(node: Schema) -> Iterator[str]:
    """What the rules of a schema say, as regular expressions."""
    for rule in node.get("x-kubernetes-validations", ()):
        words = rule.get("message")
        if words is None:
            found = re.match(r'"(.*)"\.format\(', rule["messageExpression"])
            assert found, rule
            words = found[1].replace("%%", "%")
        yield ".*".join(map(re.escape, words.split("%s")))
    for below in node.get("properties", {}).values():
        yield from messages(below)
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from messages(node[name])


def test_one_manifest_beyond_each_bound(experiments: Kind) -> None:
    wrong = []
    for bound, document in beyond_bounds():
        field = "spec." + re.sub(r"\.\[\]", "[0]", bound.split()[0])
        said = experiments.refusal(document)
        if field.removesuffix("[0]") not in said:
            wrong.append(f"{bound}: {said or 'it is accepted'}")
    assert not wrong, "\n".join(wrong)


UNSEEN = ("Options; they are for a ", "nothing is left to search for")
"""Of what the models say: CEL does not see a field whose values may be anything."""


@pytest.mark.parametrize("seed", range(4))
def test_the_models_and_the_api_server_agree(experiments: Kind, seed: int) -> None:
    """On a verdict, and on the defaults of what is accepted."""
    rng = random.Random(seed)
    accepted = 0
    for _ in range(250):
        document = random_manifest(rng)
        theirs, ours = experiments.refusal(document), refusal_of_the_models(document)
        if not theirs and any(each in ours for each in UNSEEN):
            continue
        assert bool(theirs) == bool(ours), f"{document}\nserver: {theirs}\nmodels: {ours}"
        if not ours:
            accepted += 1
            kept = experiments.api.post(experiments.path + DRY, document)
            read, own = (NASExperiment.model_validate(d) for d in (kept, document))
            assert read.spec == own.spec, document
    assert 50 < accepted < 200


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_api_servers_defaults_are_the_models(experiments: Kind, path: Path) -> None:
    document = read_document(path).data
    kept = experiments.api.post(experiments.path + DRY, document)
    assert NASExperiment.model_validate(kept).spec == NASExperiment.model_validate(document).spec
    assert kept["spec"]["retention"] == {"pods": "10m"}
    assert kept["spec"]["task"]["split"] == {"validation": 0.2, "test": 0.2, "seed": 0}


def test_an_example_is_applied_as_it_is(cluster: Cluster, namespace: str) -> None:
    for path in (ROOT / "examples").glob("*.yaml"):
        cluster.kubectl("apply", "-n", namespace, "--dry-run=server", "-f", str(path))


def test_nothing_is_as_good_as_left_out(experiments: Kind) -> None:
    document = manifest(
        {"seed": None, "task": None, "objective.target": None, "budget.epochs": None}
    )
    kept = experiments.api.post(experiments.path + DRY, document)
    assert kept["spec"]["seed"] == 0
    assert (
        NASExperiment.model_validate(kept).spec == NASExperiment.model_validate(manifest({})).spec
    )


def test_data_of_free_form_is_kept(experiments: Kind) -> None:
    free = {"text": "a", "none": None, "deep": [{"none": None}, [1, 2.5, "x", True]], "empty": {}}
    affinity = {"nodeAffinity": {"any": free}}
    document = manifest(
        {
            "space": {"type": "Custom", "custom": {"name": "towers", "options": free}},
            "baselines": [{"name": "b", "architecture": free}],
            "trialTemplate.affinity": affinity,
            "trialTemplate.volumes": [{"name": "v", "csi": free}],
        }
    )
    spec = experiments.api.post(experiments.path + DRY, document)["spec"]
    assert spec["space"]["custom"]["options"] == free
    assert spec["baselines"][0]["architecture"] == free
    assert spec["trialTemplate"]["affinity"] == affinity
    assert spec["trialTemplate"]["volumes"][0]["csi"] == free


@pytest.mark.parametrize(("changes", "field"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_field_is_refused(
    cluster: Cluster, experiments: Kind, namespace: str, changes: Changes, field: str
) -> None:
    document = manifest(changes)
    assert re.search(rf'unknown field "spec\.[^"]*{field}"', experiments.refusal(document))
    assert f"unknown field {field!r}" in refusal_of_the_models(document)


def test_a_status_is_the_clusters_word(experiments: Kind) -> None:
    made = experiments.api.post(
        experiments.path, {**manifest({}), "status": {"phase": "Succeeded"}}
    )
    assert "status" not in made
    status = largest().model_dump(mode="json", by_alias=True)
    kept = experiments.api.patch(f"{experiments.path}/case/status", {"status": status})
    assert kept["status"]["best"]["architecture"] == status["best"]["architecture"]
    assert kept["metadata"]["generation"] == 1
    read = NASExperiment.model_validate(kept)
    assert read.status is None, "a manifest's status is passed over"


def test_two_writers_of_conditions(experiments: Kind) -> None:
    experiments.make(manifest({}))
    for manager, kind in (("operator", "Ready"), ("controller", "Progressing")):
        applied = {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "status": {
                "conditions": [
                    {"type": kind, "status": "True", "reason": "Well", "lastTransitionTime": TIME}
                ]
            },
        }
        path = f"{experiments.path}/case/status?fieldManager={manager}"
        kept = experiments.api.patch(path, applied, "apply")
    assert [c["type"] for c in kept["status"]["conditions"]] == ["Ready", "Progressing"]


# Changes, each of a started experiment with these fields
STARTED: Changes = {
    "space": {"type": "Custom", "custom": {"name": "towers", "options": {"a": 1, "b": {"c": 1}}}},
    "budget": {"trials": 10, "duration": "1h", "deviceHours": 2},
    "baselines": [{"name": "b", "architecture": {"x": 1}}],
}
ALLOWED: dict[str, Changes] = {
    "nothing": {},
    "suspend": {"suspend": True},
    "parallelism, down to one and up": {"budget": {"parallelism": 7}},
    "more trials": {"budget": {"trials": 11}},
    "a limit less": {"budget": {"trials": None}},
    "all limits but one": {"budget": {"trials": None, "deviceHours": None}},
    "more time": {"budget": {"duration": "61m"}},
    "as much time": {"budget": {"duration": "3600s"}},
    "more device hours": {"budget": {"deviceHours": 2.5}},
    "retention": {"retention": {"pods": "1h", "trials": "2h", "experiment": "3h"}},
}
REFUSED: dict[str, tuple[Changes, str]] = {
    "another task": ({"task": {"resolution": 8}}, "spec.task cannot change"),
    "another training": ({"training": {"epochs": 21}}, "spec.training cannot change"),
    "another objective": ({"objective": {"target": 0.9}}, "spec.objective cannot change"),
    "another space": ({"space": {"custom": {"name": "other"}}}, "spec.space cannot change"),
    "another option": ({"space": {"custom": {"options": {"a": 2}}}}, "spec.space cannot change"),
    "an option of another name": (
        {"space": {"custom": {"options": {"a": None, "z": 1}}}},
        "spec.space cannot change",
    ),
    "an option further down": (
        {"space": {"custom": {"options": {"b": {"c": None, "z": 1}}}}},
        "spec.space cannot change",
    ),
    "another strategy": ({"strategy": {"type": "Evolution"}}, "spec.strategy cannot change"),
    "another estimation": (
        {"estimation": {"type": "LowerFidelity"}},
        "spec.estimation cannot change",
    ),
    "another control": ({"control": {"share": 0.3}}, "spec.control cannot change"),
    "other finalists": ({"finalists": {"count": 1}}, "spec.finalists cannot change"),
    "no baselines": ({"baselines": None}, "spec.baselines cannot change"),
    "another baseline": (
        {"baselines": [{"name": "c", "architecture": {}}]},
        "spec.baselines cannot change",
    ),
    "another architecture": (
        {"baselines": [{"name": "b", "architecture": {"y": 1}}]},
        "spec.baselines cannot change",
    ),
    "another storage": ({"storage": {"uri": "file://elsewhere"}}, "spec.storage cannot change"),
    "another controller": (
        {"controller": {"serviceAccountName": "other"}},
        "spec.controller cannot change",
    ),
    "another template": ({"trialTemplate": {"maxRetries": 3}}, "spec.trialTemplate cannot change"),
    "another image": ({"trialTemplate": {"image": "other"}}, "spec.trialTemplate cannot change"),
    "another seed": ({"seed": 1}, "spec.seed cannot change"),
    "another order": ({"deterministic": True}, "spec.deterministic cannot change"),
    "fewer trials": ({"budget": {"trials": 9}}, "spec.budget.trials 9 .* it was 10"),
    "less time": ({"budget": {"duration": "59m59.999s"}}, "spec.budget.duration .* it was 1h"),
    "no time": ({"budget": {"duration": "none"}}, "spec.budget.duration"),
    "fewer device hours": ({"budget": {"deviceHours": 1.99}}, "spec.budget.deviceHours 1.99"),
    "a new limit": ({"budget": {"epochs": 10**9}}, "spec.budget.epochs .* it was not set"),
    "no limit": (
        {"budget": {"trials": None, "duration": None, "deviceHours": None}},
        "no limit is set",
    ),
}


def test_what_may_change_of_an_experiment_under_way(experiments: Kind) -> None:
    name = experiments.make(manifest(STARTED), {"startTime": TIME})
    for what, spec in ALLOWED.items():
        assert not experiments.change(name, spec), what
    for what, (spec, said) in REFUSED.items():
        assert re.search(said, experiments.change(name, spec)), what
    assert (
        "spec.seed cannot change: the experiment has started; only suspend, budget.parallelism, "
        "retention and (upward) the limits of budget can"
    ) in experiments.change(name, {"seed": 1})


def test_every_field_of_a_started_experiment_is_looked_at() -> None:
    """A new field of the spec is not forgotten above."""
    fields = set(schema(NASExperiment)["properties"]["spec"]["properties"])
    tried = {field for spec, _ in REFUSED.values() for field in spec}
    tried |= {field for spec in ALLOWED.values() for field in spec}
    assert fields == tried


def test_before_the_start_everything_may_change(experiments: Kind) -> None:
    name = experiments.make(manifest(STARTED), {"phase": "Pending"})
    for what, (spec, said) in REFUSED.items():
        if what not in ("no time", "no limit"):
            assert not experiments.change(name, spec), said


@pytest.mark.parametrize("began", [True, False])
def test_after_the_end_only_retention_and_the_budget_upward_may_change(
    experiments: Kind, began: bool
) -> None:
    status = {"completionTime": TIME, **({"startTime": TIME} if began else {})}
    name = experiments.make(manifest(STARTED), status)
    for what, spec in ALLOWED.items():
        said = experiments.change(name, spec)
        if set(spec) <= {"retention", "budget"}:
            assert not said, what
        else:
            assert re.search("spec.*cannot change.*has ended; only retention, budget", said), what
    for what, (spec, _) in REFUSED.items():
        assert experiments.change(name, spec), what


def test_a_started_experiment_is_applied_again(cluster: Cluster, namespace: str) -> None:
    """With the defaults that the API server filled in, the manifest says the same."""
    path = ROOT / "examples/digits.yaml"
    kind = Kind(cluster, namespace, "nasexperiments")
    cluster.kubectl("apply", "-n", namespace, "-f", str(path))
    kind.api.patch(f"{kind.path}/digits/status", {"status": {"startTime": TIME}})
    assert "unchanged" in cluster.kubectl("apply", "-n", namespace, "-f", str(path))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", str(path))


TRIAL: Manifest = {
    "apiVersion": "kinase.dev/v1alpha1",
    "kind": "NASTrial",
    "metadata": {"name": "case-00007"},
    "spec": {
        "experiment": "case",
        "number": 7,
        "kind": "Search",
        "attempt": 2,
        "job": '{"version": 1, "seed": 1.0, "architecture": {"layers": [{"width": null}]}}',
    },
}
TRIAL_CHANGES: dict[str, tuple[Changes, str]] = {
    "another attempt": ({"attempt": 3, "job": '{"attempt": 3}'}, ""),
    "an attempt before": ({"attempt": 1}, "attempt 1 is below 2"),
    "another experiment": ({"experiment": "other"}, "experiment is immutable"),
    "another number": ({"number": 8}, "number is immutable"),
    "another kind": ({"kind": "Final"}, "kind is immutable"),
    "more workers": ({"workers": 4}, "workers cannot change for attempt 2; increase attempt"),
    "more workers of another attempt": ({"workers": 4, "attempt": 3}, ""),
    "no workers": ({"workers": 0, "attempt": 3}, "spec.workers"),
    "stop": ({"stop": True}, ""),
}


def test_changes_of_a_trial(trials: Kind) -> None:
    name = trials.make(TRIAL)
    for what, (spec, said) in TRIAL_CHANGES.items():
        found = trials.change(name, spec)
        assert (said in found) if said else not found, what
    trials.api.patch(f"{trials.path}/{name}", {"spec": {"stop": True}})
    assert "stop cannot be reset for attempt 2" in trials.change(name, {"stop": False})
    assert "stop cannot be reset" in trials.change(name, {"stop": None})
    assert not trials.change(name, {"stop": True})
    assert not trials.change(name, {"stop": False, "attempt": 3})


def test_a_trial_is_read_back(trials: Kind) -> None:
    kept = trials.api.post(trials.path + DRY, TRIAL)
    trial = NASTrial.model_validate(kept)
    assert trial.spec == NASTrial.model_validate(TRIAL).spec
    assert kept["spec"]["job"] == TRIAL["spec"]["job"]
    for field, value in (("number", -1), ("kind", "Nothing"), ("attempt", 0), ("token", "short")):
        said = trials.refusal({**TRIAL, "spec": {**TRIAL["spec"], field: value}})
        assert f"spec.{field}" in said


def test_columns_of_experiments(cluster: Cluster, experiments: Kind, namespace: str) -> None:
    status = {
        "phase": "Searching",
        "progress": "120/300",
        "trials": {"running": 4},
        "best": {"trial": 17, "value": 0.9875},
        "budgetLeft": "180 trials",
    }
    experiments.make(manifest({}), status)
    head, row = cluster.kubectl("get", "nasx", "-n", namespace).splitlines()
    assert re.split(r"  +", head.strip()) == [
        *("NAME", "PHASE", "TRIALS", "RUNNING", "BEST", "BUDGET LEFT", "AGE")
    ]
    assert re.split(r"  +", row.strip())[:-1] == [
        *("case", "Searching", "120/300", "4", "0.9875", "180 trials")
    ]


def test_columns_of_trials(cluster: Cluster, trials: Kind, namespace: str) -> None:
    trials.make(
        TRIAL,
        {"phase": "Running", "reason": "Started", "value": 0.5, "epochs": 3, "node": "node-1"},
    )
    head, row = cluster.kubectl("get", "nast", "-n", namespace).splitlines()
    columns = ["NAME", "PHASE", "REASON", "ATTEMPT", "VALUE", "EPOCHS", "NODE", "AGE"]
    assert head.split() == columns
    assert row.split()[:-1] == ["case-00007", "Running", "Started", "2", "0.5", "3", "node-1"]
    assert "nastrial.kinase.dev/case-00007" in cluster.kubectl("get", "kinase", "-n", namespace)


def test_explain(cluster: Cluster) -> None:
    def explained() -> str:
        return cluster.kubectl("explain", "nasx.spec.budget.parallelism", check=False)

    wait_for(
        lambda: "Maximum number of trials that run at the same time" in explained(),
        message="the OpenAPI document",
    )
    assert "CellSpace" not in explained()
    assert "Predefined space" in cluster.kubectl("explain", "nasx.spec.space.cell.preset")
    assert "Number of the desired attempt" in cluster.kubectl("explain", "nast.spec.attempt")


def test_a_generated_name_is_too_long(experiments: Kind) -> None:
    document = manifest({})
    document["metadata"] = {"generateName": "n" * 46}
    assert "metadata.name" in experiments.refusal(document)
