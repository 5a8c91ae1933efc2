"""The locations of the runs on this machine, so that each is found by its name from any folder.

Each run writes a small file with its location to the user's state directory. Runs in a folder
`runs` here or in a parent folder are found without it. The index is a convenience: no run depends
on it, and an entry is ignored if its folder no longer exists.
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
from kinase.experiment import identity, lock
from kinase.store import Store, StoreError, open_store, open_uri

MAX_BYTES = 16 * 1024
"""Maximum size of an entry in bytes."""
MOST_ENTRIES = 10_000
"""Maximum number of entries that are read, the latest first."""
HERE = "runs"
"""Default folder of `storage.uri`, searched for here and in the parent folders."""


class Place(Model):
    """The location of a run."""

    uri: str = Field(min_length=8, max_length=4096)
    """URI of the run: ``file://FOLDER`` or ``s3://BUCKET/PREFIX/NAMESPACE/NAME``."""
    endpoint: str | None = None
    """As in the manifest's storage."""
    region: str | None = None
    """As in the manifest's storage."""

    @property
    def name(self) -> str:
        """The last part of the URI: the experiment's name, or `NAME.1` if it was set aside."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def namespace(self) -> str:
        """The second to last part of the URI."""
        return self.uri.rstrip("/").rpartition("/")[0].rpartition("/")[2]

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, or None if the run is in a bucket."""
        return Path(self.uri.removeprefix("file://")) if self.uri.startswith("file://") else None

    def store(self, request_timeout: float | None = None) -> Store:
        """Open it.

        Args:
            request_timeout: seconds of each wait of a request to a bucket, as for `S3Store`; the
                request is not repeated. None waits as long as a search does.
        """
        return open_uri(self.uri, self.endpoint, self.region, request_timeout)

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
            for path in lock.scratch_at(self.uri).iterdir():
                with contextlib.suppress(OSError):
                    times.append(path.stat().st_mtime)
        return max(times, default=None)


class UnknownRun(StoreError):
    """No run on this machine has the name."""


class AmbiguousName(StoreError):
    """Several runs have the name."""


def state_folder() -> Path:
    """The user's state directory for Kinase, by the XDG Base Directory Specification."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    return base / "kinase" / "runs"


def record(experiment: NASExperiment) -> Place:
    """Add a run to the index, unless the state directory is not writable. Remove entries whose
    folders no longer exist."""
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
        except (OSError, ValidationError):  # of another version, or not an entry
            continue


def places(here: Path | None = None) -> list[Place]:
    """The known runs on this machine: those in a folder `runs` here or in a parent folder, nearest
    first, then those of the index, latest first. Runs whose folder no longer exists are omitted."""
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
    """Find a run by name, ``NAMESPACE/NAME``, folder, or URI.

    If several runs have the name, the one in the nearest folder `runs` is returned, if there is
    one.

    Raises:
        UnknownRun: no run has the name; the message lists the known runs.
        AmbiguousName: several runs in other folders, or in two namespaces of the nearest one, have
            the name.
    """
    here = here or Path.cwd()
    if "://" in name:
        return _by_uri(name)
    if os.sep in name and is_run(here / name):
        return _at(here / name)
    known = places(here)
    fits = [place for place in known if name in (place.name, f"{place.namespace}/{place.name}")]
    if not fits:
        names = sorted({place.name for place in known})
        there = f"; there are {', '.join(names[:20])}" if names else ""
        shown = name if len(name) <= 200 else f"{name[:197]}..."
        raise UnknownRun(f"no run on this machine is called {shown!r}{there}")
    runs = _runs(fits[0])
    same = [place for place in fits if runs is not None and _runs(place) == runs]
    if len(same) > 1:
        listed = ", ".join(f"{place.namespace}/{place.name}" for place in same[:5])
        raise AmbiguousName(
            f"{len(same)} runs in {runs} are called {name!r}: {listed}; give one of these"
        )
    if len(fits) > 1 and not _near(fits[0], here):
        listed = ", ".join(place.uri.removeprefix("file://") for place in fits[:5])
        raise AmbiguousName(f"{len(fits)} runs are called {name!r}: {listed}; give the folder")
    return fits[0]


def _by_uri(uri: str) -> Place:
    scheme, _, rest = uri.partition("://")
    forms = "use file://FOLDER or s3://BUCKET/PREFIX/NAMESPACE/NAME"
    if scheme not in ("file", "s3"):
        raise UnknownRun(f"{uri!r:.200}: the scheme {scheme}:// is not supported; {forms}")
    try:
        return Place(uri=uri if scheme == "s3" else f"file://{Path(rest).resolve()}")
    except (ValidationError, ValueError, OSError):  # a part is missing, too long, or no path
        raise UnknownRun(f"{uri!r:.200} is not the URI of a run; {forms}") from None


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run. One whose name no file can have does not."""
    try:
        return (folder / identity.KEY).is_file()
    except (OSError, ValueError):
        return False


def _runs(place: Place) -> Path | None:
    """The folder that `storage.uri` names, or None for a bucket."""
    return None if place.folder is None else place.folder.parent.parent


def _near(place: Place, here: Path) -> bool:
    """Whether a run is in a folder `runs` here or in a parent folder."""
    runs = _runs(place)
    return runs is not None and runs.name == HERE and here.resolve().is_relative_to(runs.parent)


def is_known(name: str, here: Path | None = None) -> bool:
    """Whether a run on this machine has the name."""
    try:
        find(name, here)
    except AmbiguousName:
        return True
    except (UnknownRun, OSError):
        return False
    return True
