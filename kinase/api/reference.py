"""Documentation that is written from the models.

`python -m kinase.api.reference` prints `docs/manifest.md`; `python -m kinase.api.reference FILE...`
rewrites, in other pages, the tables between `<!-- fields: PATH -->` and `<!-- end -->`, where PATH
is a field of the manifest, such as `spec.strategy.evolution`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from kinase.api.experiment import NASExperiment
from kinase.api.explain import Field, fields, find

TABLE = re.compile(r"^(<!-- fields: (\S+) -->\n).*?^(<!-- end -->)$", re.MULTILINE | re.DOTALL)
PATTERN = re.compile(r"of the form (\S+?)(?=, |$)")
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


def filled(page: str) -> str:
    """A page with the tables of fields that it asks for.

    Raises:
        LookupError: a path is none of a field with fields below it.
    """
    return TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}{found[3]}", page)


def _table(path: str) -> str:
    _, model = find(path)
    if model is None:
        raise LookupError(f"{path} has no fields below it")
    rows = [*_rows(fields(model))]
    return "\n".join(["", *rows, "", ""]) if rows else "\nIt has no options.\n\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    yield f"## `{path}`" if path else "## `NASExperiment`"
    yield ""
    yield " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())
    yield ""
    members = fields(model)
    if members:
        yield from _rows(members)
        yield ""
    for field in members:
        if field.model is not None:
            yield from _sections(field.model, f"{path}.{field.name}" if path else field.name)


def _rows(members: list[Field]) -> Iterator[str]:
    if members:
        yield "| field | type | default | description |"
        yield "| --- | --- | --- | --- |"
        yield from (_row(field) for field in members)


def _row(field: Field) -> str:
    default = "required" if field.required else f"`{field.default}`" if field.default else ""
    bounds = PATTERN.sub(r"of the form `\1`", field.bounds)
    text = field.description + (f" Bounds: {bounds}." if bounds else "")
    return f"| `{field.name}` | {field.kind} | {default} | {text.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    if not sys.argv[1:]:
        print(reference(), end="")
    for file in map(Path, sys.argv[1:]):
        file.write_text(filled(file.read_text()))
