"""Which cluster is meant, and what is said where there is none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kinase.cli import app
from kinase.cli_options import Target, is_local
from kinase_kubectl.app import plugin, seconds
from kinase_kubectl.cluster import configuration, kubeconfig, plain_name
from kinase_kubectl.problem import Problem


@pytest.mark.parametrize(
    ("source", "local"),
    [
        ("digits", False),
        ("nasx/digits", False),
        ("nasexperiment.kinase.dev/digits", False),
        ("digits.yaml", True),
        ("digits.yml", True),
        ("digits.json", True),
        ("runs/digits", True),
        ("./digits", True),
        ("/tmp", True),
        ("s3://nas/x/final", True),
        ("lies-here", True),
    ],
)
def test_what_is_of_this_machine(
    source: str, local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lies-here").mkdir()
    assert is_local(source, Target()) == local
    assert not is_local(source, Target(namespace="nas"))


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a/b", "a b", "a" * 254, "ä"])
def test_names_that_no_object_can_have(text: str) -> None:
    with pytest.raises(Problem) as caught:
        plain_name(text)
    assert "is not a valid name" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "5x", "-5m", "5m3"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Problem, match="is not a duration; write it as 90s, 5m or 1h30m"):
        seconds(text)


def config(path: Path, **contexts: str | None) -> Path:
    """A kubeconfig with a context for each name, of these namespaces."""
    cluster = {"server": "https://127.0.0.1:1"}
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {
                "name": name,
                "context": {
                    "cluster": "c",
                    "user": "u",
                    **({"namespace": namespace} if namespace else {}),
                },
            }
            for name, namespace in contexts.items()
        ],
        "current-context": next(iter(contexts)),
    }
    path.write_text(yaml.safe_dump(body))
    return path


def namespace(target: Target) -> str:
    return asyncio.run(configuration(target))[1]


def test_the_namespace_is_the_contexts_unless_one_is_named(tmp_path: Path) -> None:
    path = config(tmp_path / "config", work="nas", plain=None)
    assert namespace(Target(kubeconfig=path)) == "nas"
    assert namespace(Target(kubeconfig=path, context="plain")) == "default"
    assert namespace(Target("mine", "plain", path)) == "mine"
    with pytest.raises(Problem, match=r"no context 'away' in .*; there are: plain, work"):
        namespace(Target(context="away", kubeconfig=path))


def test_where_the_kubeconfig_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    home = tmp_path / ".kube" / "config"
    assert kubeconfig(Target()) == str(home)
    with pytest.raises(Problem, match=r"there is no kubeconfig .*: set KUBECONFIG"):
        namespace(Target())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert kubeconfig(Target()) is None  # in a pod: its own account
    home.parent.mkdir()
    config(home, work="nas")
    assert kubeconfig(Target()) == str(home)  # unless there is one, as kubectl has it
    other = config(tmp_path / "other", work="elsewhere")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{other}")
    assert namespace(Target()) == "elsewhere"
    assert kubeconfig(Target(kubeconfig=Path("~/x"))) == str(tmp_path / "x")


def test_a_kubeconfig_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for text in ("{}", "a: [", "contexts: 3", ""):
        path.write_text(text)
        with pytest.raises(Problem, match="does not serve"):
            namespace(Target(kubeconfig=path))


def test_without_the_kubernetes_client_it_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['kubernetes'] = None\n"
        "from kinase.cli import app\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n"
        "        app(line.split())\n"
        "    except SystemExit as end:\n"
        "        print(end.code)\n"
    )
    calls = ["get", "report digits", "compare digits b", "suspend digits"]
    done = subprocess.run(
        [sys.executable, "-c", code, *calls], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n" * len(calls)
    said = done.stderr.splitlines()
    assert len(said) == len(calls)
    for line in said:
        assert line.startswith("error: commands for a cluster need the Kubernetes client")
        assert line.endswith("pip install 'kinase-nas[operator,s3]'")


def test_the_plugin_has_what_is_for_a_cluster_and_no_more() -> None:
    help_text = CliRunner().invoke(plugin, ["--help"], prog_name="kubectl kinase").output
    assert "Usage: kubectl kinase" in help_text
    for command in ("get", "logs", "report", "compare", "export", "suspend", "resume", "wait"):
        assert f" {command} " in help_text
        assert CliRunner().invoke(plugin, [command, "--help"]).exit_code == 0
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    assert " run " not in help_text


def test_an_option_that_does_not_go_with_another() -> None:
    done = CliRunner().invoke(app, ["report", "digits", "-n", "nas", "-w", "-o", "x.html"])
    assert done.exit_code == 2
    assert "--out cannot be combined with --watch" in done.output
