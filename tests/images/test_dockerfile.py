"""What the Dockerfile, the lock files and .dockerignore say, and that they agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kinase_operator import install, job_specs
from tests.images import build

ROOT = build.REPOSITORY
LOCKS = ("build", "operator", "controller", "trainer", "torch")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TORCH = re.compile(r"torch|torchvision|triton|(nvidia|cuda)-[a-z0-9-]+")


def locked(path: Path) -> dict[str, tuple[Requirement, frozenset[str]]]:
    """What a lock file has, by name and version, with the hashes."""
    found = {}
    for block in re.split(r"\n(?=\S)", path.read_text().strip()):
        line, *hashes = (part.strip() for part in block.split("\\\n"))
        requirement = Requirement(line)
        key = f"{canonicalize_name(requirement.name)}{requirement.specifier}"
        found[key] = requirement, frozenset(hashes)
    return found


def names(lock: str) -> set[str]:
    """What a lock file installs on this platform."""
    found = (requirement for requirement, _ in locked(ROOT / f"requirements/{lock}.lock").values())
    return {canonicalize_name(r.name) for r in found if r.marker is None or r.marker.evaluate()}


def closure(wanted: Iterable[str]) -> set[str]:
    """Packages with all that they require, as installed here."""
    unseen = [Requirement(each) for each in wanted]
    found: dict[str, set[str]] = {}
    while unseen:
        requirement = unseen.pop()
        name, extras = canonicalize_name(requirement.name), {"", *requirement.extras}
        new = extras - found.get(name, set())
        if not new:
            continue
        found.setdefault(name, set()).update(new)
        for each in map(Requirement, metadata.requires(name) or ()):
            if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras):
                unseen.append(each)
    return set(found)


def extras(*chosen: str) -> list[str]:
    """What Kinase with these extras requires."""
    optional = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(each for extra in chosen for each in optional[extra])]


def stage(name: str) -> str:
    """The lines of a stage, and of those of the project's that it starts from."""
    blocks = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    stages = {re.match(r"\S+ AS (\S+)", block)[1]: block for block in blocks}  # type: ignore[index]
    text = stages[name]
    base = text.split()[0]
    return stage(base) + text if base in stages else text


@pytest.mark.parametrize("lock", LOCKS)
def test_an_image_has_the_versions_and_hashes_of_the_whole(lock: str) -> None:
    whole = locked(ROOT / "requirements.lock")
    known = {requirement.name for requirement, _ in whole.values()}
    mine = locked(ROOT / f"requirements/{lock}.lock")
    assert mine
    for key, (requirement, hashes) in mine.items():
        assert hashes, f"{key} has no hash"
        assert all(each.startswith("--hash=sha256:") for each in hashes)
        if lock != "build" or requirement.name in known:  # uv and hatchling only build
            assert key in whole, f"run `make lock`: requirements.lock has not {key}"
            assert hashes == whole[key][1], f"run `make lock`: the hashes of {key} differ"


def test_the_locks_hold_what_the_extras_require_and_no_more() -> None:
    assert names("controller") == closure(extras("operator", "s3", "report", "curves"))
    both = closure(extras("trainer", "s3"))
    assert names("trainer") | names("torch") == both
    assert names("torch") == {name for name in both if TORCH.fullmatch(name)}
    wanted = (ROOT / "requirements/operator.in").read_text().split()
    assert names("operator") == closure(wanted)
    assert set(wanted) <= {canonicalize_name(Requirement(r).name) for r in extras("operator")}


def test_the_operator_starts_with_what_its_image_has() -> None:
    has = names("operator") | {"kinase-nas"}
    absent = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not has & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"numpy", "rich", "typer", "torch", "boto3"} <= set(absent)
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"  # importing these fails
        "import kinase_operator.app, kinase_operator.install, kopf, kubernetes.aio"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, f"name it in requirements/operator.in: {done.stderr}"


@pytest.mark.parametrize("target", build.TARGETS)
def test_an_image_runs_its_program_as_its_user(target: str) -> None:
    text = stage(target)
    (user,) = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert user == f"{job_specs.USER}:{job_specs.USER}"
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    # in the exec form, so that SIGTERM reaches Python
    assert json.loads(entry) == ["python", "-m", f"kinase_{target}"]
    assert not re.search(r"^CMD", text, re.MULTILINE)
    for label in ("title", "licenses", "version", "revision", "source"):
        assert f"org.opencontainers.image.{label}=" in text


def test_the_operator_is_started_as_its_image_would() -> None:
    deployment = install.install("ns", (), install.Images("o", "c", "t"))[-1]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "kinase_operator"]


def test_all_that_is_copied_is_let_through() -> None:
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*", "what is let through is listed"
    allowed = {rule[1:].removesuffix("/**") for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        copied.update(line.split()[:-1])
    locks = {name for name in copied if name.startswith("requirements/")}
    assert locks == {f"requirements/{name}.lock" for name in LOCKS}
    assert copied - locks == allowed - {"requirements/*.lock"}


def test_only_the_registry_of_the_base_is_named() -> None:
    """Nothing in the Dockerfile claims an address of images of our own."""
    found = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r" AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert {name for name in found if name not in stages} == {"${BASE}", "${TRAINER_BASE}"}
    assert re.findall(r"^ARG BASE=(\S+)", DOCKERFILE, re.MULTILINE) == [
        "docker.io/library/python:3.13-slim"
    ]
