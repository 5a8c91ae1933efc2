"""The runs on this machine: their locations, their progress, and their trials as a table."""

from kinase.runs.damage import undamaged
from kinase.runs.index import AmbiguousName, Place, UnknownRun, find, is_run, places, record
from kinase.runs.rows import row, rows
from kinase.runs.status import Status, Summary, Unread, status_of, summaries, summarize

__all__ = [
    "AmbiguousName",
    "Place",
    "Status",
    "Summary",
    "UnknownRun",
    "Unread",
    "find",
    "is_run",
    "places",
    "record",
    "row",
    "rows",
    "status_of",
    "summaries",
    "summarize",
    "undamaged",
]
