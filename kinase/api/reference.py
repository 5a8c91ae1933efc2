"""Documentation that is generated from the models.

`python -m kinase.api.reference --pages docs` writes `docs/manifest.md` and a page for each struct
of the manifest below `docs/manifest/`. `python -m kinase.api.reference FILE...` rewrites, in other
pages, the tables between `<!-- fields: PATH -->` and `<!-- end -->`, where PATH is a field of the
manifest, such as `spec.strategy.evolution`.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel

from kinase.api.experiment import NASExperiment
from kinase.api.explain import Field, fields, find

TABLE = re.compile(r"^(<!-- fields: (\S+) -->\n).*?^(<!-- end -->)$", re.MULTILINE | re.DOTALL)
PATTERN = re.compile(r"of the form (\S+?)(?=, |$)")
HEAD = """\
# The manifest

Every field of a `NASExperiment` (`kinase.dev/v1alpha1`). Each struct of `spec` has its own page.
These pages are generated from `kinase/api` by `make generate`. `kinase explain FIELD` prints the
same on the terminal, and `kinase validate FILE` checks a manifest.

A choice among several kinds is written as in Kubernetes: `type`, and the one struct of that name.
A struct can be omitted if all of its fields have defaults.
"""
BACK = "A struct of [the manifest](../manifest.md).\n"


def pages() -> dict[str, str]:
    """The reference as Markdown, by paths below `docs`."""
    found = {}
    top = [HEAD]
    for path in ("", "metadata", "spec"):
        model = NASExperiment if not path else find(path)[1]
        assert model is not None
        top += _section(model, path, _to_page if path == "spec" else lambda _: None)
    for field in [*fields(find("spec")[1] or NASExperiment), *fields(NASExperiment)]:
        if field.model is None or field.name in ("metadata", "spec"):
            continue
        path = field.name if field.name == "status" else f"spec.{field.name}"
        _, *rest = _sections(field.model, path)
        found[f"manifest/{field.name}.md"] = _page([f"# `{path}`", "", BACK, *rest[1:]])
    top += ["## `status`", "", "[Written by the cluster](manifest/status.md).", ""]
    return {"manifest.md": _page(top), **found}


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _to_page(field: Field) -> str | None:
    return f"manifest/{field.name}.md" if field.model is not None else None


def filled(page: str) -> str:
    """A page with its tables of fields filled in.

    Raises:
        LookupError: a path does not exist, or its field has no fields below it.
    """
    return TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}{found[3]}", page)


def _table(path: str) -> str:
    _, model = find(path)
    if model is None:
        raise LookupError(f"{path} has no fields below it")
    rows = [*_rows(fields(model))]
    return "\n".join(["", *rows, "", ""]) if rows else "\nIt has no options.\n\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """A struct and all structs below it."""

    def anchor(field: Field) -> str | None:
        return "#" + f"{path}.{field.name}".replace(".", "").lower() if field.model else None

    yield from _section(model, path, anchor)
    for field in fields(model):
        if field.model is not None:
            yield from _sections(field.model, f"{path}.{field.name}")


def _section(
    model: type[BaseModel], path: str, link: Callable[[Field], str | None]
) -> Iterator[str]:
    yield f"## `{path or 'NASExperiment'}`"
    yield ""
    yield " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())
    yield ""
    members = fields(model)
    if members:
        yield from _rows(members, link)
        yield ""


def _rows(
    members: list[Field], link: Callable[[Field], str | None] = lambda _: None
) -> Iterator[str]:
    if members:
        yield "| field | type | default | description |"
        yield "| --- | --- | --- | --- |"
        yield from (_row(field, link(field)) for field in members)


def _row(field: Field, link: str | None) -> str:
    default = "required" if field.required else f"`{field.default}`" if field.default else ""
    bounds = PATTERN.sub(r"of the form `\1`", field.bounds)
    text = field.description + (f" Bounds: {bounds}." if bounds else "")
    name = f"[`{field.name}`]({link})" if link else f"`{field.name}`"
    return f"| {name} | {field.kind} | {default} | {text.replace('|', chr(92) + '|')} |"


def main(arguments: list[str]) -> None:
    """Write the pages, or the tables of some files."""
    if arguments[:1] == ["--pages"]:
        folder = Path(arguments[1])
        shutil.rmtree(folder / "manifest", ignore_errors=True)
        (folder / "manifest").mkdir()
        for name, text in pages().items():
            (folder / name).write_text(text)
        return
    for file in map(Path, arguments):
        file.write_text(filled(file.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
