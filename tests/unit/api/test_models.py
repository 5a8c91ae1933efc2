"""The API as a contract: every field is described and bounded, and the page says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from kinase.api import ExperimentSpec, NASExperiment, NASTrial, TrialJob, TrialResult
from kinase.api._base import format_duration, parse_duration
from kinase.api.experiment import Metadata
from kinase.api.explain import Field, fields
from kinase.api.load import load_manifest, models_in, read_document
from kinase.api.reference import pages
from kinase.api.status import Status
from kinase.api.storage import Storage

ROOT = Path(__file__).parents[3]
EXEMPT = {
    "options",
    "architecture",
    "labels",
    "annotations",
    "target",
    "enough",
}
"""Free-form data, which its own validator checks, and numbers of any size."""


def every_model(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for info in model.model_fields.values():
        for below in models_in(info.annotation):
            yield from every_model(below, seen)


MODELS = [
    model
    for seen in [set[type[BaseModel]]()]
    for top in (NASExperiment, NASTrial, TrialJob, TrialResult)
    for model in every_model(top, seen)
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    assert model.__doc__
    for field in fields(model):
        assert field.description.endswith((".", ")")), f"{model.__name__}.{field.name}"


@pytest.mark.parametrize(
    "model",
    [*every_model(ExperimentSpec, set()), *every_model(Metadata, set())],
    ids=lambda m: m.__name__,
)
def test_every_number_list_and_text_of_a_manifest_is_bounded(model: type[BaseModel]) -> None:
    def bounded(field: Field) -> bool:
        if field.kind.endswith(("boolean", "duration", "quantity", "Object")):
            return True
        if field.name in EXEMPT:
            return True
        return bool(field.bounds)

    assert not [f"{model.__name__}.{f.name}" for f in fields(model) if not bounded(f)]


def test_the_reference_is_up_to_date() -> None:
    docs = ROOT / "docs"
    written = [docs / "manifest.md", *(docs / "manifest").iterdir()]
    found = {path.relative_to(docs).as_posix(): path.read_text() for path in written}
    assert found == pages(), "run `make generate`"


def test_models_are_frozen_and_refuse_what_they_do_not_know() -> None:
    for model in MODELS:
        assert model.model_config["frozen"]
        lenient = model is Metadata or issubclass(model, Status)
        assert model.model_config["extra"] == ("ignore" if lenient else "forbid")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("2h0m1s", 7201),
        ("99999h999999m99999999.999s", 519_996_339.999),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(format_duration(parse_duration(text))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "-5m", "1h-3m", "0s", "1d", 5, "9" * 20 + "h", "1s\n", "٤s"]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(text)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_manifest_survives_being_written_and_read(path: Path) -> None:
    experiment = load_manifest(path)
    text = experiment.model_dump_json(by_alias=True)
    assert NASExperiment.model_validate_json(text) == experiment


def test_a_union_fills_in_the_struct_of_its_type() -> None:
    from kinase.api.strategy import Strategy

    assert Strategy.model_validate({"type": "Evolution"}).member.removal == "oldest"
    with pytest.raises(ValidationError, match="must not be set"):
        Strategy.model_validate({"type": "Random", "evolution": {}})


@pytest.mark.parametrize("value", ["8", "0.5", True])
def test_text_and_truth_values_are_no_numbers(value: object) -> None:
    from kinase.api.task import Training

    for name in ("epochs", "labelSmoothing"):
        with pytest.raises(ValidationError, match=r"valid (integer|number)"):
            Training.model_validate({name: value})


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("2.E2", 200.0), ("0.5", 0.5)])
def test_a_number_with_an_exponent_is_one(tmp_path: Path, text: str, value: float) -> None:
    """As for kubectl, while YAML 1.1 asks for a point and a sign."""
    path = tmp_path / "manifest.yaml"
    path.write_text(f"kind: NASExperiment\nrate: {text}\nname: '{text}'\n")
    assert read_document(path).data == {"kind": "NASExperiment", "rate": value, "name": text}


@pytest.mark.parametrize("url", ["http://s3", "https://s3.ns.svc:9000/x", "http://[::1]:9000"])
def test_servers_of_a_store(url: str) -> None:
    assert Storage(endpoint=url).endpoint == url


@pytest.mark.parametrize("url", ["http://s3:99999", "http://s3:port", "http://:80", "http://[::1"])
def test_a_server_without_a_valid_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"no valid host or port; write https://HOST or"):
        Storage(endpoint=url)
