"""The HTML report.

`gather` collects its contents as plain values (`ReportData`), and `render` draws them;
`render_comparison` compares several experiments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kinase.report.data import ReportData
from kinase.report.groups import Incomparable, named
from kinase.words import unwritable


def render(data: ReportData) -> str:
    """The report as one HTML document that needs no network.

    Raises:
        ModuleNotFoundError: plotly or jinja2 is missing; install `kinase-nas[report]`.
    """
    # Imported here, because comparing and gathering do not need these libraries.
    from kinase.report.page import document

    return document(data)


def render_comparison(runs: Iterable[tuple[str, ReportData]], reference: str | None = None) -> str:
    """A comparison of searches as one HTML document that needs no network.

    Args:
        runs: Experiments, each with the label of its group; `named` makes labels.
        reference: Label of the group that the others are compared with. Default: the first of
            random search, or the first.

    Raises:
        Incomparable: two runs differ in metric, goal, task, data or fidelity; there are fewer than
            two runs, or one is given twice; or no group has the reference's label.
        ModuleNotFoundError: plotly or jinja2 is missing; install `kinase-nas[report]`.
    """
    from kinase.report.versus import document

    return document(list(runs), reference)


def write_comparison(
    runs: Sequence[ReportData], out: Path, labels: Sequence[str] = (), reference: str | None = None
) -> None:
    """Write the comparison to a file and print its name, or to standard output for `-`.

    Raises:
        Incomparable: see `named` and `render_comparison`.
        OSError: it cannot be written; says why.
    """
    html = render_comparison(named(runs, labels), reference)
    if str(out) == "-":
        print(html)
        return
    try:
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise OSError(unwritable(out, error)) from error
    print(out)


__all__ = ["Incomparable", "ReportData", "named", "render", "render_comparison", "write_comparison"]
