from kinase.client import Callback as Callback
from kinase.client import Experiment as Experiment
from kinase.client import ManifestError as ManifestError
from kinase.client import Result as Result
from kinase.client import Search as Search
from kinase.client import load_result as load_result
from kinase.client import search as search

__version__: str
