"""`python -m charts.dashboards FOLDER`: write every dashboard as JSON into the folder."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from charts.dashboards import experiment, fleet

DASHBOARDS = {"fleet.json": fleet.dashboard, "experiment.json": experiment.dashboard}


def texts() -> dict[str, str]:
    """The dashboards' JSON by file name."""
    encoder = JSONEncoder(indent=2, sort_keys=True)
    return {name: f"{encoder.encode(make().build())}\n" for name, make in DASHBOARDS.items()}


if __name__ == "__main__":
    for file, text in texts().items():
        Path(sys.argv[1], file).write_text(text)
