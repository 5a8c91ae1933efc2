"""Write what follows from other files: `python -m tests.chart.renew`.

- Kubernetes' own types in `values.schema.json`, from the newest release that is tested
- the table of values in the chart's README, from the schema and `values.yaml`
- `golden/`: what two sets of values become
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.chart import kubernetes
from tests.chart.conftest import CHART, Helm
from tests.chart.sets import GOLDEN

SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
FOLDER = Path(__file__).parent / "golden"
_BEGIN, _END = "<!-- values -->\n", "<!-- end of values -->\n"
_KUBERNETES = "io.k8s."


def schema() -> str:
    """The schema with Kubernetes' types as they are now."""
    found = json.loads(SCHEMA.read_text())
    own = {k: v for k, v in found["definitions"].items() if not k.startswith(_KUBERNETES)}
    used = {n for n in kubernetes.references({**found, "definitions": own}) if n not in own}
    theirs = kubernetes.closure(used, kubernetes.definitions(kubernetes.MINORS[-1]))
    found["definitions"] = {**own, **theirs}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def values() -> dict[str, Any]:
    """The defaults."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def rows(schema: dict[str, Any], defaults: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every value: its path, its default, what it is."""
    known = json.loads(SCHEMA.read_text())["definitions"]
    for name, field in schema["properties"].items():
        if name not in defaults:
            continue
        where, default = f"{path}{name}", defaults[name]
        [reference] = [part["$ref"] for part in field.get("allOf", ())] or [""]
        shared = known.get(reference.removeprefix("#/definitions/"), {})
        below = field if "properties" in field else shared
        ours = not reference.startswith(f"#/definitions/{_KUBERNETES}")
        if isinstance(default, dict) and "properties" in below and ours:
            if reference:
                yield where, None, field["description"]
            yield from rows(below, default, f"{where}.")
        else:
            yield where, default, field["description"]


def readme() -> str:
    """The README with the table of values as it is now."""
    lines = ["| value | default | what it is |", "| --- | --- | --- |"]
    for where, default, words in rows(json.loads(SCHEMA.read_text()), values()):
        shown = "" if default is None and "null" not in words else f"`{json.dumps(default)}`"
        lines.append(f"| `{where}` | {shown} | {words} |".replace("  ", " "))
    text = README.read_text()
    head, _, rest = text.partition(_BEGIN)
    return head + _BEGIN + "\n".join(lines) + "\n" + _END + rest.partition(_END)[2]


def golden(helm: Helm, name: str) -> str:
    """What a set of values becomes."""
    items = helm.template(GOLDEN[name])
    return yaml.safe_dump_all(items, sort_keys=False, width=100)


def main() -> None:
    """Write all of it."""
    import tempfile

    from tests.cluster.lab import binaries

    SCHEMA.write_text(schema())
    README.write_text(readme())
    with tempfile.TemporaryDirectory() as home:
        for name in GOLDEN:
            FOLDER.mkdir(exist_ok=True)
            text = golden(Helm(binaries.get("helm"), Path(home)), name)
            (FOLDER / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    main()
