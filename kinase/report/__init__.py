"""The HTML report."""

from kinase.report.data import ReportData
from kinase.report.render import render

__all__ = ["ReportData", "render"]
