"""What the chart becomes, set by set of values, for every Kubernetes that is supported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinase.api import names
from kinase_operator import install, settings
from tests.chart import kubernetes, renew
from tests.chart.conftest import CHART, NEWEST, REPOSITORY, Helm, Refused
from tests.chart.sets import GOLDEN, SETS
from tests.cluster.lab import binaries

Object = dict[str, Any]


def of_kind(items: list[Object], kind: str, name: str = "") -> list[Object]:
    return [i for i in items if i["kind"] == kind and name in ("", i["metadata"]["name"])]


def the(items: list[Object], kind: str, name: str = "") -> Object:
    [found] = of_kind(items, kind, name)
    return found


def environment(items: list[Object]) -> dict[str, str]:
    """The operator's variables that have a plain value."""
    deployment = next(
        item
        for item in of_kind(items, "Deployment")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    )
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


# -- well-formed ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(helm: Helm, name: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--values=-", stdin=json.dumps(SETS[name]))
    assert "WARNING" not in said
    assert "ERROR" not in said


@pytest.mark.parametrize("minor", kubernetes.MINORS)
def test_every_object_is_one_of_that_kubernetes(
    helm: Helm, rendered: dict[str, list[Object]], minor: str
) -> None:
    try:
        kubernetes.definitions(minor)
        kubernetes.monitoring()
    except binaries.Unavailable as problem:
        pytest.skip(f"no schemas: {problem}")
    kinds, wrong, seen = set(), [], set()
    for name, values in SETS.items():
        version = f"{minor}.0"
        items = rendered[name] if version == NEWEST else helm.template(values, kubernetes=version)
        for item in items:
            kinds.add(item["kind"])
            if (text := json.dumps(item)) in seen:
                continue
            seen.add(text)
            check = kubernetes.validator(minor, item["apiVersion"], item["kind"])
            wrong += [f"{name}: {item['kind']} {line}" for line in check(item)]
    assert not wrong, "\n".join(wrong)
    assert {"CustomResourceDefinition", "PodMonitor", "ServiceMonitor", "PrometheusRule"} <= kinds


def test_the_check_of_objects_sees_a_mistake(helm: Helm) -> None:
    try:
        check = kubernetes.validator(kubernetes.MINORS[0], "apps/v1", "Deployment")
        monitor = kubernetes.validator(
            kubernetes.MINORS[0], "monitoring.coreos.com/v1", "ServiceMonitor"
        )
    except binaries.Unavailable as problem:
        pytest.skip(f"no schemas: {problem}")
    items = helm.template(SETS["everything"])
    deployment, seen = the(items, "Deployment"), the(items, "ServiceMonitor")
    assert not check(deployment)
    assert not monitor(seen)
    deployment["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    seen["spec"]["endpoints"][0]["scrapetimeout"] = "1s"
    assert "volumeMount" in check(deployment)[0]
    assert "scrapetimeout" in monitor(seen)[0]


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    with pytest.raises(Refused, match=r"kubeVersion: >=1\.35"):
        helm.template({}, kubernetes="1.34.9")


@pytest.mark.parametrize("name", GOLDEN)
def test_a_change_of_what_comes_out_is_seen(helm: Helm, name: str) -> None:
    kept = (renew.FOLDER / f"{name}.yaml").read_text()
    assert kept == renew.golden(helm, name), "if it is meant: python -m tests.chart.renew"


def test_names_are_short_enough_and_of_the_release(rendered: dict[str, list[Object]]) -> None:
    for items in rendered.values():
        seen = [(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]) for i in items]
        assert len(set(seen)) == len(seen)
        for item in items:
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            assert labels["app.kubernetes.io/instance"] == "kinase"
            assert all(len(value) <= 63 for value in labels.values())


def test_the_package_holds_all_that_the_folder_has(helm: Helm, tmp_path: Path) -> None:
    helm("package", str(CHART), f"--destination={tmp_path}")
    [package] = tmp_path.glob("kinase-*.tgz")
    values = json.dumps(SETS["monitoring"])  # alerts and dashboards are files
    arguments = ("--kube-version=1.37.0", "--values=-")
    packed, plain = (
        helm("template", "kinase", str(chart), *arguments, stdin=values)
        for chart in (package, CHART)
    )
    assert packed == plain
    assert packed.count("kind: CustomResourceDefinition") == 2


