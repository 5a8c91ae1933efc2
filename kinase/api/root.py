"""The network that a search starts from, in the trial contract."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field

from kinase.api._base import Model

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, in hexadecimal digits."""


class RootFiles(Model):
    """The network that a search starts from, in the experiment's store."""

    graph: Digest
    """Digest of the graph, stored at `root/<digest>.json`."""
    weights: Digest
    """Digest of the weights, stored at `root/<digest>.safetensors`."""


class Root(Model):
    """The network that a search starts from, as the trainer has adapted it to the task."""

    graph: dict[str, Any]
    """Graph of the network as plain data: nodes and output."""
    weights: Digest
    """Digest of the weights that the trainer has stored."""

    @property
    def text(self) -> bytes:
        """The graph as the trainer has stored it."""
        return json.dumps(self.graph, sort_keys=True, separators=(",", ":")).encode()

    @property
    def files(self) -> RootFiles:
        """The same as references for a trial."""
        return RootFiles(graph=hashlib.sha256(self.text).hexdigest(), weights=self.weights)
