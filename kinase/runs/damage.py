"""A run whose files contradict themselves, as an error of the store that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kinase.api.load import ManifestError
from kinase.registry import UnknownMember, UnusableMember
from kinase.store import StoreError
from kinase.words import raised


@contextmanager
def undamaged(uri: str) -> Iterator[None]:
    """Read a run inside this block.

    Args:
        uri: of the run.

    Raises:
        StoreError: its files contradict each other, for example where a trial ended that never
            began. Errors that are clear already are raised as they are.
    """
    try:
        yield
    except (ManifestError, UnknownMember, UnusableMember):
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        text = " ".join(raised(error).split())
        raise StoreError(
            f"{uri}: its journal is damaged: {text:.300}; restore the files, or start from scratch"
        ) from error