def test_the_longest_release_name_fits(helm: Helm) -> None:
    values = json.dumps({**SETS["everything"], "fullnameOverride": "", "nameOverride": ""})
    text = helm(
        "template", "r" * 53, str(CHART), "--kube-version=1.37.0", "--values=-", stdin=values
    )
    for item in yaml.load_all(text, yaml.CSafeLoader):
        assert item is None or len(item["metadata"]["name"]) <= 63


# -- values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"operatr": {}}, "operatr"),
        ({"operator": {"resource": {}}}, "resource"),
        ({"operator": {"resources": {"limit": {}}}}, "limit"),
        ({"operator": {"tolerations": [{"keys": "a"}]}}, "keys"),
        ({"operator": {"extraVolumes": [{"name": "a", "emptydir": {}}]}}, "emptydir"),
        ({"operator": {"logLevel": "LOUD"}}, "logLevel"),
        ({"operator": {"workers": 0}}, "workers"),
        ({"operator": {"replicas": 2}}, "replicas"),
        ({"images": {"operator": {"tag": "a b"}}}, "tag"),
        ({"images": {"operator": {"tag": 1.5}}}, "tag"),
        ({"images": {"trainer": {"digest": "sha256:0"}}}, "digest"),
        ({"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"watch": {"namespaces": "nas"}}, "namespaces"),
        ({"watch": {"namespaces": ["NAS"]}}, "namespaces"),
        ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
        ({"store": {"uri": "file://runs"}}, "uri"),
        ({"store": {"uri": "s3://b", "checksums": "never"}}, "checksums"),
        ({"store": {"uri": "s3://b", "endpoint": "minio:9000"}}, "endpoint"),
        ({"store": {"uri": "s3://b", "ca": "/etc/ca.crt", "namespaces": ["a"]}}, "ca"),
        ({"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1"]}}}, "cidrs"),
        ({"monitoring": {"prometheusRule": {"runbookUrl": "https://a/"}}}, "runbookUrl"),
        # what the templates refuse
        ({"store": {"endpoint": "http://a"}}, "store.uri is not"),
        ({"store": {"credentialsSecret": "a"}}, "store.uri is not"),
        ({"store": {"roleArn": "arn:a"}}, "store.uri is not"),
        (
            {"store": {"uri": "s3://bucket", "roleArn": "arn:a", "credentialsSecret": "a"}},
            "leave one of them out",
        ),
        ({"store": {"uri": "s3://bucket", "tokenAudience": "a"}}, "for store.roleArn"),
        (
            {"store": {"credentials": {"accessKeyId": "a", "secretAccessKey": "b"}}},
            "store.uri is not",
        ),
        (
            {"store": {"uri": "s3://bucket", "credentials": {"accessKeyId": "a"}}},
            "both accessKeyId and secretAccessKey",
        ),
        (
            {
                "store": {
                    "uri": "s3://bucket",
                    "credentials": {"accessKeyId": "a", "secretAccessKey": "b"},
                }
            },
            "store.namespaces is empty",
        ),
        (
            {"store": {"uri": "s3://bucket", "namespaces": ["a"]}},
            "there is nothing to create there",
        ),
        (
            {"store": {"uri": "s3://bucket", "embedded": {"enabled": True}}},
            "leave one of them out",
        ),
        (
            {
                "store": {"embedded": {"enabled": True}, "namespaces": ["a"]},
                "watch": {"namespaces": ["b"]},
            },
            "which watch.namespaces has not",
        ),
        (
            {"monitoring": {"prometheusRule": {"enabled": True, "disabled": ["KinaseTypo"]}}},
            "KinaseTypo, which is not a Kinase alert; known alerts: KinaseOperatorDown",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_is_refused_with_its_name(helm: Helm, values: Any, said: str) -> None:
    with pytest.raises(Refused) as problem:
        helm.template(values)
    assert said in str(problem.value)


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        yield path, schema
        for key, value in schema.items():
            yield from nodes(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from nodes(value, f"{path}/{index}")


def test_the_schema_lets_no_unknown_value_through() -> None:
    schema = json.loads(renew.SCHEMA.read_text())
    open_ = {
        path
        for path, node in nodes(schema)
        if node.get("type") == "object" and "additionalProperties" not in node
    }
    # charts share what lies in `global`; the volumes' free-form types are Kubernetes' own
    assert {path for path in open_ if "/definitions/io.k8s." not in path} == {"/properties/global"}
    for path in open_ - {"/properties/global"}:
        assert path.endswith("meta.v1.FieldsV1"), path


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    table = (CHART / "README.md").read_text()
    schema = json.loads(renew.SCHEMA.read_text())
    listed = {where for where, _, _ in renew.rows(schema, renew.values())}

    def leaves(value: Any, path: str = "") -> Iterator[str]:
        if isinstance(value, dict) and value and path not in listed:
            for key, below in value.items():
                yield from leaves(below, f"{path}.{key}".lstrip("."))
        else:
            yield path

    for path in leaves(renew.values()):
        assert path in listed, path
        assert f"| `{path}` |" in table
    described = schema["properties"] | schema["definitions"]["image"]["properties"]
    assert all(field.get("description") for field in described.values())


def test_what_is_written_from_other_files_is_up_to_date() -> None:
    try:
        assert renew.SCHEMA.read_text() == renew.schema(), "python -m tests.chart.renew"
    except binaries.Unavailable as problem:
        pytest.skip(f"no schemas: {problem}")
    assert renew.README.read_text() == renew.readme(), "python -m tests.chart.renew"


def test_the_chart_has_the_version_of_the_package() -> None:
    from kinase import __version__

    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert meta["version"] == meta["appVersion"] == __version__


# -- CRDs ----------------------------------------------------------------------------------


def test_the_definitions_are_those_of_the_repository() -> None:
    ours = {file.name: file.read_text() for file in (CHART / "files/crds").glob("*.yaml")}
    assert ours == {file.name: file.read_text() for file in (REPOSITORY / "crds").glob("*.yaml")}, (
        "run `make generate`"
    )


@pytest.mark.parametrize("keep", [True, False])
def test_the_definitions_come_out_as_they_are(helm: Helm, keep: bool) -> None:
    items = of_kind(
        helm.template({"crds": {"enabled": True, "keep": keep}}), "CustomResourceDefinition"
    )
    assert len(items) == 2
    for item in items:
        meta = item["metadata"]
        kept = meta.get("annotations") == {"helm.sh/resource-policy": "keep"}
        assert kept == keep
        file = REPOSITORY / "crds" / f"{meta['name']}.yaml"
        item["metadata"] = {"name": meta["name"]}
        assert item == yaml.load(file.read_text(), yaml.CSafeLoader)


def test_without_the_definitions_there_are_none(rendered: dict[str, list[Object]]) -> None:
    assert not of_kind(rendered["default"], "CustomResourceDefinition")


# -- rights --------------------------------------------------------------------------------


def test_the_operators_rights_are_those_that_are_tested(helm: Helm) -> None:
    for namespaces in ([], ["vision"], ["vision", "speech"]):
        items = helm.template({"watch": {"namespaces": namespaces}, "rbac": {"aggregate": False}})
        shipped = install.rights("kinase-system", tuple(namespaces))
        kinds = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")

        def content(objects: list[Object], kinds: tuple[str, ...] = kinds) -> list[Any]:
            found = []
            for item in objects:
                if item["kind"] in kinds:
                    meta = {k: v for k, v in item["metadata"].items() if k != "labels"}
                    found.append(json.dumps({**item, "metadata": meta}, sort_keys=True))
            return sorted(found)

        assert content(items) == content(shipped)
        assert len(content(items)) == 2 * max(1, len(namespaces))


def test_no_right_is_a_wildcard(rendered: dict[str, list[Object]]) -> None:
    seen = 0
    for items in rendered.values():
        for item in items:
            for rule in item.get("rules") or ():
                seen += 1
                assert "*" not in json.dumps(rule)
                assert "nonResourceURLs" not in rule
                assert not {"secrets", "pods/exec"} & set(rule["resources"])
                assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
    assert seen > 100


def test_people_get_rights_on_experiments_by_the_roles_that_they_have(
    rendered: dict[str, list[Object]],
) -> None:
    view, edit = (
        the(rendered["default"], "ClusterRole", f"kinase-{role}") for role in ("view", "edit")
    )
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert [k for k in view["metadata"]["labels"] if k.startswith(prefix)] == [f"{prefix}view"]
    assert {k for k in edit["metadata"]["labels"] if k.startswith(prefix)} == {
        f"{prefix}edit",
        f"{prefix}admin",
    }
    # a trial's resource has the token that its pod posts with
    assert {r for rule in view["rules"] for r in rule["resources"]} == {names.EXPERIMENTS}
    assert not [
        rule
        for rule in edit["rules"]
        if names.TRIALS in rule["resources"] and {"create", "patch"} & set(rule["verbs"])
    ]


# -- what the operator is told -------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_the_operator_reads_what_the_chart_writes(
    rendered: dict[str, list[Object]], name: str
) -> None:
    given = settings.from_environment(environment(rendered[name]))
    known = set(re.findall(r"KINASE_[A-Z_]+", (REPOSITORY / settings.__file__).read_text()))
    assert {k for k in environment(rendered[name]) if k.startswith("KINASE_")} <= known
    assert given.namespaces == tuple(SETS[name].get("watch", {}).get("namespaces", ()))
    assert given.store_checksums == SETS[name].get("store", {}).get("checksums", "when_required")


def test_the_defaults_are_the_operators(rendered: dict[str, list[Object]]) -> None:
    given = settings.from_environment(environment(rendered["default"]))
    images = {
        "controller_image": "kinase-controller:0.1.0",
        "trainer_image": "kinase-trainer:0.1.0",
        "store_checksums": "when_required",
    }
    default = settings.Settings()
    for field in settings.Settings.__dataclass_fields__:
        assert getattr(given, field) == images.get(field, getattr(default, field)), field


def test_every_setting_arrives(rendered: dict[str, list[Object]]) -> None:
    given = settings.from_environment(environment(rendered["everything"]))
    registry = "registry.example.com/nas"
    assert given.controller_image == f"{registry}/kinase-controller:1.2.3"
    assert given.trainer_image == f"{registry}/kinase-trainer:0.1.0"
    assert given.pull_policy == "IfNotPresent"
    assert given.pull_secrets == ("registry",)
    assert given.allow_unrestricted
    assert given.controller_resources == SETS["everything"]["controller"]["resources"]
    assert given.controller_priority_class == "search"
    assert given.controller_node_selector == {"pool": "cpu"}
    assert given.controller_tolerations == tuple(SETS["everything"]["controller"]["tolerations"])
    assert given.controller_service_account == "controllers"
    annotations = SETS["everything"]["controller"]["serviceAccount"]["annotations"]
    assert given.controller_service_account_annotations == annotations
    assert given.service_accounts == ("reader", "vision/writer")
    assert given.trial_egress_ports == (3128, 5000)
    assert given.trial_egress_open
    assert (given.workers, given.running_after, given.resync) == (8, 0.5, 30)
    assert given.store_patience == 1200000
    assert given.store is not None
    place = given.store.model_dump(by_alias=True)
    assert {name: place[name] for name in settings.STORE if place[name]} == {
        "uri": "s3://models/search",
        "endpoint": "https://s3.example.com:9000",
        "region": "eu-west-1",
        "credentialsSecret": "kinase-store",
        "caConfigMap": "kinase-store-ca",
    }


def test_a_role_in_place_of_a_secret_arrives(rendered: dict[str, list[Object]]) -> None:
    given = settings.from_environment(environment(rendered["aws-by-role"])).store
    assert given is not None
    assert given.credentials_secret is None
    assert given.role_arn == "arn:aws:iam::1:role/nas"
    assert given.token_audience == "nas"
    assert given.sts_endpoint == "https://sts.eu-west-1.amazonaws.com"


def test_the_embedded_server_is_the_default_store(rendered: dict[str, list[Object]]) -> None:
    given = settings.from_environment(environment(rendered["embedded"])).store
    assert given is not None
    assert given.uri == "s3://kinase/experiments"
    assert given.endpoint == "http://kinase-store.kinase-system.svc:7070"
    secrets = of_kind(rendered["embedded"], "Secret")
    assert {s["metadata"]["namespace"] for s in secrets} == {"kinase-system", "nas"}
    assert {s["metadata"]["name"] for s in secrets} == {given.credentials_secret}
    one, other = (s["data"] for s in secrets)
    assert one == other
    assert set(one) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


# -- the network ---------------------------------------------------------------------------


def test_the_network_policies_name_pods_of_the_release(rendered: dict[str, list[Object]]) -> None:
    for name, items in rendered.items():
        policies = of_kind(items, "NetworkPolicy")
        deployments = of_kind(items, "Deployment")
        assert len(policies) == (0 if name == "bare" else len(deployments))
        for policy in policies:
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
            selected = policy["spec"]["podSelector"]["matchLabels"].items()
            pods = [d["spec"]["template"]["metadata"]["labels"] for d in deployments]
            assert len([labels for labels in pods if selected <= labels.items()]) == 1


def test_the_operator_reaches_names_and_the_api_server_alone(
    rendered: dict[str, list[Object]],
) -> None:
    [policy] = of_kind(rendered["everything"], "NetworkPolicy")
    dns, api = policy["spec"]["egress"]
    assert {(p["port"], p["protocol"]) for p in dns["ports"]} == {
        (port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")
    }
    assert api == {
        "ports": [{"port": 6443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "fd00::1/128"}}],
    }
    [ingress] = policy["spec"]["ingress"]
    assert ingress["ports"] == [{"port": 8081, "protocol": "TCP"}]
    assert len(ingress["from"]) == 2  # Prometheus, and the chart's own test


# -- monitoring ----------------------------------------------------------------------------


def test_monitors_lead_to_what_has_metrics(rendered: dict[str, list[Object]]) -> None:
    from kinase_operator.objects import labels

    items = rendered["monitoring"]
    monitor, service = the(items, "ServiceMonitor"), the(items, "Service")
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["honorLabels"]  # else an experiment's namespace would be the operator's
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    pods = the(items, "PodMonitor")["spec"]
    assert pods["namespaceSelector"] == {"any": True}
    controller = labels("toy", "uid", "controller").items()
    assert pods["selector"]["matchLabels"].items() <= controller
    assert not pods["selector"]["matchLabels"].items() <= labels("toy", "uid", "trial").items()
    served = the(rendered["two-namespaces"], "PodMonitor")["spec"]["namespaceSelector"]
    assert served == {"matchNames": ["vision", "speech"]}


def test_the_alerts_are_those_of_the_file(rendered: dict[str, list[Object]]) -> None:
    file = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    assert the(rendered["monitoring"], "PrometheusRule")["spec"] == {"groups": file["groups"]}
    rules = [
        rule
        for group in the(rendered["everything"], "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
    ]
    everything = [rule for group in file["groups"] for rule in group["rules"]]
    assert len(rules) == len(everything) - 1
    assert "KinaseTrialsPending" not in {rule.get("alert") for rule in rules}
    for rule in rules:
        if "alert" in rule:
            page = rule["annotations"]["runbook"].removeprefix("docs/").removesuffix(".md")
            assert rule["annotations"]["runbook_url"] == f"https://docs.example.com/{page}.html"


def test_the_dashboards_are_those_of_the_folder(rendered: dict[str, list[Object]]) -> None:
    files = {p.name: p.read_text() for p in (CHART / "files/dashboards").glob("*.json")}
    assert files
    found = the(rendered["monitoring"], "ConfigMap")
    assert {k: json.loads(v) for k, v in found["data"].items()} == {
        k: json.loads(v) for k, v in files.items()
    }
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert the(rendered["everything"], "ConfigMap", "nas-dashboards")["metadata"]["namespace"] == (
        "grafana"
    )
