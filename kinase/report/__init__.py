"""The HTML report.

What it shows is gathered as plain values (`gather`, `ReportData`), and drawn by `render`.
"""

from __future__ import annotations

from kinase.report.data import ReportData


def render(data: ReportData) -> str:
    """The report as one HTML document that asks the network for nothing.

    Raises:
        ModuleNotFoundError: plotly or jinja2 is missing, which come with `kinase[report]`.
    """
    # Here and not above: what only compares and gathers needs neither library.
    from kinase.report.page import document

    return document(data)


__all__ = ["ReportData", "render"]
