"""A manifest in any form that a caller can pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

from pydantic import ValidationError

from kinase.api.experiment import NASExperiment
from kinase.api.load import (
    Document,
    ManifestError,
    Problem,
    explained,
    parse_document,
    read_document,
    validate,
)
from kinase.api.names import API_VERSION
from kinase.experiment.check import check, with_changes

ARGUMENTS = {
    "storage.uri": "out",
    "budget.trials": "trials",
    "budget.parallelism": "parallelism",
    "training.device": "device",
}
"""Arguments of `kinase.search` by the field of the spec that they change."""
GIVEN = "manifest"
"""Shown in a problem instead of a file name."""


def read(
    manifest: str | PathLike[str] | Mapping[str, Any] | NASExperiment,
    name: str | None,
    changes: dict[str, Any],
    trainer: str,
) -> NASExperiment:
    """Check a manifest and apply changes to it.

    Args:
        manifest: a path, YAML text (of several lines), plain data, or the model.
        name: instead of `metadata.name`, if not None.
        changes: values by their dotted fields of the spec; None changes nothing.
        trainer: trainer that defines the known tasks and data sets.

    Raises:
        ManifestError: with every problem that was found.
    """
    document = _document(manifest)
    if name is not None and isinstance(document.data, dict):
        metadata = document.data.get("metadata")
        kept = metadata if isinstance(metadata, dict) else {}
        document = Document(
            document.file, {**document.data, "metadata": {**kept, "name": name}}, document.lines
        )
    experiment = validate(document)
    problems = check(experiment, document, trainer)
    if problems:
        raise ManifestError(problems)
    if experiment.spec.suspend:
        raise ManifestError(
            [document.problem(("spec", "suspend"), "is true; set it to false to search")]
        )
    if trainer != "torch" and experiment.spec.trial_template.command:
        place = ("spec", "trialTemplate", "command")
        message = f"is set, so trainer={trainer!r} has no effect; leave one of them out"
        raise ManifestError([document.problem(place, message)])
    given = {
        key: _plain(document, key, value) for key, value in changes.items() if value is not None
    }
    try:
        return with_changes(experiment, given)
    except ValidationError as error:
        raise ManifestError(
            [
                _of_argument(document, explained(Document(document.file, given, {}), e))
                for e in error.errors()
            ]
        ) from None


def _document(manifest: Any) -> Document:
    if isinstance(manifest, NASExperiment):
        data = manifest.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return Document(GIVEN, data, {(): 0})
    if isinstance(manifest, Mapping):
        data = {"apiVersion": API_VERSION, "kind": "NASExperiment", **manifest}
        return Document(GIVEN, data, {(): 0})
    if isinstance(manifest, str) and "\n" in manifest:
        return parse_document(GIVEN, manifest.encode())
    if isinstance(manifest, str | PathLike):
        return read_document(fspath(manifest))
    raise TypeError(
        f"manifest is {type(manifest).__name__}; use a path, YAML text, a dict or a "
        "kinase.Experiment"
    )


def _of_argument(document: Document, problem: Problem) -> Problem:
    """A problem of an argument, by the argument's name instead of the field's."""
    field = problem.path.removeprefix("spec.")
    place = ARGUMENTS.get(field, problem.path)
    message = f"{place}: {problem.message}" if place else problem.message
    return Problem(document.file, 0, "", f"with the arguments of kinase.search: {message}")


def _plain(document: Document, field: str, value: Any) -> Any:
    if field != "storage.uri":
        return value
    text = fspath(value) if isinstance(value, str | PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"out is {text!r:.80}; use a folder or a URI, as str or pathlib.Path")
    if not text or "\0" in text:
        problem = Problem(document.file, 0, "", f"is {text!r:.80}; give a folder or a URI")
        raise ManifestError([_of_argument(document, replace(problem, path=field))])
    return text if "://" in text else f"file://{text}"
