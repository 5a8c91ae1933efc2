"""`docs/manifest.md`, written from the models: `python -m kinase.api.reference`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from pydantic import BaseModel

from kinase.api.experiment import NASExperiment
from kinase.api.explain import Field, fields

HEAD = """\
# The manifest

Every field of a `NASExperiment` (`kinase.dev/v1alpha1`). This page is written from `kinase/api` by
`make generate`; `kinase explain FIELD` prints the same on the terminal, and `kinase validate FILE`
checks a manifest.

A choice among several kinds is written as Kubernetes does: `type`, and the one struct of that name.
A struct whose fields all have defaults may be left out.
"""


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *_sections(NASExperiment, "")]).rstrip() + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    yield f"## `{path}`" if path else "## `NASExperiment`"
    yield ""
    yield " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())
    yield ""
    members = fields(model)
    if members:
        yield "| field | type | default | description |"
        yield "| --- | --- | --- | --- |"
        yield from (_row(field) for field in members)
        yield ""
    for field in members:
        if field.model is not None:
            yield from _sections(field.model, f"{path}.{field.name}" if path else field.name)


def _row(field: Field) -> str:
    default = "required" if field.required else f"`{field.default}`" if field.default else ""
    text = field.description + (f" Bounds: {field.bounds}." if field.bounds else "")
    return f"| `{field.name}` | {field.kind} | {default} | {text.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    print(reference(), end="")
