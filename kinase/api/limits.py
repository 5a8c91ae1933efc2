"""How large an object in the store may be that another process wrote, by its kind, in bytes.

A controller has a gigabyte of memory, and reads eight results at once. What is larger than its
limit is not read, and whoever asked for it says so.
"""

from __future__ import annotations

RESULT = 4 << 20
"""A trial's `result.json`, its word of the test part, and what it says of the task: the curve of
more than 10,000 epochs fits."""
LEDGER = 64 << 10
"""A trial's `progress.json`: a few numbers, and the metrics of one epoch."""
RECORD = 2 << 20
"""`experiment.json`, which holds a manifest: etcd takes none that is larger."""
ENTRY = 32 << 20
"""One object of the journal: what one turn of the loop decides."""
SEGMENT = 64 << 20
"""512 objects of the journal in one; where they are larger, they are read one by one."""
CARD = 32 << 20
"""The card of a trained network, which names each of its tensors."""
GRAPH = 32 << 20
"""The graph of the network that a search begins with."""
