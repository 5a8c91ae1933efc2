"""Maximum sizes in bytes of objects in the store that another process wrote.

A controller has a gigabyte of memory and reads eight results at once. A larger object is not
read, and the reader reports it.
"""

from __future__ import annotations

RESULT = 4 << 20
"""A trial's `result.json`, test result and task description. A curve of more than 10,000 epochs
fits."""
CHOICES = 8 << 20
"""A supernet's `choices.json`: the probabilities of each option after each epoch. Those of a cell
over 1,000 epochs fit."""
LEDGER = 64 << 10
"""A trial's `progress.json`: a few numbers, and the metrics of one epoch."""
RECORD = 2 << 20
"""`experiment.json`, which holds a manifest. etcd does not accept larger ones."""
ENTRY = 32 << 20
"""One object of the journal: the decisions of one turn of the loop."""
SEGMENT = 64 << 20
"""512 objects of the journal combined. If they are larger, they are read one by one."""
CARD = 32 << 20
"""The card of a trained network, which lists its tensors."""
GRAPH = 32 << 20
"""The graph of the network that a search starts from."""
