"""The HTML report.

What it shows is gathered as plain values (`gather`, `ReportData`), and drawn by `render`; several
experiments are compared by `render_comparison`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kinase.report.data import ReportData
from kinase.report.groups import Incomparable, named
from kinase.words import unwritable


def render(data: ReportData) -> str:
    """The report as one HTML document that asks the network for nothing.

    Raises:
        ModuleNotFoundError: plotly or jinja2 is missing, which come with `kinase-nas[report]`.
    """
    # Here and not above: what only compares and gathers needs neither library.
    from kinase.report.page import document

    return document(data)


def render_comparison(runs: Iterable[tuple[str, ReportData]], reference: str | None = None) -> str:
    """A comparison of searches, as one HTML document that asks the network for nothing.

    Args:
        runs: Experiments, each with the label of its group; `named` makes labels.
        reference: Label of the group that the others are compared with. Default: the first of
            random search, or the first.

    Raises:
        Incomparable: two of them differ in metric, goal, task, data or fidelity; there are
            fewer than two, or one is given twice; or no group has the reference's label.
        ModuleNotFoundError: plotly or jinja2 is missing, which come with `kinase-nas[report]`.
    """
    from kinase.report.versus import document

    return document(list(runs), reference)


def write_comparison(
    runs: Sequence[ReportData], out: Path, labels: Sequence[str] = (), reference: str | None = None
) -> None:
    """Write that page to a file whose name is then printed, or to standard output for `-`.

    Raises:
        Incomparable: as `named` and `render_comparison` have it.
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
