"""Errors of the trainer, with messages for people."""

from __future__ import annotations


class ConfigError(ValueError):
    """The manifest asks for something that does not exist: a data set, a device, a task; or what is
    there cannot be used."""

    for_people = True
    """Its message needs no name of a class before it."""


OUT_OF_MEMORY = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
"""torch's messages for out of memory in a plain RuntimeError: on a CPU, and in libraries."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, Python's or torch's, says that there is no memory left."""
    import torch  # late: a process handles signals before it has loaded torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


class WorkerLost(Exception):
    """Another worker of the trial is gone, or has not come. The attempt ends, and the next one
    continues from the checkpoint."""


class CorruptModel(ValueError):
    """A stored network differs from its card; it was not used."""
