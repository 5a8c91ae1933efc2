"""Where the runs of this machine lie, so that each is found by its name from any folder.

Each run that begins leaves a small file in the user's state directory, which says where it is kept.
What lies in a folder `runs` here or above is found without that. The index is a convenience: no run
depends on it, and an entry whose folder is gone is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from kinase.api._base import Model
from kinase.api.experiment import NASExperiment
from kinase.experiment import identity
from kinase.store import Store, StoreError, open_store, open_uri

MAX_BYTES = 16 * 1024
"""Largest entry that is read."""
MOST_ENTRIES = 10_000
"""Entries that are read, the latest first."""
HERE = "runs"
"""Folder of `storage.uri` by default, which is looked into here and in the folders above."""


class Place(Model):
    """Where a run is kept."""

    uri: str = Field(min_length=8, max_length=4096)
    """Of the run itself: ``file://FOLDER`` or ``s3://BUCKET/PREFIX/NAMESPACE/NAME``."""
    endpoint: str | None = None
    """As the manifest's storage has it."""
    region: str | None = None
    """As the manifest's storage has it."""

    @property
    def name(self) -> str:
        """The last part of the URI: the experiment's name, or `NAME.1` where it was set aside."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def namespace(self) -> str:
        """The last part but one."""
        return self.uri.rstrip("/").rpartition("/")[0].rpartition("/")[2]

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, or None for one in a bucket."""
        return Path(self.uri.removeprefix("file://")) if self.uri.startswith("file://") else None

    def store(self, request: float | None = None) -> Store:
        """Open it.

        Args:
            request: seconds that one request to a bucket may take, which is not repeated; None
                waits as long as a search does.
        """
        return open_uri(self.uri, self.endpoint, self.region, request)

    def changed(self) -> float | None:
        """When the run last wrote to its journal, in seconds since the epoch. For one in a bucket,
        when a process of this machine last ran it, or None."""
        if self.folder is not None:
            for name in ("journal", identity.KEY):
                with contextlib.suppress(OSError):
                    return (self.folder / name).stat().st_mtime
            return time.time()
        times = []
        with contextlib.suppress(OSError):
            for path in identity.scratch_at(self.uri).iterdir():
                with contextlib.suppress(OSError):
                    times.append(path.stat().st_mtime)
        return max(times, default=None)


class UnknownRun(StoreError):
    """No run of this machine has the name."""


class AmbiguousName(StoreError):
    """Several runs have the name."""


def state_folder() -> Path:
    """The user's state directory for Kinase, by the XDG Base Directory Specification."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    return base / "kinase" / "runs"


def record(experiment: NASExperiment) -> Place:
    """Remember where a run is kept; nothing happens where the state directory cannot be written.
    Entries of folders that are gone are removed."""
    storage = experiment.spec.storage
    store = open_store(storage).sub(experiment.directory)
    place = Place(uri=store.uri, endpoint=storage.endpoint, region=storage.region)
    with contextlib.suppress(OSError, RuntimeError):  # no home directory
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        for entry, found in _entries(folder):
            if found.folder is not None and not found.folder.is_dir():
                entry.unlink(missing_ok=True)
        name = hashlib.sha256(place.uri.encode()).hexdigest()[:24]
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.write_text(place.model_dump_json(exclude_none=True))
        fresh.replace(folder / f"{name}.json")
    return place


def _entries(folder: Path) -> Iterator[tuple[Path, Place]]:
    """Entries of the index with their files, the latest first."""
    dated: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for path in folder.glob("*.json"):
            with contextlib.suppress(OSError):
                dated.append((path.stat().st_mtime, path))
    for _, path in sorted(dated, reverse=True)[:MOST_ENTRIES]:
        try:
            with path.open("rb") as file:
                yield path, Place.model_validate_json(file.read(MAX_BYTES))
        except (OSError, ValidationError):  # of another version, or not ours
            continue


def places(here: Path | None = None) -> list[Place]:
    """The runs that this machine knows of: those in a folder `runs` here or above, nearest first,
    then those of the index, latest first. One whose folder is gone is left out."""
    found: dict[str, Place] = {}
    here = here or Path.cwd()
    for above in (here, *here.parents):
        for place in in_folder(above / HERE):
            found.setdefault(place.uri, place)
    with contextlib.suppress(RuntimeError):
        for _, place in _entries(state_folder()):
            if place.folder is None or (place.folder / identity.KEY).is_file():
                found.setdefault(place.uri, place)
    return list(found.values())


def in_folder(folder: Path) -> list[Place]:
    """The runs in a folder that `storage.uri` names."""
    try:
        keys = sorted(folder.glob(f"*/*/{identity.KEY}"))
    except OSError:
        return []
    return [_at(key.parent) for key in keys]


def _at(folder: Path) -> Place:
    return Place(uri=f"file://{folder.resolve()}")


def find(name: str, here: Path | None = None) -> Place:
    """The run of a name, ``NAMESPACE/NAME``, a folder, or a URI.

    A name that several runs have means the one in the nearest folder `runs`, if there is one there.

    Raises:
        UnknownRun: there is none; says which there are.
        AmbiguousName: there are several, in other folders.
    """
    here = here or Path.cwd()
    if "://" in name:
        return Place(uri=name if name.startswith("s3://") else f"file://{Path(name[7:]).resolve()}")
    if os.sep in name and ((here / name) / identity.KEY).is_file():
        return _at(here / name)
    known = places(here)
    fits = [place for place in known if name in (place.name, f"{place.namespace}/{place.name}")]
    if not fits:
        names = sorted({place.name for place in known})
        there = f"; there are {', '.join(names[:20])}" if names else ""
        raise UnknownRun(f"no run of this machine is called {name!r}{there}")
    if len(fits) > 1 and not _near(fits[0], here):
        listed = ", ".join(place.uri.removeprefix("file://") for place in fits[:5])
        raise AmbiguousName(f"{len(fits)} runs are called {name!r}: {listed}; give the folder")
    return fits[0]


def _near(place: Place, here: Path) -> bool:
    """Whether a run lies in a folder `runs` here or above."""
    if place.folder is None:
        return False
    runs = place.folder.parent.parent
    return runs.name == HERE and here.resolve().is_relative_to(runs.parent)


def is_known(name: str, here: Path | None = None) -> bool:
    """Whether a run of this machine has the name."""
    try:
        find(name, here)
    except AmbiguousName:
        return True
    except (UnknownRun, OSError):
        return False
    return True
