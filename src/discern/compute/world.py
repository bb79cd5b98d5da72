"""The ranks of one training: processes that hold the same weights and share the work.

Owns the process group and every exchange between ranks. A single process is a World of one rank:
its exchanges give back what they are given and load nothing. Weights travel by the devices' own
library (nccl on GPUs, gloo on CPUs), plain values and table columns always by gloo. Nothing that
is exchanged can run: numbers, JSON and safetensors, no pickle.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import PeerLost, RunError
from discern.base.rank_environment import started_ranks

# A rank that dies closes its connections, which the others hear at once. This only bounds waits
# for a living one, such as the first's reading of all images.
_TIMEOUT = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One rank of `ranks`; `local_rank` counts on this machine. `backend` None: a single process.

    `device`: where the tensors of `sum_` and `spread_` live. Every rank must make the same
    exchanges in the same order. All of them raise PeerLost when another rank is gone.
    """

    rank: int = 0
    local_rank: int = 0
    ranks: int = 1
    backend: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    control: Any = field(default=None, repr=False)  # the gloo group of plain values

    @property
    def alone(self) -> bool:
        """True for a single process."""
        return self.ranks == 1

    @property
    def leads(self) -> bool:
        """True for rank 0: it alone decides, writes and speaks."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor on the ranks' device by its sum over the ranks, the same bits on all."""
        if not self.alone:
            with _peers():
                dist.all_reduce(tensor)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Tensors [n, ...] of the ranks' device, alike in shape: all rows, in rank order."""
        if self.alone:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.ranks)]
        with _peers():
            dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def spread_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors of the ranks' device with those of rank 0."""
        if self.alone:
            return
        with _peers(), torch.no_grad():
            for tensor in tensors:
                # The exchange wants plain memory: what lies otherwise travels as a copy.
                sent = tensor.detach().contiguous()
                dist.broadcast(sent, src=0)
                if sent.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(sent)

    def sum_values(self, values: Sequence[float]) -> list[float]:
        """Each number summed over the ranks, in float64."""
        if self.alone:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with _peers():
            dist.all_reduce(total, group=self.control)
        summed: list[float] = total.tolist()
        return summed

    def start_max(self, tensor: Tensor) -> Any:
        """Begin to replace a CPU tensor by its largest value over the ranks; `finish` ends it."""
        with _peers():
            return dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.control, async_op=True)

    def finish(self, work: Any) -> None:
        """Wait for what `start_max` began."""
        with _peers():
            work.wait()

    def tell(self, value: Any) -> Any:
        """The JSON value of rank 0, on every rank; that of the others is not looked at."""
        if self.alone:
            return value
        told = json.dumps(value).encode() if self.leads else b""
        return json.loads(self._spread_bytes(told))

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of every rank, in rank order, on every rank."""
        if self.alone:
            return [data]
        sizes = torch.zeros(self.ranks, dtype=torch.int64)
        sizes[self.rank] = len(data)
        with _peers():
            dist.all_reduce(sizes, group=self.control)
            width = int(sizes.max())
            own = torch.zeros(width, dtype=torch.uint8)
            own[: len(data)] = _as_tensor(data)
            parts = [torch.empty_like(own) for _ in range(self.ranks)]
            if width:
                dist.all_gather(parts, own, group=self.control)
        return [
            part[:size].numpy().tobytes() for part, size in zip(parts, sizes.tolist(), strict=True)
        ]

    def join(self, column: NDArray[Any]) -> NDArray[Any]:
        """The rows [n, ...] of all ranks one after the other, in rank order, on every rank.

        A rank may have no rows; their type and shape are then not looked at, but rank 0 has some.
        """
        if self.alone:
            return column
        form = self.tell([column.dtype.str, list(column.shape[1:])])
        rows = column if len(column) else np.empty((0, *form[1]), dtype=form[0])
        if rows.dtype.str != form[0] or list(rows.shape[1:]) != form[1]:
            raise RunError(
                "the ranks have tables of different form",
                where=f"rank {self.rank}",
                got=f"{rows.dtype} {list(rows.shape[1:])}",
                expected=f"{form[0]} {form[1]}",
            )
        parts = self.gather(np.ascontiguousarray(rows).tobytes())
        return np.frombuffer(bytearray(b"".join(parts)), dtype=form[0]).reshape(-1, *form[1])

    def wait_for_all(self) -> None:
        """Return when every rank has come here."""
        if not self.alone:
            with _peers():
                dist.barrier(group=self.control)

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Do the block on rank 0 first, then on all others: they find what it left in caches."""
        if not self.leads:
            self.wait_for_all()
        yield
        if self.leads:
            self.wait_for_all()

    def close(self) -> None:
        """Leave the group; the others are not waited for."""
        if not self.alone and dist.is_initialized():
            dist.destroy_process_group()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error the group is left to the end of the process: leaving it may hang.
        if error is None:
            self.close()

    def _spread_bytes(self, data: bytes) -> bytes:
        with _peers():
            size = torch.tensor([len(data)], dtype=torch.int64)
            dist.broadcast(size, src=0, group=self.control)
            held = _as_tensor(data) if self.leads else torch.empty(int(size), dtype=torch.uint8)
            if int(size):
                dist.broadcast(held, src=0, group=self.control)
        return held.numpy().tobytes()


def open_world(device: torch.device) -> World:
    """Join the other ranks that torchrun started; a process alone is a World of one.

    `device` is this rank's own. Raises RunError when the others do not come.
    """
    rank, local_rank, ranks = started_ranks()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what names no device is then meant for this one
    if ranks == 1:
        return World(device=device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _peers():
        dist.init_process_group(
            backend, timeout=_TIMEOUT, device_id=device if backend == "nccl" else None
        )
        control = dist.new_group(backend="gloo", timeout=_TIMEOUT)
    return World(
        rank=rank,
        local_rank=local_rank,
        ranks=ranks,
        backend=backend,
        device=device,
        control=control,
    )


def _as_tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.uint8))


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Tell a broken exchange as what it is: another rank has gone."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).strip()
        raise PeerLost(
            "another rank has ended, so this one cannot go on",
            got=text.splitlines()[0][:200] if text else type(error).__name__,
            hint="what was saved is whole: give the same command again to go on",
        ) from error
