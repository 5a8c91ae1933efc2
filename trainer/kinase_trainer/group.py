"""The workers that train one network together: what they exchange.

Worker 0 leads. It alone writes to the store, posts points and hears orders to stop; the others
train the epochs that it orders. All workers have the same weights, the same order of samples and
the same draws. Each passes its share of a batch forward and backward, and the gradients are added.

    group = join(Place.of(os.environ), device)
    run = Run(..., group=group)

Without the variables a group has one worker, and nothing is exchanged.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kinase_trainer.ending import Terminated
from kinase_trainer.errors import WorkerLost
from kinase_trainer.place import Place

STALL = timedelta(minutes=30)
"""For how long a worker waits for another one in the middle of a training. A worker whose process
ends is noticed at once; this is for one that hangs, or whose node is cut off."""
LEAST = 2
"""Samples of a share, if the batch has as many: batch normalization has no variance for one."""


@dataclass(frozen=True)
class Share:
    """The part of every batch that one worker takes."""

    rank: int = 0
    size: int = 1

    def of(self, count: int) -> slice:
        """The samples of a batch of `count` that this worker trains on. A batch that is too small
        to be divided is everyone's."""
        if count < LEAST * self.size:
            return slice(0, count)
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def rows(self, count: int) -> slice:
        """The samples of a batch of `count` that this worker evaluates: as many for each, so the
        last workers repeat some of those before."""
        each = -(-count // self.size)
        start = min(self.rank * each, count - each)
        return slice(start, start + each)


class Group:
    """The workers of a trial."""

    def __init__(
        self, rank: int = 0, size: int = 1, processes: dist.ProcessGroup | None = None
    ) -> None:
        """Worker `rank` of `size`, which are connected by `processes`."""
        self.rank, self.size, self._processes = rank, size, processes
        self.asked: Callable[[], bool] = lambda: False
        """Whether this worker's process was asked to end."""

    @property
    def leads(self) -> bool:
        """Whether this is worker 0."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What this worker takes of a batch."""
        return Share(self.rank, self.size)

    # -- of a step ---------------------------------------------------------------------

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the workers, in one exchange for each type."""
        if self.size == 1:
            return
        for flat, parts in _flattened(tensors):
            self._reduce(flat)
            for part, total in zip(parts, _cut(flat, parts), strict=True):
                part.copy_(total.view_as(part))

    def total(self, value: float | Tensor) -> float:
        """The sum of a number over the workers."""
        number = float(value)
        if self.size == 1:
            return number
        whole = torch.tensor([number], dtype=torch.float64)
        self._reduce(whole)
        return whole.item()

    def settle(self, model: nn.Module) -> None:
        """Make the networks of all workers equal again after an epoch.

        The parameters are equal, except for the rounding of different devices; worker 0's are
        taken. Each worker has normalized its own shares, and its running statistics are those of
        its shares. Their mean over the workers is taken: of equal shares the running mean is that
        of whole batches; the running variance lacks the variance between the means of the shares
        of a batch, about 1/n of it for shares of n samples.
        """
        if self.size == 1:
            return
        kinds = nn.modules.batchnorm._BatchNorm
        norms = [m for m in model.modules() if isinstance(m, kinds) and m.track_running_stats]
        statistics = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        with torch.no_grad():
            self.add(statistics)
            for each in statistics:
                each.div_(self.size)
            counts = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
            for flat, parts in _flattened([*(p.data for p in model.parameters()), *counts]):
                self._broadcast(flat)
                for part, value in zip(parts, _cut(flat, parts), strict=True):
                    part.copy_(value.view_as(part))

    def gather(self, output: Tensor, count: int) -> Tensor | None:
        """The outputs for a batch, in order, at worker 0; None at the others.

        Args:
            output: (n, ...), for the samples `Share.rows(count)`.
            count: samples of the batch.
        """
        if self.size == 1:
            return output
        whole = torch.zeros((count, *output.shape[1:]), dtype=torch.float32, device=output.device)
        each = len(output)
        first = self.rank * each  # the rows before it are those of another worker
        rows = self.share.rows(count)
        if first < count:
            whole[first : rows.stop] = output[first - rows.start :].float()
        self._reduce(whole)  # the others have zeros there, so nothing is rounded
        return whole if self.leads else None

    # -- between epochs ----------------------------------------------------------------

    def turn(self) -> None:
        """At worker 0, between two epochs: all end if any of them was asked to.

        Raises:
            Terminated: one was. The last epoch is in the checkpoint.
        """
        if self.size > 1 and self._any(self.asked()):
            self.tell("leave")
            raise Terminated

    def any(self, flag: bool) -> bool:
        """Whether the flag is set at any worker."""
        return flag if self.size == 1 else self._any(flag)

    def _any(self, flag: bool) -> bool:
        found = torch.tensor([float(flag)])
        self._reduce(found)
        return bool(found.item())

    def tell(self, message: Any) -> Any:
        """What worker 0 tells all: plain data, which is written as JSON."""
        if self.size == 1:
            return message
        return json.loads(self.send(json.dumps(message).encode() if self.leads else b""))

    def send(self, data: bytes) -> bytes:
        """The bytes of worker 0, at all."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)], dtype=torch.int64)
        self._broadcast(length)
        body = torch.zeros(int(length.item()), dtype=torch.uint8)
        if self.leads:
            body = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if len(body):
            self._broadcast(body)
        return data if self.leads else body.numpy().tobytes()

    # -- the exchange ------------------------------------------------------------------

    def _reduce(self, tensor: Tensor) -> None:
        with self._exchange(tensor) as (processes, near):
            processes.allreduce([near]).wait()

    def _broadcast(self, tensor: Tensor) -> None:
        with self._exchange(tensor) as (processes, near):
            processes.broadcast([near]).wait()

    @contextlib.contextmanager
    def _exchange(self, tensor: Tensor) -> Iterator[tuple[dist.ProcessGroup, Tensor]]:
        """The processes, and the tensor where they can exchange it.

        Raises:
            WorkerLost: another worker is gone.
        """
        assert self._processes is not None
        near = tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()
        try:
            yield self._processes, near
        except RuntimeError as error:
            why = str(error).strip().splitlines()
            raise WorkerLost(
                f"worker {self.rank} lost its connection to another worker of the trial"
                + (f": {why[0][:300]}" if why else "")
            ) from error
        if near is not tensor:
            tensor.copy_(near)


TCPStore: Any = dist.TCPStore  # type: ignore[attr-defined]  # torch's list of names lacks it

ALONE = Group()
"""The group of a trial with one worker."""


def _flattened(tensors: Iterable[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Tensors of one type and device after the other, in one row."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for each in tensors:
        kinds.setdefault((each.dtype, each.device), []).append(each)
    for parts in kinds.values():
        yield torch.cat([part.detach().flatten() for part in parts]), parts


def _cut(flat: Tensor, parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """The parts of such a row."""
    return torch.split(flat, [part.numel() for part in parts])


# -- joining ---------------------------------------------------------------------------


def join(place: Place | None, device: torch.device) -> Group:
    """Meet the other workers.

    Args:
        place: this worker's; None: there are no others.
        device: on which this worker trains. If each has a separate GPU, gradients are exchanged
            by NCCL.

    Raises:
        WorkerLost: not all have come in time; it names those that are missing.
    """
    if place is None:
        return ALONE
    if device.type == "cuda":
        torch.cuda.set_device(device)
    deadline = time.monotonic() + place.patience
    store = _meet(place, deadline)
    _listen_here(place.host)
    try:
        store.set(_key(place.rank), _named(device))
        _await(place, store, deadline)
        devices = [store.get(_key(rank)).decode() for rank in range(place.size)]
        own_gpus = len(set(devices)) == place.size and all(d != "" for d in devices)
        backend = "cpu:gloo,cuda:nccl" if own_gpus and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend, store=store, rank=place.rank, world_size=place.size, timeout=STALL
        )
    except RuntimeError as error:  # worker 0, which holds the list, or another one has ended
        raise WorkerLost(f"the workers of the trial could not connect: {error}") from None
    return Group(place.rank, place.size, dist.group.WORLD)


def _named(device: torch.device) -> str:
    """A name of a GPU that no other has; empty for any other device."""
    if device.type != "cuda":
        return ""
    return f"{socket.gethostname()}/{torch.cuda.get_device_properties(device).uuid}"


def _key(rank: int) -> str:
    return f"kinase/worker/{rank}"


def _meet(place: Place, deadline: float) -> Any:
    """Listen at worker 0, and connect to it at the others. Waits in short steps, because a signal
    is handled between two of them."""
    size, step = place.size, timedelta(seconds=5)
    if place.rank == 0:
        try:
            return TCPStore("127.0.0.1", place.port, size, True, step, wait_for_workers=False)
        except RuntimeError as error:
            raise WorkerLost(f"worker 0 cannot listen on port {place.port}: {error}") from None
    why = ""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((place.host, place.port), 1.0):
                pass
            return TCPStore(place.host, place.port, size, False, step, wait_for_workers=False)
        except (OSError, RuntimeError) as error:
            why = str(error).strip().splitlines()[0] if str(error).strip() else ""
            time.sleep(0.1)
    raise WorkerLost(
        f"worker {place.rank} of {size} did not reach worker 0 at {place.host}:{place.port} within "
        f"{place.patience:g} s" + (f": {why}" if why else "")
    )


def _await(place: Place, store: Any, deadline: float) -> None:
    """Wait until all workers have come.

    Raises:
        WorkerLost: some have not; it names them.
    """
    missing = list(range(place.size))
    while True:
        missing = [rank for rank in missing if not store.check([_key(rank)])]
        if not missing:
            return
        if time.monotonic() >= deadline:
            named = ", ".join(map(str, missing))
            raise WorkerLost(
                f"worker{'s' * (len(missing) > 1)} {named} of {place.size} did not join within "
                f"{place.patience:g} s; see whether their pods run, or set KINASE_JOIN_SECONDS"
            )
        time.sleep(0.05)


def _listen_here(host: str) -> None:
    """Exchange by the loopback interface if all workers are on this machine: its own name may stand
    for an address that it does not have."""
    if host in ("127.0.0.1", "localhost", "::1") and hasattr(socket, "if_nameindex"):
        found = next((n for _, n in socket.if_nameindex() if n.startswith("lo")), None)
        if found is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", found)
