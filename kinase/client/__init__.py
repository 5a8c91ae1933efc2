"""Searches from Python: `kinase.search` in a script or a notebook, and its result."""

from kinase.api.experiment import NASExperiment as Experiment
from kinase.api.load import ManifestError
from kinase.client.callbacks import Callback
from kinase.client.result import Best, Result, load_result
from kinase.client.search import Search, search

__all__ = [
    "Best",
    "Callback",
    "Experiment",
    "ManifestError",
    "Result",
    "Search",
    "load_result",
    "search",
]
