"""Where an experiment is kept whose manifest leaves that to the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kinase.api import NASExperiment
from kinase.api.storage import Storage
from kinase_operator import experiments, job_specs
from kinase_operator.actions import Create, ExperimentStatus
from kinase_operator.experiments import Observed, plan
from kinase_operator.settings import Settings, from_environment
from kinase_operator.storage import placed, record
from tests.unit.operator import samples
from tests.unit.operator.samples import NOW, at

DEFAULT = Storage.model_validate(
    {
        "uri": "s3://all/runs",
        "endpoint": "https://s3.example:9000",
        "region": "here",
        "credentialsSecret": "store",
        "caConfigMap": "authorities",
    }
)
SETTINGS = Settings(store=DEFAULT, store_checksums="when_supported", store_patience=12.5)
RECORD = {
    "uri": "s3://all/runs",
    "endpoint": "https://s3.example:9000",
    "region": "here",
    "credentialsSecret": "store",
    "caConfigMap": "authorities",
}
LOCAL: dict[str, Any] = {"storage": {"uri": "file://runs", "checkpoints": "all"}}


def resolved(
    status: dict[str, Any] | None = None, settings: Settings = SETTINGS, **spec: Any
) -> NASExperiment:
    view = samples.view(status, **spec)
    manifest = experiments.parse(view)
    assert isinstance(manifest, NASExperiment)
    return placed(manifest, view, settings)


def observed(status: dict[str, Any] | None = None, **spec: Any) -> Observed:
    view = samples.view(status, **spec)
    return Observed(view, resolved(status, **spec), {}, None, (), None, NOW)


def status_of(seen: Observed, settings: Settings = SETTINGS) -> dict[str, Any]:
    [found] = [a.fields for a in plan(seen, settings) if isinstance(a, ExperimentStatus)]
    return found


def test_a_folder_becomes_the_clusters_place() -> None:
    storage = resolved(**LOCAL).spec.storage
    assert storage == DEFAULT.model_copy(update={"checkpoints": "all"})


def test_a_manifest_that_names_a_bucket_is_left_alone() -> None:
    own = {"storage": {"uri": "s3://mine/x", "endpoint": "http://there"}}
    assert resolved(**own) == experiments.parse(samples.view(**own))
    assert "storage" not in status_of(observed(**own))


def test_without_a_default_a_folder_is_refused() -> None:
    view = samples.view(**LOCAL)
    manifest = resolved(settings=Settings(), **LOCAL)
    fields = status_of(Observed(view, manifest, {}, None, (), None, NOW), Settings())
    [ready] = [c for c in fields["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "Forbidden"
    assert "KINASE_STORE_URI" in ready["message"]
    assert "storage" not in fields


def test_the_status_says_where() -> None:
    assert status_of(observed(**LOCAL))["storage"] == RECORD


def test_a_search_that_has_begun_does_not_move() -> None:
    begun = {"startTime": at(-60), "storage": {"uri": "s3://old/place", "endpoint": "http://old"}}
    storage = resolved(begun, **LOCAL).spec.storage
    assert (storage.uri, storage.endpoint) == ("s3://old/place", "http://old")
    assert storage.credentials_secret is None
    # also when the administrator has taken the default away
    assert resolved(begun, Settings(), **LOCAL).spec.storage.uri == "s3://old/place"
    assert status_of(observed(begun, **LOCAL))["storage"] == begun["storage"]


def test_before_it_begins_it_follows_the_settings() -> None:
    waiting = {"storage": {"uri": "s3://old/place"}}
    assert resolved(waiting, **LOCAL).spec.storage.uri == "s3://all/runs"


def test_a_manifest_that_cannot_be_read_loses_nothing() -> None:
    view = samples.view({"startTime": at(-60), "storage": RECORD})
    assert record("what is wrong", view) == RECORD


def test_the_pods_are_told() -> None:
    seen = observed(**LOCAL)
    [job] = [
        a.body for a in plan(seen, SETTINGS) if isinstance(a, Create) and a.body["kind"] == "Job"
    ]
    assert isinstance(seen.manifest, NASExperiment)
    trial = job_specs.trial_job(samples.trial(), seen.manifest, SETTINGS)
    for body in (job, trial):
        pod = body["spec"]["template"]["spec"]
        [container] = pod["containers"]
        env = {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}
        assert env["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"] == "store"
        assert env["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_supported"
        assert env["AWS_RESPONSE_CHECKSUM_VALIDATION"] == "when_supported"
        [mount] = [m for m in container["volumeMounts"] if m["name"] == "kinase-ca"]
        assert env["AWS_CA_BUNDLE"] == f"{mount['mountPath']}/ca.crt"
        [volume] = [v for v in pod["volumes"] if v["name"] == "kinase-ca"]
        assert volume["configMap"]["name"] == "authorities"
    env = {
        e["name"]: e.get("value") for e in trial["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["KINASE_STORE"] == "s3://all/runs/ns/exp-uid"
    assert env["KINASE_STORE_ENDPOINT"] == "https://s3.example:9000"
    assert env["KINASE_STORE_PATIENCE"] == "12.5"
    env = {
        e["name"]: e.get("value") for e in job["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["KINASE_STORE_URI"] == "s3://all/runs"
    assert env["KINASE_STORE_REGION"] == "here"


def test_the_trials_may_reach_its_port() -> None:
    seen = observed(**LOCAL)
    [policy] = [
        a.body
        for a in plan(seen, SETTINGS)
        if isinstance(a, Create) and a.body["kind"] == "NetworkPolicy"
    ]
    ports = [rule["ports"][0]["port"] for rule in policy["spec"]["egress"] if "ports" in rule]
    assert 9000 in ports


def test_the_controller_s_own_pod() -> None:
    settings = replace(
        SETTINGS,
        controller_priority_class="high",
        controller_node_selector={"pool": "cpu"},
        controller_tolerations=({"key": "cpu", "operator": "Exists"},),
        controller_resources={"limits": {"memory": "2Gi"}},
    )
    job = job_specs.controller_job(samples.view(), samples.MANIFEST, settings)
    pod = job["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "high"
    assert pod["nodeSelector"] == {"pool": "cpu"}
    assert pod["tolerations"] == [{"key": "cpu", "operator": "Exists"}]
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "2Gi"}}


# -- the administrator's words -------------------------------------------------------------


def test_from_the_environment() -> None:
    settings = from_environment(
        {
            "KINASE_STORE_URI": "s3://all/runs",
            "KINASE_STORE_ENDPOINT": "https://s3.example:9000",
            "KINASE_STORE_REGION": "here",
            "KINASE_STORE_SECRET": "store",
            "KINASE_STORE_CA": "authorities",
            "KINASE_STORE_CHECKSUMS": "when_supported",
            "KINASE_STORE_PATIENCE": "12.5",
            "KINASE_CONTROLLER_RESOURCES": '{"limits": {"memory": "2Gi"}}',
            "KINASE_CONTROLLER_PRIORITY_CLASS": "high",
            "KINASE_CONTROLLER_NODE_SELECTOR": '{"pool": "cpu"}',
            "KINASE_CONTROLLER_TOLERATIONS": '[{"key": "cpu", "operator": "Exists"}]',
            "KINASE_CONTROLLER_SERVICE_ACCOUNT": "cloud",
            "KINASE_CONTROLLER_SERVICE_ACCOUNT_ANNOTATIONS": '{"role": "nas"}',
            "KINASE_SERVICE_ACCOUNTS": "reader, vision/writer",
            "KINASE_TRIAL_EGRESS_PORTS": "443, 3128",
            "KINASE_TRIAL_EGRESS_OPEN": "true",
        }
    )
    assert settings == replace(
        SETTINGS,
        controller_service_account="cloud",
        controller_service_account_annotations={"role": "nas"},
        service_accounts=("reader", "vision/writer"),
        trial_egress_ports=(443, 3128),
        trial_egress_open=True,
        controller_priority_class="high",
        controller_node_selector={"pool": "cpu"},
        controller_tolerations=({"key": "cpu", "operator": "Exists"},),
        controller_resources={"limits": {"memory": "2Gi"}},
    )
    assert from_environment({}) == Settings()
    assert from_environment({"KINASE_STORE_URI": "", "KINASE_STORE_PATIENCE": ""}) == Settings()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"KINASE_STORE_URI": "file://x"}, "KINASE_STORE_URI is 'file://x'"),
        ({"KINASE_STORE_SECRET": "x"}, "KINASE_STORE_SECRET is set, and KINASE_STORE_URI is not"),
        (
            {"KINASE_STORE_URI": "s3://x", "KINASE_STORE_ENDPOINT": "there"},
            "KINASE_STORE_ENDPOINT is 'there'",
        ),
        (
            {"KINASE_STORE_URI": "s3://x", "KINASE_STORE_SECRET": "No Name"},
            "KINASE_STORE_SECRET is 'No Name'",
        ),
        ({"KINASE_TRIAL_EGRESS_PORTS": "443,all"}, "KINASE_TRIAL_EGRESS_PORTS has 'all'"),
        ({"KINASE_TRIAL_EGRESS_PORTS": "70000"}, "KINASE_TRIAL_EGRESS_PORTS has '70000'"),
        (
            {"KINASE_CONTROLLER_SERVICE_ACCOUNT_ANNOTATIONS": "[]"},
            "KINASE_CONTROLLER_SERVICE_ACCOUNT_ANNOTATIONS must be a JSON",
        ),
        (
            {
                "KINASE_STORE_URI": "s3://x",
                "KINASE_STORE_ROLE": "arn:a",
                "KINASE_STORE_SECRET": "s",
            },
            "KINASE_STORE_ROLE: roleArn and credentialsSecret are both set",
        ),
        ({"KINASE_STORE_CHECKSUMS": "never"}, "KINASE_STORE_CHECKSUMS is 'never'"),
        ({"KINASE_STORE_PATIENCE": "long"}, "KINASE_STORE_PATIENCE is 'long'"),
        ({"KINASE_CONTROLLER_RESOURCES": "{"}, "KINASE_CONTROLLER_RESOURCES is not JSON"),
        ({"KINASE_CONTROLLER_TOLERATIONS": "{}"}, "KINASE_CONTROLLER_TOLERATIONS must be a JSON"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match="KINASE_") as problem:
        from_environment(environment)
    assert says in str(problem.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon"])
def test_an_invalid_time_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match=f"KINASE_RESYNC is '{value}'; it must be"):
        from_environment({"KINASE_RESYNC": value})
